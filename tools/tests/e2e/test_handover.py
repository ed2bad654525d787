# SPDX-License-Identifier: GPL-2.0-only
"""The guest goes to the second host although the first one lives: it must run once only."""

from labkit.protect import control


def stood_down(world, protection, entry):
    """The guest is the secondary's; the primary's copy stands still and is nobody's."""
    name = world.guest.name
    world.taken_over(protection)
    assert protection.wait_end(60) == 1
    assert "[taken-over]" in protection.output(), protection.output()
    assert f"xl destroy {name}" in protection.output()
    state = world.p.out(["xl", "list", name]).splitlines()[-1].split()[4]
    assert "p" in state and "r" not in state, state
    world.memory.check(length=entry)
    world.p.run(["xl", "destroy", name])
    world.nothing_at(world.p)
    world.nothing_at(world.s, [name])


def test_failover_while_the_primary_lives(world):
    protection = world.protect("-i", "600000")
    entry = world.memory.append("before the last checkpoint")
    protection.checkpoint()
    world.memory.note()
    assert control(world.s, protection.peer_status()["domid"], "failover") == {"ok": True}
    stood_down(world, protection, entry)


def test_device_model_of_the_primary_dies(world):
    """Between two checkpoints, which are far apart: it is its end that is noticed."""
    protection = world.protect("-i", "600000")
    entry = world.memory.append("before the last checkpoint")
    domid = protection.checkpoint()["domid"]
    world.memory.note()
    world.p.run(f"pkill -KILL -f -- 'qemu.*-xen-domid {domid} '")
    stood_down(world, protection, entry)


def test_device_model_of_the_secondary_dies(world):
    protection = world.protect("-i", "600000")
    domid = protection.peer_status()["domid"]
    world.s.run(f"pkill -KILL -f -- 'qemu.*-xen-domid {domid} '")
    assert world.unprotected(protection)["last_reason"] == "qmp-gone"
    world.only_the_guest()

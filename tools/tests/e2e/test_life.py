# SPDX-License-Identifier: GPL-2.0-only
"""The guest's own life goes on while it is protected: it powers off, it reboots."""

import contextlib

import pytest

from labkit import LabError, wait_for
from labkit.protect import sessions


def tell(world, command):
    """A command that the guest does not live to answer."""
    with contextlib.suppress(OSError, LabError):
        world.guest.ask(command, timeout=3)


def test_reboot_inside(world):
    """Protection ends; the guest boots anew on its host, as its configuration says."""
    protection = world.protect("-i", "500")
    before = world.p.domid(world.guest.name)
    tell(world, "reboot")
    protection.wait_end(60)
    assert "reboot" in protection.output(), protection.output()
    world.nothing_at(world.s)
    wait_for(lambda: world.p.domains().get(world.guest.name, before) != before, 60,
             "the guest to be built anew")
    status = world.guest.wait_answers()
    assert status["boot_id"] != world.memory.boot_id and status["log_length"] == 0
    world.nothing_at(world.p, [world.guest.name])


@pytest.mark.long
def test_reboot_inside_with_reprotect(world):
    """Protected again before its firmware has loaded the kernel, and taken over there.  Through ssh,
    which has a receiver for each session."""
    protection = world.protect("-i", "500", "--reprotect", via="ssh")
    before = protection.status()["session"]
    tell(world, "reboot")
    status = protection.wait_status(lambda s: s["protected"] and s["session"] != before, 240,
                                    "a second session")
    protection.wait_checkpoints(status["checkpoints"] + 2)
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    world.s.run(["xl", "destroy", world.guest.name])    # its boot would take minutes
    world.stage.forget_guest()


def test_poweroff_inside(world):
    protection = world.protect("-i", "500")
    tell(world, "poweroff")
    protection.wait_end(60)
    assert "poweroff" in protection.output() or "powered off" in protection.output(), \
        protection.output()
    world.stage.forget_guest()
    world.nothing_at(world.p)
    world.nothing_at(world.s)
    assert not sessions(world.p) and not sessions(world.s)


@pytest.mark.long
def test_crash_inside(world):
    """on_crash is to destroy, by default."""
    protection = world.protect("-i", "500")
    tell(world, "crash")
    protection.wait_end(60)
    wait_for(lambda: not world.p.domains() or world.guest.name in world.p.domains(), 30,
             "the host to act on the crash")
    world.nothing_at(world.s)
    world.stage.forget_guest()
    for name in world.p.domains():
        world.p.run(["xl", "destroy", name])

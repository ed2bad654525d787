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


def built_anew(world, before):
    """Wait until the host has built the guest again and its firmware runs; then away with it, for its
    boot would take minutes."""
    def cpu_seconds():
        if world.p.domains().get(world.guest.name, before) == before:
            return 0
        return float(world.p.out(["xl", "list", world.guest.name]).splitlines()[-1].split()[-1])
    wait_for(lambda: cpu_seconds() > 0, 60, "the guest to be built anew and to run", 0.5)
    world.nothing_at(world.p, [world.guest.name])
    world.p.run(["xl", "destroy", world.guest.name])
    world.stage.forget_guest()


@pytest.mark.parametrize("command", ["reboot", pytest.param("crash", marks=pytest.mark.long)])
def test_reset_inside(world, command):
    """Protection ends; the guest boots anew on its host, as its configuration says.  (A kernel that
    knows of no Xen cannot tell it that it panicked: it resets its machine, too.)"""
    protection = world.protect("-i", "500")
    before = world.p.domid(world.guest.name)
    tell(world, command)
    protection.wait_end(60)
    assert "reboot" in protection.output(), protection.output()
    world.nothing_at(world.s)
    built_anew(world, before)


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
    world.s.run(["xl", "destroy", world.guest.name])
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

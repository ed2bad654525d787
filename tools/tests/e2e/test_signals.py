# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C and SIGTERM on either side: unprotected on the primary, nothing left behind."""

import signal

import pytest

from labkit import wait_for
from labkit.protect import sessions


def after(world, protection):
    world.unprotected(protection)
    world.only_the_guest()


def test_terminate_the_primary(lockstep):
    lockstep.protection.signal(signal.SIGTERM)
    after(lockstep, lockstep.protection)


def test_terminate_the_secondary(lockstep):
    lockstep.protection.signal(signal.SIGTERM, peer=True)
    after(lockstep, lockstep.protection)


def test_ctrl_c_on_a_terminal(world):
    protection = world.protect("-i", "1000", via="ssh", tty=True)
    protection.suspend_key()        # Ctrl-Z would make the session silent: nothing happens
    protection.wait_checkpoints(protection.status()["checkpoints"] + 2)
    protection.interrupt()
    after(world, protection)


def test_interrupt_during_the_first_sync(world):
    protection = world.start()
    wait_for(lambda: "first sync" in protection.output(), 60, "the first sync to begin")
    protection.signal(signal.SIGINT)
    assert protection.wait_end(60) == 2
    if sessions(world.p):       # an earlier session's monitor had the guest: this one's has it now
        world.unprotected(protection)
    world.only_the_guest()


@pytest.mark.long
def test_interrupt_the_secondary(lockstep):
    lockstep.protection.signal(signal.SIGINT, peer=True)
    after(lockstep, lockstep.protection)

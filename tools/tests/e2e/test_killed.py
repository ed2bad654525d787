# SPDX-License-Identifier: GPL-2.0-only
"""kill -9 of either xl: the guest runs on at the primary, and nothing else is left."""

import signal

import pytest

from labkit.protect import TestPoint


def test_primary_between_checkpoints(lockstep):
    lockstep.protection.signal(signal.SIGKILL)
    status = lockstep.unprotected(lockstep.protection)
    assert status["last_reason"] == "session-killed", status
    lockstep.only_the_guest()


def test_secondary_between_checkpoints(lockstep):
    lockstep.protection.signal(signal.SIGKILL, peer=True)
    lockstep.unprotected(lockstep.protection)
    lockstep.only_the_guest()


@pytest.mark.long
def test_primary_during_a_checkpoint(world):
    """The guest is suspended at that moment; the monitor wakes it."""
    point = TestPoint("sending-pages", 2)
    protection = world.protect("-i", "600000", env=point.env)
    entry = world.memory.append("before the checkpoint that fails")
    protection.request_checkpoint()
    point.wait(world.p)
    protection.signal(signal.SIGKILL)
    world.unprotected(protection)
    world.memory.check(length=entry)
    point.release(world.p)
    world.only_the_guest()


@pytest.mark.long
def test_secondary_while_it_applies(world):
    point = TestPoint("applying", 1)
    protection = world.protect("-i", "600000", peer_env=point.env)
    entry = world.memory.append("before the checkpoint that fails")
    protection.request_checkpoint()
    point.wait(world.s)
    protection.signal(signal.SIGKILL, peer=True)
    world.unprotected(protection)
    world.memory.check(length=entry)
    point.release(world.s)
    world.only_the_guest()


@pytest.mark.long
def test_second_copy_destroyed_by_hand(world):
    """`xl destroy NAME--incoming`: a mistake that must cost only the protection."""
    protection = world.protect("-i", "300")
    world.s.run(["xl", "destroy", world.guest.name + "--incoming"])
    world.unprotected(protection)
    world.only_the_guest()

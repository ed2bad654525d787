# SPDX-License-Identifier: GPL-2.0-only
"""A host loses power, between checkpoints and at each stage of one; the guest runs on.

Checkpoints are made only when the test asks for one.  The log of the guest's memory says at which
of them the survivor is: an entry is appended before checkpoint 2, another before checkpoint 3,
and the power goes while checkpoint 3 is made.
"""

import pytest

from labkit.protect import TestPoint

def two_checkpoints(world, protection):
    """Checkpoint 2 made, and something to be in checkpoint 3; returns the log's lengths."""
    second = world.memory.append("before checkpoint 2")
    world.memory.note()
    protection.checkpoint()
    return second, world.memory.append("before checkpoint 3")


def begin(world, point, where):
    """A session whose checkpoint 3 is under way as far as the point, on host p or s; returns the
    session and the log's lengths at checkpoints 2 and 3."""
    protection = world.protect("-i", "600000", **{"env" if where == "p" else "peer_env": point.env})
    second, third = two_checkpoints(world, protection)
    protection.request_checkpoint()
    point.wait(getattr(world, where))
    return protection, second, third


def test_primary_between_checkpoints(lockstep):
    second, _ = two_checkpoints(lockstep, lockstep.protection)
    lockstep.stage.cut_power(lockstep.p)
    lockstep.taken_over(lockstep.protection)
    lockstep.memory.check(length=second)


def test_secondary_between_checkpoints(lockstep):
    _, third = two_checkpoints(lockstep, lockstep.protection)
    lockstep.stage.cut_power(lockstep.s)
    status = lockstep.unprotected(lockstep.protection)
    assert status["last_reason"] == "peer-silent", status
    lockstep.memory.check(length=third)
    lockstep.nothing_at(lockstep.p, [lockstep.guest.name])


def test_primary_while_pages_are_sent(world):
    """Half a checkpoint is worth nothing: the copy goes on from the one before."""
    protection, second, _ = begin(world, TestPoint("sending-pages", 3), "p")
    world.stage.cut_power(world.p)
    assert world.taken_over(protection)["checkpoints"] == 2
    world.memory.check(length=second)


@pytest.mark.long
def test_secondary_while_pages_are_sent(world):
    point = TestPoint("sending-pages", 3)
    protection, _, third = begin(world, point, "p")
    world.stage.cut_power(world.s)
    point.release(world.p)
    assert world.unprotected(protection)["last_reason"] == "peer-silent"
    world.memory.check(length=third)


@pytest.mark.long
def test_primary_after_checkpoint_end(world):
    """What had left the host counts when it was whole: the copy is at checkpoint 3, or at 2."""
    protection, second, third = begin(world, TestPoint("checkpoint-end", 3), "p")
    world.stage.cut_power(world.p)
    made = world.taken_over(protection)["checkpoints"]
    assert made in (2, 3)
    world.memory.check(length=third if made == 3 else second)


@pytest.mark.long
def test_secondary_after_checkpoint_end(world):
    point = TestPoint("checkpoint-end", 3)
    protection, _, third = begin(world, point, "p")
    world.stage.cut_power(world.s)
    point.release(world.p)
    assert world.unprotected(protection)["last_reason"] == "peer-silent"
    world.memory.check(length=third)


def test_primary_while_the_secondary_applies(world):
    """Once it has begun to apply, the secondary finishes: the copy is at checkpoint 3."""
    point = TestPoint("applying", 2)
    protection, _, third = begin(world, point, "s")
    world.stage.cut_power(world.p)
    point.release(world.s)
    assert world.taken_over(protection)["checkpoints"] == 3
    world.memory.check(length=third)


@pytest.mark.long
def test_secondary_while_it_applies(world):
    protection, _, third = begin(world, TestPoint("applying", 2), "s")
    world.stage.cut_power(world.s)
    assert world.unprotected(protection)["last_reason"] == "peer-silent"
    world.memory.check(length=third)


@pytest.mark.long
@pytest.mark.parametrize("victim", ["p", "s"])
def test_at_any_time_of_a_busy_session(world, victim):
    """No test points: the guest dirties memory, half of the time is checkpoints, and then…"""
    world.guest.ask("dirty 2000 1000")
    protection = world.protect("-i", "1000")
    kept = [world.memory.append(f"entry {n}") for n in range(3)]
    protection.wait_checkpoints(protection.status()["checkpoints"] + 2)
    length = kept[-1]
    world.stage.cut_power(getattr(world, victim))
    if victim == "p":
        world.taken_over(protection)
    else:
        world.unprotected(protection)
    world.memory.check(length=length)
    world.guest.ask("dirty 0")

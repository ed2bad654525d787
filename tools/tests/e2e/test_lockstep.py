# SPDX-License-Identifier: GPL-2.0-only
"""Two copies in lock-step: equal at every checkpoint, whatever either of them wrote."""

import re
import time

import pytest

from labkit.protect import control


def equal_copies(world, checkpoints, every):
    """So many checkpoints of a dirtying guest; at every Nth the secondary proves its memory, HVM
    context and device state equal to the primary's."""
    world.guest.ask("dirty 300 400")
    entry = world.memory.append("before protection")
    protection = world.protect(f"--verify={every}", "-i", "100")
    status = protection.wait_checkpoints(checkpoints + 1, 60 + checkpoints * 12)
    peer = protection.peer_status()
    assert min(status["verified"], peer["verified"]) >= checkpoints // every, (status, peer)
    assert status["pages"]["total_sent"] > checkpoints, status["pages"]
    protection.stop()
    world.memory.check(length=entry)
    world.guest.ask("dirty 0")
    world.nothing_at(world.s)


def test_fifty_checkpoints_of_equal_copies(world):
    equal_copies(world, 50, 5)


@pytest.mark.long
def test_fifty_checkpoints_each_of_equal_copies(world):
    equal_copies(world, 50, 1)


def test_dirt_of_the_secondary_alone_is_undone(world):
    """The marker page is written in the second copy only, at its own serial port."""
    copy = world.guest.name + "--incoming"
    gfn = re.match(r"gfn (\d+) value 1001", world.guest.ask("mark 1001"))[1]
    protection = world.protect("-i", "600000")
    assert world.s.serial_input(copy, "mark 2002") == f"gfn {gfn} value 2002"
    status = protection.checkpoint()
    assert status["pages"]["s_dirty"] > 0, status["pages"]
    assert status["pages"]["union_dirty"] >= max(status["pages"]["s_dirty"],
                                                 status["pages"]["p_dirty"])
    assert world.s.serial_input(copy, "peek") == f"gfn {gfn} value 1001"
    assert world.guest.ask("peek") == f"gfn {gfn} value 1001"
    protection.stop()
    world.nothing_at(world.s)


def test_status_of_both_sides(world):
    """What colo-status says while a guest is protected, to people and to programs."""
    protection = world.protect("-i", "200")
    status = protection.wait_checkpoints(4)
    peer = protection.peer_status()
    assert (status["role"], peer["role"]) == ("primary", "secondary")
    assert status["session"] == peer["session"] and status["uuid"] == peer["uuid"]
    assert status["generation"] == peer["generation"] == 1
    assert status["interval_max_ms"] == peer["interval_max_ms"] == 200
    assert status["pause"]["samples"] >= 3 and status["pause"]["median_ns"] > 0
    assert status["pause"]["steps"]["total_ns"] > 0
    assert status["bytes_out"] > 0 and peer["bytes_in"] > 0
    assert status["first_sync"]["duration_ns"] > 0
    text = world.p.out(["xl", "colo-status"])
    assert world.guest.name in text and world.s.name in text, text
    assert control(world.p, status["domid"], "failover")["error"]["reason"] == "not-secondary"


def test_second_session_is_refused(world):
    protection = world.protect("-i", "500")
    again = world.start()
    assert again.wait_end(30) == 2
    assert "[already-protected]" in again.output(), again.output()
    made = protection.status()["checkpoints"]
    protection.wait_checkpoints(made + 2)
    world.memory.check()


def test_stop_on_request(world):
    """xl colo-stop, over ssh as operators do it: the guest runs on at the primary."""
    protection = world.protect(via="ssh")
    made = protection.status()["checkpoints"]
    world.p.run(["xl", "colo-checkpoint", world.guest.name])
    protection.wait_checkpoints(made + 1)
    world.p.run(["xl", "colo-stop", world.guest.name])
    assert protection.wait_end(30) == 0
    assert world.unprotected(protection)["last_reason"] == "operator-stop"
    world.nothing_at(world.s)
    world.nothing_at(world.p, [world.guest.name])
    world.memory.check()


@pytest.mark.long
def test_five_hundred_checkpoints_of_a_busy_guest(world, record_property):
    world.guest.ask("fill 4000 42")
    world.guest.ask("dirty 3000 3000")
    protection = world.protect("-i", "100")
    begun = time.monotonic()
    status = protection.wait_checkpoints(500, 900)
    record_property("seconds_for_500", round(time.monotonic() - begun, 1))
    record_property("pause", {k: status["pause"][k] for k in ("median_ns", "p99_ns")})
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    assert world.guest.ask("check", timeout=60).startswith("ok 4000 ")
    world.memory.check()
    world.guest.ask("dirty 0")
    world.guest.ask("fill 0 0")

# SPDX-License-Identifier: GPL-2.0-only
"""Two copies in lock-step: equal at every checkpoint, whatever either of them wrote."""

import re
import time

import pytest

from labkit.protect import control


def test_status_of_both_sides(lockstep):
    """What colo-status says while a guest is protected, to people and to programs."""
    protection, p, s = lockstep.protection, lockstep.p, lockstep.s
    while (status := protection.checkpoint())["pause"]["samples"] < 3:
        pass
    peer = protection.peer_status()
    assert (status["role"], peer["role"]) == ("primary", "secondary")
    assert status["session"] == peer["session"] and status["uuid"] == peer["uuid"]
    assert status["generation"] == peer["generation"] == 1
    assert status["interval_max_ms"] == peer["interval_max_ms"] == 600000
    assert status["triggers"]["request"] >= 3 and status["pause"]["median_ns"] > 0
    assert status["pause"]["steps"]["total_ns"] > 0
    assert status["bytes_out"] > 0 and peer["bytes_in"] > 0
    assert status["first_sync"]["duration_ns"] > 0
    text = p.out(["xl", "colo-status"])
    assert lockstep.guest.name in text and s.name in text, text
    assert control(p, status["domid"], "failover")["error"]["reason"] == "not-secondary"


def test_dirt_of_the_secondary_alone_is_undone(lockstep):
    """The marker page is written in the second copy only, at its own serial port."""
    guest, s = lockstep.guest, lockstep.s
    copy = guest.name + "--incoming"
    gfn = re.match(r"gfn (\d+) value 1001", guest.ask("mark 1001"))[1]
    lockstep.protection.checkpoint()
    assert s.serial_input(copy, "mark 2002") == f"gfn {gfn} value 2002"
    pages = lockstep.protection.checkpoint()["pages"]
    assert pages["s_dirty"] > 0 and pages["union_dirty"] >= max(pages["s_dirty"], pages["p_dirty"])
    assert s.serial_input(copy, "peek") == f"gfn {gfn} value 1001"
    assert guest.ask("peek") == f"gfn {gfn} value 1001"


def test_second_session_is_refused(lockstep):
    again = lockstep.start()
    assert again.wait_end(30) == 2
    assert "[already-protected]" in again.output(), again.output()
    lockstep.protection.checkpoint()
    lockstep.memory.check()


def test_stop_on_request(lockstep):
    """xl colo-checkpoint and xl colo-stop, as operators have them."""
    protection, p = lockstep.protection, lockstep.p
    made = protection.status()["checkpoints"]
    p.run(["xl", "colo-checkpoint", lockstep.guest.name])
    protection.wait_checkpoints(made + 1)
    p.run(["xl", "colo-stop", lockstep.guest.name])
    assert protection.wait_end(30) == 0
    assert lockstep.unprotected(protection)["last_reason"] == "operator-stop"
    lockstep.only_the_guest()


def equal_copies(world, checkpoints, every):
    """So many checkpoints of a dirtying guest; at every Nth the secondary proves its memory, HVM
    context and device state equal to the primary's."""
    world.guest.ask("dirty 100 200")
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
def test_many_checkpoints_of_a_busy_guest(world, record_property):
    world.guest.ask("fill 4000 42")
    world.guest.ask("dirty 3000 3000")
    protection = world.protect("-i", "100")
    begun = time.monotonic()
    status = protection.wait_checkpoints(60, 600)
    record_property("seconds_for_60", round(time.monotonic() - begun, 1))
    record_property("pause", {k: status["pause"][k] for k in ("median_ns", "p99_ns")})
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    assert world.guest.ask("check", timeout=60).startswith("ok 4000 ")
    world.memory.check()
    world.guest.ask("dirty 0")
    world.guest.ask("fill 0 0")

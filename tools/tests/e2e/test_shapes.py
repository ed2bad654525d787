# SPDX-License-Identifier: GPL-2.0-only
"""Guests of other shapes, each protected and taken over once."""

import re

import pytest

from labkit import GuestConfig
from labkit.protect import sessions
from support.log import Memory
from support.stage import BIG_NEEDS


def take_over_once(world, config, *options, deadline=240):
    """A second guest on p, protected, with the power of p cut; the kept guest is given up."""
    stage, p, s = world.stage, world.p, world.s
    p.run(["xl", "destroy", world.guest.name])
    stage.forget_guest()
    # a saved guest of many GiB would take longer than the boot
    make = stage.lab.create if config.memory > 1024 else stage.lab.restore_snapshot
    guest = make(p.name, config)
    memory = Memory(guest)
    gfn = re.match(r"gfn (\d+) value 1001", guest.ask("mark 1001"))[1]
    guest.ask("fill 2000 42")
    protection = stage.protect(config.name, p, s, "-i", "1000", *options)
    protection.wait_protected(deadline)
    protection.wait_checkpoints(3)
    entry = memory.append("before the last checkpoint")
    memory.note()
    status = protection.checkpoint()
    stage.cut_power(p)
    protection.wait_taken_over()
    memory.check(length=entry)
    assert guest.ask("peek") == f"gfn {gfn} value 1001"
    assert guest.ask("check", timeout=60).startswith("ok 2000 ")
    assert guest.status()["cpus"] == config.vcpus
    if "--verify=2" in options:
        assert status["verified"] > 0
    s.run(["xl", "destroy", config.name])
    return int(gfn)


@pytest.mark.long
def test_two_vcpus_and_default_graphics(world):
    """stdvga and VNC: the device model moves the video memory about in the p2m."""
    config = GuestConfig(name="smp", ip="10.78.0.11", vcpus=2, vga="stdvga", script="")
    take_over_once(world, config, "--verify=2")


@pytest.mark.long
def test_memory_beyond_the_hole(world):
    """5 GiB: pages above 4 GiB, whose numbers a bitmap of too few bits would not hold."""
    if not world.stage.big:
        pytest.skip(f"two hosts with 7 GiB need {BIG_NEEDS} MiB of free memory on this machine")
    config = GuestConfig(name="big", ip="10.78.0.13", memory=5120)
    gfn = take_over_once(world, config, deadline=400)
    assert gfn >= 1 << 20, "no memory beyond the hole was used"


@pytest.mark.long
def test_two_guests_in_both_directions(world):
    """Each host is the primary of one guest and the secondary of the other."""
    stage, p, s = world.stage, world.p, world.s
    there = stage.lab.restore_snapshot(s.name, GuestConfig(name="g2", ip="10.78.0.14"))
    mine, other = world.memory, Memory(there)
    out = world.start("-i", "1000")
    back = stage.protect("g2", s, p, "-i", "1000")
    out.wait_protected()
    back.wait_protected()
    entry, its_entry = mine.append("one"), other.append("two")
    out.checkpoint()
    back.checkpoint()
    assert {name for name in sessions(p)} == {world.guest.name, "g2"}
    stage.cut_power(p)
    out.wait_taken_over()
    stage.home = s.name
    mine.check(length=entry)
    back.wait_end(60)
    other.check(length=its_entry)
    assert set(s.domains()) == {world.guest.name, "g2"}
    s.run(["xl", "destroy", "g2"])

# SPDX-License-Identifier: GPL-2.0-only
"""After a takeover the guest is an ordinary domain of its host: stock xl does all with it."""

import re

import pytest

from labkit import wait_for

STOCK = "/usr/sbin/xl"
FIFO = "/tmp/e2e-console"


def taken_over(world):
    """The guest's home has lost its power; returns the length that its log has to have."""
    protection = world.protect("-i", "600000")
    entry = world.memory.append("before the takeover")
    protection.checkpoint()
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    world.memory.check(length=entry)
    world.stage.boot_what_is_off()
    return entry


def test_stock_xl_after_takeover(world):
    """Listed, its console read, saved, restored, and shut down by its power button."""
    name = world.guest.name
    entry = taken_over(world)
    listing = world.s.out([STOCK, "list", "-l", name])
    assert f'"name": "{name}"' in listing and "--incoming" not in listing

    console = world.s.out(f"mkfifo {FIFO}; timeout 20 {STOCK} console -t serial {name} <>{FIFO} | "
                          f"grep -m 1 'tick [0-9]* uptime'; rm {FIFO}")
    assert re.search(r"tick \d+ uptime", console), console

    world.memory.note()
    world.s.run([STOCK, "save", name, "/tmp/e2e-taken.save"])
    assert name not in world.s.domains()
    world.s.run([STOCK, "restore", "/tmp/e2e-taken.save"])
    world.s.run("rm /tmp/e2e-taken.save")
    world.memory.check(length=entry)
    world.s.run([STOCK, "shutdown", "-F", name])
    wait_for(lambda: not world.s.domains(), 30, "the guest to have powered off")
    world.stage.forget_guest()
    world.nothing_at(world.s)


@pytest.mark.long
def test_stock_migrate_after_takeover(world):
    """Moved to the host that had lost its power, and destroyed there."""
    name = world.guest.name
    entry = taken_over(world)
    world.stage.ready(world.p.name)
    world.memory.note()
    world.s.run([STOCK, "migrate", name, world.p.name], timeout=180)
    world.memory.check(length=entry)
    assert name not in world.s.domains() and name in world.p.domains()
    world.nothing_at(world.s)
    world.p.run([STOCK, "destroy", name])
    wait_for(lambda: not world.p.domains(), 20, "the guest to be gone")
    world.stage.forget_guest()
    world.nothing_at(world.p)

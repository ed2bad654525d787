# SPDX-License-Identifier: GPL-2.0-only
"""The link between the hosts goes dead without a sign to either end."""

import re

from labkit import wait_for
from labkit.protect import SILENCE, sessions

# How late the answer may come to us: a look at each side in turn over ssh, from hosts that stall
# under emulation. How fast a side noticed is taken from what it measured itself.
ALLOWANCE = 26.0


def heard_nothing_for(host, guest):
    """Seconds, as that side measured them when it judged the other to be lost."""
    error = sessions(host)[guest]["last_error"]
    return int(re.search(r"nothing heard from the peer for (\d+) ms", error)[1]) / 1000


def test_both_sides_notice_in_time(lockstep):
    world, protection = lockstep, lockstep.protection
    entry = world.memory.append("before the last checkpoint")
    protection.checkpoint()
    world.lab.link_cut(world.s.name)

    def alone(host):
        return sessions(host).get(world.guest.name, {}).get("state") == "UNPROTECTED"
    try:
        wait_for(lambda: alone(world.p) and alone(world.s), SILENCE + ALLOWANCE,
                 "both sides to notice", 0.05)
        for host in (world.p, world.s):
            assert SILENCE <= heard_nothing_for(host, world.guest.name) < SILENCE * 1.2 + 0.1
        # Without a fence command each side trusts its own eyes, and says so.
        assert world.guest.name in world.p.domains()
        assert world.guest.name in world.s.domains()
        assert "took over" in sessions(world.s)[world.guest.name]["policy"]
        world.s.run(["xl", "destroy", world.guest.name])
        world.unprotected(protection)
        # both copies have spoken, and switches believe the last one
        world.lab.lan_cut(world.s.name)
        world.lab.lan_mend(world.s.name)
        world.p.run("ip link set dev xenbr0 type bridge fdb_flush")
    finally:
        world.lab.link_mend(world.s.name)
    world.memory.check(length=entry)
    world.nothing_at(world.s)

# SPDX-License-Identifier: GPL-2.0-only
"""Clients of a guest whose two copies are compared: they notice nothing but a pause."""

import json
import os
import random
import time

import pytest

from labkit import wait_for
from labkit.traffic import Datagrams, Dialogue, Download, Lottery, Pings, Upload

MANY = 20                   # connections with a request at a time each
SIZE = 3_000_000            # of a download, and of an upload
LARGE = 50_000_000          # the same, in the long tests
HALF_WAY = SIZE // 3        # when something happens to the hosts
PACE = 20_000               # bytes a second, of a download from before protection on
IDLE_TIME = 60              # seconds that a guest is left alone
TAKEOVERS_TIME = 150        # seconds for as many takeovers as fit


class Clients:
    """One of each kind, from before protection on and born in lock-step, over IPv4 and IPv6."""

    def __init__(self, world):
        self.world, self.lab = world, world.lab
        self.ip, self.ip6 = world.guest.ip, world.guest.config.ip6
        world.guest.ask(f"pace {PACE}")
        self.old = [Dialogue(self.lab, self.ip).begin(),
                    Download(self.lab, self.ip6, SIZE, slow=True).begin()]
        self.born, self.loose = [], []

    def more(self):
        self.born = [Dialogue(self.lab, (self.ip, self.ip6)[n % 2], gap=0.5).begin()
                     for n in range(MANY)]
        self.loose = [one(self.lab, address).begin() for one in (Datagrams, Pings)
                      for address in (self.ip, self.ip6)]
        self.download = Download(self.lab, self.ip, SIZE).begin()
        self.upload = Upload(self.lab, self.ip6, SIZE).begin()

    def half_way(self):
        wait_for(lambda: self.download.done > HALF_WAY and self.upload.done > HALF_WAY // 4, 300,
                 "the download to be half way", 0.1)
        assert self.download.done < SIZE and self.upload.done < SIZE

    def go_on(self, deadline=180):
        """Every client gets answers again."""
        everybody = [*self.old, *self.born, *self.loose, self.download, self.upload]
        before = [one.done for one in everybody]
        wait_for(lambda: all(one.done > had or not one.is_alive()
                             for one, had in zip(everybody, before)), deadline,
                 "all clients to get answers", 0.2)

    def __str__(self):
        return "\n".join(f"{type(one).__name__} {one.address}: {one.done}, worst {one.worst:.1f} s"
                         for one in (*self.old, *self.born, *self.loose, self.download, self.upload))

    def end(self):
        """All in good order; returns the longest that one of them had to wait."""
        self.world.guest.ask("pace 0", timeout=60)
        for one in (self.download, self.upload, self.old[1]):
            one.join(600)
        everybody = [*self.old, *self.born, *self.loose, self.download, self.upload]
        for one in everybody:
            one.end()
        return max(one.worst for one in everybody)


def test_power_cut_of_the_primary(world, record_property):
    """Downloads, uploads, many dialogues, pings: each goes on at the other host."""
    clients = Clients(world)
    protection = world.protect("-i", "2000", network=True)
    clients.more()
    entry = world.memory.append("in lock-step")
    clients.half_way()
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    clients.go_on()
    record_property("worst_stall_s", clients.end())
    print(clients)
    world.memory.check(length=entry)


@pytest.mark.long
def test_large_transfers(world, record_property):
    """50 MB down and 50 MB up, begun unprotected, live through the death of either host."""
    transfers = [Download(world.lab, world.guest.ip, LARGE).begin(),
                 Upload(world.lab, world.guest.config.ip6, LARGE).begin()]

    def lockstep():
        protection = world.protect("-i", "2000", network=True)
        before = [one.done for one in transfers]
        wait_for(lambda: all(one.done > had + HALF_WAY // 4 for one, had in zip(transfers, before)),
                 300, "transfers in lock-step", 0.1)
        assert all(one.done < LARGE for one in transfers), [one.done for one in transfers]
        return protection

    protection = lockstep()
    world.stage.cut_power(world.s)
    world.unprotected(protection)
    world.s = world.stage.partner(world.p)
    protection = lockstep()
    world.stage.cut_power(world.p)
    world.taken_over(protection)
    for one in transfers:
        one.join(600)
        one.end()
        print(f"{type(one).__name__}: {one.done}, worst {one.worst:.1f} s")
    record_property("worst_stall_s", max(one.worst for one in transfers))


@pytest.mark.parametrize("where, fault, reasons", [
    ("p", "pkill -KILL -x colo-proxy", {"proxy-gone"}),
    pytest.param("s", "pkill -KILL -x colo-proxy", {"proxy-gone", "proxy-link"},
                 marks=pytest.mark.long),
    pytest.param("p", "ip link delete vif$(xl domid g1).0-cb", {"proxy-gone", "proxy-tap"},
                 marks=pytest.mark.long),
], ids=["proxy-killed", "other-proxy-killed", "tap-deleted"])
def test_network_of_a_session_breaks(world, where, fault, reasons):
    """Protection ends and says why; the guest has its network back, and clients notice a pause."""
    client = Dialogue(world.lab, world.guest.ip).begin()
    protection = world.protect("-i", "2000", network=True)
    status = json.loads(world.p.out(["xl", "colo-status", "-j", world.guest.name]))
    assert status["proxy"]["link"] == "up" and status["proxy"]["nics"][0]["from_guest"] > 0, status
    getattr(world, where).run(fault)
    status = world.unprotected(protection)
    assert status["last_reason"] in reasons, status
    had = client.done
    wait_for(lambda: client.done > had + 3, 60, "answers", 0.1)
    client.end()
    world.only_the_guest()


@pytest.mark.long
def test_an_idle_guest_has_no_reason(world):
    """A guest that nobody talks to: what it sends by itself, both copies send."""
    protection = world.protect("-i", "600000", network=True)
    first = protection.status()
    time.sleep(IDLE_TIME)
    status = protection.status()
    assert status["network"] == "compare" and status["protected"], status
    made = status["checkpoints"] - first["checkpoints"]
    listed = sum(one["count"] for one in status["differences"])
    print(f"{made} checkpoints: {status['differences']}, last {status['last_difference']!r}")
    assert made <= 3, status        # neighbour discovery, whose timers run by each copy's clock
    assert made <= listed and status["triggers"]["period"] == first["triggers"]["period"]


def test_what_clients_were_told_is_kept(world, record_property):
    """Output commit.  Each random answer makes the copies differ; whatever a client has been told, the
    survivor of a power cut at any moment must have written down, and nothing else."""
    seed = int(os.environ.get("E2E_SEED", random.randrange(1 << 32)))
    print(f"E2E_SEED={seed}")
    moments = random.Random(seed)
    known = world.guest.status()["log_length"]
    client = Lottery(world.lab, world.guest.ip).begin()
    begun, takeovers = time.monotonic(), 0
    while not takeovers or time.monotonic() - begun < TAKEOVERS_TIME:
        protection = world.protect("-i", "5000", network=True)
        time.sleep(moments.uniform(0, 5))
        world.stage.cut_power(world.p)
        world.taken_over(protection)
        takeovers += 1
        world.turn()
    client.end()
    record_property("takeovers", takeovers)
    print(f"{takeovers} takeovers, {len(client.numbers)} answers, worst stall {client.worst:.1f} s")
    length, head = world.guest.ask("log").split()
    assert client.numbers, "no answers"
    assert [index for index, _, _ in client.numbers] == list(range(known + 1, int(length) + 1))
    assert client.numbers[-1][2] == head
    with world.lab.client.control(world.guest.ip, 60) as guest:
        for index, value, _ in client.numbers[-200:]:
            assert guest.ask(f"log get {index}") == f"random {value}"

# SPDX-License-Identifier: GPL-2.0-only
"""A guest with disks: what it was told is written is on the disk of whoever goes on."""

import dataclasses
import os
import random
import shlex
import time

import pytest

from conftest import World
from labkit import GuestConfig, wait_for
from labkit.network import LINK
from labkit.traffic import Rows

FILES = GuestConfig(name="d1", ip="10.78.0.30", disks=(0, 16))
DEVICES = dataclasses.replace(FILES, loops=True)
BLOCKS, GAP_US = 256, 50_000       # of the second disk, written all over without an end
SERVERS = "[n]bdkit-colo-disk-plugin"      # so that what looks for it is not found
RELAYS = "[n]bdkit .* nbd "
# to the disks' servers alone, without a sign: what the sessions say to each other gets through
WAY_CUT = r"""set -e
ports=$(ss -Htnp state established | awk '/"nbdkit"/ { n = split($4, a, ":"); print a[n] }')
test -n "$ports"
nft add table inet cut
nft 'add chain inet cut out { type filter hook output priority 0; }'
for port in $ports; do nft add rule inet cut out tcp dport $port drop; done"""


class DiskWorld(World):
    """The guest writes a database and scribbles over a second disk, from before protection on."""

    def __init__(self, stage, config):
        p, s = stage.without_guest()
        self.config = config
        super().__init__(stage, p, s, stage.lab.restore_snapshot(p.name, config))
        assert self.guest.ask("mount 0", timeout=60) == "ok"
        assert self.guest.ask(f"scribble 1 {BLOCKS} {GAP_US}") == "ok"
        self.furnish(s)
        self.rows = Rows(self.lab, self.guest.ip).begin()
        seed = int(os.environ.get("E2E_SEED", random.randrange(1 << 32)))
        print(f"E2E_SEED={seed}")
        self.moments = random.Random(seed)

    def furnish(self, host):
        """Disks for a second copy, of which all has to be overwritten.  (A host of the lab loses its
        files with its power.)"""
        self.lab.install_guest(self.config, [host.name])
        for n in range(len(self.config.disks)):
            disk = shlex.quote(self.config.disk(n))
            host.run(f"dd if=/dev/urandom of={disk} bs=1M count=8 conv=notrunc")

    def protect(self, *options, deadline=300, **more):
        one = self.start("-i", "2000", *options, network=True, **more)
        one.wait_protected(deadline)
        return one

    def check(self):
        """Zero lost, zero invented; and the second disk is what the guest's memory says."""
        self.rows.verify(self.guest)
        assert self.guest.ask("scribble check", timeout=120).split()[0] == "ok"
        print(f"{len(self.rows.rows)} transactions, worst wait {self.rows.worst:.1f} s")

    def boots_from_its_disks(self, host):
        """With a plain `xl create`, and all that clients were told is there."""
        config = dataclasses.replace(self.config, preloaded=True)
        host.write(config.path, config.text(self.lab.tsc_khz()))
        host.run(["xl", "create", config.path])
        self.guest.wait_answers()
        assert self.guest.ask("mount 0", timeout=60) == "ok"
        number, head = self.rows.rows[-1]
        assert self.guest.ask("rows", timeout=60) == f"ok {number} {head}"

    def end(self, host):
        """The file system is clean, and nothing of it all is left."""
        assert self.guest.ask("umount", timeout=60) == "ok"
        host.run(["xl", "destroy", self.guest.name])
        wait_for(lambda: not host.out(f"pgrep -f {SERVERS} || true"), 60,
                 "the disks' servers to end", 0.2)
        host.run(["e2fsck", "-fn", self.config.disk(0)])
        self.nothing_at(host)


@pytest.fixture
def disks(stage, request):
    stage.end_kept()
    return DiskWorld(stage, request.param)


def refused(disks, change, reason):
    disks.s.run(change)
    protection = disks.start(network=True)
    assert protection.wait_end(60) == 2
    assert f"[{reason}]" in protection.output(), protection.output()
    disks.nothing_at(disks.s)


def broken(disks, host, fault):
    """Protection ends and says why; the guest writes on to its own disks."""
    protection = disks.protect()
    host.run(fault)
    status = disks.unprotected(protection)
    assert status["last_reason"] in {"disk-mirror", "disk-gone"}, status
    assert status["disks"] == "not replicated", status
    disks.rows.go_on()
    disks.s.run(f"pkill -KILL -f {SERVERS}; true")      # what hangs cannot end by itself
    disks.nothing_at(disks.s)


def broken_while_copying(disks, fault, mend):
    disks.lab.network.slow_down(LINK, disks.s.name, "2mbit")
    protection = disks.start(network=True)
    protection.wait_status(lambda s: s["disks"].startswith("copying"), 120, "disks to be copied")
    fault()
    try:
        assert "on both hosts" not in protection.output()
        assert protection.wait_end(60) == 2, protection.output()
        disks.rows.go_on()
    finally:
        mend()
        disks.lab.network.slow_down(LINK, disks.s.name, None)
    disks.nothing_at(disks.s)


def cut_and_taken_over(disks, checkpoints, *options):
    protection = disks.protect(*options)
    assert protection.status()["disks"] == "replicated"
    protection.wait_checkpoints(checkpoints, 60 + 6 * checkpoints)
    time.sleep(disks.moments.uniform(0, 3))
    disks.stage.cut_power(disks.p)
    disks.taken_over(protection)
    disks.rows.go_on()


@pytest.mark.parametrize("disks", [DEVICES], ids=["devices"], indirect=True)
def test_power_cut(disks, record_property):
    """Protected while it writes; its host's power is cut anywhere between two checkpoints."""
    file = shlex.quote(disks.config.disk_file(1))
    refused(disks, f"truncate -s 17M {file}; losetup -c /dev/loop1", "disk-size")
    disks.s.run(f"truncate -s 16M {file}; losetup -c /dev/loop1")
    cut_and_taken_over(disks, 5)
    disks.check()
    record_property("worst_wait_s", disks.rows.worst)
    disks.end(disks.s)
    disks.s.run("losetup -d /dev/loop0; losetup -d /dev/loop1")


@pytest.mark.long
@pytest.mark.parametrize("disks", [FILES], ids=["files"], indirect=True)
def test_a_long_life(disks):
    """Everything that can happen to a guest's disks, one after the other."""
    disk = shlex.quote(FILES.disk(1))
    refused(disks, f"rm {disk}; mkdir -p /mnt/small; mount -t tmpfs -o size=64k none /mnt/small && "
                   f"truncate -s 16M /mnt/small/disk && ln -s /mnt/small/disk {disk}", "disk-mirror")
    refused(disks, f"rm {disk}; umount /mnt/small; rmdir /mnt/small", "file-missing")
    disks.s.run(f"truncate -s 16M {disk}")
    disks.rows.go_on()

    broken_while_copying(disks, lambda: disks.lab.link_cut(disks.s.name),
                         lambda: disks.lab.link_mend(disks.s.name))
    broken_while_copying(disks, lambda: disks.s.run(f"pkill -STOP -f {SERVERS}"),
                         lambda: disks.s.run(f"pkill -KILL -f {SERVERS}; true"))
    broken(disks, disks.s, f"pkill -STOP -f {SERVERS}")
    broken(disks, disks.p, f"pkill -KILL -f {shlex.quote(RELAYS)}")
    broken(disks, disks.p, WAY_CUT)
    disks.p.run("nft delete table inet cut")

    protection = disks.protect()
    disks.stage.cut_power(disks.s)
    disks.unprotected(protection)
    disks.rows.go_on()
    disks.s = disks.stage.partner(disks.p)
    disks.furnish(disks.s)

    cut_and_taken_over(disks, 10)

    disks.turn()        # the survivor's disks are still served when they are copied
    disks.furnish(disks.s)
    cut_and_taken_over(disks, 30, "-i", "500")
    disks.check()
    disks.end(disks.s)
    disks.boots_from_its_disks(disks.s)
    disks.end(disks.s)

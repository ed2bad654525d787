# SPDX-License-Identifier: GPL-2.0-only
"""What is there on a host: processes, domains, network devices, files, nodes of xenstore.

Two such pictures are compared to see that a test, and the session in it, left nothing behind.
"""

import re
from collections import Counter

from labkit import LabError, wait_for

LOOK = "/usr/local/lib/xen-colo/tests/xencolo-look"

# Ours for looking, and what a dom0 does by itself.
NOISE = re.compile(
    r"process (bash|xl|tail) (bash -c|xl list|tail)|process xencolo-look |process sshd sshd: .*\[|"
    r"file /run/xen(stored)?/.*\.(lock|pid)$|file /run/xen/xl-|file /var/lib/xen/xenstored|"
    r"file /run/xen-hotplug|file /run/xen/domid-history|file /(tmp|dev/shm)/(lab|e2e)")


class Picture:
    def __init__(self, host):
        self.domains = {}
        self.things = Counter()
        for line in host.out([LOOK]).splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "domain":
                name, domid = rest.rsplit(" ", 1)
                self.domains[name] = int(domid)
            elif not NOISE.match(line):
                self.things[line] += 1
        self.domains.pop("Domain-0", None)
        # /vm/UUID cannot be told apart by domid: as many as there are domains are fine
        vms = sorted(thing for thing in self.things if thing.startswith("xenstore /vm/"))
        self._vms = set(vms[:len(self.domains) + 1])

    def owned_by(self, domid):
        """Does a thing belong to the domain of that number?  (A function of the thing.)"""
        pattern = re.compile(
            rf"^process .*-xen-domid {domid} |^(netdev|port) .*\bvif{domid}\.|"
            rf"^file .*/(qmp-libxl-|qmp-libxenstat-|vnc-|userdata-[a-z]\.){domid}(\.|$)|"
            rf"^file /run/xen-colo/{domid}\.(sock|lock)|^xenstore /(local/domain|libxl)/{domid}$|"
            rf"^xenstore /local/domain/0/(backend/\w+|device-model)/{domid}$|"
            rf"^file .*\b(dom)?{domid}\.(ckpt|state|img|save)|"
            rf"^file .*/(qemu-save|qemu-resume)\.{domid}$")
        return lambda thing: bool(pattern.search(thing)) or thing in self._vms

    def beyond(self, baseline, guests=()):
        """What is here, is not in the baseline and belongs to none of these guests.

        A guest may have one monitor: the background xl of `xl create`, or ours.
        """
        extra = self.things - baseline.things
        mine = [self.owned_by(self.domains[name]) for name in guests if name in self.domains]
        left, monitors = [], 0
        for thing, count in sorted(extra.items()):
            if any(owned(thing) for owned in mine):
                continue
            if is_monitor(thing) and monitors + count <= len(mine):
                monitors += count
                continue
            if thing.endswith("/run/xen-colo"):
                continue
            left.append(thing if count == 1 else f"{thing} (x {count})")
        left += [f"domain {name}" for name in self.domains if name not in guests]
        missing = baseline.things - self.things
        left += [f"missing: {thing}" for thing in sorted(missing)]
        return left


def baseline(host):
    """What is there before any session.  What is only dying then will go, and does not belong to it."""
    picture = Picture(host)
    picture.things = Counter({thing: count for thing, count in picture.things.items()
                              if not thing.startswith("process zombie ")})
    return picture


def is_monitor(thing):
    """The background xl of `xl create` and the like, or the monitor of a session of ours."""
    return thing.startswith("process xl-colo-monitor ") or \
        bool(re.match(r"process xl (/\S*/)?xl (create|restore|migrate-receive)\b", thing))


def assert_nothing_left(host, baseline, guests=(), deadline=20):
    """Wait until nothing but these guests is on the host beyond its baseline."""
    seen = []

    def clean():
        seen[:] = Picture(host).beyond(baseline, guests)
        return not seen
    try:
        wait_for(clean, deadline, f"{host.name} to be clean", 0.3)
    except LabError as error:
        raise AssertionError(f"left behind on {host.name}:\n  " + "\n  ".join(seen)) from error

# SPDX-License-Identifier: GPL-2.0-only
"""Hosts and one guest that go from test to test.

Booting costs most of the time on the lab, so whatever a test leaves in good order is used again: the
guest stays where the last test left it (the primary of the next test is the host that it runs
on), and only a host whose power was cut is booted.  A test has two hosts; the third takes the place
of one that boots.  After a test that failed nothing is trusted: all hosts are booted anew and the
guest is made anew.
"""

import contextlib
import os
import re
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_one

from labkit import GuestConfig, Lab, LabError
from labkit.protect import OURS, Protection

from .leftovers import assert_nothing_left, baseline

HOSTS = ("alpha", "beta", "gamma")
GUEST = GuestConfig(name="g1", ip="10.78.0.10")
BIG_HOST, SMALL_HOST = 7168, 2048       # MiB
BIG_NEEDS = 17000                       # MiB free here, for two with a big guest


def memory_available():
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"MemAvailable:\s+(\d+)", file.read())[1]) // 1024


class Stage:
    def __init__(self, run):
        self.lab = Lab(run)
        self.guest = None       # the guest that is kept
        self.home = None        # where it runs
        self.baseline = {}
        self.protections = []
        self.kept = None        # a session that outlives its test
        self.seen_clean = set() # hosts that a test has looked at since its last session
        self.big = memory_available() >= BIG_NEEDS
        self._booting = {}
        self._pool = ThreadPoolExecutor(len(HOSTS))

    # hosts --------------------------------------------------------------------

    def up(self):
        self.lab.up(n=len(HOSTS), mem=BIG_HOST if self.big else SMALL_HOST, die_with=os.getpid())
        for name in HOSTS:
            self._furnish(name)

    def attach(self):
        """To a lab that is up and clean (for writing tests: E2E_ATTACH=1)."""
        self.lab.push()
        for name in HOSTS:
            host = self.lab[name]
            for guest in host.domains():
                host.run(["xl", "destroy", guest], check=False)
            self._furnish(name)

    def down(self):
        for boot in self._booting.values():
            with contextlib.suppress(Exception):
                boot.result()
        self._pool.shutdown()
        self.lab.down()

    def _furnish(self, name):
        self.lab[name].run(f"mkdir -p {OURS} /run/xen-colo; chmod 700 /run/xen-colo")
        self.lab.install_guest(GUEST, [name])
        self.baseline[name] = baseline(self.lab[name])

    def _boot(self, name):
        self.lab.power_on(name)
        self._furnish(name)

    def boot_what_is_off(self):
        """Begin to boot hosts without power; ready() waits for one of them."""
        for name in HOSTS:
            if name not in self._booting and not self.lab[name].running():
                self._booting[name] = self._pool.submit(self._boot, name)

    def usable(self):
        """The names of the hosts that run and have been furnished."""
        for name, boot in list(self._booting.items()):
            if boot.done():
                del self._booting[name]
                boot.result()
        return [name for name in HOSTS if name not in self._booting and self.lab[name].running()]

    def ready(self, *names):
        """Two hosts are usable, and these."""
        self.boot_what_is_off()
        while len(usable := self.usable()) < 2 or not set(names) <= set(usable):
            wait_for_one(self._booting.values(), return_when=FIRST_COMPLETED)

    def partner(self, host):
        """Another host, for a guest that runs on that one."""
        self.ready()
        if self.kept and self.kept.primary.name == host.name and self.kept.secondary.running():
            return self.kept.secondary
        return self.lab[next(name for name in self.usable() if name != host.name)]

    def nothing_at(self, host, guests=()):
        """Nothing is left there but these guests and what was there before any session."""
        assert_nothing_left(host, self.baseline[host.name], guests)
        self.seen_clean.add(host.name)

    def cut_power(self, host):
        self.seen_clean.discard(host.name)
        host.kill()
        if self.home == host.name:
            self.home = None

    # the guest ------------------------------------------------------------------

    def have_guest(self):
        """The kept guest, running and answering; returns (primary, secondary, guest)."""
        self.ready()
        if self.guest is None or not self._guest_is_well():
            self._destroy_all()
            self.home = self.usable()[0]
            self.guest = self.lab.restore_snapshot(self.home, GUEST)
        p = self.lab[self.home]
        return p, self.partner(p), self.guest

    def without_guest(self):
        """Two hosts, for a guest of the test's own."""
        self.ready()
        self._destroy_all()
        self.forget_guest()
        return [self.lab[name] for name in self.usable()[:2]]

    def _destroy_all(self):
        for name in self.usable():
            for guest in self.lab[name].domains():
                self.lab[name].run(["xl", "destroy", guest])

    def _guest_is_well(self):
        """It answers, and it is known where it runs: after each test all hosts are looked at."""
        if self.home not in self.usable():
            return False
        with contextlib.suppress(OSError, LabError):
            self.guest.ask("dirty 0")
            return self.guest.status()["log_head"] is not None
        return False

    def forget_guest(self):
        self.guest = self.home = None

    # protections ------------------------------------------------------------------

    def protect(self, name, primary, secondary, *options, network=False, **more):
        """network: what the two copies send is compared.  Most tests go without: each look at the
        guest by the network would be a reason for a checkpoint."""
        more.setdefault("via", "tcp")
        # two emulated guests are rarely as fast as each other
        how = ["--output-wait", "3000"] if network else ["--coloft-script", ""]
        self.seen_clean.clear()
        one = Protection(self.lab, name, primary.name, secondary.name, [*how, *options], **more)
        self.protections.append(one)
        return one

    def kept_protection(self):
        """The session that an earlier test left, when it is still whole."""
        if self.kept and self.kept.running() and self.kept.primary.running():
            status = self.kept.status()
            if status and status["protected"]:
                self.protections.append(self.kept)
                return self.kept
        self.kept = None
        return None

    def end_kept(self):
        kept, self.kept = self.kept, None
        if kept and kept.running() and kept.primary.running():
            kept.stop()
            self.nothing_at(kept.primary, [GUEST.name])
            self.nothing_at(kept.secondary)

    # between tests ------------------------------------------------------------------

    def tidy(self):
        """After a test that passed: nothing may be left but the guest that is kept."""
        protections, self.protections = self.protections, []
        clean, self.seen_clean = self.seen_clean, set()
        kept = self.kept if self.kept in protections and self.kept_protection() else None
        self.protections = []
        for one in protections:
            if one is kept:
                continue
            if one.primary.running():
                one.stop()
            else:
                one.abandon()
                self._hang_up(one.secondary)
        if kept:
            return      # hosts are looked at when it has ended
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            list(pool.map(self._tidy_host, [name for name in HOSTS if name not in clean]))
        self.boot_what_is_off()

    def _hang_up(self, host):
        """Its sshd would keep the connection of a host without power until TCP gives up."""
        if host.running():  # the parent of what we run there is the sshd of our own connection
            host.run('pgrep -f "^sshd: root@notty" | grep -vx "$PPID" | xargs -r kill')

    def _tidy_host(self, name):
        host = self.lab[name]
        if not host.running() or name in self._booting:
            return
        host.run(f"rm -f {OURS}/*; rm -f /run/xen-colo/testpoint.*")
        keep = [GUEST.name] if self.guest and self.home == name else []
        assert_nothing_left(host, self.baseline[name], keep)

    def wreck(self):
        """After a test that failed: begin from nothing."""
        for one in self.protections:
            one.abandon()
        self.protections = []
        self.kept = None
        for name in HOSTS:
            boot = self._booting.pop(name, None)
            if boot:
                with contextlib.suppress(Exception):
                    boot.result()
            self.lab[name].kill()
        for name in HOSTS:
            with contextlib.suppress(Exception):
                self.lab.link_mend(name)
        self.forget_guest()
        self.boot_what_is_off()

    # evidence -------------------------------------------------------------------------

    def evidence(self):
        """What helps to understand a failure: (title, text) pairs."""
        for one in self.protections:
            yield f"{one.command} on {one.primary.name}", one.output()[-6000:]
        for name in HOSTS:
            host = self.lab[name]
            if not host.running() or name in self._booting:
                yield name, "no power"
                continue
            try:
                done = host.run(EVIDENCE, check=False, timeout=60)
                yield name, done.stdout[-12000:] + done.stderr[-1000:]
            except Exception as error:      # the evidence must not hide the failure
                yield name, f"no evidence: {error}"


EVIDENCE = r"""
exec 2>&1
echo "--- xl list"; xl list
echo "--- colo-status"; xl colo-status
echo "--- processes"; ps -eo pid,ppid,stat,comm,wchan,args | grep -v '\[.*\]$' | cut -c1-200
echo "--- /run/xen-colo"; ls -l /run/xen-colo
for f in /var/log/xen/xl-*.log /var/log/xen/qemu-dm-*.log; do
    [ -s "$f" ] && { echo "--- $f"; tail -n 15 "$f" | cut -c1-300; }; done
for f in /var/log/colo-guest/*.serial; do
    [ -s "$f" ] && { echo "--- $f"; tail -n 3 "$f"; }; done
echo "--- xl dmesg"; xl dmesg | tail -n 12
echo "--- dmesg"; dmesg | tail -n 8
ls /var/log/core.* 2>/dev/null && for c in /var/log/core.*; do
    gdb -batch -ex 'thread apply all bt 12' "$(command -v xl)" "$c" 2>/dev/null | tail -n 60; done
"""

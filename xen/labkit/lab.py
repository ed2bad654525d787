# SPDX-License-Identifier: GPL-2.0-only
"""A run of the lab: hosts, wires and client, brought up and taken down together."""

import filecmp
import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from . import cache, image, machine, paths
from .client import Client
from .errors import LabError
from .guest import Guests
from .host import Host
from .network import LAN, LINK, Network
from .process import Daemon
from .wait import Deadline, wait_for

NAMES = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
BOOT_DEADLINE = 240


class Lab(Guests):
    """Lab("x").up() starts a run; Lab("x") alone attaches to one that is up."""

    def __init__(self, run="default"):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", run):
            raise LabError(f"bad run name {run!r}: letters, digits, - _ . only, 40 at most")
        self.run = run
        self.folder = paths.RUNS / run
        self.state_file = self.folder / "lab.json"
        self.network = Network(run)
        self.client = Client(self.network)
        self.hosts = {}
        self._load()

    def _load(self):
        try:
            state = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            return
        self.hosts = {name: Host(self, name, index, port)
                      for index, (name, port) in enumerate(state["hosts"].items(), 1)}

    def __getitem__(self, name):
        if name not in self.hosts:
            there = ", ".join(self.hosts) or "none: the run is not up"
            raise LabError(f"run {self.run!r} has no host {name!r} (hosts: {there})")
        return self.hosts[name]

    def __getattr__(self, name):
        if name in NAMES:
            return self[name]
        raise AttributeError(name)

    def is_up(self):
        return self.state_file.exists()

    # up and down --------------------------------------------------------------

    def up(self, n=2, mem=2048, cpus=1, dom0_mem=768, die_with=None, build=True, push=True,
           deadline=BOOT_DEADLINE):
        """Build what is missing, boot n hosts, wait until they answer; returns self.

        die_with is a pid: when that process ends, however it ends, the run is
        taken down (tests pass os.getpid()).
        """
        if not 1 <= n <= len(NAMES):
            raise LabError(f"between 1 and {len(NAMES)} hosts, not {n}")
        if os.geteuid() != 0:
            raise LabError("the lab needs root (network namespace, taps)")
        if build:
            image.build()
        self.folder.mkdir(parents=True, exist_ok=True)
        with cache.locked(f"run-{self.run}"):
            if self.is_up():
                raise LabError(f"run {self.run!r} is up already; take it down first "
                               f"(xen/lab down --run {self.run})")
            self._sweep()
            try:
                self._start(n, mem, cpus, dom0_mem, die_with, Deadline(deadline))
            except BaseException:
                self._stop()
                raise
        if push and paths.STAGE.is_dir():
            self.push()
        return self

    def _start(self, n, mem, cpus, dom0_mem, die_with, deadline):
        names = NAMES[:n]
        ports = {}
        while len(ports) < n:
            port = machine.free_port()
            if port not in ports.values():
                ports[names[len(ports)]] = port
        (self.folder / "share").mkdir(exist_ok=True)
        machine.link_files(self.folder)
        self.state_file.write_text(json.dumps(
            {"hosts": ports, "mem": mem, "cpus": cpus, "dom0_mem": dom0_mem}))
        self._load()
        if die_with is not None:
            self._watch(die_with)
        self.network.up()
        for host in self.hosts.values():
            host.machine.start(taps=self.network.plug(host.name), hosts=names, port=ports[host.name],
                               mem=mem, cpus=cpus, dom0_mem=dom0_mem)
        self._each(lambda host: self._wait_ready(host, deadline))

    def _wait_ready(self, host, deadline):
        def alive(condition, process, what, log):
            def check():
                if condition():
                    return True
                if not process():
                    raise LabError(f"{host.name}: {what} ended early:\n{log()}")
                return False
            return check
        try:
            wait_for(alive(host.machine.booted, host.machine.running, "its machine",
                           host.machine.console_tail), deadline, f"{host.name} to boot", 0.2)
        except LabError as error:
            raise LabError(f"{error}\n{host.machine.console_tail()}") from error
        # sshd starts right after the last boot line: one master that keeps asking
        while True:
            ssh = host.ssh.start_master()
            wait_for(lambda: host.ssh.ready() or ssh.poll() is not None, deadline,
                     f"ssh to {host.name}", 0.05)
            if ssh.poll() is None:
                return
            if deadline.passed():
                raise LabError(f"no ssh to {host.name}: "
                               f"{(self.folder / (host.name + '.ssh.log')).read_text()}")

    def power_on(self, name, push=True, deadline=BOOT_DEADLINE):
        """Boot a host again after Host.kill(), as it was when the run came up."""
        state = json.loads(self.state_file.read_text())
        host = self[name]
        if host.running():
            raise LabError(f"{name} is running")
        host.ssh.stop()
        host.machine.serial.unlink(missing_ok=True)
        host.machine.start(taps=self.network.plug(name), hosts=list(self.hosts),
                           port=state["hosts"][name], mem=state["mem"], cpus=state["cpus"],
                           dom0_mem=state["dom0_mem"])
        self._wait_ready(host, Deadline(deadline))
        if push and paths.STAGE.is_dir():
            host.push_tree(paths.STAGE)

    def _watch(self, pid):
        Daemon(self.folder / "watch.pid").start(
            ["/usr/bin/python3", paths.REPO / "xen" / "lab", "_watch", "--run", self.run, str(pid)],
            cwd="/", log=self.folder / "watch.log")

    def down(self):
        """Stop all that belongs to the run; logs stay in its folder."""
        if not self.folder.is_dir():
            return
        with cache.locked(f"run-{self.run}"):
            self._load()
            self._stop()

    def _stop(self):
        watch = Daemon(self.folder / "watch.pid")
        if watch.pid() == os.getpid():
            watch.pidfile.unlink()
        else:
            watch.kill()
        self._each(lambda host: (host.machine.daemon.kill(), host.ssh.stop()))
        self._sweep()
        self.hosts = {}

    def _sweep(self):
        """Whatever a run that was not taken down properly has left behind."""
        for pidfile in self.folder.glob("*.pid"):
            if Daemon(pidfile).pid() != os.getpid():
                Daemon(pidfile).kill()
        self.network.down()
        for pattern in ("*.qmp", "*.serial", "*.ssh", "*.ssh.*"):
            for file in self.folder.glob(pattern):
                file.unlink()
        shutil.rmtree(self.folder / "share", ignore_errors=True)
        self.state_file.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def _each(self, action, hosts=None):
        """Run action on the hosts side by side; the first error is raised."""
        hosts = list(self.hosts.values()) if hosts is None else list(hosts)
        if not hosts:
            return []
        with ThreadPoolExecutor(len(hosts)) as pool:
            return list(pool.map(action, hosts))

    # programs -----------------------------------------------------------------

    def push(self, tree=None):
        """Install the staged tree into every running dom0."""
        tree = tree or paths.STAGE
        if not tree.is_dir():
            raise LabError(f"nothing staged: {tree} does not exist (make stage first)")
        for built, staged in (("xl", "sbin/xl"), ("libxencolo.so.0", "lib/libxencolo.so.0")):
            built, staged = paths.REPO / "build" / built, tree / "usr/local" / staged
            if built.exists() and staged.exists() and not filecmp.cmp(built, staged, shallow=False):
                raise LabError(f"{staged} is not what was built (make stage first)")
        self._each(lambda host: host.push_tree(tree), [h for h in self.hosts.values() if h.running()])

    # wires --------------------------------------------------------------------

    def link_cut(self, *hosts, carrier=False):
        """Cut the private link of these hosts (all by default).

        Frames vanish without any sign; with carrier=True the NIC reports that its
        cable is out as well.
        """
        for name in hosts or self.hosts:
            self._wire(LINK, name, False, carrier)

    def link_mend(self, *hosts, carrier=False):
        for name in hosts or self.hosts:
            self._wire(LINK, name, True, carrier)

    def lan_cut(self, *hosts):
        """The same for the guests' segment."""
        for name in hosts or self.hosts:
            self._wire(LAN, name, False, False)

    def lan_mend(self, *hosts):
        for name in hosts or self.hosts:
            self._wire(LAN, name, True, False)

    def _wire(self, bridge, name, up, carrier):
        host = self[name]
        if not host.running():
            return
        if carrier:
            with host.qmp() as qmp:
                qmp.execute("set_link", name="n1" if bridge == LINK else "n2", up=up)
        elif up:
            self.network.mend(bridge, name)
        else:
            self.network.cut(bridge, name)

    def tsc_khz(self):
        """The machines' TSC frequency as Xen measured it, to the nearest MHz."""
        for host in self.hosts.values():
            found = re.search(r"Detected (\d+\.\d+) MHz processor", host.console_text())
            if found:
                return round(float(found[1])) * 1000
        return None

    def status(self):
        """A line a host, for people."""
        if not self.is_up():
            return f"run {self.run}: down\n"
        text = f"run {self.run}: client in namespace {self.network.name}\n"
        for host in self.hosts.values():
            pid = host.machine.daemon.pid()
            what = f"running, pid {pid}, link {host.link_address}" if pid else "no power"
            text += f"  {host.name:8} {what}\n"
        return text


def runs():
    """All runs that are up."""
    if not paths.RUNS.is_dir():
        return []
    return [Lab(p.name) for p in sorted(paths.RUNS.iterdir()) if (p / "lab.json").exists()]


def watch(run, pid):
    """Wait for process pid to end, then take the run down."""
    import select
    try:
        handle = os.pidfd_open(pid)
        select.select([handle], [], [])
    except ProcessLookupError:
        pass
    print(f"process {pid} has ended: taking run {run} down", file=sys.stderr)
    Lab(run).down()

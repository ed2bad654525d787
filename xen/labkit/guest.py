# SPDX-License-Identifier: GPL-2.0-only
"""Guests: their configuration, making them, and the snapshots of booted ones."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field, replace

from . import cache, guestimage, guestkernel, paths
from .errors import LabError
from .wait import Deadline, wait_for

HOME = "/var/lib/colo-guest"            # in dom0; the same on every host
IMAGES = "/lab/guest"                   # paths.GUEST as dom0 sees it
# init_on_free: what a stream leaves out are pages of zeros
CMDLINE = ("console=ttyS0 quiet mitigations=off nopv xen_nopv no_timer_check nowatchdog panic=-1 "
           "init_on_free=1")
BOOT_DEADLINE = 600


@dataclass
class GuestConfig:
    """What an xl config for our guest is made from.

    extra holds further xl keys ({"on_crash": "preserve"}); a value is written
    as a Python literal, which xl's syntax happens to accept.
    """
    name: str = "guest"
    ip: str = "10.78.0.10"
    ip6: str = ""                       # default: fd78::<last byte of ip>
    mac: str = ""                       # default: from ip
    memory: int = 128
    vcpus: int = 1
    vga: str = "none"                   # or "stdvga", with VNC
    nics: int = 1                       # 0: no network
    disks: tuple = ()                   # MiB; 0: the file system that guestimage makes
    loops: bool = False                 # they are block devices (loop0, ...) of each host
    bridge: str = "xenbr0"
    script: str = "vif-lab"             # "": the host's own, slower by 10 s a guest
    tick_ms: int = 2000                 # a line costs dozens of exits to QEMU
    cmdline: str = ""                   # added to the kernel's
    preloaded: bool = False             # see guestkernel; not for a guest that will be protected
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        last = [int(part) for part in self.ip.split(".")]
        self.ip6 = self.ip6 or f"fd78::{last[3]:x}"
        self.mac = self.mac or "00:16:3e:78:%02x:%02x" % (last[2], last[3])

    @property
    def path(self):
        return f"{HOME}/{self.name}.cfg"

    @property
    def initramfs(self):
        return "initramfs-disk.xz" if self.disks else "initramfs.xz"

    def disk(self, n):
        return f"{HOME}/{self.name}-{n}.img"

    def disk_file(self, n):
        """The file that it is, or is on."""
        return self.disk(n) + (".file" if self.loops else "")

    def make_disks(self):
        """A script that makes them, new."""
        return " && ".join(self._make_disk(n) for n in range(len(self.disks))) or "true"

    def _make_disk(self, n):
        disk, file, loop = shlex.quote(self.disk(n)), shlex.quote(self.disk_file(n)), f"/dev/loop{n}"
        size = self.disks[n]
        script = f"rm -f {disk} {file} && " + (
            f"truncate -s {size}M {file}" if size else f"cp --sparse=always {IMAGES}/disk.img {file}")
        if self.loops:
            script += (f" && {{ losetup -d {loop} 2>/dev/null; losetup {loop} {file}; }} && "
                       f"ln -s {loop} {disk}")
        return script

    def text(self, tsc_khz=None):
        # the guest cannot calibrate its TSC here; told, it need not read the HPET for the time
        tsc = f" tsc_early_khz={tsc_khz} tsc=reliable" if tsc_khz else ""
        keys = {
            "name": self.name,
            "type": "hvm",
            "memory": self.memory,
            "vcpus": self.vcpus,
            "kernel": f"{IMAGES}/{'kernel' if self.preloaded else 'vmlinuz'}",
            "ramdisk": f"{HOME}/{self.initramfs}",
            "extra": f"{CMDLINE}{tsc} guest.ip={self.ip}/24 guest.ip6={self.ip6}/64 "
                     f"guest.tick={self.tick_ms} {self.cmdline}".rstrip(),
            "tsc_mode": "native",
            "xen_platform_pci": 0,
            "vga": self.vga,
            # a pty whose output QEMU also logs, from its first byte; libxl knows it by this name
            "serial": "chardev:serial0",
            "device_model_args_hvm": [
                "-global", "e1000.romfile=",
                "-chardev", f"pty,id=serial0,logfile=/var/log/colo-guest/{self.name}.serial,"
                            "logappend=on",
                *(guestkernel.arguments(paths.GUEST, IMAGES) if self.preloaded else [])],
        }
        if self.vga == "none":
            keys["vnc"] = 0
        else:
            keys.update(vnc=1, vnclisten="127.0.0.1")
        if self.nics:
            script = f",script={self.script}" if self.script else ""
            keys["vif"] = [f"mac={_mac(self.mac, n)},bridge={self.bridge},model=e1000,type=ioemu"
                           f"{script}" for n in range(self.nics)]
        if self.disks:
            keys["disk"] = [f"format=raw,vdev=hd{letter},access=rw,backendtype=qdisk,target={self.disk(n)}"
                            for n, letter in zip(range(len(self.disks)), "abd")]
        keys.update(self.extra)
        return "".join(f"{key} = {value!r}\n" for key, value in keys.items())

    def snapshot_key(self, tsc_khz=None):
        """Two configs with one key can be restored from one saved guest: the name is free."""
        text = re.sub(rf"\b{re.escape(self.name)}\b", "NAME", self.text(tsc_khz))
        return cache.digest(text, guestimage.key(), paths.REPO / "xen/labkit/machine.py",
                            paths.DISK.with_name("dom0.img.key").read_text())


def _mac(first, n):
    head, last = first.rsplit(":", 1)
    return f"{head}:{(int(last, 16) + n * 64) % 256:02x}"


class Guest:
    """A guest of ours, wherever it runs: it is asked over the guests' segment."""

    def __init__(self, lab, config):
        self.lab = lab
        self.config = config
        self.name = config.name
        self.ip = config.ip

    def ask(self, command, timeout=10):
        """One command to the guest program, over a connection of its own."""
        with self.lab.client.control(self.ip, timeout) as connection:
            return connection.ask(command)

    def status(self, timeout=10):
        return json.loads(self.ask("status", timeout))

    def ticks(self, host):
        """The counters that this guest has printed on its serial port on that host."""
        return [int(n) for n in re.findall(r"^tick (\d+) ", self.lab[host].serial(self.name), re.M)]

    def wait_answers(self, deadline=BOOT_DEADLINE):
        """Wait until its control port answers; returns its status."""
        return wait_for(lambda: self.status(2), deadline, f"{self.name} at {self.ip} to answer",
                        0.2, (OSError, LabError))

    def ping(self, timeout=1):
        return self.lab.client.ping(self.ip, timeout)


class Guests:
    """Mixed into Lab: making guests."""

    def install_guest(self, config, hosts=None):
        """Put a guest's config and initramfs on the hosts (default: all that answer)."""
        key = guestimage.key()
        script = (f"mkdir -p {HOME} /var/log/colo-guest; cd {HOME}; "
                  f"[ \"$(cat key 2>/dev/null)\" = {key} ] || "
                  f"{{ cp {IMAGES}/initramfs*.xz . && echo {key} >key; }}; "
                  f"{config.make_disks()}; cat >{shlex.quote(config.path)}")
        names = hosts or [h.name for h in self.hosts.values() if h.answers()]
        self._each(lambda name: self[name].run(script, input=config.text(self.tsc_khz())), names)
        return config.path

    def create(self, host, config=None, paused=False, wait=True, deadline=BOOT_DEADLINE):
        """Boot a guest for real with `xl create`."""
        config = config or GuestConfig()
        deadline = Deadline(deadline)
        self.install_guest(config)
        self[host].run(["xl", "create", *(["-p"] if paused else []), config.path],
                       timeout=deadline.left())
        guest = Guest(self, config)
        if wait and not paused and config.nics:
            guest.wait_answers(deadline)
        return guest

    def restore_snapshot(self, host, config=None, paused=False, wait=True, deadline=BOOT_DEADLINE * 2):
        """A guest that has just booted, from a saved one (made on first use)."""
        config = config or GuestConfig()
        deadline = Deadline(deadline)
        key = config.snapshot_key(self.tsc_khz())
        state = paths.SNAPSHOTS / key / "state"
        if not state.exists():
            with cache.locked(f"snapshot-{key}"):
                if not state.exists():
                    self._make_snapshot(host, config, state, deadline)
        self.install_guest(config)
        self[host].run(["xl", "restore", *(["-p"] if paused else []), config.path,
                        f"/lab/snap/{key}/state"], timeout=deadline.left())
        guest = Guest(self, config)
        if wait and not paused and config.nics:
            guest.wait_answers(deadline)
        return guest

    def _make_snapshot(self, host, config, state, deadline):
        cache.say(f"booting {config.name} once, for its snapshot")
        guest = self.create(host, replace(config, preloaded=True), deadline=deadline.left())
        name = f"{config.name}-{os.getpid()}.save"
        try:
            # xl cannot save to 9p (Bad address): memory first, then copy
            self[host].run(f"xl save {shlex.quote(guest.name)} /tmp/{name} && "
                           f"cp /tmp/{name} /share/{name}", timeout=deadline.left())
            state.parent.mkdir(parents=True, exist_ok=True)
            (state.parent / "config").write_text(config.text(self.tsc_khz()))
            (self.folder / "share" / name).replace(state)
        finally:
            self[host].run(f"rm -f /tmp/{name} /share/{name}", check=False)
            with contextlib.suppress(LabError):
                self[host].run(["xl", "destroy", guest.name], check=False)


def blob(seed, count):
    """What the guest serves as /blob?bytes=COUNT&seed=SEED (splitmix64, little endian)."""
    mask = (1 << 64) - 1
    words = bytearray()
    for index in range(1, (count + 7) // 8 + 1):
        z = (seed + index * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words += (z ^ (z >> 31)).to_bytes(8, "little")
    return bytes(words[:count])


def chain(entries):
    """The head hash of the guest's log after these entries (bytes), as hex."""
    head = bytes(32)
    for entry in entries:
        head = hashlib.sha256(head + entry).digest()
    return head.hex()

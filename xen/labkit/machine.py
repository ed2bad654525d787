# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU machine that plays one host."""

import os
import socket

from . import paths
from .process import Daemon

XEN_ARGS = ("console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot cpuidle=0 "
            "bootscrub=0 spec-ctrl=no,eager-fpu dom0_mem={dom0}M,max:{dom0}M dom0_max_vcpus={cpus}")
DOM0_ARGS = "console=hvc0 earlyprintk=xen quiet net.ifnames=0 mitigations=off"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    def __init__(self, folder, name, index):
        self.folder = folder
        self.name = name
        self.index = index
        self.daemon = Daemon(folder / f"{name}.pid")
        self.log = folder / f"{name}.log"           # serial console
        self.qemu_log = folder / f"{name}.qemu.log"
        self.qmp = folder / f"{name}.qmp"
        self.serial = folder / f"{name}.serial"

    def argv(self, hosts, port, mem, cpus, dom0_mem, taps):
        # a comma would end the option; all files are named relative to the run's folder
        dom0 = (f"{DOM0_ARGS} lab.host={self.name} lab.index={self.index} "
                f"lab.hosts={'+'.join(hosts)}")
        mac = f"52:54:00:77:%02x:{self.index:02x}"
        nic = "virtio-net-pci,netdev={},mac={},romfile="
        return [
            "qemu-system-x86_64", "-name", f"lab-{self.folder.name}-{self.name}",
            "-nodefaults", "-no-user-config",
            "-accel", "tcg,thread=multi,tb-size=512", "-machine", "q35",
            "-cpu", "EPYC,-smap,-monitor,-rdtscp", "-m", str(mem), "-smp", str(cpus),
            "-display", "none", "-vga", "none", "-no-reboot",
            "-qmp", f"unix:{self.name}.qmp,server=on,wait=off",
            "-chardev", f"socket,id=s0,path={self.name}.serial,server=on,wait=off,"
                        f"logfile={self.name}.log",
            "-serial", "chardev:s0",
            "-drive", "file=dom0.img,if=none,id=d0,format=raw,snapshot=on,cache=unsafe",
            "-device", "virtio-blk-pci,drive=d0",
            "-virtfs", "local,path=lab,mount_tag=lab,security_model=none,multidevs=remap,readonly=on",
            "-virtfs", "local,path=share,mount_tag=share,security_model=none,multidevs=remap",
            "-device", "virtio-rng-pci",
            "-netdev", f"user,id=n0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22",
            "-device", nic.format("n0", mac % 0),
            "-netdev", f"tap,id=n1,fd={taps[0]}", "-device", nic.format("n1", mac % 1),
            "-netdev", f"tap,id=n2,fd={taps[1]}", "-device", nic.format("n2", mac % 2),
            "-kernel", "xen", "-append", XEN_ARGS.format(dom0=dom0_mem, cpus=cpus),
            "-initrd", f"vmlinux {dom0},initrd.gz",
        ]

    def start(self, *, taps, **options):
        try:
            for file in (self.log, self.qemu_log):
                file.unlink(missing_ok=True)
            self.daemon.start(self.argv(taps=taps, **options), cwd=self.folder,
                              log=self.qemu_log, pass_fds=taps)
        finally:
            for fd in taps:
                os.close(fd)

    def running(self):
        return self.daemon.pid() is not None

    def console_tail(self, lines=25):
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            text = ""
        try:
            text += self.qemu_log.read_text(errors="replace")
        except OSError:
            pass
        return "\n".join(text.splitlines()[-lines:])

    def booted(self):
        try:
            return f"lab: ready {self.name}" in self.log.read_text(errors="replace")
        except OSError:
            return False


def link_files(folder):
    """Short names, in the run's folder, for what the machines are started from."""
    for name, target in (("xen", paths.XEN), ("vmlinux", paths.DOM0_KERNEL),
                         ("initrd.gz", paths.INITRD), ("dom0.img", paths.DISK),
                         ("lab", paths.SHARED)):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)

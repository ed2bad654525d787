# SPDX-License-Identifier: GPL-2.0-only
"""The guest's kernel and initramfs (stubdom/guest, one static program)."""

import subprocess

from . import cache, cpio, guestkernel, paths
from .errors import LabError
from .modules import Modules

CFLAGS = ["-std=gnu11", "-O2", "-g0", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"]
MODULES = ["e1000", "button", "evdev"]


def build():
    """Needs the unpacked dom0 root (for the kernel); called under the build lock."""
    kernel = paths.KERNEL
    key = cache.digest(paths.GUEST_SOURCES, kernel, paths.REPO / "xen/labkit/guestimage.py",
                       *(paths.REPO / f"xen/labkit/{name}.py"
                         for name in ("bzimage", "cpio", "guestkernel", "modules")))
    target = paths.GUEST / "initramfs.gz"
    if cache.up_to_date(target, key):
        return
    cache.say("building the guest image")
    paths.GUEST.mkdir(parents=True, exist_ok=True)
    program = paths.LAB / "guest-init"
    done = subprocess.run(["gcc", *CFLAGS, "-o", program, "-s",
                           *sorted(paths.GUEST_SOURCES.glob("*.c"))],
                          capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"the guest's program does not build:\n{done.stderr}")
    modules = Modules(paths.ROOT)
    archive = cpio.Archive()
    archive.char_device("dev/console", 5, 1)
    archive.file("init", program.read_bytes(), 0o755)
    for number, file in enumerate(modules.load_order(MODULES)):
        archive.file(f"modules/{number:02d}.ko", (modules.base / file).read_bytes())
    archive.write(target, level=9)
    (paths.GUEST / "vmlinuz").write_bytes(kernel.read_bytes())
    guestkernel.cut(kernel.read_bytes(), paths.GUEST)
    cache.mark_built(target, key)


def key():
    """Names this guest image; saved guests are kept under it."""
    return (paths.GUEST / "initramfs.gz.key").read_text()

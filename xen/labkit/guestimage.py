# SPDX-License-Identifier: GPL-2.0-only
"""The guest's kernel and initramfs (stubdom/guest, one static program)."""

import subprocess

from . import cache, cpio, guestkernel, paths
from .errors import LabError
from .modules import Modules

CFLAGS = ["-std=gnu11", "-O2", "-g0", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"]
MODULES = ["e1000", "button", "evdev"]
# what only a guest with disks has: it is slow to boot, for the firmware reads its initramfs by the byte
DISK_SOURCES = ["database.c", "disks.c", "scribble.c"]
DISK_MODULES = [*MODULES, "ata_piix", "sd_mod", "crc32c_generic", "ext4"]
DISK_LIBRARIES = ["-lsqlite3", "-lm"]
DISK_SIZE = "32M"


def build():
    """Needs the unpacked dom0 root (for the kernel); called under the build lock."""
    kernel = paths.KERNEL
    key = cache.digest(paths.GUEST_SOURCES, kernel, paths.REPO / "xen/labkit/guestimage.py",
                       *(paths.REPO / f"xen/labkit/{name}.py"
                         for name in ("bzimage", "cpio", "guestkernel", "modules")))
    target = paths.GUEST / "initramfs.xz"
    if cache.up_to_date(target, key):
        return
    cache.say("building the guest image")
    paths.GUEST.mkdir(parents=True, exist_ok=True)
    sources = sorted(paths.GUEST_SOURCES.glob("*.c"))
    plain = [file for file in sources if file.name not in DISK_SOURCES]
    _make_initramfs(target.with_name("initramfs-disk.xz"), ["-DDISKS", *sources, *DISK_LIBRARIES],
                    DISK_MODULES)
    _make_initramfs(target, plain, MODULES)
    _make_disk(paths.GUEST / "disk.img")
    image = kernel.read_bytes()
    (paths.GUEST / "vmlinuz").write_bytes(image)
    guestkernel.cut(image, paths.GUEST)
    cache.mark_built(target, key)


def _make_initramfs(target, arguments, names):
    program = paths.LAB / "guest-init"
    done = subprocess.run(["gcc", *CFLAGS, "-o", program, "-s", *arguments],
                          capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"the guest's program does not build:\n{done.stderr}")
    modules = Modules(paths.ROOT)
    archive = cpio.Archive()
    archive.char_device("dev/console", 5, 1)
    archive.file("init", program.read_bytes(), 0o755)
    for number, file in enumerate(modules.load_order(names)):
        archive.file(f"modules/{number:02d}.ko", (modules.base / file).read_bytes())
    archive.write_xz(target)


def _make_disk(path):
    """A file system; one for all guests, so that saved ones know it already."""
    path.unlink(missing_ok=True)
    done = subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-J", "size=4", "-m", "0",
                           "-E", "lazy_itable_init=0,lazy_journal_init=0", path, DISK_SIZE],
                          capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"mke2fs: {done.stderr}")


def key():
    """Names this guest image; saved guests are kept under it."""
    return (paths.GUEST / "initramfs.xz.key").read_text()

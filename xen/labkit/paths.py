# SPDX-License-Identifier: GPL-2.0-only
"""Where things lie.  Everything the lab makes is below build/lab."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DOM0_SOURCES = REPO / "xen" / "dom0"
GUEST_SOURCES = REPO / "stubdom" / "guest"
STAGE = REPO / "build" / "stage"

LAB = REPO / "build" / "lab"
CACHE = LAB / "cache"           # downloaded packages
ROOT = LAB / "root"             # their contents
IMAGE = LAB / "image"           # xen, kernel, initrd, dom0.img, keys
SHARED = LAB / "shared"         # seen by every dom0 as /lab (read only)
GUEST = SHARED / "guest"        # guest kernel and initramfs
SNAPSHOTS = SHARED / "snap"     # saved guests
RUNS = LAB / "run"

XEN = IMAGE / "xen"
KERNEL = IMAGE / "vmlinuz"
DOM0_KERNEL = IMAGE / "vmlinux"
INITRD = IMAGE / "initrd.gz"
DISK = IMAGE / "dom0.img"
KEYS = LAB / "keys"

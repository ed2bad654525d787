# SPDX-License-Identifier: GPL-2.0-only
"""The guest's kernel, cut so that QEMU puts it into memory by itself.

For a Xen guest, QEMU hands a kernel to the firmware a byte at a time: a minute for 8 MB on the lab.
So what `kernel=` names holds the real-mode part alone, told (code32_start) that the rest is already
where it wants to run; loader devices put that there as the machine is reset.  And again at each
reset: a device model that loads a snapshot resets its machine first, so a guest that is protected
must run without these devices.  It is restored from the snapshot of one that was booted with them.
"""

import struct

from . import bzimage

PIECE = 1 << 20     # QEMU maps memory of a Xen guest by the MiB, and writes a piece through one map
START = 16 << 20


def cut(image, folder):
    """Write kernel and kernel.0, kernel.1, ... for a bzImage (bytes)."""
    for old in folder.glob("kernel*"):
        old.unlink()
    setup = bzimage.setup_size(image)
    head = bytearray(image[:setup])
    struct.pack_into("<I", head, bzimage.CODE32_START, START)
    (folder / "kernel").write_bytes(head + bytes(512))      # QEMU wants something behind the setup
    for number, at in enumerate(range(setup, len(image), PIECE)):
        (folder / f"kernel.{number}").write_bytes(image[at:at + PIECE])


def arguments(folder, there):
    """For the device model; folder is `there` in dom0."""
    return [word for number in range(len(list(folder.glob("kernel.*"))))
            for word in ("-device", f"loader,addr={START + number * PIECE:#x},"
                                    f"file={there}/kernel.{number},force-raw=on")]

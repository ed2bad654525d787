# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a Linux kernel image.  Fields of its header: Linux, Documentation/arch/x86/boot.rst."""

import lzma
import struct

from .errors import LabError

SETUP_SECTS, CODE32_START, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x1f1, 0x214, 0x248, 0x24c


def setup_size(image):
    """Length of the real-mode part, in bytes."""
    return (image[SETUP_SECTS] + 1) * 512


def unpacked(image):
    """The kernel itself, an ELF file.  (Xen unpacks dom0's too, in 7 s on the lab.)"""
    start, = struct.unpack_from("<I", image, PAYLOAD_OFFSET)
    length, = struct.unpack_from("<I", image, PAYLOAD_LENGTH)
    start += setup_size(image)
    try:
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start:start + length])
    except lzma.LZMAError as error:
        raise LabError(f"dom0's kernel is not packed by xz: {error}") from error
    if kernel[:4] != b"\x7fELF":
        raise LabError("what is packed in dom0's kernel is no ELF file")
    return kernel

# SPDX-License-Identifier: GPL-2.0-only
"""Doing things inside a network namespace from this process."""

import contextlib
import ctypes
import fcntl
import os
import struct

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def path(name):
    return f"/run/netns/{name}"


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, "setns: " + os.strerror(error))


@contextlib.contextmanager
def inside(name):
    """The calling thread is in the namespace for the length of the block.

    A socket (or tap) made there stays there.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def open_tap(name, interface, offload):
    """Make a tap in the namespace and return its fd; it lives as long as the fd.

    offload lets large segments pass unsplit between the taps of one bridge
    (fast); without it the peer sees frames as they would be on a wire.
    """
    flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
    with inside(name):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
        except OSError:
            os.close(fd)
            raise
    return fd

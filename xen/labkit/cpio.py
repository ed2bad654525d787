# SPDX-License-Identifier: GPL-2.0-only
"""A writer for initramfs archives (cpio "newc"), compressed, reproducible."""

import gzip
import lzma
import stat


class Archive:
    def __init__(self):
        self._data = bytearray()
        self._inode = 0
        self._dirs = set()

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        self._inode += 1
        name = name.strip("/")
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0)
        self._data += b"070701" + b"".join(b"%08X" % f for f in fields)
        self._data += name.encode() + b"\0"
        self._pad()
        self._data += data
        self._pad()

    def _pad(self):
        self._data += b"\0" * (-len(self._data) % 4)

    def _parents(self, name):
        parts = name.strip("/").split("/")[:-1]
        for end in range(1, len(parts) + 1):
            self.directory("/".join(parts[:end]))

    def directory(self, name):
        name = name.strip("/")
        if name in self._dirs:
            return
        self._parents(name)
        self._dirs.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, name, major, minor, mode=0o600):
        self._parents(name)
        self._entry(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def write_gz(self, path, level):
        self._entry("TRAILER!!!", 0)
        path.write_bytes(gzip.compress(bytes(self._data), level, mtime=0))

    def write_xz(self, path):
        self._entry("TRAILER!!!", 0)
        # the kernel knows no other check, and a dictionary costs as much memory as the guest boots
        path.write_bytes(lzma.compress(
            bytes(self._data), check=lzma.CHECK_CRC32,
            filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20}]))

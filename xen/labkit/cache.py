# SPDX-License-Identifier: GPL-2.0-only
"""Build a thing only when its inputs changed, one builder at a time."""

import contextlib
import fcntl
import hashlib
import os
import sys
from pathlib import Path

from . import paths


def digest(*inputs):
    """Hash of strings, bytes, files and folders (names, modes and contents)."""
    state = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            _digest_path(state, item)
        else:
            data = item if isinstance(item, bytes) else str(item).encode()
            state.update(b"s%d:" % len(data) + data)
    return state.hexdigest()[:20]


def _digest_path(state, path):
    if path.is_dir():
        for child in sorted(path.rglob("*")):
            if "__pycache__" in child.parts or child.is_dir():
                continue
            state.update(str(child.relative_to(path)).encode() + b"\0")
            _digest_path(state, child)
    else:
        data = path.read_bytes()
        mode = path.stat().st_mode & 0o111
        state.update(b"f%d:%d:" % (mode, len(data)) + data)


def up_to_date(target, key):
    stamp = target.with_name(target.name + ".key")
    return target.exists() and stamp.exists() and stamp.read_text() == key


def mark_built(target, key):
    target.with_name(target.name + ".key").write_text(key)


def forget(target):
    target.with_name(target.name + ".key").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(name):
    """Hold build/lab/NAME.lock; the lock goes with the process."""
    paths.LAB.mkdir(parents=True, exist_ok=True)
    fd = os.open(paths.LAB / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)

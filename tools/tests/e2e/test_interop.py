# SPDX-License-Identifier: GPL-2.0-only
"""Our streams and stock's are the same format, read both ways."""

import os
import subprocess

from labkit import paths

HELPER = "/usr/local/lib/xen-colo/tests/xencolo-stream"
STOCK = "/usr/sbin/xl"
FILE = "/tmp/e2e-guest.save"


def test_stock_restores_what_we_saved(world):
    name, p = world.guest.name, world.p
    entry = world.memory.append("in the file")
    p.run([HELPER, "save", p.domid(name), FILE])
    p.run([STOCK, "destroy", name], check=False)
    p.run([STOCK, "restore", FILE])
    p.run(["rm", FILE])
    world.memory.check(length=entry)


def test_we_restore_what_stock_saved(world):
    name, p = world.guest.name, world.p
    entry = world.memory.append("in the file")
    p.run([STOCK, "save", name, FILE])
    p.run([HELPER, "restore", FILE, name])
    p.run(["rm", FILE])
    world.memory.check(length=entry)


def test_stock_verifies_our_libxc_stream(world):
    """verify-stream-v2 knows every record of a plain stream and checks it."""
    name, p = world.guest.name, world.p
    p.run(f"{HELPER} libxc-save {p.domid(name)} {FILE} && mv {FILE} /share/e2e-guest.libxc")
    file = world.lab.folder / "share" / "e2e-guest.libxc"
    tool = paths.ROOT / "usr/lib/xen-4.17"
    try:
        done = subprocess.run(
            ["/usr/bin/python3", tool / "bin/verify-stream-v2", "-f", "libxc", "-v", "-i", file],
            env=dict(os.environ, PYTHONPATH=str(tool / "lib/python")), capture_output=True,
            text=True, check=False)
    finally:
        file.unlink()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = done.stdout + done.stderr
    for record in ("Page data", "HVM context", "HVM params", "TSC info", "End"):
        assert record.lower() in text.lower(), text[:3000]
    world.memory.check()

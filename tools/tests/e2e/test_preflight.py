# SPDX-License-Identifier: GPL-2.0-only
"""What cannot be protected is refused before anything is touched, with a word that never changes.

The guests here exist, but most never run: preflight looks at what they are.  Every other reason is
in the unit tests test-preflight and test-preflight-host.
"""

import contextlib

import pytest

from labkit import GuestConfig
from labkit.guest import CMDLINE


def refused(stage, name, p, s, reason, *options):
    """`xl remus --colo` of that guest is refused for that reason, and leaves nothing."""
    before = p.domains()
    protection = stage.protect(name, p, s, *options)
    assert protection.wait_end(60) == 2
    assert f"[{reason}]" in protection.output(), protection.output()
    assert p.domains() == before
    return protection.output()


@contextlib.contextmanager
def paused(stage, host, config):
    """A guest that is built and does not run."""
    stage.lab.create(host.name, config, paused=True)
    try:
        yield
    finally:
        host.run(["xl", "destroy", config.name])


def still_well(world):
    world.memory.check()
    world.nothing_at(world.s)
    world.nothing_at(world.p, [world.guest.name])


@pytest.mark.parametrize("reason, extra", [
    ("not-hvm", {"type": "pvh", "device_model_args_hvm": [], "serial": "", "vif": []}),
    ("loader-device", {"device_model_args": [
        "-device", "loader,file=/etc/hostname,addr=0x1000000,force-raw=on"]}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_kind_of_guest(world, reason, extra):
    config = GuestConfig(name="odd", ip="10.78.0.20", extra=extra)
    with paused(world.stage, world.p, config):
        refused(world.stage, "odd", world.p, world.s, reason)
    still_well(world)


def test_guest_paused(world):
    world.p.run(["xl", "pause", world.guest.name])
    refused(world.stage, world.guest.name, world.p, world.s, "guest-paused")
    world.p.run(["xl", "unpause", world.guest.name])
    still_well(world)


def test_name_in_use_there(world):
    config = GuestConfig(name=world.guest.name, ip="10.78.0.20", memory=64)
    with paused(world.stage, world.s, config):
        refused(world.stage, world.guest.name, world.p, world.s, "name-in-use")
    still_well(world)


def test_file_missing_there(world):
    image = "/var/lib/colo-guest/initramfs.xz"
    world.s.run(f"mv {image} {image}.away")
    try:
        text = refused(world.stage, world.guest.name, world.p, world.s, "file-missing")
        assert image in text
    finally:
        world.s.run(f"mv {image}.away {image}")
    still_well(world)


def test_no_memory_there(world):
    free = int(world.s.out("xl info free_memory"))
    config = GuestConfig(name="hog", ip="10.78.0.20", memory=free - 100)
    with paused(world.stage, world.s, config):
        refused(world.stage, world.guest.name, world.p, world.s, "no-memory")
    still_well(world)


def test_no_such_guest(world):
    protection = world.stage.protect("nobody", world.p, world.s, via="ssh")
    assert protection.wait_end(30) == 2
    assert "[no-such-guest]" in protection.output()
    still_well(world)


def test_no_such_host(world):
    protection = world.start("-s", "ssh nowhere.invalid", via="ssh")
    assert protection.wait_end(60) == 2
    assert "no-connection" in protection.output(), protection.output()
    still_well(world)


@pytest.mark.long
def test_pv_drivers_active(world):
    """A guest that knows that it runs on Xen takes part in its own suspend."""
    line = CMDLINE.replace("nopv xen_nopv ", "")
    config = GuestConfig(name="pv", ip="10.78.0.21", extra={
        "extra": f"{line} guest.ip=10.78.0.21/24 guest.tick=100"})
    # not booted by loader devices, which are refused, too
    guest = world.lab.restore_snapshot(world.p.name, config)
    refused(world.stage, "pv", world.p, world.s, "guest-pv-drivers-active")
    assert guest.status()["counter"] > 0
    world.p.run(["xl", "destroy", "pv"])
    still_well(world)

# SPDX-License-Identifier: GPL-2.0-only
"""The dom0 disk, its initrd, the hypervisor and the keys, from the packages."""

import gzip
import os
import shutil
import subprocess

from . import bzimage, cache, cpio, packages, paths
from .errors import LabError
from .modules import Modules, depmod

DISK_SIZE = "6G"                     # sparse
INITRD_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "crc32c_intel"]
# what dom0 may want to load; the rest of the kernel package stays out
MODULE_FOLDERS = ["net", "drivers/xen", "drivers/net/xen-netback", "drivers/block", "drivers/virtio",
                  "fs/9p", "fs/ext4", "fs/overlayfs", "drivers/char/hw_random"]
MODULE_NAMES = ["tun", "veth", "ifb", "dummy", "macvlan", "macvtap", "virtio_net", "loop", "nbd",
                "vhost_net", "net_failover", "crc32c_generic", "crc32c_intel"]

PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
sshd:x:101:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nkvm:x:106:\nnogroup:x:65534:\n"


def build():
    """Bring everything below build/lab up to date."""
    with cache.locked("build"):
        packages.install_host_packages()
        _make_keys()
        debs = packages.download_dom0_packages()
        names = "\n".join(f.name for f in debs)
        _build_root(debs, names)
        _build_disk(names)
        from . import guestimage
        guestimage.build()


def _make_keys():
    paths.KEYS.mkdir(parents=True, exist_ok=True)
    for name in ("host", "root"):
        key = paths.KEYS / name
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{name}",
                            "-f", key], check=True)
    host = " ".join((paths.KEYS / "host.pub").read_text().split()[:2])
    (paths.KEYS / "known_hosts").write_text(f"* {host}\n")


def _build_root(debs, names):
    key = cache.digest(names, paths.REPO / "xen/labkit/packages.py")
    if cache.up_to_date(paths.ROOT, key):
        return
    cache.say("unpacking the dom0 packages")
    cache.forget(paths.ROOT)
    packages.unpack(debs, paths.ROOT)
    Modules(paths.ROOT)              # writes modules.dep
    cache.mark_built(paths.ROOT, key)


def _build_disk(names):
    here = paths.REPO / "xen/labkit"
    key = cache.digest(names, paths.DOM0_SOURCES,
                       *(here / f"{name}.py"
                         for name in ("bzimage", "image", "cpio", "modules", "packages")),
                       paths.KEYS / "host.pub", paths.KEYS / "root.pub")
    if cache.up_to_date(paths.DISK, key):
        return
    cache.say("building the dom0 image")
    paths.IMAGE.mkdir(parents=True, exist_ok=True)
    cache.forget(paths.DISK)
    modules = Modules(paths.ROOT)
    tree = paths.LAB / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    # hard links: the image is made from a copy that costs no space
    subprocess.run(["cp", "-al", paths.ROOT, tree], check=True)
    _trim_modules(tree, modules)
    _furnish(tree)
    _hypervisor(tree, modules)
    _initrd(tree, modules)
    new = paths.DISK.with_suffix(".new")
    new.unlink(missing_ok=True)
    done = subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "dom0",
                           "-E", "lazy_itable_init=1,root_owner=0:0",
                           "-d", tree, new, DISK_SIZE], capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"mke2fs failed: {done.stderr}")
    new.replace(paths.DISK)
    shutil.rmtree(tree)
    cache.mark_built(paths.DISK, key)


def _trim_modules(tree, modules):
    keep = set(modules.load_order(modules.below(*MODULE_FOLDERS) + MODULE_NAMES + INITRD_MODULES))
    base = tree / "usr/lib/modules" / modules.version
    for file in base.rglob("*.ko"):
        if str(file.relative_to(base)) not in keep:
            file.unlink()
    for file in base.glob("modules.*"):     # unlink first: hard links to the unpacked tree
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
    (base / "modules.dep").unlink()
    depmod(tree, modules.version)


def _write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _furnish(tree):
    """What the packages' own scripts would have done, and the lab's files."""
    sources = paths.DOM0_SOURCES
    _write(tree / "etc/passwd", PASSWD)
    _write(tree / "etc/group", GROUP)
    _write(tree / "etc/shadow", "root:*:19000:0:99999:7:::\n", 0o600)
    _write(tree / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    _write(tree / "etc/inittab", (sources / "inittab").read_text())
    _write(tree / "etc/profile", (sources / "profile").read_text())
    _write(tree / "etc/lab/modules", (sources / "modules").read_text())
    for name in ("boot", "console"):
        _write(tree / "etc/lab" / name, (sources / name).read_text(), 0o755)
    _write(tree / "etc/xen/scripts/vif-lab", (sources / "vif-lab").read_text(), 0o755)
    _write(tree / "etc/xen/xl.conf", 'autoballoon="off"\nvif.default.bridge="xenbr0"\n')
    for name in ("proc", "sys", "dev", "run", "tmp", "root/.ssh", "lab", "share", "mnt",
                 "var/lib/xen", "var/lib/xenstored", "var/log/xen"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, target in (("var/run", "/run"), ("var/lock", "/run/lock")):
        if not (tree / name).is_symlink():
            shutil.rmtree(tree / name, ignore_errors=True)
            (tree / name).symlink_to(target)

    ssh = tree / "etc/ssh"
    _write(ssh / "sshd_config", (sources / "sshd_config").read_text())
    _write(ssh / "ssh_config", (sources / "ssh_config").read_text())
    _write(ssh / "ssh_known_hosts", (paths.KEYS / "known_hosts").read_text())
    _write(ssh / "ssh_host_ed25519_key", (paths.KEYS / "host").read_text(), 0o600)
    _write(tree / "root/.ssh/id_ed25519", (paths.KEYS / "root").read_text(), 0o600)
    _write(tree / "root/.ssh/authorized_keys", (paths.KEYS / "root.pub").read_text(), 0o600)
    (tree / "root").chmod(0o700)
    (tree / "root/.ssh").chmod(0o700)

    _applets(tree)
    if not (tree / "usr/bin/sh").is_symlink():
        (tree / "usr/bin/sh").unlink(missing_ok=True)
        (tree / "usr/bin/sh").symlink_to("bash")
    subprocess.run(["/sbin/ldconfig", "-r", tree], check=True)


def _applets(tree):
    """busybox under every name that no package provides; it is also PID 1."""
    busybox = tree / "usr/bin/busybox"
    listing = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    folders = [tree / "usr" / d for d in ("bin", "sbin")]
    for line in listing.stdout.split():
        name = line.rsplit("/", 1)[-1]
        if any(os.path.lexists(d / name) for d in folders):
            continue
        folder = "sbin" if "sbin" in line else "bin"
        (tree / "usr" / folder / name).symlink_to("/bin/busybox")
    # modprobe: kmod's wants indexes that busybox's depmod does not make, and the kernel calls it
    for name in ("init", "modprobe"):
        (tree / "usr/sbin" / name).unlink(missing_ok=True)
        (tree / "usr/sbin" / name).symlink_to("/bin/busybox")


def _hypervisor(tree, modules):
    packed = sorted((tree / "boot").glob("xen-*-amd64.gz"))[-1]
    paths.XEN.write_bytes(gzip.decompress(packed.read_bytes()))
    kernel = (tree / "boot" / f"vmlinuz-{modules.version}").read_bytes()
    paths.KERNEL.write_bytes(kernel)
    paths.DOM0_KERNEL.write_bytes(bzimage.unpacked(kernel))


def _initrd(tree, modules):
    archive = cpio.Archive()
    archive.char_device("dev/console", 5, 1)
    archive.char_device("dev/null", 1, 3, 0o666)
    archive.file("bin/busybox", (tree / "usr/bin/busybox").read_bytes(), 0o755)
    archive.file("init", (paths.DOM0_SOURCES / "initramfs-init").read_bytes(), 0o755)
    order = modules.load_order(INITRD_MODULES)
    for file in order:
        archive.file("modules/" + os.path.basename(file), (modules.base / file).read_bytes())
    archive.file("modules/order", "\n".join(map(os.path.basename, order)).encode() + b"\n")
    archive.write_gz(paths.INITRD, level=1)

# SPDX-License-Identifier: GPL-2.0-only
"""Distribution packages: what the machine needs, and what dom0 is made of."""

import os
import shutil
import subprocess

from . import cache, paths
from .errors import LabError

# command -> package, for the machine that runs the lab
HOST_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "bridge": "iproute2",
    "gcc": "gcc",
    "tar": "tar",
    "dpkg-deb": "dpkg",
}
HOST_FILES = {"/usr/lib/x86_64-linux-gnu/libc.a": "libc6-dev",
              "/usr/lib/x86_64-linux-gnu/libsqlite3.a": "libsqlite3-dev",
              "/usr/include/xxhash.h": "libxxhash-dev",
              "/usr/lib/python3/dist-packages/xxhash": "python3-xxhash"}

DOM0_PACKAGES = """
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils
    qemu-system-xen linux-image-amd64
    bash libc-bin coreutils grep sed gawk findutils tar gzip busybox-static util-linux procps kmod e2fsprogs
    iproute2 bridge-utils nftables ethtool iputils-ping iputils-arping tcpdump
    socat openssh-server openssh-client netbase
    libyajl2 libuuid1 libnl-3-200 libnl-route-3-200 libgnutls30 libcap-ng0 nbdkit libjudydebian1
    strace gdb
""".split()

ENV = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")


def apt_get(*args):
    done = subprocess.run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600", *args],
                          env=ENV, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise LabError(f"apt-get {' '.join(args)} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def missing_host_packages():
    search = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    missing = {p for c, p in HOST_TOOLS.items() if not shutil.which(c, path=search)}
    missing |= {p for f, p in HOST_FILES.items() if not os.path.exists(f)}
    return sorted(missing)


def install_host_packages():
    missing = missing_host_packages()
    if not missing:
        return
    command = ["install", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise LabError("missing on this machine; run: apt-get " + " ".join(command))
    cache.say("installing " + " ".join(missing))
    try:
        apt_get(*command)
    except LabError:
        apt_get("update")
        apt_get(*command)


def download_dom0_packages():
    """Download the dom0 packages and all they depend on; returns the .deb files.

    An empty status file makes apt resolve from nothing, so that the set does not
    depend on what the machine happens to have.
    """
    debs = paths.CACHE / "debs"
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    status = paths.CACHE / "status"
    status.write_text("")
    listing = paths.CACHE / "debs.list"
    key = cache.digest(" ".join(DOM0_PACKAGES))
    if cache.up_to_date(listing, key):
        files = [debs / name for name in listing.read_text().split()]
        if all(f.exists() for f in files):
            return files

    options = ["-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={debs}",
               "-o", "Debug::NoLocking=true", "--no-install-recommends"]
    cache.say("downloading the dom0 packages")
    try:
        apt_get(*options, "--download-only", "install", *DOM0_PACKAGES)
    except LabError:
        apt_get("update")
        apt_get(*options, "--download-only", "install", *DOM0_PACKAGES)
    # the simulated install names exactly the chosen versions
    plan = apt_get(*options, "--simulate", "install", *DOM0_PACKAGES)
    wanted = set()
    for line in plan.splitlines():
        if line.startswith("Inst "):
            _, name, version = line.split()[:3]
            wanted.add((name, version.strip("()").replace(":", "%3a")))
    files = []
    for name, version in sorted(wanted):
        found = list(debs.glob(f"{name}_{version.replace('[', '[[]')}_*.deb"))
        if not found:
            raise LabError(f"apt-get did not leave {name} {version} in {debs}")
        files.append(found[0])
    for stale in set(debs.glob("*.deb")) - set(files):
        stale.unlink()
    listing.write_text("\n".join(f.name for f in files) + "\n")
    cache.mark_built(listing, key)
    return files


def unpack(files, root):
    """The contents of the packages, without running any of their scripts."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in files:
        source = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        sink = subprocess.run(["tar", "-x", "-p", "-C", root, "--keep-directory-symlink",
                               "--exclude=./usr/share/doc", "--exclude=./usr/share/man",
                               "--exclude=./usr/share/locale", "--exclude=./usr/share/info"],
                              stdin=source.stdout, stderr=subprocess.PIPE, text=True)
        source.stdout.close()
        if source.wait() or sink.returncode:
            raise LabError(f"cannot unpack {deb.name}: {sink.stderr}")

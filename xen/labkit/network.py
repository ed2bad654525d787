# SPDX-License-Identifier: GPL-2.0-only
"""The wires of a run: one network namespace with two bridges and no way out.

  link   the private link between the hosts, 10.77.0.0/24
  lan    the guests' segment, 10.78.0.0/24 and fd78::/64; the client is this
         namespace's own network stack, 10.78.0.100 and fd78::100
"""

import hashlib
import os
import subprocess
from pathlib import Path

from . import netns, paths
from .errors import LabError

CLIENT4 = "10.78.0.100"
CLIENT6 = "fd78::100"
CLIENT_MAC = "02:00:00:78:01:00"
LINK, LAN = "link", "lan"

# below /proc/sys/net
SETTINGS = {
    "ipv4/ip_forward": "0",
    "ipv6/conf/all/forwarding": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/accept_ra": "0",
    "ipv4/ping_group_range": "0 2147483647",
}


def namespace(run):
    """Named after the run and the repository, so that clones do not meet."""
    tag = hashlib.sha256(str(paths.REPO).encode()).hexdigest()[:6]
    return f"xenlab-{tag}-{run}"


class Network:
    def __init__(self, run):
        self.name = namespace(run)

    def exists(self):
        return os.path.exists(netns.path(self.name))

    def _ip(self, *args):
        self._tool("ip", "-n", self.name, *args)

    @staticmethod
    def _tool(*args):
        done = subprocess.run(args, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"{' '.join(args)}: {done.stderr.strip()}")

    def up(self):
        self._tool("ip", "netns", "add", self.name)
        self._settings()
        self._ip("link", "set", "lo", "up")
        for bridge in (LINK, LAN):
            self._ip("link", "add", "name", bridge, "type", "bridge", "stp_state", "0",
                     "forward_delay", "0", "mcast_snooping", "0")
            if bridge == LINK:
                self._ip("link", "set", "dev", LINK, "addrgenmode", "none")
            self._ip("link", "set", "dev", bridge, "up")
        # a bridge without an address of its own changes it with its ports: when a host loses power
        self._ip("link", "set", "dev", LAN, "address", CLIENT_MAC)
        self._ip("addr", "add", f"{CLIENT4}/24", "dev", LAN)
        self._ip("addr", "add", f"{CLIENT6}/64", "dev", LAN, "nodad")

    def _settings(self):
        # /proc/sys/net shows the writer's namespace
        with netns.inside(self.name):
            for name, value in SETTINGS.items():
                try:
                    Path("/proc/sys/net", name).write_text(value, encoding="ascii")
                except OSError as error:
                    raise LabError(f"namespace {self.name}: setting net/{name}: {error}") from error

    def down(self):
        if self.exists():
            self._tool("ip", "netns", "del", self.name)

    def plug(self, host):
        """Two taps for a host, on their bridges; returns their fds (link, lan)."""
        fds = []
        try:
            for bridge in (LINK, LAN):
                tap = f"{bridge}-{host}"
                fds.append(netns.open_tap(self.name, tap, offload=bridge == LINK))
                self._ip("link", "set", tap, "addrgenmode", "none")
                self._ip("link", "set", tap, "master", bridge, "up")
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def cut(self, bridge, host):
        """Take the host's plug off the bridge: frames vanish, no carrier change, no RST."""
        self._ip("link", "set", f"{bridge}-{host}", "nomaster")

    def mend(self, bridge, host):
        self._ip("link", "set", f"{bridge}-{host}", "master", bridge)

    def slow_down(self, bridge, host, rate):
        """So many bits a second to the host (as tc has them: "2mbit"); None: as fast as it goes."""
        self._tool("tc", "-n", self.name, "qdisc", *(("replace",) if rate else ("del",)), "dev",
                   f"{bridge}-{host}", "root",
                   *(("tbf", "rate", rate, "burst", "64k", "latency", "200ms") if rate else ()))

    def command(self, argv):
        """argv that runs inside the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

# SPDX-License-Identifier: GPL-2.0-only
"""ssh to a host: one master connection kept per host, any number of sessions over it."""

import os
import shlex
import subprocess

from . import paths
from .process import Daemon

OPTIONS = {
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "yes",
    "HostKeyAlias": "lab",
    "GlobalKnownHostsFile": "/dev/null",
    "GSSAPIAuthentication": "no",
    "PreferredAuthentications": "publickey",
    "Ciphers": "aes128-gcm@openssh.com",
    "KexAlgorithms": "curve25519-sha256",
    "ConnectTimeout": "30",
    "LogLevel": "ERROR",
}


def command_line(command):
    """One string is a shell command as it stands; a list is quoted word by word."""
    if isinstance(command, str):
        return command
    words = [str(word) for word in command]
    return words[0] if len(words) == 1 else shlex.join(words)


class Connection:
    def __init__(self, run_folder, host, port):
        self._folder = run_folder
        self._port = port
        self._control = f"{host}.ssh"        # relative: sun_path is short
        self.master = Daemon(run_folder / f"{host}.ssh.pid")

    def _base(self):
        argv = ["ssh", "-F", "none", "-i", paths.KEYS / "root", "-p", str(self._port)]
        for name, value in OPTIONS.items():
            argv += ["-o", f"{name}={value}"]
        return [*argv, "-o", f"UserKnownHostsFile={paths.KEYS / 'known_hosts'}",
                "-o", f"ControlPath={self._control}"]

    def start_master(self):
        """Returns the process; the connection stands when the control socket exists."""
        return self.master.start([*self._base(), "-o", "ControlMaster=yes", "-N", "root@127.0.0.1"],
                                 cwd=self._folder, log=self._folder / f"{self._control}.log")

    def ready(self):
        return os.path.exists(self._folder / self._control)

    def argv(self, command, tty=False):
        """To be run with cwd=folder."""
        return [*self._base(), "-o", "ControlMaster=no", *(["-tt"] if tty else ["-T"]),
                "root@127.0.0.1", command_line(command)]

    def popen(self, command, tty=False, **options):
        return subprocess.Popen(self.argv(command, tty), cwd=self._folder, **options)

    def stop(self):
        self.master.kill()
        (self._folder / self._control).unlink(missing_ok=True)

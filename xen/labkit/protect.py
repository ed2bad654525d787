# SPDX-License-Identifier: GPL-2.0-only
"""A guest under `xl remus --colo`: started on one host, watched on both."""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time

from .errors import LabError
from .wait import Deadline, wait_for

# Two emulated hosts on two processors stall now and then: dead after four seconds of silence, and
# after more when other work shares the processors (LAB_HEARTBEAT_MISSES).
HEARTBEAT_MS, HEARTBEAT_MISSES = 200, int(os.environ.get("LAB_HEARTBEAT_MISSES", "20"))
SILENCE = HEARTBEAT_MS * HEARTBEAT_MISSES / 1000
LIFE_SIGNS = ["--heartbeat", str(HEARTBEAT_MS), "--heartbeat-misses", str(HEARTBEAT_MISSES)]
RUN_DIR = "/run/xen-colo"               # our programs' own
OURS = "/run/lab"                       # what this file puts into a dom0

OVER = ("UNPROTECTED", "GUEST_DOWN", "ENDED")


def sessions(host):
    """The status of every session and monitor on a host, by guest name."""
    done = host.run(["xl", "colo-status", "-j"], check=False)
    text = done.stdout.strip()
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise LabError(f"{host.name}: xl colo-status -j printed no JSON ({error}):\n{text}\n"
                       f"{done.stderr}") from error
    if isinstance(found, dict):
        found = [found] if "guest" in found else list(found.values())
    return {one["guest"]: one for one in found}


def control(host, domid, command):
    """One request to a session's control socket; returns the reply as a dict."""
    request = shlex.quote(json.dumps({"command": command}))
    text = host.out(f"echo {request} | socat -t 10 - UNIX-CONNECT:{RUN_DIR}/{domid}.sock")
    return json.loads(text)


def _settings(env):
    return [f"{key}={value}" for key, value in (env or {}).items()]


def _script(path, text):
    """Shell that makes a script."""
    return (f"printf '#!/bin/sh\\n%s\\n' {shlex.quote(text)} >{path}.new && chmod +x {path}.new && "
            f"mv {path}.new {path}; ")


class Protection:
    """One run of `xl remus --colo NAME SECONDARY` on the primary.

    via is "ssh", or "tcp" for a plain connection on the private link: ssh moves 1 to 4 MB/s between
    emulated hosts, so that a first sync takes a minute.  env is set for xl remus, peer_env for
    the receiver.  With tty it has a terminal, so that interrupt() is a Ctrl-C.  tee is a file on the
    secondary that gets a copy of the stream (tcp only).
    """

    _ports = itertools.count(7000)

    def __init__(self, lab, name, primary, secondary, options=(), env=None, peer_env=None,
                 tty=False, via="ssh", receiver=(), tee=None):
        self.lab = lab
        self.name = name
        self.primary = lab[primary]
        self.secondary = lab[secondary]
        self._text = bytearray()
        self._listener = self._domid = None
        self._pidfile = f"{OURS}/{name}.remus"
        transport = f"{OURS}/{name}.transport"
        receive = ["env", *_settings(peer_env), "xl", "migrate-receive", "--colo", *receiver]
        if via == "tcp":
            # that of the lab's own ssh, by which the other host cannot be reached
            receive[1:1] = ["-u", "SSH_CONNECTION"]
            port = next(self._ports)
            self._listener = f"TCP-LISTEN:{port},reuseaddr,nodelay"
            # A script, because socat takes colons and commas in a command for its own.
            receiver_script = f"{OURS}/{name}.receiver"
            # xl makes its side of the socket non-blocking, which tee does not expect: hence cat
            run = f"tee {tee} | {shlex.join(receive)} | cat" if tee else f"exec {shlex.join(receive)}"
            words = ["setsid", "socat", self._listener, f"EXEC:{receiver_script},nofork"]
            self.secondary.run(f"mkdir -p {OURS}; {_script(receiver_script, run)}"
                               f"{shlex.join(words)} </dev/null >/dev/null 2>&1 &")
            script = f"socat -b 65536 - TCP:{secondary}:{port},nodelay,retry=100,interval=0.1"
        else:
            script = f'ssh "$1" {shlex.quote(shlex.join(receive))}'
        prepare = f"mkdir -p {OURS}; {_script(transport, f'exec {script}')}echo $$ >{self._pidfile}; "
        self.command = shlex.join(
            ["env", *_settings(env), "xl", "remus", "--colo", *LIFE_SIGNS, *options,
             *(["-s", transport] if via == "tcp" or peer_env or receiver else []),
             name, secondary])
        if tty:     # ssh, itself without a terminal, gives one on which no key means anything
            prepare += "stty sane cols 120; "
        self.process = self.primary.popen(
            f"{prepare}exec {self.command}", tty=tty,
            stdin=subprocess.PIPE if tty else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as stream:
            while chunk := stream.read1(65536):
                self._text += chunk

    # what it says -----------------------------------------------------------

    def output(self):
        text = self._text.decode(errors="replace").replace("\r\n", "\n")
        return text.replace("\x1b[K", "")      # what a terminal would erase

    def running(self):
        return self.process.poll() is None

    def status(self):
        """The primary's view; None when there is no session (any more)."""
        status = sessions(self.primary).get(self.name)
        self._domid = status["domid"] if status else self._domid
        return status

    def peer_status(self):
        return sessions(self.secondary).get(self.name)

    # waiting ----------------------------------------------------------------

    def wait_status(self, condition, deadline, what, peer=False, interval=0.5):
        """Wait until condition(status) holds on the primary (or its peer); returns the status.

        Looking takes a good part of a second of the host's processor, so not too often.
        """
        def check():
            status = self.peer_status() if peer else self.status()
            if status and condition(status):
                return status
            if not peer and not self.running():
                raise LabError(f"`{self.command}` ended ({self.process.returncode}) while waiting "
                               f"for {what}:\n{self.output()}")
            return None
        return wait_for(check, deadline, f"{what} of {self.name}", interval)

    def wait_protected(self, deadline=180):
        """Until the first checkpoint is made, which xl remus says; returns the status."""
        def check():
            if not self.running():
                raise LabError(f"`{self.command}` ended ({self.process.returncode}) before "
                               f"{self.name} was protected:\n{self.output()}")
            return re.search(r"(^|[\r\n]|\x1b\[K)protected: ", self.output())
        deadline = Deadline(deadline)
        wait_for(check, deadline, f"{self.name} to be protected", 0.1)
        return self.wait_status(lambda s: s["protected"], deadline, "a protected state")

    def wait_checkpoints(self, count, deadline=60):
        """Until so many checkpoints have been made in all."""
        return self.wait_status(lambda s: s["checkpoints"] >= count, deadline,
                                f"checkpoint {count}")

    def wait_taken_over(self, deadline=60):
        """Until the guest is the secondary's, under its own name; returns the time that took."""
        begun = time.monotonic()
        wait_for(lambda: self.name in self.secondary.domains(), deadline,
                 f"{self.name} to be taken over by {self.secondary.name}", 0.1)
        return time.monotonic() - begun

    def wait_end(self, deadline=30):
        """Until `xl remus` has ended; returns its exit status."""
        wait_for(lambda: not self.running(), deadline, f"`{self.command}` to end", 0.05)
        self._reader.join(5)
        return self.process.returncode

    # what it is told ----------------------------------------------------------

    def checkpoint(self, deadline=60):
        """Ask for a checkpoint now and wait until it is made; returns the status after it."""
        before = self.status()
        deadline = Deadline(deadline)
        reply = control(self.primary, before["domid"], "checkpoint")
        if "ok" not in reply:
            raise LabError(f"asking for a checkpoint: {reply}")
        return self.wait_status(
            lambda s: s["checkpoints"] > before["checkpoints"] and s["state"] == "LOCKSTEP",
            deadline, "the checkpoint asked for")

    def request_checkpoint(self):
        """The same without waiting for it."""
        return control(self.primary, self._domid or self.status()["domid"], "checkpoint")

    def pid(self):
        """The session's process on the primary."""
        return int(self.primary.out(["cat", self._pidfile]))

    def peer_pid(self):
        """The session's process on the secondary."""
        table = self.secondary.out("ps -eo pid=,ppid=,comm=,args=")
        rows = [line.split(None, 3) for line in table.splitlines()]
        found = {row[0]: row[1] for row in rows
                 if row[2] == "xl" and re.search(r"migrate-receive\b.*--colo", row[3])}
        roots = [pid for pid, parent in found.items() if parent not in found]
        if len(roots) != 1:
            raise LabError(f"{self.secondary.name}: expected one receiver, found {roots}:\n{table}")
        return int(roots[0])

    def signal(self, sig, peer=False):
        host, pid = (self.secondary, self.peer_pid()) if peer else (self.primary, self.pid())
        host.run(f"kill -{signal.Signals(sig).name[3:]} {pid}")

    def interrupt(self):
        """Ctrl-C on its terminal."""
        self._key(b"\x03")

    def suspend_key(self):
        """Ctrl-Z on its terminal."""
        self._key(b"\x1a")

    def _key(self, key):
        self.process.stdin.write(key)
        self.process.stdin.flush()

    def stop(self, deadline=30):
        """End protection in good order: the guest runs on at the primary."""
        if self.running():
            if self.primary.running():
                self.signal(signal.SIGTERM)
            self.wait_end(deadline)
        if self._listener and self.secondary.running():     # nobody may have come
            self.secondary.run(["pkill", "-f", f"^socat {self._listener}"], check=False)

    def abandon(self):
        """After a power cut: the local end of a session that is gone."""
        if self.running():
            self.process.kill()
        self.process.wait()


class TestPoint:
    """A place in a session at which it stops (XEN_COLO_TESTPOINT) until it is let go on."""

    __test__ = False        # not for pytest to collect

    def __init__(self, name, count=1):
        self.name = name
        self.env = {"XEN_COLO_TESTPOINT": f"{name}:{count}"}
        self._file = f"{RUN_DIR}/testpoint.{name}"

    def wait(self, host, deadline=60):
        wait_for(lambda: host.run(["test", "-e", self._file], check=False).returncode == 0,
                 deadline, f"{host.name} to reach test point {self.name}", 0.1)

    def release(self, host):
        host.run(["rm", "-f", self._file])

# SPDX-License-Identifier: GPL-2.0-only
"""Processes that outlive the command that started them, known by pid and start time."""

import os
import select
import signal
import subprocess


def start_time(pid):
    """Ticks since boot at which pid started, None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return None
    if fields[0] == b"Z":
        return None
    return int(fields[19])


class Daemon:
    """A process recorded in a pid file, so that another command can end it."""

    def __init__(self, pidfile):
        self.pidfile = pidfile

    def start(self, argv, cwd, log, pass_fds=(), env=None):
        with open(log, "ab") as out:
            child = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     pass_fds=pass_fds, start_new_session=True, env=env)
        self.record(child.pid)
        self.child = child
        return child

    def record(self, pid):
        self.pidfile.write_text(f"{pid} {start_time(pid)}\n")

    def pid(self):
        """Its pid while it runs, otherwise None."""
        try:
            pid, started = self.pidfile.read_text().split()
        except (OSError, ValueError):
            return None
        if started != "None" and start_time(int(pid)) == int(started):
            return int(pid)
        return None

    def kill(self, sig=signal.SIGKILL, timeout=10):
        """End it and wait until it is gone."""
        pid = self.pid()
        if pid is not None:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                handle = None
            if handle is not None:
                try:
                    if self.pid() == pid:
                        signal.pidfd_send_signal(handle, sig)
                        if not select.select([handle], [], [], timeout)[0]:
                            signal.pidfd_send_signal(handle, signal.SIGKILL)
                            select.select([handle], [], [], timeout)
                except ProcessLookupError:
                    pass
                finally:
                    os.close(handle)
        child = getattr(self, "child", None)
        if child is not None:
            child.poll()
        self.pidfile.unlink(missing_ok=True)

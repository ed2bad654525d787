# SPDX-License-Identifier: GPL-2.0-only
"""One host of a run: commands, files, power."""

import signal
import subprocess

from .errors import CommandError, LabError
from .machine import Machine
from .qmp import QMP
from .ssh import Connection
from .wait import wait_for


class Host:
    def __init__(self, lab, name, index, port):
        self.lab = lab
        self.name = name
        self.index = index
        self.link_address = f"10.77.0.{index}"
        self.machine = Machine(lab.folder, name, index)
        self.ssh = Connection(lab.folder, name, port)

    def __repr__(self):
        return f"<host {self.name} of run {self.lab.run}>"

    # commands ---------------------------------------------------------------

    def run(self, command, check=True, timeout=120, input=None, text=True):
        """Run a command in dom0: a string goes to its shell, a list is passed word by word.

        Returns subprocess.CompletedProcess with stdout and stderr captured.
        """
        options = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        try:
            done = subprocess.run(self.ssh.argv(command), cwd=self.lab.folder, text=text,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=timeout, **options)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {command!r} still running after {timeout} s; so far: "
                           f"{error.stdout!r} {error.stderr!r}") from error
        if check and done.returncode:
            raise CommandError(self.name, command, done)
        return done

    def out(self, command, **options):
        """The command's stdout without the last newline."""
        return self.run(command, **options).stdout.rstrip("\n")

    def popen(self, command, tty=False, **options):
        """Start a command in dom0; the local end is an ordinary Popen (an ssh session).

        With tty=True the remote side gets a terminal and dies with the session.
        """
        return self.ssh.popen(command, tty, **options)

    # files ------------------------------------------------------------------

    def write(self, path, data):
        if isinstance(data, str):
            data = data.encode()
        self.run('mkdir -p "$(dirname {0})" && cat >{0}'.format(_quote(path)), input=data, text=False)

    def read(self, path):
        return self.run(["cat", path], text=False).stdout

    def pull(self, path, target):
        """Copy a file or folder of dom0 below target (a folder here)."""
        sender = self.popen(["tar", "-C", "/", "-c", str(path).lstrip("/")], stdout=subprocess.PIPE)
        done = subprocess.run(["tar", "-x", "-C", target], stdin=sender.stdout)
        sender.stdout.close()
        if sender.wait() or done.returncode:
            raise LabError(f"cannot copy {path} from {self.name}")

    def push_tree(self, tree):
        """Unpack a folder of this machine over dom0's root."""
        sender = subprocess.Popen(["tar", "-C", tree, "--owner=0", "--group=0", "-c", "."],
                                  stdout=subprocess.PIPE)
        done = subprocess.run(
            self.ssh.argv("tar -x -C / --keep-directory-symlink --no-overwrite-dir && ldconfig"),
            cwd=self.lab.folder, stdin=sender.stdout, capture_output=True, text=True)
        sender.stdout.close()
        if sender.wait() or done.returncode:
            raise LabError(f"push to {self.name} failed: {done.stderr}")

    # power and state ----------------------------------------------------------

    def running(self):
        return self.machine.running()

    def answers(self):
        """It runs and has booted as far as ssh."""
        return self.running() and self.ssh.ready()

    def kill(self):
        """Power cut: SIGKILL of the machine; returns when it is gone."""
        self.machine.daemon.kill(signal.SIGKILL)

    def freeze(self):
        """Stop the whole machine without its peers being told (thaw undoes it)."""
        with self.qmp() as qmp:
            qmp.execute("stop")

    def thaw(self):
        with self.qmp() as qmp:
            qmp.execute("cont")

    def qmp(self):
        """A QMP connection to the machine (one at a time)."""
        return QMP(str(self.machine.qmp))

    def domains(self):
        """{name: domid} of all guests, without Domain-0."""
        found = {}
        for line in self.out(["xl", "list"]).splitlines()[1:]:
            fields = line.split()
            if fields[1] != "0":
                found[fields[0]] = int(fields[1])
        return found

    def domid(self, name):
        return int(self.out(["xl", "domid", name]))

    def serial(self, name):
        """All that guest NAME has written on its serial port on this host."""
        return self.run(["cat", f"/var/log/colo-guest/{name}.serial"], check=False).stdout

    def serial_input(self, name, line, timeout=30):
        """Type one command on the guest's serial port; returns the answer line."""
        # QEMU looks once a second whether somebody holds the pty, and takes no input
        # before, so hold it, reading along, until the log has a line more that is no tick.
        # (In a subshell: a session's leader would make the pty its controlling terminal.)
        script = r"""
            tty=$(xenstore-read "/local/domain/$(xl domid "$1")/serial/0/tty") || exit 1
            log=/var/log/colo-guest/${1%--incoming}.serial
            # what is no tick, nor the beginning of one
            others() { grep -avE '^(t|ti|tic|tick|tick .*)?$' "$log"; }
            lines() { others | grep -ac ''; }
            had=$(lines)
            (
                exec 3<>"$tty"
                printf '%s\n' "$2" >&3
                until [ "$(lines)" -gt "$had" ]; do read -r -t 1 _ <&3; done
                read -r -t 1 _ <&3      # to its end
            )
            others | tail -n +$((had + 1)) | head -n 1
        """
        return self.out(["bash", "-c", script, "bash", name, line], timeout=timeout)

    def console_text(self):
        """Xen's and dom0's messages."""
        return self.machine.log.read_text(errors="replace")

    def wait_domain_gone(self, name, deadline=60):
        wait_for(lambda: name not in self.domains(), deadline, f"{name} to leave {self.name}")


def _quote(text):
    import shlex
    return shlex.quote(str(text))

# SPDX-License-Identifier: GPL-2.0-only
"""What the lab raises."""


class LabError(Exception):
    """The lab cannot do what was asked; the text says what, why and what to do."""


class Timeout(LabError):
    """A condition was not met before its deadline."""


class CommandError(LabError):
    """A command on a host failed and the caller wanted it to succeed."""

    def __init__(self, where, command, result):
        self.returncode = result.returncode
        self.stdout = result.stdout
        self.stderr = result.stderr
        super().__init__(
            f"{where}: {command!r} exited {result.returncode}\n"
            f"{_tail(result.stdout)}{_tail(result.stderr)}")


def _tail(text, limit=4000):
    if not text:
        return ""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return text[-limit:].rstrip() + "\n"

# SPDX-License-Identifier: GPL-2.0-only
"""Waiting: always for a condition, always with a deadline."""

import time

from .errors import Timeout


class Deadline:
    """A point in time that several steps share."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.start = time.monotonic()
        self.end = self.start + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def passed(self):
        return time.monotonic() >= self.end

    def elapsed(self):
        return time.monotonic() - self.start


def wait_for(condition, deadline, what, interval=0.1, ignore=()):
    """Poll condition() until it is true and return its value.

    deadline is seconds or a Deadline.  An exception of a type in ignore counts
    as "not yet"; the last one is named in the Timeout.
    """
    if not isinstance(deadline, Deadline):
        deadline = Deadline(deadline)
    last = None
    while True:
        error = None
        try:
            value = condition()
            if value:
                return value
            last = value
        except ignore as caught:
            error = last = caught
        if deadline.passed():
            raise Timeout(f"waited {deadline.elapsed():.1f} s for {what}; "
                          f"last seen: {last!r}") from error
        time.sleep(min(interval, max(0.001, deadline.left())))

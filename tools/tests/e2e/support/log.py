# SPDX-License-Identifier: GPL-2.0-only
"""The guest's life as a client sees it: its counter and its chained log, before and after."""

from labkit.guest import chain


class Memory:
    """What the guest must still know.  Its log is a hash chain, so one wrong byte shows."""

    def __init__(self, guest):
        self.guest = guest
        status = guest.status()
        self.boot_id = status["boot_id"]
        self.counter = status["counter"]
        self.heads = {status["log_length"]: status["log_head"]}

    def append(self, text):
        """Append a line; returns the log's length after it."""
        length, head = self.guest.ask(f"append {text}", timeout=60).split()
        self.heads[int(length)] = head
        return int(length)

    def note(self):
        """The counter now, as the least that may be seen later on."""
        self.counter = self.guest.status()["counter"]
        return self.counter

    def check(self, length=None, counter=None, deadline=60):
        """The guest answers, is the same, ticks on, and its log is whole and of that length."""
        status = self.guest.wait_answers(deadline)
        assert status["boot_id"] == self.boot_id, "the guest was booted anew"
        least = self.counter if counter is None else counter
        assert status["counter"] >= least, f"the counter went back: {status['counter']} < {least}"
        verdict = self.guest.ask("log verify").split()
        assert verdict[0] == "ok", f"the guest's log is damaged: {verdict}"
        here, head = int(verdict[1]), verdict[2]
        if length is not None:
            assert here == length, f"the log has {here} entries, {length} were expected"
        assert here in self.heads, f"the log has {here} entries, known: {sorted(self.heads)}"
        assert head == self.heads[here], "the log's head is not what the guest had answered"
        from labkit import wait_for
        wait_for(lambda: self.guest.status()["counter"] > status["counter"], 10,
                 "the counter to go on")
        return here


__all__ = ["Memory", "chain"]

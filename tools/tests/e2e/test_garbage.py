# SPDX-License-Identifier: GPL-2.0-only
"""What `xl migrate-receive --colo` makes of streams that are none."""

import re

import pytest

from labkit import wait_for

RECEIVE = "xl migrate-receive --colo"


def refused(world, feed):
    """The receiver, fed by that command, ends by itself, says why, and leaves nothing."""
    done = world.s.run(f"{{ {feed}; }} | {{ timeout 60 {RECEIVE} >/tmp/e2e-out 2>&1; "
                       "echo \"exit $?\" >>/tmp/e2e-out; }; cat /tmp/e2e-out", timeout=90, text=False)
    # what goes to the peer is binary
    text = re.sub(r"[^\n\x20-\x7e]", "?", done.stdout.decode("latin-1"))
    status = int(re.search(r"exit (\d+)", text)[1])
    assert 0 < status < 124, f"exit status {status}:\n{text}"
    said = [line for line in text.splitlines()
            if line.strip() and "receiver ready" not in line and not line.startswith("exit ")]
    assert said, "the receiver said nothing"
    world.nothing_at(world.s)
    return "\n".join(said)


NO_STREAMS = (
    "true", "head -c 100 /dev/zero", "head -c 1000000 /dev/urandom",
    "printf 'Xen saved domain, xl format\\n \\0 \\r'; head -c 4096 /dev/urandom",
    "printf 'Xen saved domain, xl format\\n \\0 \\r\\4\\3\\2\\1\\3\\0\\0\\0\\0\\0\\0\\0"
    "\\377\\377\\377\\377'; head -c 100000 /dev/zero",
)


def test_bytes_that_are_no_stream(world):
    """Nothing, zeros, noise, a header with flags that are none, a configuration of 4 GiB."""
    for feed in NO_STREAMS:
        refused(world, feed)


@pytest.mark.long
def test_real_stream_cut_short_and_damaged(world):
    """A session's own stream, replayed in pieces; whole sessions are cut at every byte in the
    unit tests, these few go all the way to a real domain."""
    stream = "/dev/shm/e2e-stream"
    protection = world.protect("-i", "300", tee=stream)
    protection.wait_checkpoints(3)
    protection.stop()
    world.nothing_at(world.s)
    size = int(world.s.out(["stat", "-c", "%s", stream]))
    header = world.s.run(["head", "-c", "65536", stream], text=False).stdout
    after_config = header.index(b"LibxlFmt") if b"LibxlFmt" in header else 4096
    for length in (40, 48 + 100, after_config + 16, size * 2 // 3):
        refused(world, f"head -c {length} {stream}")
    # one byte of the first image's framing overwritten
    at = header.index(b"XENF")
    refused(world, f"head -c {at} {stream}; printf XXXX; tail -c +{at + 5} {stream}")
    world.s.run(["rm", "-f", stream, "/tmp/e2e-out"])
    wait_for(lambda: not world.s.domains(), 10, "no domain to be left")
    world.memory.check()

# SPDX-License-Identifier: GPL-2.0-only
"""Clients of a guest that go on while its hosts come and go, and keep book of what they saw."""

import contextlib
import hashlib
import http.client
import json
import os
import threading
import time

import xxhash

from .client import CONTROL, ECHO, HTTP
from .guest import blob
from .wait import wait_for

PATIENCE = 120      # seconds without a byte, after which a connection counts as broken


class Traffic(threading.Thread):
    """One client in a thread of its own.  worst is the longest it had to wait for an answer, or for
    some more of it; done counts answers or bytes."""

    def __init__(self, lab, address):
        super().__init__(daemon=True)
        self.client, self.address = lab.client, address
        self.done, self.worst, self.error = 0, 0.0, None
        self._last = time.monotonic()
        self._over = threading.Event()

    def run(self):
        try:
            self._work()
        except Exception as error:  # told by end()
            self.error = error

    def progress(self, amount):
        now = time.monotonic()
        self.worst = max(self.worst, now - self._last)
        self._last = now
        self.done += amount

    def begin(self):
        """Start it and wait for its first answer or bytes; returns self."""
        self.start()
        deadline = time.monotonic() + PATIENCE
        while not self.done and self.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._check(self.done > 0)
        return self

    def end(self, patience=PATIENCE):
        """It need not go on; wait until it has ended in good order."""
        self._over.set()
        self.join(patience)
        self._check(not self.is_alive())
        return self

    def _check(self, good):
        if self.error or not good:
            raise AssertionError(f"{type(self).__name__} of {self.address}, after {self.done} "
                                 f"answers or bytes: {self.error!r}") from self.error


class Dialogue(Traffic):
    """Lines to and from the guest's echo port over one TCP connection, one after the other."""

    def __init__(self, lab, address, gap=0.2):
        super().__init__(lab, address)
        self.gap = gap

    def _work(self):
        with self.client.tcp(self.address, ECHO, PATIENCE) as sock, sock.makefile("rb") as answers:
            while not self._over.is_set():
                line = b"request %d\n" % self.done
                self._last = time.monotonic()
                sock.sendall(line)
                answer = answers.readline()
                if answer != line:
                    raise ValueError(f"{answer!r} is not the answer to {line!r}")
                self.progress(1)
                self._over.wait(self.gap)


class Pings(Traffic):
    """ICMP echo: what is not answered within a second is counted, as lost on a network."""

    def __init__(self, lab, address, gap=0.2):
        super().__init__(lab, address)
        self.gap, self.lost = gap, 0

    def _work(self):
        while not self._over.is_set():
            if self._answered():
                self.progress(1)
            else:
                self.lost += 1
            self._over.wait(self.gap)

    def _answered(self):
        return self.client.ping(self.address, 1)


class Datagrams(Pings):
    """The same by UDP to the guest's echo port."""

    def _work(self):
        with self.client.udp(self.address, ECHO, 1) as self._sock:
            super()._work()

    def _answered(self):
        text = b"datagram %d" % (self.done + self.lost)
        try:
            with contextlib.suppress(ConnectionError):
                self._sock.send(text)
            while self._sock.recv(256) != text:     # late ones
                pass
            return True
        except OSError:
            return False


class Download(Traffic):
    """GET /blob, whose bytes the seed tells.  slow: as fast as the guest's command `pace` says."""

    def __init__(self, lab, address, size, seed=7, slow=False):
        super().__init__(lab, address)
        self.path = f"/blob?bytes={size}&seed={seed}" + ("&slow=1" if slow else "")
        self.size, self.seed = size, seed

    def _work(self):
        connection = http.client.HTTPConnection(self.address, HTTP)
        connection.sock = self.client.tcp(self.address, HTTP, PATIENCE)
        connection.request("GET", self.path, headers={"Connection": "close"})
        reply = connection.getresponse()
        digest, self._last = hashlib.sha256(), time.monotonic()
        while part := reply.read1(65536):
            digest.update(part)
            self.progress(len(part))
        connection.close()
        if digest.digest() != hashlib.sha256(blob(self.seed, self.size)).digest():
            raise ValueError(f"{self.done} of {self.size} bytes, and not the right ones")


class Upload(Traffic):
    """PUT /blob; the guest answers with the checksum of what it got."""

    def __init__(self, lab, address, size):
        super().__init__(lab, address)
        self.size = size

    def _work(self):
        digest, block = xxhash.xxh64(), os.urandom(65536)
        with self.client.tcp(self.address, HTTP, PATIENCE) as sock:
            sock.sendall(f"PUT /blob HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n"
                         f"Content-Length: {self.size}\r\n\r\n".encode())
            while self.done < self.size:
                part = block[:self.size - self.done]
                sock.sendall(part)
                digest.update(part)
                self.progress(len(part))
            reply = b""
            while part := sock.recv(65536):
                reply += part
        told = json.loads(reply.split(b"\r\n\r\n", 1)[1])
        if told != {"bytes": self.size, "xxh64": digest.hexdigest()}:
            raise ValueError(f"sent {self.size} bytes of checksum {digest.hexdigest()}, "
                             f"the guest got {told}")


class Lottery(Traffic):
    """Asks for a random number, again and again: each answer makes the copies differ, and is in the
    guest's own log before it is sent.  numbers is what the client was told."""

    def __init__(self, lab, address, gap=0.0):
        super().__init__(lab, address)
        self.gap, self.numbers = gap, []

    def _work(self):
        with self.client.tcp(self.address, CONTROL, PATIENCE) as sock, sock.makefile("rb") as answers:
            while not self._over.is_set():
                self._last = time.monotonic()
                sock.sendall(b"random\n")
                value, index, head = answers.readline().decode().split()
                self.numbers.append((int(index), value, head))
                self.progress(1)
                self._over.wait(self.gap)


class Rows(Traffic):
    """Transactions, one after the other: rows is what the client was told is in the database."""

    def __init__(self, lab, address, gap=0.1):
        super().__init__(lab, address)
        self.gap, self.rows = gap, []

    def _work(self):
        with self.client.tcp(self.address, CONTROL, PATIENCE) as sock, sock.makefile("rb") as answers:
            while not self._over.is_set():
                self._last = time.monotonic()
                sock.sendall(b"row number %d\n" % self.done)
                number, head = answers.readline().decode().split()
                self.rows.append((int(number), head))
                self.progress(1)
                self._over.wait(self.gap)

    def go_on(self, more=3, deadline=120):
        had = self.done
        wait_for(lambda: self.done >= had + more or not self.is_alive(), deadline, "transactions",
                 0.1)
        self._check(self.is_alive())

    def verify(self, guest):
        """End; the guest's database must hold exactly what was acknowledged, and be whole."""
        self.end()
        answer = guest.ask("rows", timeout=120)
        number, head = self.rows[-1]
        if answer != f"ok {number} {head}":
            raise AssertionError(f"the database says {answer}, the last answer was {number} {head}")
        if [n for n, _ in self.rows] != list(range(1, number + 1)):
            raise AssertionError(f"transactions were lost or invented: {self.rows}")

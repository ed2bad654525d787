# SPDX-License-Identifier: GPL-2.0-only
"""The client on the guests' segment: an ordinary network stack in the run's namespace."""

import http.client
import json
import socket
import subprocess

from . import netns
from .errors import CommandError, LabError

CONTROL, ECHO, HTTP = 9999, 7, 80


class Client:
    def __init__(self, network):
        self._network = network
        self.namespace = network.name

    def argv(self, command):
        return self._network.command([str(word) for word in command])

    def run(self, command, check=True, timeout=60, **options):
        """Run a program as the client; returns subprocess.CompletedProcess."""
        if isinstance(command, str):
            command = ["/bin/sh", "-c", command]
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        done = subprocess.run(self.argv(command), timeout=timeout, **options)
        if check and done.returncode:
            raise CommandError("client", command, done)
        return done

    def popen(self, command, **options):
        return subprocess.Popen(self.argv(command), **options)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        """A socket of the client's stack, usable from here like any other."""
        with netns.inside(self.namespace):
            return socket.socket(family, kind)

    def _connected(self, address, port, kind, timeout):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self.socket(family, kind)
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def tcp(self, address, port, timeout=10):
        return self._connected(address, port, socket.SOCK_STREAM, timeout)

    def udp(self, address, port, timeout=10):
        return self._connected(address, port, socket.SOCK_DGRAM, timeout)

    def ping(self, address, timeout=1):
        """True when one echo request is answered in time."""
        import os
        import struct
        six = ":" in address
        with netns.inside(self.namespace):
            sock = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6) if six
                    else socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
        with sock:
            sock.settimeout(timeout)
            cookie = os.urandom(16)
            request = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0, 1) + cookie
            if not six:
                request = request[:2] + struct.pack("!H", _checksum(request)) + request[4:]
            try:
                sock.sendto(request, (address, 0))
                while cookie not in sock.recv(256):
                    pass
            except OSError:
                return False
            return True

    def control(self, address, timeout=10):
        """A control connection to a guest program (see ControlConnection)."""
        return ControlConnection(self.tcp(address, CONTROL, timeout))

    def http(self, address, method, path, body=None, timeout=60):
        """One HTTP exchange; returns (status, headers, body)."""
        connection = http.client.HTTPConnection(address, HTTP, timeout=timeout)
        connection.sock = self.tcp(address, HTTP, timeout)
        try:
            connection.request(method, path, body=body, headers={"Connection": "close"})
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()


class ControlConnection:
    """Lines to and from the guest program's control port."""

    def __init__(self, sock):
        self.sock = sock
        self._file = sock.makefile("rwb")

    def ask(self, command):
        """Send one command, return its answer line; an `error …` answer raises."""
        self._file.write(command.encode() + b"\n")
        self._file.flush()
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise LabError(f"the guest closed the control connection on {command!r}")
        answer = line.decode().rstrip("\n")
        if answer.startswith("error"):
            raise LabError(f"guest: {command!r}: {answer}")
        return answer

    def status(self):
        return json.loads(self.ask("status"))

    def close(self):
        self._file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _checksum(data):
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF

# SPDX-License-Identifier: GPL-2.0-only
"""A terminal on a host's serial port."""

import os
import select
import socket
import sys
import termios
import tty

ESCAPE = b"\x1d"        # Ctrl-]


def attach(path):
    sock = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    sock.connect(f"/proc/self/fd/{folder}/{path.name}")
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    saved = termios.tcgetattr(stdin) if os.isatty(stdin) else None
    print("connected; Ctrl-] leaves", file=sys.stderr)
    if saved:
        tty.setraw(stdin)
    try:
        sources = [sock, stdin]
        while True:
            for ready in select.select(sources, [], [])[0]:
                if ready is sock:
                    data = sock.recv(65536)
                    if not data:
                        return 0
                    os.write(stdout, data)
                else:
                    data = os.read(stdin, 4096)
                    if not data:
                        sources.remove(stdin)
                    elif ESCAPE in data:
                        return 0
                    else:
                        sock.sendall(data)
    finally:
        if saved:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
        os.close(folder)
        sock.close()

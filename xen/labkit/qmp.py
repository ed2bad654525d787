# SPDX-License-Identifier: GPL-2.0-only
"""A small QMP client for the machines that play the hosts."""

import json
import os
import socket

from .errors import LabError


class QMP:
    def __init__(self, path, timeout=10):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        # through /proc, so that a deep folder does not outgrow sun_path
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        except OSError as error:
            raise LabError(f"no QMP at {path}: {error}") from error
        finally:
            os.close(folder)
        self._file = self._socket.makefile("rw")
        self._read()
        self.execute("qmp_capabilities")

    def _read(self):
        line = self._file.readline()
        if not line:
            raise LabError("QMP connection closed")
        return json.loads(line)

    def execute(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()
        while True:
            reply = self._read()
            if "error" in reply:
                raise LabError(f"QMP {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def close(self):
        self._file.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

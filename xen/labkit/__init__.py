# SPDX-License-Identifier: GPL-2.0-only
"""The lab: real Xen hosts in QEMU TCG machines.  See xen/README.md."""

from .errors import CommandError, LabError, Timeout
from .guest import Guest, GuestConfig
from .lab import Lab
from .wait import Deadline, wait_for

__all__ = ["CommandError", "Deadline", "Guest", "GuestConfig", "Lab",
           "LabError", "Timeout", "wait_for"]

# SPDX-License-Identifier: GPL-2.0-only
"""What the end-to-end tests share beyond the lab itself (xen/labkit)."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../../../xen"))

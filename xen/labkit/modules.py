# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules: which ones, what they depend on, in load order."""

import subprocess

from .errors import LabError


class Modules:
    """The modules of an unpacked kernel package."""

    def __init__(self, root):
        base = root / "usr/lib/modules"
        versions = sorted(p.name for p in base.iterdir()) if base.is_dir() else []
        if len(versions) != 1:
            raise LabError(f"expected one kernel in {base}, found {versions}")
        self.version = versions[0]
        self.base = base / self.version
        depmod(root, self.version)
        self._files = {}
        self._needs = {}
        for line in (self.base / "modules.dep").read_text().splitlines():
            file, needs = line.split(":", 1)
            self._files[self._name(file)] = file
            self._needs[file] = needs.split()

    @staticmethod
    def _name(file):
        return file.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_")

    def load_order(self, names):
        """Files (relative to base) to insmod, dependencies first; built-ins are skipped."""
        order = []
        for name in names:
            file = self._files.get(name.replace("-", "_"))
            if file is None:
                continue
            for one in [*reversed(self._needs[file]), file]:
                if one not in order:
                    order.append(one)
        return order

    def below(self, *folders):
        """Module names in any of these folders of the tree."""
        return [name for name, file in self._files.items()
                if any(file.startswith(f"kernel/{folder}/") for folder in folders)]


def depmod(root, version):
    """Run the unpacked busybox (static) over the unpacked modules."""
    done = subprocess.run([root / "usr/bin/busybox", "depmod", "-b", root / "usr", version],
                          capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"depmod failed: {done.stderr}")

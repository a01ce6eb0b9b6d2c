"""Memory limits for the lab's Slurm: cgroups of version 1, in a directory of their own.

The kernel has one tree of them for all.  What is made there has a name that nobody else has, and
goes when the Slurm that made it is stopped; of a run that was killed empty directories stay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from pathlib import Path

from tests.lab import namespaces


def why_not() -> str | None:
    """Why Slurm cannot limit the memory of jobs here, or None."""
    if not namespaces.inside():
        return namespaces.why_not() or "it needs namespaces of its own"
    for line in Path("/proc/cgroups").read_text().splitlines():
        if line.split()[0] == "memory":
            return None if line.split()[1] != "0" else "the kernel has its memory cgroup in v2 only"
    return "the kernel has no memory cgroup"


class MemoryCgroup:
    """The memory hierarchy, mounted below a directory; ``settings`` is for Slurm's cgroup.conf."""

    def __init__(self, directory: Path) -> None:
        namespaces.require_own("a mounted cgroup")
        self.place = directory / "cgroup"
        self._whole = directory / "cgroups"
        self._name = f"openssh_jobs_{secrets.token_hex(4)}"

    @property
    def settings(self) -> str:
        return (
            "CgroupPlugin=cgroup/v1\n"
            "CgroupAutomount=no\n"
            f"CgroupMountpoint={self.place}\n"
            "ConstrainRAMSpace=yes\n"
            "MinRAMSpace=10\n"
        )

    def mount(self) -> None:
        """Mount one directory of it in the place of the whole: Slurm's own names are no secret."""
        memory = self.place / "memory"
        self._whole.mkdir(parents=True)
        memory.mkdir(parents=True)
        _run("mount", "-t", "cgroup", "-o", "memory", "none", str(self._whole))
        part = self._whole / self._name
        part.mkdir()
        _run("mount", "--bind", str(part), str(memory))

    def unmount(self) -> None:
        """Remove what was made there, by processes which have to have ended, and unmount it."""
        memory = self.place / "memory"
        _run("umount", str(memory))
        part = self._whole / self._name
        deadline = time.monotonic() + 10
        while part.exists() and time.monotonic() < deadline:
            for below, _, _ in os.walk(part, topdown=False):
                with contextlib.suppress(OSError):  # a killed process still has to be collected
                    os.rmdir(below)
            time.sleep(0.05)
        left = part.exists()
        _run("umount", str(self._whole))
        for path in (memory, self.place, self._whole):
            path.rmdir()
        assert not left, "processes of jobs are left in Slurm's cgroup"


def _run(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, timeout=20)

"""Another user of this machine, and directories that everybody may write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab import namespaces

MALLORY = namespaces.USERS[1][1]
two_users = pytest.mark.skipif(
    os.geteuid() != 0 or namespaces.MARK not in os.environ, reason="two users need the lab"
)


def as_mallory(script: str, directory: Path) -> None:
    subprocess.run(
        ["sh", "-c", script], cwd=directory, user=MALLORY, group=MALLORY, extra_groups=[],
        check=True, timeout=30,
    )  # fmt: skip

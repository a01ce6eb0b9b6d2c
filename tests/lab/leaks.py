"""What a test session left behind: processes of ours, files outside of our directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.lab import namespaces

# Relative to the real home: what ssh or we might write if the private environment had a hole.
_HOME_TRACES = (
    ".ssh",
    ".openssh_jobs",
    ".config/openssh_jobs",
    ".cache/openssh_jobs",
    ".local/state/openssh_jobs",
    ".local/share/openssh_jobs",
)


def _parents() -> set[int]:
    pid, found = os.getpid(), {1}
    while pid > 1:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def has_processes() -> bool:
    """Whether processes can be looked at here (macOS has no /proc)."""
    return os.path.exists("/proc/self/stat")


def _command_line(name: str) -> bytes:
    """Of a process that has just begun: exec(2) closes files a moment before there are words."""
    words = b""
    for _ in range(20):
        words = Path(f"/proc/{name}/cmdline").read_bytes()
        if words or not os.path.exists(f"/proc/{name}/exe"):  # threads of the kernel, zombies
            break
        time.sleep(0.005)
    return words


def processes(directory: Path, *, named_only: bool = False) -> list[str]:
    """Our processes that still run, as ``pid command``.

    Inside the lab that is everything but this process and its parents; elsewhere everything
    whose command line or environment names our directory.  ``named_only``: only those whose
    command line names it.
    """
    if not has_processes():
        return []
    mine, found = _parents(), []
    needle = os.fsencode(directory) + b"/"
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in mine:
            continue
        try:
            words = _command_line(name)
            ours = needle in words
            if not named_only:
                ours = ours or namespaces.inside()
                ours = ours or needle in Path(f"/proc/{name}/environ").read_bytes()
            if not ours:
                continue
            state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(f"{name} {words.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def wait_for_processes(
    directory: Path, patience: float = 3.0, *, named_only: bool = False
) -> list[str]:
    """The same, after those that are just ending have ended."""
    deadline = time.monotonic() + patience
    left = processes(directory, named_only=named_only)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = processes(directory, named_only=named_only)
    return left


def traces(home: Path) -> set[str]:
    """Names of files that exist now at places where only a leak of ours would put new ones."""
    found = set()
    for name in _HOME_TRACES:
        top = home / name
        if top.exists():
            found.add(str(top))
            found |= {str(path) for path in top.rglob("*")}
    for name in os.listdir("/tmp"):
        # Sockets of ours that found no better place, and sshd's for forwarded agents.
        if name == f"oj-{os.geteuid()}" or name.startswith("ssh-"):
            found.add(f"/tmp/{name}")
    return found

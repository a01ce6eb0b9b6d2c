"""A real ssh-agent, for keys that lie in no file."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from openssh_jobs.testing.sshd import find_program, make_key


def _asking(askpass: Path) -> dict[str, str]:
    return {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}


class Agent:
    """An ``ssh-agent`` on a socket in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "agent"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, askpass: Path | None = None) -> None:
        """Start, and return when the socket is there.  ``askpass`` confirms what needs it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [find_program("ssh-agent"), "-D", "-a", self.socket],
            env=None if askpass is None else os.environ | _asking(askpass),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < deadline, "ssh-agent made no socket"
            assert self._process.poll() is None, "ssh-agent ended at once"
            time.sleep(0.005)

    def new_key(self, name: str) -> str:
        """Make a key, hand it to the agent, delete its file; returns the public key's line."""
        path = self.directory / name
        make_key(path, name)
        self.add(path)
        path.unlink()
        public = path.with_name(path.name + ".pub")
        line = public.read_text()
        public.unlink()
        return line

    def add(self, path: Path, *options: str) -> None:
        """Hand a key file to the agent, with options of ssh-add(1)."""
        self._tool("-q", *options, str(path))

    def forget_all(self) -> None:
        """Drop every key, as a lock of the screen may do."""
        self._tool("-q", "-D")

    def keys(self) -> list[str]:
        """The public keys that the agent holds now."""
        done = self._ssh_add("-L")
        return done.stdout.splitlines() if done.returncode == 0 else []

    def _ssh_add(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [find_program("ssh-add"), *arguments],
            env={"SSH_AUTH_SOCK": str(self.socket), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def _tool(self, *arguments: str) -> None:
        done = self._ssh_add(*arguments)
        assert done.returncode == 0, f"ssh-add {arguments}: {done.stderr}"

    def stop(self) -> None:
        """End the agent; its keys are gone with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

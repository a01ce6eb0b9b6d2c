"""What the rows of the benchmark share: servers, connections, and how a pair is timed."""

from __future__ import annotations

import functools
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from openssh_jobs import Connection
from openssh_jobs.testing.sshd import PrivateSshd
from tests.bench.peers import SlowLink
from tests.paths import CHECKOUT

LIMIT = 300


class Comparison(NamedTuple):
    """Seconds of ours and of a peer, pair by pair; ``most``: the goal for ours over theirs."""

    peer: str
    ours: list[float]
    theirs: list[float]
    most: float | None
    what: str = ""


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pairs(
    ours: Callable[[], Any], theirs: Callable[[], Any], times: int
) -> tuple[list[float], list[float]]:
    """The two in turn, after one round that does not count."""
    ours()
    theirs()
    one, two = [], []
    for _ in range(times):
        one.append(timed(ours))
        two.append(timed(theirs))
    return one, two


class Bench:
    """The server, the slow link, and connections that are shared by the rows."""

    def __init__(self, server: PrivateSshd, slow: SlowLink, directory: Path, times: int) -> None:
        self.server = server
        self.slow = slow
        self.directory = directory
        self.times = times
        config = Path(server.config).read_text(encoding="utf-8")
        known = Path(server.known_hosts).read_text(encoding="utf-8")
        self.slow_config = directory / "slow_config"
        slow_known = directory / "slow_known"
        slow_known.write_text(known.replace(f":{server.port} ", f":{slow.port} "))
        self.slow_config.write_text(
            config.replace(f"Port {server.port}", f"Port {slow.port}").replace(
                str(server.known_hosts), str(slow_known)
            )
        )
        self._open: dict[str, Connection] = {}

    @functools.cached_property
    def installed(self) -> str:
        """A Python that has this checkout as users get it: built and installed by pip."""
        source, made = self.directory / "source", self.directory / "installed"
        source.mkdir()
        for name in ("setup.cfg", "setup.py", "README.rst", "LICENSE"):
            shutil.copy(CHECKOUT / name, source)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "openssh_jobs", source / "openssh_jobs", ignore=leave)
        call([sys.executable, "-m", "venv", str(made)])
        python = str(made / "bin" / "python")
        call(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(source)]
        )
        return python

    def connection(self, *, slow: bool = False) -> Connection:
        """A connection that is open, with what it learns of the host already learned."""
        config = str(self.slow_config if slow else self.server.config)
        if config not in self._open:
            made = Connection(self.server.alias, ssh_config=config).open()
            made.run("true")
            made.exists("/")
            self._open[config] = made
        return self._open[config]

    def socket(self, *, slow: bool = False) -> str:
        """The path of the master's socket, for peers that ride it too."""
        link = self.connection(slow=slow)._master.find()
        if link is None:
            raise RuntimeError("the master is gone")
        return link.path

    def close(self) -> None:
        """End the masters."""
        for one in self._open.values():
            one.close(stop_master=True)

    def ssh(self, *words: str, slow: bool = False, program: str = "ssh") -> list[str]:
        """The command line of a peer that uses our master."""
        options = ["-o", f"ControlPath={self.socket(slow=slow)}", "-o", "ProxyCommand=false"]
        return [program, "-F", "none", *options, *words]


def until_shown(argv: list[str], text: bytes, env: dict[str, str]) -> None:
    """Run a program on a terminal of its own until it shows a text; then it is killed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    shown = b""
    try:
        while text not in shown:
            if not select.select([terminal], [], [], LIMIT)[0]:
                raise TimeoutError(f"not shown: {text!r}")
            shown += os.read(terminal, 65536)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def call(argv: list[str], **more: Any) -> None:
    """Run a peer's command to its end; an error of its is an error here."""
    subprocess.run(argv, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL, **more)

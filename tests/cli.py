"""Ways to call the command line: in this process, as the installed program, on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect

from openssh_jobs import Connection
from tests.lab.site import Host

# The console script as pip installed it, and the same where warnings count, too.
_SCRIPT = str(Path(sys.executable).with_name("openssh-jobs"))
PROGRAM = [sys.executable, "-W", "error", "-X", "dev", _SCRIPT]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command line said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What was printed as JSON."""
        return json.loads(self.out)

    def sentence(self) -> str:
        """The one line on stderr; anything more fails the test."""
        assert self.err.endswith("\n"), self.err
        (line,) = self.err.splitlines()
        assert "Traceback" not in line
        return line


def program(*words: str, input: bytes | None = None, **env: str) -> Done:
    """The installed console script, with its streams on pipes."""
    done = subprocess.run(
        [*PROGRAM, *words],
        input=input if input is not None else b"",
        capture_output=True,
        timeout=60,
        env=os.environ | env,
        check=False,
    )
    return Done(done.returncode, _text(done.stdout), _text(done.stderr))


def started(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    """The console script as a process of the caller's, which may be left in the middle."""
    return subprocess.Popen(
        [_SCRIPT, *words],
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        },
    )


def on_terminal(*words: str, columns: int = 80, timeout: float = 60, **env: str) -> Done:
    """The console script with stdout and stderr on a terminal; both are in ``out``."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    drop = {"COLUMNS", "LINES", "NO_COLOR", "PYTEST_CURRENT_TEST"}
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    child = subprocess.Popen(
        [*PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=kept | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | env,
    )
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + timeout
    try:
        while True:
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not over after {timeout} s: {said!r}"
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            if not data:
                break
            said += data
        code = child.wait(10)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait(10)
    return Done(code, _text(said).replace("\r\n", "\n"), "")


class Terminal:
    """``openssh-jobs`` with a person at a terminal of its own, of 24 rows."""

    def __init__(self, *words: str, columns: int = 200) -> None:
        self.seen = io.StringIO()
        self.child: Any = pexpect.spawn(
            PROGRAM[0],
            [*PROGRAM[1:], *words],
            timeout=30,
            encoding="utf-8",
            dimensions=(24, columns),
            env=os.environ | {"TERM": "xterm"},
        )
        self.child.logfile_read = self.seen

    def shows(self, text: str) -> None:
        """Wait for text on the terminal."""
        self.child.expect_exact(text)

    def answer(self, question: str, text: str) -> None:
        """Type a line after a question."""
        self.shows(question)
        time.sleep(0.1)
        self.child.sendline(text)

    def end(self) -> int:
        """The exit code of the program, which ends."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)


def at(host: Host) -> list[str]:
    """The options and the name with which the command line reaches a host."""
    return ["-F", str(host.config), host.alias]


def script(tmp_path: Path, text: str) -> str:
    """A batch script here."""
    path = tmp_path / "job.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    return str(path)


def submitted(direct: list[str], directory: str, path: str, *more: str) -> str:
    """Submit; the id of the job."""
    done = program("submit", *more, *direct, directory, "--script", path)
    assert (done.code, done.err) == (0, ""), done
    assert re.fullmatch(r"\d+\n", done.out)
    return done.out.strip()


def stop_master(host: Host) -> None:
    """End the master of a host that only one test knows."""
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def without_colour(text: str) -> str:
    """What a terminal would show, without what it obeys."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

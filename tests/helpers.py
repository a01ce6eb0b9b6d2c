"""What several tests of the connection need: Python children, and a look at what runs."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import settings

from openssh_jobs import Connection
from openssh_jobs.host import Host as AnyHost
from openssh_jobs.openssh.master import Master
from tests.lab import parts
from tests.lab.site import Host
from tests.paths import CHECKOUT

Backend = Literal["mux", "process"]
# Warnings count in children, too: a socket or a process that is left behind says so there.
PYTHON = [sys.executable, "-W", "error", "-X", "dev", "-c"]
_OPEN = """\
import sys
from openssh_jobs import Connection
c = Connection(sys.argv[1], ssh_config=sys.argv[2], exec_backend=sys.argv[3])
"""


def examples(number: int) -> settings:
    """So many examples in the whole run, and a quarter of them with the profile ``short``."""
    return settings(max_examples=number * settings().max_examples // 100)


def client(code: str, host: Host, backend: str = "auto") -> list[str]:
    """The command line of a Python process in which ``c`` is a connection to a host."""
    return [*PYTHON, _OPEN + code, host.alias, str(host.config), backend]


def master_of(host: AnyHost) -> Master:
    """The master of a connection, for tests that look at what ssh would be called with."""
    assert isinstance(host, Connection)
    return host._master


def start_client(code: str, host: Host, backend: str = "auto") -> subprocess.Popen[str]:
    """Start such a process, all three streams as text pipes."""
    return subprocess.Popen(
        client(code, host, backend),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )


def run_client(code: str, host: Host, backend: str = "auto", *, input: str = "") -> str:
    """What such a process prints; it has to succeed and to be silent on stderr."""
    done = subprocess.run(
        client(code, host, backend),
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=CHECKOUT,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def processes(mark: str) -> list[int]:
    """Pids of living processes that have an argument which is ``mark``."""
    found = []
    word = os.fsencode(mark)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word in words and state not in "ZX":
                found.append(int(name))
    return found


def until(condition: Callable[[], object], patience: float = 10.0) -> bool:
    """Wait until something holds; false if it does not within ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def give_default_acl(directory: Path) -> None:
    """Files that are made there are open to another user, whatever the umask."""
    entries = ((1, 7, -1), (2, 7, 12345), (4, 0, -1), (0x10, 7, -1), (0x20, 0, -1))
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(directory, "system.posix_acl_default", data)
    except (OSError, AttributeError):
        pytest.skip("no ACLs here")


def facts(top: Path) -> dict[str, Any]:
    """Everything that has to arrive: names, kinds, modes, contents, targets of links."""
    found: dict[str, Any] = {}
    for path in [top, *top.rglob("*")]:
        name, info = str(path.relative_to(top)), path.lstat()
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISDIR(info.st_mode):
            found[name] = ("directory", stat.S_IMODE(info.st_mode))
        else:
            found[name] = ("file", stat.S_IMODE(info.st_mode), path.read_bytes())
    return found


def tar_in(directory: Path, program: str) -> Path:
    """A new directory in which another program (``bsdtar``, ``busybox``) is the tar."""
    parts.require(program)
    directory.mkdir(mode=0o755)
    (directory / "tar").symlink_to(str(shutil.which(program)))
    return directory


def make_tree(top: Path, names: list[str]) -> None:
    """A tree with everything in it that a plain user can make."""
    top.mkdir()
    for number, name in enumerate(names):
        (top / name).write_bytes(os.urandom(number * 7))
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub" / "empty").mkdir(mode=0o700)
    (top / "sub" / "deep" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "sub" / "deep" / "run.sh").chmod(0o755)
    (top / "sub" / "read-only").write_bytes(b"r")
    (top / "sub" / "read-only").chmod(0o444)
    (top / "nothing").write_bytes(b"")
    (top / "link").symlink_to("sub/deep/run.sh")
    (top / "dangling").symlink_to("no where")
    (top / "absolute").symlink_to("/etc/passwd")
    (top / "dirlink").symlink_to("sub")


def hidden(directory: Path) -> list[str]:
    """Parts that did not become a file."""
    return [path.name for path in directory.rglob(".oj-*")]

"""What several tests of the connection need: Python children, and a look at what runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.real.site import Host

_CHECKOUT = Path(__file__).parent.parent
# Warnings count in children, too: a socket or a process that is left behind says so there.
PYTHON = [sys.executable, "-W", "error", "-X", "dev", "-c"]
_OPEN = """\
import sys
from openssh_jobs import Connection
c = Connection(sys.argv[1], ssh_config=sys.argv[2], exec_backend=sys.argv[3])
"""


def client(code: str, host: Host, backend: str = "auto") -> list[str]:
    """The command line of a Python process in which ``c`` is a connection to a host."""
    return [*PYTHON, _OPEN + code, host.alias, str(host.config), backend]


def start_client(code: str, host: Host, backend: str = "auto") -> subprocess.Popen[str]:
    """Start such a process, all three streams as text pipes."""
    return subprocess.Popen(
        client(code, host, backend),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_CHECKOUT,
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
        cwd=_CHECKOUT,
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

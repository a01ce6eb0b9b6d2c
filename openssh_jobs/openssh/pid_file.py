"""Pid files of masters, and checks that a pid is still the same process.

A pid alone proves nothing, because pids are reused.  So a file beside the socket has the pid and
the start time of the process, and the command line must contain the socket.
"""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

from . import process, runtime_directory


class Owner(NamedTuple):
    """A process: its pid and its start time, in a unit that depends on the system."""

    pid: int
    started: str


def identify(pid: int) -> Owner:
    """The process that has this pid now (``started`` is empty if there is none)."""
    return Owner(pid, _start_time(pid))


def _start_time(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            # The name in parentheses may hold anything, even a parenthesis.
            fields = handle.read().rpartition(b")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return ""
        done = process.run(["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)], timeout=5)
        state, *started = done.stdout.decode("ascii", "replace").split() or ["Z"]
        return "" if state.startswith("Z") else "_".join(started)
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def lives(owner: Owner) -> bool:
    """Whether this process still runs."""
    return bool(owner.started) and _start_time(owner.pid) == owner.started


def is_master(owner: Owner, path: str) -> bool:
    """Whether it still runs and is the ssh with this socket."""
    line = _command_line(owner.pid)
    return lives(owner) and os.fsencode(path) in line and b"ssh" in line


def call() -> str:
    """A token of letters, digits and dashes for this process, valid also after its end.

    It has the pid, the start time, and hashes of the machine (host name, machine id, pid
    namespace) and of its boot id.
    """
    pid = os.getpid()
    if pid not in _calls:
        started = _start_time(pid)
        started = started if started.isdigit() else _hashed(started)
        _calls.clear()
        _calls[pid] = f"{pid}-{started}-{_machine()}-{_hashed(_read(_BOOT))}"
    return _calls[pid]


_calls: dict[int, str] = {}
_BOOT = "/proc/sys/kernel/random/boot_id"
# A connected socket, in the column St of /proc/net/unix.
_CONNECTED = b"03"


def clock() -> str:
    """A token of the clock of ``time.monotonic``: processes with the same token share it.

    Another one after a restart of the machine, and in a time namespace.
    """
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:
        namespace = ""
    return _hashed(f"{_read(_BOOT) or identify(1).started} {namespace}")


def ended(caller: str) -> bool | None:
    """Whether the process of a token of ``call`` has ended; ``None`` if that is unknown here."""
    pid, _, rest = caller.partition("-")
    started, _, where = rest.partition("-")
    machine, _, boot = where.partition("-")
    if not pid.isdigit() or len(pid) > 20 or not boot or machine != _machine():
        return None
    if boot != _hashed(_read(_BOOT)):
        return True
    now = _start_time(int(pid))
    return now != started and _hashed(now) != started


def _machine() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return _hashed(f"{os.uname().nodename} {_read('/etc/machine-id')} {namespace}")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read(200)
    except OSError:
        return ""


def _hashed(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as handle:
            return handle.read()
    except OSError:
        if os.path.isdir("/proc/self"):
            return b""
    return process.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], timeout=5).stdout


def end(owner: Owner) -> None:
    """End a process with TERM, then KILL; each time it is checked to be the same process."""
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGCONT, 1.0), (signal.SIGKILL, 5.0)):
        if not lives(owner):
            return
        try:
            os.kill(owner.pid, number)
        except ProcessLookupError:
            return
        wait(owner, patience)


def wait(owner: Owner, timeout: float) -> bool:
    """Wait for the end of a process that need not be a child; false if it still runs."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while lives(owner):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


def _socket_states(path: str) -> list[bytes] | None:
    """The states of a master's sockets in Linux's list; ``None`` if this system has no list.

    An accepted socket is listed under the name of its listener.
    """
    try:
        with open("/proc/net/unix", "rb") as handle:
            lines = handle.read().splitlines()[1:]
    except OSError:
        return None
    name, states = os.fsencode(path), []
    for line in lines:
        fields = line.split(None, 7)
        # ssh binds PATH.RANDOM and renames that; the kernel keeps the first name.
        if len(fields) == 8 and (fields[7] == name or fields[7].startswith(name + b".")):
            states.append(fields[5])
    return states


def session_count(path: str) -> int | None:
    """Number of sessions on a master, each with one connection; ``None`` if it is unknown."""
    states = _socket_states(path)
    return None if states is None else states.count(_CONNECTED)


def has_sessions(path: str) -> bool | None:
    """Whether a master whose socket file is gone still has sessions; ``None`` if it is unknown."""
    states = _socket_states(path)
    return _CONNECTED in states if states else None


# --------------------------------------------------------------------------- beside the socket


def write(path: str, owner: Owner) -> None:
    """Write the pid file of a socket."""
    runtime_directory.write_file(path + ".pid", f"{owner.pid} {owner.started}\n")


def read(path: str) -> Owner | None:
    """The process in the pid file; ``None`` if there is no valid pid file."""
    try:
        pid, started = runtime_directory.read_file(path + ".pid", 200).split()
        return Owner(int(pid), started)
    except (OSError, ValueError):
        return None


def forget(path: str) -> None:
    """Remove the pid file."""
    runtime_directory.remove_file(path + ".pid")

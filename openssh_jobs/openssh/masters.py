"""The list of this user's masters, and the facts about each for people (SOCKET.json)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SessionLimit
from . import mux_protocol, pid_file, runtime_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .destination import Destination
    from .mux_protocol import Link
    from .ssh_config import Resolved

_NAME = re.compile(r"[0-9a-f]{12}\+?\Z")
_TIMEOUT = 2.0
_MOST_NAMED = 12
_LARGEST = 1 << 16
# linux/sock_diag.h and linux/unix_diag.h: one dump of all Unix sockets with names and peers.
_DIAG_BY_FAMILY, _DONE, _ERROR, _DUMP = 20, 3, 2, 0x301
_NAME_OF, _PEER_OF, _SHOW_NAME_AND_PEER = 0, 2, 1 | 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterFacts:
    """One master: ``host`` as the user named it, ``route`` as user@host:port, ``jump`` hosts.

    ``opened`` in seconds since the epoch, ``age`` in seconds; ``sessions`` is ``None`` if it is
    unknown; if the master does not answer, ``pid`` is ``None`` and ``trouble`` says why.
    """

    host: str
    route: str
    jump: str
    pid: int | None
    opened: float | None
    age: float | None
    persist: int | None
    sessions: int | None
    socket: str
    ours: bool
    trouble: str = ""


def route_text(resolved: Resolved) -> str:
    """``user@host:port`` as the configuration resolves it."""
    user, host, port = (resolved.get(name) or "" for name in ("user", "hostname", "port"))
    shown = f"[{host}]" if ":" in host else host
    return f"{user}@{shown}:{port}"


def write(path: str, destination: Destination, resolved: Resolved, *, persist: int | None) -> None:
    """Write the facts about a new master; they are for people only."""
    facts = {
        "host": destination.host,
        "route": route_text(resolved),
        "jump": destination.jump or resolved.get("proxyjump") or "",
        "opened": time.time(),
        "persist": persist,
    }
    with contextlib.suppress(OSError):
        runtime_directory.write_file(path + ".json", json.dumps(facts))


def read(path: str) -> dict[str, Any]:
    """The facts about a master; empty if there are none or they cannot be read."""
    try:
        found = json.loads(runtime_directory.read_file(path + ".json", _LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def facts(path: str, *, ours: bool, host: str = "", route: str = "") -> MasterFacts | None:
    """The master of a socket; ``None`` if there is none."""
    pid, trouble = None, ""
    sessions = pid_file.session_count(path)  # before ``alive``, which connects too
    try:
        pid = mux_protocol.alive(path, timeout=_TIMEOUT)
    except mux_protocol.NoMaster:
        return None
    except mux_protocol.MuxError as error:
        trouble = str(error)
    noted = read(path) if ours else {}
    opened, persist = noted.get("opened"), noted.get("persist")
    if not isinstance(opened, int | float):
        with contextlib.suppress(OSError):
            opened = os.lstat(path).st_mtime
    return MasterFacts(
        host=str(noted.get("host") or host),
        route=str(noted.get("route") or route),
        jump=str(noted.get("jump") or ""),
        pid=pid,
        opened=opened,
        age=max(0.0, time.time() - opened) if opened is not None else None,
        persist=persist if isinstance(persist, int) else None,
        sessions=sessions,
        socket=path,
        ours=ours,
        trouble=trouble,
    )


def every(directories: Sequence[str] | None = None) -> list[MasterFacts]:
    """All masters with sockets in our directories; asks the masters, not their hosts."""
    found = []
    for directory in directories if directories is not None else runtime_directory.directories():
        if runtime_directory.problem_with(directory) is not None:
            continue
        for name in sorted(os.listdir(directory)):
            if _NAME.match(name):
                master = facts(os.path.join(directory, name), ours=True)
                if master is not None:
                    found.append(master)
    return found


def holders(path: str) -> str:
    """The processes that hold sessions of a master, as text: programs with their pids.

    Empty if there are none or they are unknown.  All are processes of this user.
    """
    found: dict[int, int] = {}
    unknown = 0
    try:
        ends = _ends(path)
    except (OSError, struct.error):
        ends = set()
    owners = _owners(ends) if ends else {}
    for end in ends:
        pid = owners.get(end)
        if pid is None:
            unknown += 1
        else:
            found[pid] = found.get(pid, 0) + 1
    texts = [f"{_program(pid)}: {number}" for pid, number in sorted(found.items())[:_MOST_NAMED]]
    left = len(found) - len(texts)
    if left > 0:
        texts.append(f"{left} more processes")
    if unknown:
        texts.append(f"others: {unknown}")
    return ", ".join(texts)


def session_limit(text: str, link: Link | None, *, host: str, command: str) -> SessionLimit:
    """The error for a call that got no session, with the processes that hold them."""
    held = holders(link.path) if link is not None else ""
    return SessionLimit(
        text + (f"; they are held by {held}" if held else ""),
        host=host,
        command=command,
        advice="Close other sessions to this host, or give max_sessions=.",
    )


def _ends(path: str) -> set[int]:
    """The inodes of the client sockets that are connected to the listener ``path``."""
    name = os.fsencode(path)
    ends: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:  # NETLINK_SOCK_DIAG
        link.settimeout(_TIMEOUT)
        wanted = struct.pack("=BBHIIIQ", socket.AF_UNIX, 0, 0, 1 << 1, 0, _SHOW_NAME_AND_PEER, 0)
        link.send(struct.pack("=IHHII", 16 + len(wanted), _DIAG_BY_FAMILY, _DUMP, 1, 0) + wanted)
        while True:
            data = link.recv(1 << 18)
            while len(data) >= 16:
                size, kind = struct.unpack_from("=IH", data)
                if kind in (_DONE, _ERROR) or size < 16:
                    return ends
                facts = _attributes(data[32:size])
                # ssh binds PATH.RANDOM and renames that; the kernel keeps the first name.
                its, peer = facts.get(_NAME_OF, b"").rstrip(b"\0"), facts.get(_PEER_OF, b"")
                if (its == name or its.startswith(name + b".")) and len(peer) == 4:
                    ends.add(struct.unpack("=I", peer)[0])
                data = data[(size + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if size < 4:
            break
        found[kind] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def _owners(inodes: set[int]) -> dict[int, int]:
    """Pid by inode of the socket; processes that this user cannot inspect are left out."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for handle in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    inode = wanted.get(os.readlink(handle.path))
                    if inode is not None:
                        found[inode] = int(pid)
    return found


def _program(pid: int) -> str:
    """Program and script of a process; other arguments may contain a secret."""
    if pid == os.getpid():
        return f"this process ({pid})"
    words: list[str] = []
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as handle:
        words = os.fsdecode(handle.read(4096)).split("\0")
    shown = os.path.basename(words[0]) if words else "?"
    if len(words) > 1 and words[1].endswith((".py", ".sh")):
        shown += " " + os.path.basename(words[1])
    elif len(words) > 2 and os.path.basename(words[1]) == "openssh-jobs":
        shown = f"openssh-jobs {words[2]}" if words[2].isalpha() else "openssh-jobs"
    return f"{shown} ({pid})"

"""What is written beside a master's socket for people, and the list of all masters of this user."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import mux, sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .features import Resolved
    from .target import Target

_NAME = re.compile(r"[0-9a-f]{12}\+?\Z")
_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterFacts:
    """One master: ``host`` as it was called, ``route`` as user@host:port, ``jump`` before it.

    ``opened`` and ``age`` in seconds; ``sessions`` is ``None`` where this system does not tell;
    ``pid`` is ``None`` and ``trouble`` says why where the master does not answer.
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


def write(path: str, target: Target, resolved: Resolved, *, persist: int | None) -> None:
    """Note beside a new master's socket whose it is; only people read it."""
    facts = {
        "host": target.host,
        "route": route_text(resolved),
        "jump": target.jump or resolved.get("proxyjump") or "",
        "opened": time.time(),
        "persist": persist,
    }
    with contextlib.suppress(OSError), open(path + ".json", "w", encoding="utf-8") as handle:
        json.dump(facts, handle)


def read(path: str) -> dict[str, Any]:
    """What was noted; empty where there is nothing or it cannot be read."""
    try:
        with open(path + ".json", encoding="utf-8") as handle:
            found = json.load(handle)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def facts(path: str, *, ours: bool, host: str = "", route: str = "") -> MasterFacts | None:
    """The master behind a socket; ``None`` where there is none."""
    pid, trouble = None, ""
    riding = sessions(path)  # before the question, which rides it too
    try:
        pid = mux.alive(path, timeout=_TIMEOUT)
    except mux.NoMaster:
        return None
    except mux.MuxError as error:
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
        sessions=riding,
        socket=path,
        ours=ours,
        trouble=trouble,
    )


def every(directories: Sequence[str] | None = None) -> list[MasterFacts]:
    """All masters whose sockets lie in directories of ours; asks the local processes only."""
    found = []
    for directory in directories if directories is not None else sockets.directories():
        if sockets.problem_with(directory) is not None:
            continue
        for name in sorted(os.listdir(directory)):
            if _NAME.match(name):
                one = facts(os.path.join(directory, name), ours=True)
                if one is not None:
                    found.append(one)
    return found


def sessions(path: str) -> int | None:
    """How many sessions ride a master now; ``None`` where the system does not tell.

    Linux lists Unix sockets with the name of the listener; every session holds one connection.
    """
    try:
        with open("/proc/net/unix", "rb") as handle:
            lines = handle.read().splitlines()[1:]
    except OSError:
        return None
    name, number = os.fsencode(path), 0
    for line in lines:
        fields = line.split(None, 7)
        # ssh binds PATH.RANDOM and renames that; the kernel keeps the first name.
        if len(fields) == 8 and (fields[7] == name or fields[7].startswith(name + b".")):
            number += fields[5] == b"03"
    return number

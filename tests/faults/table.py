"""The table of faults: how each is made and mended, and what it may do to a call in flight.

``whole``: the call may end well.  ``lost``: it may end with ``ConnectionLost`` (or, for a
transfer, an error that leaves the target as it was).  ``logins``: how many more the fault may cost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openssh_jobs import Connection
from tests.lab.site import Host, Site


@dataclass(slots=True)
class World:
    """What a fault may break: one connection, its sockets, the host and the network."""

    connection: Connection
    site: Site
    host: Host
    runtime: Path
    master: int
    socket: Path
    kept: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which things break.

    ``lasts`` seconds until it is mended (if it is), ``routes`` where it makes sense.
    """

    name: str
    make: Callable[[World], None]
    mend: Callable[[World], None] | None = None
    lasts: float = 0.0
    whole: bool = False
    lost: bool = True
    logins: int = 1
    routes: tuple[str, ...] = ("direct",)


def _kill_master(world: World) -> None:
    os.kill(world.master, signal.SIGKILL)


def _stop_master(world: World) -> None:
    os.kill(world.master, signal.SIGSTOP)


def _kill_server_sessions(world: World) -> None:
    world.host.server.kill_sessions(signal.SIGKILL)


def _restart_server(world: World) -> None:
    world.host.server.restart()


def _freeze_server(world: World) -> None:
    world.host.server.freeze()


def _thaw_server(world: World) -> None:
    world.host.server.thaw()


def _cable(world: World) -> Any:
    network = world.site.network
    assert network is not None
    return network.direct_cable if world.host.alias == "direct" else network.outer_cable


def _cut(world: World) -> None:
    _cable(world).cut()


def _mend(world: World) -> None:
    _cable(world).mend()


def _swallow(world: World) -> None:
    network = world.site.network
    assert network is not None
    network.login.swallow("10.88.3.1")


def _swallow_no_more(world: World) -> None:
    network = world.site.network
    assert network is not None
    network.login.swallow_no_more("10.88.3.1")


def _delete_socket(world: World) -> None:
    world.socket.unlink()


def _stale_socket(world: World) -> None:
    world.socket.unlink()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as nobody:
        nobody.bind(str(world.socket))


def _mute_listener(world: World) -> None:
    world.socket.unlink()
    mute = socket.socket(socket.AF_UNIX)
    mute.bind(str(world.socket))
    mute.listen(5)
    world.kept.append(mute)


def _close_kept(world: World) -> None:
    for one in world.kept:
        one.close()


def _regular_file(world: World) -> None:
    world.socket.unlink()
    world.socket.write_bytes(b"no socket\n")


def _clean_directory(world: World) -> None:
    shutil.rmtree(world.runtime)


def _kill_bastion(world: World) -> None:
    for server in world.host.jumps:
        server.kill_sessions(signal.SIGKILL)


def _bastion_away(world: World) -> None:
    for server in world.host.jumps:
        server.stop()


def _bastion_back(world: World) -> None:
    for server in world.host.jumps:
        server.start()
    time.sleep(0.1)


FAULTS = (
    Fault(name="the master is killed", make=_kill_master, routes=("direct", "jump")),
    Fault(name="the master is stopped", make=_stop_master),
    Fault(name="the server's session is killed", make=_kill_server_sessions),
    Fault(name="sshd is restarted", make=_restart_server, whole=True, lost=False, logins=0),
    Fault(name="the server hangs for 8 s", make=_freeze_server, mend=_thaw_server, lasts=8),
    Fault(name="the cable is out for 1 s", make=_cut, mend=_mend, lasts=1, whole=True, lost=False,
          logins=0),
    Fault(name="the cable is out for 8 s", make=_cut, mend=_mend, lasts=8,
          routes=("direct", "jump")),
    Fault(name="packets are dropped for 8 s", make=_swallow, mend=_swallow_no_more, lasts=8),
    Fault(name="the socket file is deleted", make=_delete_socket, whole=True, lost=False),
    Fault(name="the socket file is a stale one", make=_stale_socket, whole=True, lost=False),
    Fault(name="the socket's listener is mute", make=_mute_listener, mend=_close_kept, lasts=12,
          whole=True, lost=False),
    Fault(name="a regular file lies there", make=_regular_file, whole=True, lost=False),
    Fault(name="the socket directory is cleaned", make=_clean_directory, whole=True, lost=False),
    Fault(name="the bastion's session is killed", make=_kill_bastion, routes=("jump",)),
    Fault(name="the bastion is away for 6 s", make=_bastion_away, mend=_bastion_back, lasts=6,
          routes=("jump",)),
)  # fmt: skip

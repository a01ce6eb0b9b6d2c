"""``LocalConnection``: this machine in the place of a host, without ssh."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, NoReturn, Unpack

from . import site_policy
from .commands import limits
from .errors import TransferError
from .host import Host
from .liveness import Liveness
from .transport.local import LocalTransport
from .transport.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .transfer.options import Method, TransferOptions, TransferResult

NAME = "this machine"


class LocalConnection(Host):
    """This machine with the methods of a ``Connection``, for programs that run on a login node.

    Commands get this process's environment and start in its current directory; relative paths
    start there as well.  With ``login_shell=True`` the rc files of ``$SHELL`` are read first.
    Each command runs in a new process group: a timeout ends it as on a host, and Ctrl-C at the
    terminal does not reach it directly, only through this program.  ``put`` and ``get`` copy
    between two local paths with the same guarantees.  ``max_sessions``: processes at a time (64).

    Port forwarding raises ``io.UnsupportedOperation``; ``method="sftp"`` and ``"scp"`` are
    not available.  Raises ``ConfigurationError`` for invalid arguments.
    """

    def __init__(
        self,
        *,
        login_shell: bool = False,
        prologue: str = "",
        max_sessions: int | None = None,
        start_timeout: float = limits.START,
    ) -> None:
        super().__init__(
            Sessions(LocalTransport(NAME), max_sessions=max_sessions),
            login_shell=login_shell,
            prologue=prologue,
            start_timeout=start_timeout,
            directory=os.getcwd,
        )
        self.internal.tighten(site_policy.local())
        # Scripts that end process groups run in a new session: its wait() reaps ended shells.
        self._commands.groups.aside = None

    def __repr__(self) -> str:
        return "LocalConnection()"

    def close(self, *, stop_master: bool = False) -> None:
        """End the shell that this object holds; ``stop_master`` has no effect."""
        super().close()

    def check(self) -> Liveness:
        """Always true: this machine answers."""
        return Liveness(master=None, answered=True, seconds=0.0)

    def reconnect(self) -> None:
        """Nothing to do."""

    def _interact(self, script: bytes, what: str, *, tty: bool) -> int:
        from .openssh import terminal

        if script:
            return terminal.hold(["/bin/sh", "-c", script])
        return terminal.hold([os.environ.get("SHELL") or "/bin/sh", "-l"])

    def forward_local(self, *_: object, **__: object) -> NoReturn:
        """Raise ``io.UnsupportedOperation``: the port is on this machine already."""
        raise io.UnsupportedOperation("there is no connection to forward a port over")

    def forward_remote(self, *_: object, **__: object) -> NoReturn:
        """Raise ``io.UnsupportedOperation``: the port is on this machine already."""
        raise io.UnsupportedOperation("there is no connection to forward a port over")

    def put(
        self,
        local: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        remote: str,
        *,
        method: Method = "auto",
        **options: Unpack[TransferOptions],
    ) -> TransferResult:
        """Copy a file or tree to another path; whole or absent.  As ``Connection.put``."""
        sources = [local] if isinstance(local, str | os.PathLike) else local
        for source in sources:
            _refuse_within(os.fspath(source), os.path.expanduser(remote), **options)
        return super().put(local, remote, method=method, **options)

    def get(
        self,
        remote: str | Sequence[str],
        local: str | os.PathLike[str],
        *,
        method: Method = "auto",
        **options: Unpack[TransferOptions],
    ) -> TransferResult:
        """Copy a file or tree to another path; whole or absent.  As ``Connection.get``."""
        for source in [remote] if isinstance(remote, str) else remote:
            _refuse_within(os.path.expanduser(source), os.fspath(local), **options)
        return super().get(remote, local, method=method, **options)


def _refuse_within(source: str, target: str, *, delete: bool = False, **_: object) -> None:
    """Raise ``TransferError`` where a directory would be copied into itself, or deleted."""
    if not os.path.isdir(source):
        return
    top, place = os.path.realpath(source), os.path.realpath(target)
    if place == top or place.startswith(top.rstrip("/") + "/"):
        raise TransferError(
            f"{target!r} is within {source!r}: a directory cannot be copied into itself", host=NAME
        )
    if delete and top.startswith(place.rstrip("/") + "/"):
        raise TransferError(
            f"{source!r} is within {target!r}: delete=True would delete the source", host=NAME
        )

"""``Connection``: a host over the system's ssh: how it is reached, and the state of the link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from . import settings, site_policy
from .commands import limits
from .errors import ConfigurationError, ConnectError
from .host import Host
from .liveness import Liveness
from .openssh.destination import Destination
from .openssh.master import Master
from .transport.mux import MuxTransport
from .transport.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .openssh.prompts import Prompt
    from .site_policy import SitePolicy
    from .transfer.transfer import Transfer
    from .transport.base import Transport
    from .transport.forwards import Forward


class ConnectionOptions(TypedDict, total=False):
    """The options of ``Connection`` that ``Cluster`` hands on: all but those of the shell."""

    user: str | None
    port: int | None
    identity_file: str | os.PathLike[str] | None
    jump: str | None
    ssh_config: str | os.PathLike[str] | None
    ssh_options: Mapping[str, str] | None
    forward_agent: bool
    master: Literal["own", "existing", "user"]
    persist: int | None
    connect_timeout: float
    responder: Callable[[Prompt], str | None] | None
    exec_backend: Literal["auto", "mux", "process"]
    max_sessions: int | None
    start_timeout: float | None


class Connection(Host):
    """A host over the system's ssh.  The login is made at the first use, not before.

    ``host`` is anything that ssh takes: an alias, ``user@host``, ``ssh://user@host:port``; it and
    the options are passed to ssh unchanged, so all of the user's configuration applies.
    ``master``: ``own`` (use any live master, else open one), ``existing`` (use any live one, never
    open one), ``user`` (use only the one that the user's ControlPath names).  ``persist``: seconds
    that the master stays open after its last session, ``None`` for ever.  ``exec_backend``:
    ``auto``, ``mux`` or ``process``.  ``forward_agent``: commands on the host may use the agent;
    this needs a separate login, because all sessions of a login share its forwarded agent.
    ``start_timeout``: seconds until the login shell on the host must have started a command (its
    rc files may be slow; default: the value in ``servers.toml``, else 30); after that
    ``CommandNotStarted`` is raised.
    ``responder`` answers the questions of a login (``openssh_jobs.Prompt`` to text or ``None``);
    without one ``AuthenticationNeeded`` is raised if the host asks.
    With ``data_host`` in ``servers.toml``, ``put`` and ``get`` go through a connection to that
    host, with these options but for port and jump host; it must see the same files.
    Instances can be shared by threads and used after a fork.

    Raises ``ConfigurationError`` for invalid arguments, before anything is started.
    """

    def __init__(
        self,
        host: str,
        *,
        user: str | None = None,
        port: int | None = None,
        identity_file: str | os.PathLike[str] | None = None,
        jump: str | None = None,
        ssh_config: str | os.PathLike[str] | None = None,
        ssh_options: Mapping[str, str] | None = None,
        forward_agent: bool = False,
        master: Literal["own", "existing", "user"] = "own",
        persist: int | None = 600,
        connect_timeout: float = 30,
        login_shell: bool = False,
        prologue: str = "",
        responder: Callable[[Prompt], str | None] | None = None,
        exec_backend: Literal["auto", "mux", "process"] = "auto",
        max_sessions: int | None = None,
        start_timeout: float | None = None,
    ) -> None:
        if start_timeout is None:
            start_timeout = settings.start_timeout(host) or limits.START
        if responder is not None and not callable(responder):
            raise ConfigurationError("responder must be callable", host=host)
        destination = Destination(
            host=host,
            user=user,
            port=port,
            identity_file=None if identity_file is None else os.fspath(identity_file),
            jump=jump,
            ssh_config=None if ssh_config is None else os.fspath(ssh_config),
            ssh_options=dict(ssh_options or {}),
            forward_agent=forward_agent,
        )
        self._master = Master(
            destination,
            policy=master,
            persist=persist,
            connect_timeout=connect_timeout,
            responder=responder,
            dials_per_hour=settings.dials_per_hour(host),
            max_age=settings.max_age(host),
        )
        sessions = _sessions(self._master, exec_backend, forward_agent, max_sessions)
        super().__init__(
            sessions, login_shell=login_shell, prologue=prologue, start_timeout=start_timeout
        )
        self.internal.tighten(site_policy.local())
        # Port and jump host of another host are those of the ssh configuration.
        self._data_options: dict[str, Any] = {
            "user": user,
            "identity_file": identity_file,
            "ssh_config": ssh_config,
            "ssh_options": ssh_options,
            "master": master,
            "persist": persist,
            "connect_timeout": connect_timeout,
            "responder": responder,
            "exec_backend": exec_backend,
        }
        data_host = settings.value(host, "data_host")
        self._data_host: str | None = None if data_host == host else data_host
        self._data: Connection | None = None

    @property
    def _transfer(self) -> Transfer:
        if self._data_host is None:
            return self._own_transfer
        if self._data is None:
            # Made here, not before: data hosts could name each other.
            self._data = Connection(self._data_host, **self._data_options)
        return self._data._own_transfer

    @property
    def name(self) -> str:
        """The host as the journal of jobs knows it: two users of one host are two."""
        destination = self._master.destination
        user = f"{destination.user}@" if destination.user is not None else ""
        port = f":{destination.port}" if destination.port is not None else ""
        return f"{user}{destination.host}{port}"

    def _route(self) -> str:
        return self._master.name

    @property
    def logins(self) -> int:
        """Count of logins that this object made, with those to the data host."""
        return self._master.logins + (0 if self._data is None else self._data.logins)

    def _tighten(self, policy: SitePolicy) -> None:
        super()._tighten(policy)
        if policy.max_age is not None:
            self._master.limit_age(policy.max_age)

    def end_commands(self) -> bool | None:
        """See ``Host.end_commands``; also of what transfers run on the data host."""
        if self._data is not None:
            self._data.end_commands()
        return super().end_commands()

    # ------------------------------------------------------------------ the link

    def __enter__(self) -> Self:
        # With a data host, who only copies files needs no login here.
        return self if self._data_host is not None else self.open()

    def open(self, *, responder: Callable[[Prompt], str | None] | None = None) -> Self:
        """Find or open the master now instead of at the first use.  Logs in at most once.

        ``responder`` answers the questions of this login only.  Raises ``ConnectError`` and its
        subclasses.
        """
        if responder is None:
            return super().open()
        before, self._master.responder = self._master.responder, responder
        try:
            return super().open()
        finally:
            self._master.responder = before

    def _interact(self, script: bytes, what: str, *, tty: bool) -> int:
        from .commands.quoting import envelope
        from .transport import interactive

        super().close()  # an idle session of this object may be the last one
        line = envelope(script) if script else b""
        return interactive.run(self._sessions, self._master.resolved, line, tty=tty, what=what)

    def close(self, *, stop_master: bool = False) -> None:
        """Release the sessions of this object; the master stays open for ``persist`` seconds.

        ``stop_master=True`` waits up to 10 s for the sessions of all processes to end and then ends
        the master, unless the user opened it.
        """
        super().close()
        if self._data is not None:
            self._data.close(stop_master=stop_master)
        if stop_master:
            try:
                link = self._master.find()
            except ConnectError:
                self._master.discard_silent()
                link = None
            self._sessions.forget()
            if link is not None:
                self._master.stop(link)

    def check(self) -> Liveness:
        """Whether the host answers over a live master; one round trip with a timeout, no login."""
        import time

        try:
            link = self._master.find()
        except ConnectError as error:
            return Liveness(master=None, answered=False, reason=error.message)
        if link is None:
            return Liveness(master=None, answered=False, reason="no master is open")
        began = time.monotonic()
        answered = self._sessions.answers(link)
        return Liveness(
            master=link.pid,
            answered=answered,
            ours=link.ours,
            seconds=time.monotonic() - began if answered else None,
            reason="" if answered else "the host does not answer over the master",
        )

    def reconnect(self) -> None:
        """Check the link again: keep a master that answers, replace any other.

        Logs in at most once, even if the last login was refused: the caller asked for it.
        Raises ``ConnectError`` and its subclasses.
        """
        super().close()
        self._sessions.forget()
        try:
            link = self._master.find()
        except ConnectError:
            link = None  # a master exists but does not answer: opening a new one ends it
        if link is not None and not self._sessions.answers(link):
            self._master.discard(link)
        self._master.ensure(override=True)
        self._sessions.link()

    def forward_local(
        self,
        remote_port: int,
        local_port: int | None = None,
        *,
        remote_host: str = "localhost",
        local_host: str = "127.0.0.1",
    ) -> Forward:
        """Forward a local port to ``remote_host:remote_port``, resolved on the host.

        Returns a context manager with ``.local_port`` (a free port unless one is given); the
        forward is cancelled at its exit.  Raises ``ConnectError`` if the local port is in use.
        """
        from .transport import forwards

        return forwards.local(
            self._sessions,
            host=self.host,
            remote=(remote_host, remote_port),
            local_host=local_host,
            local_port=local_port,
        )

    def forward_remote(
        self,
        remote_port: int,
        local_port: int,
        *,
        remote_host: str = "127.0.0.1",
        local_host: str = "127.0.0.1",
    ) -> Forward:
        """Forward a port of the host to ``local_host:local_port`` on this machine.

        Returns a context manager with ``.remote_port``; with 0 the host chooses a port.
        ``remote_host`` is the address on which the host listens.  Raises ``ConnectError`` if the
        host refuses.
        """
        from .transport import forwards

        return forwards.remote(
            self._sessions,
            host=self.host,
            remote_host=remote_host,
            remote_port=remote_port,
            local=(local_host, local_port),
        )


def _sessions(
    master: Master, backend: str, forward_agent: bool, max_sessions: int | None
) -> Sessions:
    """The sessions on a master by one backend; ``auto`` falls back to ``process``."""
    if backend not in ("auto", "mux", "process"):
        raise ConfigurationError(
            f"exec_backend must be 'auto', 'mux' or 'process', not {backend!r}"
        )

    def by_process() -> Transport:
        from .transport.process import ProcessTransport

        return ProcessTransport(master, forward_agent=forward_agent)

    return Sessions(
        by_process() if backend == "process" else MuxTransport(master, forward_agent=forward_agent),
        fallback=by_process if backend == "auto" else None,
        max_sessions=max_sessions,
    )

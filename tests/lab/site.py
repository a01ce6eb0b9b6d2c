"""A site to log in to: a login node, straight and through a bastion that wants an agent's key.

Inside the lab's namespaces the machines are apart and the inner one can only be reached through
the bastion.  Elsewhere (a plain user) three servers on loopback ports stand in for them: the jump
is as real, only the walls are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import namespaces
from tests.lab.agent import Agent
from tests.lab.network import Network
from tests.lab.sshd import Sshd


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a test has to know of a host: name it as ``alias`` with ``-F config``."""

    alias: str
    config: Path
    home: Path
    user: str
    server: Sshd
    jumps: tuple[Sshd, ...] = ()

    def logins(self) -> int:
        """Logins that the host itself has accepted (``jumps`` have counts of their own)."""
        return self.server.logins()

    def make(self, name: str, content: bytes = b"", mode: int = 0o644) -> Path:
        """A file under the home, owned by the user there, made without ssh."""
        path = self.home / name
        missing = [folder for folder in path.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._give(folder)
        path.write_bytes(content)
        path.chmod(mode)
        self._give(path)
        return path

    def make_directory(self, name: str, mode: int = 0o755) -> Path:
        """A directory under the home, owned by the user there, made without ssh."""
        path = self.home / name
        path.mkdir()
        path.chmod(mode)
        self._give(path)
        return path

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.server.uid, self.server.gid)


class Site:
    """``direct`` and ``inner`` are the login node's two servers, ``bastion`` is before the second.

    ``verbose``: their logs name each command, too.
    """

    def __init__(self, directory: Path, *, verbose: bool = False) -> None:
        self.directory = directory
        self.config = directory / "ssh_config"
        self.network: Network | None = None
        self.agent = Agent(directory / "a")
        self._servers: list[Sshd] = []
        self._config_extra = "LogLevel VERBOSE" if verbose else ""

    def start(self) -> None:
        """Bring everything up."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        apart = namespaces.inside()
        if apart:
            self.network = Network()
        self.agent.start()
        public = self.agent.new_key("agent_key")
        # sshd wants the public half in a file; the private half lies in the agent only.
        (self.directory / "agent_key.pub").write_text(public)
        self.direct = self._server("direct", "login", "10.88.3.2", "hpcalice", agent=False)
        self.bastion = self._server("bastion", "bastion", "10.88.1.1", "hpcbob", agent=True)
        self.inner = self._server("inner", "login", "10.88.2.2", "hpcalice", agent=True)
        self._write_config()

    def _server(self, alias: str, machine: str, address: str, user: str, *, agent: bool) -> Sshd:
        network = self.network
        identity = self.directory / "agent_key" if agent else None
        server = Sshd(
            self.directory / alias,
            alias=alias,
            identity=identity,
            user=user if network else None,
            address=address if network else "127.0.0.1",
            port=22 if network else None,
            private_home=network is None,
            config_extra=self._config_extra,
            enter=getattr(network, machine).enter if network else (),
        )
        self._servers.append(server)
        server.start()
        return server

    def _write_config(self) -> None:
        from_agent = f'IdentityAgent "{self.agent.socket}"'
        self.config.write_text(
            self.direct.client_block()
            + self.bastion.client_block(extra=[from_agent], with_identity=False)
            + self.inner.client_block(extra=[from_agent, "ProxyJump bastion"], with_identity=False)
        )

    def host(self, route: str) -> Host:
        """The login node by the route ``direct`` or ``jump``."""
        server = {"direct": self.direct, "jump": self.inner}[route]
        return Host(
            alias=server.alias,
            config=self.config,
            home=server.home,
            user=server.user,
            server=server,
            jumps=() if route == "direct" else (self.bastion,),
        )

    def servers(self) -> Iterable[Sshd]:
        """Every server of the site."""
        return tuple(self._servers)

    def stop(self) -> None:
        """Take everything down, the last first."""
        for server in reversed(self._servers):
            server.stop()
        self.agent.stop()
        if self.network is not None:
            self.network.stop()
            self.network = None

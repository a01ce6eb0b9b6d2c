"""Three bastions in a row before the login node; two or one of them are a shorter way to it.

::

    client --- bastion --- second --- third --- login
                  |           |                   |
                  |           10.88.7 ------------+
                  10.88.2 ------------------------+

No bastion forwards packets.  On each machine listen two servers: one takes the key, the other asks
for a password and a code as well (real PAM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openssh_jobs import Prompt
from openssh_jobs.testing.sshd import make_key
from tests.lab import pam
from tests.lab.network import Cable, Machine, Network
from tests.lab.sshd import Sshd

PASSWORD = "correct horse Batterie 9"
NAMES = ("bastion", "second", "third", "login")
_USER, _WITH_CODE = "hpcalice", "hpcbob"
_KEY_PORT, _CODE_PORT = 22022, 22023
# The address of each machine, and that of the login node behind so many bastions.
_ADDRESSES = {"bastion": "10.88.1.1", "second": "10.88.4.2", "third": "10.88.5.2"}
_LOGIN = {0: "10.88.3.2", 1: "10.88.2.2", 2: "10.88.7.2", 3: "10.88.6.2"}


class Chain:
    """The machines of the drawing, beside those of ``Network``.  ``servers`` by name, and
    ``NAME-code`` for the one that asks."""

    def __init__(self, directory: Path, network: Network) -> None:
        self.directory = directory
        self.network = network
        self.key = directory / "key"
        self.authority = directory / "authority"
        self.servers: dict[str, Sshd] = {}
        self._machines: dict[str, Machine] = {"bastion": network.bastion, "login": network.login}
        self._cables: list[Cable] = []

    def start(self) -> None:
        """Bring the machines, cables and servers up."""
        self.directory.mkdir(mode=0o755)
        machines = self._machines
        for name in ("second", "third"):
            machines[name] = Machine(name)
        for name, net, far, cable in (
            ("bastion", 4, "second", "ojd"),
            ("second", 5, "third", "oje"),
            ("third", 6, "login", "ojf"),
            ("second", 7, "login", "ojg"),
        ):
            near, other = f"10.88.{net}.1", f"10.88.{net}.2"
            self._cables.append(Cable(machines[name], near, machines[far], other, cable))
        make_key(self.authority, "authority")
        pam.set_up(self.directory / "pam", _WITH_CODE, PASSWORD, reuse=True)
        for name in NAMES:
            self._server(name, _USER, _KEY_PORT, "")
            self._server(f"{name}-code", _WITH_CODE, _CODE_PORT, pam.SSHD_AFTER_KEY)

    def _server(self, alias: str, user: str, port: int, extra: str) -> None:
        machine = alias.partition("-")[0]
        server = Sshd(
            self.directory / alias,
            alias=alias,
            user=user,
            address="0.0.0.0",
            port=port,
            private_home=machine == "login",
            identity=self.key,
            enter=self._machines[machine].enter,
            config_extra=f'LogLevel VERBOSE\nTrustedUserCAKeys "{self.authority}.pub"\n{extra}',
        )
        server.start()
        self.servers[alias] = server

    def block(self, name: str, hops: int | None = None, *extra: str, keys: Sequence[str]) -> str:
        """The client's lines for a server; ``hops``: bastions before the login node."""
        server = self.servers[name]
        machine = name.partition("-")[0]
        address = _ADDRESSES[machine] if hops is None else _LOGIN[hops]
        host_key = server.known_hosts.read_text().split(" ", 1)[1]
        known = self.directory / f"known-{name}"
        known.write_text(f"[{address}]:{server.port} {host_key}{name} {host_key}")
        lines = [
            f"Host {name}",
            f"HostName {address}",
            f"Port {server.port}",
            f"User {server.user}",
            f'UserKnownHostsFile "{known}"',
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
            *keys,
            *extra,
        ]
        return "\n    ".join(lines) + "\n"

    def stop(self) -> None:
        """Take it all down, the last first."""
        for server in reversed(self.servers.values()):
            server.stop()
        for cable in reversed(self._cables):
            cable.remove()
        for name in ("third", "second"):
            if name in self._machines:
                self._machines[name].stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to the login node: the servers in the order in which they are passed.

    ``nested``: each names the one before it as its ProxyJump; else the last names all of them.
    ``command``: a ProxyCommand with an ssh in it instead.
    """

    passes: tuple[str, ...]
    nested: bool = False
    command: bool = False

    @property
    def host(self) -> str:
        """The alias of the login node."""
        return self.passes[-1]

    @property
    def hops(self) -> tuple[str, ...]:
        """The aliases of the bastions."""
        return self.passes[:-1]

    @property
    def asks(self) -> bool:
        """Whether a server on the way asks for a password and a code."""
        return any(name.endswith("-code") for name in self.passes)

    def __str__(self) -> str:
        kind = "command" if self.command else "nested" if self.nested else "jump"
        return "-".join([kind if self.hops else "straight", *self.passes])


class WayIn:
    """One test's way in: its configuration, and what every server on it has seen since then.

    ``keys``: the lines that name a key, the same for all, or by alias.
    """

    def __init__(
        self,
        chain: Chain,
        way: Way,
        config: Path,
        *,
        keys: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.way, self.config, self.chain = way, config, chain
        self.servers = [chain.servers[name] for name in way.passes]
        usual = [f'IdentityFile "{chain.key}"', "IdentitiesOnly yes", "IdentityAgent none"]
        text = ""
        for number, name in enumerate(way.passes):
            more = [line for line in [(extra or {}).get(name), *self._onward(number)] if line]
            mine = (keys.get(name, usual) if isinstance(keys, Mapping) else keys) or usual
            hops = len(way.hops) if name == way.host else None
            text += chain.block(name, hops, *more, keys=mine)
        config.write_text(text)
        self._before = [(server.logins(), connections(server)) for server in self.servers]

    def _onward(self, number: int) -> list[str]:
        way, before = self.way, self.way.passes[:number]
        if not before:
            return []
        if way.command:
            return [f"ProxyCommand ssh -F {self.config} -W [%h]:%p {before[-1]}"]
        if way.nested:
            return [f"ProxyJump {before[-1]}"]
        return [f"ProxyJump {','.join(before)}"] if number == len(way.hops) else []

    def logins(self) -> list[int]:
        """Logins that each server has accepted, in the order of the way."""
        return [
            server.logins() - before
            for server, (before, _) in zip(self.servers, self._before, strict=True)
        ]

    def dials(self) -> list[int]:
        """Connections that each server has seen, whether they logged in or not."""
        return [
            connections(server) - before
            for server, (_, before) in zip(self.servers, self._before, strict=True)
        ]


def connections(server: Sshd) -> int:
    """TCP connections that a server has seen, whether they logged in or not."""
    return server.log_text().count("\nConnection from ")


def person(prompt: Prompt) -> str | None:
    """Somebody who knows the password and has the device."""
    return {"password": PASSWORD, "code": pam.code()}.get(prompt.kind)

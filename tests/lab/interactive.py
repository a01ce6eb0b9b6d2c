"""SSH servers that ask questions: passwords, codes, menus.  Real ssh talks to them, without PAM.

They run in a thread of the test and count what was asked of them and answered, never what the
answer was.  A login gets ``/bin/sh -c`` as whoever runs the test, and may jump on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncssh


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One keyboard-interactive question and the answer that is right."""

    prompt: str
    right: str
    echo: bool = False
    instructions: str = ""


def password(right: str) -> Step:
    """``Password:``"""
    return Step(prompt="Password: ", right=right)


def code(right: str) -> Step:
    """``Verification code:``"""
    return Step(prompt="Verification code: ", right=right)


DUO_MENU = (
    "Duo two-factor login for alice\n\nEnter a passcode or select one of the following options:\n\n"
    " 1. Duo Push to XXX-XXX-1234\n 2. Phone call to XXX-XXX-1234\n"
)


def duo(right: str = "1") -> Step:
    """A menu in the words of Duo; the text comes as instructions, apart from the prompt."""
    return Step(prompt="Passcode or option (1-2): ", right=right, echo=True, instructions=DUO_MENU)


def duo_in_prompt(right: str = "1") -> Step:
    """The same as PAM sends it: one prompt of many lines."""
    return Step(prompt=f"{DUO_MENU}\nPasscode or option (1-2): ", right=right, echo=True)


class InteractiveServer:
    """One server; ``steps`` are asked one after the other, or ``password_right`` by the password
    method.  ``keys`` (public key lines) are let in without a question, or, with ``key_first``,
    have to come before the questions."""

    def __init__(
        self,
        directory: Path,
        alias: str,
        *,
        steps: Sequence[Step] = (),
        password_right: str | None = None,
        keys: Iterable[str] = (),
        banner: str = "",
        address: str = "127.0.0.1",
    ) -> None:
        self.directory = directory
        self.alias = alias
        self.user = "alice"
        self.steps = list(steps)
        self.password_right = password_right
        self.keys = [line.split()[1] for line in keys]
        self.banner = banner
        self.address = address
        self.port = 0
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.known_hosts = directory / f"{alias}.known_hosts"
        self.counts: Counter[str] = Counter()
        """``connections``, ``logins``, ``asked N``, ``right N``, ``wrong N`` of question N."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Any = None
        self._links: list[Any] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port, and write down the host key for clients."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._do(self._listen())
        public = self.host_key.export_public_key().decode().split()
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {public[0]} {public[1]}\n")

    def stop(self) -> None:
        """End the listener and every connection."""
        if self._server is None:
            return
        self._do(self._close())
        self._server = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def drop_all(self) -> None:
        """Cut every connection that stands."""

        async def cut() -> None:
            for link in self._links:
                link.abort()

        self._do(cut())

    @property
    def fingerprint(self) -> str:
        """The host key's fingerprint, as ssh shows it."""
        return str(self.host_key.get_fingerprint())

    @property
    def logins(self) -> int:
        """Logins that went through."""
        return self.counts["logins"]

    def config(self, *extra: str, known: bool = True) -> str:
        """The ssh_config block of a client."""
        known_hosts = self.known_hosts if known else self.directory / f"{self.alias}.new_hosts"
        lines = [
            f"Host {self.alias}",
            f"HostName {self.address}",
            f"Port {self.port}",
            f"User {self.user}",
            f'UserKnownHostsFile "{known_hosts}"',
            "GlobalKnownHostsFile /dev/null",
            *extra,
            "IdentityAgent none",
            "IdentityFile none",
            f"StrictHostKeyChecking {'yes' if known else 'ask'}",
            "ConnectTimeout 20",
        ]
        return "\n    ".join(lines) + "\n"

    # -- in the thread ------------------------------------------------------------------------

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncssh.create_server(
            lambda: _Door(self),
            self.address,
            0,
            server_host_keys=[self.host_key],
            process_factory=self._run,
            encoding=None,
            login_timeout=60,
            kex_algs=["curve25519-sha256"],
        )
        self.port = self._server.get_port()

    async def _close(self) -> None:
        self._server.close()
        for link in self._links:
            link.abort()
        await self._server.wait_closed()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0.05)

    async def _run(self, session: Any) -> None:
        def aside(work: Any, *arguments: Any) -> Any:
            return self._loop.run_in_executor(None, work, *arguments)

        async def give(pipe: Any) -> None:
            with contextlib.suppress(OSError):
                while data := await session.stdin.read(65536):
                    await aside(os.write, pipe.fileno(), data)
            pipe.close()

        async def take(pipe: Any, stream: Any) -> None:
            while data := await aside(os.read, pipe.fileno(), 65536):
                stream.write(data)

        with subprocess.Popen(
            ["/bin/sh", "-c", session.command or "exit 0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            giving = asyncio.ensure_future(give(running.stdin))
            await asyncio.gather(
                take(running.stdout, session.stdout), take(running.stderr, session.stderr)
            )
            giving.cancel()
            session.exit(await aside(running.wait))


class _Door(asyncssh.SSHServer):
    def __init__(self, server: InteractiveServer) -> None:
        self._server = server
        self._count = server.counts
        self._at = 0

    def connection_made(self, conn: Any) -> None:
        self._count["connections"] += 1
        self._server._links.append(conn)
        if self._server.banner:
            conn.send_auth_banner(self._server.banner)

    def auth_completed(self) -> None:
        self._count["logins"] += 1

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return bool(self._server.keys)

    def validate_public_key(self, username: str, key: Any) -> bool:
        return key.export_public_key().decode().split()[1] in self._server.keys

    def password_auth_supported(self) -> bool:
        return self._server.password_right is not None

    def validate_password(self, username: str, password: str) -> bool:
        self._count["asked 1"] += 1
        right = password == self._server.password_right
        self._count["right 1" if right else "wrong 1"] += 1
        return right

    def kbdint_auth_supported(self) -> bool:
        return bool(self._server.steps)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self._at = 0
        return self._challenge()

    def _challenge(self) -> Any:
        step = self._server.steps[self._at]
        self._count[f"asked {self._at + 1}"] += 1
        return "", step.instructions, "", [(step.prompt, step.echo)]

    def validate_kbdint_response(self, username: str, responses: Any) -> Any:
        step = self._server.steps[self._at]
        right = list(responses) == [step.right]
        self._count[f"{'right' if right else 'wrong'} {self._at + 1}"] += 1
        if not right:
            return False
        self._at += 1
        return True if self._at == len(self._server.steps) else self._challenge()

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return True


MakeServer = Callable[..., InteractiveServer]


def config_of(cold: Path, *servers: InteractiveServer, extra: str = "") -> str:
    """The ssh configuration for these servers, in a file beside the sockets."""
    path = cold.parent / "config"
    path.write_text("".join(server.config() for server in servers) + extra)
    return str(path)

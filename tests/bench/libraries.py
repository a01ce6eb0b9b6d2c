"""The two libraries that speak SSH by themselves, each with one connection kept open."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Self

from openssh_jobs.testing.sshd import PrivateSshd


class Paramiko:
    """paramiko: files one by one, because it has no call for a tree."""

    def __init__(self, server: PrivateSshd, port: int) -> None:
        import paramiko

        self._client = paramiko.SSHClient()
        # The server is ours and lives as long as this run; the check of its key is not measured.
        self._client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        self._client.connect(
            server.address,
            port,
            username=server.user,
            key_filename=str(server.identity),
            look_for_keys=False,
            allow_agent=False,
        )
        self._sftp = self._client.open_sftp()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def put_tree(self, source: Path, target: Path) -> None:
        """A flat directory up."""
        self._sftp.mkdir(str(target))
        for name in os.listdir(source):
            self._sftp.put(str(source / name), str(target / name))

    def get_tree(self, source: Path, target: Path) -> None:
        """A flat directory down."""
        target.mkdir()
        for name in self._sftp.listdir(str(source)):
            self._sftp.get(str(source / name), str(target / name))


class AsyncSsh:
    """asyncssh, with its own recursion."""

    def __init__(self, server: PrivateSshd, port: int) -> None:
        self._server = server
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None
        self._sftp: Any = None

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._open())
        return self

    async def _open(self) -> None:
        import asyncssh

        self._connection = await asyncssh.connect(
            self._server.address,
            self._port,
            username=self._server.user,
            client_keys=[str(self._server.identity)],
            known_hosts=None,
            agent_path=None,
            config=None,
        )
        self._sftp = await self._connection.start_sftp_client()

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        self._connection.close()
        await self._connection.wait_closed()

    def put_tree(self, source: Path, target: Path) -> None:
        """A directory up."""
        self._loop.run_until_complete(self._sftp.put(str(source), str(target), recurse=True))

    def get_tree(self, source: Path, target: Path) -> None:
        """A directory down."""
        self._loop.run_until_complete(self._sftp.get(str(source), str(target), recurse=True))

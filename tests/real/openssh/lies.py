"""Servers that lie, or say nothing: what they say, and what calls make of them."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors

SECRET = "correct horse Batterie 9"

LIES = {
    "penalties": "Unauthorized use is subject to criminal and civil penalties.",
    "too many": "Too many authentication failures will lock your account.",
    "denied": "Permission denied (publickey).",
    "denied to": "root@hpc: Permission denied (publickey,password,keyboard-interactive).",
    "key": "Host key verification failed.",
    "changed": "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
    "Host key for hpc has changed and you have requested strict checking.\n"
    "Host key verification failed.",
    "closed": "kex_exchange_identification: Connection closed by remote host\n"
    "Connection closed by 127.0.0.1 port 22",
    "proxy": "kex_exchange_identification: Connection closed by remote host\n"
    "Connection closed by UNKNOWN port 65535",
    "name": "ssh: Could not resolve hostname x: Name or service not known",
    "network": "ssh: connect to host x port 22: Connection timed out",
    "silent": "Timeout, server x not responding.",
    "disconnect": "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\n"
    "Disconnected from 127.0.0.1 port 22",
    "startups": "Exceeded MaxStartups\nNot allowed at this time",
    "option": "command-line: line 0: Bad configuration option: x",
    "config": "/etc/ssh/ssh_config: terminating, 1 bad configuration options",
    "forward": "channel 0: open failed: administratively prohibited: x\nstdio forwarding failed",
    "path": 'unix_listener: path "/x" too long for Unix domain socket',
    "unshared": "ControlSocket /x already exists, disabling multiplexing",
}
ALL = "\n".join(LIES.values())
Make = Callable[..., Any]


def key_exchange(offer: bytes) -> bytes:
    """A server's version, and the first packet of its key exchange (RFC 4253) with this offer."""
    lists = [offer, offer, *[b"aes128-ctr"] * 2, *[b"hmac-sha2-256"] * 2, *[b"none"] * 2, b"", b""]
    words = b"".join(struct.pack(">I", len(names)) + names for names in lists)
    body = b"\x14" + bytes(16) + words + bytes(5)
    padding = 4 + -(len(body) + 9) % 8
    head = struct.pack(">IB", len(body) + padding + 1, padding)
    return b"SSH-2.0-x\r\n" + head + body + bytes(padding)


def stranger(host: Any, tmp_path: Path) -> None:
    """From now on the client has a key that the server does not know."""
    key = tmp_path / "stranger"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20
    )
    host.config.write_text(host.server.client_block().replace(str(host.server.identity), str(key)))


def refusals(host: Any) -> int:
    """LoginRecord that ended without a login, as sshd saw them."""
    ends = re.compile(r"^(?:Connection closed|Disconnecting).*\[preauth\]", re.MULTILINE)
    return len(ends.findall(host.server.log_text().replace("\r", "")))


def tries(config: Any, alias: str, number: int, **options: Any) -> list[errors.OpenSSHJobsError]:
    """What so many calls say that all have to fail."""
    found = []
    for _ in range(number):
        with pytest.raises(errors.OpenSSHJobsError) as caught:
            Connection(alias, ssh_config=config, **options).run("true")
        assert caught.value.sent == "no"
        found.append(caught.value)
    return found


class Mute:
    """A listener that says a few bytes, closes, and counts."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.dials = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self.dials += 1
            with link:
                link.sendall(self._said)
                link.shutdown(socket.SHUT_WR)
                link.settimeout(5)
                try:
                    while link.recv(4096):
                        pass
                except OSError:
                    pass

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

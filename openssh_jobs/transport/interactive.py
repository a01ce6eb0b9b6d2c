"""A command or a shell for a person: the real ssh on the master's socket has our terminal."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from ..openssh import guest, mux_protocol, terminal
from .base import Link, LinkLost
from .process import guest_error

if TYPE_CHECKING:
    from ..openssh.ssh_config import Resolved
    from .sessions import Sessions

_MOST_SAID = 65536
_FAILED = 255
"""The status of ssh for errors of its own; a command may have it, too."""


def run(sessions: Sessions, resolved: Resolved, command: bytes, *, tty: bool, what: str) -> int:
    """Run a command line of the login shell, or a login shell, on our standard streams.

    ``tty``: on a terminal of the host, of the size of ours.  Returns the exit status as ssh does
    (255 after a signal).  Raises what ``Sessions.start`` raises.
    """

    def start(link: Link) -> int:
        with tempfile.NamedTemporaryFile(prefix="oj-ssh-") as said:
            code = terminal.hold(_arguments(link, resolved, command, said.name, tty=tty))
            if code == _FAILED:
                _raise_failure(link, said.read(_MOST_SAID))
        return code

    code, slot = sessions.start(start, what=what)
    slot.release()
    return code


def _arguments(
    link: Link, resolved: Resolved, command: bytes, log: str, *, tty: bool
) -> list[str | bytes]:
    argv: list[str | bytes] = [*guest.arguments("ssh", link.path), "-tt" if tty else "-T"]
    # At LogLevel=INFO it would name the host, which is "none" here, when it ends.
    argv += ["-E", log, "-o", "LogLevel=ERROR"]
    if tty:
        # The language of the user's terminal, among others.
        argv += guest.session_options(resolved)
    return [*argv, "--", "none", *([command] if command else [])]


def _raise_failure(link: Link, said: bytes) -> None:
    """Raise ``TransportError`` if the status is ssh's own."""
    if said.strip():
        raise guest_error(said)
    try:
        mux_protocol.alive(link.path, timeout=5.0)
    except mux_protocol.MuxError as error:
        raise LinkLost("the master has ended", sent="yes") from error

"""Command lines of ssh, sftp and scp that use a master's socket or fail.

They read no configuration and open no connection themselves: without ``ProxyCommand=false`` ssh
would log in a second time if the master is missing or full.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from . import ssh_config

if TYPE_CHECKING:
    from .ssh_config import Resolved

Program = Literal["ssh", "sftp", "scp"]

_GUARD = ("ControlMaster=no", "ProxyCommand=false", "BatchMode=yes")

# ssh's own messages, each at the beginning of a line: output of the host may contain any of them.
_REFUSED = re.compile(rb"^mux_client_request_session: session request failed: .*", re.MULTILINE)
_NO_LISTENER = re.compile(rb"^Control socket connect\(", re.MULTILINE)
_CUT_OFF = re.compile(rb"^(?:mux_client_\w+: (?:read|write) |muxclient: ).*", re.MULTILINE)
_GUARDED = re.compile(rb"^(?:kex_exchange_id|[\w ]+(?:: Conn)?[\w ]* UNKNOWN port 65535)", re.M)

Failure = Literal["refused", "no master", "cut off"]


def arguments(program: Program, path: str) -> list[str]:
    """The command line up to the host name; any name will do, as it is not used."""
    if program == "ssh":
        way = ["-S", path.replace("%", "%%")]
    else:
        # For sftp and scp -S is a program, not a socket.
        quoted = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
        way = ["-o", f'ControlPath="{quoted}"']
    options = [word for option in _GUARD for word in ("-o", option)]
    return [ssh_config.find(program), "-F", "none", *options, *way]


def session_options(resolved: Resolved) -> list[str]:
    """What the user's configuration says of a session, as options; a guest does not read it."""
    words = [f"SendEnv={names}" for names in resolved.values.get("sendenv", ())]
    # ssh takes one EscapeChar only.
    words += [f"EscapeChar={text}" for text in resolved.values.get("escapechar", ())[:1]]
    return [part for word in words for part in ("-o", word)]


def failure_of(stderr: bytes) -> tuple[Failure, str]:
    """Why a guest ended before its command began, from the messages of ssh.

    ``refused``: the server grants no more sessions, and nothing was run; ``no master``: nothing
    listens on the socket; ``cut off``: the master ended, or ssh gave no reason.
    """
    if found := _REFUSED.search(stderr):
        return "refused", found[0].decode("utf-8", "replace").strip()
    if _NO_LISTENER.search(stderr):
        return "no master", "nothing listens on the master's socket"
    if found := _CUT_OFF.search(stderr):
        return "cut off", found[0].decode("utf-8", "replace").strip()
    if _GUARDED.search(stderr):
        # Only the message about ProxyCommand=false: the socket did not exist.
        return "no master", "there is no master's socket"
    return "cut off", "ssh ended without a message"

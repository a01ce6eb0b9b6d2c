"""Completion for shells: a script made by shtab (extra ``cli``), and the words that it asks for.

The script knows commands and options by itself.  For hosts, jobs, queues and paths on hosts it
runs ``openssh-jobs config --words KIND``, which reads the journal and asks a host only over a
master that is open: it never logs in, and gives up in a fraction of a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from . import options
from .command_parser import Parser
from .exit_codes import UsageError

if TYPE_CHECKING:
    from ..connection import Connection

SHELLS = ("bash", "zsh", "fish")
_HOST_PATIENCE, _PATIENCE = 0.2, 1.0
"""Seconds to wait for a host, and for all else (a journal that is locked)."""
_MOST = 1000
"""Words at most."""
_OF_PATHS = (
    "commands.control_shell",
    "commands.host_tools",
    "commands.scripts",
    "files.host_names",
    "files.path_shell",
    "files.remote_files",
    "files.stat",
)
"""Modules with which a directory on a host is listed."""
_PREAMBLE = {
    # bash splits words at colons as it comes; here HOST:PATH is one word.
    "bash": """
COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}
_openssh_jobs_words() {
    local word
    # Not compgen -W, which expands: a file there may be called $(...).  The line is run later.
    while IFS= read -r word; do
        printf '%q\\n' "$word"
    done < <(openssh-jobs config --words "$1" -- "${2//\\\\/}" 2>/dev/null)
    if [[ $1 == paths && $2 != *:* ]]; then
        compgen -f -- "$2"
    fi
}
_openssh_jobs_hosts() { _openssh_jobs_words hosts "$1"; }
_openssh_jobs_jobs() { _openssh_jobs_words jobs "$1"; }
_openssh_jobs_queues() { _openssh_jobs_words queues "$1"; }
_openssh_jobs_paths() { _openssh_jobs_words paths "$1"; }
""",
    "zsh": """
_openssh_jobs_words() {
    local -a found
    found=("${(@f)$(openssh-jobs config --words $1 -- "$PREFIX" 2>/dev/null)}")
    found=(${found:#})
    (( $#found )) && compadd -S '' -a found
}
_openssh_jobs_hosts() { _openssh_jobs_words hosts }
_openssh_jobs_jobs() { _openssh_jobs_words jobs }
_openssh_jobs_queues() { _openssh_jobs_words queues }
_openssh_jobs_paths() {
    if [[ $PREFIX == *:* ]]; then
        _openssh_jobs_words paths
    else
        _openssh_jobs_words paths
        _files
    fi
}
""",
}
_BEHIND = """
# Behind a host or a directory no space: the path goes on.
_openssh_jobs_complete() {
    _shtab_openssh_jobs "$@"
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:/] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -F _openssh_jobs_complete openssh-jobs
"""
KINDS = ("hosts", "jobs", "queues", "paths")
"""What can be asked for; see ``options.COMPLETES`` for the arguments."""


def script(shell: str) -> str:
    """The text of the completion for a shell.  Raises ``UsageError`` without shtab."""
    try:
        import shtab
    except ImportError:
        raise UsageError(
            "openssh-jobs config: completion is made by shtab, which is not installed; "
            "type: pip install 'openssh-jobs[cli]'."
        ) from None
    from . import app

    parser = Parser(prog="openssh-jobs")
    subparsers = parser.add_subparsers(metavar="COMMAND", prog="openssh-jobs")
    for name, summary in app.COMMANDS.items():
        app.load_command(name).add_command(subparsers, summary)
    for command in subparsers.choices.values():
        command.note_completions()
    asked = "(openssh-jobs config --words {} -- (commandline -ct))"
    text = str(
        shtab.complete(
            parser,
            shell,
            preamble=_PREAMBLE.get(shell, ""),
            choice_functions={
                kind: asked.format(kind) if shell == "fish" else f"_openssh_jobs_{kind}"
                for kind in KINDS
            },
        )
    )
    return text + _BEHIND if shell == "bash" else text


# --------------------------------------------------------------------------- the words


def words(kind: str, args: argparse.Namespace) -> list[str]:
    """Words of a kind that begin like ``args.host``; none where the answer takes too long.

    Then this process exits.
    """
    word = args.host or ""
    signal.signal(signal.SIGALRM, _leave)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        found = [one for one in _WORDS[kind](args) if one.startswith(word) and one.isprintable()]
    except Exception:  # noqa: BLE001 - a word that cannot be completed is not worth a message
        found = []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return sorted(dict.fromkeys(found))[:_MOST]


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _hosts(args: argparse.Namespace) -> list[str]:
    from .. import settings
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        return [*journal.hosts(), *settings.servers()]
    finally:
        journal.close()


def _jobs(args: argparse.Namespace) -> list[str]:
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        rows = journal.rows(limit=_MOST)
        return [row.job_id for row in rows if row.job_id is not None]
    finally:
        journal.close()


def _queues(args: argparse.Namespace) -> list[str]:
    from ..cluster.journal import Journal
    from ..cluster.journal_view import queue_names

    journal = Journal()
    try:
        return [name for host in journal.hosts() for name in queue_names(journal, host)]
    finally:
        journal.close()


def _paths(args: argparse.Namespace) -> list[str]:
    """Paths on a host whose master is open; without a colon the hosts."""
    host, colon, path = (args.host or "").partition(":")
    if not colon:
        return [f"{name}:" for name in _hosts(args)]
    args.host = host
    directory, slash, _ = path.rpartition("/")
    connection = options.ssh_connection(args, master="existing")
    _prepare(connection)
    signal.setitimer(signal.ITIMER_REAL, _HOST_PATIENCE)
    with connection:
        entries = connection.scandir(directory + slash or ".")
    before = f"{host}:{directory}{slash}"
    return [
        f"{before}{entry.name}{'/' if stat.S_ISDIR(entry.stat.st_mode) else ''}"
        for entry in entries
    ]


def _prepare(connection: Connection) -> None:
    """Do what needs no host: from then on only the master, or what is behind it, can hang."""
    for name in _OF_PATHS:
        import_module(f"..{name}", __package__)
    _ = connection.internal.route  # asks ssh -G


_WORDS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "hosts": _hosts,
    "jobs": _jobs,
    "queues": _queues,
    "paths": _paths,
}

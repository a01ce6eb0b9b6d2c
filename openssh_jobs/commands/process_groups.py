"""The process groups of running commands: sending signals to them, ending them."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from .. import logs
from ..errors import OpenSSHJobsError
from ..transport.base import PROBE, SessionRefused, TransportError
from . import scripts
from .marks import STATUS, Marks, exit_status, mark, new_nonce
from .quoting import OWN_SHELL, envelope, quote
from .stdio import close_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..transport.base import Link
    from ..transport.sessions import Sessions
    from .command_line import LoginShell

log = logs.logger("openssh_jobs.command")

_KILL_WAIT = 10.0
_REFUSED_WAIT = 0.2
_CHUNK = 4096
# sshd makes every session a process group, led by the shell whose pid is in the start mark, unless
# a forced command starts a shell as a child of itself: then ps finds the group.
_FIND_GROUP = (
    b"if kill -s 0 $g 2>/dev/null && ! kill -s 0 -- -$g 2>/dev/null; then "
    b"g=$(ps -o pgid= -p $g | tr -d ' '); fi"
)
# A zombie is in its group until its parent reads its status: an orphan's is init, which may take
# seconds, or (of a container) never does it.  Where no ps shows it the group counts as alive.
_ADD_IF_ALIVE = (
    b"s=l; [ $i = 0 ] || s=$(ps -A -o pgid= -o stat= 2>/dev/null | while read -r p t; do "
    b'if [ "-$p" = "$g" ]; then case $t in Z*) echo z;; *) echo l;; esac; fi; done); '
    b"case $s in *l*|'') a=\"$a $g\";; esac"
)

# `-s NAME`: dash rejects `kill -TERM -- -N` ("Illegal number").
_END = (
    b'l=; for g in %%b; do %b; [ -n "$g" ] || exit 1; l="$l -$g"; '
    b"kill -s TERM -- -$g 2>/dev/null; kill -s CONT -- -$g 2>/dev/null; done; i=0; "
    b"while :; do a=; for g in $l; do if kill -s 0 -- $g 2>/dev/null; then %b; fi; done; "
    b'[ -n "$a" ] || exit 0; i=$((i+1)); [ $i -gt 40 ] && exit 1; '
    b"if [ $i = 10 ]; then for g in $a; do kill -s KILL -- $g 2>/dev/null; done; fi; "
    b"sleep 0.1; done" % (_FIND_GROUP, _ADD_IF_ALIVE)
)
# This text reaches the held shell on its stdin, and is in no arguments.  With a forced command the
# line is in the environment; without /proc only arguments can be seen.
_GROUPS_OF = (
    b"$(if [ -r /proc/self/environ ]; then printf '%%s\\n' '%b %b' '%b' | "
    b"grep -lsaF -f - /proc/[0-9]*/cmdline /proc/[0-9]*/environ | "
    b'while IFS=/ read -r _ _ p _; do [ "$p" = $$ ] || ps -o pgid= -p "$p"; done; '
    b"else ps -A -o pgid= -o args= | while read -r p t; do "
    b"case $t in *'%b %b'*|*'%b'*) echo \"$p\";; esac; done; fi 2>/dev/null | sort -u)"
)


class ProcessGroups:
    """Sends signals to the process groups of a host's commands by short scripts."""

    def __init__(self, sessions: Sessions, login_shell: LoginShell) -> None:
        self._sessions = sessions
        self._login_shell = login_shell
        self.aside: Callable[[bytes, float], int | None] | None = None
        """Runs a short script without a new session; ``None`` if that is not possible."""
        self.later: Callable[[bytes], None] | None = None
        """Runs a script when a shell is held again."""

    def signal(self, group: int, name: str) -> bool:
        """Send one signal to a process group; true if the host confirmed it."""
        script = b'g=%d; %b; [ -n "$g" ] || exit 1; kill -s %b -- -$g' % (
            group,
            _FIND_GROUP,
            name.encode(),
        )
        return self._run(script) == 0

    def end(self, groups: Iterable[int]) -> bool:
        """Send TERM and, a second later, KILL, in one round trip; true if no process is left."""
        return self._run(_END % b" ".join(b"%d" % group for group in groups)) == 0

    def is_left(self, group: int, first: int) -> bool:
        """Whether rc files' processes, and none of the command, hold the streams of a session.

        ``first``: a process that began after the rc files.  False where that cannot be found out.
        """
        script = scripts.call("commands/process_groups", "oj_is_left", group, first)
        return self._run(script, patience=_REFUSED_WAIT) == 0

    def end_unstarted(self, nonce: bytes) -> None:
        """End a shell that has not started its command: it never sent its pid.

        It is found by the nonce in its arguments.  No session is opened for that, because another
        shell of the account would hang in the same way: the held shell does it, or the next one.
        """
        half = len(nonce) // 2
        script = _END % (_GROUPS_OF % ((nonce[:half], nonce[half:], PROBE) * 2))
        try:
            if self.aside is not None and self.aside(script, _KILL_WAIT) is not None:
                return
        except (OpenSSHJobsError, TransportError, OSError) as error:
            log.warning("%s: a shell that hangs could not be ended: %s", self._sessions.host, error)
        if self.later is not None:
            self.later(script)

    def _run(self, script: bytes, patience: float = _KILL_WAIT) -> int | None:
        """Run a short script beside a running command, with or without a free session."""
        try:
            if self.aside is not None:
                status = self.aside(script, _KILL_WAIT)
                if status is not None:
                    return status
            return self._run_in_session(script, patience)
        except (OpenSSHJobsError, TransportError, OSError) as error:
            log.warning(
                "%s: the process group could not be reached: %s", self._sessions.host, error
            )
            return None

    def _run_in_session(self, script: bytes, patience: float) -> int | None:
        began = time.monotonic()
        deadline = began + _KILL_WAIT
        link = self._sessions.link()
        while True:
            try:
                return self._status_in_session(link, script, deadline)
            except SessionRefused:
                if time.monotonic() > began + patience:
                    raise
                # With MaxSessions 1 the command itself holds the only session, until the host's
                # own limit ends it.
                time.sleep(0.05)

    def _status_in_session(self, link: Link, script: bytes, deadline: float) -> int | None:
        """The status of a script, which stands in a mark: rc files may hold the session open."""
        nonce = new_nonce()
        text = OWN_SHELL + b"(" + script + b"\n)\n" + mark(nonce, STATUS, b"$?")
        command = b"exec /bin/sh -c " + quote(text)
        if self._login_shell.family != "sh":
            command = envelope(text)
        marks = Marks(nonce, hold=True, host=self._sessions.host)
        out, theirs = os.pipe()
        with open(os.devnull, "r+b") as nothing, open(out, "rb", buffering=0) as stream:
            try:
                fds = (nothing.fileno(), theirs, nothing.fileno())
                session = self._sessions.open(link, command, fds)
            finally:
                close_fd(theirs)
            poll = select.poll()
            poll.register(stream, select.POLLIN)
            try:
                while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    data = stream.read(_CHUNK)
                    marks.feed(data or b"")
                    status = exit_status(marks)
                    if status is not None:
                        session.wait(0.05)
                        return status
                    if not data:
                        session.wait(max(0.1, deadline - time.monotonic()))
                        if session.status is None:
                            raise SessionRefused("no session for the signal")
                        return session.status
                return None
            finally:
                session.close()

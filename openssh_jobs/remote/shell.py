"""The control shell: one held /bin/sh on the host for the library's own short commands.

Half a millisecond and one round trip a command; slow or noisy rc files are paid once.  Users'
commands never come here: a background child of theirs would speak into the next answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CommandTimeout, ConnectError, ConnectionLost, Sent
from ..openssh import keeper, mux
from ..openssh.sessions import OPEN_TIMEOUT, failure_of
from . import wrapper
from .exchange import close_fd
from .quoting import describe, to_text

if TYPE_CHECKING:
    from ..openssh.master import Link
    from ..openssh.sessions import Session, Sessions, Slot
    from .command import Commands

log = logging.getLogger("openssh_jobs.shell")

CALL_TIMEOUT = 120.0
_CHUNK = 65536


class Answer(NamedTuple):
    """What a control command answered: exit status, stdout, stderr."""

    status: int
    stdout: bytes
    stderr: bytes


class _Ended(Exception):
    """The shell is gone; ``sent`` says if the command had been given to it."""


class _Held:
    """One shell at work: its session and pipes."""

    def __init__(self, sessions: Sessions, link: Link) -> None:
        self.link = link
        self.slot: Slot | None = None
        self._out = bytearray()
        self._err = bytearray()
        theirs: list[int] = []
        self.inp = self.out = self.err = -1
        try:
            their_in, self.inp = os.pipe()
            theirs.append(their_in)
            self.out, their_out = os.pipe()
            theirs.append(their_out)
            self.err, their_err = os.pipe()
            theirs.append(their_err)
            self.session: Session = sessions.open(
                link, b"exec /bin/sh -s " + wrapper.FAMILY_WORDS, (their_in, their_out, their_err)
            )
        except BaseException:
            for fd in (self.inp, self.out, self.err):
                close_fd(fd)
            raise
        finally:
            for fd in theirs:
                close_fd(fd)

    def begin(self, sessions: Sessions) -> tuple[bytes, bytes]:
        """Prepare the shell; returns its pid and the family of the login shell."""
        script = (
            b"LC_ALL=C; export LC_ALL; unset CDPATH ENV BASH_ENV; "
            + wrapper.FAMILY_TEST
            + b"echo $$ $f"
        )
        try:
            answer = self.call(script, time.monotonic() + OPEN_TIMEOUT, subshell=False)
        except _Ended:
            self.session.wait(5.0)
            self._read_rest()
            said = bytes(self._err)
            if sessions.backend == "process" and self.session.status in (255, None):
                raise failure_of(said) from None
            said = bytes(self._out) + b" " + said
            words = " ".join(to_text(said).split())[:200] or "it said nothing"
            raise mux.MuxLost(f"the login shell started no /bin/sh: {words}", sent="no") from None
        pid, family = answer.stdout.split()[:2]
        return pid, family

    def call(self, script: bytes, deadline: float, *, subshell: bool = True) -> Answer:
        """One framed command; ``TimeoutError`` at the deadline, ``_Ended`` at the end."""
        nonce = b"oj-" + os.urandom(9).hex().encode()
        opening, closing = (b"(", b")") if subshell else (b"{", b"}")
        text = (
            b"echo %b; echo %b >&2; %b\n%b\n%b </dev/null; "
            b"printf '\\n%%s %%d\\n' %b $?; printf '\\n%%s\\n' %b >&2\n"
            % (nonce, nonce, opening, script, closing, nonce, nonce)
        )
        self._send(text, deadline)
        head, tail = nonce + b"\n", b"\n" + nonce
        while True:
            out, err = self._out, self._err
            # Both frames must be closed, and the status line of stdout be whole.  It is looked
            # for at the end only, else a long answer would be searched again for every piece.
            end_out = out.rfind(tail + b" ", max(0, len(out) - len(tail) - 16))
            if end_out >= 0 and out.endswith(b"\n") and err.endswith(tail + b"\n"):
                status = int(out[end_out + len(tail) :].split()[0])
                answer = Answer(
                    status,
                    bytes(out[out.find(head) + len(head) : end_out]),
                    bytes(err[err.find(head) + len(head) : -len(tail) - 1]),
                )
                self._out, self._err = bytearray(), bytearray()
                return answer
            self._read(deadline)

    def _send(self, text: bytes, deadline: float) -> None:
        view = memoryview(text)
        os.set_blocking(self.inp, False)
        poll = select.poll()
        poll.register(self.inp, select.POLLOUT)
        while view:
            try:
                view = view[os.write(self.inp, view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError from None
                poll.poll(left * 1000)
            except OSError:
                raise _Ended from None

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self.out, select.POLLIN)
        poll.register(self.err, select.POLLIN)
        ready = poll.poll(max(0, left) * 1000)
        if not ready:
            raise TimeoutError
        ended = False
        for fd, _ in ready:
            data = os.read(fd, _CHUNK)
            ended = ended or not data
            (self._out if fd == self.out else self._err).extend(data)
        if ended:
            self._read_rest()
            raise _Ended

    def _read_rest(self) -> None:
        """What is there of both streams; why a shell ended may come behind its end."""
        for fd, kept in ((self.out, self._out), (self.err, self._err)):
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
                kept += os.read(fd, _CHUNK)

    def close(self, *, wait: float) -> None:
        """End the shell by closing its stdin, and wait a little until the session is over."""
        self._close_pipes()
        self.session.wait(wait)
        self.session.close()
        if self.slot is not None:
            self.slot.release()

    def abandon(self) -> None:
        """In a forked child: let go without a word to the shell, which is the parent's."""
        self._close_pipes()
        self.session.abandon()

    def _close_pipes(self) -> None:
        fds = (self.inp, self.out, self.err)
        self.inp = self.out = self.err = -1
        for fd in fds:
            close_fd(fd)


class ControlShell:
    """The held shell of a connection: opened when needed, given back when idle."""

    def __init__(self, sessions: Sessions, commands: Commands) -> None:
        self._sessions = sessions
        self._commands = commands
        self.reset()
        sessions.on_reclaim(self._reclaim)

    def reset(self) -> None:
        """Start anew, as after a fork."""
        held = getattr(self, "_held", None)
        if held is not None:
            held.abandon()
        self._lock = threading.RLock()
        self._held: _Held | None = None
        self._chores: list[bytes] = []
        self.round_trip = float("inf")
        """The shortest time that a call has taken, in seconds: about one round trip."""
        self._used_at = 0.0
        self.calls = 0

    def call(
        self,
        script: bytes,
        *,
        timeout: float = CALL_TIMEOUT,
        again: bool = False,
    ) -> Answer:
        """Run a short POSIX script and return its answer; one round trip.

        ``again=True`` says that running it twice does no harm: it is then repeated once where
        the shell or the link was lost under it.  Raises ``ConnectionLost``, ``CommandTimeout``.
        """
        what = describe(script, 80)
        if not self._lock.acquire(timeout=timeout):
            raise self._too_late(what, timeout, "no")
        try:
            lost: ConnectionLost | None = None
            for last in (not again, True):
                try:
                    held = self._held = self._hold(what)
                except ConnectError as error:
                    if lost is None:
                        raise
                    # What came first is what happened; that there is no link yet comes of it.
                    raise lost from error
                chores = self._chores[:]
                began = time.monotonic()
                try:
                    answer = held.call(_with_chores(chores, script), began + timeout)
                except _Ended:
                    self._drop()
                    lost = self._sessions.master.lost(held.link, what)
                    if last:
                        self._sessions.forget(held.link)
                        raise lost from None
                    continue
                except TimeoutError:
                    self._drop()
                    raise self._too_late(what, timeout, "maybe") from None
                except BaseException:
                    # Interrupted between question and answer: the frames no longer match.
                    self._drop()
                    raise
                del self._chores[: len(chores)]
                self.calls += 1
                self._used_at = time.monotonic()
                self.round_trip = min(self.round_trip, self._used_at - began)
                self._sessions.confirmed()
                if self._sessions.wished_by_others():
                    self._drop(wait=2.0)
                return answer
        finally:
            self._lock.release()
        raise AssertionError("not reached")

    def _too_late(self, what: str, timeout: float, sent: Sent) -> CommandTimeout:
        return CommandTimeout(
            f"the host did not answer within {timeout:g} s",
            host=self._commands.host,
            command=what,
            timeout=timeout,
            sent=sent,
        )

    def later(self, script: bytes) -> None:
        """Run a script before the next command: what could not be cleaned up without a link."""
        self._chores.append(script)

    def call_if_free(self, script: bytes, *, timeout: float) -> Answer | None:
        """As ``call``, but ``None`` where no shell is held, or another thread is using it."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._held is None or not self._still_there(self._held):
                return None
            return self.call(script, timeout=timeout)
        finally:
            self._lock.release()

    def _hold(self, what: str) -> _Held:
        if self._held is not None:
            if self._still_there(self._held):
                return self._held
            self._drop()

        def starter(link: Link) -> _Held:
            held = _Held(self._sessions, link)
            try:
                _, family = held.begin(self._sessions)
            except TimeoutError:
                held.close(wait=0)
                raise mux.MuxTimeout("the host's shell did not begin") from None
            except BaseException:
                held.close(wait=0)
                raise
            self._commands.learned(family)
            return held

        held, slot = self._sessions.start(starter, what=what, again=True)
        held.slot = slot
        keeper.watch(self)
        return held

    @staticmethod
    def _still_there(held: _Held) -> bool:
        """Whether an idle shell has not closed its stdout: a look, not a question."""
        poll = select.poll()
        poll.register(held.out, select.POLLIN)
        return not poll.poll(0)

    def _drop(self, wait: float = 0.0) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close(wait=wait)

    def _reclaim(self) -> None:
        self.give_back(idle_for=0.0)

    def give_back(self, *, idle_for: float) -> bool:
        """Close the shell if it is idle; true if none is held now."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._held is None:
                return True
            idle = time.monotonic() - self._used_at
            if idle >= idle_for or self._sessions.wished_by_others():
                self._drop(wait=2.0)
                return True
            return False
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give the session back now."""
        with self._lock:
            self._drop(wait=2.0)


def _with_chores(chores: list[bytes], script: bytes) -> bytes:
    """A command with what is left to be done in front, which neither speaks nor fails."""
    return b"".join(b"( %b ) >/dev/null 2>&1\n" % one for one in chores) + script

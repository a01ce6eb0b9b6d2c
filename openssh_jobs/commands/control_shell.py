"""The control shell: one held /bin/sh on the host for the library's own short commands.

Half a millisecond and one round trip a command; slow or noisy rc files are paid once.  Users'
commands never come here: a background child of theirs would speak into the next answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CommandTimeout, ConnectError, ConnectionLost, InvalidAnswer, Sent
from ..openssh import mux_protocol, reaper
from ..openssh.locks import CallLock
from ..transport.sessions import failure_of
from . import command_line, limits
from .child import SILENT, not_started
from .quoting import describe
from .stdio import close_fd

if TYPE_CHECKING:
    from ..openssh.master import Link
    from ..transport.sessions import Session, Sessions, Slot
    from .runner import Commands

log = logging.getLogger("openssh_jobs.shell")

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
        self._nonce = command_line.new_nonce()
        self.answered = False
        theirs: list[int] = []
        self.inp = self.out = self.err = -1
        try:
            their_in, self.inp = os.pipe()
            theirs.append(their_in)
            self.out, their_out = os.pipe()
            theirs.append(their_out)
            self.err, their_err = os.pipe()
            theirs.append(their_err)
            line = command_line.control_shell(self._nonce)
            self.session: Session = sessions.open(link, line, (their_in, their_out, their_err))
        except BaseException:
            for fd in (self.inp, self.out, self.err):
                close_fd(fd)
            raise
        finally:
            for fd in theirs:
                close_fd(fd)

    def begin(self, commands: Commands, what: str) -> bytes:
        """Wait until the shell has told that it reads commands; returns the login shell's family.

        Until then nothing is written: whatever else reads its stdin would run it.
        """
        sessions = commands.sessions
        marks = command_line.Marks(self._nonce, hold=True, host=commands.host)
        out_marks = command_line.Marks(self._nonce, hold=True, host=commands.host)
        deadline = time.monotonic() + commands.start_timeout
        try:
            while marks.number(command_line.START, 2**31 - 1) is None or out_marks.holds:
                self._read(deadline)
                for stream, kept in ((marks, self._err), (out_marks, self._out)):
                    stream.feed(bytes(kept))
                    kept.clear()
        except TimeoutError:
            why = f"{SILENT} {commands.start_timeout:g} s"
            if not sessions.round_trip(self.link):
                raise mux_protocol.MuxTimeout("the host's shell did not begin") from None
        except InvalidAnswer as error:
            why = f"spoke on and on ({error.message})"
        except _Ended:
            marks.feed(bytes(self._err))
            out_marks.feed(bytes(self._out))
            why = self._why_it_ended(sessions, marks.noise)
        else:
            words = marks.value(command_line.START) or []
            return words[1] if len(words) > 1 else b"other"
        raise not_started(
            sessions, what, why=why, status=self.session.status, out=out_marks.noise,
            err=marks.noise,
        ) from None  # fmt: skip

    def read_nothing(self, sessions: Sessions) -> int | None:
        """The status of a shell that ended at its first command: an rc file gave it another stdin.

        ``None`` where it answered before, or where the link may have been lost.
        """
        if self.answered or not self.session.wait(5.0) or not sessions.still_answers(self.link):
            return None
        return self.session.status

    def _why_it_ended(self, sessions: Sessions, said: bytes) -> str:
        self.session.wait(5.0)
        status = self.session.status
        if sessions.backend == "process" and (status is None or status < 0 or status == 255):
            failure = failure_of(said)
            refused = isinstance(failure, mux_protocol.SessionRefused)
            if refused or not sessions.still_answers(self.link):
                failure.sent = "no"
                raise failure
        elif status is None and not sessions.still_answers(self.link):
            raise mux_protocol.MuxLost("the session ended before its shell began", sent="no")
        return "ended" if status is None else f"ended with status {status}"

    def call(self, script: bytes, deadline: float, most: int) -> Answer:
        """One framed command; ``TimeoutError`` at the deadline, ``_Ended`` at the end.

        Raises ``InvalidAnswer`` where more than ``most`` bytes come, or no status in the frame.
        """
        nonce = command_line.new_nonce()
        begin, half = command_line.mark(nonce), len(nonce) // 2
        end = b"'\n%s%s %s\n' " + nonce[:half] + b" " + nonce[half:]
        text = (
            begin + b"; " + begin + b" >&2; (\n" + script + b"\n) </dev/null; "
            b"printf " + end + b" $?; printf " + end + b" - >&2\n"
        )  # fmt: skip
        self._send(text, deadline)
        head, tail = nonce + b"\n", b"\n" + nonce + b" "
        while True:
            out, err = self._out, self._err
            # Both frames must be closed, and the status line of stdout be whole.  It is looked
            # for at the end only, else a long answer would be searched again for every piece.
            end_out = out.rfind(tail, max(0, len(out) - len(tail) - 16))
            if end_out >= 0 and out.endswith(b"\n") and err.endswith(tail + b"-\n"):
                return self._answer(head, end_out, len(tail))
            if len(out) > most or len(err) > limits.ANSWER:
                raise InvalidAnswer(f"the host answered with more than {most} bytes")
            self._read(deadline)

    def _answer(self, head: bytes, end_out: int, length: int) -> Answer:
        out, err = self._out, self._err
        status = bytes(out[end_out + length : -1])
        begin_out, begin_err = out.find(head), err.find(head)
        if not (status.isdigit() and len(status) <= 3) or begin_out < 0 or begin_err < 0:
            raise InvalidAnswer("the host answered without the frame that was asked for")
        answer = Answer(
            int(status),
            bytes(out[begin_out + len(head) : end_out]),
            bytes(err[begin_err + len(head) : -length - 2]),
        )
        self._out, self._err = bytearray(), bytearray()
        self.answered = True
        return answer

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
        # Not reentrant: a call from a signal handler would take the answer of the one that it
        # interrupts.
        self._lock = CallLock("a command of the control shell", self._sessions.master.target.host)
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
        timeout: float = limits.CALL,
        again: bool = False,
        most: int = limits.ANSWER,
    ) -> Answer:
        """Run a short POSIX script and return its answer; one round trip.

        ``again=True`` says that running it twice does no harm: it is then repeated once where
        the shell or the link was lost under it.  ``most``: bytes of an answer.  Raises
        ``CommandNotStarted``, ``ConnectionLost``, ``InvalidAnswer``, ``CommandTimeout``.
        """
        what = describe(script, 80)
        if not self._lock.acquire(timeout=timeout):
            raise self._too_late(what, timeout, "no")
        try:
            return self._call(script, what, timeout, again, most)
        finally:
            self._lock.release()

    def _call(self, script: bytes, what: str, timeout: float, again: bool, most: int) -> Answer:
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
                answer = held.call(_with_chores(chores, script), began + timeout, most)
            except InvalidAnswer as error:
                self._drop()
                message = f"{error.message} ({what})"
                host = self._commands.host
                raise InvalidAnswer(message, host=host, command=what) from None
            except _Ended:
                status = held.read_nothing(self._sessions)
                self._drop()
                if status == 0:
                    why = "ended with status 0 and read no command"
                    raise not_started(self._sessions, what, why=why, status=0) from None
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
        """As ``call``, but ``None`` where no shell is held, or another call is using it."""
        if self._lock.is_mine or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._held is None or not self._still_there(self._held):
                return None
            return self._call(script, describe(script, 80), timeout, False, limits.ANSWER)
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
                family = held.begin(self._commands, what)
            except BaseException:
                held.close(wait=0)
                raise
            self._commands.learned(family)
            return held

        held, slot = self._sessions.start(starter, what=what, again=True)
        held.slot = slot
        slot.kept()
        reaper.watch(self)
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
        if self._lock.is_mine or not self._lock.acquire(blocking=False):
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

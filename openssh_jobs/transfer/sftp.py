"""The held ``sftp``: one subprocess in batch mode on the master's socket, kept for the next file.

An error ends the batch and sftp itself, so a failed call costs a new process and nothing else.
"""

from __future__ import annotations

import os
import re
import select
import time
from functools import partial
from typing import TYPE_CHECKING

from .. import logs
from ..commands import limits
from ..commands.child import SILENT, not_started
from ..commands.os_errors import errno_of, error_of, local_error
from ..commands.quoting import to_text, visible
from ..commands.stdio import Movement
from ..errors import ConnectionLost, TransferError
from ..openssh import process
from ..transport.base import LinkLost, LinkSilent, TransportError
from ..transport.held_session import GRACE, HeldSession, WorkerLost
from .progress import read_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..transport.base import Link
    from ..transport.sessions import Sessions

_CHUNK = 65536
# `pwd` is answered from memory and cannot fail: its output says that all lines before it are done.
_SYNC = b"pwd\n"
_SYNC_ANSWER = b"Remote working directory: "
_ECHO = b"sftp> "
"""The prompt that sftp prints before each line of a batch when it executes the line."""
_MAX_LINE = 8000
"""sftp reads lines of at most 8191 bytes ("string too long")."""

log = logs.logger("openssh_jobs.transfer")


_LINK_WORDS = (b"Connection closed", b"Connection reset", b"Couldn't read packet",
               b"Couldn't send packet", b"Broken pipe")  # fmt: skip
# `write local "P": …`, `open local "P": …`, `stat P: …` (the source of a put)
_LOCAL = re.compile(r'^(?:\w+ local "|local \w+ "|\w+ on local file "|stat (?!remote))'
                    r'(?P<path>.*?)"?: (?P<words>[^:]*)\Z', re.MULTILINE)  # fmt: skip


class NoSubsystem(Exception):
    """The host offers no sftp."""


class _Failed(Exception):
    """sftp ended: its return code and its stderr."""

    def __init__(self, returncode: int | None, stderr: bytes) -> None:
        super().__init__(returncode, stderr)
        self.returncode = returncode
        self.stderr = stderr


class _Batch:
    """One running sftp process, in batch mode."""

    def __init__(self, link: Link, argv: Sequence[str]) -> None:
        self.link = link
        self._stderr = b""
        self._line = b""
        self._begun = 0
        self._child = process.spawn(
            argv, stdin=process.PIPE, stdout=process.PIPE, stderr=process.PIPE
        )
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def call(
        self,
        lines: Sequence[bytes],
        *,
        stall: float | None,
        tick: Callable[[], object] | None = None,
        moved: Callable[[], int | None] | None = None,
        through: Callable[[int], object] | None = None,
        most: float | None = None,
    ) -> None:
        """Run batch lines; ``_Failed`` at the first error.

        ``stall``: seconds without progress after which the call fails, ``most``: seconds in total;
        ``moved`` returns a count of bytes that have moved.  ``through`` is called with the
        count of lines that are done.
        """
        self._begun = 0
        began = time.monotonic()
        stdin, stdout, stderr = self._child.stdin, self._child.stdout, self._child.stderr
        if stdin is None or stdout is None or stderr is None:
            raise AssertionError("sftp was started without pipes")
        data = memoryview(b"".join(line + b"\n" for line in lines) + _SYNC)
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        poll.register(stderr, select.POLLIN)
        poll.register(stdin, select.POLLOUT)
        last, movement, seen = began, Movement(), 0
        while True:
            begun = self._begun
            for fd, _ in poll.poll(250):
                if fd == stdin.fileno():
                    data = self._write(data, poll)
                elif fd == stdout.fileno():
                    if self._read_stdout():
                        self._read_stderr()
                        return
                else:
                    self._read_stderr()
            if tick is not None:
                tick()
            if through is not None:
                through(max(0, self._begun - 1))
            now_at = time.monotonic()
            if self._begun != begun:
                last = now_at
            if moved is not None:
                count = moved() or 0
                movement.add(abs(count - seen))
                seen = count
            if stall is not None and now_at - max(last, movement.at) > stall:
                raise TimeoutError
            if most is not None and now_at - began > most:
                raise TimeoutError

    def _write(self, data: memoryview, poll: select.poll) -> memoryview:
        stdin = self._child.stdin
        if stdin is None:
            raise AssertionError("no stdin")
        try:
            data = data[os.write(stdin.fileno(), data[:_CHUNK]) :]
        except BlockingIOError:
            return data
        except OSError:
            raise self._failed() from None
        if not data:
            poll.unregister(stdin)
        return data

    def _read_stdout(self) -> bool:
        """True when the answer to the last line has come."""
        stdout = self._child.stdout
        if stdout is None:
            raise AssertionError("no stdout")
        data = os.read(stdout.fileno(), _CHUNK)
        if not data:
            raise self._failed()
        self._line += data
        if len(self._line) > limits.WORDS:
            self._line = self._line[-_CHUNK:]  # no line of sftp's own is as long
        *lines, self._line = self._line.split(b"\n")
        self._begun += sum(line.startswith(_ECHO) for line in lines)
        return any(line.startswith(_SYNC_ANSWER) for line in lines)

    def _read_stderr(self) -> None:
        stderr = self._child.stderr
        if stderr is None:
            return
        try:
            data = os.read(stderr.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if len(self._stderr) < limits.WORDS:
            self._stderr += data

    def _failed(self) -> _Failed:
        process.wait(self._child, 5.0)
        self._read_stderr()
        return _Failed(self._child.poll(), self._stderr)

    @property
    def said(self) -> bytes:
        """The output so far on its stderr."""
        return self._stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._child.poll() is None

    def close(self, *, grace: float) -> None:
        """End sftp by the end of its input; after ``grace`` seconds by a signal."""
        self._close_pipes()
        if not process.wait(self._child, grace):
            process.end(self._child)

    def abandon(self) -> None:
        """In a forked child: close our copies; the process is the parent's."""
        self._close_pipes()
        # The process is the parent's; without this Popen would warn at garbage collection.
        self._child.returncode = 0

    def _close_pipes(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass


class Sftp:
    """The files lane of a connection."""

    def __init__(self, sessions: Sessions, *, start_timeout: float = limits.START) -> None:
        self._sessions = sessions
        self.start_timeout = start_timeout
        self._is_silent = False
        # A signal handler's call would write into the batch that it interrupts.
        self._session = HeldSession(sessions, self._start, "a command of sftp", counts=False)

    def reset(self) -> None:
        """Forget all state, as after a fork."""
        self._is_silent = False
        self._session.reset()

    @property
    def started(self) -> int:
        """How many sftp processes were started."""
        return self._session.started

    def call(
        self,
        lines: Sequence[bytes],
        *,
        path: str | bytes,
        again: bool = True,
        stall: float = 300.0,
        tick: Callable[[], object] | None = None,
        moved: Callable[[], int | None] | None = None,
        through: Callable[[int], object] | None = None,
    ) -> None:
        """Run lines of sftp's batch language, as one batch that stops at the first error.

        ``path`` is the path in errors; ``again``: retry once if the link is lost.  ``through`` is
        called, at least four times a second, with the count of lines that are done.  ``stall``:
        seconds without progress after which the call fails; ``moved`` returns the count of bytes
        that have moved (default: the system's counter for sftp; without such a counter only the
        master's keepalives detect a dead link).
        Raises the ``OSError`` of the path, ``TransferError``, ``ConnectionLost``, ``NoSubsystem``.
        """
        for line in lines:
            if len(line) > _MAX_LINE:
                raise TransferError(
                    f"the name is too long for sftp's batch language: {to_text(line)[:80]!r}…",
                    host=self._sessions.host,
                    advice='Use method="tar".',
                )

        if lines:
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            log.debug("%s: sftp: %s%s", self._sessions.host, to_text(lines[0]), more)

        used: list[Link] = []

        def work(batch: _Batch) -> None:
            used.append(batch.link)
            signs = moved
            if signs is None and read_counter(batch.pid, "rchar") is not None:
                signs = partial(read_counter, batch.pid, "rchar")
            limit = stall if signs is not None else None
            try:
                batch.call(lines, stall=limit, tick=tick, moved=signs, through=through)
            except _Failed as failed:
                self._session.drop(grace=0.5)
                raise self._error(failed, path, batch.link) from None
            except TimeoutError:
                self._session.drop(grace=GRACE)
                raise ConnectionLost(
                    f"nothing moved for {stall:g} s", host=self._sessions.host, sent="maybe"
                ) from None

        with self._session.lock:
            try:
                self._session.call(work, to_text(lines[0]), again=again)
            except ConnectionLost as lost:
                if not used or not self._sessions.answers(used[-1]):
                    raise
                raise TransferError(
                    f"the host's sftp server ended meanwhile ({to_text(_bytes(path))!r})",
                    host=self._sessions.host,
                    sent=lost.sent,
                    advice="A limit there may have ended it (`ulimit -a`, an rc file).",
                ) from lost

    def _start(self, link: Link, what: str) -> _Batch:
        program = self._sessions.program(link, "sftp")
        if program is None:
            raise NoSubsystem("there is no ssh to copy over with sftp")
        if self._is_silent:
            raise NoSubsystem("the sftp server does not answer")
        # A guest of the master does not use the host name.
        batch = _Batch(link, [*program, "-q", "-b", "-", "none"])
        try:
            # The answer to this first request proves that a session was granted and that an sftp
            # server, which sent its version, runs on the other side.
            batch.call([], stall=self.start_timeout, most=self.start_timeout)
        except _Failed as failed:
            batch.close(grace=0.5)
            raise self._refusal(link, failed) from None
        except TimeoutError:
            said = batch.said
            batch.close(grace=0.0)
            if not self._sessions.answers(link):
                raise LinkSilent("sftp did not begin") from None
            if self._sessions.opened and self._sessions.silent is None:
                # The login shell starts commands: it is the server that hangs.
                self._is_silent = True
                raise NoSubsystem("the sftp server does not answer") from None
            raise not_started(
                self._sessions, what, why=f"{SILENT} {self.start_timeout:g} s", err=said
            ) from None
        except BaseException:
            batch.close(grace=0.0)
            raise
        return batch

    def _refusal(self, link: Link, failed: _Failed) -> Exception:
        """Why sftp did not start; checked by another session, because -q hides ssh's messages."""
        said = to_text(failed.stderr)
        if "subsystem request failed" in said:
            return NoSubsystem(visible(said))
        if "Received message too long" in said:
            return NoSubsystem(f"the login shell prints before sftp begins: {_decode_noise(said)}")
        try:
            status = self._ask_for_subsystem(link)
        except TransportError as error:
            return error
        if status not in (0, 255):
            return NoSubsystem("the server has no sftp subsystem")
        if status == 0 or self._sessions.answers(link):
            # A session was granted, but the program in it does not speak sftp.
            return NoSubsystem(f"the sftp subsystem is not an sftp server: {visible(said)}")
        return LinkLost("sftp ended before it began", sent="maybe")

    def _ask_for_subsystem(self, link: Link) -> int | None:
        """The exit status of an sftp server that is started without any request.

        Raises ``TransportError`` if no session was opened.
        """
        import tempfile

        with open(os.devnull, "r+b") as nothing, tempfile.TemporaryFile() as words:
            fds = (nothing.fileno(), nothing.fileno(), words.fileno())
            session = self._sessions.open(link, b"sftp", fds, subsystem=True)
            try:
                session.wait(5.0)
                words.seek(0)
                said = words.read(limits.WORDS)
                failure = self._sessions.failure(link, session, said)
                if failure is not None:
                    raise failure
                return session.status
            finally:
                session.close()

    @staticmethod
    def _is_transport(failed: _Failed) -> bool:
        """Whether the link was lost during the call: by ssh's message, or because of SIGPIPE."""
        if failed.returncode is None or failed.returncode == 255 or failed.returncode < 0:
            return True
        return any(text in failed.stderr for text in _LINK_WORDS)

    def _error(self, failed: _Failed, path: str | bytes, link: Link) -> Exception:
        said = to_text(failed.stderr).strip()
        if self._is_transport(failed):
            return WorkerLost(self._sessions.lost(link, "sftp"))
        local = _LOCAL.search(said)
        if local is not None:
            return local_error(local["path"], local["words"])
        if errno_of(said) is not None:
            return error_of(said, path, host=self._sessions.host)
        line = said.splitlines()[-1] if said else f"sftp ended with status {failed.returncode}"
        return TransferError(
            f"{line} ({to_text(_bytes(path))!r})", host=self._sessions.host, sent="yes"
        )

    @property
    def pid(self) -> int | None:
        """The process id of the held sftp, if one is held."""
        batch = self._session.worker
        return None if batch is None else batch.pid

    def close(self) -> None:
        """Release the session now."""
        self._session.close()


def _bytes(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")


def _decode_noise(said: str) -> str:
    """The first four bytes that the shell printed, which sftp's message shows as a number."""
    digits = "".join(
        char for char in said.split("too long", 1)[-1].split("\n")[0] if char.isdigit()
    )
    try:
        return repr(int(digits).to_bytes(4, "big").decode("ascii", "replace") + "…")
    except (ValueError, OverflowError):
        return "something"

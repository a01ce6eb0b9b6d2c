"""A login on a pseudo-terminal, with a responder that answers the questions of ssh and servers.

ssh asks on its controlling terminal only (readpassphrase(3)), and the banner comes there; a menu
of the server comes as a log message, so the log (``-E``) is read beside the terminal.  Answers are
written to the terminal only, never to a log, an exception, an argument list or the environment.
This is the only module that uses pexpect, which is imported when a login begins.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from . import process, ssh_errors
from .questions import Prompt, PromptKind, accepts_key, is_for_password_method, make_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Responder = Callable[["Prompt"], str | None]

__all__ = ["Prompt", "PromptKind", "Talk", "log_in"]

AFTER_ANSWER: Final = 120.0
"""Seconds for the server after an answer or a touch: the user may have to find a phone."""
MOST_SAID: Final = 1 << 20
"""Characters that a host may send before its question."""
LONGEST_ANSWER: Final = 1000
"""Characters; a terminal line takes 4095 bytes."""

MOST_QUESTIONS: Final = 50
"""Questions of one login, of all hosts on the way."""

_ASKS = re.compile(r"[:?>\])]\s*\Z")
_TOUCH = re.compile(r"^Confirm user presence for key .*$", re.MULTILINE)
_STEP = 0.05
# Seconds without output after which the last line counts as a question.
_QUIET_HIDDEN = 0.05  # the echo is off, so a program reads an answer
_QUIET_KNOWN = 0.3  # it looks like a question
_QUIET_OTHER = 5.0  # it does not look like one
_QUIET_EMPTY = 10.0  # the echo is off, and there is no text


# --------------------------------------------------------------------------- one login


@dataclass(slots=True)
class Talk:
    """How a login on a terminal went.

    ``end`` is ``exited``, ``timeout``, ``unanswered`` (the responder had no answer), ``refused``
    (the same question came again, so the answer was wrong), ``host_key`` (the key was not
    accepted), ``flood`` (too much output) or ``questions`` (too many).  ``status`` is ssh's exit
    status, ``None`` if ssh was killed.  ``said``: all output, the server's too, without the
    answers.  ``logged``: the text of each log after the last question.  ``prompt``: the last one.
    """

    end: str = "exited"
    status: int | None = None
    said: str = ""
    logged: list[str] = field(default_factory=list)
    prompt: Prompt | None = None
    asked: list[PromptKind] = field(default_factory=list)


def log_in(
    argv: Sequence[str],
    responder: Responder,
    *,
    host: str,
    timeout: float,
    namesakes: Callable[[Prompt], int] = lambda prompt: 1,
    users: Sequence[str] = (),
    logs: Sequence[str] = (),
    asked: list[PromptKind] | None = None,
) -> Talk:
    """Run an ``ssh -f`` that opens a master; ``responder`` answers its questions.

    ``timeout``: seconds without a question; the time of the responder does not count.  ``logs``
    are the files to which ssh, and the ssh to a jump host, write their messages; ``asked`` gets
    the kind of each question, also if this raises.  ``namesakes``: how many hosts of the route may
    ask the same question; if it comes more often the answer was wrong, and the login ends.
    ``users``: the names with which ssh logs in on the way.  An exception of the responder ends the
    login and is passed on.
    """
    child = _spawn(argv)
    if asked is None:
        asked = []
    read = [_Log(path) for path in logs]
    talk = _Conversation(child, responder, host, namesakes, users, read, asked)
    try:
        talk.hold(timeout)
    except BaseException:
        _end(child)
        raise
    if talk.result.status is None:
        _end(child)
    with contextlib.suppress(Exception):
        child.close(force=False)
    return talk.result


# When the leader of a terminal's session ends, the foreground process group gets SIGHUP, and the
# end of a proxy command would end the new master.  So a shell is the leader, and ssh and its
# helpers are a job that is not in the foreground any more when the shell ends.
_LEADER = 'set -m; "$@"; exit $?'


def _spawn(argv: Sequence[str]) -> Any:
    import pexpect

    with warnings.catch_warnings():
        # Python 3.12 warns of every fork beside threads; this one runs exec at once.
        warnings.simplefilter("ignore", DeprecationWarning)
        child: Any = pexpect.spawn(
            "/bin/sh",
            ["-c", _LEADER, "sh", *argv],
            timeout=None,
            # The new master has no session of its own at first.
            ignore_sighup=True,
            echo=True,
            encoding=None,
            use_poll=True,
            # With an askpass program the questions would not come on this terminal.
            env=process.child_environment({"SSH_ASKPASS_REQUIRE": "never", "SSH_ASKPASS": "false"}),
        )
    child.delaybeforesend = None
    child.ptyproc.delayafterclose = 0.0
    return child


def _end(child: Any) -> None:
    """End ssh, its processes for jump hosts, and the shell."""
    groups = [child.pid]
    with contextlib.suppress(OSError):
        foreground = os.tcgetpgrp(child.child_fd)
        if foreground > 1 and foreground != os.getpgrp():
            groups.insert(0, foreground)
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
        _signal(groups, number)
        deadline = time.monotonic() + patience
        while _runs(child) and time.monotonic() < deadline:
            time.sleep(0.01)
    with contextlib.suppress(Exception):
        child.close(force=True)


def _signal(groups: Sequence[int], number: int) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _runs(child: Any) -> bool:
    try:
        return bool(child.isalive())
    except Exception:  # noqa: BLE001 - the text of pexpect's errors may contain answers
        return False


class _Log:
    """A file to which ssh writes its messages."""

    def __init__(self, path: str) -> None:
        self._path = path

    def text(self) -> str:
        """The text, up to ``MOST_SAID`` bytes."""
        try:
            with open(self._path, "rb") as handle:
                return handle.read(MOST_SAID).decode("utf-8", "replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def is_flooded(self) -> bool:
        """Whether it has more than ``MOST_SAID`` bytes."""
        try:
            return os.stat(self._path).st_size > MOST_SAID
        except FileNotFoundError:
            return False


class _Conversation:
    """The output, the answers, and the search for the next complete question."""

    def __init__(
        self,
        child: Any,
        responder: Responder,
        host: str,
        namesakes: Callable[[Prompt], int],
        users: Sequence[str],
        logs: list[_Log],
        asked: list[PromptKind],
    ) -> None:
        self.result = Talk(asked=asked)
        self._logs = logs
        self._at = [0] * len(logs)  # length of each that was read before the last answer
        self._partial = False  # one factor of several was accepted since the last question
        self._by_password: dict[str, bool] = {}
        self._child = child
        self._responder = responder
        self._host = host
        self._namesakes = namesakes
        self._users = users
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unseen = ""
        self._secrets: list[str] = []
        self._echoed = ""
        self._answered: Counter[tuple[PromptKind, str, str]] = Counter()
        self._heard = time.monotonic()

    def hold(self, timeout: float) -> None:
        """Read and answer until ssh ends or the login has failed."""
        deadline = time.monotonic() + timeout
        while True:
            if self._listen():
                self._finish(_status(self._child))
                return
            prompt = self._touch() or self._question()
            if prompt is not None:
                self.result.prompt = prompt
                self.result.asked.append(prompt.kind)
                trouble = self._answer(prompt)
                if trouble:
                    self._finish(None, trouble)
                    return
                deadline = time.monotonic() + max(timeout, AFTER_ANSWER)
                self._heard = time.monotonic()
            elif time.monotonic() > deadline:
                self._finish(None, "timeout")
                return
            if len(self._unseen) > MOST_SAID or any(log.is_flooded() for log in self._logs):
                self._finish(None, "flood")
                return
            if len(self.result.asked) > MOST_QUESTIONS:
                self._finish(None, "questions")
                return

    def _finish(self, status: int | None, end: str = "exited") -> None:
        self.result.end = end
        self.result.status = status
        self.result.said = self._redacted(self.result.said + self._unseen)
        for log, at in zip(self._logs, self._at, strict=True):
            self.result.logged.append(self._redacted(log.text()[at:]))
        self._secrets.clear()
        self._unseen = ""

    def _listen(self) -> bool:
        """Read what comes within ``_STEP`` seconds; true at the end of ssh."""
        import pexpect

        over = False
        data = b""
        try:
            data = self._child.read_nonblocking(65536, _STEP)
        except pexpect.TIMEOUT:
            pass
        except (pexpect.EOF, OSError):
            over = True
        if data:
            self._heard = time.monotonic()
            self._unseen += self._decode(data).replace("\r", "")
            if self._echoed and len(self._unseen) >= len(self._echoed):
                # The terminal echoes a visible answer before other output.
                self._unseen = self._unseen.removeprefix(self._echoed)
                self._echoed = ""
        elif over or not _runs(self._child):
            # The terminal is closed, but ssh has not ended yet.
            waited = time.monotonic() + 5
            while _runs(self._child) and time.monotonic() < waited:
                time.sleep(0.01)
            return True
        return False

    def _hidden(self) -> bool:
        try:
            return not self._child.getecho()
        except Exception:  # noqa: BLE001 - no terminal any more
            return False

    def _touch(self) -> Prompt | None:
        found = _TOUCH.search(self._unseen)
        if found is None or not self._unseen[found.end() :].startswith("\n"):
            return None
        text = self._unseen[: found.end()]
        self._take(found.end())
        return Prompt(PromptKind.TOUCH, text.strip("\n"), self._host, True)

    def _question(self) -> Prompt | None:
        """The question in the last line, if it is complete."""
        if self._echoed:
            return None
        line = self._unseen.rpartition("\n")[2]
        quiet = time.monotonic() - self._heard
        hidden = self._hidden()
        if hidden:
            ready = quiet >= (_QUIET_HIDDEN if line.strip() else _QUIET_EMPTY)
        elif not line.strip():
            ready = False
        else:
            ready = quiet >= (_QUIET_KNOWN if _ASKS.search(line) else _QUIET_OTHER)
        if not ready:
            return None
        text = self._redacted(self._logged() + self._unseen).strip("\n")
        self._take(len(self._unseen))
        return make_prompt(text, host=self._host, echo=not hidden, users=self._users)

    def _logged(self) -> str:
        """The text in the logs since the last question, the jump host's first."""
        new = ""
        for number, log in reversed(list(enumerate(self._logs))):
            text = log.text()
            new += text[self._at[number] :]
            self._at[number] = len(text)
        self._partial = ssh_errors.was_partial(new)
        self.result.said += new
        return new

    def _take(self, length: int) -> None:
        self.result.said += self._unseen[:length] + "\n"
        self._unseen = self._unseen[length:].lstrip("\n")

    def _answer(self, prompt: Prompt) -> str:
        """Ask the responder and type its answer; empty, or the ``Talk.end`` of the login."""
        line = prompt.text.rpartition("\n")[2].strip()
        key = (prompt.kind, prompt.host, line)
        self._answered[key] += 1
        again = self._answered[key] > 1 and prompt.kind != PromptKind.TOUCH
        if again and self._answered[key] > self._namesakes(prompt):
            return "refused"
        if self._turned_to_another_method(prompt, line):
            return "refused"
        answer = self._responder(prompt)
        if answer is None:
            return "unanswered"
        if prompt.kind == PromptKind.TOUCH or self._has_more():
            return ""
        trouble = _trouble(answer, prompt.kind)
        if trouble is not None:
            del answer  # a traceback keeps the variables of its frames
            raise trouble
        if prompt.kind == PromptKind.HOST_KEY:
            if not accepts_key(prompt.text, answer):
                return "host_key"
            answer = "yes" if "[fingerprint]" not in line else answer.strip()
        elif answer:
            self._secrets.append(answer)
        if prompt.echo:
            self._echoed = answer + "\n"
        try:
            self._child.send(answer.encode() + b"\n")
        except OSError:
            self._echoed = ""  # ssh has ended; ``_listen`` finds that
        return ""

    def _has_more(self) -> bool:
        """Whether something came after the question, which may be another one now.

        A host could make its own question of a text like ssh's and get the answer to that.
        """
        poll = select.poll()
        poll.register(self._child.child_fd, select.POLLIN)
        return bool(poll.poll(0))

    def _turned_to_another_method(self, prompt: Prompt, line: str) -> bool:
        """Whether a host changed to or from its password method without accepting a factor.

        The last answer was wrong then.
        """
        if prompt.kind in (PromptKind.HOST_KEY, PromptKind.TOUCH, PromptKind.PASSPHRASE):
            return False
        now = is_for_password_method(line)
        before = self._by_password.get(prompt.host, now)
        self._by_password[prompt.host] = now
        return before != now and not self._partial and self._namesakes(prompt) == 1

    def _redacted(self, text: str) -> str:
        """Text without the answers; one or two characters are a choice in a menu, no secret."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) > 2:
                text = text.replace(secret, "***")
        return text


def _trouble(answer: object, kind: PromptKind) -> Exception | None:
    """The error for an answer that cannot be typed, without showing it."""
    if not isinstance(answer, str):
        return TypeError(f"the responder gave {type(answer).__name__}, not text, for a {kind}")
    if len(answer) > LONGEST_ANSWER or any(ord(char) < 32 or ord(char) == 127 for char in answer):
        return ConfigurationError(
            f"the answer to the question for a {kind} must be without control characters and not "
            f"longer than {LONGEST_ANSWER} characters"
        )
    try:
        answer.encode()
    except UnicodeEncodeError:
        return ConfigurationError(f"the answer to the question for a {kind} must be UTF-8 text")
    return None


def _status(child: Any) -> int:
    if child.signalstatus is not None:
        return -int(child.signalstatus)
    return int(child.exitstatus) if child.exitstatus is not None else 255

"""One login: whether the record of logins allows it, the ``ssh`` that makes it, its result.

Called under the route's lock only; ``Master`` is the one caller.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import (
    AuthenticationFailed,
    AuthenticationNeeded,
    ConnectError,
    HostKeyUnknown,
    HostUnreachable,
    JumpHostFailed,
    OpenSSHJobsError,
)
from . import identities, jump_hosts, process, runtime_directory, ssh_config, ssh_errors
from .login_record import PER_HOUR, Keys, LoginRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .destination import Destination
    from .prompts import Prompt, PromptKind, Responder, Talk

_PATIENCE = 10.0
_LOG_TAIL = 16384
_NO_LIMIT = "3600"  # with "none" the value of the configuration would count


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """Where to log in, and how.

    ``hops``: the jump hosts in the order in which they are connected.  ``responder`` answers
    questions; ``None`` for an unattended login.  ``connect_timeout`` in seconds.  ``persist``:
    seconds for which the master stays without sessions, ``None`` for no limit.
    ``logins_per_hour``: ``None`` for the usual limit.
    """

    destination: Destination
    resolved: ssh_config.Resolved
    hops: tuple[jump_hosts.Hop, ...]
    responder: Responder | None
    connect_timeout: float
    persist: int | None
    logins_per_hour: int | None

    @property
    def attended(self) -> bool:
        """Whether a responder can answer questions."""
        return self.responder is not None

    @property
    def hosts(self) -> list[ssh_config.Resolved]:
        """The configuration of each host on the way, of the destination last."""
        return [*(hop.resolved for hop in self.hops), self.resolved]

    @property
    def has_proxy(self) -> bool:
        """Whether the way leads through a jump host or a proxy command."""
        return bool(self.resolved.get("proxyjump") or self.resolved.get("proxycommand"))

    @property
    def ssh_timeout(self) -> float:
        """Seconds after which ssh is ended, unless it waits for an answer."""
        return self.connect_timeout * 2 + _PATIENCE


def record_of(path: str, request: LoginRequest) -> LoginRecord:
    """The record of logins of the route with the socket ``path``, from all socket directories."""
    name = os.path.basename(runtime_directory.places(path)[0])
    places = [os.path.dirname(path)]
    for directory in runtime_directory.directories():
        if directory not in places and runtime_directory.problem_with(directory) is None:
            places.append(directory)
    return LoginRecord(
        [os.path.join(place, name + ".dials") for place in places],
        host=request.destination.host,
        login=request.destination.login_command(),
    )


def open_master(request: LoginRequest, path: str, *, override: bool = False) -> str:
    """Log in and leave a master behind ``path``; returns what ssh said.

    ``override``: log in even if the record of logins forbids it.  Raises ``ConnectError`` and its
    subclasses, ``ConfigurationError``.
    """
    attended = request.attended
    record, before = record_of(path, request), _keys(request)
    if not override:
        record.check(
            keys=before,
            attended=attended,
            per_hour=PER_HOUR if request.logins_per_hour is None else request.logins_per_hour,
        )
    record.begin(attended=attended, override=override)
    asked: list[PromptKind] = []
    try:
        if request.responder is None:
            said = _unattended(request, path)
        else:
            said = _attended(request, path, request.responder, asked)
    except BaseException as error:
        explained: BaseException = error
        if isinstance(error, AuthenticationFailed | AuthenticationNeeded):
            explained = _explain(request, error, path)
        elif isinstance(error, HostUnreachable | JumpHostFailed) and not attended:
            explained = _unconfirmed(request, error)
        # Changes that this login made itself (an accepted host key) do not count.
        try:
            after = _keys(request)
        except OpenSSHJobsError:
            after = before
        after = after if after.own else before  # an agent that is busy with this login
        record.failed(explained, keys=after, attended=attended, asked=bool(asked))
        if explained is error:
            raise
        raise explained from None
    answered = [str(kind) for kind in dict.fromkeys(asked) if kind != "host_key"]
    record.succeeded(answered=answered, keys=_keys(request))
    return said


def _keys(request: LoginRequest) -> Keys:
    """Fingerprints of what the login depends on now, for the jump hosts too."""
    return identities.fingerprint(*request.hosts)


def _explain(request: LoginRequest, error: ConnectError, path: str) -> ConnectError:
    """The same error, with the state of the keys on this machine in its advice."""
    cls, message, advice = type(error), error.message, error.advice
    logs, own = _hop_logs(request, path), read_log(path)
    number = ssh_errors.failed_hop(logs)
    if number is None and not ssh_errors.words_of(own):  # it was ended while one of them asked
        number = next((number for number, hop in enumerate(logs) if not hop.passed), None)
    log = own if number is None else logs[number].text
    said, needs = identities.hints(
        request.hosts[-1 if number is None else number],
        datetime.now(UTC),
        refused=cls is AuthenticationFailed and not request.attended,
        not_signed=ssh_errors.not_signed(log),
    )
    if needs:
        cls = AuthenticationNeeded
        advice = needs.replace("{login}", request.destination.login_command())
    if said:
        advice = " ".join([*said, advice or ""]).strip()
    return cls(message, host=error.host, advice=advice, stderr=error.stderr)


def _unconfirmed(request: LoginRequest, error: ConnectError) -> ConnectError:
    """The same error, or ``AuthenticationNeeded`` if the login has waited for the agent.

    Another login would ask for another confirmation, so there is none before a person can answer.
    """
    silent = [
        answer.socket
        for answer in identities.ask_agents(request.hosts).values()
        if answer.trouble == identities.SILENT
    ]
    if not silent:
        return error
    return AuthenticationNeeded(
        f"{error.message}; the agent at {silent[0]} does not answer, it may wait for a "
        "confirmation (ssh-add -c) or a PIN",
        host=error.host,
        advice=f"Type `{request.destination.login_command()}` and confirm.",
        stderr=error.stderr,
    )


def _too_long(request: LoginRequest, path: str, seconds: float, said: str) -> HostUnreachable:
    waiting = next((hop.name for hop in _hop_logs(request, path) if not hop.passed), "")
    at = f" (it waited for the jump host {waiting})" if waiting else ""
    return HostUnreachable(
        f"the login did not finish within {seconds:.0f} s{at}",
        host=request.destination.host,
        stderr=said,
        advice=f"See `ssh -v {request.destination.host}`.",
    )


def _failure(
    request: LoginRequest,
    said: str,
    hops: Sequence[ssh_errors.HopLog],
    *,
    attended: bool,
    asked: bool = False,
    status: int | None = None,
) -> OpenSSHJobsError:
    """The error that ssh's log means; ``status`` is negative if a signal ended ssh."""
    if status is not None and (status < 0 or 128 < status < 160):  # the latter from a shell
        number = -status if status < 0 else status - 128
        lines = [line for text in (*(hop.text for hop in hops), said) for line in text.split("\n")]
        return ConnectError(
            f"signal {number} ended ssh before the login finished",
            host=request.destination.host,
            stderr="\n".join(ssh_errors.words_of("\n".join(lines))),
            advice=f"Type `{request.destination.login_command()}` to log in now.",
        )
    return ssh_errors.connect_error(
        said,
        host=request.destination.host,
        login=request.destination.login_command(),
        through_proxy=request.has_proxy,
        attended=attended,
        asked=asked,
        hops=hops,
    )


def _hop_logs(
    request: LoginRequest, path: str, texts: Sequence[str] | None = None
) -> list[ssh_errors.HopLog]:
    """The log of the ssh to each jump host; ``texts``: what counts of them, all if ``None``."""
    found = []
    for number, hop in enumerate(request.hops):
        whole = read_log(path, _jump_suffix(number))
        text = whole if texts is None else texts[number]
        command = jump_hosts.command(request.hops, number, request.destination)
        found.append(ssh_errors.HopLog(hop.name, text, ssh_errors.has_passed(whole), command))
    return found


def _jump_suffix(number: int) -> str:
    return ".jump" if number == 0 else f".jump{number + 1}"


# --------------------------------------------------------------------------- the command line


def open_arguments(request: LoginRequest, path: str) -> list[str]:
    """The command line of the ``ssh`` that logs in and becomes the master behind ``path``.

    It writes its messages to ``PATH.log``, the ssh to the first jump host to ``PATH.jump``, that to
    the next one to ``PATH.jump2``.
    """
    persist = "yes" if request.persist is None else str(request.persist)
    argv = [ssh_config.find("ssh"), "-M", "-N", "-f", "-T", "-S", path.replace("%", "%%")]
    argv += ["-E", path + ".log"]
    if request.attended:
        asking = ["BatchMode=no", "NumberOfPasswordPrompts=1"]
    else:
        asking = ["BatchMode=yes"]
    # Whatever the configuration says of logs: the reason of a failure stands there (since 9.8
    # a part of it only with VERBOSE), each message in its plain form.
    speaking = ["LogLevel=VERBOSE"]
    if ssh_config.ssh_version().has("log_verbose"):
        speaking.append("LogVerbose=none")
    # The limits: ssh_options may set others, a forgotten line of the configuration file
    # (Debian: ServerAliveInterval 300 with BatchMode) may not.
    alive = ["ServerAliveInterval=15", "ServerAliveCountMax=3"]
    timeouts = [f"ConnectTimeout={seconds}" for seconds in _timeouts(request)]
    limits = [*alive, timeouts[-1]]
    proxy = jump_hosts.proxy_command(
        request.destination,
        request.hops,
        options=[[*asking, *speaking, *alive, timeout] for timeout in timeouts[:-1]],
        logs=[path + _jump_suffix(number) for number in range(len(request.hops))],
        stderr="/dev/tty" if request.attended else "/dev/null",
    )
    # The first value of an option wins: what the master depends on comes before the options of
    # the caller, so that nothing can undo it...
    fixed = [
        f"ControlPersist={persist}",
        "ClearAllForwardings=yes",
        "ExitOnForwardFailure=no",
        "RequestTTY=no",
        "PermitLocalCommand=no",
        "UpdateHostKeys=no",
        *asking,
        *speaking,
    ]
    if ssh_config.ssh_version().has("remote_command"):
        fixed.append("RemoteCommand=none")
    for option in fixed:
        argv += ["-o", option]
    if proxy is not None:
        argv += ["-o", f"ProxyCommand={proxy}"]
    argv += request.destination.arguments(with_jump=proxy is None)
    # ...and the limits after them.
    for option in limits:
        argv += ["-o", option]
    return [*argv, "--", request.destination.host]


def _timeouts(request: LoginRequest) -> list[str]:
    """The ConnectTimeout for each jump host and the destination.

    The time of the first one counts until the TCP connection is made and the server answers.  That
    of the others includes the logins before, so it must be longer: the ssh that has to wait says
    why, not the one behind it.  While a person answers there is no limit; the terminal has its own.
    """
    first, hops = request.connect_timeout, request.hops
    seconds = [max(1, round(first))]
    for number in range(1, len(hops) + 1):
        seconds.append(max(seconds[-1] + 1, round(first * (1 + number / len(hops)))))
    hosts = enumerate(request.hosts)
    waits = [number > 0 or host.get("proxycommand") for number, host in hosts]
    return [
        _NO_LIMIT if request.attended and wait else str(limit)
        for limit, wait in zip(seconds, waits, strict=True)
    ]


def read_log(path: str, suffix: str = ".log") -> str:
    """The end of what the master, or (``.jump``) the ssh to a jump host, wrote to its log."""
    try:
        with open(path + suffix, "rb", opener=runtime_directory.open_file) as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - _LOG_TAIL))
            return handle.read(_LOG_TAIL).decode("utf-8", "replace").replace("\r", "")
    except OSError:
        return ""


def remove_logs(path: str) -> None:
    """Remove what a login wrote: the logs of the master, of each jump host and of questions."""
    directory, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError):
        for found in os.listdir(directory):
            if found == f"{name}.log" or found.startswith((f"{name}.jump", f"{name}.askpass")):
                runtime_directory.remove_file(os.path.join(directory, found))


# --------------------------------------------------------------------------- unattended


def _unattended(request: LoginRequest, path: str) -> str:
    remove_logs(path)
    seconds = request.ssh_timeout
    argv = open_arguments(request, path)
    asking = {"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never"}
    if any(host.get("proxycommand") for host in request.hosts):
        askpass = path + ".askpass"
        with open(os.open(askpass, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as handle:
            handle.write(_ASKPASS)
        asking = {"SSH_ASKPASS": askpass, "SSH_ASKPASS_REQUIRE": "force"}
    # No pipes: before 8.5 the master keeps its caller's stderr open without end.  The banner, of
    # any length, and output of a jump host come there.
    done = process.run(
        argv,
        timeout=seconds,
        stdout=process.DEVNULL,
        stderr=process.DEVNULL,
        # BatchMode does not reach the ssh in a proxy command, which has no terminal: with a DISPLAY
        # it would open an askpass window (SSH_ASKPASS_REQUIRE since 8.4; before: "false").
        env=asking,
    )
    said = read_log(path)
    if done.timed_out:
        raise _too_long(request, path, seconds, said)
    if done.returncode != 0 or ssh_errors.is_unshared(said):
        hops = _hop_logs(request, path)
        if done.returncode > 0 and not said and not any(hop.text for hop in hops):
            said = _early_messages(argv)
        raise _question_of_proxy(request, path) or _failure(
            request, said, hops, attended=False, status=done.returncode
        )
    return said


# ssh runs it for a question where it has no terminal, and takes an empty answer for an answer: a
# few of those lock an account.  So it ends the ssh that asks, and keeps the question.  A passphrase
# is only skipped; a request for a touch (the hint "none") waits for no answer.
_ASKPASS = """\
#!/bin/sh
[ "$SSH_ASKPASS_PROMPT" != none ] || exit 0
case $1 in "Enter passphrase for "* | "Enter PIN for "*) exit 1 ;; esac
printf '%s\\n' "$1" >"$0.log"
kill -9 "$PPID"
"""


def _question_of_proxy(request: LoginRequest, path: str) -> AuthenticationNeeded | None:
    """The error for an ssh inside a proxy command that asked something."""
    lines = read_log(path, ".askpass.log").split("\n")
    if lines == [""]:
        return None
    return AuthenticationNeeded(
        f"the proxy command asks ({' '.join(lines).strip()}) and there is no responder",
        host=request.destination.host,
        advice=f"Type `{request.destination.login_command()}` once, or use ProxyJump instead.",
    )


def _early_messages(argv: list[str]) -> str:
    """What ssh says about its command line before it opens its log; ``-G`` does not connect."""
    done = process.run([argv[0], "-G", *argv[1:]], timeout=_PATIENCE)
    if done.returncode == 0:
        return ""
    return "\n".join(ssh_errors.words_of(done.stderr.decode("utf-8", "replace")))


# --------------------------------------------------------------------------- with a responder


def _attended(
    request: LoginRequest, path: str, responder: Responder, asked: list[PromptKind]
) -> str:
    from . import prompts

    remove_logs(path)
    seconds = request.ssh_timeout
    talk = prompts.log_in(
        open_arguments(request, path),
        responder,
        host=request.destination.host,
        timeout=seconds,
        namesakes=lambda prompt: _namesakes(request, prompt),
        users=[user for host in request.hosts if (user := host.get("user"))],
        logs=[path + ".log", *(path + _jump_suffix(number) for number in range(len(request.hops)))],
        asked=asked,
    )
    said, *inner = talk.logged
    if talk.end == "timeout":
        raise _too_long(request, path, seconds, talk.said)
    if talk.end != "exited":
        raise _broken_off(request, talk)
    if talk.status != 0 or ssh_errors.is_unshared(said):
        hops = _hop_logs(request, path, inner)
        error = _failure(request, said, hops, attended=True, asked=bool(asked), status=talk.status)
        if isinstance(error, AuthenticationFailed) and asked:
            what = ", ".join(kind.replace("_", " ") for kind in dict.fromkeys(asked))
            error = AuthenticationFailed(
                f"{error.message} (it had asked for: {what})",
                host=error.host,
                advice="A wrong answer is not tried again; check it and log in again.",
                stderr=error.stderr,
            )
        raise error
    return talk.said


def _namesakes(request: LoginRequest, prompt: Prompt) -> int:
    """How many hosts on the way may ask this question."""
    if prompt.kind == "passphrase":
        # Each ssh that needs the key asks for it, and names the key only.
        return 1 + len(request.hops)
    return max(1, jump_hosts.called(prompt.host, request.resolved, request.hops))


def _broken_off(request: LoginRequest, talk: Talk) -> ConnectError:
    """The error for a login that was ended before ssh exited."""
    host, prompt = request.destination.host, talk.prompt
    asker = prompt.host if prompt and prompt.host != host else "it"
    kind = prompt.kind.replace("_", " ") if prompt else "answer"
    question = prompt.text.rpartition("\n")[2].strip() if prompt else ""
    if talk.end in ("flood", "questions"):
        much = "sends too much text" if talk.end == "flood" else "asks too many questions"
        return ConnectError(
            f"the host {much} during the login",
            host=host,
            stderr=talk.said[-2000:],
            advice=f"See `ssh -v {host}`.",
        )
    if talk.end == "host_key":
        return HostKeyUnknown(
            f"the host key of {prompt.host if prompt else host} was not accepted",
            host=host,
            stderr=talk.said,
            advice="The answer has to be `yes` or the fingerprint that was shown; compare it "
            "with what the site's administrators publish.",
        )
    if talk.end == "refused":
        return AuthenticationFailed(
            f"{asker} asks the same question again ({question}), so the first answer was wrong",
            host=host,
            stderr=talk.said,
            advice="A wrong answer is not tried again; check it and log in again.",
        )
    if prompt is not None and prompt.kind == "host_key":
        return HostKeyUnknown(
            f"the host key of {prompt.host} is not in known_hosts and was not accepted",
            host=host,
            stderr=talk.said,
            advice=f"Type `{request.destination.login_command()}`, compare the fingerprint and "
            "accept it.",
        )
    return AuthenticationNeeded(
        f"{asker} asks for a {kind} ({question}) and got no answer",
        host=host,
        stderr=talk.said,
        advice=f"Type `{request.destination.login_command()}` once.",
    )

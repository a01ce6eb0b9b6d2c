"""One login: whether the record of logins allows it, the ``ssh`` that makes it, its result.

Called under the route's lock only; ``Master`` is the one caller.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import (
    AuthenticationFailed,
    AuthenticationNeeded,
    ConnectError,
    HostKeyUnknown,
    HostUnreachable,
    OpenSSHJobsError,
)
from . import identities, jump_hosts, process, runtime_directory, ssh_config, ssh_errors
from .login_record import PER_HOUR, Keys, LoginRecord

if TYPE_CHECKING:
    from .destination import Destination
    from .prompts import Prompt, PromptKind, Responder, Talk

_PATIENCE = 10.0
_LOG_TAIL = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """Where to log in, and how.

    ``responder`` answers questions; ``None`` for an unattended login.  ``connect_timeout`` in
    seconds.  ``persist``: seconds for which the master stays without sessions, ``None`` for no
    limit.  ``logins_per_hour``: ``None`` for the usual limit.
    """

    destination: Destination
    resolved: ssh_config.Resolved
    responder: Responder | None
    connect_timeout: float
    persist: int | None
    logins_per_hour: int | None

    @property
    def attended(self) -> bool:
        """Whether somebody answers questions."""
        return self.responder is not None

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
            explained = _explain(request, error, attended=attended)
        # Changes that this login made itself (an accepted host key) do not count.
        try:
            after = _keys(request)
        except OpenSSHJobsError:
            after = before
        record.failed(explained, keys=after, attended=attended, asked=bool(asked))
        if explained is error:
            raise
        raise explained from None
    answered = [str(kind) for kind in dict.fromkeys(asked) if kind != "host_key"]
    record.succeeded(answered=answered, keys=_keys(request))
    return said


def _keys(request: LoginRequest) -> Keys:
    """Fingerprints of what the login depends on now, for the jump hosts too."""
    hops = jump_hosts.hops(request.destination, request.resolved)
    return identities.fingerprint(request.resolved, *(hop.resolved for hop in hops))


def _explain(request: LoginRequest, error: ConnectError, *, attended: bool) -> ConnectError:
    """The same error, with the state of the keys on this machine in its advice."""
    said, locked = identities.hints(request.resolved, datetime.now(UTC))
    cls, message, advice = type(error), error.message, error.advice
    if locked and not attended and cls is AuthenticationFailed:
        cls = AuthenticationNeeded
        advice = f"Type `{request.destination.login_command()}` once, or `ssh-add` with that key."
    if said:
        advice = " ".join([*said, advice or ""]).strip()
    return cls(message, host=error.host, advice=advice, stderr=error.stderr)


def _too_long(request: LoginRequest, seconds: float, said: str) -> HostUnreachable:
    return HostUnreachable(
        f"the login did not finish within {seconds:.0f} s",
        host=request.destination.host,
        stderr=said,
        advice=f"See `ssh -v {request.destination.host}`.",
    )


def _failure(
    request: LoginRequest, said: str, inner: str, *, attended: bool, status: int | None = None
) -> OpenSSHJobsError:
    """The error that ssh's log means; ``status`` is negative if a signal ended ssh."""
    if status is not None and (status < 0 or 128 < status < 160):  # the latter from a shell
        number = -status if status < 0 else status - 128
        return ConnectError(
            f"signal {number} ended ssh before the login finished",
            host=request.destination.host,
            stderr="\n".join(ssh_errors.words_of(inner) + ssh_errors.words_of(said)),
            advice=f"Type `{request.destination.login_command()}` to log in now.",
        )
    return ssh_errors.connect_error(
        said,
        host=request.destination.host,
        login=request.destination.login_command(),
        through_proxy=bool(
            request.resolved.get("proxyjump") or request.resolved.get("proxycommand")
        ),
        attended=attended,
        jump=_jump_host_command(request),
        inner=inner,
    )


def _jump_host_command(request: LoginRequest) -> str:
    """The command that connects to the last jump host only; empty without a ProxyJump."""
    *before, last = (request.resolved.get("proxyjump") or "").split(",")
    if not last:
        return ""
    config = request.destination.config_path
    way = ["-F", config] if config is not None else []
    return shlex.join(["ssh", *way, *(["-J", ",".join(before)] if before else []), last])


# --------------------------------------------------------------------------- the command line


def open_arguments(request: LoginRequest, path: str) -> list[str]:
    """The command line of the ``ssh`` that logs in and becomes the master behind ``path``.

    It writes its messages to ``PATH.log``, the ssh to a jump host to ``PATH.jump``.
    """
    timeout = max(1, round(request.connect_timeout))
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
    limits = ["ServerAliveInterval=15", "ServerAliveCountMax=3", f"ConnectTimeout={timeout}"]
    proxy = jump_hosts.proxy_command(
        request.destination,
        request.resolved,
        options=[*asking, *speaking, *limits],
        log=path + ".jump",
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


def read_log(path: str, suffix: str = ".log") -> str:
    """The end of what the master, or (``.jump``) the ssh to a jump host, wrote to its log."""
    try:
        with open(path + suffix, "rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - _LOG_TAIL))
            return handle.read(_LOG_TAIL).decode("utf-8", "replace").replace("\r", "")
    except OSError:
        return ""


def _remove_logs(path: str) -> None:
    for suffix in (".log", ".jump"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)


# --------------------------------------------------------------------------- unattended


def _unattended(request: LoginRequest, path: str) -> str:
    _remove_logs(path)
    seconds = request.ssh_timeout
    argv = open_arguments(request, path)
    # No pipes: before 8.5 the master keeps its caller's stderr open without end.  The banner, of
    # any length, and output of a jump host come there.
    done = process.run(
        argv,
        timeout=seconds,
        stdout=process.DEVNULL,
        stderr=process.DEVNULL,
        # BatchMode does not reach the ssh to a jump host, which has no terminal: with a DISPLAY
        # it would open an askpass window (SSH_ASKPASS_REQUIRE since 8.4; before: "false").
        env={"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never"},
    )
    said, inner = read_log(path), read_log(path, ".jump")
    if done.timed_out:
        raise _too_long(request, seconds, said)
    if done.returncode != 0 or ssh_errors.is_unshared(said):
        if done.returncode > 0 and not said and not inner:
            said = _early_messages(argv)
        raise _failure(request, said, inner, attended=False, status=done.returncode)
    return said


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

    _remove_logs(path)
    seconds = request.ssh_timeout
    talk = prompts.log_in(
        open_arguments(request, path),
        responder,
        host=request.destination.host,
        timeout=seconds,
        namesakes=lambda prompt: _namesakes(request, prompt),
        logs=[path + ".log", path + ".jump"],
        asked=asked,
    )
    said, inner = talk.logged
    if talk.end == "timeout":
        raise _too_long(request, seconds, talk.said)
    if talk.end != "exited":
        raise _broken_off(request, talk)
    if talk.status != 0 or ssh_errors.is_unshared(said):
        error = _failure(request, said, inner, attended=True, status=talk.status)
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
        return 1 + len(jump_hosts.hops(request.destination, request.resolved))
    return max(1, jump_hosts.called(prompt.host, request.destination, request.resolved))


def _broken_off(request: LoginRequest, talk: Talk) -> ConnectError:
    """The error for a login that was ended before ssh exited."""
    host, prompt = request.destination.host, talk.prompt
    asker = prompt.host if prompt and prompt.host != host else "it"
    kind = prompt.kind.replace("_", " ") if prompt else "answer"
    question = prompt.text.rpartition("\n")[2].strip() if prompt else ""
    if talk.end == "flood":
        return ConnectError(
            "the host sends too much text during the login",
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

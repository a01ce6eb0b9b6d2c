"""One login: allowed by the record of logins, attended or not, and what came of it.

Called under the route's lock only; ``Master`` is the one caller.
"""

from __future__ import annotations

import contextlib
import os
import shlex
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
from . import identities, jump_hosts, process, runtime_directory, ssh_errors
from .login_record import PER_HOUR, Keys, LoginRecord

_PATIENCE = 10.0

if TYPE_CHECKING:
    from .master import Master
    from .prompts import Prompt, PromptKind, Responder, Talk


def record_of(path: str, master: Master) -> LoginRecord:
    """The record of the route whose socket lies at ``path``, wherever it was written before."""
    name = os.path.basename(runtime_directory.places(path)[0])
    places = [os.path.dirname(path)]
    for directory in runtime_directory.directories():
        if directory not in places and runtime_directory.problem_with(directory) is None:
            places.append(directory)
    return LoginRecord(
        [os.path.join(place, name + ".dials") for place in places],
        host=master.target.host,
        login=master.target.login_command(),
    )


def dial(master: Master, path: str, *, override: bool = False) -> str:
    """Log in and leave a master behind ``path``; returns what ssh said.

    ``override``: somebody wants it now, whatever was refused before and however often.  Raises
    ``ConnectError`` and its kin.
    """
    attended = master.responder is not None
    record, before = record_of(path, master), _keys(master)
    if not override:
        record.check(
            keys=before,
            attended=attended,
            per_hour=PER_HOUR if master.dials_per_hour is None else master.dials_per_hour,
        )
    record.begin(attended=attended, override=override)
    asked: list[PromptKind] = []
    try:
        if master.responder is None:
            said = _unattended(master, path)
        else:
            said = _attended(master, path, master.responder, asked)
    except BaseException as error:
        explained: BaseException = error
        if isinstance(error, AuthenticationFailed | AuthenticationNeeded):
            explained = _explain(master, error, attended=attended)
        # What this login itself has changed (an accepted host key) is no change.
        try:
            after = _keys(master)
        except OpenSSHJobsError:
            after = before
        record.failed(explained, keys=after, attended=attended, asked=bool(asked))
        if explained is error:
            raise
        raise explained from None
    answered = [str(one) for one in dict.fromkeys(asked) if one != "host_key"]
    record.succeeded(answered=answered, keys=_keys(master))
    return said


def _keys(master: Master) -> Keys:
    """What the login depends on, as it is now: the jump hosts' too."""
    hops = jump_hosts.hops(master.target, master.resolved)
    return identities.fingerprint(master.resolved, *(hop.resolved for hop in hops))


def _explain(master: Master, error: ConnectError, *, attended: bool) -> ConnectError:
    """The same error with what the keys here have to do with it."""
    said, locked = identities.hints(master.resolved, datetime.now(UTC))
    cls, message, advice = type(error), error.message, error.advice
    if locked and not attended and cls is AuthenticationFailed:
        cls = AuthenticationNeeded
        advice = f"Type `{master.target.login_command()}` once, or `ssh-add` with that key."
    if said:
        advice = " ".join([*said, advice or ""]).strip()
    return cls(message, host=error.host, advice=advice, stderr=error.stderr)


def _too_long(master: Master, seconds: float, said: str) -> HostUnreachable:
    return HostUnreachable(
        f"the login was not through after {seconds:.0f} s",
        host=master.target.host,
        stderr=said,
        advice=f"See `ssh -v {master.target.host}`.",
    )


def _failure(
    master: Master, said: str, inner: str, *, attended: bool, status: int | None = None
) -> OpenSSHJobsError:
    """The error behind ssh's own words; ``status`` is negative where a signal ended it."""
    if status is not None and (status < 0 or 128 < status < 160):  # the latter by way of a shell
        number = -status if status < 0 else status - 128
        return ConnectError(
            f"ssh was ended by signal {number} before the login was through",
            host=master.target.host,
            stderr="\n".join(ssh_errors.words_of(inner) + ssh_errors.words_of(said)),
            advice=f"Type `{master.target.login_command()}` to log in now.",
        )
    return ssh_errors.connect_error(
        said,
        host=master.target.host,
        login=master.target.login_command(),
        through_proxy=bool(master.resolved.get("proxyjump") or master.resolved.get("proxycommand")),
        attended=attended,
        jump=_as_far_as_the_jump(master),
        inner=inner,
    )


def _as_far_as_the_jump(master: Master) -> str:
    """The command that goes to the last jump host and no further; empty without a ProxyJump."""
    *before, last = (master.resolved.get("proxyjump") or "").split(",")
    if not last:
        return ""
    config = master.target.config_path
    way = ["-F", config] if config is not None else []
    return shlex.join(["ssh", *way, *(["-J", ",".join(before)] if before else []), last])


# --------------------------------------------------------------------------- nobody is here


def _unattended(master: Master, path: str) -> str:
    _remove_words(path)
    seconds = master.connect_timeout * 2 + _PATIENCE
    argv = master.open_arguments(path)
    # No pipes: before 8.5 the master keeps its caller's stderr open for ever.  The banner comes
    # there, as long as the server likes, and what a jump host says.
    done = process.run(
        argv,
        timeout=seconds,
        stdout=process.DEVNULL,
        stderr=process.DEVNULL,
        # BatchMode does not reach the ssh of a jump host, and that one has no terminal: where
        # there is a DISPLAY it would open a window that nobody sees (8.4; before: "false").
        env={"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never"},
    )
    said, inner = master.master_log(path), master.master_log(path, ".jump")
    if done.timed_out:
        raise _too_long(master, seconds, said)
    if done.returncode != 0 or ssh_errors.is_unshared(said):
        if done.returncode > 0 and not said and not inner:
            said = _early_words(argv)
        raise _failure(master, said, inner, attended=False, status=done.returncode)
    return said


def _early_words(argv: list[str]) -> str:
    """What ssh says before it has a log, about its own command line; ``-G`` dials nothing."""
    done = process.run([argv[0], "-G", *argv[1:]], timeout=_PATIENCE)
    if done.returncode == 0:
        return ""
    return "\n".join(ssh_errors.words_of(done.stderr.decode("utf-8", "replace")))


# --------------------------------------------------------------------------- somebody answers


def _attended(master: Master, path: str, responder: Responder, asked: list[PromptKind]) -> str:
    from . import prompts

    _remove_words(path)
    seconds = master.connect_timeout * 2 + _PATIENCE
    talk = prompts.log_in(
        master.open_arguments(path, attended=True),
        responder,
        host=master.target.host,
        timeout=seconds,
        namesakes=lambda prompt: _namesakes(master, prompt),
        logs=[path + ".log", path + ".jump"],
        asked=asked,
    )
    said, inner = talk.logged
    if talk.end == "timeout":
        raise _too_long(master, seconds, talk.said)
    if talk.end != "exited":
        raise _broken_off(master, talk)
    if talk.status != 0 or ssh_errors.is_unshared(said):
        error = _failure(master, said, inner, attended=True, status=talk.status)
        if isinstance(error, AuthenticationFailed) and asked:
            what = ", ".join(one.replace("_", " ") for one in dict.fromkeys(asked))
            error = AuthenticationFailed(
                f"{error.message} (it had asked for: {what})",
                host=error.host,
                advice="A wrong answer is not tried again; check it and log in anew.",
                stderr=error.stderr,
            )
        raise error
    return talk.said


def _namesakes(master: Master, prompt: Prompt) -> int:
    """How many hosts on the way may ask this very question."""
    if prompt.kind == "passphrase":
        # A key is asked for by each ssh that needs it, and its name is all that they say.
        return 1 + len(jump_hosts.hops(master.target, master.resolved))
    return max(1, jump_hosts.called(prompt.host, master.target, master.resolved))


def _broken_off(master: Master, talk: Talk) -> ConnectError:
    """The error for a login that we ended in the middle."""
    host, prompt = master.target.host, talk.prompt
    asker = prompt.host if prompt and prompt.host != host else "it"
    kind = prompt.kind.replace("_", " ") if prompt else "answer"
    question = prompt.text.rpartition("\n")[2].strip() if prompt else ""
    if talk.end == "flood":
        return ConnectError(
            "the host says more during the login than anybody reads",
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
            f"{asker} asks the same again ({question}), so the first answer was wrong",
            host=host,
            stderr=talk.said,
            advice="A wrong answer is not tried again; check it and log in anew.",
        )
    if prompt is not None and prompt.kind == "host_key":
        return HostKeyUnknown(
            f"the host key of {prompt.host} is not in known_hosts, and nobody accepted it",
            host=host,
            stderr=talk.said,
            advice=f"Type `{master.target.login_command()}`, compare the fingerprint and accept "
            "it.",
        )
    return AuthenticationNeeded(
        f"{asker} asks for a {kind} ({question}) and got no answer",
        host=host,
        stderr=talk.said,
        advice=f"Type `{master.target.login_command()}` once.",
    )


def _remove_words(path: str) -> None:
    for suffix in (".log", ".jump"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)

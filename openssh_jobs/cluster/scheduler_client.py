"""Which scheduler a host has, and how its scripts are run there."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import logs, settings, site_policy
from ..commands.quoting import OWN_SHELL, join, quote, to_bytes, to_text
from ..commands.scripts import Shell
from ..commands.scripts import script as shell_script
from ..errors import ConfigurationError, SchedulerError
from ..openssh import at_fork
from ..openssh.locks import CallLock
from ..schedulers import available, detection_script, get, parse_detection
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from ..schedulers.fields import is_number
from ..site_policy import SitePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..commands.result import CommandResult
    from ..host import Host
    from .journal import Journal

log = logs.logger("openssh_jobs.cluster")

QUERY_TIMEOUT = 180.0
"""Seconds for one answer of a scheduler; Slurm's own clients give up after 60 to 100."""
_MOST_TEXT = 96 * 1024
# Bytes of one command: it is one argument, of 128 KiB at most on Linux.
_COMMAND = re.compile(
    r"(?:^|(?<=[\s'\"]))(?<!begin )(?<!end )((?:sbatch|squeue|sacct|scontrol|scancel"
    r"|sinfo|sacctmgr|qsub|qstat|qacct|qdel|qhost|qconf|qhold|qrls|qalter|qselect"
    r"|pbsnodes|bsub|bjobs|bhist|bkill|bstop|bresume|bhosts|bqueues|condor_\w+)\b(?!\(\))[^\n]*)",
    re.MULTILINE,
)
_POLICY = "site policy"
_POLICY_AGE = 24 * 3600.0
"""Seconds after which the site's policy is read again."""


class SchedulerClient:
    """Runs a scheduler's scripts on a host.  ``scheduler``: a name, an object or ``auto``."""

    def __init__(
        self,
        connection: Host,
        journal: Journal,
        host: str,
        scheduler: str | Scheduler,
        *,
        login_shell: bool | None,
        prologue: str | None,
    ) -> None:
        self.connection = connection
        self.journal = journal
        self.host = host
        self.known: Scheduler | None = None
        if scheduler == "auto":
            self.known = scheduler_of_settings(connection.host)
        elif isinstance(scheduler, str):
            self.known = get(scheduler)
        else:
            self.known = scheduler
        self._finds = self.known is None
        if login_shell is None:
            login_shell = settings.value(connection.host, "login_shell")
        self._login_shell = True if login_shell is None else login_shell
        if prologue is None:
            prologue = settings.value(connection.host, "prologue") or ""
        self._prologue = prologue.encode("utf-8", "surrogateescape")
        self._skew: float | None = None
        self._policy: SitePolicy | None = None
        self.after_fork()
        at_fork.renew(self)

    def after_fork(self) -> None:
        self._lock = CallLock("the search for the scheduler", self.host)

    def identity(self) -> str:
        """A text for all that decides which answer a script gets; runs ``ssh -G`` once."""
        shell = "login shell" if self._login_shell else "shell"
        route = self.connection.internal.route
        return "\0".join((route, self.host, shell, self._prologue.decode("latin-1")))

    def after_prologue(self, script: bytes) -> bytes:
        """A script that runs where the scheduler's commands are found, in a login shell."""
        return (self._prologue + b"\n" if self._prologue else b"") + script

    def run(
        self,
        script: bytes,
        timeout: float,
        *,
        once: bool = False,
        said: tuple[bytearray, bytearray] | None = None,
    ) -> CommandResult[str]:
        """Run shell text where the scheduler's commands are found.

        ``once``: the ``.sent`` of an error says for certain if nothing was run; ``said`` gets what
        arrives on both streams, also before an error.
        """
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: asks the scheduler: %s", self.host, _commands_in(script))
        script = self.after_prologue(script)
        if once:
            run_once = self.connection.internal.run_once
            return run_once(script, login_shell=self._login_shell, timeout=timeout, said=said)
        run = self.connection.internal.run
        return run(script, login_shell=self._login_shell, timeout=timeout)

    def _run_long(self, text: bytes, timeout: float) -> CommandResult[str]:
        """Run a script that is too long for one argument: about ten thousand jobs by their ids."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: asks the scheduler by %d bytes of shell text", self.host, len(text))
        mark = f"# OJL+{os.urandom(8).hex()}"
        line = shell_script("cluster/long_script", prologue=Shell(self._prologue), mark=mark)
        return self.connection.internal.run(
            line, input=text + b"\n" + mark.encode(), login_shell=self._login_shell, timeout=timeout
        )

    def ask(self, script: str, timeout: float = QUERY_TIMEOUT) -> Answer:
        """Run a scheduler's script; raises nothing for what it prints or for its status."""
        return Answer.of(self.run_sh(script.encode("utf-8", "surrogateescape"), timeout))

    def run_sh(
        self,
        script: bytes,
        timeout: float,
        *,
        once: bool = False,
        said: tuple[bytearray, bytearray] | None = None,
    ) -> CommandResult[str]:
        """Run a POSIX script as ``run`` does, and note the time by the host's clock."""
        mark = f"OJT+{os.urandom(8).hex()}"
        self.policy  # noqa: B018 - looks in the journal
        wanted = self._policy is None
        text = shell_script(
            "cluster/scheduler_client",
            mark=mark,
            own=Shell(OWN_SHELL),
            script=Shell(script),
            policy=site_policy.HOST_FILE if wanted else "",
            most=str(site_policy.MOST_BYTES + 1),
        )
        began = time.time()
        if len(text) > _MOST_TEXT and not once:
            done = self._run_long(text, timeout)
        else:
            # Without exec, which could be a function of the user's.
            done = self.run(join(("/bin/sh", "-c", text)), timeout, once=once, said=said)
        # No expression: each would be compiled for this mark, which costs as much as ten jobs.
        head, found, tail = done.stdout.partition(f"{mark} ")
        clock, newline, _ = tail.partition("\n")
        if not (found and newline and f"\n{head}".endswith("\n") and f"0{clock}".isdecimal()):
            return done
        if clock and len(clock) < 13:
            ended = time.time()
            skew = int(clock) - (began + ended) / 2
            # Within the round trip, and the fraction of a second, the clocks may be equal.
            self._skew = skew if abs(skew) > (ended - began) / 2 + 1 else 0.0
        end = len(head) + len(found) + len(clock) + 1
        form = rf"{re.escape(mark)}( there)?((?: [0-3][0-7][0-7])*)\n"
        policy = re.compile(form).match(done.stdout, end) if wanted else None
        if policy is not None:
            end = policy.end()
            if policy[1] and not policy[2]:
                log.warning("%s: %s cannot be read", self.host, site_policy.HOST_FILE)
            else:
                self._take_new_policy(policy[2])
        return replace(done, stdout=head + done.stdout[end:])

    # ------------------------------------------------------------------ the site's policy

    @property
    def policy(self) -> SitePolicy:
        """The policy of the host's site as far as known, together with that of this machine."""
        found = site_policy.local() if self._policy is None else self._policy
        if self._policy is None:
            with self._journal_may_fail():
                text = self.journal.fact(self.host, _POLICY, max_age=_POLICY_AGE)
                if text is not None:
                    found = self._take_policy(text.encode())
        return found

    def _take_policy(self, data: bytes) -> SitePolicy:
        hosts = site_policy.parse(data, f"{site_policy.HOST_FILE} on {self.host}")
        self.connection.internal.tighten(hosts)
        self._policy = site_policy.local().tightened(hosts)
        return self._policy

    def _take_new_policy(self, octal: str) -> None:
        data = bytes(int(byte, 8) for byte in octal.split())
        for problem in self._take_policy(data).problems:
            log.warning("%s: %s", self.host, problem)
        with self._journal_may_fail():
            self.journal.remember_fact(self.host, _POLICY, data.decode("utf-8", "replace"))

    @contextlib.contextmanager
    def _journal_may_fail(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except (sqlite3.Error, ConfigurationError) as error:
            log.info("%s: the site's policy is not in the journal: %s", self.host, error)

    def host_time(self) -> float:
        """Now, in seconds since 1970: by the host's clock once it was seen, else by ours."""
        return time.time() + (self._skew or 0.0)

    def scheduler(self) -> Scheduler:
        """The host's scheduler; detects it the first time.

        Raises ``SchedulerError`` of kind ``scheduler_missing`` where none is found.
        """
        known = self.known
        if known is not None:
            return known
        with self._lock:
            if self.known is None:
                name = self.journal.scheduler_of(self.host)
                self.known = get(name) if name in available() else self._find()
            return self.known

    def _find(self) -> Scheduler:
        done = self.ask(detection_script())
        found = parse_detection(done.stdout)
        name = next((name for name in available() if name in found), None)
        if name is None:
            raise SchedulerError(
                "no scheduler was found",
                kind="scheduler_missing",
                host=self.host,
                stdout=done.stdout,
                stderr=done.stderr,
                advice="Name it with scheduler=, or give a prologue that sets PATH.",
            )
        log.info("%s: %s (%s)", self.host, name, found[name])
        self.journal.remember_scheduler(self.host, name)
        return get(name)

    def placed(self, error: SchedulerError) -> SchedulerError:
        """The parser's error with the host's name; one that is missing now is detected again."""
        if error.host is None:
            error.host = self.host
        if error.kind == "scheduler_missing" and self._finds:
            self.journal.remember_scheduler(self.host, None)
            self.known = None
        return error


def _commands_in(script: bytes) -> str:
    """The scheduler's commands in a script, for the log."""
    found = dict.fromkeys(line.strip() for line in _COMMAND.findall(to_text(script)))
    return "; ".join(found)[:2000] or f"a script of {len(script)} bytes"


def scheduler_of_settings(host: str) -> Scheduler | None:
    """The scheduler that ``servers.toml`` names for a host, ``None`` for none and for ``auto``.

    Raises ``ConfigurationError``, with the line, for one that there is not.
    """
    name = settings.value(host, "scheduler")
    if name is None or name == "auto":
        return None
    try:
        return get(name)
    except ConfigurationError as error:
        error.message = f"{settings.place_of(host, 'scheduler')}: {error.message}"
        raise


# --------------------------------------------------------------------------- many as one


def together(scripts: Sequence[str]) -> tuple[str, str, int]:
    """A script that runs as many of these scripts as one command takes; a mark; their number.

    What all have in common at the begin and at the end is sent once.
    """
    if len(scripts) == 1:
        return scripts[0], "", 1
    mark = f"OJM+{os.urandom(8).hex()}"
    texts = [to_bytes(script) for script in scripts]
    common = os.path.commonprefix
    head = common(texts)
    tail = common([text[len(head) :][::-1] for text in texts])[::-1]
    lines = [b"oj_head=" + quote(head) + b" oj_tail=" + quote(tail) + b"\n"]
    size, count = len(lines[0]), 0
    for text in texts:
        own = text[len(head) : len(text) - len(tail)]
        line = b'(eval "$oj_head"%b"$oj_tail")\nprintf \'\\n%b %%d\\n\' $?\n' % (
            quote(own), mark.encode()
        )  # fmt: skip
        size += len(line)
        if count and size > _MOST_TEXT:
            break
        lines.append(line)
        count += 1
    return to_text(b"".join(lines)), mark, count


def split_answers(answer: Answer, mark: str, count: int) -> list[Answer]:
    """The answers to the scripts that ``together`` has put into one; empty ones if cut off."""
    if not mark:
        return [answer]
    # No expression: in an answer without its last mark one would look for that from each character.
    text, *rest = answer.stdout.split(f"\n{mark} ")
    found = []
    for piece in rest:
        code, newline, following = piece.partition("\n")
        if not newline or not is_number(code) or len(code) > 3:
            text = f"{text}\n{mark} {piece}"  # a mark that none of the scripts has printed
            continue
        found.append(Answer(text, answer.stderr, int(code)))
        text = following
    return [*found[:count], *[Answer("", answer.stderr, 1)] * (count - len(found))]

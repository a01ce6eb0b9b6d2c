"""``doctor``: check every step of the way to a host, and say how to fix what is wrong."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..commands import limits
from . import options, this_machine
from .exit_codes import ExitCode
from .findings import Finding, fail, of_error, ok, warn
from .output import Output, count, one_line, size, span

if TYPE_CHECKING:
    import argparse

    from ..connection import Connection
    from ..openssh.guest import Program
    from ..openssh.master import Master
    from ..openssh.mux_protocol import Link
    from ..openssh.process import FinishedProcess

_COMMAND_WITHIN = 30.0
_FREE_WITHIN = 3.0
"""Seconds to wait for a session; an idle session is given back within 1 s."""


# --------------------------------------------------------------------------- the command


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``doctor`` to the command line."""
    parser = options.add_command(
        subparsers,
        "doctor",
        summary,
        run,
        usage="[options] [HOST]",
        examples="""\
  openssh-jobs doctor
      what all hosts need here: ssh, sockets, agent, journal, open connections
  openssh-jobs doctor hpc
      the way to hpc, too: login, shell, files, scheduler, clock; asks nothing, and
      exits with the code of the first thing that does not work""",
    )
    parser.add_argument("host", metavar="HOST", nargs="?", help="any name that ssh takes")
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Run all checks without asking anything; 0 unless one failed."""
    if args.host is not None:
        options.require_ssh(args.host)
    found: list[Finding] = []
    for finding in examine_machine() if args.host is None else examine(args):
        found.append(finding)
        if not output.json:
            output.line(f"{finding.level:<4}  {one_line(finding.text)}")
            if finding.mend:
                output.line(f"      {one_line(finding.mend)}")
    broken = [finding for finding in found if finding.level == "FAIL"]
    warnings = sum(finding.level == "warn" for finding in found)
    if output.json:
        output.data({"host": args.host, "works": not broken, "findings": found})
    elif not output.quiet:
        if broken:
            things = "1 thing does" if len(broken) == 1 else f"{len(broken)} things do"
            output.line(f"{things} not work")
        else:
            summary = count(warnings, "warning") if warnings else "all is well"
            output.line(f"{summary}, nothing stands in the way" if warnings else summary)
    return broken[0].code if broken else ExitCode.OK


def examine(args: argparse.Namespace) -> Iterator[Finding]:
    """The findings one after the other; ends after a failure that prevents all further checks."""
    from ..errors import OpenSSHJobsError
    from ..openssh.master import Master

    try:
        yield this_machine.binary()
        destination = options.destination(args, args.host)
        master = Master(destination)
        yield this_machine.way(destination, master)
    except OpenSSHJobsError as error:
        yield of_error("configuration", error)
        return
    try:
        yield this_machine.directory()
    except OpenSSHJobsError as error:
        yield of_error("sockets", error)
        return
    yield from _guarded("journal", this_machine.journal)
    yield from _guarded("keys", lambda: this_machine.keys(master))
    connection = options.ssh_connection(args)
    try:
        login, link = _login(connection, master)
        yield login
        if link is not None:
            full = _no_session(master)
            if full is not None:
                yield full
                return
            yield from _on_the_host(connection, link)
    finally:
        connection.close()


def examine_machine() -> Iterator[Finding]:
    """The findings about this machine alone; contacts no host."""
    from ..openssh.ssh_config import Resolved

    yield from _guarded("openssh", lambda: iter([this_machine.binary()]))
    yield from _guarded("sockets", lambda: iter([this_machine.directory()]))
    yield from _guarded("journal", this_machine.journal)
    usual = Resolved({"identityagent": ("SSH_AUTH_SOCK",)})
    if os.environ.get("SSH_AUTH_SOCK"):
        yield from _guarded("agent", lambda: this_machine.agents_keys(usual))
    yield from _guarded("connections", this_machine.connections)


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one check; an error in it is a finding, and the next check follows."""
    from ..errors import OpenSSHJobsError

    try:
        yield from look()
    except (OpenSSHJobsError, OSError, ValueError) as error:
        yield of_error(check, error)


# --------------------------------------------------------------------------- the login


def _login(connection: Connection, master: Master) -> tuple[Finding, Link | None]:
    """Use the open master, or log in without a responder."""
    from ..errors import OpenSSHJobsError

    began = time.monotonic()
    try:
        connection.open()
        alive = connection.check()
        if not alive:
            connection.run("exit 0", timeout=60)  # notices the loss, and logs in again
            alive = connection.check()
        took = time.monotonic() - began
        link = master.find()
    except OpenSSHJobsError as error:
        return of_error("login", error), None
    if link is None or not alive:
        return (
            fail(
                "login",
                f"the connection was lost again: {alive.reason}",
                code=ExitCode.NO_CONNECTION,
            ),
            None,
        )
    turn = f"{(alive.seconds or 0) * 1000:.0f} ms there and back"
    if connection.stats().logins:
        text = f"login in {took:.2f} s, one connection, kept for {_kept(link)}; {turn}"
    else:
        whose = "" if link.ours else " by yourself"
        text = f"logged in already{whose} (master {link.pid}), kept for {_kept(link)}; {turn}"
    return ok("login", text), link


def _kept(link: Link) -> str:
    from ..openssh import masters

    if not link.ours:
        return "until you end it"
    persist = masters.read(link.path).get("persist")
    return span(persist) if isinstance(persist, int) else "until logout"


# --------------------------------------------------------------------------- on the host


def _no_session(master: Master) -> Finding | None:
    """The ``SessionLimit`` if no session is free now; then nothing else can be checked."""
    from ..errors import OpenSSHJobsError
    from ..transport.mux import MuxTransport
    from ..transport.sessions import Sessions

    sessions = Sessions(MuxTransport(master))
    with open(os.devnull, "r+b") as nothing:
        fd = nothing.fileno()
        try:
            session, slot = sessions.start(
                lambda link: sessions.open(link, b"exit 0", (fd, fd, fd)),
                what="exit 0",
                again=True,
                until=time.monotonic() + _FREE_WITHIN,
            )
        except OpenSSHJobsError as error:
            return of_error("sessions", error)
        session.wait(_FREE_WITHIN)
        session.close()
        slot.release()
    return None


def _on_the_host(connection: Connection, link: Link) -> Iterator[Finding]:
    for finding in _guarded("shell", lambda: _shell(link)):
        yield finding
        if finding.level == "FAIL":
            return  # each of the others would wait for the same shell
    yield from _guarded("files", lambda: _files(connection, link))
    yield from _guarded("scheduler", lambda: _schedulers(connection))
    yield from _guarded("site", lambda: _site(connection))
    yield from _guarded("clock", lambda: _clock(connection))


def _over_master(
    link: Link, program: Program, words: list[str], data: bytes | None = None
) -> FinishedProcess:
    """Run ``ssh`` or ``sftp`` over the master; it cannot log in itself."""
    from ..openssh import guest, process

    argv = [*guest.arguments(program, link.path), *words]
    return process.run(argv, timeout=_COMMAND_WITHIN, input=data, most=limits.NOISE)


def _shell(link: Link) -> Iterator[Finding]:
    mark = f"oj{os.urandom(6).hex()}"
    done = _over_master(link, "ssh", ["-T", "--", "none", f"echo {mark} $SHELL"])
    out = done.stdout.decode("utf-8", "replace").splitlines()
    at = next((number for number, line in enumerate(out) if line.startswith(mark)), None)
    if at is None:
        printed = [*out, *done.stderr.decode("utf-8", "replace").splitlines()]
        late = f" within {_COMMAND_WITHIN:.0f} s" if done.timed_out else ""
        yield fail(
            "shell",
            f"the login shell runs no commands{late}: "
            + (printed[-1].strip()[-limits.SAID :] if printed else "no answer"),
            "It may be nologin, or a forced command of the key; ask the site."
            + (" If its start files take longer, set start_timeout." if late else ""),
        )
        return
    name = os.path.basename(out[at].removeprefix(mark).strip()) or "unknown"
    noise = len(out) - 1
    if noise:
        yield warn(
            "shell",
            f"shell: {name}; its start files print {count(noise, 'line')} before every command "
            "(harmless here, breaks plain scp and rsync)",
            "Print only where there is a terminal: `[ -t 1 ] && …` around it.",
        )
    else:
        yield ok("shell", f"shell: {name}, silent")


def _files(connection: Connection, link: Link) -> Iterator[Finding]:
    tools = connection.features
    sftp = _over_master(link, "sftp", ["-q", "-b", "-", "none"], b"pwd\n")
    names = [
        "sftp" if sftp.returncode == 0 else "",
        "GNU tar" if tools.gnu_tar else "tar" if tools.tar else "",
        _version("rsync", tools.rsync),
        tools.sha256,
    ]
    text = ", ".join(filter(None, names)) or "no program to copy files with"
    usage = connection.disk_usage(tools.home)
    text += f"; {size(usage.free)} free in the home directory"
    if sftp.returncode != 0:
        words = sftp.stderr.decode("utf-8", "replace").strip().splitlines()
        yield warn(
            "sftp",
            f"no sftp ({words[-1] if words else 'no reason given'}); other methods copy the files",
            "The server lacks `Subsystem sftp`, or the start files of the shell print something.",
        )
    if not tools.tar:
        yield warn(
            "tar", "no tar: directories are copied file by file", "Ask the site to install tar."
        )
    if usage.total and usage.free < min(usage.total // 50, 10**9):
        yield warn("files", text, "Make room there: job directories usually lie in the home.")
    else:
        yield ok("files", text)


def _version(name: str, line: str) -> str:
    words = line.split()
    return f"{name} {words[2]}" if len(words) > 2 and words[1] == "version" else line and name


def _schedulers(connection: Connection) -> Iterator[Finding]:
    from ..schedulers import detection_script, parse_detection

    script = detection_script()
    found = {}
    for login_shell in (False, True):
        done = connection.internal.run(script, login_shell=login_shell, timeout=120)
        found[login_shell] = parse_detection(done.stdout)
    names = [name for name in found[True] if name != "direct"]
    if not names:
        lost = [name for name in found[False] if name != "direct"]
        if lost:
            yield warn(
                "scheduler",
                f"{lost[0]} is found without the login shell only",
                "A login file of the account removes it from the PATH.",
            )
            return
        yield ok("scheduler", "no scheduler: jobs run directly on the host (direct)")
        return
    for name in names:
        text = found[True][name] or name
        if name not in text.lower():
            text = f"{name} ({text})"
        if name not in found[False]:
            text += "; found through the login shell (it is not on the plain PATH)"
        if name == "slurm":
            yield from _slurm(connection, text)
        else:
            yield _answers(connection, name, text)


def _answers(connection: Connection, name: str, text: str) -> Finding:
    """Whether the scheduler answers: its commands may be there without its server."""
    from ..errors import SchedulerError
    from ..schedulers import get
    from ..schedulers.answer import Answer

    scheduler = get(name)
    done = connection.internal.run(scheduler.status_script(), login_shell=True, timeout=90)
    try:
        answer = Answer(done.stdout, done.stderr, done.returncode)
        error = scheduler.parse_status(answer).error
    except SchedulerError as failed:
        error = failed
    if error is None:
        return ok("scheduler", text)
    return fail("scheduler", f"{text}; it does not answer: {error.message}", "Ask the site.")


def _slurm(connection: Connection, text: str) -> Iterator[Finding]:
    """Whether the controller answers, and whether it has accounting."""
    done = connection.internal.run(
        "squeue -h -j 1 >/dev/null 2>&1; scontrol ping; sacct -n -X -S now 2>&1 >/dev/null | "
        "sed -n '1s/^/sacct: /p'",
        login_shell=True,
        timeout=90,
    )
    lines = done.stdout.splitlines()
    if "UP" not in done.stdout:
        first = next((line for line in [*lines, *done.stderr.splitlines()] if line.strip()), "")
        yield fail("scheduler", f"{text}; its controller does not answer: {first}", "Ask the site.")
        return
    broken = next((line for line in lines if line.startswith("sacct: ")), None)
    if broken:
        yield ok("scheduler", f"{text} without accounting (jobs write their own exit records)")
    else:
        yield ok("scheduler", f"{text} with accounting")


def _site(connection: Connection) -> Iterator[Finding]:
    """The policy of the site, if it has one."""
    from .. import site_policy

    policy = site_policy.local()
    file, where = (
        shlex.quote(site_policy.HOST_FILE),
        f"{site_policy.HOST_FILE} on {connection.host}",
    )
    script = f"[ ! -s {file} ] || head -c {site_policy.MOST_BYTES + 1} {file}"
    done = connection.internal.run(script, text=False, timeout=30)
    if done.returncode == 0:
        policy = policy.tightened(site_policy.parse(done.stdout, where))
    else:
        yield warn("site", f"{where} cannot be read", "Tell the people who run the cluster.")
    for problem in policy.problems:
        yield warn("site", problem, "Tell the people who run the cluster.")
    limits = policy.as_dict()
    message = limits.pop("message", "")
    if limits or message:
        shown = ", ".join(f"{name} {_toml(value)}" for name, value in limits.items())
        yield ok("site", "; ".join(filter(None, (f"the site sets {shown}" * bool(shown), message))))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clock(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    there = connection.internal.run("date +%s.%N", timeout=30).stdout.strip()
    after = time.time()
    whole, _, fraction = there.partition(".")
    if not whole.isdigit():
        yield warn("clock", f"the host's clock cannot be read ({there!r})")
        return
    exact = fraction.isdigit()
    seconds = float(f"{whole}.{fraction}") if exact else float(whole) + 0.5
    apart = abs(seconds - (before + after) / 2)
    unsure = (after - before) / 2 + (0.0 if exact else 0.5)
    if apart - unsure > 5:
        text = str(timedelta(seconds=round(apart)))
        yield warn(
            "clock",
            f"the clocks are {text} apart (times of files and jobs will look wrong)",
            "Synchronize both clocks with NTP.",
        )
    else:
        yield ok("clock", f"clocks agree within {max(0.1, apart + unsure):.1f} s")

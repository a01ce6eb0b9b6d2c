"""``demo``: one job from submission to result, on a private sshd or on the user's cluster."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import molecule, options
from .exit_codes import ExitCode, UsageError
from .output import Output, count, printable
from .progress import ProgressLine, bar

if TYPE_CHECKING:
    import argparse

    from ..cluster.cluster import Cluster
    from ..cluster.job import Job
    from ..host import Host
    from ..jobs import JobStatus
    from ..testing import PrivateSshd

_ALIAS = "demo"
_GRACE = 20.0
"""Seconds after Ctrl-C to end the job and remove everything."""
_JOB_TIMEOUT = 60.0
_END_TIMEOUT = 10.0
"""Seconds for processes that are ending before they are reported as left behind."""
_STEP = re.compile(r"atom (\d+) of (\d+)")
# A socket's path has at most 90 bytes, and ssh would expand some characters in it.
_LONGEST_DIRECTORY = 48
_EXPANDED_BY_SSH = frozenset("%${}\"' \t\n\\")


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``demo`` to the command line."""
    parser = options.add_command(
        subparsers,
        "demo",
        summary,
        run,
        usage="[options]",
        examples="""\
  openssh-jobs demo
      on this machine alone: a private sshd on a loopback port, with a key and an
      ssh_config of its own; needs openssh-server, no root; leaves nothing behind
  openssh-jobs demo --host hpc --scheduler slurm
      on your cluster, in a new directory in your home that is removed at the end""",
    )
    parser.add_argument("--host", metavar="HOST", help="use this host instead of a private sshd")
    parser.add_argument("--keep", action="store_true", help="with --host: keep the directory there")
    parser.add_argument("--queue", metavar="NAME", help="with --host: queue (Slurm: partition)")
    parser.add_argument("--account", metavar="NAME", help="with --host: account that pays")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Run the demo; 0 if the job completed and its result is right."""
    output.grace = _GRACE
    if args.host is not None:
        return _on_users_host(args, output)
    given = (args.ssh_config, args.jump, args.identity_file, args.port, args.user)
    if any(value is not None for value in given) or args.ssh_options or args.keep:
        raise UsageError(
            "openssh-jobs demo: options of a connection and --keep are allowed only with --host."
        )
    if args.scheduler not in ("auto", "direct"):
        raise UsageError(
            f"openssh-jobs demo: the private server has no {args.scheduler}; name a host of "
            f"yours: `openssh-jobs demo --host HOST --scheduler {args.scheduler}`."
        )
    return _on_private_server(output)


# --------------------------------------------------------------------------- where


def _on_private_server(output: Output) -> int:
    from ..cluster.cluster import Cluster
    from ..connection import Connection
    from ..testing import PrivateSshd

    output.if_interrupted = "all of the demo was removed"
    with _own_directory() as top, PrivateSshd(top / "server", alias=_ALIAS) as server:
        story = _Story(output)
        where = f"{server.address} port {server.port}"
        story.tell(f"A private sshd listens on {where}; all its files are in")
        story.tell(f"{top}, which is removed at the end.")
        connection = Connection(_ALIAS, ssh_config=server.config)
        try:
            with Cluster(connection, scheduler="direct") as cluster:
                story.open(connection)
                story.job(cluster, top, f"runs/{molecule.NAME}", {})
        finally:
            connection.close(stop_master=True)
        story.facts["logins"] = server.logins()
        story.counted(connection, "in the server's log")
    remains = _remains(top, server)
    story.facts["left_behind"] = remains
    story.tell("Left behind: " + ("nothing." if not remains else ", ".join(remains)))
    return story.end(well=not remains)


def _on_users_host(args: argparse.Namespace, output: Output) -> int:
    directory = f"openssh-jobs-demo-{secrets.token_hex(4)}"
    output.if_interrupted = f"look on {args.host} for the directory {directory}"
    resources = {"queue": args.queue, "account": args.account}
    with tempfile.TemporaryDirectory(prefix="oj-demo-") as top, options.cluster(args) as cluster:
        story = _Story(output, args)
        connection = cluster.connection
        story.open(connection)
        try:
            story.job(cluster, Path(top), directory, resources)
        finally:
            removed = _clear_away(cluster, story.submitted, directory, keep=args.keep)
            if removed:
                output.if_interrupted = (
                    f"the job was cancelled and {directory} on {args.host} removed"
                )
        story.facts["logins"] = connection.stats().logins
        story.counted(connection, "by this program")
        what = f"The directory {directory} on {args.host} was removed."
        if not removed:
            what = f"The directory {directory} on {args.host} stays."
        story.tell(what + " The connection stays open for ten minutes.")
    return story.end(well=True)


@contextlib.contextmanager
def _own_directory() -> Iterator[Path]:
    """A temporary directory; HOME, XDG directories and sockets of all that is started lie in it."""
    base = os.path.realpath(tempfile.gettempdir())
    if len(os.fsencode(base)) > _LONGEST_DIRECTORY or set(base) & _EXPANDED_BY_SSH:
        base = "/tmp"  # noqa: S108 - mkdtemp makes a private directory in it
    names = {
        "HOME": "me",
        "XDG_CONFIG_HOME": "me/config",
        "XDG_STATE_HOME": "me/state",
        "XDG_CACHE_HOME": "me/cache",
        "XDG_DATA_HOME": "me/data",
        "XDG_RUNTIME_DIR": "r",
        "OPENSSH_JOBS_RUNTIME_DIR": "r/oj",
        "OPENSSH_JOBS_CONFIG": "me/servers.toml",
        "TMPDIR": "tmp",
    }
    with tempfile.TemporaryDirectory(prefix="oj-demo-", dir=base) as top:
        for name in ("me", "r", "tmp"):
            os.mkdir(os.path.join(top, name), 0o700)
        before = {name: os.environ.get(name) for name in names}
        before_directory, tempfile.tempdir = tempfile.tempdir, os.path.join(top, "tmp")
        os.environ.update({name: os.path.join(top, path) for name, path in names.items()})
        try:
            yield Path(top)
        finally:
            tempfile.tempdir = before_directory
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _remains(top: Path, server: PrivateSshd) -> list[str]:
    """Processes and files that are left behind; waits for processes that are ending."""
    deadline = time.monotonic() + _END_TIMEOUT
    while True:
        left = [f"process {pid}" for pid in server.remains() + server.sessions()]
        if not left or time.monotonic() > deadline:
            return [*left, str(top)] if top.exists() else left
        time.sleep(0.05)


def _clear_away(cluster: Cluster, job: Job | None, directory: str, *, keep: bool) -> bool:
    """End the job on the user's host and remove its directory; returns whether that is done."""
    from ..errors import OpenSSHJobsError

    try:
        if job is not None and not job.last.is_final:
            cluster.cancel(job)
            cluster.wait(job, timeout=10)
        if keep or not cluster.connection.exists(directory):
            return False
        cluster.connection.rmtree(directory)
        if job is not None and job.token is not None:
            cluster.journal.forget(cluster.host, job.token)
    except (OpenSSHJobsError, TimeoutError):
        return False
    return True


# --------------------------------------------------------------------------- the text


class _Story:
    """Prints every step together with the command line that does the same."""

    def __init__(self, output: Output, args: argparse.Namespace | None = None) -> None:
        self._output = output
        self._args = args
        self.submitted: Job | None = None
        self.facts: dict[str, Any] = {}

    def tell(self, text: str) -> None:
        """Print a line, except with ``--json``."""
        if not self._output.json:
            print(printable(text), flush=True)

    def _command(self, *words: str) -> None:
        # The private server ends before this could be typed, so its ssh options would not help.
        same = shlex.join(["openssh-jobs", *words])
        self.tell("")
        self.tell(
            f"$ {same if self._args is None else options.advised_command(self._args, *words)}"
        )

    def open(self, connection: Host) -> None:
        """Log in."""
        began = time.monotonic()
        connection.open()
        logins = connection.stats().logins
        how = "logged in" if logins else "a connection was open already"
        self.tell(f"{connection.host}: {how}, {time.monotonic() - began:.2f} s.")

    def job(self, cluster: Cluster, top: Path, directory: str, resources: dict[str, Any]) -> None:
        """Submit, watch and fetch the job, and check its number."""
        host = cluster.host
        source = top / molecule.NAME
        source.mkdir()
        (source / molecule.INPUT).write_text(molecule.XYZ)
        (source / molecule.SCRIPT).write_text(molecule.BATCH_SCRIPT)
        self._command(
            "submit", host, directory, "--upload", molecule.NAME, "--script", molecule.SCRIPT
        )
        job = cluster.submit(
            molecule.SCRIPT,
            upload=source,
            directory=directory,
            name=molecule.NAME,
            time_limit="0:05:00",
            **resources,
        )
        self.submitted = job
        self.facts |= {"host": host, "job_id": job.id, "scheduler": cluster.scheduler}
        self.tell(f"submitted {job.id} ({job.name}) to {host}, scheduler {cluster.scheduler}")
        self._command("tail", host, job.id, "-f")
        status = self._follow(job)
        code = "" if status.exit_code is None else f", exit code {status.exit_code}"
        self.facts |= {"state": str(status.state), "exit_code": status.exit_code}
        self.tell(f"job {job.id} {status.state}{code}")
        if status.state != "completed":
            return
        self._command("fetch", host, job.id, "results", "--only", molecule.RESULT)
        moved = job.fetch(top / "results", only=[molecule.RESULT])
        self.tell(f"{count(moved.files, 'file')}, {moved.bytes} bytes")
        self._check((top / "results" / molecule.RESULT).read_text())

    def _follow(self, job: Job) -> JobStatus:
        with _Watcher(self._output, job) as watcher:
            for line in job.tail(follow=True):
                watcher.line(line.rstrip("\n"), self.tell)
        return job.wait(timeout=_JOB_TIMEOUT)

    def _check(self, text: str) -> None:
        found, expected = float(text), molecule.energy()
        agrees = abs(found - expected) < 1e-8
        self.facts |= {"energy": found, "expected": expected, "agrees": agrees}
        word = "the same" if agrees else "NOT the same"
        self.tell("")
        self.tell(f"Nuclear repulsion energy of {molecule.NAME}: {found:.8f} hartree")
        self.tell(f"computed again in Python:           {expected:.8f} hartree, {word}")

    def counted(self, connection: Host, where: str) -> None:
        """Print the number of logins and of calls."""
        stats = connection.stats()
        self.facts |= {"commands": stats.commands, "short_calls": stats.control_calls}
        calls = f"{count(stats.commands, 'command')} and {count(stats.control_calls, 'short call')}"
        self.tell("")
        self.tell(f"Counted {where}: {count(self.facts['logins'], 'login')}, for {calls}.")

    def end(self, *, well: bool) -> int:
        """Print the facts with ``--json``; returns the exit code."""
        if self._output.json:
            self._output.data(self.facts)
        well = well and self.facts.get("agrees") is True
        return ExitCode.OK if well else ExitCode.FAILED


class _Watcher:
    """A line below the job's output that shows its state and how far it is.

    Without a terminal it is printed when the state changes and at half time.
    """

    def __init__(self, output: Output, job: Job) -> None:
        self._output = output
        self._job = job
        self._line = ProgressLine(output)
        self._step, self._steps = 0, molecule.ATOMS
        self._printed: tuple[str, bool] | None = None
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def text(self) -> str:
        """State, steps and seconds."""
        state = str(self._job.last.state)
        seconds = time.monotonic() - self._began
        done = f"{self._step} of {self._steps} atoms"
        return f"{state}  {bar(self._step, self._steps)}  {done}  {seconds:.0f} s"

    def line(self, text: str, tell: Callable[[str], None]) -> None:
        """Print a line of the job's output by ``tell``."""
        with self._lock:
            self._line.clear()
            found = _STEP.match(text)
            if found:
                self._step, self._steps = int(found[1]), int(found[2])
            tell(f"  {text}")
            stage = (str(self._job.last.state), 2 * self._step >= self._steps)
            if not self._output.may_draw and stage != self._printed:
                tell(self.text())
            self._printed = stage

    def _draw(self) -> None:
        while not self._stop.wait(0.2):
            with self._lock:
                self._line.show(self.text())

    def __enter__(self) -> _Watcher:
        if self._output.may_draw:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(1)
        self._line.clear()

"""Stand-ins for a host: one that answers from a list, and this machine behind /bin/sh."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openssh_jobs.cluster.exit_record import ExitRecords
from openssh_jobs.cluster.host_jobs import HostJobs
from openssh_jobs.cluster.job_files import JobFiles, NewFiles, PrivateDirectory
from openssh_jobs.cluster.journal import Journal, Row
from openssh_jobs.cluster.poller import Poller
from openssh_jobs.cluster.recovery import Outcome, Recovery
from openssh_jobs.cluster.scheduler_client import SchedulerClient
from openssh_jobs.cluster.specification import Specification
from openssh_jobs.cluster.submission import Submission
from openssh_jobs.cluster.submitter import Submitter
from openssh_jobs.cluster.tracker import Tracker
from openssh_jobs.commands import control_shell
from openssh_jobs.commands.quoting import to_bytes, to_text
from openssh_jobs.commands.result import CommandResult
from openssh_jobs.errors import ConfigurationError, SchedulerError
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.site_policy import SitePolicy

# -- a queue that answers from a list ------------------------------------------------------------


class NoFile:
    """A journal that cannot be used: each process polls by itself."""

    def execute(self, *_: object) -> list[tuple[object, ...]]:
        raise ConfigurationError("the journal cannot be used")

    @contextmanager
    def brief(self) -> Iterator[None]:
        raise ConfigurationError("the journal cannot be used")
        yield

    transaction = brief


class FakeQueue:
    """A scheduler and the client that asks it.

    ``answers`` by script: each is returned in turn, and the last one again and again; a function
    is called for its answer, an exception raised.
    """

    name = "fake"
    convention = None
    poll_floor = history_floor = 0.0
    host = "hpc"
    policy = SitePolicy()
    file: Any  # of the journal, which processes share

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, list[Any]] = {
            kind: given if isinstance(given, list) else [given] for kind, given in answers.items()
        }
        self.asked: list[tuple[str, float]] = []
        self.known = self
        self.connection = self
        self.journal = self
        self.internal = self
        self.scopes: list[FakeScope] = []
        self.file = self.make_file()

    make_file: Callable[[], Any] = NoFile

    def identity(self) -> str:
        return self.host

    def by_job(self, *_: object) -> None: ...

    def by_member(self, *_: object) -> None: ...

    def by_jobs(self, *_: object) -> dict[str, Row]:
        return {}

    def active(self, *_: object) -> list[Row]:
        return []

    def open_row(self, row: Row) -> Row:
        return row

    def change(self, *_: object, **facts: object) -> None: ...

    def accounting_script(self) -> None: ...

    def scheduler(self) -> FakeQueue:
        return self

    def placed(self, error: SchedulerError) -> SchedulerError:
        return error

    def scope(self) -> FakeScope:
        self.scopes.append(FakeScope())
        return self.scopes[-1]

    def status_script(self, ids: Any = (), *, all_users: bool = False) -> str:
        return "status" if ids else "all" if all_users else "mine"

    def history_script(self, ids: Any, *, since: object = None) -> str | None:
        return "history" if "history" in self.answers else None

    def ask(self, script: str, timeout: float = 0) -> Answer:
        self.asked.append((script, time.monotonic()))
        answers = self.answers[script]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        while callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer)

    def count(self, script: str) -> int:
        return [asked for asked, _ in self.asked].count(script)

    def parse_status(self, answer: Answer, *, requested: Any = None, **more: object) -> Snapshot:
        known = {}
        for line in answer.stdout.split(","):
            job_id, _, state = line.partition(" ")
            if job_id:
                state, _, code = state.partition("=")
                known[job_id] = JobStatus(
                    job_id,
                    JobState(state),
                    exit_code=int(code) if code else None,
                    source="queue",
                    raw_state=state,
                )
        snapshot = Snapshot(known=known)
        return snapshot if requested is None else snapshot.select(requested)

    def parse_history(self, answer: Answer, *, requested: Any, **_: object) -> Snapshot:
        return self.parse_status(answer, requested=requested)


class JournalQueue(FakeQueue):
    """A queue, with a real journal."""

    def __init__(self, journal: Journal, **answers: Any) -> None:
        super().__init__(**answers)
        self.journal = journal  # type: ignore[assignment]


class FakeScope:
    """Notes whether what runs in it was ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        yield

    def end(self) -> bool:
        self.ended.set()
        return True


def make_poller(queue: FakeQueue, interval: float = 0.05, grace: float = 30) -> Poller:
    client: Any = queue
    return Poller(client, ExitRecords(client, Any), Tracker(grace), interval)  # type: ignore[arg-type]


def jobs_of(queue: FakeQueue) -> HostJobs:
    client: Any = queue
    return HostJobs(client, grace=30, poll_interval=0.0)


def submit(journal: Journal, *ids: str, state: str = "pending") -> None:
    """Rows of jobs that were submitted to ``hpc``."""
    for job_id in ids:
        journal.open_row(row(f"t{job_id}", host="hpc"))
        journal.change("hpc", f"t{job_id}", job_id=job_id, state=state)


def after(seconds: float, answer: str) -> Callable[[], str]:
    """An answer that takes some time."""

    def slow() -> str:
        time.sleep(seconds)
        return answer

    return slow


@contextmanager
def threads_end() -> Iterator[None]:
    """Threads that begin inside have to end within 20 s."""
    before = threading.active_count()
    yield
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


# -- this machine as a host ----------------------------------------------------------------------


class LocalHost:
    """A connection to this machine: scripts run in a real /bin/sh, with ``home`` as their HOME.

    ``used`` names each round trip in order.  ``failing``: by method, what it raises instead.
    ``scripts`` are all that were run, ``lines`` those that were arguments of a shell.
    """

    host = "here"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.used: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.scripts: list[bytes] = []
        self.lines: list[bytes] = []
        self.internal = SimpleNamespace(
            destination=SimpleNamespace(host=self.host, user=None, port=None),
            route=self.host,
            absolute=self._absolute,
            call=self._call,
            run=self.run,
            run_once=self._run_once,
            tighten=lambda _: None,
        )

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH of the scripts."""
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def slurm(self, answer: str = 'echo "$n"', *, remembers: int = 300, settling: int = 0) -> None:
        """Programs that say what Slurm's say; ``queue`` in the home has a line for each job.

        ``answer``: what sbatch does after it has made job ``$n`` (the first is 7).
        """
        queue = f"{self.home}/queue"
        self.program(
            "sbatch",
            'for path; do :; done; n=$(($(wc -l <"$HOME/queue") + 7))\n'
            f'echo "$n $path" >>"$HOME/queue"\n{answer}',
        )
        self.program(
            "squeue",
            'while [ "$1" != -o ]; do shift; done; format=$2\n'
            "while read -r id path; do\n"
            '  printf "%s\\n" "$format" | sed "s#%i#$id#; s#%o#$path#"\n'
            f'done <"$HOME/queue"\necho asked >>{self.home}/asked',
        )
        self.program(
            "scontrol",
            f"echo 'MessageTimeout          = {settling} sec'; "
            f"echo 'MinJobAge               = {remembers} sec'",
        )
        self.program("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
        Path(queue).touch()

    def jobs(self) -> list[str]:
        """The scripts of all jobs that were made."""
        lines = (self.home / "queue").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines]

    def _use(self, method: str) -> None:
        self.used.append(method)
        if method in self.failing:
            raise self.failing[method]

    def _sh(self, script: bytes, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        self.lines.append(script)
        return self._start(script, ["-c", script], data)

    def _start(
        self, script: bytes, words: list[str | bytes], data: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        self.scripts.append(script)
        env = {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}"}
        return subprocess.run(
            ["/bin/sh", *words], input=data, capture_output=True, env=env, cwd=self.home,
            timeout=60, check=False,
        )  # fmt: skip

    def _absolute(self, path: str) -> str:
        return str(self.home / path.removeprefix("~").lstrip("/")) if path[:1] != "/" else path

    def _call(self, script: bytes, *, again: bool = False) -> control_shell.ShellAnswer:
        self._use("call")
        done = self._start(script, ["-s"], b"(\n" + script + b"\n) </dev/null\n")
        return control_shell.ShellAnswer(done.returncode, done.stdout, done.stderr)

    def _run_once(self, script: bytes, **_: object) -> CommandResult[str]:
        self._use("run_once")
        done = self._sh(script)
        out, err = to_text(done.stdout), to_text(done.stderr)
        return CommandResult(script, done.returncode, out, err, self.host)

    def run(
        self, script: bytes, *, input: bytes = b"", text: bool = True, **_: object
    ) -> CommandResult[Any]:
        self._use("run")
        done = self._sh(script, input)
        out, err = (to_text(said) if text else said for said in (done.stdout, done.stderr))
        return CommandResult(script, done.returncode, out, err, self.host)

    def exists(self, path: str) -> bool:
        self._use("exists")
        return os.path.exists(path)

    def read_bytes(self, path: str) -> bytes:
        self._use("read_bytes")
        return Path(self._absolute(path)).read_bytes()

    def write_bytes(self, path: str, data: bytes) -> int:
        self._use("write_bytes")
        return Path(path).write_bytes(data)

    def put(self, local: str, remote: str, *, mark: bytes) -> None:
        self._use("put")
        shutil.copytree(local, remote)
        Path(remote, os.fsdecode(mark)).write_text(f"put {os.stat(remote).st_ino}\n")


class Bench:
    """What a submission to a ``LocalHost`` needs."""

    def __init__(self, host: LocalHost, journal: Journal, scheduler: str) -> None:
        self.host = host
        self.journal = journal
        connection: Any = host
        self.client = SchedulerClient(
            connection, journal, host.host, scheduler, login_shell=False, prologue=""
        )
        self.files = JobFiles(connection, host.host)
        self.records = ExitRecords(self.client, self.files)
        self.recovery = Recovery(self.client, self.files)

    def submission(
        self, token: str | None = None, *, record_exit: bool | str = False, **given: Any
    ) -> Submission:
        none = dict.fromkeys(
            ("script", "script_file", "script_text", "directory", "upload", "array", "env",
             "after_ok", "after_any", "after_failed")
        )  # fmt: skip
        specification = Specification.of(**{**none, "arguments": (), "options": (), **given})
        return Submission(self.client, specification, token, record_exit=record_exit)

    def submit(self, token: str | None = None, **given: Any) -> Row:
        """The row of one submission; raises what became of it instead."""
        (outcome,) = self.submit_all(self.submission(token, **given))
        if isinstance(outcome, Row):
            return outcome
        raise outcome

    def submit_all(self, *submissions: Submission) -> list[Outcome]:
        submitter = Submitter(self.client, self.files, self.records, self.recovery)
        return submitter.submit(submissions)

    def made(self, token: str = "t1", call: str = "c0ffee") -> str:
        """The path of a private directory of the directory ``job``."""
        return make_private(self.files, str(self.host.home / "job"), token, call).path


def make_private(files: JobFiles, directory: str, token: str, call: str) -> PrivateDirectory:
    """A private directory without files."""
    new = NewFiles(directory=directory, token=token, call_id=call)
    (made,) = files.create([new])
    assert isinstance(made, PrivateDirectory)
    return made


def run_shell(script: str | bytes, home: Path) -> control_shell.ShellAnswer:
    """The answer of this machine's /bin/sh."""
    call: Callable[[bytes], control_shell.ShellAnswer] = LocalHost(home).internal.call
    return call(to_bytes(script))


def row(token: str = "t1", **facts: object) -> Row:
    """A row of the journal; the host is ``h``."""
    values: dict[str, object] = {
        "host": "h",
        "token": token,
        "digest": "d",
        "scheduler": "slurm",
        "directory": "/d",
        **facts,
    }
    return Row(**values)  # type: ignore[arg-type]

"""What a type checker says to users of the public classes: mypy reads programs of theirs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from openssh_jobs import (
    Cluster,
    CommandResult,
    Connection,
    FileStat,
    Job,
    LocalConnection,
    RemoteProcess,
    Snapshot,
    errors,
    parser,
)
from openssh_jobs.arc import SSHClient, local, pool
from openssh_jobs.commands.options import RunOptions, StartOptions
from openssh_jobs.connection import ConnectionOptions
from openssh_jobs.transfer.options import Options, TransferOptions
from tests.paths import CHECKOUT

RIGHT = """\
from collections.abc import Sequence
from pathlib import Path
from typing import IO, assert_type

from openssh_jobs import (
    Cluster, CommandResult, Connection, DryRun, FileStat, Job, JobStatus, LocalConnection,
    RemoteProcess, Snapshot, TransferResult, errors, parser,
)


def commands(host: Connection | LocalConnection, flag: bool, lines: list[str]) -> None:
    assert_type(host.run("true"), CommandResult[str])
    assert_type(host.run(["true"], text=True, check=True, input="x").stdout, str)
    assert_type(host.run(b"true", text=False, input=b"x"), CommandResult[bytes])
    assert_type(host.run("true", text=False, input=bytearray(b"x")).stderr, bytes)
    assert_type(host.run("true", text=flag), CommandResult[str] | CommandResult[bytes])
    assert_type(host.run("true", text=False).decoded(), CommandResult[str])
    assert_type(host.run("true").args, str | bytes | Sequence[str | bytes])
    host.run("true", on_stdout=lines.append, on_stderr=print, keep=False)
    host.run("true", text=False, on_stdout=lambda line: line.hex())
    assert_type(host.run_many(["true"], timeout=5), list[CommandResult[str]])
    assert_type(host.run_many(["true"], concurrency=2, text=False), list[CommandResult[bytes]])
    many = host.run_many(["true"], text=flag)
    assert_type(many, list[CommandResult[str]] | list[CommandResult[bytes]])


def processes(host: Connection, flag: bool) -> None:
    assert_type(host.popen("true", stderr="stdout", cwd="/"), RemoteProcess[str])
    assert_type(host.popen("true", text=flag), RemoteProcess[str] | RemoteProcess[bytes])
    with host.popen(["cat"], stdin=None, text=False) as process:
        assert_type(process, RemoteProcess[bytes])
        assert_type(process.stdout, IO[bytes] | None)
        assert_type(process.communicate(b"x"), tuple[bytes, bytes | None])
        assert_type(process.wait(5), int)
        assert_type(process.poll(), int | None)


def files(host: Connection | LocalConnection, path: Path) -> None:
    assert_type(host.put(path, "there/", update=True, only=["*.txt"]), TransferResult)
    assert_type(host.get("there", path, method="tar"), TransferResult)
    assert_type(host.stat("there"), FileStat)
    assert_type(host.stat("there").st_size, int)
    assert_type(host.read_bytes("there"), bytes)


def jobs(path: Path) -> None:
    cluster = Cluster("hpc", user="me", persist=None, login_shell=False)
    job = cluster.submit(script_file=path, after_ok=["1", 2])
    assert_type(job, Job)
    assert_type(cluster.submit(script_text="true", after_any=job, upload=path), Job)
    assert_type(cluster.submit("run.sh", dry_run=True), DryRun)
    assert_type(cluster.submit_many([{"name": "a", "env": {"T": ""}}], script_file=path), list[Job])
    assert_type(cluster.submit_many(path, directory="d", dry_run=True), list[DryRun])
    assert_type(cluster.status([job, "5"]), Snapshot)
    assert_type(cluster.wait(job), list[JobStatus])
    assert_type(job.fetch(path, method="tar", merge=True), TransferResult)
    assert_type(job.exit_code, int | None)
    assert_type(job.status().nodes, tuple[str, ...] | None)
    assert_type(cluster.status(job)[job.id], JobStatus)
    assert_type(parser.parse_status("", "slurm"), Snapshot)
    assert_type(parser.parse_submit("", "slurm"), str)


def failures(host: Connection) -> None:
    try:
        host.run("true", check=True)
    except errors.CommandFailed as error:
        assert error.result is not None
        assert_type(error.result.args, str | bytes | Sequence[str | bytes])
        assert_type(error.result.stderr, str | bytes)
        assert_type(error.result.decoded().stdout, str)
        assert_type(error.result.elapsed, float)
        assert_type(error.returncode, int)
        assert_type(error.stdout, str | bytes | None)
        assert_type(error.cmd, str | bytes | Sequence[str | bytes] | None)
    except errors.CommandTimeout as error:
        assert_type(error.output, str | bytes | None)
        assert_type(error.stderr, str | bytes | None)
        if error.result is not None:
            assert_type(error.result.decoded().stdout, str)
        assert_type(error.timeout, float)
    except errors.NoSpace as error:
        assert_type(error.path, str | None)
    except errors.OpenSSHJobsError as error:
        assert_type(error.sent, errors.Sent)
    raise errors.CommandFailed("made up", result=host.run("true"), host="hpc", sent="no")
"""

WRONG = {
    'host.run("true", text=False).stdout.encode()': "attr-defined",
    'host.run("true").stdout.decode()': "attr-defined",
    'host.run("true", timout=5)': "call-overload",
    'host.run("true", input=5)': "call-overload",
    "host.run(5)": "call-overload",
    'host.run("true", text=False, on_stdout=takes_text)': "arg-type",
    'host.run_many(["true"], chek=True)': "call-overload",
    'host.popen("true", stderr="pip")': "call-overload",
    'host.popen("true").communicate(b"x")': "arg-type",
    'host.put("here", "there", merg=True)': "call-arg",
    'host.get("there", "here", only=5)': "arg-type",
    'host.put("here", "there", method="ftp")': "arg-type",
    'Cluster("hpc", usr="me")': "call-arg",
    'Cluster("hpc", master="mine")': "arg-type",
    "cluster.status(1.5)": "arg-type",
    'cluster.job(["1", "2"])': "arg-type",
    "cluster.submit(script_file=5)": "call-overload",
    "cluster.submit_many([], cpus='4')": "call-overload",
    "cluster.submit_many(['a.sh'], dry_run=True)[0].wait()": "attr-defined",
    'job.fetch("here", updates=True)': "call-arg",
    "failed.result.stdout": "union-attr",
    "failed.stdou": "attr-defined",
    'errors.HostUnreachable("gone", hots="hpc")': "call-arg",
    'errors.SchedulerError("no", sent="perhaps")': "arg-type",
}

SETTING = """

def takes_text(line: str) -> None: ...


def wrong(
    host: Connection, cluster: Cluster, job: Job, failed: errors.CommandFailed
) -> None:
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The lines of the two programs that mypy complains about, with the codes of its errors."""
    directory = tmp_path_factory.mktemp("typing")
    program = directory / "program.py"
    lines = [*(RIGHT + SETTING).splitlines(), *(f"    {line}" for line in WRONG)]
    program.write_text("\n".join(lines) + "\n")
    # What mypy read of the package last time is kept, where it can be.
    cache = CHECKOUT / ".mypy_cache" / "tests" if os.access(CHECKOUT, os.W_OK) else os.devnull
    options = ["--no-error-summary", f"--cache-dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", *options, str(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=directory,
        env={**os.environ, "MYPYPATH": str(CHECKOUT)},
    )
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    found: dict[str, set[str]] = {}
    for said in done.stdout.splitlines():
        error = re.fullmatch(r"program\.py:(\d+): (error: .*\[([a-z-]+)\]|note: .*)", said)
        assert error, said
        if error[3]:
            found.setdefault(lines[int(error[1]) - 1].strip(), set()).add(error[3])
    return found


@pytest.mark.long
def test_right_programs_pass(reported: dict[str, set[str]]) -> None:
    assert {line: codes for line, codes in reported.items() if line not in WRONG} == {}


@pytest.mark.long
@pytest.mark.parametrize("line", WRONG)
def test_a_mistake_is_reported(reported: dict[str, set[str]], line: str) -> None:
    assert reported.get(line) == {WRONG[line]}


def _signatures(owner: type) -> Iterator[tuple[str, inspect.Signature]]:
    """The public methods as a type checker sees them: overloads in place of what is behind them."""
    for name, member in inspect.getmembers(owner):
        function = member.fget if isinstance(member, property) else member
        if inspect.isroutine(function) and (not name.startswith("_") or name == "__init__"):
            function = inspect.unwrap(getattr(function, "__func__", function))
            if inspect.isfunction(function):
                for seen in typing.get_overloads(function) or [function]:
                    yield name, inspect.signature(seen)


def _with_any(owner: type) -> list[str]:
    return [
        f"{name}{said}" for name, said in _signatures(owner) if re.search(r"\bAny\b", str(said))
    ]


ERRORS = [
    member
    for name, member in vars(errors).items()
    if inspect.isclass(member) and issubclass(member, errors.OpenSSHJobsError) and name[0] != "_"
]
PUBLIC = [
    Cluster, CommandResult, Connection, FileStat, Job, LocalConnection, RemoteProcess, Snapshot,
    SSHClient, pool.SSHConnectionPool,
]  # fmt: skip


@pytest.mark.parametrize("owner", [*PUBLIC, *ERRORS])
def test_no_public_method_takes_or_returns_any(owner: type) -> None:
    assert list(_signatures(owner))
    assert _with_any(owner) == []


def test_any_would_be_seen() -> None:
    class Loose:
        def method(self, value: typing.Any) -> None: ...

        @property
        def fact(self) -> typing.Any: ...

    assert len(_with_any(Loose)) == 2


@pytest.mark.parametrize("module", [parser, local, pool])
def test_no_function_takes_or_returns_any(module: ModuleType) -> None:
    public = [getattr(module, name) for name in module.__all__]
    said = [str(inspect.signature(each)) for each in public if inspect.isfunction(each)]
    assert said
    assert not [text for text in said if re.search(r"\bAny\b", text)]


def _keywords(function: Callable[..., object], *but: str) -> set[str]:
    found = inspect.signature(function).parameters.values()
    return {option.name for option in found if option.kind is option.KEYWORD_ONLY}.difference(but)


def test_the_types_of_options_are_complete() -> None:
    streams = ("text", "on_stdout", "on_stderr")
    assert RunOptions.__optional_keys__ == _keywords(Connection.run, *streams)
    assert StartOptions.__optional_keys__ == _keywords(Connection.popen, "text", "stdin", "stderr")
    assert TransferOptions.__optional_keys__ == _keywords(Options, "method")
    # Cluster has a login_shell and a prologue of its own.
    own = ("login_shell", "prologue")
    assert ConnectionOptions.__optional_keys__ == _keywords(Connection, *own)

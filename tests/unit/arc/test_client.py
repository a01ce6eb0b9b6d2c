"""ARC's client without a host: what its own tests take for granted, and its settings."""

from __future__ import annotations

import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc, errors
from openssh_jobs.arc import SSHClient, settings
from openssh_jobs.cluster.journal import Row
from openssh_jobs.jobs import JobStatus, Snapshot
from openssh_jobs.schedulers import get
from tests.helpers import master_of

SERVERS: dict[str, dict[str, Any]] = {
    "server1": {"cluster_soft": "OGE", "address": "one.invalid", "un": "me", "key": "/k"},
    "server2": {"cluster_soft": "Slurm", "address": "two.invalid", "un": "me", "key": "/k",
                "cpus": 8, "memory": 64, "max_simultaneous_jobs": 3, "queues": {"long": "1:00"}},
    "condor": {"cluster_soft": "HTCondor", "address": "three.invalid", "un": "me"},
    "pbs": {"cluster_soft": "PBS", "address": "four.invalid", "un": "me"},
    "alias": {"cluster_soft": "Slurm"},
    "odd": {"cluster_soft": "LoadLeveler", "address": "five.invalid"},
    "local": {"cluster_soft": "OGE", "un": "me"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def arcs_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(settings, "_configured", False)
    saved = {name: dict(table) for name, table in settings.TABLES.items()}
    for server in SERVERS.values():
        server["journal"] = str(tmp_path / "journal")
    arc.configure(servers=SERVERS)
    yield
    for name, table in settings.TABLES.items():
        table.clear()
        table.update(saved[name])


class Sleeps:
    """ARC's tests count the calls of ``time.sleep`` in the module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        monkeypatch.setattr(arc.time, "sleep", self.seconds.append)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    return Sleeps(monkeypatch)


# -- connecting -------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "pauses"), [(1, 0), (3, 2), (0, 0)])
def test_connecting_is_tried_so_often_and_no_more(
    attempts: int, pauses: int, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[SSHClient] = []

    def refuse(self: SSHClient) -> tuple[object, object]:
        calls.append(self)
        raise OSError("no route")

    monkeypatch.setattr(SSHClient, "_connect", refuse)
    client = SSHClient("server2", connection_attempts=attempts)
    with pytest.raises(arc.ServerError, match=r"server2.*no route"):
        client.connect()
    assert (len(calls), sleeps.seconds) == (max(1, attempts), [60.0] * pauses)


def test_the_pair_of_a_good_try_is_kept(sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [OSError("once"), ("sftp", "ssh")]

    def answer(self: SSHClient) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(SSHClient, "_connect", answer)
    with SSHClient("server2") as client:
        assert (client._sftp, client._ssh) == ("sftp", "ssh")
    assert (client._sftp, client._ssh) == (None, None)
    assert sleeps.seconds == [60.0]


def test_what_waiting_cannot_mend_is_said_at_once(
    sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused key is not knocked with 1440 times: clusters ban who does."""
    error = errors.AuthenticationFailed("the key was refused", host="two.invalid")

    def refuse(self: SSHClient) -> Any:
        raise error

    monkeypatch.setattr(SSHClient, "_connect", refuse)
    with pytest.raises(arc.ServerError, match="the key was refused"):
        SSHClient("server2").connect()
    assert sleeps.seconds == []


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare ``except:`` around the first connect."""

    def interrupt(self: SSHClient) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SSHClient, "_connect", interrupt)
    with pytest.raises(KeyboardInterrupt):
        SSHClient("server2").connect()


def test_a_client_that_was_never_connected_connects_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ARC's decorator unpacks None there."""
    tries: list[str] = []

    def connect(self: SSHClient) -> None:
        tries.append(self.server)
        raise arc.ServerError("down")

    monkeypatch.setattr(SSHClient, "connect", connect)
    with pytest.raises(arc.ServerError, match="down"):
        SSHClient("server2").list_available_nodes()
    assert tries == ["server2"]


def test_construction() -> None:
    client = SSHClient("server2")
    assert client.connection_attempts == 1440
    assert (client.server, client.address, client.un, client.key) == (
        "server2", "two.invalid", "me", "/k",
    )  # fmt: skip
    assert (client._ssh, client._sftp) == (None, None)
    assert SSHClient("alias").address == "alias"
    for bad in ("", "nosuch"):
        with pytest.raises(ValueError, match=r"[Ss]erver"):
            SSHClient(bad)


def test_the_modules_servers_are_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    arc.servers["new"] = {"cluster_soft": "Slurm", "address": "new.invalid"}
    assert SSHClient("new").address == "new.invalid"
    monkeypatch.setattr(arc, "servers", {"patched": {"cluster_soft": "PBS", "address": "p"}})
    assert SSHClient("patched").address == "p"
    with pytest.raises(ValueError, match="server2"):
        SSHClient("server2")


def test_clients_of_a_server_share_what_is_known() -> None:
    """A new connection for every ``with SSHClient``."""
    one, two = SSHClient("server2"), SSHClient("server2")
    assert one._cluster is two._cluster
    assert SSHClient("server1")._cluster is not one._cluster
    arc.servers["server2"]["address"] = "moved.invalid"
    assert SSHClient("server2")._cluster is not one._cluster
    arc.servers["server2"]["address"] = "two.invalid"


def test_keys_are_for_logging_in() -> None:
    """The private key was parsed as known_hosts; any host was trusted."""
    target = master_of(SSHClient("server2")._connection).destination
    assert (target.host, target.user, target.identity_file) == ("two.invalid", "me", "/k")
    assert "stricthostkeychecking" not in str(target.ssh_options).lower()
    assert master_of(SSHClient("alias")._connection).destination.identity_file is None


# -- settings -----------------------------------------------------------------------------------


def test_tables_replace_and_file_names_add() -> None:
    arc.configure(submit_filenames={"Slurm": "mine.sl", "LSF": "x"}, delete_command={"OGE": "a"})
    arc.configure(delete_command={"PBS": "b"})
    assert arc.submit_filenames["Slurm"] == "mine.sl"
    assert arc.submit_filenames["OGE"] == "submit.sh"
    assert arc.delete_command == {"PBS": "b"}
    arc.configure(submit_filenames={})
    assert arc.submit_filenames == {
        "OGE": "submit.sh", "SGE": "submit.sh", "PBS": "submit.sh", "local": "submit.sh",
        "Slurm": "submit.sl", "HTCondor": "submit.sub",
    }  # fmt: skip
    with pytest.raises(arc.InputError, match="must be one of servers"):
        arc.configure(sockets={})
    arc.configure(servers=arc.servers)
    assert "server1" in arc.servers, "the very table may be given back"


def test_settings_come_from_the_package_or_from_arc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "servers.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))

    def forget() -> None:
        arc.servers.clear()
        settings._configured = False

    forget()
    with pytest.raises(ValueError, match="none"):
        SSHClient("hpc")
    config.write_text(
        '[servers.hpc]\ncluster_soft = "Slurm"\naddress = "hpc.invalid"\n'
        '[submit_filenames]\nSlurm = "go.sl"\n'
    )
    assert SSHClient("hpc").address == "hpc.invalid"
    assert arc.submit_filenames["Slurm"] == "go.sl"
    forget()
    config.unlink()
    theirs = types.ModuleType("arc.imports")
    theirs.settings = {  # type: ignore[attr-defined]
        "servers": {"theirs": {"cluster_soft": "OGE", "address": "x.invalid", "un": "u"}},
        "check_status_command": {"OGE": "export SGE_ROOT=/x; /x/qstat -u $USER"},
    }
    monkeypatch.setitem(sys.modules, "arc", types.ModuleType("arc"))
    monkeypatch.setitem(sys.modules, "arc.imports", theirs)
    assert SSHClient("theirs").address == "x.invalid"
    assert arc.check_status_command["OGE"].startswith("export")


def test_arcs_exceptions_are_caught_as_arcs(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = types.ModuleType("arc.exceptions")
    theirs.InputError = type("InputError", (Exception,), {})  # type: ignore[attr-defined]
    theirs.ServerError = type("ServerError", (Exception,), {})  # type: ignore[attr-defined]
    before = arc.ServerError
    monkeypatch.setitem(sys.modules, "arc.exceptions", theirs)
    monkeypatch.setattr(SSHClient, "_connect", lambda self: ("sftp", "ssh"))
    client = SSHClient("server2")  # they are looked for now, not only when this was imported
    assert issubclass(arc.ServerError, theirs.ServerError)
    assert issubclass(arc.ServerError, before)
    assert issubclass(arc.InputError, (theirs.InputError,))
    with pytest.raises(theirs.InputError, match="non-existing"):
        client.upload_file("x", local_file_path="/no/such/file")
    with pytest.raises(theirs.InputError):  # what comes from below, too
        client.delete_job("*")
    assert arc.ServerError is type(arc.ServerError("x")), "made once"


def test_importing_it_brings_nothing_of_arc() -> None:
    done = subprocess.run(
        [sys.executable, "-Werror", "-c", "import openssh_jobs.arc, sys; "
         "assert not any(n == 'arc' or n.startswith('arc.') for n in sys.modules)"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# -- check files --------------------------------------------------------------------------------


@pytest.fixture
def runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As ARC's own test does it: the command runs in a directory here instead of on a server."""
    sent: list[str] = []

    def run(self: SSHClient, command: str, remote_path: str = "") -> tuple[list[str], list[str]]:
        sent.append(command)
        if self.server == "server1":
            raise arc.ServerError("down")
        done = subprocess.run(
            command, shell=True, cwd=tmp_path / remote_path, capture_output=True, text=True,
            timeout=20, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.splitlines(keepends=True), done.stderr.splitlines(keepends=True)

    monkeypatch.setattr(SSHClient, "_connect", lambda self: ("sftp", "ssh"))
    monkeypatch.setattr(SSHClient, "_send_command_to_server", run)
    return sent


@pytest.mark.parametrize("project", ["plain", "with blank", "$(touch hacked)", "-rf", "a'b\"c;d"])
def test_only_check_files_of_the_project_go(
    project: str, tmp_path: Path, runs_here: list[str]
) -> None:
    runs = Path("runs", "ARC_Projects")
    for name in (f"{project}/a/x.chk", f"{project}/y.chk", f"{project}/y.log", "other/z.chk"):
        (tmp_path / runs / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / runs / name).touch()
    arc.delete_check_files_on_servers({"server2": str(runs / project)})
    left = sorted(
        str(path.relative_to(tmp_path / runs)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert left == sorted([f"{project}/y.log", "other/z.chk"])
    assert not list(tmp_path.rglob("hacked"))
    (command,) = runs_here
    words = shlex.split(command)
    assert words.count(str(runs / project)) == 2, "the path itself, twice, each time as one word"


def test_check_files_where_there_is_nothing_to_do(
    tmp_path: Path, runs_here: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    arc.delete_check_files_on_servers({"server2": "no/such/dir"})
    assert len(runs_here) == 1
    arc.delete_check_files_on_servers({"local": "x", "": "y", "server2": ""})
    assert len(runs_here) == 1, "local and empty ones are skipped"
    arc.delete_check_files_on_servers({"server1": "x", "nosuch": "y", "server2": ["a", "b"]})
    assert len(runs_here) == 4
    assert "server1" in caplog.text
    assert "nosuch" in caplog.text


def test_one_attempt_a_server(sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def refuse(self: SSHClient) -> Any:
        tries.append(self.server)
        raise OSError("down")

    monkeypatch.setattr(SSHClient, "_connect", refuse)
    arc.delete_check_files_on_servers({"server2": "x", "condor": "y"})
    assert (tries, sleeps.seconds) == (["server2", "condor"], [])


# -- a scheduler that comes and goes ----------------------------------------------------------


class Answers:
    """A call of a cluster that gives these answers in turn; real ones are in tests/real."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, *_: Any, **__: Any) -> Any:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> SSHClient:
    monkeypatch.setattr(SSHClient, "_connect", lambda self: ("sftp", "ssh"))
    client = SSHClient("server2", connection_attempts=3)
    client.connect()
    return client


DOWN = errors.SchedulerError("Socket timed out", kind="transient")


def test_a_failed_query_is_asked_again_and_then_an_error(
    client: SSHClient, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed status query read as "job finished"."""
    running = [JobStatus("7", "running"), JobStatus("8", "completed")]
    monkeypatch.setattr(client._cluster, "jobs", Answers(DOWN, DOWN, running))
    assert client.check_running_jobs_ids() == ["7"]
    assert sleeps.seconds == [60.0, 60.0]
    lost = errors.ConnectionLost("gone", host="h")
    away = errors.HostUnreachable("no route", host="h")
    for error in (DOWN, lost, away):
        monkeypatch.setattr(client._cluster, "jobs", Answers(error))
        with pytest.raises(arc.ServerError, match="the list of jobs on server2"):
            client.check_running_jobs_ids()
    for kind in ("permission", "scheduler_missing", "invalid_request"):
        sleeps.seconds.clear()
        error = errors.SchedulerError("no", kind=kind)
        monkeypatch.setattr(client._cluster, "jobs", Answers(error))
        with pytest.raises(arc.ServerError):
            client.check_running_jobs_ids()
        assert sleeps.seconds == [], kind


def test_a_limit_is_waited_for_and_the_second_try_counts(
    client: SSHClient, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of the second try was thrown away."""
    client.connection_attempts = 1440
    limit = errors.SubmitLimit("QOSMaxSubmitJobPerUserLimit", kind="limit")
    job = client._cluster.job("99")
    monkeypatch.setattr(client._cluster, "submit", Answers(limit, limit, job))
    assert client.submit_job("there") == ("running", "99")
    assert client.last_submission is job
    assert sleeps.seconds == [300.0, 300.0]
    monkeypatch.setattr(client._cluster, "submit", Answers(limit))
    assert client.submit_job("there", recursion=True) == ("errored", "")
    assert client.last_submission == limit  # type: ignore[comparison-overlap]
    sleeps.seconds.clear()
    assert client.submit_job("there") == ("errored", "")
    assert sum(sleeps.seconds) < 1440 * 60


def test_a_scheduler_that_was_not_reached_is_tried_again(
    client: SSHClient, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = errors.SubmitRejected("Unable to contact slurm controller", kind="transient")
    job = client._cluster.job("99")
    monkeypatch.setattr(client._cluster, "submit", Answers(away, job))
    assert client.submit_job("there") == ("running", "99")
    assert sleeps.seconds == [60.0]
    wrong = errors.SubmitRejected("invalid partition", kind="invalid_request")
    monkeypatch.setattr(client._cluster, "submit", Answers(wrong, job))
    assert client.submit_job("there") == ("errored", "")


def test_a_submission_without_an_answer_is_not_repeated(
    client: SSHClient, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was run again on any exception."""
    unknown = errors.SubmitUnknown("nobody knows", token="t")
    answers = Answers(unknown, client._cluster.job("99"))
    monkeypatch.setattr(client._cluster, "submit", answers)
    with pytest.raises(arc.ServerError, match="nobody knows"):
        client.submit_job("there")
    assert (sleeps.seconds, client.last_submission) == ([], unknown)
    assert len(answers.answers) == 1, "asked once"


def test_every_scheduler_of_arc_is_there() -> None:
    names = {soft: get(soft).name for soft in ("OGE", "SGE", "Slurm", "PBS", "HTCondor", "local")}
    assert names == {"OGE": "sge", "SGE": "sge", "Slurm": "slurm", "PBS": "pbs",
                     "HTCondor": "htcondor", "local": "direct"}  # fmt: skip


def test_a_submission_that_the_journal_holds_without_a_job_is_before_submission(
    client: SSHClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = client._cluster
    row = Row(host=cluster.host, token="t0123abc", digest="d", scheduler="slurm", directory="/d")
    cluster.journal.open_row(row)
    asked: list[list[str]] = []

    def status(ids: list[str]) -> Snapshot:
        asked.append(ids)
        return Snapshot(known={"77": JobStatus("77", "running")})

    monkeypatch.setattr(cluster, "status", status)
    assert client.check_job_status("t0123abc") == "before_submission"
    assert asked == [], "the journal knows"
    cluster.journal.change(cluster.host, "t0123abc", job_id="77", state="running")
    assert client.check_job_status("t0123abc") == "running"
    assert asked == [["77"]]

"""``Cluster`` before anything is sent: options, ids, and what the journal knows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.cluster.journal import Journal, Row
from openssh_jobs.errors import ConfigurationError, InputError, SchedulerError, SubmitUnknown

TEXT: dict[str, Any] = {"script_text": "#!/bin/sh\ntrue\n"}


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with Cluster(
        "host.invalid", scheduler="slurm", journal=str(tmp_path / "j"), connect_timeout=5
    ) as made:
        yield made


def test_bad_input_goes_nowhere(cluster: Cluster) -> None:
    with pytest.raises(InputError, match="exactly one"):
        cluster.submit()
    with pytest.raises(InputError, match="not a token"):
        cluster.submit(**TEXT, token="a b")
    with pytest.raises(ConfigurationError, match="record_exit"):
        cluster.submit(**TEXT, record_exit="sometimes")
    for call in (cluster.status, cluster.cancel, cluster.hold, cluster.release):
        for bad in ("", "*", [], None, ["1", "-u"], "1 2"):
            with pytest.raises(InputError):
                call(bad)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        cluster.wait("root")
    with pytest.raises(InputError):
        cluster.job()
    with pytest.raises(InputError):
        cluster.job("1", token="t")
    with pytest.raises(InputError, match="one job, not 2"):
        cluster.job(["1", "2"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no token .*in the journal"):
        cluster.job(token="nobodys")
    assert cluster.connection.stats().commands == 0
    assert cluster.connection.stats().logins == 0
    assert cluster.queries == 0


def test_the_job_of_another_host_goes_nowhere(cluster: Cluster, journal: Journal) -> None:
    other = Cluster("elsewhere.invalid", scheduler="slurm", journal=journal)
    jobs = [cluster.job("5"), other.job("5")]
    calls: tuple[Any, ...] = (
        cluster.status, cluster.cancel, cluster.hold, cluster.release, cluster.wait,
        cluster.is_over,
        lambda jobs: list(cluster.as_completed(jobs if isinstance(jobs, list) else [jobs])),
        lambda jobs: cluster.submit(**TEXT, after_any=jobs),
    )  # fmt: skip
    for call in calls:
        for asked in (other.job("5"), jobs):
            with pytest.raises(InputError, match=r"job 5 is one of elsewhere\.invalid, not"):
                call(asked)
    for one in (cluster.job, lambda job: cluster.submit(again=job)):
        with pytest.raises(InputError, match=r"job 5 is one of elsewhere\.invalid"):
            one(other.job("5"))
    assert cluster.connection.stats().commands == 0
    assert cluster.queries == 0


def test_bad_input_of_many_goes_nowhere(cluster: Cluster, tmp_path: Path) -> None:
    one = {"script_text": "#!/bin/sh\ntrue\n"}
    (tmp_path / "none").mkdir()
    cases: tuple[tuple[Any, str], ...] = (
        ([], "nothing to submit"),
        ({"script_text": "x"}, "takes a list"),
        ([5], "a mapping or a local script"),
        ([{**one, "cpu": 4}], "no parameter cpu"),
        ([{**one, "token": "a b"}], "not a token"),
        ([{**one, "token": "t"}, {**one, "token": "t", "cpus": 2}], "two different submissions"),
        ([one, {"name": "x"}], "exactly one"),
        ([{**one, "time_limit": "5"}], "schedulers differ"),
        (tmp_path / "none", "no file in"),
    )
    for bad, said in cases:
        with pytest.raises(InputError, match=said):
            cluster.submit_many(bad)
    with pytest.raises(InputError, match="names one submission"):
        cluster.submit_many([one], token="t")
    with pytest.raises(InputError, match="must be left out"):
        cluster.submit_many(tmp_path, script_text="x")
    with pytest.raises(FileNotFoundError):
        cluster.submit_many(["nowhere.sh"])
    elsewhere: Any = SimpleNamespace(id="5", host="elsewhere")
    with pytest.raises(InputError, match="the job 5 is one of elsewhere"):
        cluster.submit_many([one, {**one, "after_ok": elsewhere}])
    assert cluster.connection.stats().logins == 0
    assert cluster.journal.rows() == []


def test_options_make_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ssh_config"):
        Cluster(Connection("host.invalid"), ssh_config="x")
    with pytest.raises(ConfigurationError, match="no scheduler 'nosuch'"):
        Cluster("host.invalid", scheduler="nosuch")
    with pytest.raises(ConfigurationError, match="poll_interval"):
        Cluster("host.invalid", poll_interval=-1)
    with pytest.raises(ConfigurationError, match="record_exit"):
        Cluster("host.invalid", record_exit=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="starts with a dash"):
        Cluster("-oProxyCommand=x")


def test_properties_send_nothing_and_the_site_policy_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "servers.toml"
    config.write_text('[servers."host.invalid"]\npoll_floor = 120\n')
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    with Cluster("host.invalid", journal=str(tmp_path / "j"), poll_interval=1) as cluster:
        assert (cluster.scheduler, cluster.poll_interval) == (None, 120)
    config.write_text("")
    journal = str(tmp_path / "j")
    with Cluster("host.invalid", journal=journal) as cluster:
        assert cluster.poll_interval == 10
    with Cluster("host.invalid", journal=journal, scheduler="direct") as cluster:
        assert (cluster.scheduler, cluster.poll_interval) == ("direct", 0)
        assert repr(cluster.job("12")) == "<Job 12 on host.invalid: unknown>"


def test_two_users_of_a_host_are_two(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    mine = Cluster("host.invalid", journal=journal, scheduler="slurm")
    theirs = Cluster("host.invalid", user="bob", port=2222, journal=journal, scheduler="slurm")
    assert (mine.host, theirs.host) == ("host.invalid", "bob@host.invalid:2222")
    journal.open_row(Row(host=mine.host, token="t", digest="", scheduler="slurm", directory="/d"))
    journal.change(mine.host, "t", job_id="5", state="completed", exit_code=0)
    assert mine.job("5").exit_code == 0
    assert theirs.job("5").last.reason == "not asked yet"
    journal.close()


def test_what_the_journal_knows_is_returned_without_a_query(cluster: Cluster) -> None:
    cluster.journal.open_row(
        Row(host=cluster.host, token="t", digest="", scheduler="slurm", directory="/d", name="n")
    )
    with pytest.raises(SubmitUnknown, match=r"may exist.*/d/\.openssh_jobs/t") as caught:
        cluster.job(token="t")
    assert caught.value.token == "t"
    cluster.journal.change(
        cluster.host, "t", job_id="5", state="failed", exit_code=3, reason="r", nodes="a,b",
        stdout_path="/d/out",
    )  # fmt: skip
    for job in (cluster.job(token="t"), cluster.job(5)):
        assert (job.id, job.token, job.directory, job.name) == ("5", "t", "/d", "n")
        assert (job.exit_code, job.reason, job.stdout_path) == (3, "r", "/d/out")
        assert (job.last.state, job.last.nodes, job.last.source) == (
            "failed",
            ("a", "b"),
            "journal",
        )
        assert job.status().exit_code == 3, "over is over: nobody is asked"
        assert job.wait(timeout=1).state == "failed"
    assert cluster.queries == 0


def test_a_host_that_was_never_reached_is_an_error_of_its_own(cluster: Cluster) -> None:
    from openssh_jobs.errors import HostUnreachable

    with pytest.raises(HostUnreachable):
        cluster.status("5")
    with pytest.raises(HostUnreachable):
        cluster.submit(**TEXT)
    assert cluster.journal.rows() == [], "nothing was sent, and nothing is open"
    assert isinstance(cluster.job("5").status, object)
    with pytest.raises((HostUnreachable, SchedulerError)):
        cluster.jobs()


@pytest.mark.parametrize("age", [-1, float("nan"), "7d", timedelta(seconds=-1)])
def test_an_age_that_is_none(cluster: Cluster, age: Any) -> None:
    with pytest.raises(InputError, match="older_than must be a timedelta or a number of seconds"):
        cluster.tidy(age)

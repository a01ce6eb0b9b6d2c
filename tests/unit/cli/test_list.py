"""``list`` without a host: what it reads in the journal, and its options."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cli import main
from openssh_jobs.cli.options import advise_host
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.errors import HostUnreachable
from tests import screens

HEAVY = (
    *("rich", "pexpect", "asyncio", "multiprocessing", "openssh_jobs.connection"),
    *("openssh_jobs.host", "openssh_jobs.cluster.cluster", "openssh_jobs.transfer"),
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of the screens."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    monkeypatch.setattr("openssh_jobs.cli.list.time", screens.Clock)
    monkeypatch.setattr("openssh_jobs.cli.listed_job.time", screens.Clock)
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    assert main(["list", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == []
    return [job["job_id"] for job in found["jobs"]]


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [None, "4720", "4650", "4712", "4711", "88.0"]),
        (("--all",), [None, "4720", "4650", "4712", "4711", "88.0", "4648"]),
        (("--state", "running, HELD"), ["4720", "4711", "88.0"]),
        (("--name", "*-7"), ["4712", "4711"]),
        (("--limit", "2"), [None, "4720"]),
        (("--sort", "submitted", "--limit", "2"), [None, "4712"]),
        (("--since", "12h"), [None, "4720", "4712", "4711", "88.0"]),
        (("--since", "30h"), [None, "4720", "4650", "4712", "4711", "88.0", "4648"]),
        (("--since", "2026-03-01"), [None, "4720", "4650", "4712", "4711", "88.0", "4648"]),
        (("--state", "completed"), ["4648"]),
    ],
)
def test_what_is_listed(
    words: tuple[str, ...], expected: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys, *words) == expected


@pytest.mark.usefixtures("state")
def test_json_has_the_age_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ages = {job["name"]: job["as_of"] for job in found["jobs"]}
    assert ages["relax-7"] == "2026-03-10T11:59:48+00:00"
    assert ages["train"] == "2026-03-10T11:56:40+00:00"
    assert found["not_shown"] == 1
    relax = next(job for job in found["jobs"] if job["name"] == "relax-7")
    assert (relax["elapsed"], relax["time_limit"]) == (723, 7200)
    assert relax["started"] == "2026-03-10T11:47:45+00:00"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--state", "done"), "--state must be of new, pending"),
        (("--since", "7x"), "--since must be a time such as 7d, 12h"),
        (("--since", "9999999d"), "--since must be a time such as 7d, 12h"),
        (("--sort", "size"), "--sort"),
        (("--limit", "-1"), "--limit must be a whole number >= 0"),
    ],
)
def test_a_wrong_option_is_named(
    words: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", f"{words[0]}={words[1]}"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert words[1] in err


def test_the_first_paint_loads_no_more_than_the_journal_needs(state: Path) -> None:
    code = (
        "import sys; from openssh_jobs.cli import main; assert main(['list', '--all']) == 0; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"XDG_STATE_HOME": str(state)},
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert len(lines) == 1 + 7 + 1


@pytest.mark.usefixtures("state")
def test_a_host_that_is_almost_one_of_the_journal() -> None:
    error = HostUnreachable(
        "ssh does not know this host (could not resolve hostname hpcc)", host="hpcc", advice="Hosts"
    )
    advise_host(error)
    assert str(error).endswith("hostname hpcc). Did you mean hpc? Hosts")
    for other in (
        HostUnreachable("ssh does not know this host (x)", host="elsewhere", advice="Hosts"),
        HostUnreachable("connection refused", host="hpcc", advice="Hosts"),
    ):
        advise_host(other)
        assert other.advice == "Hosts"


def test_without_a_journal_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    error = HostUnreachable("ssh does not know this host (x)", host="hpcc", advice="Hosts")
    advise_host(error)
    assert error.advice == "Hosts"
    assert list(tmp_path.iterdir()) == []

"""The table of jobs: what it says of each, which are shown, what narrow terminals lose."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openssh_jobs import local_connection
from openssh_jobs.cli.listed_job import (
    DAY,
    JOBS,
    SORTS,
    THIS_MACHINE,
    WEEK,
    ListedJob,
    Selection,
    ages,
    counts,
    short_path,
)
from openssh_jobs.cli.output import printable
from openssh_jobs.cli.table import display_width
from openssh_jobs.cluster.journal import Row
from openssh_jobs.jobs import JobState, JobStatus

NOW = time.time()
STATES = [str(state) for state in JobState]
PRIORITY = ("DIRECTORY", "SUBMITTED", "ELAPSED / OF", "REASON / WHERE", "NAME", "HOST")


def job(job_id: str = "7", state: str = "running", **facts: Any) -> ListedJob:
    own = {name: facts.pop(name) for name in [*facts] if name in ListedJob.__dataclass_fields__}
    status = JobStatus(job_id, state, **facts)
    usual: dict[str, Any] = {"host": "hpc", "changed": NOW, "status": status}
    return ListedJob(**usual | own)


def row(**facts: Any) -> Row:
    usual: dict[str, Any] = {
        "host": "hpc",
        "token": "t",
        "digest": "d",
        "scheduler": "slurm",
        "directory": "/d",
        "job_id": "7",
        "state": "running",
        "opened": NOW - 900,
    }
    return Row(**usual | facts)


TEXT = st.text(max_size=40)
JOB = st.builds(
    lambda host, number, state, name, reason, directory, seconds: job(
        number,
        state,
        host=host,
        directory=directory,
        name=name,
        reason=reason,
        submitted=datetime.fromtimestamp(NOW - seconds, UTC),
        elapsed=timedelta(seconds=seconds),
        time_limit=timedelta(hours=2),
    ),
    TEXT,
    st.sampled_from(["1", "4711", "1234567890.server.example.org", "9_[1-1000%8]"]),
    st.sampled_from(STATES),
    TEXT,
    TEXT,
    TEXT,
    st.integers(0, 10**7),
)


@given(st.lists(JOB, min_size=1, max_size=8), st.integers(20, 220), st.booleans())
@example([job("1234567890.server.example.org", "out_of_memory", name="x" * 40)], 20, False)
def test_a_narrow_terminal_never_loses_the_state(
    jobs: list[ListedJob], width: int, colour: bool
) -> None:
    lines = JOBS.lines(jobs, width)
    head = lines[0]
    at = head.index("STATE")
    assert [line[at:].split()[0] for line in map(_one_wide, lines[1:])] == [
        str(one.status.state) for one in jobs
    ]
    assert max(map(display_width, lines)) <= width
    assert all(printable(line) == line for line in lines)
    full = JOBS.lines(jobs, None)[0]
    lost = [title for title in PRIORITY if title in full and title not in head]
    had = [title for title in PRIORITY if title in full]
    assert lost == had[: len(lost)], "the least telling column goes first"
    coloured = JOBS.lines(jobs, width, colour=colour)
    assert len(coloured) == len(lines)


def _one_wide(line: str) -> str:
    """A line in which each character is one column wide, as the head is."""
    return "".join(char + " " * (display_width(char) - 1) for char in line if display_width(char))


def test_what_the_journal_knows_is_a_row() -> None:
    known = row(name="relax", nodes="n1", started=NOW - 500, time_limit=7200.0, learned=NOW - 400)
    listed = ListedJob.of_row(known, NOW - 20, is_stuck=False)
    record = JOBS.record(listed)
    assert record["as_of"] == datetime.fromtimestamp(NOW - 20, UTC)
    assert (record["host"], record["job_id"], record["state"]) == ("hpc", "7", "running")
    assert (record["token"], record["directory"]) == ("t", "/d")
    head, line = JOBS.lines([listed], None)
    assert line.split()[:6] == ["hpc", "7", "relax", "running", "n1", "0:08:00"]
    assert "0:08:00 / 2:00:00" in line
    assert head.split()[:4] == ["HOST", "JOB", "NAME", "STATE"]
    over = ListedJob.of_row(
        row(state="failed", exit_code=3, started=NOW - 500, ended=NOW - 440), None, is_stuck=False
    )
    assert "exit code 3" in JOBS.lines([over], None)[1]
    assert "0:01:00" in JOBS.lines([over], None)[1]


def test_a_job_from_elsewhere_has_no_token() -> None:
    found = row(job_id="9", stage="followed", directory="")
    record = JOBS.record(ListedJob.of_row(found, None, is_stuck=False))
    assert (record["job_id"], record["token"], record["directory"]) == ("9", None, None)


@pytest.mark.parametrize(
    ("is_stuck", "said"), [(True, "no answer: it may exist"), (False, "being submitted")]
)
def test_a_submission_without_an_answer(is_stuck: bool, said: str) -> None:
    listed = ListedJob.of_row(row(job_id=None, state="new"), None, is_stuck=is_stuck)
    line = JOBS.lines([listed], None)[1]
    assert "(none)" in line
    assert said in line
    assert listed.is_troubled is is_stuck
    assert JOBS.record(listed)["job_id"] is None


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "3 elements: 1 failed (4_2), 2 running",
            "1 failed (4_2), 2 running, 7 unknown (no longer listed)",
        ),
        ("10 elements: 10 running", "10 running"),
    ],
)
def test_an_array_is_one_row_with_its_counts(reason: str, said: str) -> None:
    listed = ListedJob.of_row(row(reason=reason, array="1-10%4"), NOW, is_stuck=False)
    assert said in JOBS.lines([listed], None)[1]
    assert listed.is_troubled is ("failed" in reason)


def test_a_job_that_waits_for_others_names_them() -> None:
    listed = job("4", "pending", reason="Dependency")
    assert " Dependency" in JOBS.lines([listed], None)[1]
    assert " after 3, 2" in JOBS.lines([replace(listed, after=("3", "2"))], None)[1]
    held = job("4", "held", reason="JobHeldUser")
    assert "after" not in JOBS.lines([replace(held, after=("3",))], None)[1]


def test_a_home_directory_is_a_tilde_and_in_json_whole() -> None:
    listed = replace(job("4"), directory="/home/alice/runs/a", home="/home/alice")
    assert JOBS.lines([listed], None)[1].endswith("  ~/runs/a")
    assert JOBS.record(listed)["directory"] == "/home/alice/runs/a"
    assert short_path("/home/alice2/runs", "/home/alice") == "/home/alice2/runs"
    assert short_path("/home/alice", "/home/alice") == "~"
    assert short_path(None, "/home/alice") is None


def test_this_machine_is_called_as_it_is_typed() -> None:
    assert THIS_MACHINE == local_connection.NAME
    listed = ListedJob.of_row(row(host=THIS_MACHINE), NOW, is_stuck=False)
    assert listed.host == "."


def test_no_control_character_of_a_host_is_printed() -> None:
    nasty = "a\x1b[31m\r\n\u202eb\x9b2J"
    listed = job(name=nasty, reason=nasty, state="held", directory=nasty, host=nasty)
    for line in JOBS.lines([listed], 80, colour=False):
        assert printable(line) == line
        assert "\x1b" not in line


# -- which are shown, and in which order ---------------------------------------------------------


def shown(selection: Selection, *jobs: ListedJob) -> list[str]:
    return [one.status.job_id for one in selection.split(jobs)[0]]


def test_trouble_stays_for_a_week_and_success_for_a_day() -> None:
    jobs = [
        job("1", "completed", changed=NOW - 0.9 * DAY),
        job("2", "completed", changed=NOW - 1.1 * DAY),
        job("3", "failed", changed=NOW - 6 * DAY),
        job("4", "failed", changed=NOW - 8 * DAY),
        job("5", "running", changed=NOW - 90 * DAY),
        job("6", "unknown", changed=NOW - 8 * DAY),
        job("7", "cancelled", changed=NOW - 2 * DAY),
    ]
    assert shown(Selection(), *jobs) == ["1", "3", "5"]
    assert shown(Selection(all=True), *jobs) == ["1", "2", "3", "4", "5", "6", "7"]
    assert shown(Selection(since=NOW - 3 * DAY), *jobs) == ["1", "2", "5", "7"]
    assert shown(Selection(states=frozenset(("completed",))), *jobs) == ["1", "2"]
    assert WEEK == 7 * DAY


def test_names_are_patterns() -> None:
    jobs = [job("1", name="relax-1"), job("2", name="freq"), job("3")]
    assert shown(Selection(name="relax*"), *jobs) == ["1"]
    assert shown(Selection(name="freq"), *jobs) == ["2"]


def _order(by: str, *jobs: ListedJob) -> list[str]:
    return [one.status.job_id for one in sorted(jobs, key=SORTS[by])]


def test_the_orders() -> None:
    def at(age: float) -> datetime:
        return datetime.fromtimestamp(NOW - age, UTC)

    jobs = [
        job("20", "completed", submitted=at(1), name="a"),
        job("3", "running", submitted=at(50), name="b", elapsed=timedelta(hours=1)),
        job("100", "running", submitted=at(10), name="c", host="gpu"),
        job("4", "failed", submitted=at(90), name="d"),
    ]
    assert next(iter(SORTS)) == "trouble"
    assert _order("trouble", *jobs) == ["4", "100", "3", "20"]
    assert _order("submitted", *jobs) == ["20", "100", "3", "4"]
    assert _order("job", *jobs) == ["3", "4", "20", "100"]
    assert _order("name", *reversed(jobs)) == ["20", "3", "100", "4"]
    assert _order("host", *jobs)[0] == "100"
    assert _order("state", *jobs) == ["20", "4", "100", "3"]
    assert _order("elapsed", *jobs)[0] == "3"


def test_the_lines_below() -> None:
    jobs = [
        job("1", as_of=NOW - 12),
        job("2", "pending", as_of=NOW - 75),
        job("3", "pending", host="gpu", as_of=NOW - 3),
        job("4", "failed", host="old", as_of=NOW - 10**6),
    ]
    assert counts(jobs) == "4 jobs: 1 running, 2 pending, 1 failed."
    assert counts(jobs[:1]) == "1 job: 1 running."
    # How a job ended does not get old.
    assert ages(jobs, NOW) == "hpc asked 1 min 15 s ago, gpu asked 3 s ago."
    assert ages([], NOW) == ""

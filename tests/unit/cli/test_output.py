"""Words, JSON and sentences of errors, without any host."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.cli.exit_codes import UsageError
from openssh_jobs.cli.output import (
    count,
    duration,
    error_data,
    error_sentence,
    moment,
    one_line,
    plain,
    printable,
    size,
    span,
    wrapped,
)
from openssh_jobs.jobs import JobState, JobStatus, Node


@given(st.text())
def test_printable_text_obeys_nothing_and_loses_nothing(text: str) -> None:
    shown = printable(text)
    assert all(char.isprintable() or char in "\xa0\u202f\u3000" for char in shown)
    if text.isascii() and text.isprintable():
        assert shown == text


def test_words() -> None:
    assert printable("a\x1b[31m\n\udcff") == "a\\x1b[31m\\n\\udcff"
    assert one_line("a\n  b\tc ") == "a b c"
    assert [count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [size(number) for number in (0, 999, 1000, 1_234_567, 4e9, 5e15)] == [
        *("0 B", "999 B", "1.0 kB", "1.2 MB", "4.0 GB", "5000.0 TB")
    ]


def test_spans() -> None:
    assert [span(number) for number in (0, 40, 3600, 5400, 43200, 90061)] == [
        *("0 s", "40 s", "1 h", "1 h 30 min", "12 h", "1 d 1 h")
    ]


def test_durations_and_moments() -> None:
    assert duration(None) == ""
    assert duration(timedelta(minutes=12, seconds=3)) == "0:12:03"
    assert duration(timedelta(hours=23, seconds=59)) == "23:00:59"
    assert duration(timedelta(days=2, hours=1)) == "2-01:00:00"
    when = datetime(2026, 3, 9, 9, 14).astimezone()
    assert moment(None) == ""
    assert moment(when, date(2026, 3, 9)) == "today 09:14"
    assert moment(when, date(2026, 3, 10)) == "yesterday 09:14"
    assert moment(when, date(2026, 3, 11)) == "2026-03-09 09:14"
    assert moment(when, date(2026, 3, 8)) == "tomorrow 09:14"
    assert moment(when, date(2026, 3, 7)) == "2026-03-09 09:14"


def test_data_has_plain_values_under_stable_names() -> None:
    status = JobStatus(
        "7",
        JobState.RUNNING,
        nodes=("n1",),
        elapsed=timedelta(seconds=90),
        submitted=datetime(2026, 3, 9, 9, 14, tzinfo=UTC),
    )
    data = json.loads(json.dumps(plain(status.as_dict())))
    assert set(data) == set(JobStatus.FIELDS)
    assert (data["job_id"], data["state"], data["nodes"]) == ("7", "running", ["n1"])
    assert (data["elapsed"], data["submitted"]) == (90, "2026-03-09T09:14:00+00:00")
    assert plain(Node(name="n1", memory=5))["memory"] == 5


def test_sentences() -> None:
    lost = errors.ConnectionLost("the link\nwas lost", host="hpc", advice="Type x.")
    assert error_sentence(lost) == r"hpc: the link\nwas lost. Type x."
    assert error_sentence(UsageError("openssh-jobs put: no")) == "openssh-jobs put: no."
    assert error_sentence(UsageError("no")) == "openssh-jobs: no."
    gone = FileNotFoundError(2, "No such file or directory", "x\n")
    assert error_sentence(gone) == (
        "openssh-jobs: No such file or directory on this machine: 'x\\n'."
    )
    assert "this is a bug: ZeroDivisionError: x" in error_sentence(ZeroDivisionError("x"))


def test_an_unknown_submission_has_its_token_as_data() -> None:
    error = errors.SubmitUnknown("no answer", token="t1", kind="transport", host="hpc")
    facts = error_data(error)["error"]
    assert (facts["token"], facts["kind"], facts["sent"]) == ("t1", "transport", "maybe")


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["hpc: not there. Type `openssh-jobs login hpc`, then again."]),
        (30, ["hpc: not there. Type", "`openssh-jobs login hpc`, then", "again."]),
        (20, ["hpc: not there. Type", "`openssh-jobs login", "hpc`, then again."]),
        (5, ["hpc:", "not", "there.", "Type", "`openssh-jobs", "login", "hpc`,", "then", "again."]),
    ],
)
def test_sentences_break_at_words_and_not_in_commands(width: int, lines: list[str]) -> None:
    assert wrapped("hpc: not there. Type `openssh-jobs login hpc`, then again.", width) == lines


@given(st.text(), st.integers(1, 100))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    assert " ".join(wrapped(text, width)).split() == text.split()

"""Tables, words and JSON of the command line, without any host."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.cli import options
from openssh_jobs.cli.output import (
    Column,
    Ui,
    count,
    duration,
    moment,
    one_line,
    plain,
    printable,
    size,
    table_lines,
)
from openssh_jobs.jobs import JobState, JobStatus, Node

COLUMNS = (
    Column(title="JOB"),
    Column(title="NAME", shrinks=True),
    Column(title="N", right=True),
    Column(title="EMPTY"),
)


def test_a_table_is_aligned_and_leaves_out_what_is_empty() -> None:
    rows = [("1", "short", "7", ""), ("4711", "a longer one", "1234", "")]
    assert table_lines(COLUMNS, rows, None) == [
        "JOB   NAME             N",
        "1     short            7",
        "4711  a longer one  1234",
    ]


def test_a_table_fits_by_what_may_be_cut() -> None:
    lines = table_lines(COLUMNS, [("4711", "x" * 100, "1", "")], 30)
    assert [len(line) for line in lines] == [30, 30]
    assert lines[1] == "4711  " + "x" * 20 + "…  1"


@given(
    st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), min_size=1),
    st.integers(20, 200),
)
def test_no_cell_breaks_a_table(rows: list[tuple[str, str, str, str]], width: int) -> None:
    lines = table_lines(COLUMNS, rows, width)
    assert len(lines) in (0, len(rows) + 1)
    assert all(printable(line) == line for line in lines)


@given(st.text())
def test_printable_text_obeys_nothing_and_loses_nothing(text: str) -> None:
    shown = printable(text)
    assert all(one.isprintable() or one in "\xa0\u202f\u3000" for one in shown)
    if text.isascii() and text.isprintable():
        assert shown == text


def test_words() -> None:
    assert printable("a\x1b[31m\n\udcff") == "a\\x1b[31m\\n\\udcff"
    assert one_line("a\n  b\tc ") == "a b c"
    assert [count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [size(number) for number in (0, 999, 1000, 1_234_567, 4e9, 5e15)] == [
        *("0 B", "999 B", "1.0 kB", "1.2 MB", "4.0 GB", "5000.0 TB")
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
    assert moment(when, date(2026, 3, 8)) == "2026-03-09 09:14"


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


def test_rich_is_not_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(Ui, "on_terminal", True)
    monkeypatch.setenv("COLUMNS", "24")
    Ui().table(COLUMNS, [("4711", "x" * 100, "1", "")])
    assert capsys.readouterr().out == f"JOB   NAME             N\n4711  {'x' * 14}…  1\n"


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (options.WrongUse("x"), 2),
        (errors.ConfigurationError("x"), 2),
        (errors.InputError("x"), 2),
        (FileNotFoundError(2, "No such file or directory", "x"), 2),
        (OSError(28, "No space left on device", "x"), 1),
        (errors.remote_oserror(2, "x", host="h"), 1),
        (errors.remote_oserror(28, "x", host="h"), 1),
        (errors.TransferError("x"), 1),
        (errors.HostUnreachable("x"), 3),
        (errors.AuthenticationNeeded("x"), 3),
        (errors.ConnectionLost("x"), 3),
        (errors.SessionLimit("x"), 3),
        (errors.SubmitRejected("x", kind="invalid_request"), 4),
        (errors.SubmitLimit("x", kind="limit"), 4),
        (errors.SchedulerError("x", kind="permission"), 4),
        (errors.SchedulerError("x", kind="scheduler_missing"), 4),
        (errors.SchedulerError("x", kind="transient"), 5),
        (errors.SchedulerError("x", kind="parse_error"), 5),
        (errors.SubmitUnknown("x", token="t"), 5),
        (errors.SubmitUnknown("x", kind="permission"), 5),
        (errors.CommandFailed("x"), 5),
        (errors.CommandTimeout("x"), 5),
        (ZeroDivisionError("x"), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert options.exit_code(error) == code
    told = options.sentence(error)
    assert told.isprintable()
    assert told.endswith(".")
    assert options.as_data(error)["error"]["exit_code"] == code


def test_sentences() -> None:
    lost = errors.ConnectionLost("the link\nwas lost", host="hpc", advice="Type x.")
    assert options.sentence(lost) == r"hpc: the link\nwas lost. Type x."
    assert options.sentence(options.WrongUse("openssh-jobs put: no")) == "openssh-jobs put: no."
    assert options.sentence(options.WrongUse("no")) == "openssh-jobs: no."
    gone = FileNotFoundError(2, "No such file or directory", "x\n")
    assert options.sentence(gone) == (
        "openssh-jobs: No such file or directory on this machine: 'x\\n'."
    )
    assert "this is a bug: ZeroDivisionError: x" in options.sentence(ZeroDivisionError("x"))


def test_an_unknown_submission_has_its_token_as_data() -> None:
    error = errors.SubmitUnknown("who knows", token="t1", kind="transport", host="hpc")
    facts = options.as_data(error)["error"]
    assert (facts["token"], facts["kind"], facts["sent"]) == ("t1", "transport", "maybe")

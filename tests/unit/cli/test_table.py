"""Tables: text, JSON, and the columns of each command."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.cli.listed_job import JOBS, ListedJob
from openssh_jobs.cli.login import MASTERS
from openssh_jobs.cli.output import Output, attributes, moment, printable
from openssh_jobs.cli.queues import NODES, QUEUES
from openssh_jobs.cli.table import Column, OutputTable, display_width
from openssh_jobs.cli.tidy import LEFTOVERS
from openssh_jobs.cluster.leftovers import Leftover
from openssh_jobs.jobs import JobStatus, Node, Queue
from openssh_jobs.openssh.masters import MasterFacts
from tests.cli import without_colour

TABLE: OutputTable[tuple[str, ...]] = OutputTable(
    Column("job", "JOB", get=itemgetter(0)),
    Column("name", "NAME", get=itemgetter(1), shrinks=True),
    Column("number", "N", get=itemgetter(2), right=True),
    Column("empty", "EMPTY", get=itemgetter(3)),
)


def test_a_table_is_aligned_and_leaves_out_what_is_empty() -> None:
    rows = [("1", "short", "7", ""), ("4711", "a longer one", "1234", "")]
    assert TABLE.lines(rows, None) == [
        "JOB   NAME             N",
        "1     short            7",
        "4711  a longer one  1234",
    ]


def test_a_table_fits_by_what_may_be_cut() -> None:
    lines = TABLE.lines([("4711", "x" * 100, "1", "")], 30)
    assert [len(line) for line in lines] == [30, 30]
    assert lines[1] == "4711  " + "x" * 20 + "…  1"


def test_the_list_of_leftovers_fits_on_80_columns() -> None:
    path = "/home/alice/scratch/project/runs/relax-7/.openssh_jobs/te86a1eb45c75e4b4"
    left = Leftover(path=path, reason="its end is not known for 7 days", size=65536, job_id="4711")
    lines = LEFTOVERS.lines([("kept", left)], 80)
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:4] == ["kept", "65.5", "kB", "4711"]
    assert "te86a1eb45c75e4b4  its end is not known" in lines[1]


@given(
    st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), min_size=1),
    st.integers(20, 200),
)
def test_no_cell_breaks_a_table(rows: list[tuple[str, ...]], width: int) -> None:
    lines = TABLE.lines(rows, width)
    assert len(lines) in (0, len(rows) + 1)
    assert all(printable(line) == line for line in lines)


def test_a_narrow_terminal_loses_whole_columns_in_their_order() -> None:
    table: OutputTable[tuple[str, ...]] = OutputTable(
        Column("job", "JOB", get=itemgetter(0), shrinks_last=True, least=3),
        Column("name", "NAME", get=itemgetter(1), shrinks=True, least=4, drops=1),
        Column("state", "STATE", get=itemgetter(2)),
        Column("where", "WHERE", get=itemgetter(3), shrinks=True, least=5, drops=2, keeps_end=True),
    )
    rows = [("4711", "relax-7", "running", "/home/me/runs")]
    assert table.lines(rows, 40)[1] == "4711  relax-7  running  /home/me/runs"
    assert table.lines(rows, 34)[1] == "4711  relax-7  running  …e/me/runs"
    assert table.lines(rows, 24)[1] == "4711  relax-7  running"
    assert table.lines(rows, 20)[1] == "4711  rela…  running"
    assert table.lines(rows, 13)[1] == "4711  running"
    assert table.lines(rows, 12)[1] == "47…  running"
    assert table.lines(rows, 1)[1] == "47…  running"


def test_wide_characters_take_two_columns() -> None:
    lines = TABLE.lines([("1", "\u8a08\u7b97" * 20, "7", ""), ("2", "e\u0301", "8", "")], 24)
    assert [display_width(line) for line in lines] == [24, 24, 24]
    assert lines[1].endswith("…   7")


def test_colour_only_repeats_what_a_word_says() -> None:
    rows = [("1", "failed", "7", ""), ("2", "running", "8", "")]
    plain, coloured = TABLE.lines(rows, 80), TABLE.lines(rows, 80, colour=True)
    assert [without_colour(line) for line in coloured] == plain
    assert "\x1b[31mfailed\x1b[0m" in coloured[1]


@pytest.mark.parametrize(
    ("env", "is_coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_who_wants_no_colour_gets_none(
    env: dict[str, str],
    is_coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    TABLE.show([("1", "failed", "7", "")], Output())
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(Output, "on_terminal", True)
    TABLE.show([("1", "failed", "7", "")], Output())
    assert ("\x1b" in capsys.readouterr().out) is is_coloured


def test_rich_is_not_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(Output, "on_terminal", True)
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("NO_COLOR", "1")
    TABLE.show([("4711", "x" * 100, "1", "")], Output())
    assert capsys.readouterr().out == f"JOB   NAME             N\n4711  {'x' * 14}…  1\n"


# -- one entry is one column, in text and JSON ---------------------------------------------------


def test_one_entry_is_in_the_text_and_in_json() -> None:
    @dataclass
    class Pet:
        name: str
        weight: int | None
        legs: int = 4

    table: OutputTable[Pet] = OutputTable(
        Column("name", "NAME"),
        Column("weight", "WEIGHT", show="{} g".format, missing="?"),
        Column("sound", get=lambda pet: pet.name.upper()),
        Column("gait", "GAIT", get=lambda pet: pet.legs * "-", in_json=False),
        facts=attributes,
    )
    rows = [Pet("cat", 4000), Pet("a\nb", None)]
    assert table.lines(rows, None) == [
        "NAME  WEIGHT  GAIT",
        "cat   4000 g  ----",
        "a\\nb  ?       ----",
    ]
    assert table.records(rows) == [
        {"name": "cat", "weight": 4000, "legs": 4, "sound": "CAT"},
        {"name": "a\nb", "weight": None, "legs": 4, "sound": "A\nB"},
    ]


NOW = datetime.now(UTC)
NODE = Node(name="n1", state="idle", cpus=8, memory=10**9, queues=("batch", "gpu"), gpus=0)
QUEUE = Queue(name="batch", state="up", is_default=True, time_limit=timedelta(hours=2), nodes=4)
STATUS = JobStatus("7", "failed", name="relax", exit_code=3, nodes=("n1",), submitted=NOW)
MASTER = MasterFacts(
    host="hpc",
    route="me@hpc:22",
    jump="gate",
    pid=None,
    opened=NOW.timestamp(),
    age=61.0,
    persist=43200,
    sessions=0,
    socket="/run/x",
    ours=True,
)
TODAY = moment(NOW)


@pytest.mark.parametrize(
    ("table", "row", "text", "fields"),
    [
        (
            NODES,
            NODE,
            ["NODE  STATE  CPUS  MEMORY  QUEUES", "n1    idle      8  1.0 GB  batch, gpu"],
            {field.name for field in fields(Node)},
        ),
        (
            QUEUES,
            QUEUE,
            [
                "QUEUE  STATE  DEFAULT  TIME LIMIT  NODES",
                "batch  up     yes         2:00:00      4",
            ],
            {field.name for field in fields(Queue)},
        ),
        (
            JOBS,
            ListedJob.of_status("hpc", STATUS, NOW),
            [
                "HOST  JOB  NAME   STATE   REASON / WHERE     SUBMITTED",
                f"hpc   7    relax  failed  exit code 3 on n1  {TODAY}",
            ],
            {"host", "token", "as_of", *JobStatus.FIELDS},
        ),
        (
            MASTERS,
            MASTER,
            [
                f"HOST  ROUTE      VIA   {'SINCE':<{len(TODAY)}}  STAYS  SESSIONS",
                f"hpc   me@hpc:22  gate  {TODAY}   12 h         0",
            ],
            {field.name for field in fields(MasterFacts)} - {"opened", "ours"} | {"since", "users"},
        ),
    ],
    ids=["nodes", "queues", "jobs", "masters"],
)
def test_the_tables_of_the_commands(
    table: OutputTable[object], row: object, text: list[str], fields: set[str]
) -> None:
    assert table.lines([row], None) == text
    assert set(table.record(row)) == fields
    keys = [column.key for column in table.columns]
    assert len(set(keys)) == len(keys)


def test_what_stands_in_json_is_not_the_text() -> None:
    assert MASTERS.record(MASTER)["persist"] == 43200
    assert NODES.record(NODE)["gpus"] == 0
    assert JOBS.record(ListedJob.of_status("hpc", STATUS))["state"] == "failed"

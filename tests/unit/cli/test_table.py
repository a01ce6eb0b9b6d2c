"""Tables: text, JSON, and the columns of each command."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.cli.masters import MASTERS
from openssh_jobs.cli.nodes import NODES
from openssh_jobs.cli.output import Output, attributes, moment, printable
from openssh_jobs.cli.queues import QUEUES
from openssh_jobs.cli.status import JOBS, JOURNAL
from openssh_jobs.cli.table import Column, OutputTable
from openssh_jobs.cluster.journal import Row
from openssh_jobs.jobs import JobStatus, Node, Queue
from openssh_jobs.openssh.masters import MasterFacts

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


@given(
    st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), min_size=1),
    st.integers(20, 200),
)
def test_no_cell_breaks_a_table(rows: list[tuple[str, ...]], width: int) -> None:
    lines = TABLE.lines(rows, width)
    assert len(lines) in (0, len(rows) + 1)
    assert all(printable(line) == line for line in lines)


def test_rich_is_not_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(Output, "on_terminal", True)
    monkeypatch.setenv("COLUMNS", "24")
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
ROW = Row(
    host="hpc", token="t", digest="d", scheduler="slurm", directory="/d", opened=NOW.timestamp()
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
            STATUS,
            [
                "JOB  NAME   STATE   REASON / WHERE     SUBMITTED",
                f"7    relax  failed  exit code 3 on n1  {TODAY}",
            ],
            set(JobStatus.FIELDS),
        ),
        (
            MASTERS,
            MASTER,
            [
                f"HOST  ROUTE                  PID  {'SINCE':<{len(TODAY)}}  "
                "    AGE  SESSIONS  STAYS  WHOSE  SOCKET",
                f"hpc   me@hpc:22 via gate  silent  {TODAY}  "
                "0:01:01         0   12 h  ours   /run/x",
            ],
            {field.name for field in fields(MasterFacts)},
        ),
        (
            JOURNAL,
            ROW,
            [
                "HOST  JOB     STATE  REASON / WHERE                SUBMITTED",
                f"hpc   (none)  new    no answer came: it may exist  {TODAY}",
            ],
            {
                *("host", "job_id", "name", "state", "reason", "exit_code", "directory", "token"),
                *("submitted", "changed"),
            },
        ),
    ],
    ids=["nodes", "queues", "jobs", "masters", "journal"],
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
    assert JOURNAL.record(ROW)["submitted"] is None
    assert JOBS.record(STATUS)["state"] == "failed"

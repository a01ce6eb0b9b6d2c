"""Ids, states, statuses and snapshots."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import JobId, JobState, JobStatus, Node, Queue, Snapshot
from openssh_jobs.jobs.status import array_status


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("5", {"number": "5"}),
        ("123_4", {"number": "123", "tasks": "4"}),
        ("123_[5-9%2]", {"number": "123", "tasks": "5-9%2"}),
        ("123+0", {"number": "123", "component": "0"}),
        ("123[].server", {"number": "123", "tasks": "", "server": "server"}),
        ("123[4].pbs-1.site.org", {"number": "123", "tasks": "4", "server": "pbs-1.site.org"}),
        ("88.0", {"number": "88", "proc": "0"}),
        ("15.1-10:2", {"number": "15", "proc": "1-10:2"}),
        ("23;cluster", {"number": "23", "cluster": "cluster"}),
        ("1234.server@other", {"number": "1234", "server": "server@other"}),
    ],
)
def test_an_id_has_a_structure(text: str, parts: dict[str, str]) -> None:
    job_id = JobId.parse(text)
    assert str(job_id) == text
    names = ("number", "tasks", "component", "proc", "server", "cluster")
    assert {name: getattr(job_id, name) for name in names if getattr(job_id, name) is not None} == (
        parts
    )
    assert pickle.loads(pickle.dumps(job_id)) == job_id == copy.deepcopy(job_id)
    assert JobId.parse(job_id) is job_id


def test_an_id_may_be_a_number_and_have_blanks_around() -> None:
    assert JobId.parse(17) == JobId.parse(" 17\n") == JobId.parse("17")


@pytest.mark.parametrize(
    "text",
    ["", " ", "*", "-u", "all", "1 2", "5;rm -rf /", "5'", "1\n2", "$(id)", "5_", "5_[", "5.", "٣",
     "5\0", "%5", "5;", True, None, 5.0, b"5", ["5"], "-5", "5" * 600],
)  # fmt: skip
def test_what_is_no_id_is_an_input_error(text: object) -> None:
    with pytest.raises(InputError):
        JobId.parse(text)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("5", "15", False),
        ("5", "5", True),
        ("123", "123.server", True),
        ("123.server", "123.other", False),
        ("123[4]", "123[4].server", True),
        ("123[4]", "123[5].server", False),
        ("123", "123_4", False),
        ("23;lab", "23", True),
        ("23;lab", "23;other", False),
        ("88", "88.0", False),
        ("123+0", "123+1", False),
        ("6058223.brown-adm", "6058223.brown-adm.rcac.example.edu", True),
        ("6058223.brown-adm", "6058223.brown-adm2.example.edu", False),
        ("1.a.example.edu", "1.b.example.edu", False),
    ],
)
def test_ids_compare_whole(one: str, other: str, is_same: bool) -> None:
    assert JobId.parse(one).matches(JobId.parse(other)) is is_same
    assert JobId.parse(other).matches(JobId.parse(one)) is is_same


@pytest.mark.parametrize(
    ("one", "other", "is_inside"),
    [
        ("123", "123_4", True),
        ("123", "123", False),
        ("123", "124_4", False),
        ("123_[5-9%2]", "123_7", True),
        ("123_[5-9%2]", "123_10", False),
        ("123_[1-9:4]", "123_5", True),
        ("123_[1-9:4]", "123_6", False),
        ("123_[1,3,...]", "123_3", True),
        ("123_[1,3,...]", "123_4", False),
        ("123[].server", "123[4]", True),
        ("88", "88.3", True),
        ("15.4-10:2", "15.6", True),
        ("15.4-10:2", "15.7", False),
    ],
)
def test_an_array_contains_its_elements(one: str, other: str, is_inside: bool) -> None:
    assert JobId.parse(one).contains(JobId.parse(other)) is is_inside


def test_states_are_words_and_know_whether_they_are_final() -> None:
    assert JobState("running") is JobState.RUNNING
    assert f"{JobState.OUT_OF_MEMORY}" == "out_of_memory"
    final = {state for state in JobState if state.is_final}
    active = {state for state in JobState if state.is_active}
    assert final == {"completed", "failed", "cancelled", "timeout", "out_of_memory", "node_fail"}
    assert set(JobState) - final - active == {"new", "unknown"}
    assert not final & active


STATUS = JobStatus(
    "5",
    "running",
    name="water",
    nodes=("n1",),
    started=datetime(2026, 11, 22, tzinfo=UTC),
    elapsed=timedelta(minutes=3),
)


def test_a_status_does_not_change() -> None:
    with pytest.raises(AttributeError):
        STATUS.state = JobState.FAILED
    with pytest.raises(AttributeError):
        STATUS.name = "x"
    with pytest.raises(AttributeError):
        del STATUS.state
    with pytest.raises(TypeError, match="no colour"):
        JobStatus("5", "running", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="nonsense"):
        JobStatus("5", "nonsense")


def test_a_status_pickles_copies_and_compares() -> None:
    lazy = JobStatus.lazily("5", JobState.RUNNING, lambda row: {"name": row, "user": None}, "water")
    for one in (STATUS, lazy):
        assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one) == copy.deepcopy(one)
    assert lazy == JobStatus("5", "running", name="water")
    assert lazy != STATUS
    assert hash(lazy) == hash(STATUS.replace(name="other"))
    assert STATUS.replace(state="failed", exit_code=3).exit_code == 3
    assert STATUS.name == "water"
    assert lazy.user is None
    assert lazy.filled_from(STATUS).elapsed == timedelta(minutes=3)
    assert tuple(STATUS.as_dict()) == JobStatus.FIELDS
    assert "name='water'" in repr(STATUS)


def test_a_lazy_status_reads_its_line_only_when_asked() -> None:
    calls: list[str] = []

    def build(row: str) -> dict[str, str]:
        calls.append(row)
        return {"name": row}

    lazy = JobStatus.lazily("5", JobState.RUNNING, build, "x")
    assert lazy.state is JobState.RUNNING
    assert not calls
    assert (lazy.name, lazy.name) == ("x", "x")
    assert calls == ["x"]


def snapshot(**states: str) -> Snapshot:
    known = {key: JobStatus(key, state, source="queue") for key, state in states.items()}
    return Snapshot(known=known)


def test_a_snapshot_iterates_over_ids_as_a_dict_does() -> None:
    found = Snapshot(known={"7": JobStatus("7", JobState.RUNNING)}, absent=("8",), unknown=("9",))
    assert list(found) == ["7", "8", "9"]
    assert [found[job_id].state for job_id in found] == ["running", "unknown", "unknown"]


def test_a_snapshot_finds_equivalent_ids_and_only_those() -> None:
    one = snapshot(**{"7.srv": "failed", "15": "running", "123_[5-9%2]": "pending"})
    assert one["7"].state is JobState.FAILED
    assert one["7.srv"].state is JobState.FAILED
    assert one["15"].state is JobState.RUNNING
    assert one["123_6"].state is JobState.PENDING
    for missing in ("5", "7.other", "123_4", "15_1", "nonsense", ""):
        with pytest.raises(KeyError):
            one[missing]
        assert missing not in one


def test_two_servers_with_the_same_number_are_not_guessed_between() -> None:
    one = snapshot(**{"7.one": "failed", "7.two": "running"})
    with pytest.raises(KeyError):
        one["7"]
    assert one.select(["7"], covered=False).unknown == ("7",)


def test_absent_and_unknown_are_different() -> None:
    error = SchedulerError("the queue is asleep", kind="transient")
    one = Snapshot(absent=("1",), unknown=("2.srv",), error=error)
    assert (one["1"].state, one["1"].reason) == (JobState.UNKNOWN, "left the queue")
    assert (one["2"].state, one["2"].reason) == (JobState.UNKNOWN, "the queue is asleep")
    selected = snapshot(**{"5": "running"}).select(
        ["5", "6", "7;other"], covered=lambda job_id: job_id.cluster is None
    )
    assert (tuple(selected.known), selected.absent, selected.unknown) == (
        ("5",),
        ("6",),
        ("7;other",),
    )
    assert pickle.loads(pickle.dumps(one))["1"] == one["1"]
    with pytest.raises(InputError):
        one.select(["no id"])


@pytest.mark.parametrize(
    ("states", "whole", "expected"),
    [
        (["running", "pending"], False, "running"),
        (["pending", "pending"], False, "pending"),
        (["held", "held"], False, "held"),
        (["held", "pending"], False, "pending"),
        (["completed", "pending"], False, "running"),
        (["failed", "running"], False, "running"),
        (["completed", "unknown"], False, "unknown"),
        (["completed", "failed"], True, "failed"),
        (["timeout", "failed", "cancelled"], True, "timeout"),
        (["completed", "completed"], True, "completed"),
        # An element that is not listed may run.
        (["completed", "failed"], False, None),
        (["cancelled"], False, None),
        # A queue forgets: nobody knows whether an element that is not listed has failed.
        (["completed", "completed"], False, None),
        ([], False, None),
    ],
)
def test_an_array_is_what_its_elements_are(
    states: list[str], whole: bool, expected: str | None
) -> None:
    elements = [JobStatus(f"9_{number}", state) for number, state in enumerate(states)]
    found = array_status("9", elements, whole=whole)
    assert (found.state if found is not None else None) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["completed", "failed"], "failed"),
        (["completed", "completed"], None),
        (["failed", "running"], "running"),
        (["failed", "unknown"], "unknown"),
    ],
)
def test_an_array_that_is_over_has_failed_with_any_element(
    states: list[str], expected: str | None
) -> None:
    elements = [JobStatus(f"9_{number}", state) for number, state in enumerate(states)]
    found = array_status("9", elements, over=True)
    assert (found.state if found is not None else None) == expected


@pytest.mark.parametrize("source", ["queue", "accounting"])
@pytest.mark.parametrize("covered", [True, False])
def test_listed_elements_end_an_array_only_where_the_others_are_over(
    source: str, covered: bool
) -> None:
    ended = {"9_1": JobStatus("9_1", "failed"), "9_2": JobStatus("9_2", "completed")}
    answer = Snapshot(known=ended, source=source)
    with pytest.raises(KeyError):
        answer["9"]
    found = answer.select(["9"], covered=covered)
    # A history lists what is over: what it leaves out may run.
    if covered and source == "queue":
        assert found["9"].state is JobState.FAILED
    else:
        assert not found.known
        assert (found.absent, found.unknown) == ((("9",), ()) if covered else ((), ("9",)))


def test_nodes_and_queues_pickle() -> None:
    node = Node(name="n1", state="mixed", queues=("a", "b"))
    queue = Queue(name="batch", time_limit=timedelta(hours=1))
    assert pickle.loads(pickle.dumps((node, queue))) == (node, queue)
    assert node.is_usable
    assert not Node(name="n2", state="down").is_usable


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,4}[_\[\]+.;,%:0-9a-z-]{0,12}"))
def test_any_text_is_an_id_or_an_input_error(text: str) -> None:
    try:
        job_id = JobId.parse(text)
    except InputError:
        return
    assert str(job_id) == text.strip(" \t\r\n")
    assert job_id.matches(job_id)
    assert not job_id.contains(job_id)
    assert JobId.parse(str(job_id)) == job_id

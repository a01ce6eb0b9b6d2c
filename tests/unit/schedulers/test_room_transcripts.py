"""Grid Engine, PBS and Torque on real transcripts: states, submissions, cancels, nodes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError, SubmitLimit, SubmitRejected, SubmitUnknown
from openssh_jobs.jobs import JobState, Snapshot
from openssh_jobs.schedulers import get
from tests.unit.test_parser import captures, status_of

FILES = {"sge": "sge", "openpbs": "pbs", "torque-slurm": "torque"}


def capture(name: str) -> dict[str, Any]:
    file = name.partition("/")[0]
    return next(one for one in captures(file) if one["id"].startswith(f"{name}-"))


LISTING = re.compile(r"(?:^|&& )(?:qstat|qacct)\b")
ALL = [(FILES[name], one) for name in FILES for one in captures(name)]

# What the text cannot tell, or tells otherwise than what was meant when it was recorded.
UNTOLD = {
    ("sge/089", "18"): "running",  # -j -xml has no word for a suspended job
    ("sge/198", "17"): "running",  # the host is dead, and qstat does not know yet
    ("openpbs/072", "33.pbs1"): "pending",  # not started yet
    ("openpbs/086", "33.pbs1"): "pending",
    ("openpbs/089", "33.pbs1"): "pending",
}


def is_honest(record: dict[str, Any], reported: str, state: str) -> bool:
    """Whether a state that is not the expected one says less, and nothing false."""
    if reported == "unknown":
        # A letter for "ended" without a word on how: Torque's C, PBS' F in a table, SGE's z.
        return True
    if {reported, state} == {"held", "pending"}:
        # Letters make no difference; what names the reason must get it right.
        return re.search(r"json|dsv|qstat -x? ?-f|-r -xml", record["command"]) is None or (
            "torque" in record["id"]
        )
    # A deleted running job leaves the record of one that killed itself.
    return (reported, state) == ("failed", "cancelled") and "qacct" in record["command"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "detected"])
@pytest.mark.parametrize(
    ("scheduler", "record"),
    [
        (name, one)
        for name, one in ALL
        if LISTING.search(one["command"]) and one["expected"] and not one["returncode"]
    ],
    ids=lambda one: one["id"] if isinstance(one, dict) else "",
)
def test_every_listing_says_what_was_the_case(
    scheduler: str, record: dict[str, Any], named: bool
) -> None:
    snapshot = status_of(record, scheduler if named else None)
    exact = 0
    for job_id, state in record["expected"].items():
        if job_id in ("", "None") or (scheduler == "sge" and "qacct -j 15" in record["command"]):
            continue  # recorded without an id; qacct does not know what still runs
        try:
            reported = str(snapshot[job_id].state)
        except KeyError:
            pytest.fail(f"{job_id} is not in the answer")
        short = record["id"].split("-")[0] if "torque" not in record["id"] else record["id"]
        assert (
            reported == state
            or reported == UNTOLD.get((short, job_id))
            or is_honest(record, reported, state)
        ), f"{job_id}: {reported}, not {state}"
        exact += reported == state
    if scheduler == "pbs" and re.search(r"-F json|-x -f", record["command"]):
        wanted = [one for one in record["expected"] if one]
        assert exact >= len(wanted) - 1
    assert not [line for line in snapshot.unparsed if scheduler != "sge"]


@pytest.mark.parametrize(
    ("scheduler", "record"), ALL, ids=lambda one: one["id"] if isinstance(one, dict) else ""
)
def test_any_transcript_is_an_answer_or_a_scheduler_error(
    scheduler: str, record: dict[str, Any]
) -> None:
    for name in (scheduler, None):
        try:
            snapshot = status_of(record, name, requested=["424242"])
        except SchedulerError as error:
            caught = error
        else:
            assert snapshot["424242"].state is JobState.UNKNOWN
            assert snapshot.absent == ()
            continue
        assert caught.kind
        assert "\n" not in caught.message


SUBMISSION = re.compile(r"(?:^|&& |; )(?:echo true \| )?qsub\b(?! -(?:-version|-help))")


@pytest.mark.parametrize(
    ("scheduler", "record"),
    [(name, one) for name, one in ALL if SUBMISSION.search(one["command"])],
    ids=lambda one: one["id"] if isinstance(one, dict) else "",
)
def test_every_submission_is_understood(scheduler: str, record: dict[str, Any]) -> None:
    rest = {"stderr": record["stderr"], "returncode": record["returncode"]}
    if record["returncode"] == 0:
        job_id = parser.parse_submit(record["stdout"], scheduler, **rest)
        assert re.fullmatch(r"[0-9]+(?:\[\])?(?:\.pbs1)?", job_id)
        first = next(iter(record["expected"]), "")
        assert first in ("", "None", job_id) or record["stdout"].startswith(job_id)
        return
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(record["stdout"], scheduler, **rest)
    is_sure = isinstance(caught.value, SubmitRejected)
    unsure = "Error reading answer list" in record["stderr"]
    # Slurm's wrapper prints its usage or Slurm's own words.
    assert is_sure is not unsure, caught.value


@pytest.mark.parametrize(
    ("name", "scheduler", "cls", "kind"),
    [
        ("sge/149", "sge", SubmitRejected, "invalid_request"),
        ("sge/159", "sge", SubmitRejected, "permission"),
        ("sge/162", "sge", SubmitLimit, "limit"),
        ("sge/155", "sge", SubmitRejected, "limit"),
        ("sge/265", "sge", SubmitRejected, "transient"),
        ("sge/052", "sge", SubmitUnknown, "transient"),
        ("openpbs/152", "pbs", SubmitRejected, "invalid_request"),
        ("openpbs/156", "pbs", SubmitRejected, "limit"),
        ("openpbs/163", "pbs", SubmitRejected, "permission"),
        ("openpbs/169", "pbs", SubmitLimit, "limit"),
        ("openpbs/251", "pbs", SubmitRejected, "transient"),
    ],
)
def test_submission_errors_are_classified(
    name: str, scheduler: str, cls: type[SchedulerError], kind: str
) -> None:
    record = capture(name)
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(
            record["stdout"],
            scheduler,
            stderr=record["stderr"],
            returncode=record["returncode"],
        )
    assert type(caught.value) is cls
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("name", "scheduler", "kind"),
    [
        ("sge/014", "sge", "not_submit_host"),
        ("sge/118", "sge", "not_found"),
        ("sge/122", "sge", "invalid_request"),
        ("sge/137", "sge", "not_found"),
        ("sge/261", "sge", "transient"),
        ("sge/263", "sge", "transient"),
        ("openpbs/136", "pbs", "finished_see_history"),
        ("openpbs/137", "pbs", "not_found"),
        ("openpbs/142", "pbs", "invalid_request"),
        ("openpbs/239", "pbs", "transient"),
        ("openpbs/249", "pbs", "transient"),
        ("openpbs/250", "pbs", "transient"),  # it prints the head of a JSON answer all the same
    ],
)
def test_a_failed_query_has_a_kind(name: str, scheduler: str, kind: str) -> None:
    with pytest.raises(SchedulerError) as caught:
        status_of(capture(name), scheduler)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("name", "scheduler", "outcomes"),
    [
        ("sge/163", "sge", {"999999": "not_found"}),
        ("sge/165", "sge", {"3": "not_found"}),
        ("sge/168", "sge", {"48": "requested"}),
        ("sge/173", "sge", {"25": "requested"}),
        ("sge/178", "sge", {"999999": "not_found"}),
        ("sge/249", "sge", {"78": "requested", "78.4": "requested"}),
        ("openpbs/170", "pbs", {"99999": "not_found"}),
        ("openpbs/171", "pbs", {"33": "permission"}),
        ("openpbs/172", "pbs", {"1.pbs1": "already_finished"}),
        ("openpbs/176", "pbs", {"34.pbs1": "requested"}),
        ("openpbs/196", "pbs", {"5.pbs1": "permission"}),
        ("openpbs/235", "pbs", {"11.pbs1": "transient"}),
    ],
)
def test_what_became_of_a_cancel(name: str, scheduler: str, outcomes: dict[str, str]) -> None:
    record = capture(name)
    said = parser.parse_cancel(
        record["stdout"],
        scheduler,
        stderr=record["stderr"],
        returncode=record["returncode"],
        requested=list(outcomes),
    )
    assert said == outcomes


def test_unknown_ids_are_absent_only_where_the_server_says_so() -> None:
    gone = status_of(capture("openpbs/137"), "pbs", requested=["99999", "5"])
    assert (gone.absent, gone.unknown) == (("99999",), ("5",))
    mixed = status_of(capture("openpbs/140"), "pbs", requested=["12", "99999", "1.pbs1"])
    assert mixed["12"].state is JobState.RUNNING
    assert mixed.absent == ("99999",)
    for name in ("sge/118", "sge/119"):  # status 1 in the one, 0 in the other
        gone = status_of(capture(name), "sge", requested=["999999", "5"])
        assert (gone.absent, gone.unknown) == (("999999",), ("5",))
    # Nothing printed: no job of this user's, but a paste does not say whose it is.
    empty = status_of(capture("sge/002"), "sge", requested=["5"])
    assert empty.unknown == ("5",)


def test_details_of_grid_engine() -> None:
    status = status_of(capture("sge/124"), "sge")["5"]
    assert (status.state, status.exit_code, status.name) == (JobState.FAILED, 3, "failer")
    assert status.submitted == datetime(2026, 11, 22, 6, 53, 58, tzinfo=UTC)
    assert (status.nodes, status.queue, status.source) == (("vm",), "all.q", "accounting")
    status = status_of(capture("sge/125"), "sge")["6"]
    assert (status.exit_code, status.signal) == (None, 9)
    status = status_of(capture("sge/128"), "sge")["27"]
    assert (status.state, "h_rt" in (status.reason or "")) == (JobState.TIMEOUT, True)
    status = status_of(capture("sge/135"), "sge")["15.2"]
    assert status.exit_code == 7
    array = status_of(capture("sge/222"), "sge")
    assert array["15.6"].state is JobState.RUNNING
    # 8.1.9 itself writes "%lt;" for "<": what a name really was cannot be reported, so it is left.
    assert array["69"].name == "a&b%lt;c>"
    error = status_of(capture("sge/099"), "sge")["32"]
    assert error.state is JobState.FAILED
    assert error.reason


def test_an_array_of_grid_engine_is_not_done_because_some_of_it_is() -> None:
    # qacct lists ended elements only: what is not there may be running.
    snapshot = status_of(capture("sge/250"), "sge")
    states = [snapshot[f"78.{task}"].state for task in range(1, 6)]
    assert states == ["completed", "failed", "completed", "failed", "failed"]
    for known in (snapshot.known, {"78.1": snapshot["78.1"]}, {"78.2": snapshot["78.2"]}):
        with pytest.raises(KeyError):
            Snapshot(known=known)["78"]
    asked = status_of(capture("sge/250"), "sge", requested=["78"])
    assert (dict(asked.known), asked.unknown) == ({}, ("78",))


def test_details_of_pbs() -> None:
    status = status_of(capture("openpbs/272"), "pbs")["0"]
    assert (status.state, status.exit_code) == (JobState.TIMEOUT, None)
    assert status.reason is not None
    assert status.reason.endswith("exceeded resource walltime")
    assert status.time_limit == timedelta(seconds=5)
    assert status.elapsed == timedelta(seconds=13)
    assert status.nodes == ("pbs1",)
    assert status.stdout_path == "/home/hpcalice/pbs/wt.o0"
    same = status_of(capture("openpbs/273"), "pbs")["0.pbs1"]
    assert (same.state, same.reason, same.started) == (status.state, status.reason, status.started)
    everything = status_of(capture("openpbs/084"), "pbs")
    assert everything["2"].exit_code == 3
    assert everything["12.pbs1"].directory == "/home/hpcalice/pbs"
    assert everything["10[3]"].state is JobState.RUNNING
    assert everything["10[7].pbs1"].state is JobState.PENDING
    assert everything["10[]"].state is JobState.RUNNING
    lost = status_of(capture("openpbs/271"), "pbs")["4[0].pbs1"]
    assert lost.state is JobState.UNKNOWN
    assert lost.reason is not None
    assert "lost" in lost.reason


def test_the_forms_of_pbs_agree() -> None:
    forms = [status_of(capture(f"openpbs/{name}"), "pbs") for name in ("081", "084", "086")]
    for job_id in ("1", "2", "3", "12", "13", "14", "15", "20", "24"):
        first, *others = (one[job_id] for one in forms)
        for other in others:
            assert (other.state, other.exit_code, other.name, other.submitted) == (
                first.state,
                first.exit_code,
                first.name,
                first.submitted,
            )


TORQUE_XML = """<Data><Job><Job_Id>12[3].srv</Job_Id><Job_Name>a&amp;b</Job_Name>\
<Job_Owner>alice@login</Job_Owner><job_state>C</job_state><exit_status>3</exit_status>\
<resources_used><walltime>00:01:05</walltime></resources_used>\
<Resource_List><walltime>01:00:00</walltime></Resource_List></Job>\
<Job><Job_Id>13.srv</Job_Id><job_state>C</job_state><exit_status>-11</exit_status></Job>\
<Job><Job_Id>14.srv</Job_Id><job_state>C</job_state><exit_status>271</exit_status></Job>\
<Job><Job_Id>15.srv</Job_Id><job_state>R</job_state></Job>\
<Job><Job_Id>16.srv</Job_Id><job_state>C</job_state></Job></Data>
"""


def test_torques_xml() -> None:
    snapshot = parser.parse_status(TORQUE_XML)
    status = snapshot["12[3]"]
    assert (status.state, status.exit_code, status.name) == (JobState.FAILED, 3, "a&b")
    assert (status.elapsed, status.time_limit) == (timedelta(seconds=65), timedelta(hours=1))
    assert snapshot["13"].state is JobState.TIMEOUT
    assert snapshot["14"].state is JobState.CANCELLED
    assert snapshot["15"].state is JobState.RUNNING
    assert snapshot["16"].state is JobState.UNKNOWN
    with pytest.raises(SchedulerError):
        parser.parse_status(TORQUE_XML[:-9], "torque")


def test_truncated_ids_are_whole_numbers_all_the_same() -> None:
    text = (
        "Job id            Name             User              Time Use S Queue\n"
        "----------------  ---------------- ----------------  -------- - -----\n"
        "1234567.pbs-head  x                alice             00:00:01 R workq\n"
    )
    snapshot = parser.parse_status(text, "pbs")
    assert snapshot["1234567.pbs-head.site.org"].state is JobState.RUNNING


@pytest.mark.parametrize(
    ("name", "scheduler", "node", "state", "cpus"),
    [
        ("sge/006", "sge", "vm", "idle", 2),
        ("sge/008", "sge", "vm", "idle", 2),
        ("openpbs/009", "pbs", "pbs1", "idle", 4),
        ("openpbs/231", "pbs", "pbs1", "down", 4),
    ],
)
def test_nodes(name: str, scheduler: str, node: str, state: str, cpus: int) -> None:
    record = capture(name)
    (found,) = parser.parse_nodes(record["stdout"], scheduler)
    assert (found.name, found.state, found.cpus) == (node, state, cpus)


def test_queues() -> None:
    queues = {q.name: q for q in parser.parse_queues(capture("sge/005")["stdout"], "sge")}
    assert {name: one.state for name, one in queues.items()} == {
        "all.q": "up",
        "off.q": "drained",
        "short.q": "up",
    }
    for name in ("openpbs/006", "openpbs/007"):
        queues = {q.name: q for q in parser.parse_queues(capture(name)["stdout"], "pbs")}
        assert queues["workq"].state == "up"
        assert queues["off"].state == "drained"
        assert queues["stopped"].state == "down"


def test_elements_of_an_array_have_the_schedulers_own_ids() -> None:
    assert get("slurm").element_ids("7;lab", "0-4:2%1") == ["7_0;lab", "7_2;lab", "7_4;lab"]
    assert get("sge").element_ids("7", "1-2") == ["7.1", "7.2"]
    assert get("pbs").element_ids("7[].srv", "1,5") == ["7[1].srv", "7[5].srv"]
    assert get("lsf").element_ids("7", "zzz") == []

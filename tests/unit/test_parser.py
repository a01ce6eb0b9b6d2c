"""The parser on real transcripts, on cut and mixed-up ones, and on noise."""

from __future__ import annotations

import functools
import json
import pickle
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError, SubmitLimit, SubmitRejected, SubmitUnknown
from openssh_jobs.jobs import CancelOutcome, JobState, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from tests.paths import DATA


@functools.cache
def captures(name: str) -> list[dict[str, Any]]:
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def capture(name: str) -> dict[str, Any]:
    scheduler = name.partition("/")[0]
    return next(one for one in captures(scheduler) if one["id"].startswith(name))


def status_of(record: dict[str, Any], scheduler: str | None = "slurm", **more: Any) -> Snapshot:
    return parser.parse_status(
        record["stdout"],
        scheduler,
        stderr=record["stderr"],
        returncode=record["returncode"],
        command=record["command"],
        timezone=UTC,
        **more,
    )


LISTINGS = re.compile(r"\b(?:squeue|sacct|scontrol .*show job)\b")


def is_listed(job_id: str, record: dict[str, Any]) -> bool:
    """Whether a row of the output begins with this id."""
    forms = rf'^\s*{job_id}(?![0-9_])|JobId={job_id}\b|"job_id": {job_id}\b'
    return re.search(forms, record["stdout"], re.MULTILINE) is not None


@pytest.mark.parametrize("named", [True, False], ids=["named", "detected"])
@pytest.mark.parametrize(
    "record",
    [one for one in captures("slurm") if LISTINGS.search(one["command"]) and one["expected"]],
    ids=lambda one: one["id"],
)
def test_every_listing_of_slurm_says_what_was_the_case(record: dict[str, Any], named: bool) -> None:
    if "--yaml" in record["command"]:
        with pytest.raises(SchedulerError):
            status_of(record)
        return
    snapshot = status_of(record, "slurm" if named else None)
    has_reason = re.search(r"%r|%R|Reason|json|scontrol", record["command"]) is not None
    checked = 0
    for job_id, state in record["expected"].items():
        try:
            status = snapshot[job_id]
        except KeyError:
            assert not is_listed(job_id, record)
            continue
        checked += 1
        if state == "held" and not has_reason:
            state = "pending"  # the columns asked for do not tell
        assert status.state == state, job_id
        assert status.as_dict()["source"] in ("queue", "accounting")
    assert checked
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


@pytest.mark.parametrize(
    "record",
    [
        one
        for name in ("slurm",)
        for one in captures(name)
        if not one["expected"] or one["returncode"]
    ],
    ids=lambda one: one["id"],
)
def test_any_other_transcript_is_an_answer_or_a_scheduler_error(record: dict[str, Any]) -> None:
    for scheduler in (record["scheduler"], None):
        error: SchedulerError | None
        try:
            snapshot = status_of(record, scheduler, requested=["424242"])
        except SchedulerError as caught:
            error = caught
        else:
            error = None
        if error is not None:
            assert error.kind
            assert str(error)
            continue
        assert snapshot["424242"].state is JobState.UNKNOWN
        if record["returncode"] and "Invalid job id specified" not in record["stderr"]:
            assert snapshot.absent == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("slurm/073", "not_found"),
        ("slurm/078", "invalid_request"),
        ("slurm/079", "invalid_request"),
        ("slurm/080", "invalid_request"),  # status 0
        ("slurm/107", "not_found"),
        ("slurm/119", "invalid_request"),
        ("slurm/213", "transient"),
        ("slurm/216", "transient"),
        ("slurm/218", "transient"),
        ("slurm/219", "transient"),  # status 0, no jobs, nothing on stderr
        ("slurm/222", "transient"),
        ("slurm/225", "unsupported"),
        ("slurm/253", "transient"),
        ("slurm/256", "not_submit_host"),
    ],
)
def test_a_failed_query_has_a_kind_and_says_nothing_of_jobs(name: str, kind: str) -> None:
    with pytest.raises(SchedulerError) as caught:
        status_of(capture(name))
    assert caught.value.kind == kind
    assert caught.value.message.count("\n") == 0


def test_an_empty_queue_is_an_answer_but_only_where_it_covers_the_job() -> None:
    empty = capture("slurm/011")
    assert status_of(empty).known == {}
    # squeue without -t all and -j says nothing about one job.
    assert status_of(empty, requested=["5"]).unknown == ("5",)
    finished = capture("slurm/072")
    assert status_of(finished, requested=["1"]).unknown == ("1",)
    unknown = capture("slurm/075")
    assert status_of(unknown, requested=["999998"]).absent == ("999998",)
    assert status_of(unknown, requested=["5"]).unknown == ("5",)
    assert status_of(capture("slurm/073"), requested=["999999"]).absent == ("999999",)


@pytest.mark.parametrize("name", ["slurm/062", "slurm/068", "slurm/085", "slurm/111"])
def test_a_failed_job_of_slurm_in_all_its_details(name: str) -> None:
    status = status_of(capture(name))["4"]
    assert (status.state, status.raw_state) == (JobState.FAILED, "FAILED")
    assert status.name == "failer"
    assert status.nodes == ("n1",)
    assert status.ended == datetime(2026, 11, 22, 6, 48, 45, tzinfo=UTC)
    if name != "slurm/062":
        assert (status.exit_code, status.signal) == (3, None)
        assert status.submitted == datetime(2026, 11, 22, 6, 48, 44, tzinfo=UTC)
    if name in ("slurm/062", "slurm/085"):
        assert status.time_limit == timedelta(minutes=10)
        assert status.directory == "/home/hpcalice"
    if name == "slurm/085":
        assert status.command == "/home/hpcalice/fail.sh"
        assert status.stdout_path == "/home/hpcalice/slurm-4.out"
        assert status.user == "hpcalice"


def test_signals_arrays_and_raw_ids() -> None:
    for name in ("slurm/068", "slurm/086", "slurm/111"):
        status = status_of(capture(name))["5"]
        assert (status.state, status.exit_code, status.signal) == (JobState.FAILED, None, 9)
    for name in ("slurm/064", "slurm/065", "slurm/068", "slurm/111"):
        status = status_of(capture(name))["11_3"]
        assert (status.state, status.raw_id) == (JobState.RUNNING, "17")
    for name in ("slurm/062", "slurm/065", "slurm/068"):
        snapshot = status_of(capture(name))
        assert snapshot["11_6"].state is JobState.PENDING
        assert snapshot["11"].state is JobState.RUNNING
    assert status_of(capture("slurm/084"))["1"].exit_code == 0
    # Out of memory is no signal 125.
    status = status_of(capture("slurm/233"))["2"]
    assert (status.state, status.exit_code, status.signal) == (JobState.OUT_OF_MEMORY, None, None)


def test_times_without_an_offset_need_a_timezone() -> None:
    record = capture("slurm/085")
    status = parser.parse_status(record["stdout"], "slurm")["4"]
    assert status.submitted is None
    assert status.elapsed == timedelta(0)


DEFAULT = """\
             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)
        11_[5-6%2]      main two word    alice PD       0:00      1 (ReqNodeNotAvail, UnavailableNodes:n4)
                23      main   a b c     alice  R 1-02:03:04      2 n[1-2]
1234567890123_1234      main  x R y z    alice CG       0:05      1 n1
                29      main     déjà    alice PD       0:00      1 (JobHeldUser)
"""  # noqa: E501


def test_names_with_blanks_do_not_shift_the_columns() -> None:
    snapshot = parser.parse_status(DEFAULT)
    assert {key: str(one.state) for key, one in snapshot.known.items()} == {
        "11_[5-6%2]": "pending",
        "23": "running",
        "1234567890123_1234": "completing",
        "29": "held",
    }
    assert snapshot["11_5"].reason == "ReqNodeNotAvail, UnavailableNodes:n4"
    assert snapshot["23"].elapsed == timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert snapshot["23"].nodes == ("n1", "n2")
    assert snapshot["23"].name == "a b c"


def test_cluster_lines_name_the_cluster_where_there_are_several() -> None:
    one = "CLUSTER: lab\n" + DEFAULT
    assert "23" in parser.parse_status(one).known
    two = f"CLUSTER: lab\n{DEFAULT}\nCLUSTER: other\n{DEFAULT}"
    snapshot = parser.parse_status(two)
    assert {"23;lab", "23;other"} <= set(snapshot.known)
    with pytest.raises(KeyError):
        snapshot["23"]


def test_the_rest_of_a_sparse_array_is_long_and_still_there() -> None:
    rest = ",".join(str(one) for one in range(1, 4000, 2))
    snapshot = parser.parse_status(f"JOBID|STATE\n12_[{rest}%5]|PENDING\n13|RUNNING\n")
    assert snapshot["12_777"].state is JobState.PENDING
    found = snapshot.select(["12_3999", "12_778", "13"], covered=True)
    assert (list(found.known), found.absent) == (["12_3999", "13"], ("12_778",))


def test_one_odd_line_spoils_one_row() -> None:
    snapshot = parser.parse_status(DEFAULT + "slurm_load_jobs: something odd\n")
    assert len(snapshot.known) == 4
    assert snapshot.unparsed == ("slurm_load_jobs: something odd",)
    assert snapshot.select(["77"], covered=True).absent == ("77",)


SUBMISSIONS = re.compile(r"(?:timeout 60 |SLURM_CONF=\S+ )?sbatch (?!--version)")


@pytest.mark.parametrize(
    "record",
    [one for one in captures("slurm") if SUBMISSIONS.match(one["command"])],
    ids=lambda one: one["id"],
)
def test_every_submission_of_slurm_is_understood(record: dict[str, Any]) -> None:
    reported = (record["stdout"], "slurm")
    rest = {"stderr": record["stderr"], "returncode": record["returncode"]}
    if record["returncode"] == 0:
        job_id = parser.parse_submit(*reported, **rest)
        assert job_id.partition(";")[0] in re.findall(r"[0-9]+", record["stdout"])
        return
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(*reported, **rest)
    uncertain = ("ctld-hung", "maxjobcount", "ambiguous")
    if any(word in record["id"] for word in uncertain):
        assert type(caught.value) is SubmitUnknown
    else:
        assert isinstance(caught.value, SubmitRejected)


@pytest.mark.parametrize(
    ("name", "cls", "kind", "message"),
    [
        ("slurm/121", SubmitRejected, "invalid_request", "Unable to open file nosuch.sh"),
        ("slurm/128", SubmitRejected, "permission", "not permitted to use this partition"),
        ("slurm/149", SubmitLimit, "limit", "QOSMaxSubmitJobPerUserLimit"),
        ("slurm/152", SubmitLimit, "limit", "AssocMaxSubmitJobLimit"),
        ("slurm/217", SubmitUnknown, "transient", "Socket timed out"),
        ("slurm/224", SubmitRejected, "transient", "Unable to contact slurm controller"),
        ("slurm/247", SubmitUnknown, "transient", "Socket timed out"),
        ("slurm/254", SubmitRejected, "transient", "Munge encode failed"),
        ("slurm/257", SubmitRejected, "not_submit_host", "ClusterName|cannot stat file"),
    ],
)
def test_submission_errors_are_classified(
    name: str, cls: type[SchedulerError], kind: str, message: str
) -> None:
    record = capture(name)
    with pytest.raises(SchedulerError, match=message) as caught:
        parser.parse_submit(
            record["stdout"], "slurm", stderr=record["stderr"], returncode=record["returncode"]
        )
    assert type(caught.value) is cls
    assert caught.value.kind == kind
    assert caught.value.stderr == record["stderr"]


@pytest.mark.parametrize(
    ("stdout", "job_id"),
    [
        ("Submitted batch job 17670585\n", "17670585"),
        ("Submitted batch job 9 on cluster lab\n", "9;lab"),
        ("8;lab\n", "8;lab"),
        ("8\n8;lab\n", "8;lab"),
        ("8;lab\n8\n", "8;lab"),
        ("42\n", "42"),
        ("*** Welcome to 2026! ***\n--> Verifying... OK\nSubmitted batch job 5\n", "5"),
        ("Welcome\n2026-11-22\n\n77\n", "77"),
        ("Submitted batch job 5\nSubmitted batch job 5\n", "5"),
    ],
)
def test_an_id_is_found_behind_banners(stdout: str, job_id: str) -> None:
    assert parser.parse_submit(stdout, "slurm") == job_id
    # Whatever the status is: the job is there.
    assert parser.parse_submit(stdout, "slurm", stderr="odd", returncode=1) == job_id


@pytest.mark.parametrize(
    "stdout",
    [
        *("", "\n", "job submitted\n", "Submitted batch job 5\nSubmitted batch job 6\n"),
        *("5\n6\n", "5;east\n5;west\n", "5;east\n6\n"),
    ],
)
def test_no_id_is_no_proof_that_there_is_no_job(stdout: str) -> None:
    with pytest.raises(SubmitUnknown) as caught:
        parser.parse_submit(stdout, "slurm")
    assert caught.value.kind == "no_job_id"


@pytest.mark.parametrize(
    ("name", "requested", "outcomes"),
    [
        ("slurm/054", ["13"], {"13": "requested"}),
        ("slurm/055", ["13"], {"13": "already_finished"}),
        ("slurm/166", ["999999"], {"999999": "not_found"}),
        ("slurm/173", ["30", "31", "12", "27"],
         {"30": "requested", "31": "requested", "12": "permission", "27": "requested"}),
        ("slurm/223", ["19"], {"19": "transient"}),
        ("slurm/255", ["1"], {"1": "transient"}),
        ("slurm/159", ["12"], {"12": "permission"}),
        ("slurm/163", ["22"], {"22": "permission"}),
        ("slurm/160", ["29"], {"29": "requested"}),
    ],
)  # fmt: skip
def test_what_became_of_a_cancel(name: str, requested: list[str], outcomes: dict[str, str]) -> None:
    record = capture(name)
    assert (
        parser.parse_cancel(
            record["stdout"],
            "slurm",
            stderr=record["stderr"],
            returncode=record["returncode"],
            requested=requested,
        )
        == outcomes
    )


def test_a_cancel_that_failed_as_a_whole_is_an_error() -> None:
    record = capture("slurm/158")
    with pytest.raises(SchedulerError):
        parser.parse_cancel(
            record["stdout"], "slurm", stderr=record["stderr"], returncode=1, requested=["5"]
        )


def test_nodes_of_slurm() -> None:
    (node,) = parser.parse_nodes(capture("slurm/010")["stdout"], "slurm")
    assert (node.name, node.state, node.cpus, node.memory) == ("n1", "idle", 2, 2000 * 2**20)
    assert node.queues == ("main", "short")
    pasted = parser.parse_nodes(capture("slurm/008")["stdout"], "slurm")
    assert [one.name for one in pasted] == ["n1", "n2", "n3", "n4"]
    assert pasted[3].queues == ("main", "short", "maint", "closed")
    down = parser.parse_nodes(capture("slurm/205")["stdout"], "slurm")
    assert {one.name: one.state for one in down} == {
        "n4": "down",
        "n1": "mixed",
        "n2": "mixed",
        "n3": "allocated",
    }
    for name in ("slurm/218", "slurm/220", "slurm/012"):
        record = capture(name)
        with pytest.raises(SchedulerError):
            parser.parse_nodes(
                record["stdout"], "slurm", stderr=record["stderr"], returncode=record["returncode"]
            )


def test_queues_of_slurm() -> None:
    for name in ("slurm/005", "slurm/009"):
        queues = {one.name: one for one in parser.parse_queues(capture(name)["stdout"], "slurm")}
        assert list(queues) == ["main", "short", "maint", "closed"]
        assert queues["main"].is_default
        assert queues["main"].time_limit == timedelta(hours=1)
        assert queues["maint"].time_limit is None
        assert [one.state for one in queues.values()] == ["up", "up", "down", "inactive"]


def test_an_outcome_is_a_word() -> None:
    assert CancelOutcome("requested") == "requested"


def test_a_real_answer_of_sacct_says_how_each_job_ended() -> None:
    """Recorded from Slurm 22.05 with slurmdbd, by the script that ``history_script`` builds."""
    record = json.loads((DATA / "slurm-history.json").read_text(encoding="utf-8"))
    slurm = get("slurm")
    wanted = record["ids"]
    ok, bad, signalled, mixed, array, held, cancelled, never, element = wanted
    history = slurm.parse_history(
        Answer(record["stdout"], record["stderr"], record["code"]), requested=wanted
    )
    assert history.absent == (never,)
    assert history.unparsed == ()
    assert (history[ok].state, history[ok].exit_code) == (JobState.COMPLETED, 0)
    assert history[ok].name == "two\nlines|and $x 'q'"
    assert (history[bad].state, history[bad].exit_code) == (JobState.FAILED, 3)
    assert (history[signalled].exit_code, history[signalled].signal) == (None, 9)
    assert history[mixed].state is JobState.FAILED
    assert history[array].state is JobState.COMPLETED
    assert (history[element].exit_code, history[element].raw_id) == (2, mixed)
    assert history[held].state is JobState.PENDING
    assert history[cancelled].state is JobState.CANCELLED
    # The same numbers, counted anew by a cluster that was set up again: other jobs.
    begun = history[ok].submitted
    assert begun is not None
    later = begun + timedelta(hours=5)
    other = slurm.parse_history(Answer(record["stdout"], "", 0), requested=[ok], since=later)
    assert other.absent == (ok,)

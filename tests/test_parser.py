"""The parser on real transcripts, on cut and mixed-up ones, and on noise."""

from __future__ import annotations

import json
import pickle
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openssh_jobs import parser
from openssh_jobs.errors import (
    InputError,
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import CancelOutcome, JobState, Snapshot
from openssh_jobs.schedulers import available, get

DATA = Path(__file__).parent / "data"


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


# Facts of the data parser of Slurm 23.02 to 24.11: states are lists, numbers are objects.
NEW_JSON = {
    "meta": {"plugin": {"type": "openapi/slurmctld"}, "slurm": {"release": "24.11.0"}},
    "errors": [],
    "warnings": [],
    "jobs": [
        {
            "job_id": 4008,
            "array_job_id": {"set": True, "infinite": False, "number": 4000},
            "array_task_id": {"set": True, "infinite": False, "number": 8},
            "array_task_string": "",
            "job_state": ["FAILED"],
            "state_reason": "NonZeroExitCode",
            "exit_code": {
                "status": ["ERROR"],
                "return_code": {"set": True, "infinite": False, "number": 3},
                "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
            },
            "name": "x",
            "nodes": "n[08-10]",
            "time_limit": {"set": True, "infinite": False, "number": 60},
            "submit_time": {"set": True, "infinite": False, "number": 1795330124},
            "end_time": {"set": True, "infinite": False, "number": 1795330125},
            "user_name": "alice",
            "standard_output": "/home/alice/x.out",
        },
        {"job_id": 4009, "job_state": ["RUNNING"], "time_limit": {"set": False, "infinite": True}},
        {"job_id": 4010, "job_state": ["COMPLETED", "COMPLETING"]},
        {"job_id": 4011, "job_state": ["PENDING", "REQUEUED"], "state_reason": "BeginTime"},
        {"job_id": 4012, "job_state": ["PENDING"], "state_reason": "JobHeldUser"},
        {"job_id": 4013, "job_state": ["PENDING", "SPECIAL_EXIT"], "state_reason": "x"},
        {"job_id": 4014, "job_state": ["CANCELLED", "COMPLETING"]},
        {"job_id": 4015, "job_state": ["SOMETHING_NEW"]},
        {"job_id": {"set": True, "number": 4016}, "job_state": ["TIMEOUT"]},
        {
            "job_id": 4017,
            "job_state": ["PENDING"],
            "het_job_id": {"set": True, "infinite": False, "number": 4017},
            "het_job_offset": {"set": True, "infinite": False, "number": 0},
        },
        "nonsense",
        {"job_id": None, "job_state": ["COMPLETED"]},
    ],
}


def test_the_json_of_newer_versions() -> None:
    snapshot = parser.parse_status(json.dumps(NEW_JSON))
    states = {key: str(status.state) for key, status in snapshot.known.items()}
    assert states == {
        "4000_8": "failed",
        "4009": "running",
        "4010": "completing",
        "4011": "pending",
        "4012": "held",
        "4013": "held",
        "4014": "completing",
        "4016": "timeout",
        "4017+0": "pending",
    }
    assert len(snapshot.unparsed) == 3
    status = snapshot["4000_8"]
    assert (status.exit_code, status.signal, status.raw_id) == (3, None, "4008")
    assert status.nodes == ("n08", "n09", "n10")
    assert status.time_limit == timedelta(hours=1)
    assert status.submitted == datetime.fromtimestamp(1795330124, UTC)
    assert status.stdout_path == "/home/alice/x.out"
    assert snapshot["4009"].time_limit is None


NEW_SACCT = {
    "jobs": [
        {
            "job_id": 7,
            "array": {"job_id": 0, "task_id": {"set": False, "number": 0}, "task": ""},
            "state": {"current": ["CANCELLED"], "reason": "None"},
            "exit_code": {
                "return_code": {"set": True, "number": 0},
                "signal": {"id": {"set": True, "number": 15}, "name": "Terminated"},
            },
            "time": {"elapsed": 61, "submission": 1795330124, "limit": {"set": True, "number": 5}},
            "association": {"user": "alice"},
        }
    ],
    "errors": [],
}


def test_the_sacct_json_of_newer_versions() -> None:
    status = parser.parse_status(json.dumps(NEW_SACCT))["7"]
    assert (status.state, status.signal, status.source) == (JobState.CANCELLED, 15, "accounting")
    assert (status.elapsed, status.user) == (timedelta(seconds=61), "alice")


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
    told = (record["stdout"], "slurm")
    rest = {"stderr": record["stderr"], "returncode": record["returncode"]}
    if record["returncode"] == 0:
        job_id = parser.parse_submit(*told, **rest)
        assert job_id.partition(";")[0] in re.findall(r"[0-9]+", record["stdout"])
        return
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(*told, **rest)
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
def test_submission_errors_are_told_apart(
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
    "stdout", ["", "\n", "job submitted\n", "Submitted batch job 5\nSubmitted batch job 6\n"]
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


# --------------------------------------------------------------------------- noise

_LIKELY = """JOBID STATE ST JobID State 1 12 123_4 123_[5-9%2] 88.0 COMPLETED PENDING R F PD CD (
    ) [ | {} {"jobs": [] } JobId= JobState=COMPLETED UserId=a(1) CLUSTER: ---- === 0:9 3:0 Submitted
    batch job OJ+ab OJ:ab begin end OJ-ab error: Job_Name job_state = <xml> <job_list> Your has
    been submitted PID STAT cluster n[1-3]"""
WORDS = st.sampled_from(_LIKELY.split())
NOISE = st.text(max_size=200) | st.lists(
    WORDS | st.sampled_from(["\n", " ", "   ", "|", "\t", "\x1f"]) | st.text(max_size=5),
    max_size=60,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(stdout=NOISE, stderr=NOISE, code=st.sampled_from([0, 0, 1, 255]), named=st.booleans())
def test_noise_is_an_answer_or_a_scheduler_error(
    stdout: str, stderr: str, code: int, named: bool
) -> None:
    for name in available():
        scheduler = name if named else None
        for call in (
            lambda s=scheduler: parser.parse_status(
                stdout, s, stderr=stderr, returncode=code, requested=["5"]
            ),
            lambda n=name: parser.parse_submit(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: parser.parse_cancel(
                stdout, n, stderr=stderr, returncode=code, requested=["5"]
            ),
            lambda n=name: parser.parse_nodes(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: parser.parse_queues(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: get(n).parse_history(
                stdout, stderr=stderr, returncode=code, requested=["5"]
            ),
            lambda n=name: get(n).parse_detail(stdout, stderr=stderr, returncode=code),
        ):
            try:
                found = call()
            except (SchedulerError, InputError):
                continue
            if isinstance(found, Snapshot):
                for status in found.known.values():
                    status.as_dict()


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=300))
def test_no_final_state_comes_out_of_text_without_a_schedulers_words(text: str) -> None:
    for name in (*available(), None):
        try:
            snapshot = parser.parse_status(text, name)
        except (SchedulerError, InputError):
            continue
        assert not any(one.state.is_final for one in snapshot.known.values())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_cut_listing_never_makes_a_job_finished(data: st.DataObject) -> None:
    records = [one for one in captures("slurm") if one["expected"] and one["returncode"] == 0]
    record = data.draw(st.sampled_from(records))
    length = data.draw(st.integers(0, len(record["stdout"])))
    whole = {**record}
    cut = {**record, "stdout": record["stdout"][:length]}
    try:
        found = status_of(cut)
    except SchedulerError:
        return
    try:
        known = status_of(whole).known
    except SchedulerError:
        return
    for job_id, status in found.known.items():
        if status.state.is_final:
            assert job_id in known
            assert known[job_id].state.is_final


LONG = [
    *("a", "1", " ", "\n", "|", "[", "<", "JobId=1 ", "JobId=1\n", "Job Id: 1\n", "A=b ", "1 R\n"),
    *("JOBID ST\n", "1_[1,", "Submitted batch job 1 ", "error on job id ", " for job 1", "=" * 20),
    *("<job_list>", "<a b>", "<Data><Job>", "OJ+ab\n", "1.0 R ", "n[1-9],", "Job <1>, ", "gpu:"),
    *("CLUSTER: a\n", "Unknown Job Id 1 ", "QOS", "No such file or directory "),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", LONG)
def test_long_nonsense_takes_no_more_than_its_length(piece: str) -> None:
    # Anything quadratic in here would run into the timeout, with hours to spare.
    text = (piece * 200_000)[:200_000]
    for name in (*available(), None):
        for call in (
            lambda n=name: parser.parse_status(text, n, requested=["5"]),
            lambda n=name: parser.parse_submit("", n or "slurm", stderr=text, returncode=1),
            lambda n=name: parser.parse_submit(text, n or "slurm"),
            lambda n=name: parser.parse_cancel(text, n or "slurm", requested=["5"]),
            lambda n=name: parser.parse_nodes(text, n or "slurm"),
            lambda n=name: parser.parse_queues(text, n or "slurm"),
        ):
            try:
                found = call()
            except (SchedulerError, InputError):
                continue
            if isinstance(found, Snapshot):
                assert not any(one.state.is_final for one in found.known.values())


def test_an_outcome_is_a_word() -> None:
    assert CancelOutcome("requested") == "requested"


def test_a_real_answer_of_sacct_says_how_each_job_ended() -> None:
    """Recorded from Slurm 22.05 with slurmdbd, by the script that ``history_script`` builds."""
    record = json.loads((DATA / "slurm-history.json").read_text(encoding="utf-8"))
    slurm = get("slurm")
    wanted = record["ids"]
    ok, bad, signalled, mixed, array, held, cancelled, never, element = wanted
    history = slurm.parse_history(
        record["stdout"], stderr=record["stderr"], returncode=record["code"], requested=wanted
    )
    assert history.absent == (never,)
    assert history.unparsed == ()
    assert (history[ok].state, history[ok].exit_code) == (JobState.COMPLETED, 0)
    assert history[ok].name == "two\nlines|and $x 'q'"
    assert history[ok].submitted is not None
    assert (history[bad].state, history[bad].exit_code) == (JobState.FAILED, 3)
    assert (history[signalled].exit_code, history[signalled].signal) == (None, 9)
    assert history[mixed].state is JobState.FAILED
    assert history[array].state is JobState.COMPLETED
    assert (history[element].exit_code, history[element].raw_id) == (2, mixed)
    assert history[held].state is JobState.PENDING
    assert history[cancelled].state is JobState.CANCELLED
    # The same numbers, counted anew by a cluster that was set up again: other jobs.
    later = history[ok].submitted + timedelta(hours=5)
    other = slurm.parse_history(
        record["stdout"], stderr="", returncode=0, requested=[ok], since=later
    )
    assert other.absent == (ok,)

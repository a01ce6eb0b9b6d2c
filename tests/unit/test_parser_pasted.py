"""What people paste: arrays, separators, text around JSON, words of newer versions."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import CancelOutcome, JobId, JobState, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest

SEPARATORS = ["|", "\x1f", "\x1e", "\x01", ",", ";", "\t", ":", "~", "^", "#", "/", "!", "@", "=",
              "||", " | ", "::", ", ", "§"]  # fmt: skip
ROWS = [("5", "RUNNING", "a b"), ("204_[1-50]", "PENDING", "x"), ("8", "EXPEDITING", "y")]


def pasted(text: str, *wanted: str, command: str | None = None) -> Snapshot:
    return parser.parse_status(text, "slurm", command=command, requested=wanted)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("program", ["squeue", "sacct"])
@pytest.mark.parametrize("has_header", [True, False])
@pytest.mark.parametrize("has_command", [True, False])
def test_every_separator(separator: str, program: str, has_header: bool, has_command: bool) -> None:
    title = ("JOBID", "STATE", "NAME") if program == "squeue" else ("JobID", "State", "JobName")
    rows = [title, *ROWS] if has_header else ROWS
    text = "".join(f"{separator.join(row)}\n" for row in rows)
    bare = "" if has_header else "-h " if program == "squeue" else "-n "
    options = (
        f"-t all -o '%i{separator}%T{separator}%j'"
        if program == "squeue"
        else f"-P --delimiter='{separator}' -o JobID,State,JobName"
    )
    command = f"{program} {bare}{options} -j 5,204,7,8" if has_command else None
    found = pasted(text, "5", "204", "204_7", "7", "8", command=command)
    assert found.unparsed == ()
    states = {one: found[one].state for one in ("5", "204", "204_7", "8", "7")}
    assert states == {
        "5": "running", "204": "pending", "204_7": "pending", "8": "unknown", "7": "unknown"
    }  # fmt: skip
    assert found["8"].raw_state == "EXPEDITING"
    assert found.absent == (("7",) if has_command else ())
    if has_header or has_command:
        assert found["5"].name == "a b"


def test_a_job_that_is_named_like_a_header() -> None:
    text = "JOBID|STATE|NAME\n5|RUNNING|JOBID|STATE|NAME\n6|PENDING|x\n"
    found = pasted(text, "5", "6")
    assert {one: status.state for one, status in found.known.items()} == {
        "5": JobState.RUNNING,
        "6": JobState.PENDING,
    }


@pytest.mark.parametrize("command", [None, "sacct -j 204,205,12,99"])
def test_an_array_and_a_heterogeneous_job_by_their_own_ids(command: str | None) -> None:
    text = (
        "JobID|State|ExitCode\n204_1|COMPLETED|0:0\n204_2|FAILED|1:0\n205_1|COMPLETED|0:0\n"
        "205_[2-51]|PENDING|0:0\n12+0|COMPLETED|0:0\n12+1|COMPLETED|0:0\n"
    )
    found = pasted(text, "204", "205", "12", "12+1", "99", command=command)
    if command:
        assert found["204"].state is JobState.FAILED
        assert found["204"].reason == "2 elements: 1 failed (204_2), 1 completed"
    assert found["205"].reason == "51 elements: 1 completed, 50 pending"
    assert found["12+1"].state is JobState.COMPLETED
    # Without the command nobody knows whether all of its parts are listed.
    assert found["12"].state is (JobState.COMPLETED if command else JobState.UNKNOWN)
    assert found.unknown == (() if command else ("204", "12", "99"))
    assert found.absent == (("99",) if command else ())


def test_a_history_with_unparsed_rows_ends_no_array() -> None:
    rows = "".join(
        "|ab|".join((f"204_{task}", f"20{task}", "FAILED", "1:0", *[""] * 10, "x", "\n"))
        for task in (1, 2)
    )
    for odd, state in (("", JobState.FAILED), ("204_3|ab|RUN", None)):
        text = f"OJ+ab\nOJ:ab begin sacct@\n{rows}{odd}\nOJ:ab end sacct@ 0\nOJ-ab\n"
        found = get("slurm").parse_history(Answer(text), requested=["204", "204_1"])
        assert found["204_1"].exit_code == 1
        assert found["204"].state is (state or JobState.UNKNOWN)
        assert found.unknown == (() if state else ("204",))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5", 1), ("204_3", 1), ("204_[1-50]", 50), ("204_[1-9:2,20]", 6), ("204_[0-9%2]", 10),
        ("5.1-10:3", 4), ("123[]", None), ("204_[1,5,...]", None), ("12+1", 1), ("88.0", 1),
    ],
)  # fmt: skip
def test_how_many_jobs_an_id_stands_for(text: str, count: int | None) -> None:
    assert JobId.parse(text).members == count


QUEUE = {
    "jobs": [
        {"job_id": 5, "job_state": ["RUNNING"], "name": "x", "restart_cnt": 4294967294,
         "cpus": {"set": True, "infinite": False, "number": 4294967294}},
        {"job_id": 6, "job_state": ["EXPEDITING"]},
        {"job_id": 7, "job_state": ["COMPLETED", "EXPEDITING"]},
    ],
    "errors": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("Welcome {user}!\n[info] loaded\n", ""),
        ("\ufeff", ""),
        ("Loading {\n", "\nbye }"),
        ("{}\n", "\nlogout"),
        ("[]\n", ""),
        ('{"quota": 3}\n', "\n[]"),
    ],
)
def test_text_around_json_does_not_spoil_it(before: str, after: str) -> None:
    found = pasted(f"{before}{json.dumps(QUEUE, indent=1)}{after}\n", "5", "6", "7")
    assert [found[one].state for one in "567"] == ["running", "unknown", "unknown"]
    assert (found["5"].cpus, found["5"].restarts) == (None, None)
    assert found["6"].raw_state == "EXPEDITING"


PBS_QUEUE = {
    "pbs_version": "23.06.06",
    "pbs_server": "srv",
    "Jobs": {
        "5.srv": {"job_state": "R", "comment": "{"},
        "6.srv": {"job_state": "Z"},
    },
}
PBS_OLD_QUEUE = """{
    "pbs_version":"17.1.0",
    "pbs_server":"srv",
    "Jobs":{
        "5.srv":{
            "job_state":"R"
        },
    "Jobs":{
        "6.srv":{
            "job_state":"Z"
        }
    }
}"""
BANNERS = [
    "Welcome {user}!\n[info] loaded\n",
    "{ welcome }\n",
    "\ufeff",
    "{}\n",
    "[]\n",
    '{"quota": 3}\n',
    'the "Jobs": { are full\n',
    "[ {maintenance} ]\n",
]


@pytest.mark.parametrize("text", [json.dumps(PBS_QUEUE, indent=4), PBS_OLD_QUEUE])
@pytest.mark.parametrize("before", ["", *BANNERS])
@pytest.mark.parametrize("after", ["", "\nlogout", "\nbye }"])
def test_text_around_the_json_of_pbs_does_not_spoil_it(text: str, before: str, after: str) -> None:
    found = parser.parse_status(f"{before}{text}{after}\n", requested=["5", "6"])
    assert [found[one].state for one in "56"] == ["running", "unknown"]
    assert found["6"].raw_state == "Z"
    with pytest.raises(SchedulerError):
        parser.parse_status(f"{before}{text[:-60]}{after}\n", "pbs", requested=["5", "6"])


def test_the_text_of_a_job_of_pbs_is_no_other_form() -> None:
    forged = json.dumps({**PBS_QUEUE, "Jobs": {"7.srv": {"job_state": "R"}}}).replace("{", "\t{", 1)
    text = f"Job Id: 5.srv\n    job_state = Q\n    comment = x\n{forged}\n    queue = q\n"
    found = parser.parse_status(text, "pbs", requested=["5", "7"])
    assert (found["5"].state, found.unknown) == ("pending", ("7",))


CONDOR = [
    {"ClusterId": 5, "ProcId": 0, "JobStatus": 2, "Args": "[\n{}\n]\n<classads>"},
    {"ClusterId": 5, "ProcId": 1, "JobStatus": 1, "Sites": ["a", "b"]},
]
CONDOR_XML = """<?xml version="1.0"?>
<!DOCTYPE classads SYSTEM "classads.dtd">
<classads>
<c>
<a n="ClusterId"><i>5</i></a><a n="ProcId"><i>0</i></a><a n="JobStatus"><i>2</i></a>
<a n="Sites"><l><s>a</s><s>b</s><l/><c><a n="JobStatus"><i>4</i></a></c></l></a>
</c>
<c>
<a n="Sites"><l/></a><a n="ClusterId"><i>5</i></a><a n="ProcId"><i>1</i></a>
<a n="JobStatus"><i>1</i></a>
</c>
</classads>"""
CONDOR_FORMS = {
    "json": json.dumps(CONDOR, indent=1),
    "jsonl": "\n".join(map(json.dumps, CONDOR)),
    "xml": CONDOR_XML,
    "long": "ClusterId = 5\nProcId = 0\nJobStatus = 2\n\nClusterId = 5\nProcId = 1\nJobStatus = 1",
}


@pytest.mark.parametrize(
    ("form", "before"),
    [
        (form, before)
        for form in CONDOR_FORMS
        for before in ("", "-- Schedd: s : <10.1.2.3:9618?...\n", *BANNERS)
        # Of this one the values are not quoted: what comes first is what it is.
        if form != "long" or "{" not in before
    ],
)
def test_text_around_each_form_of_htcondor_does_not_spoil_it(form: str, before: str) -> None:
    text = f"{before}{CONDOR_FORMS[form]}\n\nlogout\n"
    found = parser.parse_status(text, "htcondor", requested=["5.0", "5.1"])
    assert [found[one].state for one in ("5.0", "5.1")] == ["running", "pending"]


@pytest.mark.parametrize("before", ["{ welcome }\n", "{}\n", "[info] x\n"])
def test_a_banner_with_a_brace_is_no_form_of_htcondor(before: str) -> None:
    found = parser.parse_status(f"{before}5.0 R\n", "htcondor", requested=["5.0"])
    assert found["5.0"].state is JobState.RUNNING


def test_what_a_cut_form_of_htcondor_quotes_is_no_answer() -> None:
    forged = {"ClusterId": 9, "ProcId": 0, "JobStatus": 2, "Args": CONDOR_XML}
    line = json.dumps(forged)
    found = parser.parse_status(line[:-4], "htcondor", requested=["5.0", "9.0"])
    assert (found.known, set(found.unknown)) == ({}, {"5.0", "9.0"})


def test_what_slurm_left_out_of_a_long_array_is_not_absent() -> None:
    found = pasted("JOBID|STATE\n204_[1,3,5,...]|PENDING\n", "204", "204_3", "204_7", "205_7",
                   command="squeue -t all -j 204,205 -o '%i|%T'")  # fmt: skip
    assert [found[one].state for one in ("204", "204_3")] == ["pending", "pending"]
    assert (found.unknown, found.absent) == (("204_7",), ("205_7",))


@pytest.mark.parametrize(("letters", "state"), [("P", "suspended"), ("N", "suspended"),
                                                ("Q", "unknown")])  # fmt: skip
def test_newer_letters_of_grid_engine(letters: str, state: str) -> None:
    found = parser.parse_status(XML.replace("hqw", letters), "sge", requested=["5"])
    assert (found["5"].state, found["5"].raw_state) == (state, letters)


@pytest.mark.parametrize("name", ["my job 0 R q", "a b", "x"])
def test_a_name_with_blanks_moves_no_column_of_qstat(name: str) -> None:
    text = (
        "Job id            Name             User              Time Use S Queue\n"
        "----------------  ---------------- ----------------  -------- - -----\n"
        f"8.srv             {name:16} alice             00:00:00 Q workq\n"
    )
    status = parser.parse_status(text, "pbs", requested=["8"])["8"]
    assert (status.state, status.name, status.user) == ("pending", name, "alice")


XML = """<?xml version='1.0'?>
<job_info  xmlns:xsd="x">
  <queue_info>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>5</JB_job_number>
      <JB_name>x</JB_name>
      <JB_owner>alice</JB_owner>
      <state>hqw</state>
      <JB_submission_time>2026-11-25T23:08:00</JB_submission_time>
      <slots>1</slots>
    </job_list>
  </job_info>
</job_info>
"""


@pytest.mark.parametrize("before", ["", "Welcome <user>\n", "qstat of <site>\n\n"])
@pytest.mark.parametrize("after", ["", "Have a nice day\n"])
def test_text_around_xml_does_not_spoil_it(before: str, after: str) -> None:
    found = parser.parse_status(before + XML + after, "sge", requested=["5"])
    assert found["5"].state is JobState.HELD
    with pytest.raises(SchedulerError):
        parser.parse_status(before + XML[:-20] + after, "sge", requested=["5"])


def test_a_held_job_is_held_in_the_details_of_grid_engine() -> None:
    line = "=" * 62
    text = (
        f"{line}\njob_number:                 5\nowner:                      alice\n"
        "job_name:                   x\nscheduling info:            Job is in hold state\n"
    )
    assert parser.parse_status(text, "sge")["5"].state is JobState.HELD
    waiting = text.replace("Job is in hold state", "job dropped because of job dependencies")
    assert parser.parse_status(waiting, "sge")["5"].state is JobState.PENDING
    # A job whose environment holds a block of its own number: nobody can tell which is real.
    twice = parser.parse_status(text + text, "sge", requested=["5"])
    assert twice.unknown == ("5",)


def test_a_job_with_two_records_has_none() -> None:
    record = (
        "JobId=5 JobName=x\n   UserId=alice(1) GroupId=a(1)\n   JobState=RUNNING Reason=None\n"
        "   StdOut=/x\n"
    )
    assert pasted(record, "5")["5"].state is JobState.RUNNING
    assert pasted(f"{record}\n{record.replace('RUNNING', 'COMPLETED')}", "5").unknown == ("5",)


@pytest.mark.parametrize(
    ("scheduler", "text", "job_id"),
    [
        ("slurm", "sbatch: Submitted batch job 42\n", "42"),
        ("slurm", "[sub] Submitted batch job 42 on cluster x\n", "42;x"),
        ("slurm", "\x1b[32mSubmitted batch job 42\x1b[0m\n", "42"),
        ("slurm", "2026-01-01 INFO - Submitted batch job 42.\n", "42"),
        ("slurm", "Welcome\n42\n", "42"),
        ("sge", 'qsub: Your job 5 ("x") has been submitted\n', "5"),
        ("sge", '[i] Your job-array 5.1-3:1 ("x y") has been submitted\n', "5"),
        ("sge", 'Your job 5 ("a Your job 6 ("b") has been submitted") has been submitted\n', "5"),
        ("sge", "\x1b[1m5\x1b[0m\n", "5"),
        ("pbs", "qsub: 5.srv\n", "5.srv"),
        ("pbs", "[site] 5[].10gbe-srv\n[1] 4711\n", "5[].10gbe-srv"),
        ("lsf", "bsub: Job <5> is submitted to default queue <n>.\n", "5"),
        ("lsf", "Group </g> Job <5> is submitted to queue <Job <6> is submitted to x>.\n", "5"),
        ("htcondor", "condor_submit: 1 job(s) submitted to cluster 5.\n", "5"),
    ],
)
def test_what_stands_around_the_id_of_a_new_job(scheduler: str, text: str, job_id: str) -> None:
    assert parser.parse_submit(text, scheduler) == job_id


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "pbs", "torque", "lsf", "htcondor"])
def test_unknown_words_of_a_cancel_command_do_not_ask_to_try_again(scheduler: str) -> None:
    with pytest.raises(SchedulerError) as caught:
        parser.parse_cancel("", scheduler, stderr="frobnicated\n", returncode=1, requested=["5"])
    assert caught.value.kind == "parse_error"
    assert "frobnicated" in caught.value.message


def test_unknown_words_about_one_job() -> None:
    said = parser.parse_cancel(
        "",
        "slurm",
        stderr="scancel: error: Kill job error on job id 5: Frobnicated\n"
        "scancel: error: Kill job error on job id 6: Socket timed out on send/recv operation\n",
        returncode=1,
        requested=["5", "6"],
    )
    assert said == {"5": CancelOutcome.UNKNOWN, "6": CancelOutcome.TRANSIENT}
    found = parser.parse_cancel(
        "alice has registered the job 5 for deletion\njob 6 is frobnicated\n",
        "sge",
        requested=["5", "6"],
    )
    assert found == {"5": CancelOutcome.REQUESTED, "6": CancelOutcome.UNKNOWN}
    words = "qdel: Frobnicated 5.srv\n"
    found = parser.parse_cancel("", "pbs", stderr=words, returncode=1, requested=["5", "6"])
    assert found == {"5": CancelOutcome.UNKNOWN, "6": CancelOutcome.REQUESTED}


@pytest.mark.parametrize(
    ("scheduler", "text", "asked", "outcome"),
    [
        ("slurm", "scancel: error: Kill job error on job id 5_[1-3]: Access/permission denied", "5",
         "permission"),
        ("slurm", "scancel: error: Kill job error on job id 5+1: Access/permission denied", "5",
         "permission"),
        ("slurm", "scancel: error: Kill job error on job id 5_[1-3]: Access/permission denied",
         "5_2", "permission"),
        ("slurm", "scancel: error: Kill job error on job id 5_3: Access/permission denied", "5_2",
         "requested"),
        ("htcondor", "Job 5.0 marked for removal\nJob 5.1 not found", "5", "not_found"),
        ("lsf", "Job <5[1]> is being terminated\nJob <5[2]> is being terminated", "5",
         "requested"),
    ],
)  # fmt: skip
def test_what_is_said_of_members_of_what_was_cancelled(
    scheduler: str, text: str, asked: str, outcome: str
) -> None:
    found = parser.parse_cancel(f"{text}\n", scheduler, returncode=1, requested=[asked])
    assert found == {asked: outcome}


def test_no_sentinel_reaches_a_person() -> None:
    text = (
        "JOBID|STATE|CPUS|START_TIME|END_TIME|SUBMIT_TIME|NODELIST|ACCOUNT\n"
        "5|COMPLETED|4294967294|1970-01-01T00:00:00Z|Unknown|1970-01-01T01:00:00+01:00|(null)|N/A\n"
    )
    status = pasted(text, "5")["5"]
    assert (status.cpus, status.started, status.ended, status.submitted) == (None,) * 4
    assert (status.nodes, status.account) == (None, None)
    record = (
        "JobId=6 ArrayJobId=6 ArrayTaskId=1-3 JobName=x\n   UserId=alice(1) GroupId=a(1)\n"
        "   JobState=PENDING Reason=None\n   StdOut=/x/slurm-6_4294967294.out\n"
    )
    status = pasted(record, "6_[1-3]")["6_[1-3]"]
    assert status.stdout_path == "/x/slurm-6_%a.out"
    assert get("slurm").actual_path(status.stdout_path, "6_2", None) == "/x/slurm-6_2.out"


# -- what is asked for ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [3600, "3600", " 3600 ", 3600.0, "60", 1.5])
def test_a_bare_number_is_no_time(value: object) -> None:
    with pytest.raises(InputError) as caught:
        SubmitRequest(script="x", time_limit=value)  # type: ignore[arg-type]
    text = str(caught.value)
    assert repr(value) in text
    assert "seconds (" in text
    assert "minutes (" in text


def test_both_readings_of_a_number_are_reported() -> None:
    with pytest.raises(InputError, match=r"3600 seconds \(1:00:00\) or 3600 minutes \(60:00:00\)"):
        SubmitRequest(script="x", time_limit="3600")


@pytest.mark.parametrize("value", [0, "0", -5, float("nan"), 10**30, timedelta(0), True, b"1:00"])
def test_what_is_no_time_limit(value: object) -> None:
    with pytest.raises(InputError, match="time_limit must be"):
        SubmitRequest(script="x", time_limit=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, True, "0", "lots", "4 apples", "-8G", 1.5])
def test_what_is_no_memory_is_quoted_with_what_is(value: object) -> None:
    with pytest.raises(InputError) as caught:
        SubmitRequest(script="x", memory=value)  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)
    assert "'8G'" in str(caught.value)

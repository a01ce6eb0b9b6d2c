"""LSF: texts built from its manual's facts; there are no daemons for the tests."""

from __future__ import annotations

import json

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import (
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import CancelOutcome, JobState
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from tests.unit.schedulers.frames import frame

LSF = get("LSF")


BJOBS = {
    "COMMAND": "bjobs",
    "JOBS": 10,
    "RECORDS": [
        {"JOBID": "123", "JOBINDEX": "0", "STAT": "RUN", "USER": "alice", "QUEUE": "normal",
         "EXEC_HOST": "4*host1:2*host2", "JOB_NAME": "we|ird\nname", "EXIT_CODE": "-"},
        {"JOBID": "124", "JOBINDEX": "3", "STAT": "PEND", "PEND_REASON": "New job is waiting"},
        {"JOBID": "125", "STAT": "EXIT", "EXIT_CODE": "3", "EXIT_REASON": "-"},
        {"JOBID": "126", "STAT": "EXIT", "EXIT_CODE": "140",
         "EXIT_REASON": "TERM_RUNLIMIT: job killed after reaching LSF run time limit"},
        {"JOBID": "127", "STAT": "DONE"},
        {"JOBID": "128", "STAT": "PSUSP"},
        {"JOBID": "129", "STAT": "EXIT", "EXIT_REASON": "TERM_OWNER: job killed by owner"},
        {"JOBID": "130", "STAT": "UNKWN"},
        {"JOBID": "131", "ERROR": "Job <131> is not found"},
        {"JOBID": "x", "STAT": "RUN"},
    ],
}  # fmt: skip


def test_bjobs_json() -> None:
    text = frame(("bjobs", json.dumps(BJOBS), 0))
    wanted = ["123", "124[3]", "125", "126", "127", "128", "129", "130", "131", "132"]
    snapshot = LSF.parse_status(Answer(text, stderr="Job <131> is not found\n"), requested=wanted)
    assert [str(snapshot[one].state) for one in wanted[:-2]] == [
        "running", "pending", "failed", "timeout", "completed", "held", "cancelled", "unknown",
    ]  # fmt: skip
    assert (snapshot.absent, snapshot.unknown) == (("131",), ("132",))
    assert len(snapshot.unparsed) == 1
    assert snapshot["123"].nodes == ("host1", "host2")
    assert snapshot["123"].name == "we|ird\nname"
    assert snapshot["125"].exit_code == 3


TABLE = """\
JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
123     alice   RUN   normal     login1      host1       my job     Nov 22 06:48
                                             host2
124     alice   PEND  normal     login1                  arr[3]     Nov 22 06:48
125     alice   EXIT  normal     login1      host1       x          Nov 22 06:48
"""


def test_the_table_of_bjobs() -> None:
    snapshot = parser.parse_status(TABLE)
    assert {key: str(one.state) for key, one in snapshot.known.items()} == {
        "123": "running",
        "124[3]": "pending",
        "125": "failed",
    }
    assert snapshot.unparsed == ()


LONG = """\

Job <123>, Job Name <x>, User <alice>, Project <default>, Command <sleep 5; echo D
                     one successfully>
Sun Nov 22 06:48:44: Submitted from host <login1>, to Queue <normal>, CWD <$HOME>;
Sun Nov 22 06:48:45: Dispatched to <host1>;
Sun Nov 22 06:48:45: Starting (Pid 17);
Sun Nov 22 06:48:55: Exited with exit code 3. The CPU time used is 0.1 seconds;
------------------------------------------------------------------------------

Job <124>, User <alice>, Project <default>, Command <true>
Sun Nov 22 06:48:44: Submitted from host <login1>, to Queue <normal>, CWD <$HOME>;
Sun Nov 22 06:48:45: Starting (Pid 18);
Sun Nov 22 06:48:55: Done successfully. The CPU time used is 0.1 seconds;
"""


def test_bhist() -> None:
    text = frame(("bhist 123", LONG.partition("-----")[0], 0), ("bhist 124", LONG, 0))
    snapshot = LSF.parse_history(Answer(text), requested=["123", "124"])
    assert (snapshot["123"].state, snapshot["123"].exit_code) == (JobState.FAILED, 3)
    assert (snapshot["124"].state, snapshot["124"].source) == (JobState.COMPLETED, "accounting")


def test_bsub_and_bkill() -> None:
    assert (
        parser.parse_submit("Job <930> is submitted to default queue <normal>.\n", "lsf") == "930"
    )
    for stderr, cls, kind in (
        ("nosuch: No such queue. Job not submitted.\n", SubmitRejected, "invalid_request"),
        ("User cannot use the queue. Job not submitted.\n", SubmitRejected, "permission"),
        ("batch daemon not responding ... still trying\n", SubmitUnknown, "transient"),
        ("Pending job threshold reached. Retrying in 60 seconds...\n", SubmitLimit, "limit"),
    ):
        with pytest.raises(SchedulerError) as caught:
            parser.parse_submit("", "lsf", stderr=stderr, returncode=255)
        assert (type(caught.value), caught.value.kind) == (cls, kind)
    text = (
        "Job <1> is being terminated\nJob <2>: Job has already finished\n"
        "Job <3>: No matching job found\nJob <4>: User permission denied\n"
    )
    assert parser.parse_cancel(text, "lsf", requested=["1", "2", "3", "4"]) == {
        "1": CancelOutcome.REQUESTED,
        "2": CancelOutcome.ALREADY_FINISHED,
        "3": CancelOutcome.NOT_FOUND,
        "4": CancelOutcome.PERMISSION,
    }


def test_a_silent_lsf_is_an_error_and_no_jobs_is_an_answer() -> None:
    for stderr, kind in (
        ("LSF is down. Please wait ... batch daemon not responding\n", "transient"),
        ("", "parse_error"),
    ):
        with pytest.raises(SchedulerError) as caught:
            parser.parse_status("", "lsf", stderr=stderr, returncode=255 if stderr else 0)
        assert caught.value.kind == kind
    empty = parser.parse_status("", "lsf", stderr="No unfinished job found\n", requested=["5"])
    assert empty.unknown == ("5",)
    framed = frame(("bjobs", "", 255), ("bjobs-w", "", 255))
    whole = LSF.parse_status(Answer(framed, stderr="No job found\n"), requested=["5"])
    assert whole.absent == ("5",)

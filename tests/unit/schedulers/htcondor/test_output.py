"""HTCondor: texts built from its manual's facts; there are no daemons for the tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import (
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import JobState
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from tests.unit.schedulers.frames import frame

CONDOR = get("condor")


def ad(cluster: int, proc: int, status: int, **more: Any) -> dict[str, Any]:
    return {
        "ClusterId": cluster,
        "ProcId": proc,
        "JobStatus": status,
        "Owner": "alice",
        "QDate": 1795330124,
        "Iwd": "/home/alice",
        "Out": "x.out",
        "Cmd": "/home/alice/x.sh",
        **more,
    }


def totals(count: int) -> tuple[str, str, int]:
    """The totals that HTCondor's queue is asked for beside the jobs."""
    return ("condor_q-totals", f"\nTotal for query: {count} jobs; 0 completed, 0 removed\n", 0)


QUEUE = [
    ad(88, 0, 2, RemoteHost="slot1@node7", RequestCpus=4),
    ad(88, 1, 1),
    ad(89, 0, 5, HoldReason="via condor_hold (by user alice)", HoldReasonCode=1),
    ad(90, 0, 7),
    ad(91, 0, 3),
    ad(92, 0, 6),
    ad(93, 0, 4, ExitCode=0, ExitBySignal=False),
]


def test_condor_q_json() -> None:
    snapshot = CONDOR.parse_status(
        Answer(frame(("condor_q", json.dumps(QUEUE), 0), totals(7))),
        requested=["88", "88.0", "89.0", "93.0", "99"],
    )
    assert snapshot["88"].state is JobState.RUNNING
    assert snapshot["88.0"].nodes == ("node7",)
    assert snapshot["88.0"].stdout_path == "/home/alice/x.out"
    assert snapshot["88.0"].submitted == datetime.fromtimestamp(1795330124, UTC)
    assert (snapshot["89.0"].state, snapshot["89.0"].reason) == (
        JobState.HELD,
        "via condor_hold (by user alice)",
    )
    assert (snapshot["93.0"].state, snapshot["93.0"].exit_code) == (JobState.COMPLETED, 0)
    assert snapshot.absent == ("99",)
    states = parser.parse_status(json.dumps(QUEUE)).known
    assert [str(one.state) for one in states.values()] == [
        "running", "pending", "held", "suspended", "completing", "completing", "completed",
    ]  # fmt: skip


def test_condor_history_says_how_it_ended() -> None:
    ended = [
        ad(88, 0, 4, ExitCode=3, ExitBySignal=False, CompletionDate=1795330200),
        ad(88, 1, 4, ExitBySignal=True, ExitSignal=9),
        ad(89, 0, 3, RemoveReason="via condor_rm (by user alice)"),
        ad(90, 0, 4),
        ad(91, 0, 4, ExitCode=0, ExitBySignal=False),
        ad(91, 1, 4, ExitCode=0, ExitBySignal=False),
    ]
    wanted = ["88.0", "88.1", "89.0", "90.0", "91", "99.0"]
    snapshot = CONDOR.parse_history(
        Answer(frame(("condor_history", json.dumps(ended), 0))), requested=wanted
    )
    reported = {name: snapshot[name] for name in wanted}
    assert (reported["88.0"].state, reported["88.0"].exit_code) == (JobState.FAILED, 3)
    assert (reported["88.1"].signal, reported["88.1"].exit_code) == (9, None)
    assert reported["89.0"].state is JobState.CANCELLED
    assert reported["90.0"].state is JobState.UNKNOWN
    assert reported["91"].state is JobState.COMPLETED
    assert snapshot.absent == ("99.0",)
    later = datetime.fromtimestamp(1795330124 + 86400, UTC)
    older = CONDOR.parse_history(
        Answer(frame(("condor_history", json.dumps(ended), 0))), requested=["88.0"], since=later
    )
    assert older.absent == ("88.0",)


def test_an_empty_answer_of_condor_q_counts_only_when_it_is_whole() -> None:
    whole = CONDOR.parse_status(Answer(frame(("condor_q", "", 0), totals(0))), requested=["5"])
    assert whole.absent == ("5",)
    for stdout, stderr, code in (
        (frame(("condor_q", "", 1)), "Failed to fetch ads from: <10.0.0.1> : login", 0),
        (frame(("condor_q", "", 0)), "-- Failed to fetch ads from: <10.0.0.1> : login", 0),
        ("", "", 0),
        ("", "Error: Can't find address of schedd", 1),
    ):
        with pytest.raises(SchedulerError):
            CONDOR.parse_status(Answer(stdout, stderr, code), requested=["5"])


BATCH = """

-- Schedd: login.site.org : <10.0.0.1:9618?... @ 11/22/26 06:48:44
OWNER BATCH_NAME    SUBMITTED   DONE   RUN    IDLE   HOLD  TOTAL JOB_IDS
alice ID: 88      11/22 06:40      _      1      1      _      2 88.0-1
alice my big job  11/22 06:41      3      _      7      _     10 90.3-9
alice ID: 91      11/22 06:42      _      _      _      1      1 91.0

Total for query: 12 jobs; 0 completed, 0 removed, 8 idle, 1 running, 1 held, 0 suspended
"""
NOBATCH = """
-- Schedd: login.site.org : <10.0.0.1:9618?... @ 11/22/26 06:48:44
 ID      OWNER            SUBMITTED     RUN_TIME ST PRI SIZE CMD
  88.0   alice          11/22 06:40   0+00:08:05 R  0    0.0 x.sh 1 2
  88.1   alice          11/22 06:40   0+00:00:00 I  0    0.0 x.sh
  89.0   alice          11/22 06:40   0+00:00:00 H  0    0.0 x.sh
  90.0   alice          11/22 06:40   0+00:00:09 C  0    0.0 x.sh
1234567.123 alice       11/22 06:40   1+00:00:09 >  0    0.0 x.sh

Total for query: 5 jobs; 0 completed, 0 removed, 1 idle, 1 running, 1 held, 0 suspended
"""


def test_the_tables_of_condor_q() -> None:
    batch = parser.parse_status(BATCH)
    assert batch["88"].state is JobState.RUNNING
    assert "88.1" not in batch, "one runs and one waits: which of them, it does not say"
    assert batch["90.5"].state is JobState.PENDING
    assert batch["91.0"].state is JobState.HELD
    with pytest.raises(KeyError):
        batch["90.2"]
    rows = parser.parse_status(NOBATCH)
    assert {key: str(one.state) for key, one in rows.known.items()} == {
        "88.0": "running",
        "88.1": "pending",
        "89.0": "held",
        "90.0": "unknown",
        "1234567.123": "completing",
    }
    assert rows.unparsed == ()
    short = parser.parse_status("11224.0 R 8 1024 x\n11225.0 P 8\n", "htcondor")
    assert [str(one.state) for one in short.known.values()] == ["running", "pending"]


def test_class_ads_in_long_form() -> None:
    text = (
        "ClusterId = 88\nProcId = 0\nJobStatus = 4\nExitBySignal = false\nExitCode = 3\n"
        'Owner = "al\\"ice"\n\nClusterId = 88\nProcId = 1\nJobStatus = 2\n'
    )
    snapshot = parser.parse_status(text)
    assert (snapshot["88.0"].exit_code, snapshot["88.0"].user) == (3, 'al"ice')
    assert snapshot["88.1"].state is JobState.RUNNING


def test_condor_submit() -> None:
    stdout = "Submitting job(s)..\n2 job(s) submitted to cluster 2267.\n"
    assert parser.parse_submit(stdout, "condor", stderr="WARNING: the line x is unused") == "2267"
    assert parser.parse_submit("2267.0 - 2267.1\n", "HTCondor") == "2267"
    for stderr, cls, kind in (
        ("\nERROR: Failed to connect to local queue manager\n", SubmitRejected, "transient"),
        ("ERROR: on Line 3 of submit file\n", SubmitRejected, "invalid_request"),
        (
            "Number of submitted jobs would exceed MAX_JOBS_PER_OWNER\nERROR: Failed to create",
            SubmitLimit,
            "limit",
        ),
        ("ERROR: Failed to commit job submission into the queue.\n", SubmitUnknown, "transient"),
        ("", SubmitUnknown, "no_job_id"),
    ):
        with pytest.raises(SchedulerError) as caught:
            parser.parse_submit("Submitting job(s)", "htcondor", stderr=stderr, returncode=1)
        assert (type(caught.value), caught.value.kind) == (cls, kind)


def test_condor_rm() -> None:
    text = (
        "Job 5.0 marked for removal\nJob 6.0 not found\nPermission denied to remove job 7.0\n"
        "All jobs in cluster 8 have been marked for removal\n"
    )
    assert parser.parse_cancel(
        text, "htcondor", returncode=1, requested=["5.0", "6.0", "7.0", "8", "9"]
    ) == {
        "5.0": "requested",
        "6.0": "not_found",
        "7.0": "permission",
        "8": "requested",
        "9": "transient",
    }


def test_machines_of_a_pool_are_sums_of_slots() -> None:
    slots = [
        {"Machine": "a", "State": "Claimed", "Cpus": 4, "Memory": 1024},
        {"Machine": "a", "State": "Unclaimed", "Cpus": 4, "Memory": 1024},
        {"Machine": "b", "State": "Unclaimed", "Cpus": 8, "Memory": 2048},
    ]
    nodes = parser.parse_nodes(json.dumps(slots), "htcondor")
    assert [(one.name, one.state, one.cpus, one.cpus_used) for one in nodes] == [
        ("a", "mixed", 8, 4),
        ("b", "idle", 8, 0),
    ]

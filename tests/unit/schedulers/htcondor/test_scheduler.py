"""HTCondor as its sources say: hostile texts, complete answers, refusals, what is submitted.

No pool can run here: the commands are stand-ins that print what the sources of HTCondor 25 print.
"""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import parser
from openssh_jobs.errors import (
    InputError,
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import CancelOutcome, JobState
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.helpers import examples
from tests.paths import DATA
from tests.unit.schedulers.frames import frame
from tests.unit.schedulers.htcondor.test_output import ad, totals

CONDOR = get("htcondor")
# File of the sources and first line of every error of condor_submit, with x and 7 as its arguments.
ERRORS = [line.split("\t") for line in (DATA / "htcondor-errors.txt").read_text().splitlines()]


def refusal(stderr: str, *, returncode: int = 1) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit("Submitting job(s)", "htcondor", stderr=stderr, returncode=returncode)
    return caught.value


# --------------------------------------------------------------------------- refused or uncertain


def test_every_error_of_condor_submit_is_a_refusal_but_that_of_the_commit() -> None:
    uncertain = [text for _, text in ERRORS if isinstance(refusal(f"\n{text}\n"), SubmitUnknown)]
    assert len(ERRORS) == 203
    assert uncertain == [
        "ERROR: Failed to commit job submission into the queue.",
        "ERROR: Failed to spool job files.",
    ]


def test_a_commit_that_the_schedd_has_answered_is_settled() -> None:
    error = refusal(
        "\nERROR: Failed to commit job submission into the queue.\n"
        "ERROR: Submit requirement NeedsGroup not met.\n\n"
    )
    assert (type(error), error.kind) == (SubmitRejected, "invalid_request")
    assert "NeedsGroup" in error.message


@pytest.mark.parametrize(
    ("stderr", "cls", "kind"),
    [
        (
            "\nERROR: Failed to connect to local queue manager\nCEDAR:6001:Failed to connect to "
            "<10.0.0.1:9618>\nSECMAN:2003:TCP connection to schedd timed out\n",
            SubmitRejected,
            "transient",
        ),
        (
            "\nERROR: Failed to connect to local queue manager\n"
            'SECMAN:2010:Received "DENIED" from server for user alice using method FS.\n',
            SubmitRejected,
            "permission",
        ),
        ("\nERROR: Can't find address of local schedd\n", SubmitRejected, "transient"),
        (
            "\nERROR: Failed to create proc\nNumber of submitted jobs would exceed "
            "MAX_JOBS_PER_SUBMISSION\n",
            SubmitRejected,
            "limit",
        ),
        (
            "\nERROR: MAX_JOBS_SUBMITTED exceeded. Current=9, Limit=9\nNumber of submitted jobs "
            "would exceed MAX_JOBS_SUBMITTED\n",
            SubmitLimit,
            "limit",
        ),
        ("\nERROR: User alice is disabled\nUser is disabled\n", SubmitRejected, "permission"),
    ],
)
def test_what_kind_of_refusal_it_is(stderr: str, cls: type[SchedulerError], kind: str) -> None:
    error = refusal(stderr)
    assert (type(error), error.kind) == (cls, kind)


# --------------------------------------------------------------------------- complete or not


def test_an_id_that_is_left_out_is_absent_only_if_the_totals_agree() -> None:
    jobs = json.dumps([ad(88, 0, 2)])
    assert CONDOR.parse_status(
        Answer(frame(("condor_q", jobs, 0), totals(1))), requested=["88.0", "99.0"]
    ).absent == ("99.0",)
    for section in (totals(2), ("condor_q-totals", "", 1), ("condor_q-totals", "what?", 0)):
        snapshot = CONDOR.parse_status(
            Answer(frame(("condor_q", jobs, 0), section)), requested=["88.0", "99.0"]
        )
        assert (snapshot.absent, snapshot.unknown) == ((), ("99.0",))
        assert snapshot["88.0"].state is JobState.RUNNING


def test_a_job_that_two_batches_list_is_counted_in_both() -> None:
    jobs = json.dumps([ad(88, 0, 2)])
    text = frame(("condor_q", jobs, 0), totals(1), ("condor_q", jobs, 0), totals(1))
    assert CONDOR.parse_status(Answer(text), requested=["88.0", "99"]).absent == ("99",)


def test_a_member_that_is_over_does_not_end_its_cluster() -> None:
    """Others may have left the queue in another way, or be still to come (max_materialize)."""
    text = frame(("condor_q", json.dumps([ad(88, 0, 4, ExitCode=5)]), 0), totals(1))
    snapshot = CONDOR.parse_status(Answer(text), requested=["88", "88.0", "88.1"])
    assert snapshot["88.0"].state is JobState.FAILED
    assert list(snapshot.known) == ["88.0"]
    assert (snapshot.absent, snapshot.unknown) == (("88.1",), ("88",))


@pytest.mark.parametrize("bad", ["5[1]", "5_1", "5.server", "5.0-4"])
def test_an_id_of_another_scheduler_is_not_sent(bad: str) -> None:
    for build in (CONDOR.status_script, CONDOR.history_script, CONDOR.cancel_script):
        with pytest.raises(InputError, match="not a job id of HTCondor"):
            build([bad])


@pytest.mark.parametrize("total", [("condor_q-totals", "", 1), ("condor_q-totals", "", 0)])
def test_an_empty_answer_with_status_0_is_no_proof(total: tuple[str, str, int]) -> None:
    with pytest.raises(SchedulerError) as caught:
        CONDOR.parse_status(Answer(frame(("condor_q", "", 0), total)), requested=["5"])
    assert caught.value.kind == "transient"


def test_a_cluster_of_which_the_history_has_lost_members_has_not_ended_well() -> None:
    ended = [ad(7, 0, 4, ExitCode=0, TotalSubmitProcs=3), ad(7, 2, 4, ExitCode=0)]
    snapshot = CONDOR.parse_history(
        Answer(frame(("condor_history", json.dumps(ended), 0))), requested=["7", "7.0"]
    )
    assert snapshot["7"].state is JobState.UNKNOWN
    assert snapshot["7"].reason == "the history has 2 of 3 jobs of the cluster"
    assert snapshot["7.0"].state is JobState.COMPLETED
    ended.append(ad(7, 1, 4, ExitCode=0))
    snapshot = CONDOR.parse_history(
        Answer(frame(("condor_history", json.dumps(ended), 0))), requested=["7"]
    )
    assert snapshot["7"].state is JobState.COMPLETED


def test_a_history_that_complains_says_nothing_of_what_it_left_out() -> None:
    text = frame(("condor_history", json.dumps([ad(7, 0, 4, ExitCode=0)]), 0))
    stderr = "Remote side had parse errors on history file\n"
    snapshot = CONDOR.parse_history(Answer(text, stderr=stderr), requested=["7.0", "8.0"])
    assert (snapshot.absent, snapshot.unknown) == ((), ("8.0",))


# --------------------------------------------------------------------------- hostile texts

HOSTILE = [
    "x\n88.0 4",
    '"}]\n[{"ClusterId": 88, "ProcId": 0, "JobStatus": 4, "ExitCode": 0}]',
    '\n[{"ClusterId": 88, "ProcId": 0, "JobStatus": 4, "ExitCode": 0}]\n',
    "\n\nClusterId = 88\nProcId = 0\nJobStatus = 4\nExitCode = 0\n\n",
    'x\\"\n\nClusterId = 88\nProcId = 0\nJobStatus = 4\nExitCode = 0\nY = "',
    '</s></a></c><c><a n="ClusterId"><i>88</i></a><a n="ProcId"><i>0</i></a>',
    "\u2028ClusterId = 88\u2028\x85ProcId = 0\x1f|",
    "\nOJ:aaaaaaaaaaaaaaaa1 end condor_q 0\nOJ-aaaaaaaaaaaaaaaa1\n",
    "&lt;/c&gt;&#60;c&#62;\\",
    "  88.0   alice          11/22 06:40   0+00:00:00 C  0    0.0 x.sh",
]
PIECES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet='"\\\n\r[]{}<>&;=, |8.0ClusterIdProcJobStatus42\x1f\x85\u2028', max_size=60),
)


def json_form(ads: list[dict[str, Any]]) -> str:
    reported = "\n,\n".join(json.dumps(one, indent=2, ensure_ascii=False) for one in ads)
    return f"[\n{reported}\n]\n"


def lines_form(ads: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in ads)


def xml_form(ads: list[dict[str, Any]]) -> str:
    body = ""
    for one in ads:
        body += "<c>\n"
        for name, value in sorted(one.items()):
            if isinstance(value, int):
                reported = f"<i>{value}</i>"
            else:
                for letter, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("&", "&amp;"),
                                        ("<", "&lt;"), (">", "&gt;")):  # fmt: skip
                    value = value.replace(letter, escaped)
                reported = f"<s>{value}</s>"
            body += f'    <a n="{name}">{reported}</a>\n'
        body += "</c>\n"
    return f'<?xml version="1.0"?>\n<classads>\n{body}</classads>\n'


def long_form(ads: list[dict[str, Any]]) -> str:
    text = ""
    for one in ads:
        for name, value in sorted(one.items()):
            quoted = str(value).replace('"', '\\"')
            text += f"{name} = {value}\n" if isinstance(value, int) else f'{name} = "{quoted}"\n'
        text += "\n"
    return text


def table_form(ads: list[dict[str, Any]]) -> str:
    head = "\n\n-- Schedd: a : <10.0.0.1:9618?... @ 11/22/26 06:48:44\n ID      OWNER  SUBMITTED\n"
    letters = " IRXCH>S"
    return head + "".join(
        f"{one['ClusterId']:4}.{one['ProcId']:<3} {one['Owner']:<14} 11/22 06:40   0+00:08:05 "
        f"{letters[one['JobStatus']]}  0    0.0 {one['Cmd']}\n"
        for one in ads
    )


@examples(300)
@given(
    PIECES, PIECES, st.sampled_from([json_form, lines_form, xml_form, long_form, table_form]),
    st.booleans(),
)  # fmt: skip
def test_the_texts_of_one_job_never_change_the_state_of_another(
    name: str, command: str, form: Any, last: bool
) -> None:
    mine = ad(88, 0, 2, Cmd="/bin/x")
    theirs = ad(89, 0, 1, Owner="eve", JobBatchName=name, Cmd=command, Out=name)
    text = form([mine, theirs] if last else [theirs, mine])
    try:
        snapshot = parser.parse_status(text, "htcondor", requested=["88.0"])
    except SchedulerError:
        return
    reported = snapshot["88.0"]
    assert reported.state in (JobState.RUNNING, JobState.UNKNOWN)
    if form in (json_form, lines_form, xml_form):
        assert reported.state is JobState.RUNNING
        framed = frame(("condor_q", text, 0), totals(2))
        assert (
            CONDOR.parse_status(Answer(framed), requested=["88.0"])["88.0"].state
            is JobState.RUNNING
        )


def test_an_attribute_that_is_an_ad_itself_is_no_job() -> None:
    forged = {"ClusterId": 88, "ProcId": 0, "JobStatus": 4, "ExitCode": 0}
    text = json.dumps([{**ad(89, 0, 1), "Mine": forged, "More": [forged]}])
    assert list(parser.parse_status(text, "htcondor").known) == ["89.0"]
    twice = '[{"ClusterId": 88, "ProcId": 0, "JobStatus": 2, "jobstatus": 4, "ExitCode": 0}]'
    snapshot = parser.parse_status(twice, "htcondor")
    assert (snapshot.known, len(snapshot.unparsed)) == ({}, 1)


# --------------------------------------------------------------------------- acting


def test_what_condor_rm_says_of_jobs_and_clusters() -> None:
    text = (
        "Job 1.0 not held to be released\nJob 2.0 cannot be released again, has reached "
        "SYSTEM_PERIODIC_RELEASES limit\nPermission denied to force removal of job 3.0\n"
        "Invalid result for job 4.0\nNo result found for job 5.0\nJob 6.0 something new\n"
        "Job 7.0 marked for removal after file transfer\n"
        "Job 8.0 already marked for forced removal\n"
    )
    assert parser.parse_cancel(
        text, "htcondor", requested=[f"{one}.0" for one in range(1, 10)]
    ) == {
        "1.0": CancelOutcome.INVALID_REQUEST,
        "2.0": CancelOutcome.INVALID_REQUEST,
        "3.0": CancelOutcome.PERMISSION,
        "4.0": CancelOutcome.INVALID_REQUEST,
        "5.0": CancelOutcome.TRANSIENT,
        "6.0": CancelOutcome.INVALID_REQUEST,
        "7.0": CancelOutcome.REQUESTED,
        "8.0": CancelOutcome.REQUESTED,
        "9.0": CancelOutcome.TRANSIENT,
    }


@pytest.mark.parametrize(
    ("before", "outcome"),
    [
        ("\n", "not_found"),
        ("CEDAR:6001:Failed to connect to <10.0.0.1:9618>\n", "transient"),
        ('SECMAN:2010:Received "DENIED" from server\n', "permission"),
        ("Permission denied to do this\n", "permission"),
        ("out of paper\n", "invalid_request"),
    ],
)
def test_why_a_cluster_could_not_be_removed(before: str, outcome: str) -> None:
    text = f"{before}Couldn't find/remove all jobs in cluster 9\n"
    assert parser.parse_cancel(text, "htcondor", requested=["9"]) == {"9": outcome}


# --------------------------------------------------------------------------- what is sent


def commands(tmp_path: Path, **programs: str) -> dict[str, str]:
    """An environment in which these programs are the given sh scripts."""
    for name, text in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}


def run_sh(script: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script], env=env, cwd=cwd, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


def test_the_status_script_asks_for_jobs_and_for_totals(tmp_path: Path) -> None:
    env = commands(
        tmp_path,
        condor_q='case "$*" in *-totals*) echo "Total for query: $N jobs; 0 completed";; '
        '*) printf %s "$OUT";; esac\n',
    )
    script = CONDOR.status_script(["88.0", "99"])
    for number, out, absent in (
        ("0", "", ("88.0", "99")),
        ("1", json.dumps([ad(88, 0, 2)]), ("99",)),
    ):
        done = run_sh(script, {**env, "N": number, "OUT": out}, tmp_path)
        snapshot = CONDOR.parse_status(
            Answer(done.stdout, stderr=done.stderr), requested=["88.0", "99"]
        )
        assert snapshot.absent == absent


def test_env_reaches_the_job_by_name_or_is_refused(tmp_path: Path) -> None:
    env = commands(tmp_path, condor_submit='printf "%s\\n" "$@"\n')
    (tmp_path / "job.sub").write_text("executable = x\nqueue\n")
    request = SubmitRequest(script="job.sub", env_names=("SECRET", "OTHER"))
    script = CONDOR.submit_script(request)
    done = run_sh(script, {**env, "SECRET": "hidden", "OTHER": "y"}, tmp_path)
    assert "getenv = SECRET, OTHER" in done.stdout.splitlines()
    assert "hidden" not in done.stdout
    for line in ("getenv = true", ' Environment = "A=1"', '+Env = "A=1"', "MY.Environment=x"):
        (tmp_path / "job.sub").write_text(f"executable = x\n{line}\nqueue\n")
        done = run_sh(script, env, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        with pytest.raises(SubmitRejected, match="getenv or environment"):
            parser.parse_submit(
                done.stdout, "htcondor", stderr=done.stderr, returncode=done.returncode
            )
    assert "getenv" not in CONDOR.submit_script(SubmitRequest(script="job.sub"))
    for option in ("getenv=true", "Environment = x", "+Env=1"):
        with pytest.raises(SchedulerError) as caught:
            CONDOR.submit_script(
                SubmitRequest(script="x", env_names=("A",), options=("-append", option))
            )
        assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(
    "wanted",
    [
        {"queue": "q"},
        {"time_limit": timedelta(hours=1)},
        {"nodes": 2},
        {"array": "1-3"},
        {"after_ok": ("5.0",)},
    ],
)
def test_what_a_submit_description_has_no_word_for_is_refused_by_name(
    wanted: dict[str, Any],
) -> None:
    with pytest.raises(SchedulerError) as caught:
        CONDOR.check_options(SubmitRequest(script="x", **wanted))
    assert caught.value.kind == "unsupported"
    assert next(iter(wanted)) in caught.value.message


def test_memory_has_its_unit() -> None:
    assert "request_memory = 2048MB" in CONDOR.submit_script(
        SubmitRequest(script="x", memory=2 * 2**30)
    )
    assert "request_memory = 1537MB" in CONDOR.submit_script(
        SubmitRequest(script="x", memory=1536 * 2**20 + 1)
    )

"""PBS on what a real OpenPBS answered: complete or not, arrays, paths, refusals, numbers below 0.

``openpbs-real.jsonl``: qstat and qsub as a user types them.  ``pbs-frames.jsonl``: the answers to
this library's own queries, with and without a job history.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import (
    InputError,
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.paths import DATA
from tests.unit.test_parser import status_of

PBS = get("pbs")


def records(name: str) -> dict[str, dict[str, Any]]:
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return {one["id"]: one for one in map(json.loads, lines)}


REAL = records("openpbs-real")
FRAMES = records("pbs-frames")


def real(number: str) -> dict[str, Any]:
    return next(one for name, one in REAL.items() if name.startswith(f"openpbs-real/{number}-"))


def frame(name: str) -> dict[str, Any]:
    return FRAMES[name]


def answer(record: dict[str, Any]) -> Answer:
    return Answer(record["stdout"], record["stderr"], record["returncode"])


# -- complete or not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, one in FRAMES.items() if one["expected"] is not None]
)
def test_the_answers_to_our_own_queries(name: str) -> None:
    record = frame(name)
    snapshot = PBS.parse_status(answer(record), requested=record["requested"])
    assert {one: str(job.state) for one, job in snapshot.known.items()} == record["expected"]
    assert (snapshot.error, snapshot.unparsed, snapshot.unknown) == (None, (), ())
    if record["requested"] is not None:
        assert set(snapshot.absent) == set(record["requested"]) - set(record["expected"])


@pytest.mark.parametrize(("number", "ids"), [("001", 3), ("004", 2), ("005", 2), ("007", 3)])
def test_jobs_that_json_leaves_out_are_unknown_and_not_gone(number: str, ids: int) -> None:
    record = real(number)
    wanted = list(record["expected"])
    assert len(wanted) == ids
    snapshot = status_of(record, "pbs", requested=wanted)
    assert len(snapshot.known) == 1
    assert snapshot.absent == ()
    assert set(snapshot.unknown) == set(wanted) - set(snapshot.known)


def test_without_history_an_answer_without_jobs_is_none() -> None:
    for number in ("070", "071", "073", "074"):
        for wanted in (None, ["251.pbs1"]):
            with pytest.raises(SchedulerError, match="not configured to maintain") as caught:
                status_of(real(number), "pbs", requested=wanted)
            assert caught.value.kind == "transient"


def test_members_do_not_speak_for_an_array_that_is_left_out() -> None:
    snapshot = status_of(real("014"), "pbs", requested=["240[].pbs1", "240[2].pbs1"])
    assert snapshot.unknown == ("240[].pbs1",)
    text = json.loads(real("014")["stdout"])
    text["Jobs"]["240[2].pbs1"].update(job_state="F", substate=91, Exit_status=271)
    found = parser.parse_status(json.dumps(text), "pbs", requested=["240[].pbs1"])
    assert found.unknown == ("240[].pbs1",)


def test_a_listing_that_leaves_out_what_qselect_names_is_an_error() -> None:
    record = frame("pbs-off/listing")
    lines = record["stdout"].split("\n")
    short = "\n".join(line for line in lines if not line.startswith("Job Id: 94.pbs1"))
    snapshot = PBS.parse_status(Answer(short, "", 0))
    assert snapshot.error is not None
    assert "94.pbs1" in snapshot.error.message


@pytest.mark.parametrize("tail", ["\n    }\n}\n", "\n    }\n", ",\n    }\n"])
def test_json_of_before_18_1_2(tail: str) -> None:
    job = (
        '        "%d.server":{\n            "Job_Name":"x",\n            "job_state":"%s",\n'
        '            "Variable_List":{\n                "A":"b"\n            }\n        }'
    )
    head = '{\n    "timestamp":1520247634,\n    "pbs_version":"17.1.0",\n    "pbs_server":"s",\n'
    jobs = ",\n".join('    "Jobs":{\n' + job % one for one in ((1, "R"), (2, "Q"), (3, "H")))
    snapshot = parser.parse_status(head + jobs + tail, "pbs", requested=["1", "2", "3", "4"])
    assert [str(snapshot[one].state) for one in "123"] == ["running", "pending", "held"]
    assert snapshot.unknown == ("4",)


@pytest.fixture
def fake_pbs(tmp_path: Path) -> Callable[..., str]:
    """Runs a query where ``qstat`` and ``qselect`` are these lines of sh."""

    def run(script: str, qstat: str, qselect: str = "exit 1") -> str:
        for name, text in (("qstat", qstat), ("qselect", qselect)):
            path = tmp_path / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/asked\n{text}\n')
            path.chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    return run


# As builds since December 2023 do it for JSON: of several ids only the first is printed.
FIRST_ONLY = """
form=plain ids=
while [ $# -gt 0 ]; do
  case $1 in -F) form=$2; shift ;; -D) d=$2; shift ;; -*) ;; *) ids="$ids $1" ;; esac
  shift
done
for id in $ids; do
  id=${id%.srv}
  case $id in 9*) echo "qstat: Unknown Job Id $id.srv" >&2; rc=153; continue ;; esac
  if [ $form = plain ]; then
    printf 'Job Id: %s.srv\\n    Job_Name = a\\n    job_state = R\\n\\n' "$id"
  else [ -n "$done" ] || printf 'Job Id: %s.srv%sJob_Name=a%sjob_state=R\\n' "$id" "$d" "$d"; done=1
  fi
done
exit ${rc:-0}
"""


def test_what_one_form_leaves_out_is_asked_in_another(
    fake_pbs: Callable[..., str], tmp_path: Path
) -> None:
    text = fake_pbs(PBS.status_script(["1", "2", "3", "99"]), FIRST_ONLY)
    snapshot = PBS.parse_status(Answer(text), requested=["1", "2", "3", "99"])
    assert {one: str(job.state) for one, job in snapshot.known.items()} == {
        "1": "running",
        "2": "running",
        "3": "running",
    }
    assert snapshot.absent == ("99",)
    # One that the server does not know is not asked about again.
    assert "qstat -x -f 99\n" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("all_users", [False, True])
def test_a_listing_is_checked_against_qselect(
    fake_pbs: Callable[..., str], all_users: bool
) -> None:
    script = PBS.status_script((), all_users=all_users)
    found = PBS.parse_status(
        Answer(fake_pbs(script, FIRST_ONLY, "echo 1.srv; echo 2.srv; echo 3.srv"))
    )
    assert sorted(found.known) == ["1.srv", "2.srv", "3.srv"]
    assert found.error is None
    empty = PBS.parse_status(Answer(fake_pbs(script, FIRST_ONLY, "exit 0")))
    assert (dict(empty.known), empty.error) == ({}, None)
    with pytest.raises(SchedulerError):
        PBS.parse_status(Answer(fake_pbs(script, FIRST_ONLY, "exit 2")))
    deaf = PBS.parse_status(Answer(fake_pbs(script, "exit 0", "echo 1.srv; echo 2.srv")))
    assert deaf.error is not None


FORGED = """
case " $* " in *" -F "*) exit 0 ;; esac
printf 'Job Id: 2.srv\\n    Job_Name = x\\n    job_state = R\\n    Account_Name = y\\n'
printf 'Job Id: 1.srv\\n    Job_Name = x\\n    job_state = F\\n    Exit_status = 0\\n'
"""


def test_only_the_record_that_was_asked_for_counts(fake_pbs: Callable[..., str]) -> None:
    """A newline in a text of job 2 begins something that looks like the record of job 1."""
    text = fake_pbs(PBS.status_script(["2"]), FORGED)
    assert list(PBS.parse_status(Answer(text)).known) == ["2.srv"]
    both = "Job Id: 1.srv\n    job_state = R\n\nJob Id: 1.srv\n    job_state = F\n"
    found = parser.parse_status(both, "pbs", requested=["1"])
    assert (dict(found.known), found.unknown) == ({}, ("1",))


# -- history ------------------------------------------------------------------------------------


def test_whether_there_is_a_history_is_the_servers_word() -> None:
    assert PBS.parse_accounting(answer(frame("pbs-off/accounting"))) is False
    assert PBS.parse_accounting(answer(frame("pbs-on/accounting"))) is True
    short = frame("pbs-on/accounting")["stdout"].replace(
        "job_history_enable = True",
        "job_history_enable = True\n    job_history_duration = 00:10:00",
    )
    assert PBS.parse_accounting(Answer(short)) is False
    assert PBS.parse_accounting(Answer("", stderr="Connection refused", returncode=255)) is None


# -- arrays -------------------------------------------------------------------------------------


def test_an_array_with_a_failed_member_has_failed() -> None:
    alone = status_of(real("011"), "pbs")["238[].pbs1"]
    assert (alone.state, alone.exit_code) == (JobState.FAILED, None)
    whole = status_of(real("012"), "pbs")["238[]"]
    assert (whole.state, whole.exit_code) == (JobState.FAILED, 7)
    assert str(whole.reason).startswith("3 members: 2 completed, 1 failed")
    assert status_of(real("015"), "pbs")["239[]"].state is JobState.FAILED


def test_an_array_runs_while_a_member_does() -> None:
    found = PBS.parse_status(answer(frame("pbs-on/status")))
    running = found["102[]"]
    assert (running.state, running.exit_code) == (JobState.RUNNING, None)
    assert running.reason == "3 members: 1 running, 2 ended"
    text = real("012")["stdout"].replace("job_state = F", "job_state = R", 2)
    text = text.replace("job_state = R", "job_state = F", 1)  # the record of the array itself
    assert parser.parse_status(text, "pbs")["238[]"].state is JobState.RUNNING


def test_the_record_of_an_array_is_not_that_of_its_members() -> None:
    """Without a history an ended member is shown with it, and with the exit status of another."""
    found = PBS.parse_status(answer(frame("pbs-off/lent-records")))
    assert found["69[]"].reason == "4 members: 1 running, 3 ended"
    for member in ("69[1]", "69[2]"):
        said = found[member]
        assert (said.state, said.exit_code, said.started) == (JobState.UNKNOWN, None, None)
        assert (said.source, said.raw_state) == ("accounting", "X")
        assert str(said.reason).startswith("it has ended; how is lost")
    text = frame("pbs-off/lent-records")["stdout"]
    for comment, state in (("failed", JobState.FAILED), ("terminated", JobState.CANCELLED)):
        other = text.replace("comment=Subjob finished", f"comment=Subjob {comment}")
        said = PBS.parse_status(Answer(other))["69[2]"]
        assert (said.state, said.exit_code) == (state, None)
    # No member of this array has run: this one was deleted.
    never = re.sub(r"Exit_status=[0-9]+\|[0-9a-f]+\|", "", text)
    assert PBS.parse_status(Answer(never))["69[2]"].state is JobState.CANCELLED


def test_an_array_that_is_held_is_held_although_its_members_are_queued() -> None:
    held = PBS.parse_status(answer(frame("pbs-off/lent-records")))["71[]"]
    assert (held.state, held.reason) == (JobState.HELD, "4 members: 4 pending")


@pytest.mark.parametrize("text", ["5", "5-5", "1,3", "0-9,12"])
def test_arrays_that_pbs_would_refuse(text: str) -> None:
    with pytest.raises(InputError, match="PBS takes no array"):
        PBS.submit_script(SubmitRequest(script="x", array=text))


@pytest.mark.parametrize("name", ["slurm", "sge", "pbs", "torque", "lsf"])
@pytest.mark.parametrize("text", ["5-1", "1-3:0", "1-200000", "1-", "a", "1,,2", "1-3%0", "1 -3"])
def test_arrays_are_checked_before_anything_is_sent(name: str, text: str) -> None:
    with pytest.raises(InputError, match="array"):
        get(name).submit_script(SubmitRequest(script="x", array=text))


def test_the_bound_of_arrays_can_be_raised() -> None:
    wanted = SubmitRequest(script="x", array="1-200000", max_array=200_000)
    assert "1-200000" in get("torque").submit_script(wanted)


# -- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("join-directory", ("/home/hpcalice/pbs/outd/97.pbs1.OU",) * 2),
        ("keep", ("/home/hpcalice/kept.o98", "/home/hpcalice/kept.e98")),
        (
            "array-directory",
            (
                "/home/hpcalice/pbs/outd/99[^array_index^].pbs1.OU",
                "/home/hpcalice/pbs/s.sh.e99.^array_index^",
            ),
        ),
    ],
)
def test_where_the_output_goes(name: str, paths: tuple[str, str]) -> None:
    detail = PBS.parse_detail(answer(frame(f"pbs-off/detail-{name}")))
    assert (detail.stdout_path, detail.stderr_path) == paths


def test_what_stands_for_the_index_is_a_name_where_there_is_no_array() -> None:
    assert PBS.actual_path("/d/g.^array_index^", "27.pbs1", None) == "/d/g.^array_index^"


def test_the_files_of_members() -> None:
    reported = "/home/hpcalice/pbs/outd/99[^array_index^].pbs1.OU"
    assert PBS.actual_path(reported, "99[2].pbs1", None) == "/home/hpcalice/pbs/outd/99[2].pbs1.OU"
    assert PBS.actual_path(reported, "99[].pbs1", None) is None
    assert PBS.usual_paths("99[2]", "x") == ("x.o99.2", "x.e99.2")
    joined = status_of(real("051"), "pbs")["248"]
    assert joined.stderr_path == joined.stdout_path == "/home/hpcalice/pbs/joined.o248"
    directory = status_of(real("052"), "pbs")["249"]
    assert directory.stdout_path == "/home/hpcalice/pbs/outdir/249.pbs1.OU"


# -- ends ---------------------------------------------------------------------------------------


def test_numbers_below_0_are_named_and_kept() -> None:
    aborted = status_of(real("061"), "pbs")["220"]
    assert aborted.state is JobState.NODE_FAIL
    assert str(aborted.reason).startswith("Exit_status -4: ")
    deleted = status_of(real("062"), "pbs")["218"]
    assert (deleted.state, deleted.exit_code) == (JobState.CANCELLED, None)
    assert "Exit_status -20" in str(deleted.reason)
    lost = real("062")["stdout"].replace('"substate":\t91', '"substate":\t93')
    assert parser.parse_status(lost, "pbs")["218"].state is JobState.NODE_FAIL


def test_odd_texts_forge_no_attributes() -> None:
    for number in ("057", "058"):
        found = status_of(real(number), "pbs", requested=["314"])
        reported = [job.state for job in found.known.values()]
        assert reported in ([JobState.HELD], [])
        assert found.absent == ()
    # A backslash before the delimiter is the end of a value, not a part of it.
    held = PBS.parse_status(answer(frame("pbs-off/status")))["94"]
    assert (held.state, held.account) == (JobState.HELD, "a\\\\")


# -- submitting ---------------------------------------------------------------------------------


REFUSED = [
    one for one in REAL.values() if "qsub" in one["command"] and one["returncode"] not in (0, None)
]


@pytest.mark.parametrize("record", REFUSED, ids=lambda one: str(one["id"]))
def test_what_qsub_refuses_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(SubmitRejected) as caught:
        PBS.parse_submit(answer(record))
    first = " ".join(record["stderr"].split("\n")[0].strip("\0").split())
    assert first in caught.value.message


def test_all_lines_of_a_hook_are_in_the_error() -> None:
    with pytest.raises(SubmitRejected) as caught:
        PBS.parse_submit(answer(real("037")))
    assert "line one" in caught.value.message
    assert "line two: no budget left for project multi" in caught.value.message
    # Whatever words it chooses.
    with pytest.raises(SubmitRejected):
        PBS.parse_submit(Answer("", stderr="qsub: the license check timed out\n", returncode=32))


def test_of_the_error_tables_only_lost_answers_are_uncertain() -> None:
    lines = (DATA / "pbs-errors.txt").read_text(encoding="utf-8").splitlines()[1:]
    uncertain: dict[str, list[str]] = {"pbs": [], "torque": []}
    counts = {"pbs": 0, "torque": 0}
    for name, text in (line.split("\t") for line in lines):
        counts[name] += 1
        form = "qsub: %s\n" if name == "pbs" else "qsub: submit error (%s)\n"
        try:
            get(name).parse_submit(Answer("", stderr=form % text, returncode=170))
        except SubmitRejected:
            continue
        except SubmitUnknown:
            uncertain[name].append(text)
    assert counts["pbs"] > 200
    assert counts["torque"] > 150
    assert uncertain["pbs"] == ["Batch protocol error", "Resource temporarily unavailable"]
    assert len(uncertain["torque"]) == 12
    assert {"Time out", "Premature End of File", "Socket close detected"} <= {*uncertain["torque"]}


def test_an_element_of_an_array_is_nothing_to_wait_for() -> None:
    """qsub says "illegal -W value", and 1,000 letters of usage."""
    with pytest.raises(InputError, match="one element"):
        PBS.submit_script(SubmitRequest(script="x", after_ok=("32[2].pbs1",)))
    whole = SubmitRequest(script="x", after_ok=("32[].pbs1",))
    assert "afterok:32[].pbs1" in PBS.submit_script(whole)


def test_who_holds_a_job() -> None:
    for who, cause in (("root", Cause.HELD_BY_ADMIN), ("hpcalice", Cause.HELD_BY_USER)):
        reason = f"Job held by {who} on Thu Nov 26 19:24:57 2026"
        held = JobStatus("103.pbs1", JobState.HELD, user="hpcalice", reason=reason)
        assert PBS.cause_of(held) is cause


def test_a_limit_passes() -> None:
    with pytest.raises(SubmitLimit):
        PBS.parse_submit(answer(real("042")))


def test_nodes_means_different_nodes() -> None:
    text = PBS.submit_script(SubmitRequest(script="x", nodes=2, cpus=1))
    assert "-l select=2:ncpus=1 -l place=scatter" in text
    assert "place" not in PBS.submit_script(SubmitRequest(script="x", nodes=1, cpus=1))
    own = SubmitRequest(script="x", nodes=2, options=("-l", "place=scatter:excl"))
    assert PBS.submit_script(own).count("place=") == 1


@pytest.mark.parametrize(
    ("name", "line", "wanted"),
    [
        ("pbs", "#PBS -l nodes=2:ppn=4", {"cpus": 2}),
        ("pbs", "#PBS -lmem=1gb -N x", {"cpus": 2}),
        ("pbs", "#PBS -l walltime=1:00:00,ncpus=4", {"memory": "4gb"}),
        ("pbs", "#PBS -l select=2:ncpus=8", {"memory": "4gb"}),
        ("pbs", "#PBS -l place=pack", {"nodes": 2}),
        ("torque", "#PBS -l nodes=2:ppn=4", {"cpus": 2}),
        ("torque", "#PBS -l ncpus=4", {"nodes": 2}),
    ],
)
def test_a_script_that_contradicts_the_request(
    name: str, line: str, wanted: dict[str, Any]
) -> None:
    request = SubmitRequest(script="x", **wanted)
    assert get(name).needs_script(request)
    with pytest.raises(InputError, match="contradicts"):
        get(name).check_script(request, f"#!/bin/sh\n{line}\ntrue\n".encode())
    # Behind the first command a line is no directive.
    get(name).check_script(request, f"#!/bin/sh\ntrue\n{line}\n".encode())


def test_a_script_that_does_not_contradict() -> None:
    request = SubmitRequest(script="x", cpus=2, time_limit="01:00:00")
    PBS.check_script(request, b"#!/bin/sh\n#PBS -l walltime=10\n#PBS -q short\n")
    get("torque").check_script(request, b"#!/bin/sh\n#PBS -l mem=1gb,walltime=10\n")
    with pytest.raises(InputError, match="contradicts"):
        PBS.check_script(SubmitRequest(script="x", cpus=2, options=("-l", "ncpus=4")), b"")


# -- the machine --------------------------------------------------------------------------------


def test_the_default_queue_is_marked() -> None:
    (queue,) = PBS.parse_queues(answer(frame("pbs-on/queues")))
    assert (queue.name, queue.is_default, queue.state) == ("workq", True, "up")


def test_an_ended_job_is_not_asked_again_to_end() -> None:
    for name in ("cancel", "hold"):
        record = frame(f"pbs-on/{name}")
        said = PBS.parse_cancel(answer(record), requested=record["requested"])
        assert {str(what) for what in said.values()} == {"not_found", "already_finished"}


def test_a_server_that_is_down_is_named() -> None:
    text = "Connection refused\nqstat: cannot connect to server pbs1 (errno=15010)\n"
    with pytest.raises(SchedulerError) as caught:
        PBS.parse_queues(Answer("", text, 255))
    assert caught.value.kind == "transient"
    assert "cannot connect to server pbs1" in caught.value.message

"""Torque on what a real one answered (its last master, keep_completed 300)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import InputError, SchedulerError, SubmitRejected, SubmitUnknown
from openssh_jobs.jobs import CancelOutcome, JobState
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.paths import DATA
from tests.unit.test_parser import status_of

TORQUE = get("torque")


def _records(name: str) -> list[dict[str, Any]]:
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


REAL = _records("torque-real")
# The answers to this library's own queries.
FRAMES = {one["id"].partition("/")[2]: one for one in _records("torque-frames")}


def answer(record: dict[str, Any]) -> Answer:
    return Answer(record["stdout"], record["stderr"], record["returncode"])


def real(number: str) -> dict[str, Any]:
    return next(one for one in REAL if one["id"].startswith(f"torque-real/{number}-"))


def test_every_kind_of_end() -> None:
    record = real("010")
    found = status_of(record, "torque", requested=list(record["expected"]))
    reported = {one: str(found[one].state) for one in record["expected"]}
    # TERM is what qdel sends, and what a job may send itself.
    assert reported.pop("127.trq1") == "unknown"
    assert reported == {
        key: value for key, value in record["expected"].items() if key != "127.trq1"
    }
    assert "TERM" in str(found["127"].reason)
    assert (found["118"].exit_code, found["122"].exit_code) == (3, 137)
    assert str(found["117"].reason).startswith("Exit_status -11: over its walltime")
    assert found["126"].reason == "it waits for afterok:116.trq1"
    assert found["116"].cpus == 1


@pytest.mark.parametrize("number", ["012", "013"])
def test_one_that_was_deleted_while_it_waited(number: str) -> None:
    found = status_of(real(number), "torque")["121.trq1"]
    assert found.state is JobState.CANCELLED
    assert "never started" in str(found.reason)


def test_the_record_of_an_array_says_nothing_of_its_end() -> None:
    for number, job_id in (("020", "124[]"), ("028", "179[]")):
        found = status_of(real(number), "torque")[job_id]
        assert (found.state, found.exit_code) == (JobState.UNKNOWN, None)
    held = status_of(real("023"), "torque")["125[]"]
    assert (held.state, held.reason) == (JobState.HELD, "2 members")


def test_the_answer_to_our_own_query() -> None:
    record = FRAMES["status"]
    found = TORQUE.parse_status(answer(record), requested=record["requested"])
    assert {one: str(job.state) for one, job in found.known.items()} == record["expected"]
    assert (found.absent, found.unknown, found.unparsed) == (("99999",), (), ())
    array = found["61[]"]
    assert (array.exit_code, array.reason) == (7, "3 members: 2 completed, 1 failed")
    assert found["62[]"].reason == "3 members: 1 failed, 2 running"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("array", "/home/hpcalice/pbs/ok.sh.o63-^array_index^"),
        ("kept", "/home/hpcalice/kept-1.o66"),
        ("variable", "/home/hpcalice/pbs/f.67.trq1"),
    ],
)
def test_where_the_output_goes(name: str, path: str) -> None:
    detail = TORQUE.parse_detail(answer(FRAMES[f"detail-{name}"]))
    assert detail.stdout_path == path
    assert detail.name in ("ok.sh", "kept-1", "s.sh")
    assert TORQUE.actual_path("a.o63-^array_index^", "63[2].trq1", None) == "a.o63-2"
    assert TORQUE.usual_paths("63[2]", "ok.sh") == ("ok.sh.o63-2", "ok.sh.e63-2")


@pytest.mark.parametrize("name", ["cancel", "hold"])
def test_what_is_over_or_unknown_is_not_asked_to_end_again(name: str) -> None:
    record = FRAMES[name]
    said = TORQUE.parse_cancel(answer(record), requested=record["requested"])
    assert [str(one) for one in said.values()] == ["not_found", "already_finished"]


def test_the_servers_own_word() -> None:
    assert TORQUE.parse_accounting(answer(FRAMES["accounting"])) is False
    (queue,) = TORQUE.parse_queues(answer(FRAMES["queues"]))
    assert (queue.name, queue.is_default) == ("batch", True)


FAKE = """case "$*" in
  "-t -x "*) cat "$DATA/members" ;;
  "-f "*) cat "$DATA/all" ;;
  *) echo "qstat: Unknown Job Id Error $2" >&2; exit 153 ;;
esac
"""


@pytest.mark.parametrize(
    ("members", "state", "code"),
    [("C", JobState.FAILED, 7), ("R", JobState.RUNNING, None), ("H", JobState.RUNNING, None)],
)
def test_the_state_of_an_array_follows_from_its_members(
    tmp_path: Path, members: str, state: JobState, code: int | None
) -> None:
    text = next(part for part in FRAMES["status"]["stdout"].split("OJ:") if "<Job_Id>61[1]" in part)
    text = "<?xml" + text.partition("<?xml")[2].replace("61[", "124[").rstrip()
    text = text.replace("<job_state>C<", f"<job_state>{members}<", 1)
    (tmp_path / "members").write_text(text)
    own = real("028")["stdout"].replace("179[]", "124[]")
    # What another user's text may hold does not get in between.
    (tmp_path / "all").write_text("Job Id: 1.trq1\n    job_state = R\n\n" + own)
    (tmp_path / "qstat").write_text("#!/bin/sh\n" + FAKE)
    (tmp_path / "qstat").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", TORQUE.status_script(["124[].trq1", "7"])],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    snapshot = TORQUE.parse_status(
        Answer(done.stdout, stderr=done.stderr), requested=["124[].trq1", "124[2]", "7"]
    )
    array = snapshot["124[].trq1"]
    assert (array.state, array.exit_code) == (state, code)
    assert snapshot.absent == ("7",)
    assert snapshot["124[2]"].exit_code == 7
    assert "1.trq1" not in snapshot.known


def test_a_requeued_job_runs_and_is_counted() -> None:
    found = status_of(real("073"), "torque")["181"]
    assert (found.state, found.exit_code, found.restarts) == (JobState.RUNNING, None, 1)


def test_cores_are_counted_by_node() -> None:
    text = real("071")["stdout"].replace("nodes = 1", "nodes = 2:ppn=4+1:ppn=2:big")
    assert status_of({**real("071"), "stdout": text}, "torque")["143"].cpus == 10


def test_dependencies_on_arrays_have_a_word_of_their_own() -> None:
    request = SubmitRequest(script="x", after_ok=("1", "124[].trq1"), after_any=("5[]",))
    text = TORQUE.submit_script(request)
    assert "depend=afterok:1,afterokarray:124[].trq1,afteranyarray:5[]" in text
    assert "afterok:1:124[].trq1" in get("pbs").submit_script(request)


@pytest.mark.parametrize("text", ["1-9:2", "999999990-999999999", "200000"])
def test_arrays_that_torque_would_refuse_or_choke_on(text: str) -> None:
    """By its sources: no step, and memory for every index up to the largest."""
    with pytest.raises(InputError, match="Torque"):
        TORQUE.submit_script(SubmitRequest(script="x", array=text))
    assert "-t 1,3,5-9%2" in TORQUE.submit_script(SubmitRequest(script="x", array="1,3,5-9%2"))
    wide = SubmitRequest(script="x", array="200000", max_array=200_000)
    assert "-t 200000" in TORQUE.submit_script(wide)


@pytest.mark.parametrize(
    ("number", "what"),
    [
        ("040", CancelOutcome.ALREADY_FINISHED),
        ("041", CancelOutcome.NOT_FOUND),
        ("043", CancelOutcome.NOT_FOUND),
        ("044", CancelOutcome.ALREADY_FINISHED),
        ("045", CancelOutcome.INVALID_REQUEST),
        ("083", CancelOutcome.TRANSIENT),
    ],
)
def test_only_what_passes_is_asked_again(number: str, what: CancelOutcome) -> None:
    record = real(number)
    job_id = record["command"].split()[1]
    mark = "OJ:ab "
    text = (
        f"OJ+ab\n{mark}begin act {job_id}\n{record['stderr']}{record['stdout']}\n"
        f"{mark}end act {job_id} {record['returncode']}\nOJ-ab\n"
    )
    assert TORQUE.parse_cancel(Answer(text), requested=[job_id]) == {job_id: what}


@pytest.mark.parametrize(
    "record",
    [one for one in REAL if "qsub" in one["command"] and one["returncode"]],
    ids=lambda one: str(one["id"]),
)
def test_what_qsub_refuses_is_refused(record: dict[str, Any]) -> None:
    facts = {key: record[key] for key in ("stdout", "stderr", "returncode")}
    # The server had the request, and crashed.
    cls = SubmitUnknown if "End of File" in record["stderr"] else SubmitRejected
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(facts.pop("stdout"), "torque", **facts)
    assert type(caught.value) is cls or issubclass(type(caught.value), cls)


def test_nodes_have_numbers() -> None:
    (node,) = parser.parse_nodes(real("060")["stdout"], "torque")
    assert (node.state, node.cpus, node.cpus_used, node.load) == ("mixed", 8, 1, 0.02)
    assert node.memory == 24683656 * 1024
    assert node.memory_free == 23671100 * 1024
    two = real("060")["stdout"].replace("3/116.trq1", "0-1,4/180.trq1, 7/181.trq1")
    (node,) = parser.parse_nodes(two, "torque")
    assert node.cpus_used == 4


def test_whether_ended_jobs_are_remembered() -> None:
    server = "Server: trq1\n    server_state = Active\n    default_queue = batch\n"
    assert TORQUE.parse_accounting(Answer(server)) is False
    assert TORQUE.parse_accounting(Answer(server + "    keep_completed = 300\n")) is False
    assert TORQUE.parse_accounting(Answer(server + "    keep_completed = 604800\n")) is True
    assert TORQUE.parse_accounting(Answer("qstat: whatever", returncode=1)) is None


def test_queues_are_read_over_folded_lines() -> None:
    queues = {one.name: one for one in parser.parse_queues(real("062")["stdout"], "torque")}
    states = {name: queues[name].state for name in ("short", "off", "stopped")}
    assert states == {"short": "up", "off": "drained", "stopped": "down"}


def test_a_table_without_the_domain_of_the_server() -> None:
    head = "Job ID                    Name             User            Time Use S Queue\n"
    rule = "------------------------- ---------------- --------------- -------- - -----\n"
    row = "6058223.brown-adm         x                alice                  0 Q debug\n"
    asked = "6058223.brown-adm.rcac.example.edu"
    snapshot = parser.parse_status(
        f"\n{head}{rule}{row}", "torque", command=f"qstat {asked}", requested=[asked]
    )
    assert {key: str(one.state) for key, one in snapshot.known.items()} == {asked: "pending"}


@pytest.mark.parametrize(
    "text", ["qsub: Invalid credential", "qsub: submit error (Invalid credential)"]
)
def test_a_credential_that_munge_did_not_give_passes(text: str) -> None:
    with pytest.raises(SubmitRejected) as caught:
        parser.parse_submit("", "torque", stderr=f"{text}\n", returncode=173)
    assert caught.value.kind == "transient"


def test_the_server_of_a_new_job_may_begin_with_a_digit() -> None:
    assert parser.parse_submit("4711.10gbe-srv\n", "torque") == "4711.10gbe-srv"

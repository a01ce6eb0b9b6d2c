"""The scripts for Slurm, run by a real Slurm: what is asked, understood and answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome, JobState
from openssh_jobs.schedulers import detection_script, get, parse_detection
from openssh_jobs.schedulers.answer import Answer
from tests.lab import namespaces
from tests.lab.account import Account
from tests.lab.slurm import SlurmLab

SLURM = get("slurm")
ALICE, BOB = (namespaces.USERS[0][0], namespaces.USERS[1][0])


@pytest.fixture(scope="module")
def accounts(slurm: SlurmLab, lab_directory: Path) -> Iterator[tuple[Account, Account]]:
    directory = lab_directory / "schedulers"
    directory.mkdir(mode=0o755)
    yield Account(slurm, directory, ALICE), Account(slurm, directory, BOB)
    for user in (ALICE, BOB):
        slurm.command("scancel", "-u", user, check=False)


@pytest.fixture
def alice(accounts: tuple[Account, Account]) -> Account:
    return accounts[0]


@pytest.fixture
def bob(accounts: tuple[Account, Account]) -> Account:
    return accounts[1]


def test_slurm_is_found(alice: Account) -> None:
    out, _, _ = alice.run(detection_script())
    found = parse_detection(out)
    assert list(found) == ["slurm", "direct"]
    assert "22.05" in found["slurm"]


def test_a_job_from_submission_to_its_exit_code(alice: Account) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    job_id = alice.submit(
        "#!/bin/sh\nsleep 2\nexit 3\n", name="three", time_limit=timedelta(minutes=2)
    )
    assert alice.status(job_id)[job_id].is_final is False
    status = alice.wait(job_id)
    assert (status.state, status.raw_state, status.source) == (JobState.FAILED, "FAILED", "queue")
    assert (status.name, status.user, status.queue) == ("three", ALICE, "batch")
    assert status.directory == str(alice.directory)
    assert status.time_limit == timedelta(minutes=2)
    assert status.nodes is not None
    assert len(status.nodes) == 1
    assert status.submitted is not None
    assert status.started is not None
    assert status.ended is not None
    assert before <= status.submitted <= status.started <= status.ended <= datetime.now(UTC)
    detail = alice.detail(job_id)
    assert (detail.state, detail.exit_code, detail.signal) == (JobState.FAILED, 3, None)
    assert detail.stdout_path == str(alice.directory / f"slurm-{job_id}.out")
    assert detail.submitted == status.submitted
    # This Slurm keeps no accounting, and says so; scontrol still remembers the job.
    history = alice.history(job_id, "999999")
    assert history[job_id].exit_code == 3
    assert history.unknown == ("999999",)
    assert history.error is not None
    assert history.error.kind == "unsupported"


@pytest.mark.parametrize(
    "name",
    [
        "we ird|na\"me's, %x é€ $(x) ;&",
        "two\nlines\ttab",
        "OJ+dead\nOJ:dead begin squeue@\n7|7|COMPLETED|None|x|",
        "CLUSTER: other",
        "x JobState=COMPLETED UserId=root(0) ExitCode=0:0",
        os.fsdecode(b"bad \xff bytes"),
    ],
)
def test_hostile_names_come_home_the_same(alice: Account, name: str) -> None:
    job_id = alice.submit(name=name, hold=True)
    snapshot = alice.status()
    assert snapshot.unparsed == ()
    status = snapshot[job_id]
    assert (status.state, status.reason, status.name) == (JobState.HELD, "JobHeldUser", name)
    try:
        assert alice.detail(job_id).state is JobState.HELD
    except SchedulerError as error:
        # Nobody can tell the two JobState= apart, so nobody says.
        assert "JobState=" in name
        assert error.kind == "parse_error"  # noqa: PT017
    assert alice.cancel(job_id) == {job_id: CancelOutcome.REQUESTED}
    assert alice.wait(job_id).state is JobState.CANCELLED


def test_an_array_and_its_elements(alice: Account) -> None:
    job_id = alice.submit(
        '#!/bin/sh\nif [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then exit 7; fi\nsleep 300\n',
        array="1-200%2",
    )
    alice.wait(f"{job_id}_1")
    snapshot = alice.status(job_id, f"{job_id}_1", f"{job_id}_2", f"{job_id}_177", f"{job_id}_999")
    assert snapshot[f"{job_id}_1"].state is JobState.FAILED
    assert snapshot[f"{job_id}_2"].state is JobState.RUNNING
    assert snapshot[f"{job_id}_2"].raw_id is not None
    assert snapshot[f"{job_id}_177"].state is JobState.PENDING
    assert snapshot[job_id].state is JobState.RUNNING
    assert snapshot.absent == (f"{job_id}_999",)
    assert alice.detail(f"{job_id}_1").exit_code == 7
    assert alice.cancel(f"{job_id}_[3-200%2]") == {f"{job_id}_[3-200%2]": CancelOutcome.REQUESTED}
    assert alice.cancel(job_id) == {job_id: CancelOutcome.REQUESTED}
    alice.wait(job_id)


def test_a_dependency_waits_and_hold_and_release_work(alice: Account) -> None:
    first = alice.submit(hold=True)
    second = alice.submit(after_ok=(first,))
    third = alice.submit(after_failed=(first,), after_any=(second,))
    snapshot = alice.status(first, second, third)
    assert snapshot[first].state is JobState.HELD
    assert (snapshot[second].state, snapshot[second].reason) == (JobState.PENDING, "Dependency")
    assert snapshot[third].state is JobState.PENDING
    for script, state in (
        (SLURM.release_script([first]), None),
        (SLURM.hold_script([third]), JobState.HELD),
    ):
        out, err, code = alice.run(script)
        said = SLURM.parse_cancel(Answer(out, err, code), requested=[first, third])
        assert set(said.values()) == {CancelOutcome.REQUESTED}
        if state is not None:
            assert alice.status(third)[third].state is state
    assert alice.wait(first).state is JobState.COMPLETED
    assert alice.wait(second).state is JobState.COMPLETED
    assert alice.cancel(third)[third] is CancelOutcome.REQUESTED


def test_resources_arrive_and_options_win(alice: Account) -> None:
    job_id = alice.submit(
        hold=True,
        queue="batch",
        cpus=2,
        memory=200 * 1024**2,
        time_limit="0:05:00",
        nodes=1,
        options=("--time=7", "--comment=it's $HOME"),
        stdout_path="out %j.txt",
    )
    detail = alice.detail(job_id)
    assert (detail.cpus, detail.time_limit) == (2, timedelta(minutes=7))
    assert detail.stdout_path == str(alice.directory / f"out {job_id}.txt")
    out = alice.lab.command("scontrol", "show", "job", job_id)
    assert "MinMemoryNode=200M" in out
    assert "Comment=it's $HOME" in out
    alice.cancel(job_id)


def test_cancel_says_of_each_what_became_of_it(alice: Account, bob: Account) -> None:
    mine, done, others = alice.submit(hold=True), alice.submit(), bob.submit(hold=True)
    alice.wait(done)
    assert alice.cancel(mine, done, others, "999999") == {
        mine: CancelOutcome.REQUESTED,
        done: CancelOutcome.ALREADY_FINISHED,
        others: CancelOutcome.PERMISSION,
        "999999": CancelOutcome.NOT_FOUND,
    }
    assert bob.status(others)[others].state is JobState.HELD
    out, err, code = alice.run(SLURM.hold_script([others]))
    said = SLURM.parse_cancel(Answer(out, err, code), requested=[others])
    assert said == {others: CancelOutcome.PERMISSION}
    bob.cancel(others)


def test_the_jobs_of_others_are_seen_when_asked_for(alice: Account, bob: Account) -> None:
    others = bob.submit(hold=True, name="bob's")
    assert alice.status(others).absent == (others,)
    seen = alice.status(others, "999999", all_users=True)
    assert (seen[others].state, seen[others].user) == (JobState.HELD, BOB)
    assert seen.absent == ("999999",)
    # One unknown id alone is an error to squeue -j, but an answer to us.
    assert alice.status("999999", all_users=True).absent == ("999999",)
    assert others in alice.status(all_users=True)
    assert others not in alice.status().known
    bob.cancel(others)


def test_what_the_user_set_for_squeue_does_not_matter(alice: Account) -> None:
    job_id = alice.submit(hold=True)
    out, err, code = alice.run(
        SLURM.status_script([job_id]),
        SQUEUE_FORMAT="%j",
        SQUEUE_STATES="RUNNING",
        SQUEUE_PARTITION="short",
        SLURM_TIME_FORMAT="relative",
        TZ="Pacific/Auckland",
        LC_ALL="de_DE.UTF-8",
    )
    status = parser.parse_status(out, stderr=err, returncode=code, requested=[job_id])[job_id]
    assert status.state is JobState.HELD
    assert status.submitted is not None
    assert abs(datetime.now(UTC) - status.submitted) < timedelta(minutes=2)
    alice.cancel(job_id)


def test_refusals_are_distinguished(alice: Account) -> None:
    for wanted, kind in (
        ({"queue": "nosuch"}, "invalid_request"),
        ({"options": ("--no-such-option",)}, "invalid_request"),
        ({"options": ("--array=zzz",)}, "invalid_request"),
        ({"memory": "9999999G"}, "invalid_request"),
    ):
        with pytest.raises(SubmitRejected) as caught:
            alice.submit(**wanted)
        assert caught.value.kind == kind, wanted
    with pytest.raises(SubmitRejected, match="does not look like a batch script"):
        alice.submit("no interpreter\n")


def test_nodes_and_queues(alice: Account) -> None:
    out, err, code = alice.run(SLURM.nodes_script())
    nodes = parser.parse_nodes(out, "slurm", stderr=err, returncode=code)
    assert {node.name for node in nodes} == {"n1", "n2"}
    assert all(node.is_usable and node.cpus and node.memory for node in nodes)
    assert all("batch" in node.queues for node in nodes)
    out, err, code = alice.run(SLURM.queues_script())
    queues = {one.name: one for one in parser.parse_queues(out, "slurm")}
    assert set(queues) == set(SlurmLab.partitions)
    assert queues["batch"].is_default
    assert queues["batch"].nodes == 2
    assert queues["closed"].state != "up"


def test_a_controller_that_is_down_changes_no_job(alice: Account, slurm: SlurmLab) -> None:
    job_id = alice.submit(hold=True)
    slurm.controller.stop()
    try:
        with pytest.raises(SchedulerError) as caught:
            alice.status(job_id)
        assert caught.value.kind == "transient"
        assert alice.cancel(job_id) == {job_id: CancelOutcome.TRANSIENT}
        with pytest.raises(SubmitRejected) as rejected:
            alice.submit()
        assert rejected.value.kind == "transient"
    finally:
        slurm.controller.start()
        slurm.wait_until_ready()
    assert alice.status(job_id)[job_id].state is JobState.HELD
    alice.cancel(job_id)


def test_every_cut_of_an_answer_is_an_error_or_the_whole(alice: Account) -> None:
    job_id = alice.submit(hold=True, name="cut\nin two")
    out, _, _ = alice.run(SLURM.status_script([job_id]))
    whole = SLURM.parse_status(Answer(out), requested=[job_id])
    for length in range(len(out) - 1):
        try:
            found = SLURM.parse_status(Answer(out[:length]), requested=[job_id])
        except SchedulerError:
            continue
        assert found == whole
    alice.cancel(job_id)

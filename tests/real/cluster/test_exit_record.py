"""Jobs of a real Slurm without accounting that write down themselves how they ended."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, Job, JobState
from openssh_jobs.errors import ConfigurationError, SchedulerError, SubmitRejected
from tests.cli import program
from tests.lab.room import FORGETFUL, Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.lab.wrappers import prologue

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def room(slurm: SlurmLab, sshd: Host, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", slurm, tmp_path) as room:
        yield room


@pytest.fixture
def forgetful(room: Room) -> Iterator[Cluster]:
    """The same cluster for a Slurm that has forgotten every job."""
    for name, body in FORGETFUL.items():
        room.program(name, body)
    with room.another(poll_interval=0.1, grace=0.5) as cluster:
        yield cluster


def seen_anew(room: Room, forgetful: Cluster, job: Job) -> Any:
    """The status of a job where neither queue nor history knows it."""
    room.cluster.journal.change(
        room.cluster.host, str(job.token), state="running", exit_code=None, nodes=None, reason=None
    )
    return forgetful.job(job.id).status()


def is_wrapped(room: Room, job: Job) -> bool:
    return (room.path / ".openssh_jobs" / str(job.token) / ".script").is_dir()


# -- who gets one -----------------------------------------------------------------------------


def test_where_there_is_no_accounting_jobs_are_wrapped(room: Room) -> None:
    journal, host = room.cluster.journal, room.cluster.host
    job = room.submit("true", hold=True)
    assert is_wrapped(room, job)
    assert journal.fact(host, "accounting of slurm", max_age=60) == "no"
    assert not is_wrapped(room, room.submit("true", record_exit=False, hold=True))
    journal.remember_fact(host, "accounting of slurm", "yes")
    assert not is_wrapped(room, room.submit("true", hold=True)), "remembered, not asked again"
    assert is_wrapped(room, room.submit("true", record_exit=True, hold=True))
    with pytest.raises(ConfigurationError, match="record_exit"):
        room.submit("true", record_exit="always")


def test_an_odd_answer_of_sacct_is_not_remembered(room: Room) -> None:
    room.program("sacct", "echo 'sacct: error: Connection refused' >&2; exit 1")
    with room.another() as cluster:
        job = cluster.submit(script_text="#!/bin/sh\n", directory=room.here, hold=True)
        assert not is_wrapped(room, job)
        assert cluster.journal.fact(cluster.host, "accounting of slurm", max_age=60) is None


def test_it_is_asked_for_on_the_command_line(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    where = room.path.relative_to(room.host.home)
    way = ["-F", str(room.host.config), "--scheduler", "slurm", room.host.alias]
    for asked, wrapped in (([], True), (["yes"], True), (["no"], False), (["auto"], True)):
        words = [word for one in asked for word in ("--record-exit", one)]
        place = f"{where}/{'-'.join(asked)}"
        done = program("submit", "--hold", *words, *way, place, "--script", str(script))
        assert (done.code, done.err) == (0, "")
        found = list((room.host.home / place).glob(".openssh_jobs/*/.script"))
        assert len(found) == int(wrapped)
        assert program("cancel", *way, done.out.strip()).code == 0
    done = program("submit", "--record-exit", "never", *way, str(where), "--script", str(script))
    assert done.code == 2
    assert "--record-exit" in done.err


def test_no_launcher_where_there_is_none(sshd: Host, tmp_path: Path) -> None:
    with open_room(sshd, "direct", None, tmp_path) as room:
        job = room.submit("exit 3", record_exit=True)
        assert job.wait(timeout=60).exit_code == 3
        assert not is_wrapped(room, job), "it has a marker of its own"
    with Cluster(
        sshd.alias, ssh_config=sshd.config, scheduler="htcondor", journal=str(tmp_path / "j")
    ) as cluster:
        with pytest.raises(SchedulerError, match="record_exit=True") as caught:
            cluster.submit(script_text="executable = /bin/true\n", record_exit=True)
        assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
        assert cluster.journal.rows() == []


# -- the same job -----------------------------------------------------------------------------

# What differs between any two submissions of one script.
_OWN = re.compile(
    r"\b(?:JobId|ArrayJobId|Priority|\w+Time|LastSchedEval)=[0-9]\S*|\bAllocNode:Sid=\S*"
    # Not known until the scheduler has looked at the job.
    r"|\bAccrueTime=\S*|\b(?:Command|StdErr|StdOut)=.*"
)
RICH = """\
#!/bin/bash -e
# about
#SBATCH --job-name="a job" --comment=why
#SBATCH -t 3
   # indented, and an empty line

#SBATCH --mem=77M
#PBS -l walltime=00:01:00
#SBATCH --begin=now+1hour --signal=B:USR1@30
#SBATCH --open-mode=append -o out.%j
echo here
#SBATCH --exclusive
"""


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"name": "other", "cpus": 2, "options": ["--time=2", "--mail-type=END"]},
        {"array": "1-5:2%1"},
    ],
)
def test_slurm_understands_the_same(room: Room, asked: dict[str, Any]) -> None:
    room.make("my script.sh", RICH)
    said = []
    for record_exit in (False, True):
        job = room.cluster.submit(
            "my script.sh", directory=room.here, hold=True, record_exit=record_exit, **asked
        )
        assert is_wrapped(room, job) is record_exit
        assert room.slurm is not None
        text = room.slurm.command("scontrol", "show", "job", job.id)
        command = re.search(r"^ *Command=(.*)$", text, re.MULTILINE)
        assert command is not None
        assert command[1] == f"{room.here}/.openssh_jobs/{job.token}/my script.sh"
        said.append(_OWN.sub("", text))
    assert said[0] == said[1]
    assert "MinMemoryNode=77M" in said[0]
    assert "Comment=why" in said[0]
    assert "OverSubscribe=OK" in said[0]


def test_slurm_refuses_the_same(room: Room) -> None:
    for text in ("echo no interpreter\n", "#!/bin/sh\r\ntrue\r\n", "#!/bin/sh\n#SBATCH --nope\n"):
        said = []
        for record_exit in (False, True):
            with pytest.raises(SubmitRejected) as caught:
                room.cluster.submit(script_text=text, directory=room.here, record_exit=record_exit)
            said.append((caught.value.kind, caught.value.message, caught.value.stderr))
        assert said[0] == said[1]
    assert room.private() == []


LOOK = """\
#!/usr/bin/env python3
import os, sys
names = [n for n in os.environ if not n.startswith("SLURM_") or n == "SLURM_SUBMIT_DIR"]
print(sorted((n, os.environ[n]) for n in names if n != "_"))
print(sys.argv[1:], os.path.basename(sys.argv[0]), os.getcwd(), sys.stdin.read())
print(sorted(os.listdir("/proc/self/fd")), os.umask(0))
sys.exit(3)
"""


def test_the_script_sees_the_same(room: Room) -> None:
    said = []
    for record_exit in (False, True):
        job = room.cluster.submit(
            script_text=LOOK,
            directory=room.here,
            record_exit=record_exit,
            env={"A": "b c\nd"},
        )
        status = job.wait(timeout=60)
        assert (status.state, status.exit_code) == (JobState.FAILED, 3)
        said.append("".join(job.tail()).replace(str(job.token), "TOKEN"))
    assert said[0] == said[1]
    assert "slurm_script" in said[0]
    assert "('A', 'b c\\nd')" in said[0]
    assert "LC_ALL" not in said[0]


# -- the end, by its exit record ------------------------------------------------------------------


def test_codes_when_all_else_has_forgotten(room: Room, forgetful: Cluster) -> None:
    jobs = {code: room.submit(f"exit {code}") for code in (0, 3, 137)}
    jobs[4] = room.cluster.submit(
        script_text="#!/usr/bin/env python3\nimport sys\nsys.exit(4)\n", directory=room.here
    )
    room.cluster.wait(list(jobs.values()), timeout=60)
    for code, job in jobs.items():
        assert job.exit_code == code
        assert job.last.source != "marker", "the queue still knew"
        status = seen_anew(room, forgetful, job)
        assert status.state is (JobState.FAILED if code else JobState.COMPLETED)
        assert (status.exit_code, status.source) == (code, "marker")
        assert status.signal == (9 if code == 137 else None)
        assert status.nodes is not None
        assert status.nodes[0] in ("n1", "n2")
        row = room.cluster.journal.by_job(room.cluster.host, job.id)
        assert row is not None
        assert (row.state, row.exit_code) == (str(status.state), code)


def test_a_controller_that_was_set_up_again(room: Room) -> None:
    """It really knows nothing of the job any more, and says so in its own words."""
    slurm, cluster = room.slurm, room.cluster
    assert slurm is not None
    job = room.submit("exit 9")
    gone = room.submit("exit 9", record_exit=False)
    job.wait(timeout=60)
    gone.wait(timeout=60)
    configuration = Path("/etc/slurm/slurm.conf")
    before = configuration.read_text()
    slurm.controller.stop()
    for path in (slurm.directory / "state").glob("job_state*"):
        path.unlink()
    # The nodes would not start an id twice.
    configuration.write_text(f"{before}FirstJobId={int(gone.id) + 1}\n")
    try:
        slurm.controller.start()
        slurm.wait_until_ready()
    finally:
        configuration.write_text(before)
    for one in (job, gone):
        cluster.journal.change(cluster.host, str(one.token), state="running", exit_code=None)
    with Cluster(
        room.host.alias, ssh_config=room.host.config, scheduler="slurm", poll_interval=0.1,
        grace=0.3, journal=cluster.journal.path,
    ) as other:  # fmt: skip
        status = other.job(job.id).status()
        assert (status.state, status.exit_code) == (JobState.FAILED, 9)
        assert status.source == "marker"
        (unknown,) = other.wait([gone.id], timeout=30)
        assert unknown.state is JobState.UNKNOWN
        assert "submitted without a launcher" in str(unknown.reason)
        assert "history" in str(unknown.reason)
    assert room.submit("true").wait(timeout=60).state is JobState.COMPLETED


def test_arrays(room: Room, forgetful: Cluster) -> None:
    job = room.submit("exit $((SLURM_ARRAY_TASK_ID - 1))", array="1-3")
    forgetful.job(job.id)
    room.until(
        job,
        lambda: len(list(room.path.rglob("exit.*"))) == 3,
        "the markers of three members",
    )
    for member, code in (("1", 0), ("2", 1), ("3", 2)):
        status = forgetful.job(f"{job.id}_{member}").status()
        assert (status.exit_code, status.source) == (code, "marker")
    assert forgetful.job(f"{job.id}_4").status().state is JobState.UNKNOWN
    whole = seen_anew(room, forgetful, job)
    assert (whole.state, whole.exit_code) == (JobState.FAILED, 2)
    held = room.submit("true", array="1-2")
    room.until(held, lambda: held.status().is_final, "the end of an array")
    (marker, _) = sorted((room.path / ".openssh_jobs" / str(held.token)).glob("exit.*"))
    marker.unlink()
    part = seen_anew(room, forgetful, held)
    assert part.state is JobState.UNKNOWN, "not all of it has ended"


HEARS = """trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready
while :; do sleep 0.1; done"""


def output(job: Job) -> list[str]:
    try:
        return list(job.tail())
    except FileNotFoundError:
        return []


def has_grown(job: Job, before: list[str]) -> bool:
    return len(output(job)) > len(before)


def test_signals_reach_the_script_once(room: Room, forgetful: Cluster) -> None:
    slurm = room.slurm
    assert slurm is not None
    job = room.submit(HEARS)
    room.until(job, lambda: output(job) == ["ready\n"], "the start")
    for way in (["--batch"], ["--full"]):
        before = output(job)
        slurm.command("scancel", *way, "--signal=USR1", job.id, user=room.host.user)
        room.until(job, partial(has_grown, job, before), "a signal")
        time.sleep(0.4)
        # --full also ends the script's own sleep, of which its shell may print a message.
        heard = [line for line in output(job)[len(before) :] if line in ("usr1\n", "term\n")]
        assert heard == ["usr1\n"]
    job.cancel()
    assert job.wait(timeout=60).state is JobState.CANCELLED
    room.until(job, lambda: list(room.path.rglob("exit.*")) != [], "the marker")
    assert [line for line in output(job) if line == "term\n"] == ["term\n"]
    status = seen_anew(room, forgetful, job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 7)


def test_a_requeued_job_has_not_ended_until_its_last_run_has(
    room: Room, forgetful: Cluster
) -> None:
    slurm = room.slurm
    assert slurm is not None
    text = "case ${SLURM_RESTART_COUNT:-0} in 0) exec sleep 300;; *) exit 5;; esac"
    job = room.submit(text, options=["--requeue"])
    private = room.path / ".openssh_jobs" / str(job.token)
    room.until(job, lambda: (private / f"start.{job.id}").exists(), "the first run")
    slurm.command("scontrol", "requeuehold", job.id)
    room.until(job, lambda: (private / f"exit.{job.id}").exists(), "the end of the first run")
    ended = time.monotonic()
    room.until_state(job, JobState.HELD)
    assert not job.last.is_final
    assert job.last.source == "queue"

    def has_begun_again() -> bool:
        # Within the second in which the first run was ended the node refuses another: revoked.
        if time.monotonic() < ended + 2:
            return False
        # By itself it would wait for two minutes, from when its first run is off the node.
        for words in (("release", job.id), ("update", f"JobId={job.id}", "StartTime=now")):
            slurm.command("scontrol", *words, check=False)
        return (private / f"start.{job.id}.1").exists()

    room.until(job, has_begun_again, "the second run")
    assert job.wait(timeout=60).exit_code == 5
    status = seen_anew(room, forgetful, job)
    assert (status.exit_code, status.restarts, status.source) == (5, 1, "marker")
    assert sorted(one.name for one in private.glob("exit.*")) == [
        f"exit.{job.id}", f"exit.{job.id}.1",
    ]  # fmt: skip
    assert (private / "owner").read_text() == f"{job.id}\n"


def test_a_kill_of_everything_is_unknown_for_ever(
    room: Room, forgetful: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    job = room.submit("exec sleep 300")
    room.until(job, lambda: list(room.path.rglob("start.*")) != [], "the start")
    launcher = f"/.openssh_jobs/{job.token}/"
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            ours = f"SLURM_JOB_ID={job.id}\0".encode() in Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if ours:
            with contextlib.suppress(ProcessLookupError):  # ended with the one before
                os.kill(int(name), signal.SIGKILL)
    assert job.wait(timeout=60).state is not JobState.COMPLETED, launcher
    with caplog.at_level(logging.INFO, logger="openssh_jobs"):
        status = seen_anew(room, forgetful, job)
    assert status.state is JobState.UNKNOWN
    assert "no exit was written: killed, or the node died" in str(status.reason)
    assert re.search("started on n[12]", str(status.reason))
    (over,) = forgetful.wait([job.id], timeout=30)
    assert over.state is JobState.UNKNOWN
    assert not over.is_final
    logged = [
        one.getMessage() for one in caplog.records if f"job {job.id} left" in one.getMessage()
    ]
    assert logged
    assert "history" in logged[0]
    assert "started on" in logged[0]


# -- Slurm as Torque's commands show it --------------------------------------------------------


@pytest.fixture
def torque(slurm: SlurmLab, sshd: Host, lab_directory: Path, tmp_path: Path) -> Iterator[Room]:
    """Nobody else there can tell how a job ended."""
    way = prologue(lab_directory)
    with open_room(sshd, "torque", slurm, tmp_path, prologue=way, grace=1) as room:
        yield room


def test_with_a_marker_the_end_is_known_where_torque_commands_are_slurm_s(torque: Room) -> None:
    room = torque
    jobs = {}
    for record_exit in (False, True):
        jobs[record_exit] = room.cluster.submit(
            script_text=LOOK, directory=room.here, record_exit=record_exit, name="look"
        )
    array = room.submit("exit $((SLURM_ARRAY_TASK_ID + 1))", array="1-2", record_exit=True)
    bare, wrapped = (jobs[one].wait(timeout=60) for one in (False, True))
    assert (bare.state, bare.exit_code) == (JobState.UNKNOWN, None)
    assert (wrapped.state, wrapped.exit_code, wrapped.source) == (JobState.FAILED, 3, "marker")
    said = ["".join(job.tail()).replace(str(job.token), "TOKEN") for job in jobs.values()]
    assert said[0] == said[1]
    assert array.wait(timeout=60).exit_code == 3


def test_torque_directives_are_understood_the_same(torque: Room) -> None:
    room = torque
    room.make("step", RICH)
    said = []
    for record_exit in (False, True):
        job = room.cluster.submit(
            "step", directory=room.here, hold=True, record_exit=record_exit, time_limit="00:05:00"
        )
        assert is_wrapped(room, job) is record_exit
        assert room.slurm is not None
        said.append(_OWN.sub("", room.slurm.command("scontrol", "show", "job", job.id)))
    assert said[0] == said[1]
    assert "MinMemoryNode=77M" in said[1]
    assert "TimeLimit=00:05:00" in said[1]


def test_a_job_of_another_user_has_no_exit_record(room: Room, forgetful: Cluster) -> None:
    (status,) = forgetful.wait(["4000000"], timeout=30)
    assert status.state is JobState.UNKNOWN
    assert "not submitted from here" in str(status.reason)


def test_what_was_recorded_is_gone_after_a_fetch(room: Room, tmp_path: Path) -> None:
    job = room.submit("echo x > out")
    assert job.wait(timeout=60).state is JobState.COMPLETED
    job.fetch(tmp_path / "back")
    assert (tmp_path / "back" / "out").read_text() == "x\n"
    assert room.private() == []

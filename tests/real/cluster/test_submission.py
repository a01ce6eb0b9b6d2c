"""Submitting over ssh, to a real Slurm and with no scheduler: what works, and what is refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Job, JobState
from openssh_jobs.cluster.attempt import Order
from openssh_jobs.errors import InputError, SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome
from tests.lab.room import Room
from tests.real.cluster.both_rooms import only_direct, only_slurm, room, scheduler

__all__ = ["room", "scheduler"]

ODD = 'it\'s a "dir" $(touch x) -n\n' + os.fsdecode(b"\xff\xfe") + "é;&*"


# -- submitting -------------------------------------------------------------------------------


def test_a_text_is_submitted_and_its_output_read(room: Room) -> None:
    job = room.submit("echo hello; echo oops >&2; pwd", name="hi there")
    assert (job.last.state, job.last.source) == (JobState.PENDING, "journal")
    status = job.wait(timeout=60)
    assert (status.state, job.exit_code) == (JobState.COMPLETED, 0)
    assert (job.name, status.name, job.directory) == ("hi there", "hi there", room.here)
    lines = list(job.tail())
    if room.scheduler == "slurm":
        assert lines == ["hello\n", "oops\n", f"{room.here}\n"]
        assert job.stdout_path == f"{room.here}/slurm-{job.id}.out"
    else:
        assert lines == ["hello\n", f"{room.here}\n"]
        assert list(job.tail("stderr")) == ["oops\n"]
    with pytest.raises(InputError, match="neither stdout nor stderr"):
        list(job.tail("stdlog"))


def test_a_local_file_is_submitted_under_its_name(room: Room, tmp_path: Path) -> None:
    script = tmp_path / "step one.sh"
    script.write_text('#!/bin/sh\necho "$0"\n')
    room.make("step one.sh", "this one is somebody's and stays\n")
    job = room.cluster.submit(script_file=script, directory=room.here)
    job.wait(timeout=60)
    assert job.name == "step one.sh"
    assert (room.path / "step one.sh").read_text() == "this one is somebody's and stays\n"


@pytest.mark.parametrize("absolute", [True, False])
def test_a_script_on_the_host_is_submitted(room: Room, absolute: bool) -> None:
    room.make("in/run.sh", "#!/bin/sh\npwd\n")
    script = f"{room.here}/in/run.sh" if absolute else "in/run.sh"
    job = room.cluster.submit(script, directory=room.here)
    job.wait(timeout=60)
    assert list(job.tail()) == [f"{room.here}\n"]
    assert job.name == "run.sh"


def test_a_directory_is_uploaded_and_comes_back(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "input"
    (source / "deep").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh\ncat deep/data > result\n")
    (source / "deep" / "data").write_text("42\n")
    where = f"{room.here}/new/work"
    job = room.cluster.submit("run.sh", upload=source, directory=where)
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert room.private() != []
    moved = job.fetch(tmp_path / "back")
    assert moved.files >= 4
    assert (tmp_path / "back" / "result").read_text() == "42\n"
    assert (tmp_path / "back" / "deep" / "data").read_text() == "42\n"
    assert not (tmp_path / "back" / ".openssh_jobs").exists()
    assert room.private() == [], "nothing is left on the host"
    # Which ids are used up has to be remembered, and nothing else.
    left = [path.name for path in (room.host.home / ".openssh_jobs").rglob("*")]
    assert sorted(left) == ([] if room.scheduler == "slurm" else ["direct", "last"])
    assert job.status().state is JobState.COMPLETED
    again = room.cluster.job(token=job.token)
    assert (again.last.state, again.exit_code) == (JobState.COMPLETED, 0)
    with pytest.raises(FileExistsError):
        room.cluster.submit("run.sh", upload=source, directory=where)
    assert Path(where, "result").exists(), "a refused upload touches nothing"


def test_a_running_job_keeps_what_it_needs_after_a_fetch(room: Room, tmp_path: Path) -> None:
    job = room.submit("echo early; sleep 300")
    room.until_state(job, JobState.RUNNING)
    job.fetch(tmp_path / "early")
    assert room.private() != []
    assert job.status().state is JobState.RUNNING


def test_odd_names_go_through_everything(room: Room, tmp_path: Path) -> None:
    where = f"{room.here}/{ODD}"
    name = f"{ODD}.sh"
    script = tmp_path / os.fsdecode(os.fsencode(name))
    script.write_text("#!/bin/sh\necho done; echo x > out\n")
    job = room.cluster.submit(script_file=script, directory=where, name="a 'b' $(c) é")
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert (job.name, job.directory) == ("a 'b' $(c) é", where)
    assert job.status().name == "a 'b' $(c) é"
    assert list(job.tail()) == ["done\n"]
    job.fetch(tmp_path / "back")
    assert (tmp_path / "back" / "out").read_text() == "x\n"
    assert sorted(os.listdir(room.path)) == [ODD], "nothing was run, nothing else was made"
    row = room.cluster.journal.by_token(room.cluster.host, str(job.token))
    assert row is not None
    assert row.directory == where


@pytest.mark.parametrize("record_exit", [False, True])
def test_arguments_reach_the_script_as_they_are(room: Room, record_exit: bool) -> None:
    arguments = ["-v", "--", "a  b", "", ODD, "$HOME `id` 100%", "/etc/passwd", "*"]
    job = room.submit(
        'printf "%s\\0" "$@" >out',
        arguments=arguments,
        record_exit=record_exit and room.scheduler == "slurm",
    )
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert os.fsdecode((room.path / "out").read_bytes()).split("\0")[:-1] == arguments
    assert [path.name for path in room.path.iterdir()] != [], "nothing was run"
    other = room.cluster.submit(again=job.id, name="once more", arguments=["x", *arguments])
    third = room.cluster.submit(again=job.id)
    for one in (other, third):
        assert one.wait(timeout=60).state is JobState.COMPLETED
    assert [kept_arguments(one) for one in (job, other, third)] == [
        arguments,
        ["x", *arguments],
        arguments,
    ]


def kept_arguments(job: Job) -> list[str]:
    """The arguments that the journal has."""
    assert job._row is not None
    kept = job._jobs.journal.kept(job._row)
    assert kept is not None
    found: list[str] = json.loads(kept.specification)["arguments"]
    return found


@only_slurm
def test_a_job_with_arguments_is_found_by_its_token(room: Room) -> None:
    job = room.submit("true", arguments=["a b", f"{room.here}/x y"], hold=True, token="found")
    assert job._row is not None
    order = Order.of(job._row.request or "")
    client = room.cluster.internal.client
    since = datetime.now(UTC) - timedelta(hours=1)
    script = client.scheduler().token_script([order.request], since=since)
    assert script is not None
    answer = client.scheduler().parse_tokens(client.ask(script), [order.request])
    assert answer.jobs == {"found": frozenset((job.id,))}
    job.cancel()


def test_a_relative_directory_begins_at_home(room: Room) -> None:
    relative = f"{room.path.name}/below"
    job = room.submit("pwd", directory=relative)
    job.wait(timeout=60)
    assert job.directory == f"{room.here}/below"
    assert list(job.tail()) == [f"{room.here}/below\n"]
    other = room.submit("pwd", directory=f"~/{relative}")
    assert other.directory == f"{room.here}/below"
    other.wait(timeout=60)


SECRET = "s3cret 'with' \"quotes\" $HOME\nand a second line"


def test_the_environment_travels_unseen(room: Room) -> None:
    commands: list[bytes] = []
    seen_file: list[Path] = []
    job = room.submit(
        'printf "%s|%s|%s" "$MY_SECRET" "${LC_ALL-unset}" "${oj-unset}"; '
        f"while [ ! -e {room.here}/go ]; do sleep 0.1; done",
        env={"MY_SECRET": SECRET, "EMPTY": ""},
    )
    for proc in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(proc.read_bytes())
        except OSError:
            continue
    for path in room.path.rglob("*"):
        if path.is_file() and b"s3cret" in path.read_bytes() and path.suffix != ".out":
            seen_file.append(path)
    assert not [line for line in commands if b"s3cret" in line]
    assert seen_file == [], "the file is gone when the job is submitted"
    room.make("go", "")
    job.wait(timeout=60)
    said = "".join(job.tail())
    assert said == f"{SECRET}|unset|unset"
    assert SECRET.encode() not in Path(room.cluster.journal.path).read_bytes()


def test_a_token_names_one_submission(room: Room) -> None:
    job = room.submit("true", token="mine-1")
    again = room.submit("true", token="mine-1")
    assert (again.id, again.token) == (job.id, "mine-1")
    with pytest.raises(InputError, match="belongs to another submission"):
        room.submit("false", token="mine-1")
    assert room.cluster.job(token="mine-1").id == job.id
    other = room.submit("true", token="mine-2")
    assert other.id != job.id
    listed = {one.job_id for one in room.cluster.jobs()}
    assert {job.id, other.id} <= listed


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"script": "none.sh"}, FileNotFoundError),
        ({"script": "sub"}, IsADirectoryError),
        ({"script": "empty.sh"}, InputError),
        ({"script_text": "x", "directory": "a-file"}, NotADirectoryError),
        ({"script_text": "x", "directory": "a-file/below"}, NotADirectoryError),
        ({"script_text": "x", "directory": "/proc/nothing"}, OSError),
        ({"script_text": "x", "directory": "closed/in"}, PermissionError),
    ],
)
def test_what_is_not_there_is_said_so(room: Room, asked: dict[str, Any], error: type) -> None:
    room.make("empty.sh", "")
    room.make("a-file", "x")
    room.make("sub/x", "")
    room.host.make_directory(f"{room.path.name}/closed", 0o500)
    before = sorted(room.path.rglob("*"))
    asked = dict(asked)
    directory = asked.pop("directory", "")
    where = directory if directory.startswith("/") else f"{room.here}/{directory}".rstrip("/")
    with pytest.raises(error) as caught:
        room.cluster.submit(directory=where, **asked)
    assert str(caught.value)
    assert sorted(room.path.rglob("*")) == before
    assert room.cluster.journal.rows() == []


def test_a_refused_job_leaves_nothing(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.mkdir()
    (source / "run.sh").write_text("#!/bin/sh\ntrue\n")
    asked: dict[str, Any] = {"script": "run.sh", "upload": source, "directory": f"{room.here}/w"}
    with pytest.raises(SchedulerError) as caught:
        room.cluster.submit(**asked, queue="nosuch", token="again")
    if room.scheduler == "slurm":
        assert isinstance(caught.value, SubmitRejected)
        assert caught.value.kind == "invalid_request"
        assert "invalid partition specified: nosuch" in str(caught.value)
        assert room.cluster.host in str(caught.value)
        assert "sbatch: error" in caught.value.stderr
    else:
        assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
        assert "queue" in str(caught.value)
    assert list(room.path.iterdir()) == []
    assert room.cluster.journal.rows() == []
    job = room.cluster.submit(**asked, token="again")
    assert job.wait(timeout=60).state is JobState.COMPLETED


@only_slurm
@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"options": ["--time=nonsense"]}, "Invalid --time specification"),
        ({"memory": "999T"}, "Memory specification can not be satisfied"),
        ({"options": ["--nosuchoption"]}, "unrecognized option '--nosuchoption'"),
        ({"nodes": "many"}, "is not a valid node count"),
        ({"queue": "nosuch"}, "invalid partition specified: nosuch"),
        ({"constraint": "nosuch"}, "Invalid feature specification"),
        ({"reservation": "nosuch"}, "Requested reservation is invalid"),
    ],
)
def test_refusals_of_slurm_say_the_line_that_matters(
    room: Room, asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(SubmitRejected, match=why) as caught:
        room.submit(**asked)
    assert caught.value.kind == "invalid_request"
    assert len(str(caught.value).splitlines()) == 1
    assert room.cluster.journal.rows() == []


@only_slurm
def test_resources_reach_slurm_and_options_win(room: Room) -> None:
    job = room.submit(
        name="rich",
        queue="short",
        time_limit="1-00:03:00",
        nodes=1,
        cpus=2,
        memory="0.1GB",
        mail="user@example.org",
        stderr_path=f"{room.here}/my err",
        hold=True,
        options=["--comment=it's mine", "--time=2", f"--output={room.here}/my out.%j"],
    )
    assert room.slurm is not None
    said = room.slurm.command("scontrol", "show", "job", job.id)
    for fact in ("JobName=rich", "Partition=short", "TimeLimit=00:02:00", "NumCPUs=2",
                 # 0.1 * 2**30 bytes, rounded up to the KiB by us and to the MiB by Slurm.
                 "MinMemoryNode=103M", "MailUser=user@example.org", "MailType=END,FAIL",
                 f"StdErr={room.here}/my err", "Comment=it's mine", f"WorkDir={room.here}",
                 "Reason=JobHeldUser"):  # fmt: skip
        assert fact in said, said
    assert f"/.openssh_jobs/{job.token}/rich" in said, "the token is where Slurm shows it"
    room.until_state(job, JobState.HELD)
    assert job.release() is CancelOutcome.REQUESTED
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert list(job.tail()) == []
    assert job.stdout_path == f"{room.here}/my out.{job.id}"


@only_direct
def test_time_limits_and_sizes_without_a_scheduler(room: Room) -> None:
    job = room.submit("sleep 300", time_limit="0:00:01")
    status = job.wait(timeout=60)
    assert status.state is JobState.TIMEOUT
    for wanted in (
        {"array": "1-3"}, {"hold": True}, {"after_ok": job}, {"options": ["-x"]}, {"cpus": 2},
        {"memory": "8G"}, {"mail": "user@example.org"},
    ):  # fmt: skip
        assert not room.cluster.capabilities & wanted.keys()
        with pytest.raises(SchedulerError, match="does not support") as caught:
            room.submit(**wanted)
        assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")

"""``direct``: the real scripts, run by real shells, with HOME in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import InputError, SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome, JobState, JobStatus
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.helpers import until

DIRECT = get("local")
TOOLS = (
    *("mkdir", "mv", "rm", "cat", "date", "uname", "sleep", "od", "tr"),
    *("sed", "perl", "sh", "python3", "ps", "rmdir", "getconf", "env", "bash"),
    *("uptime", "nohup", "grep", "touch", "find", "id", "ls"),
)
SHELLS = {"dash": ["/bin/dash"], "bash": ["/bin/bash", "--posix"], "busybox": ["busybox", "sh"]}


class Host:
    """A home directory and a shell, as a login would give them."""

    def __init__(self, home: Path, shell: list[str], path: str) -> None:
        self.home = home
        self.shell = shell
        self.path = path
        self.work = home / "work"
        self.work.mkdir(parents=True)

    @property
    def records(self) -> Path:
        return self.home / ".openssh_jobs" / "direct"

    def run(self, script: str, cwd: Path | None = None) -> tuple[str, str, int]:
        done = subprocess.run(
            [*self.shell, "-c", os.fsencode(script)],
            cwd=cwd or self.work,
            env={"HOME": str(self.home), "PATH": self.path, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return os.fsdecode(done.stdout), os.fsdecode(done.stderr), done.returncode

    def submit(self, text: str | bytes, *, cwd: Path | None = None, **request: object) -> str:
        where = cwd or self.work
        name = str(request.pop("script", "job.sh"))
        data = os.fsencode(text) if isinstance(text, str) else text
        (where / name).write_bytes(data)
        out, err, code = self.run(
            DIRECT.submit_script(SubmitRequest(script=name, **request)),  # type: ignore[arg-type]
            cwd=where,
        )
        return DIRECT.parse_submit(Answer(out, err, code))

    def status(self, job_id: str) -> JobStatus:
        out, err, code = self.run(DIRECT.status_script([job_id]))
        snapshot = parser.parse_status(out, stderr=err, returncode=code, requested=[job_id])
        assert not snapshot.unparsed
        return snapshot[job_id]

    def cancel(self, *ids: str, patience: int = 50) -> dict[str, CancelOutcome]:
        """Cancel; whoever ignores TERM is killed after ``patience`` tenths of a second."""
        script = DIRECT.cancel_script(ids)
        assert script.count("-ge 50 ]") == script.count("-ge 55 ]") == 1
        script = script.replace("-ge 50 ]", f"-ge {patience} ]")
        script = script.replace("-ge 55 ]", f"-ge {patience + 5} ]")
        out, err, code = self.run(script)
        return DIRECT.parse_cancel(Answer(out, err, code), requested=ids)

    def clean_up(self, *ids: str) -> int:
        script = DIRECT.cleanup_script(ids)
        assert script is not None
        return self.run(script)[2]

    def wait(self, job_id: str, until: Callable[[JobStatus], bool] | None = None) -> JobStatus:
        deadline = time.monotonic() + 30
        while True:
            status = self.status(job_id)
            if (until or (lambda one: one.is_final))(status):
                return status
            assert time.monotonic() < deadline, f"{status} for 30 seconds"
            time.sleep(0.05)

    def start_record(self, job_id: str) -> dict[str, str]:
        lines = (self.records / job_id / "start").read_text().splitlines()
        return dict(line.partition(" ")[::2] for line in lines)

    def reap(self) -> None:
        """End what a failed test left: only processes that the records name."""
        for start in self.records.glob("*/start"):
            record = dict(line.partition(" ")[::2] for line in start.read_text().splitlines())
            for pid in filter(None, (record.get("child"), record.get("pid"))):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # just ending
                    born = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
                    if born in (record.get("child_who"), record.get("pid_who")):
                        os.kill(int(pid), signal.SIGKILL)


def poor_path(folder: Path, *without: str) -> str:
    """A PATH with all that is needed but setsid, as on macOS, and ``without``."""
    folder.mkdir()
    for program in set(TOOLS).difference(without):
        found = shutil.which(program, path="/usr/bin:/bin")
        if found:
            (folder / program).symlink_to(found)
    return str(folder)


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name == "dash" else pytest.mark.long)
        for name in (*SHELLS, "dash-without-setsid")
    ]
)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    name, _, poor = request.param.partition("-")
    shell = SHELLS[name]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    path = poor_path(tmp_path / "bin") if poor else "/usr/bin:/bin"
    one = Host(tmp_path / "home", shell, path)
    yield one
    one.reap()


def test_a_job_runs_and_says_how_it_ended(host: Host) -> None:
    job_id = host.submit("#!/bin/sh\necho out; echo err >&2; pwd; exit 0\n", name="first")
    status = host.wait(job_id)
    assert status.state is JobState.COMPLETED
    assert (status.exit_code, status.name, status.source) == (0, "first", "marker")
    assert status.directory == str(host.work)
    assert status.nodes == (os.uname().nodename,)
    assert status.submitted is not None
    assert status.ended is not None
    assert status.submitted <= status.ended
    assert status.stdout_path == str(host.work / f"job-{job_id}.out")
    assert Path(status.stdout_path).read_text() == f"out\n{host.work}\n"
    assert status.stderr_path is not None
    assert Path(status.stderr_path).read_text() == "err\n"


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ])
def test_a_job_that_python_detaches_ignores_no_signal(tmp_path: Path, number: int) -> None:
    host = Host(tmp_path / "home", ["/bin/dash"], poor_path(tmp_path / "bin", "perl", "nohup"))
    try:
        status = host.wait(host.submit(f"kill -{int(number)} $$; echo survived\n"))
        assert (status.state, status.exit_code) == (JobState.FAILED, 128 + number)
    finally:
        host.reap()


@pytest.mark.parametrize("code", [1, 3, 126, 127, 137, 143, 255])
def test_the_exit_code_is_kept(host: Host, code: int) -> None:
    status = host.wait(host.submit(f"exit {code}\n"))
    assert (status.state, status.exit_code) == (JobState.FAILED, code)


def test_a_script_without_an_executable_bit_runs_with_its_own_interpreter(host: Host) -> None:
    script = f"#!{sys.executable} -u\nimport os, sys\nprint(os.environ['OPENSSH_JOBS_ID'])\n"
    script += "print(os.environ['OPENSSH_JOBS_DIRECTORY'], sys.argv)\nsys.exit(7)\n"
    job_id = host.submit(script, script="j.py")
    status = host.wait(job_id)
    assert (status.state, status.exit_code, status.name) == (JobState.FAILED, 7, "j.py")
    text = (host.work / f"job-{job_id}.out").read_text()
    assert text == f"{job_id}\n{host.records / job_id} ['j.py']\n"


def test_an_interpreter_that_is_not_there_is_a_failed_job(host: Host) -> None:
    status = host.wait(host.submit("#!/no/such/interpreter\n"))
    assert (status.state, status.exit_code) == (JobState.FAILED, 127)


def test_the_environment_and_umask_are_those_of_the_login(host: Host) -> None:
    job_id = host.submit('umask\necho "$LC_ALL"\nenv | grep -c ^oj_\n')
    host.wait(job_id)
    mask = os.umask(0)
    os.umask(mask)
    text = (host.work / f"job-{job_id}.out").read_text().split()
    assert int(text[0], 8) == mask
    assert text[1:] == ["C.UTF-8", "0"]
    assert (host.records / job_id).stat().st_mode & 0o077 == 0


def test_a_session_ends_at_once_and_the_job_lives_on(host: Host) -> None:
    before = time.monotonic()
    job_id = host.submit("sleep 30\n")
    assert time.monotonic() - before < 10  # it would be 30 if a stream were held
    status = host.status(job_id)
    assert (status.state, status.exit_code, status.source) == (JobState.RUNNING, None, "queue")
    assert host.cancel(job_id) == {job_id: CancelOutcome.REQUESTED}
    status = host.wait(job_id)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 143)
    assert host.cancel(job_id) == {job_id: CancelOutcome.ALREADY_FINISHED}


def test_term_reaches_the_script_and_its_children(host: Host) -> None:
    script = (
        "#!/bin/sh\ntrap 'echo caught; kill $!; exit 9' TERM\nsleep 60 & echo $! > child\nwait\n"
    )
    job_id = host.submit(script)
    host.wait(job_id, lambda one: (host.work / "child").exists())
    record = host.start_record(job_id)
    os.kill(int(record["pid"]), signal.SIGTERM)  # to the launcher: passed on to the script
    status = host.wait(job_id)
    assert (status.state, status.exit_code) == (JobState.FAILED, 9)
    assert "caught" in (host.work / f"job-{job_id}.out").read_text()
    child = int((host.work / "child").read_text())
    assert not _is_there(child)


def test_a_script_that_ends_while_term_is_passed_on_has_its_own_code(host: Host) -> None:
    """The launcher's wait ends by TERM, its script at the same moment: many at once, to meet it."""
    script = (
        "#!/bin/sh\ntrap 'echo caught; kill $!; exit 9' TERM\n"
        "sleep 60 & : > ready-$OPENSSH_JOBS_ID\nwait\n"
    )

    def trial(number: int) -> int | None:
        job_id = host.submit(script, script=f"job-{number}.sh")
        assert until(lambda: (host.work / f"ready-{job_id}").exists(), 30)
        os.kill(int(host.start_record(job_id)["pid"]), signal.SIGTERM)
        return host.wait(job_id).exit_code

    with ThreadPoolExecutor(12) as pool:
        assert Counter(pool.map(trial, range(24))) == {9: 24}


def test_who_does_not_listen_is_killed_with_all_children(host: Host) -> None:
    script = "#!/bin/bash\ntrap '' TERM\nsleep 60 & echo $! > child\nwhile :; do sleep 1; done\n"
    job_id = host.submit(script)
    host.wait(job_id, lambda one: (host.work / "child").exists())
    child = int((host.work / "child").read_text())
    assert host.cancel(job_id, patience=5) == {job_id: CancelOutcome.REQUESTED}
    status = host.wait(job_id)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 137)
    assert not _is_there(child)


def test_the_time_limit_ends_a_job(host: Host) -> None:
    job_id = host.submit("sleep 60\n", time_limit=timedelta(seconds=1))
    assert host.status(job_id).time_limit == timedelta(seconds=1)
    status = host.wait(job_id)
    assert (status.state, status.reason) == (JobState.TIMEOUT, "time limit")


def test_the_timer_of_a_quick_job_does_not_stay(host: Host) -> None:
    job_id = host.submit("exit 0\n", time_limit="9:59:59")
    assert host.wait(job_id).state is JobState.COMPLETED
    deadline = time.monotonic() + 10
    while any(b"sleep\0" + b"35999" in line for line in _command_lines()):
        assert time.monotonic() < deadline, "the timer is still asleep"
        time.sleep(0.05)


def test_a_killed_launcher_leaves_a_running_job_and_then_nothing_known(host: Host) -> None:
    job_id = host.submit("while [ ! -e stop ]; do sleep 0.1; done\n")
    record = host.start_record(job_id)
    os.kill(int(record["pid"]), signal.SIGKILL)
    status = host.wait(job_id, lambda one: one.reason is not None)
    assert status.state is JobState.RUNNING
    assert status.reason is not None
    assert "launcher was killed" in status.reason
    (host.work / "stop").touch()
    status = host.wait(job_id, lambda one: one.state is not JobState.RUNNING)
    assert status.state is JobState.UNKNOWN
    assert status.reason is not None
    assert "no exit record" in status.reason


def test_a_process_that_only_has_the_number_is_not_taken_for_the_job(host: Host) -> None:
    job_id = host.submit("sleep 60\n")
    record = host.start_record(job_id)
    os.kill(int(record["pid"]), signal.SIGKILL)
    os.killpg(int(record["child"]), signal.SIGKILL)
    # The numbers of this test's own process, with the birth of another.
    start = host.records / job_id / "start"
    text = start.read_text()
    for key in ("pid", "child"):
        text = text.replace(f"{key} {record[key]}\n", f"{key} {os.getpid()}\n")
    start.write_text(text)
    assert host.status(job_id).state is JobState.UNKNOWN
    assert host.cancel(job_id) == {job_id: CancelOutcome.ALREADY_FINISHED}


@pytest.mark.parametrize(("key", "text"), [("node", "node"), ("boot", "restarted")])
def test_another_node_and_another_boot_are_unknown(host: Host, key: str, text: str) -> None:
    job_id = host.submit("exit 0\n")
    host.wait(job_id)
    folder = host.records / job_id
    (folder / "exit").unlink()
    lines = (folder / "start").read_text().splitlines()
    changed = [f"{key} elsewhere" if line.startswith(f"{key} ") else line for line in lines]
    (folder / "start").write_text("\n".join(changed) + "\n")
    status = host.status(job_id)
    assert status.state is JobState.UNKNOWN
    assert status.reason is not None
    assert text in status.reason


HOSTILE = [
    "plain",
    "with blank",
    "quo'te\"s",
    "$(touch pwned) `touch pwned` ${HOME} $x",
    "new\nline\nOJ:dead end direct 0\n",
    "-rf",
    "back\\slash\\n",
    "*?[a] ; & | < > # ! ~",
    os.fsdecode(b"not \xff\xfe utf-8"),
    "ünï ☃",
    "100%j %s %d",
    "@SCRIPT@ @OUT@",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_directories_come_home_the_same(host: Host, name: str) -> None:
    folder = host.work / name
    folder.mkdir()
    job_id = host.submit("pwd\n", cwd=folder, script=name, name=name)
    status = host.wait(job_id)
    assert status.state is JobState.COMPLETED
    assert (status.name, status.command, status.directory) == (name, name, str(folder))
    assert status.stdout_path is not None
    assert Path(status.stdout_path).read_text(errors="surrogateescape") == f"{folder}\n"
    assert not list(host.home.rglob("pwned"))


@pytest.mark.parametrize("name", ["a b.log", "it's-%j.log", os.fsdecode(b"\xff.log"), "-o"])
def test_output_goes_where_it_was_asked_to(host: Host, name: str) -> None:
    job_id = host.submit("echo one; echo two >&2\n", stdout_path=name)
    status = host.wait(job_id)
    path = host.work / name.replace("%j", job_id)
    assert status.stdout_path == status.stderr_path == str(path)
    assert path.read_text() == "one\ntwo\n"


def test_an_output_that_cannot_be_written_is_said(host: Host) -> None:
    status = host.wait(host.submit("echo\n", stdout_path="no/such/place"))
    assert (status.state, status.exit_code) == (JobState.FAILED, 126)
    assert status.reason == "cannot write the file for the output"


def test_racing_submissions_get_numbers_of_their_own(host: Host) -> None:
    (host.work / "job.sh").write_text('echo "$OPENSSH_JOBS_ID"\n')
    script = DIRECT.submit_script(SubmitRequest(script="job.sh"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: host.run(script), range(8)))
    ids = [DIRECT.parse_submit(Answer(out, err, code)) for out, err, code in answers]
    assert len(set(ids)) == 8
    for job_id in ids:
        assert host.wait(job_id).state is JobState.COMPLETED
        assert (host.work / f"job-{job_id}.out").read_text() == f"{job_id}\n"
    out, err, code = host.run(DIRECT.status_script())
    listed = DIRECT.parse_status(Answer(out, err, code))
    assert set(listed.known) == set(ids)


def test_a_number_is_not_given_twice_after_a_clean_up(host: Host) -> None:
    first = host.submit("exit 0\n")
    running = host.submit("sleep 60\n")
    host.wait(first)
    assert host.clean_up(first, running) == 0
    assert not (host.records / first).exists()
    assert host.status(running).state is JobState.RUNNING
    out, err, code = host.run(DIRECT.status_script([first]))
    snapshot = DIRECT.parse_status(Answer(out, err, code), requested=[first])
    assert snapshot.absent == (first,)
    host.cancel(running)
    host.wait(running)
    host.clean_up(running)
    assert int(host.submit("exit 0\n")) > int(running)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "no such script"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_text(""), "empty"),
    ],
)
def test_what_is_no_script_is_refused(
    host: Host, make: Callable[[Path], object], text: str
) -> None:
    make(host.work / "job.sh")
    out, err, code = host.run(DIRECT.submit_script(SubmitRequest(script="job.sh")))
    with pytest.raises(SubmitRejected, match=text) as caught:
        DIRECT.parse_submit(Answer(out, err, code))
    assert caught.value.kind == "invalid_request"
    assert not list(host.records.glob("[0-9]*"))


def test_a_home_that_cannot_be_written_is_refused(host: Host) -> None:
    (host.home / ".openssh_jobs").write_text("a file in the way")
    (host.work / "job.sh").write_text("exit 0\n")
    out, err, code = host.run(DIRECT.submit_script(SubmitRequest(script="job.sh")))
    with pytest.raises(SubmitRejected) as caught:
        DIRECT.parse_submit(Answer(out, err, code))
    assert caught.value.kind == "permission"


def test_the_node_is_the_host(host: Host) -> None:
    out, err, code = host.run(DIRECT.nodes_script())
    (node,) = DIRECT.parse_nodes(Answer(out, err, code))
    assert node.name == os.uname().nodename
    assert node.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert (node.memory or 0) > 2**20 or not Path("/proc/meminfo").exists()


def test_every_cut_of_an_answer_is_an_error_or_the_whole(host: Host) -> None:
    done = host.submit("exit 3\n")
    host.wait(done)
    out, _, _ = host.run(DIRECT.status_script([done]))
    whole = DIRECT.parse_status(Answer(out), requested=[done])
    assert whole[done].exit_code == 3
    for length in range(len(out) - 1):
        with pytest.raises(SchedulerError):
            DIRECT.parse_status(Answer(out[:length]), requested=[done])


@pytest.mark.parametrize(
    "request_",
    [
        SubmitRequest(script="x", array="1-3"),
        SubmitRequest(script="x", hold=True),
        SubmitRequest(script="x", after_ok=("5",)),
        SubmitRequest(script="x", queue="fast"),
        SubmitRequest(script="x", options=("--exclusive",)),
        SubmitRequest(script="x", nodes=2),
    ],
)
def test_what_needs_a_scheduler_is_refused_by_name(request_: SubmitRequest) -> None:
    with pytest.raises(SchedulerError, match="direct does not support") as caught:
        DIRECT.check_options(request_)
    assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("plant", ["fifo", "directory"])
def test_what_lies_in_the_place_of_the_last_id_is_left_alone(host: Host, plant: str) -> None:
    last = host.records / "last"
    for path in (host.records.parent, host.records):
        path.mkdir(mode=0o700)
    (os.mkfifo if plant == "fifo" else os.mkdir)(last)
    assert host.wait(host.submit("#!/bin/sh\n")).state is JobState.COMPLETED
    assert plant == "fifo" or os.listdir(last) == []


@pytest.mark.parametrize("job_id", ["../../etc", "5;rm", "1.server", "12_3", "", "-1", "*"])
def test_only_numbers_are_ids(job_id: str) -> None:
    for build in (DIRECT.status_script, DIRECT.cancel_script, DIRECT.cleanup_script):
        with pytest.raises(InputError):
            build([job_id])


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue

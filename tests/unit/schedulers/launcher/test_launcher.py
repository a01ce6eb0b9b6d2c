"""The launcher around a script: what it carries, what it hands on, and what it writes down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.launcher.exit_record import (
    SubmissionRecords,
    read_records,
    records_script,
    status_from_records,
)
from openssh_jobs.schedulers.launcher.launcher import (
    BODY,
    GRID_ENGINE_JOBS,
    LSF_JOBS,
    PBS_JOBS,
    SLURM_JOBS,
    TORQUE_JOBS,
    Convention,
    wrap,
)

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash"],
    "bash -p": ["bash", "-p"],
    "busybox": ["busybox", "sh"],
}


def made(script: bytes, how: Convention = SLURM_JOBS, **more: object) -> bytes | None:
    options = {"directory": "/d", "body": "/d/.script/slurm_script", "bash": True, **more}
    return wrap(script, how, **options)  # type: ignore[arg-type]


def directives(text: bytes | None, prefix: bytes) -> list[bytes]:
    assert text is not None
    return [line for line in text.splitlines() if line.startswith(prefix)]


# -- the text ---------------------------------------------------------------------------------


def test_slurm_reads_the_same_directives() -> None:
    script = (
        b'#!/bin/bash -l\n# a comment\n\n#SBATCH -J "a b"\n  # indented\n#SBATCH --mem=1G\n'
        b"##SBATCH --nope\n#PBS -N other\n#SBATCH hetjob\n\nmodule load x\n#SBATCH --time=1\n"
    )
    text = made(script)
    assert text is not None
    assert directives(text, b"#SBATCH") == [
        b'#SBATCH -J "a b"', b"#SBATCH --mem=1G", b"#SBATCH hetjob",
    ]  # fmt: skip
    assert directives(text, b"#PBS") == [b"#PBS -N other"]
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip() and line.strip()[:1] != b"#")
    assert not any(b"SBATCH" in line for line in lines[first:]), "nothing behind a command"
    assert not any(line.startswith(b"#") for line in lines[first:])


def test_lsf_reads_them_anywhere() -> None:
    script = b"#!/bin/sh\n#BSUB -J x\necho hi\n# BSUB -n 2\n#BSUBX\ncat <<E\n#BSUB -q late\nE\n"
    text = made(script, LSF_JOBS)
    assert directives(text, b"#BSUB") == [b"#BSUB -J x", b"#BSUB -q late"]
    assert b"# BSUB -n 2\n" in (text or b"")
    assert b"#BSUBX" not in (text or b"")
    without = made(b"echo hi\n#BSUB -n 2\n", LSF_JOBS)
    assert b"set -- /bin/sh " in (without or b""), "what LSF runs a script without #! with"


@pytest.mark.parametrize(
    ("first", "bash", "own"),
    [
        (b"#!/bin/sh", True, b"#!/bin/sh"),
        (b"#! /usr/bin/dash -e", True, b"#!/usr/bin/dash"),
        (b"#!/bin/bash -l", False, b"#!/bin/bash -p"),
        (b"#!/usr/bin/bash", True, b"#!/usr/bin/bash -p"),
        (b"#!/usr/bin/env python3", True, b"#!/bin/bash -p"),
        (b"#!/usr/bin/env python3", False, b"#!/bin/sh"),
        (b"#!/bin/tcsh -f", False, b"#!/bin/sh"),
    ],
)
def test_its_own_shell_is_one_that_is_there(first: bytes, bash: bool, own: bytes) -> None:
    text = made(first + b"\ntrue\n", bash=bash)
    assert text is not None
    assert text.splitlines()[0] == own


@pytest.mark.parametrize(
    "script",
    [
        b"echo no interpreter\n",
        b"\n#!/bin/sh\n",
        b"#!\ntrue\n",
        b"#!/bin/sh\r\ntrue\r\n",
        b"#!/bin/sh\necho a\r\n",
        b"#!/" + b"x" * 200 + b"\n",
        b"#!/opt/a=b/python\n",
    ],
)
def test_what_slurm_refuses_or_is_unpredictable_goes_as_it_is(script: bytes) -> None:
    assert made(script) is None


def test_no_name_becomes_a_directive() -> None:
    assert made(b"#!/bin/sh\n", LSF_JOBS, directory="/a\n#BSUB -q x") is None
    assert made(b"#!/bin/sh\n", directory="/a\0") is None
    text = made(b"#!/bin/sh\ntrue\n", directory="/a\n#SBATCH --mem=1")
    assert text is not None
    assert text.splitlines()[1].startswith(b"oj_dir="), "Slurm has stopped reading by then"


def test_who_has_one() -> None:
    assert get("slurm").convention is SLURM_JOBS
    assert get("lsf").convention is LSF_JOBS
    assert [get(name).convention for name in ("direct", "htcondor")] == [None, None]
    assert get("sge").convention is GRID_ENGINE_JOBS
    assert get("pbs").convention is PBS_JOBS
    assert get("torque").convention is TORQUE_JOBS


# -- running it -------------------------------------------------------------------------------


@dataclass
class Bench:
    """A directory with a launcher that a shell runs as the scheduler would."""

    shell: list[str]
    directory: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def body(self) -> str:
        return f"{self.directory}/{BODY}/slurm_script"

    def put(self, script: str) -> str:
        os.makedirs(os.path.dirname(self.body), exist_ok=True)
        data = os.fsencode(script)
        Path(self.body).write_bytes(data)
        text = wrap(data, SLURM_JOBS, directory=self.directory, body=self.body, bash=True)
        assert text is not None
        path = f"{self.directory}/job.sh"
        Path(path).write_bytes(text)
        return path

    def start(self, script: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "PWD": os.getcwd()}
        environment.update(options.pop("env", {}))  # type: ignore[call-overload]
        settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE,
                    "stderr": subprocess.PIPE, "start_new_session": True, **options}  # fmt: skip
        one: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [*self.shell, self.put(script), *arguments], env=environment, **settings
        )
        self.started.append(one)
        return one

    def run(
        self, script: str, *arguments: str, inp: bytes = b"", **options: object
    ) -> list[object]:
        one = self.start(script, *arguments, **options)
        out, err = one.communicate(inp, timeout=20)
        return [one.returncode, out, err]

    def markers(self) -> SubmissionRecords:
        asked = subprocess.run(
            ["sh", "-c", records_script({"7": self.directory})],
            capture_output=True, timeout=20, check=True,
        )  # fmt: skip
        assert asked.stderr == b""
        found = read_records(asked.stdout.decode())
        assert found is not None
        return found["7"]

    def verdict(self, job: str = "12") -> JobStatus | str:
        return status_from_records(self.markers(), job, job, None)

    def wait_for(self, name: str, text: str) -> None:
        path = Path(self.directory, name)
        deadline = time.monotonic() + 20
        while not path.exists() or text not in path.read_text():
            assert time.monotonic() < deadline, f"{name} never held {text!r}"
            time.sleep(0.02)


@pytest.fixture(
    params=[pytest.param(name, marks=[] if name == "dash" else pytest.mark.long) for name in SHELLS]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here: apt-get install {shell[0]}")
    bench = Bench(shell, str(tmp_path))
    yield bench
    for one in bench.started:
        try:
            os.killpg(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        one.communicate(timeout=10)


@pytest.mark.parametrize("code", [0, 1, 3, 127, 137, 255])
def test_the_exit_code_is_the_scripts(bench: Bench, code: int) -> None:
    assert bench.run(f"#!/bin/sh\nexit {code}\n") == [code, b"", b""]
    status = bench.verdict()
    assert isinstance(status, JobStatus)
    assert status.state == (JobState.FAILED if code else JobState.COMPLETED)
    assert (status.exit_code, status.source) == (code, "marker")
    assert status.signal == {137: 9, 255: None}.get(code)
    assert status.nodes == (os.uname().nodename,)
    assert status.started is not None
    assert status.ended is not None
    assert status.started <= status.ended


def test_the_script_gets_what_it_would_have_got(bench: Bench, tmp_path: Path) -> None:
    where = tmp_path / "work"
    where.mkdir()
    script = (
        f"#!{sys.executable} -u\nimport os, sys\n"
        "print([sys.argv[1:], os.path.basename(sys.argv[0]), os.getcwd(), sys.stdin.read()])\n"
        "print(sorted(os.listdir('/dev/fd')), file=sys.stderr)\n"
    )
    arguments = ("a b", "", "*", "-n", "$x", "'\n")
    code, out, err = bench.run(script, *arguments, inp=b"in\nput", cwd=str(where))
    said = [list(arguments), "slurm_script", str(where), "in\nput"]
    assert (code, out) == (0, f"{said}\n".encode())
    assert err == b"['0', '1', '2', '3']\n", "and no descriptor more (3 reads the directory)"


def test_the_environment_is_handed_on(bench: Bench) -> None:
    script = f"#!{sys.executable}\nimport os\nprint(sorted(os.environb.items()))\n"
    given = {"BASH_FUNC_module%%": "() {  eval $x\n}", "a.b": "1", "E": "x\ny", "SHLVL": "1"}
    direct = subprocess.run(
        [sys.executable, "-c", script.partition("\n")[2]],
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "PWD": os.getcwd(), **given},
        capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    code, out, _ = bench.run(script, env=given)
    assert code == 0
    assert isinstance(out, bytes)
    expected, found = (dict(eval(text)) for text in (direct.stdout, out))
    found.pop(b"_", None)
    expected.pop(b"_", None)
    if bench.shell[0] == "bash" and "-p" not in bench.shell:
        # Not how a launcher is started: bash then writes the function down anew.
        assert b"BASH_FUNC_module%%" in found
        found[b"BASH_FUNC_module%%"] = expected[b"BASH_FUNC_module%%"]
    if bench.shell[0] != "bash":
        # These shells lose what is no name to them, so they only run scripts of their own kind.
        del expected[b"BASH_FUNC_module%%"], expected[b"a.b"]
    if bench.shell[0] == "busybox":
        assert int(found.pop(b"SHLVL")) == int(expected.pop(b"SHLVL")) + 1
    assert found == expected


HEARS = """#!/bin/sh
for s in HUP INT QUIT USR1 USR2 TERM; do trap "echo $s >>heard" "$s"; done
trap 'echo ALRM >>heard; exit 5' ALRM
echo ready >heard
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("everybody", [True, False])
def test_a_signal_reaches_the_script_once(bench: Bench, everybody: bool) -> None:
    one = bench.start(HEARS, cwd=bench.directory)
    bench.wait_for("heard", "ready")
    # The script's own sleep dies of some of these when all are meant, which ends nothing.
    for name in ("USR1", "TERM", "INT", "TERM"):
        before = Path(bench.directory, "heard").read_text()
        (os.killpg if everybody else os.kill)(one.pid, getattr(signal, f"SIG{name}"))
        bench.wait_for("heard", f"{before}{name}\n")
        # Longer than the launcher needs to find out who else got it.
        time.sleep(0.25)
        assert Path(bench.directory, "heard").read_text() == f"{before}{name}\n"
    os.kill(one.pid, signal.SIGALRM)
    assert one.wait(20) == 5
    status = bench.verdict()
    assert isinstance(status, JobStatus)
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)


def test_signals_in_quick_succession_are_no_more_than_were_sent(bench: Bench) -> None:
    one = bench.start(HEARS, cwd=bench.directory)
    bench.wait_for("heard", "ready")
    for _ in range(2):
        os.killpg(one.pid, signal.SIGUSR2)
        time.sleep(0.05)
    time.sleep(0.6)
    heard = Path(bench.directory, "heard").read_text().count("USR2")
    assert 1 <= heard <= 2
    os.kill(one.pid, signal.SIGALRM)
    assert one.wait(20) == 5


def test_a_script_that_dies_of_a_signal(bench: Bench) -> None:
    one = bench.start("#!/bin/sh\necho ready >heard\nexec sleep 300\n", cwd=bench.directory)
    bench.wait_for("heard", "ready")
    one.terminate()
    assert one.communicate(timeout=20) == (b"", b"")
    assert one.returncode == 143
    status = bench.verdict()
    assert isinstance(status, JobStatus)
    assert (status.exit_code, status.signal) == (143, 15)
    assert bench.run("#!/bin/sh\nkill -9 $$\n") == [137, b"", b""], "and nothing on stderr"


def test_no_process_is_left(bench: Bench) -> None:
    one = bench.start("#!/bin/sh\ntrue\n")
    one.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while True:
        try:
            os.killpg(one.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "a process of the launcher lives on"
        time.sleep(0.05)


def test_a_kill_of_everything_is_no_end(bench: Bench) -> None:
    one = bench.start("#!/bin/sh\nexec sleep 300\n")
    bench.wait_for("start.12", "12")
    os.killpg(one.pid, signal.SIGKILL)
    one.communicate(timeout=20)
    node = os.uname().nodename
    assert bench.verdict() == (f"started on {node}, no exit was written: killed, or the node died")


def test_members_have_markers_of_their_own(bench: Bench) -> None:
    array = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_COUNT": "2"}
    script = "#!/bin/sh\nexit $((SLURM_ARRAY_TASK_ID - 3))\n"
    bench.run(script, env={**array, "SLURM_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"})
    markers = bench.markers()
    assert status_from_records(markers, "12", "12", None) == (
        "1 of 2 members of the array wrote how they ended"
    )
    assert (
        status_from_records(markers, "12_8", "12", "8")
        == "no exit record was written: it never started"
    )
    bench.run(script, env={**array, "SLURM_JOB_ID": "13", "SLURM_ARRAY_TASK_ID": "8"})
    markers = bench.markers()
    for job_id, member, code in (("12_3", "3", 0), ("12_8", "8", 5), ("12", None, 5)):
        status = status_from_records(markers, job_id, "12", member)
        assert isinstance(status, JobStatus)
        assert (status.job_id, status.exit_code) == (job_id, code)
    assert isinstance(status_from_records(markers, "1", "1", None), str)


def test_a_restart_has_a_marker_of_its_own(bench: Bench) -> None:
    bench.run("#!/bin/sh\nexit 0\n", env={"SLURM_JOB_ID": "40"})
    again = bench.start("#!/bin/sh\nexec sleep 300\n", env={"SLURM_JOB_ID": "40",
                        "SLURM_RESTART_COUNT": "1"})  # fmt: skip
    bench.wait_for("start.40.1", "40")
    assert "no exit was written" in str(bench.verdict("40")), "the end of an earlier run is none"
    again.kill()


def test_a_stranger_with_the_same_token_ends_at_once(bench: Bench) -> None:
    script = "#!/bin/sh\necho ran\n"
    assert bench.run(script, env={"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1"})[0] == 0
    assert Path(bench.directory, "owner").read_text() == "12\n"
    code, out, err = bench.run(script, env={"SLURM_JOB_ID": "120"})
    assert (code, out) == (125, b"")
    assert err == b"openssh_jobs: job 12 does this work; job 120 ends at once\n"
    assert sorted(os.listdir(bench.directory)) == [
        ".script", "exit.12_1", "job.sh", "owner", "start.12_1",
    ]  # fmt: skip
    for env in (
        {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "13"},
        {"SLURM_RESTART_COUNT": "1"},
    ):
        assert bench.run(script, env=env) == [0, b"ran\n", b""], "a sibling, the next run"


ODD = 'it\'s "a" $(touch x) @BODY@ @DIRECTORY@\n#SBATCH -x ' + os.fsdecode(b"\xff\xfe;&*")


def test_odd_directories(bench: Bench, tmp_path: Path) -> None:
    odd = Bench(bench.shell, str(tmp_path / ODD))
    assert odd.run("#!/bin/sh\necho fine; exit 4\n")[:2] == [4, b"fine\n"]
    left = sorted(os.listdir(tmp_path / ODD))
    assert left == [".script", "exit.12", "job.sh", "owner", "start.12"]
    assert sorted(os.listdir(tmp_path)) == [ODD], "nothing was run, nothing else was made"


def test_a_record_that_cannot_be_written_costs_nothing(bench: Bench) -> None:
    for name in ("new.start.12", "new.exit.12"):
        Path(bench.directory, name).mkdir()
    assert bench.run("#!/bin/sh\necho out; echo err >&2; exit 6\n") == [6, b"out\n", b"err\n"]
    assert bench.verdict() == "no exit record was written: it never started"


def test_a_script_that_is_gone_is_said_so(bench: Bench) -> None:
    path = bench.put("#!/bin/sh\ntrue\n")
    Path(bench.body).unlink()
    done = subprocess.run([*bench.shell, path], capture_output=True, timeout=20, check=False)
    assert done.returncode == 127
    assert f"cannot be read: {bench.body}".encode() in done.stderr


# -- what was written -------------------------------------------------------------------------


def test_places_that_say_nothing() -> None:
    script = records_script({"1": "/nothing/here", "2": "/"})
    done = subprocess.run(["sh", "-c", script.replace("find .", "find ./proc/self/fd")],
                          capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    found = read_records(done.stdout)
    assert found is not None
    assert "directory of the submission is gone" in str(
        status_from_records(found["1"], "1", "1", None)
    )
    assert "without a launcher" in str(status_from_records(found["2"], "1", "1", None))
    assert read_records(done.stdout[:-6]) is None


@pytest.mark.parametrize(
    "line",
    [
        "exit 12 - 0 3 1700000000",
        "exit 12 - 0 3 1700000000 . ",
        "exit 12 - 0 n1 5 1700000000 0 .",
        "start 12 - 0 0 1700000000 .",
        "exit 12 x 0 0 1700000000 .",
        "exit 121 - 0 0 1700000000 .",
        "exit 12 3 0 0 1700000000 .",
        "exit 12 - 0 0 -5 .",
        "xexit 12 - 0 0 1700000000 .",
    ],
)
def test_half_a_marker_is_none(line: str) -> None:
    found = read_records(f"at 1\nwrapped\n{line}\ndone\n")
    assert found is not None
    assert isinstance(status_from_records(found["1"], "12", "12", None), str)


@given(st.text(alphabet="stareximdonwpl 0123456789-._\n", max_size=300))
def test_noise_ends_no_job(noise: str) -> None:
    found = read_records(f"at 1\nwrapped\n{noise}\ndone\n")
    assert found is not None
    verdict = status_from_records(found["1"], "12", "12", None)
    assert isinstance(verdict, str) or "exit 12 - " in noise


def test_an_array_of_unknown_size() -> None:
    lines = "".join(
        f"start 5 {n} 0 n1 7 1700000000 0 .\nexit 5 {n} 0 0 1700000009 .\n" for n in (1, 2)
    )
    found = read_records(f"at 1\nwrapped\n{lines}done\n")
    assert found is not None
    assert "an unknown number of members" in str(status_from_records(found["1"], "5", "5", None))
    one = status_from_records(found["1"], "5_2", "5", "2")
    assert isinstance(one, JobStatus)
    assert one.state is JobState.COMPLETED

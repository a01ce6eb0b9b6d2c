"""Words for submit commands: what they mean, and which are refused."""

from __future__ import annotations

import pytest

from openssh_jobs.errors import InputError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.submit_words import SubmitWords


def words_of(name: str) -> SubmitWords:
    found = get(name).submit_words
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("scheduler", "words", "means"),
    [
        (
            "slurm",
            "--partition gpu -J relax --time 60",
            {"queue": "gpu", "name": "relax", "time_limit": "60"},
        ),
        (
            "slurm",
            "-Hpgpu -t5 --exclusive --acco=x",
            {"queue": "gpu", "time_limit": "5", "account": "x"},
        ),
        ("slurm", "--part gpu --comment -p", {"queue": "gpu"}),
        ("slurm", "--nice --gres=gpu:2 --newer=-p", {"gpus": "gpu:2"}),
        (
            "sge",
            "-q all.q -pe smp 4 -l h_rt=60,h_vmem=2G -V",
            {"queue": "all.q", "time_limit": "60", "memory": "2G"},
        ),
        (
            "pbs",
            "-qworkq -lselect=1:ncpus=2,walltime=1:00:00 -N x",
            {"queue": "workq", "time_limit": "1:00:00", "name": "x"},
        ),
        (
            "torque",
            "-q batch -l nodes=1:ppn=2 -l walltime=60",
            {"queue": "batch", "time_limit": "60"},
        ),
        (
            "lsf",
            "-q normal -W 60 -J x -x -n 4",
            {"queue": "normal", "time_limit": "60", "name": "x"},
        ),
        (
            "htcondor",
            "-batch-name x -append request_cpus=4 request_memory=2G",
            {"name": "x", "cpus": "4", "memory": "2G"},
        ),
    ],
)
def test_what_words_mean(scheduler: str, words: str, means: dict[str, str]) -> None:
    found = words_of(scheduler)
    found.check(words.split())
    assert found.understood(words.split()) == means


@pytest.mark.parametrize(
    ("scheduler", "words", "says"),
    [
        ("slurm", "--wrap date", "--wrap date: another script or program would run"),
        ("slurm", "--wra=date", "--wrap"),
        ("slurm", "-HW", "-W: the submit command would wait"),
        ("slurm", "-J x --wait", "--wait"),
        ("slurm", "--test-only", "submit no job"),
        ("slurm", "-Q", "not print the job's id"),
        ("slurm", "--array 1-3", "--array"),
        ("slurm", "other.sh", "'other.sh': sbatch would take it for the script"),
        ("slurm", "-N 2 : -N 1", "':'"),
        ("slurm", "-- x", "'--'"),
        ("slurm", "--newer x", "write --newer=x"),
        ("slurm", "-Z x", "write -Zx"),
        ("sge", "-sync y", "wait"),
        ("sge", "-b yes", "another script"),
        ("sge", "-t 1-3", "--array"),
        ("sge", "-pe smp 4 x.sh", "'x.sh'"),
        ("pbs", "-I", "wait"),
        ("pbs", "-hz", "-z"),
        ("pbs", "-Wblock=true", "wait"),
        ("pbs", "-W umask=22,block=1", "wait"),
        ("pbs", "-- /bin/date", "'--'"),
        ("torque", "-t 1-3", "--array"),
        ("lsf", "-K", "wait"),
        ("lsf", "-Is bash", "-Is"),
        ("lsf", "-J x[1-3]", "--array"),
        ("lsf", "-q normal date", "'date'"),
        ("htcondor", "-append queue\t3", "queue"),
        ("htcondor", "executable=/bin/date", "executable"),
        ("htcondor", "-dry-run x", "no job"),
    ],
)
def test_what_could_not_be_followed_is_refused(scheduler: str, words: str, says: str) -> None:
    request = SubmitRequest(script="job.sh", options=tuple(words.split(" ")))
    with pytest.raises(InputError) as caught:
        get(scheduler).check_options(request)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("scheduler", "text", "seconds"),
    [
        ("slurm", "60", 3600),
        ("slurm", "1:30", 90),
        ("slurm", "1:00:00", 3600),
        ("slurm", "1-2", 93600),
        ("slurm", "1-2:30", 95400),
        ("slurm", "INFINITE", None),
        ("sge", "60", 60),
        ("sge", "1:0:0", 3600),
        ("pbs", "60", 60),
        ("torque", "1:0:0:0", 86400),
        ("lsf", "60", 3600),
        ("lsf", "2:30/host", 9000),
    ],
)
def test_a_time_is_read_as_the_scheduler_reads_it(
    scheduler: str, text: str, seconds: int | None
) -> None:
    assert words_of(scheduler).seconds(text) == seconds


def test_what_a_script_asks_for_itself() -> None:
    said = get("slurm").said_in_script(b"#!/bin/sh\n#SBATCH -p gpu --time=5 # -A x\necho -p y\n")
    assert said == {"queue": "gpu", "time_limit": "5"}
    assert get("sge").said_in_script(b"#!/bin/sh\n#$ -l h_rt=9 -q it's\n")["time_limit"] == "9"
    assert get("htcondor").said_in_script(b"accounting_group = a\nqueue\n") == {"account": "a"}

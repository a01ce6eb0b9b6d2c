"""The script that asks Slurm how jobs ended, with commands that note what they are asked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from openssh_jobs.jobs import JobState, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer

SLURM = get("slurm")
IDS = [str(number) for number in range(1, 201)]
DISABLED = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
OLD = "echo 'squeue: error: Invalid job format specification: exit_code' >&2; exit 1"
TIMES = "2026-11-26T09:37:19 2026-11-26T09:37:20 2026-11-26T09:37:21"


def asked(
    directory: Path, sacct: str, squeue: str = OLD, ids: Sequence[str] = IDS
) -> tuple[list[str], Snapshot | Exception]:
    """The ids that scontrol was asked for, and what the answer says of all.

    ``sacct``, ``squeue``: what these commands do.
    """
    note = f'for id; do :; done; echo "$id" >> {directory}/asked; '
    note += "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    programs = {"sacct": sacct, "squeue": squeue, "scontrol": note}
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", SLURM.history_script(ids) or ""],
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path = directory / "asked"
    answer = Answer(done.stdout, done.stderr, done.returncode)
    said: Snapshot | Exception
    try:
        said = SLURM.parse_history(answer, requested=ids)
    except Exception as error:  # noqa: BLE001 - what it is the test says
        said = error
    return path.read_text().split() if path.exists() else [], said


def test_few_jobs_are_asked_for_where_the_accounting_answers(tmp_path: Path) -> None:
    assert asked(tmp_path, "exit 0")[0] == IDS[:50]


def test_few_are_asked_for_by_themselves_where_it_does_not(tmp_path: Path) -> None:
    ids, error = asked(tmp_path, DISABLED)
    assert ids == IDS[:50]
    assert getattr(error, "kind", None) == "unsupported", "squeue's own words do not count"


def test_one_squeue_has_the_exit_codes_of_all(tmp_path: Path) -> None:
    listing = tmp_path / "listing"
    listing.write_text("".join(f"{number} {number} FAILED 768 {TIMES}\n" for number in IDS[:-1]))
    squeue = f'echo "$@" >> {tmp_path}/squeues; cat {listing}'
    ids, said = asked(tmp_path, DISABLED, squeue)
    assert ids == IDS[-1:], "the one that is not listed"
    assert isinstance(said, Snapshot)
    assert {status.exit_code for status in said.known.values()} == {3}
    assert list(said.known) == IDS[:-1]
    assert said.unknown == (IDS[-1],)
    (words,) = (tmp_path / "squeues").read_text().splitlines()
    assert f"-j {','.join(IDS)} -O JobArrayID:" in words


@pytest.mark.parametrize(
    ("row", "state", "code", "signal"),
    [
        ("7 7 FAILED 32512", "failed", 127, None),
        ("7 7 FAILED 9", "failed", None, 9),
        ("7 7 FAILED 137", "failed", None, 9),
        ("7 7 COMPLETED 0", "completed", 0, None),
        ("7 7 RUNNING 4294967294", "running", None, None),
        ("7 7 OUT_OF_MEMORY 125", "out_of_memory", None, None),
    ],
)
def test_an_exit_code_is_a_status_of_wait(
    tmp_path: Path, row: str, state: str, code: int | None, signal: int | None
) -> None:
    ids, said = asked(tmp_path, DISABLED, f"echo '{row} {TIMES}'", ids=["7", "7_1"])
    assert ids == ["7_1"]
    assert isinstance(said, Snapshot)
    status = said.known["7"]
    assert (status.state, status.exit_code, status.signal) == (JobState(state), code, signal)
    assert status.submitted is not None
    assert status.submitted.isoformat() == "2026-11-26T09:37:19+00:00"


def test_one_job_alone_is_asked_for_by_itself(tmp_path: Path) -> None:
    listed = f"echo '7 7 FAILED 768 {TIMES}'"
    assert asked(tmp_path, DISABLED, listed, ids=["7"])[0] == ["7"]


def test_elements_are_in_the_answer_for_their_array(tmp_path: Path) -> None:
    rows = "\n".join(f"5_{n} {n + 6} FAILED {n * 256} {TIMES}" for n in (1, 2))
    ids, said = asked(tmp_path, DISABLED, f"echo '{rows}'", ids=["5_2", "5_3", "5", "8+1"])
    assert ids == ["5_3", "8+1"]
    assert isinstance(said, Snapshot)
    assert said.known["5_2"].exit_code == 2


def test_what_is_cut_or_strange_is_ignored(tmp_path: Path) -> None:
    squeue = f"echo '7 7 FAILED 768'; echo '8 8 ? x {TIMES}'; echo '9 9 FAILED 768 {TIMES} 4'"
    ids, said = asked(tmp_path, DISABLED, squeue, ids=["7", "8", "9"])
    assert ids == ["7", "8", "9"], "scontrol is asked"
    assert getattr(said, "kind", None) == "unsupported"


@pytest.mark.parametrize("state", ["PENDING", "CANCELLED"])
def test_slurm_says_in_a_sentence_that_a_job_can_never_start(state: str) -> None:
    word = "DependencyNeverSatisfied"
    text = f"JOBID|STATE|REASON\n7|{state}|{word}\n"
    reason = SLURM.parse_status(Answer(text)).known["7"].reason
    never = f"{word}: a job that it depends on did not end as required, so it can never start"
    assert reason == (never if state == "PENDING" else word)


# Lists job 15 on the clusters named in $LISTED; the cluster "gone" does not answer.
ON_CLUSTERS = """\
program=${0##*/} cluster=own form= between=
while [ $# -gt 0 ]; do
    case $1 in
        -M) cluster=$2; shift ;;
        -o) form=$2; shift ;;
        --delimiter=*) between=${1#*=} ;;
    esac
    shift
done
[ "$cluster" != gone ] || { echo "$program: error: No cluster 'gone' known" >&2; exit 1; }
case " $LISTED " in *" $cluster "*) ;; *) exit 0 ;; esac
time=2026-11-26T09:37:19
[ "$program" != scontrol ] || {
    echo "JobId=15 JobName=name UserId=me(1) JobState=FAILED Reason=None ExitCode=3:0"
    exit 0
}
[ "$program" != sacct ] || {
    [ -z "$NO_RECORDS" ] || exit 0
    printf "%s$between" 15 15 FAILED 3:0 me p acc 1 n1 $time $time $time 00:00:01 00:01:00 name
    exit 0
}
printf '%s\\n' "$form" | sed "s/%[iA]/15/g; s/%T/RUNNING/; s/%C/1/; s/%[VSe]/$time/g;
    s/%[Ml]/0:01/g; s,%Z,/d,; s/%r/None/; s/%[A-Za-z]/x/g"
"""


def of_clusters(directory: Path, what: str, ids: list[str], listed: str, **env: str) -> Snapshot:
    for name in ("squeue", "sacct", "scontrol"):
        (directory / name).write_text(f"#!/bin/sh\n{ON_CLUSTERS}")
        (directory / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", getattr(SLURM, f"{what}_script")(ids)],
        env={"PATH": f"{directory}:/usr/bin:/bin", "LISTED": listed, **env},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answer = Answer(done.stdout, done.stderr, done.returncode)
    said: Snapshot = getattr(SLURM, f"parse_{what}")(answer, requested=ids)
    return said


@pytest.mark.parametrize("what", ["status", "history"])
@pytest.mark.parametrize(
    ("listed", "known", "absent"),
    [
        ("own", {"15"}, {"15;two"}),
        ("two", {"15;two"}, {"15"}),
        ("own two", {"15", "15;two"}, set()),
        ("", set(), {"15", "15;two"}),
    ],
)
def test_the_job_of_another_cluster_is_another_job(
    tmp_path: Path, what: str, listed: str, known: set[str], absent: set[str]
) -> None:
    said = of_clusters(tmp_path, what, ["15", "15;two"], listed)
    assert (set(said.known), set(said.absent), said.unknown) == (known, absent, ())


@pytest.mark.parametrize("what", ["status", "history"])
def test_a_cluster_that_does_not_answer_says_nothing_of_its_jobs(tmp_path: Path, what: str) -> None:
    said = of_clusters(tmp_path, what, ["15", "15;gone"], "own")
    assert (set(said.known), said.absent, said.unknown) == ({"15"}, (), ("15;gone",))


def test_what_scontrol_remembers_is_that_of_the_cluster(tmp_path: Path) -> None:
    said = of_clusters(tmp_path, "history", ["15", "15;two"], "two", NO_RECORDS="yes")
    assert {job_id: one.job_id for job_id, one in said.known.items()} == {"15;two": "15;two"}
    assert (said.known["15;two"].exit_code, said.absent) == (3, ("15",))

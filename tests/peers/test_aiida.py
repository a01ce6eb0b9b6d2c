"""The same answers through aiida-core's plugins: every difference, and whose fault it is.

Needs the extra ``opinions`` (``scripts/third-opinion`` gets it and runs this).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError
from tests.paths import CHECKOUT
from tests.unit.test_parser import captures, status_of

if importlib.util.find_spec("aiida") is None:
    pytest.skip("no aiida-core here (scripts/third-opinion gets it)", allow_module_level=True)

FILES = {"slurm": "slurm", "openpbs": "pbs", "torque-slurm": "torque", "sge": "sge"}
Case = tuple[str, str, dict[str, Any]]


def with_header(record: dict[str, Any]) -> dict[str, Any]:
    """An answer of ``sacct -nP`` as ``sacct -P`` would have given it: they need the titles."""
    titles = re.search(r"-o (\S+)", record["command"])
    assert titles is not None
    return {**record, "stdout": f"{titles[1].replace(',', '|')}\n{record['stdout']}"}


def cases() -> list[Case]:
    """(scheduler, what is read, transcript): all that they have a reader for."""
    listings = {
        "pbs": r"qstat (?:-x )?-f(?!.*-F)(?: |$)",
        "torque": r"qstat -f",
        "sge": r"qstat (?!.*-j ).*-xml",
    }
    submit = re.compile(r"(?:sbatch|qsub)\b(?! -(?:-version|-help|help))")
    found: list[Case] = []
    for file, name in FILES.items():
        for record in captures(file):
            if name in listings and re.match(listings[name], record["command"]):
                found.append((name, "jobs", record))
            if submit.match(record["command"]):
                found.append((name, "submit", record))
            if re.match(r"sacct -nP .*-o JobID,State,ExitCode", record["command"]):
                found.append((name, "end", with_header(record)))
    for record in (*captures("opinions"), *captures("versions")):
        # In the one form that they ask for.
        if record["id"] in ("slurm/301-squeue-aiida", "direct/001-ps", "lsf/10-noheader"):
            found.append((record["scheduler"], "jobs", record))
    return found


CASES = cases()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    home = str(tmp_path_factory.mktemp("aiida"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.peers.opinions"],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, "AIIDA_PATH": home, "HOME": home},
    )
    assert done.returncode == 0, done.stderr
    views: list[dict[str, str]] = json.loads(done.stdout)
    return views


def ours(name: str, kind: str, record: dict[str, Any]) -> dict[str, str]:
    said = {"stderr": record["stderr"], "returncode": record["returncode"]}
    try:
        if kind == "submit":
            return {parser.parse_submit(record["stdout"], name, **said): "submitted"}
        known = status_of(record, name).known
    except SchedulerError as error:
        return {"": type(error).__name__}
    if kind == "end":
        return {"job": str(next(iter(known.values())).state)} if known else {"": "no job"}
    return {job_id: str(status.state) for job_id, status in known.items()}


# Two words for the same thing.  They have one word for all that is over, and none for how.
SAME = {
    *(("submitted", "submitted"), ("running", "running"), ("suspended", "suspended")),
    *(("pending", "queued"), ("held", "queued held"), ("completing", "running")),
    *((state, "done") for state in ("completed", "failed", "cancelled", "timeout")),
    *(("unknown", "undetermined"), ("SchedulerError", "SchedulerError")),
    *((error, "SchedulerError") for error in ("SubmitRejected", "SubmitLimit", "SubmitUnknown")),
    *((state, "no word") for state in ("completed", "failed", "cancelled")),
    ("out_of_memory", "The job ran out of memory."),
    ("timeout", "The job ran out of walltime."),
    ("node_fail", "The node running the job failed."),
}
THEIRS, NOBODYS = "theirs", "nobody's"
EXPLAINED: dict[tuple[str, str], dict[tuple[str, str], str]] = {
    ("slurm", "submit"): {
        ("submitted", "SchedulerError"): f"{THEIRS}: a bare number (--parsable) is an id, too",
        ("submitted", "not in the answer"): f"{THEIRS}: the name of the cluster is left off",
        ("not in the answer", "submitted"): f"{THEIRS}: the same id, without its cluster",
        ("SubmitRejected", "The specified account is invalid."): f"{NOBODYS}: the same refusal",
    },
    ("slurm", "jobs"): {
        ("pending", "queued held"): f"{NOBODYS}: to them a wait for a time or a job is a hold",
    },
    ("pbs", "jobs"): {
        ("pending", "queued held"): f"{NOBODYS}: PBS itself shows a wait for a job as a hold",
    },
    ("torque", "jobs"): {
        ("pending running unknown", "SchedulerParsingError"): f"{THEIRS}: indented by a tab",
        ("running", "SchedulerParsingError"): f"{THEIRS}: indented by a tab",
        ("unknown", "SchedulerParsingError"): f"{THEIRS}: indented by a tab",
        ("SchedulerError", ""): f"{THEIRS}: status 153 and not a word is no empty queue",
    },
    ("sge", "jobs"): {
        ("running", "queued"): f"{THEIRS}: all tasks of an array have one id, the last one wins",
        ("suspended", "queued"): f"{THEIRS}: all tasks of an array have one id, the last one wins",
        ("suspended", "undetermined"): f"{THEIRS}: S (its queue is suspended) is not in the table",
        ("pending", "undetermined"): f"{THEIRS}: Rq is not in the table",
        ("failed", "undetermined"): f"{NOBODYS}: Eqw stays in the queue, and never starts",
        ("completing", "undetermined"): f"{NOBODYS}: dr: told to end, and not gone yet",
    },
    ("lsf", "jobs"): {
        ("running", "not in the answer"): f"{THEIRS}: a name that holds the separator",
        ("pending", "not in the answer"): f"{THEIRS}: the array's id for that of its element",
        ("not in the answer", "queued"): f"{THEIRS}: the array's id for that of its element",
    },
}


def differences(name: str, mine: dict[str, str], their: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of our word and theirs, where they are not two words for one thing."""
    if "" in mine or "" in their:
        pair = (" ".join(sorted(set(mine.values()))), " ".join(sorted(set(their.values()))))
        return set() if pair in SAME or pair == ("", "") else {pair}
    found: set[tuple[str, str]] = set()
    numbers = {job_id.partition(".")[0] if name == "sge" else job_id for job_id in mine}
    for job_id, state in mine.items():
        number = job_id.partition(".")[0] if name == "sge" else job_id
        found.add((state, their.get(number, "not in the answer")))
    found |= {
        ("not in the answer", word) for job_id, word in their.items() if job_id not in numbers
    }
    return found - SAME


def seen(theirs: list[dict[str, str]]) -> dict[tuple[str, str], dict[tuple[str, str], str]]:
    found: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for (name, kind, record), their in zip(CASES, theirs, strict=True):
        for pair in differences(name, ours(name, kind, record), their):
            found.setdefault((name, kind), {}).setdefault(pair, record["id"])
    return found


def test_every_difference_is_explained_and_every_explanation_needed(
    theirs: list[dict[str, str]],
) -> None:
    found = seen(theirs)
    assert {key: set(pairs) for key, pairs in EXPLAINED.items()} == {
        key: set(pairs) for key, pairs in found.items()
    }, found


def test_most_answers_are_read_alike(theirs: list[dict[str, str]]) -> None:
    alike = sum(
        not differences(name, ours(name, kind, record), their)
        for (name, kind, record), their in zip(CASES, theirs, strict=True)
    )
    assert alike >= 80, f"{alike} of {len(CASES)}"
    assert {kind for _, kind, _ in CASES} == {"jobs", "submit", "end"}

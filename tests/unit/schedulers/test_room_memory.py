"""How much memory the readers take, as a ratio to the text (counted by tracemalloc, not by RSS)."""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest

from openssh_jobs import parser
from openssh_jobs.jobs import JobState, Snapshot
from tests.unit.test_parser import captures


def peak_of(text: str) -> tuple[int, Snapshot]:
    """Bytes that reading a text took at its highest, the text itself not counted."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        snapshot = parser.parse_status(text, "slurm")
        return tracemalloc.get_traced_memory()[1] - before, snapshot
    finally:
        tracemalloc.stop()


MARK = 987654321987


def many(name: str, count: int) -> str:
    """A real answer with ``--json``, its jobs repeated under other ids."""
    record = next(one for one in captures("slurm") if one["id"].startswith(name))
    answer = json.loads(record["stdout"])
    alone = {"array_job_id": 0} if "array_job_id" in answer["jobs"][0] else {"array": {"job_id": 0}}
    jobs = [json.dumps({**job, "job_id": MARK, **alone}, indent=1) for job in answer["jobs"]]
    text = ",\n".join(
        jobs[number % len(jobs)].replace(f'"job_id": {MARK},', f'"job_id": {100_000 + number},')
        for number in range(count)
    )
    return json.dumps({**answer, "jobs": []}, indent=1).replace('"jobs": []', f'"jobs": [{text}]')


@pytest.mark.parametrize(("name", "most"), [("slurm/068", 0.75), ("slurm/114", 1.2)])
def test_jobs_in_json_take_no_more_than_their_text(name: str, most: float) -> None:
    text = many(name, 1_000)
    peak, snapshot = peak_of(text)
    assert len(snapshot.known) == 1_000
    # json.loads alone takes 1.8 and 3.2 times the text.
    assert peak < most * len(text)
    few = parser.parse_status(many(name, 40), "slurm").known
    assert len(few) == 40
    assert {job_id: snapshot.known[job_id] for job_id in few} == few


def test_the_memory_for_a_table_is_linear() -> None:
    taken = {}
    for count in (3_000, 30_000):
        rows = "".join(f"{one}|RUNNING|None|name-{one}\n" for one in range(count))
        peak, snapshot = peak_of(f"JOBID|STATE|REASON|NAME\n{rows}")
        assert len(snapshot.known) == count
        assert snapshot["77"].state is JobState.RUNNING
        taken[count] = peak / count
    assert taken[30_000] < 1.15 * taken[3_000]
    assert taken[30_000] < 400  # bytes a row: a status, its line and its id

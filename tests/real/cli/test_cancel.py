"""``cancel``: jobs that run, that have ended, and that are not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import program, script, submitted

pytestmark = pytest.mark.usefixtures("own_journal")


def test_cancel(direct: list[str], there: str, tmp_path: Path) -> None:
    job = submitted(direct, there, script(tmp_path, "sleep 60"))
    listed = program("list", *direct)
    assert listed.code == 0
    assert [row.split()[1] for row in listed.out.splitlines()[1:]].count(job) == 1
    assert job in {status["job_id"] for status in program("status", *direct, "--json").data["jobs"]}
    done = program("cancel", *direct, job)
    assert (done.code, done.out, done.err) == (0, "", "")
    ended = program("tail", *direct, job, "-f")
    assert (ended.code, ended.out) == (1, "")
    assert ended.sentence().endswith(f"job {job}: cancelled")
    again = program("cancel", *direct, job, "--json")
    assert (again.code, again.data["outcomes"]) == (0, {job: "already_finished"})


def test_ids_that_are_none_of_ours(direct: list[str], there: str) -> None:
    done = program("cancel", *direct, "999999999")
    assert done.code == 1
    said = "the queue does not list it"
    assert done.sentence() == f"{direct[-1]}: job 999999999 is not known there: {said}"
    done = program("status", *direct, "999999999")
    assert done.code == 5
    assert done.out == f"999999999\nunknown: {said}.\n"

"""Grid Engine's jobs by their tokens: what the accounting proves where it did not answer."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.unit.schedulers.htcondor.test_scheduler import commands, run_sh

SGE = get("gridengine")


@pytest.mark.parametrize(
    ("qacct", "remembers"),
    [
        ("echo 'error: no jobs running since startup' >&2; exit 1\n", inf),
        ("echo 'error: owner alice not found' >&2; exit 1\n", inf),
        ("echo 'sh: 1: qacct: not found' >&2; exit 127\n", 0.0),
        ("nowhere-to-be-found -j\n", 0.0),
        ("exit 1\n", 0.0),
    ],
)
def test_a_host_without_qacct_remembers_nothing(
    tmp_path: Path, qacct: str, remembers: float
) -> None:
    env = commands(tmp_path, qstat="exit 0\n", qacct=qacct)
    requests = [SubmitRequest(script="/d/.openssh_jobs/t1/x", token="t1")]
    script = SGE.token_script(requests, since=datetime.now(UTC))
    assert script is not None
    done = run_sh(script, env, tmp_path)
    found = SGE.parse_tokens(Answer(done.stdout, done.stderr, done.returncode), requests)
    assert (found.jobs, found.remembers) == ({}, remembers)

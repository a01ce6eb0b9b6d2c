"""A user's shell on the login node, and a scheduler's scripts run in it, without ssh."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from openssh_jobs import parser
from openssh_jobs.jobs import CancelOutcome, JobStatus, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.lab.gridengine import GridEngineLab
from tests.lab.slurm import SlurmLab


class Account:
    """One user's shell on the login node; ``scheduler`` is that of the lab."""

    def __init__(self, lab: SlurmLab | GridEngineLab, directory: Path, user: str) -> None:
        self.lab = lab
        self.scheduler = get("slurm" if isinstance(lab, SlurmLab) else "sge")
        self.prologue = lab.prologue if isinstance(lab, GridEngineLab) else ":"
        self.user = user
        self.directory = directory / user
        self.directory.mkdir(parents=True)
        subprocess.run(["chown", user, str(self.directory)], check=True, timeout=10)

    def run(self, script: str, **environment: str) -> tuple[str, str, int]:
        words = [f"{key}={value}" for key, value in environment.items()]
        done = subprocess.run(
            [
                *self.lab.machine.enter,
                *("runuser", "-u", self.user, "--", "env", f"HOME={self.directory}", *words),
                *("/bin/sh", "-c", f'{self.prologue}; cd "$HOME" && eval "$1"', "sh"),
                os.fsencode(script),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
        )
        return os.fsdecode(done.stdout), os.fsdecode(done.stderr), done.returncode

    def submit(self, text: str = "#!/bin/sh\nexit 0\n", **request: object) -> str:
        (self.directory / "job.sh").write_text(text)
        wanted = SubmitRequest(script="job.sh", **request)  # type: ignore[arg-type]
        out, err, code = self.run(self.scheduler.submit_script(wanted))
        return self.scheduler.parse_submit(Answer(out, err, code))

    def status(self, *ids: str, all_users: bool = False) -> Snapshot:
        out, err, code = self.run(self.scheduler.status_script(ids, all_users=all_users))
        return parser.parse_status(out, stderr=err, returncode=code, requested=ids if ids else None)

    def detail(self, job_id: str) -> JobStatus:
        script = self.scheduler.detail_script(job_id)
        assert script is not None
        out, err, code = self.run(script)
        return self.scheduler.parse_detail(Answer(out, err, code))

    def history(self, *ids: str, since: datetime | None = None) -> Snapshot:
        script = self.scheduler.history_script(ids, since=since)
        assert script is not None
        out, err, code = self.run(script)
        return self.scheduler.parse_history(Answer(out, err, code), requested=ids, since=since)

    def cancel(self, *ids: str) -> dict[str, CancelOutcome]:
        out, err, code = self.run(self.scheduler.cancel_script(ids))
        return self.scheduler.parse_cancel(Answer(out, err, code), requested=ids)

    def wait(self, job_id: str, until: Callable[[JobStatus], bool] | None = None) -> JobStatus:
        deadline = time.monotonic() + 40
        while True:
            status = self.status(job_id)[job_id]
            if (until or (lambda one: one.is_final))(status):
                return status
            assert time.monotonic() < deadline, f"{status} for 40 seconds"
            time.sleep(0.3)

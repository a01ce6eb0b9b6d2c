"""A directory on a host for one test, and a cluster that submits there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openssh_jobs import Cluster, Job
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

# Programs of a Slurm that has forgotten every job.
FORGETFUL = {
    "squeue": "exit 0",
    "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    "scontrol": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
}


@dataclass
class Room:
    """A directory of one test on the host, and the cluster that submits there."""

    cluster: Cluster
    host: Host
    scheduler: str
    path: Path
    slurm: SlurmLab | None

    @property
    def here(self) -> str:
        return str(self.path)

    def private(self) -> list[Path]:
        return list(self.path.rglob(".openssh_jobs"))

    def make(self, name: str, text: str) -> str:
        self.host.make(str((self.path / name).relative_to(self.host.home)), os.fsencode(text))
        return name

    def program(self, name: str, text: str) -> None:
        """A script in ``bin``, where the clusters of ``another`` look first for programs."""
        self.make(f"bin/{name}", f"#!/bin/sh\n{text}\n")
        (self.path / "bin" / name).chmod(0o755)

    def another(self, **options: Any) -> Cluster:
        """Another program on this machine: it has the journal, and the programs of ``bin``."""
        usual = {
            "poll_interval": 0.2,
            "journal": self.cluster.journal.path,
            "prologue": f"PATH={self.here}/bin:$PATH; export PATH",
        }
        return Cluster(
            self.host.alias,
            ssh_config=self.host.config,
            scheduler=self.scheduler,
            **{**usual, **options},
        )

    def submit(self, text: str = "true", **asked: Any) -> Job:
        asked.setdefault("directory", self.here)
        job: Job = self.cluster.submit(script_text=f"#!/bin/sh\n{text}\n", **asked)
        return job

    def until(self, job: Job, done: Callable[[], bool], what: str, *, patience: float = 30) -> None:
        deadline = time.monotonic() + patience
        while not done():
            assert time.monotonic() < deadline, f"{what} did not come: {job.last}"
            time.sleep(0.1)

    def until_state(self, job: Job, state: str) -> None:
        self.until(job, lambda: job.status().state == state, state)


@contextlib.contextmanager
def open_room(
    host: Host,
    scheduler: str,
    slurm: SlurmLab | None,
    local: Path,
    *,
    others: Container[str] = (),
    **options: Any,
) -> Iterator[Room]:
    """A room; afterwards its jobs are cancelled and all files are gone.  ``local``: our side.

    ``others``: ids of the same user's jobs that stay, because they have no file in here.
    """
    path = host.make_directory(f"room-{secrets.token_hex(4)}")
    options = {"poll_interval": 0.2, "journal": str(local / "journal"), **options}
    with Cluster(host.alias, ssh_config=host.config, scheduler=scheduler, **options) as cluster:
        yield Room(cluster, host, scheduler, path, slurm)
        running = [row.job_id for row in cluster.journal.rows() if row.job_id]
        if running:
            cluster.cancel(running)
    if slurm is not None:
        # Slurm's own hand is in a directory that is about to go.
        for _ in range(100):
            listed = slurm.command("squeue", "-h", "-u", host.user, "-o", "%i").split()
            if all(one in others for one in listed):
                break
            time.sleep(0.1)
    shutil.rmtree(path)
    shutil.rmtree(host.home / ".openssh_jobs", ignore_errors=True)

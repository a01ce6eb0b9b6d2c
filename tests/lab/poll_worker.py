"""A process of ``tests.lab.poll``: it waits for jobs, or submits and waits again and again."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from openssh_jobs import Cluster, Connection
from openssh_jobs.errors import OpenSSHJobsError


def _cluster(facts: dict[str, Any]) -> Cluster:
    return Cluster(
        Connection(facts["alias"], ssh_config=facts["config"]),
        scheduler="slurm",
        journal=facts["journal"],
        poll_interval=facts["interval"],
    )


def _wait(facts: dict[str, Any]) -> None:
    with _cluster(facts) as cluster:
        jobs = [cluster.job(job_id) for job_id in facts["jobs"]]
        for job in cluster.as_completed(jobs):
            print(job.id, job.last.state, time.time(), flush=True)


def _again(facts: dict[str, Any]) -> None:
    """Submit some jobs and wait for them until ``until`` (seconds since 1970); what it took."""
    done = errors = 0
    with _cluster(facts) as cluster:
        while time.time() < facts["until"]:
            tokens = [os.urandom(8).hex() for _ in range(facts["jobs"])]
            ids = []
            for token in tokens:
                while True:
                    try:
                        text = f"#!/bin/sh\nsleep {random.uniform(1, 40):.1f}\n"
                        seeded = facts.setdefault("texts", {}).setdefault(token, text)
                        job = cluster.submit(
                            script_text=seeded, directory=f"soak/{token}", token=token
                        )
                    except OpenSSHJobsError as error:
                        errors += 1
                        print(f"submit: {error}", file=sys.stderr, flush=True)
                        time.sleep(5)
                        if time.time() > facts["until"] + 600:
                            return
                    else:
                        ids.append(job.id)
                        break
            facts["texts"].clear()
            while True:
                try:
                    statuses = cluster.wait(ids, timeout=1200)
                    break
                except OpenSSHJobsError as error:
                    errors += 1
                    print(f"wait: {error}", file=sys.stderr, flush=True)
                    time.sleep(5)
            done += len(statuses)
            states = sorted({str(status.state) for status in statuses})
            figures = {
                "at": time.time(), "done": done, "errors": errors, "states": states,
                "memory": _memory(), "descriptors": len(os.listdir("/proc/self/fd")),
                "queries": cluster.queries,
            }  # fmt: skip
            print(json.dumps(figures), flush=True)


def _memory() -> int:
    """The memory of this process in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    {"wait": _wait, "again": _again}[sys.argv[1]](json.loads(sys.argv[2]))

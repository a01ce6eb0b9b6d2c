"""One client of the trials: submits or recovers what a JSON text on stdin names.

It may be killed at any moment.  A line of the output: token, then the id, or the error's class.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from openssh_jobs import Cluster
from openssh_jobs.cluster import attempt
from openssh_jobs.errors import OpenSSHJobsError, SubmitUnknown

QUICK = {"ServerAliveInterval": "1", "ServerAliveCountMax": "2"}


def script(ledger: str) -> str:
    """A job that writes down that it ran."""
    return f'#!/bin/sh\necho "$SLURM_JOB_ID" >>{ledger}\n'


def _submit(cluster: Cluster, one: dict[str, Any], record_exit: Any) -> None:
    time.sleep(one["delay"])
    try:
        job = cluster.submit(
            script_text=script(one["ledger"]),
            directory=one["directory"],
            token=one["token"],
            record_exit=record_exit,
        )
    except (OpenSSHJobsError, OSError) as error:
        _say(one["token"], type(error).__name__, str(error)[:200])
    else:
        _say(one["token"], job.id)


def _say(*words: str) -> None:
    sys.stdout.write(json.dumps(words) + "\n")  # in one piece: threads write, too
    sys.stdout.flush()


def main() -> None:
    """Do what stdin says."""
    asked = json.loads(sys.stdin.read())
    logging.basicConfig(filename=asked["log"], format="%(message)s")
    logging.getLogger("openssh_jobs.cluster").setLevel(logging.INFO)
    attempt.LIMIT, attempt._CLOCKS_DIFFER = asked["limit"], asked["clocks"]
    cluster = Cluster(
        "hpc",
        ssh_config=asked["config"],
        ssh_options=QUICK,
        persist=15,
        connect_timeout=10,
        scheduler="slurm",
        prologue=asked["prologue"],
        journal=asked["journal"],
        login_shell=False,
    )
    if asked["recover"]:
        for _ in range(3):
            try:
                cluster.recover()
                break
            except SubmitUnknown as error:
                _say("unknown", *error.tokens)
                break
            except OpenSSHJobsError as error:
                _say("error", type(error).__name__, str(error)[:200])
                time.sleep(2)
    threads = [
        threading.Thread(target=_submit, args=(cluster, one, asked["record_exit"]))
        for one in asked["submissions"]
    ]
    Path(asked["ready"]).touch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

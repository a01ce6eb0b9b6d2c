"""Waiting for many jobs of a real Slurm: an interrupt leaves them, a lost link is waited out."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openssh_jobs import JobStatus
from tests.helpers import PYTHON
from tests.lab.room import Room, open_room
from tests.lab.site import Site
from tests.lab.slurm import SlurmLab, wait_until

NUMBER = 40
CLIENT = """\
import sys
from openssh_jobs import Cluster
cluster = Cluster(sys.argv[1], ssh_config=sys.argv[2], scheduler="slurm", journal=sys.argv[3])
jobs = [cluster.job(job_id) for job_id in sys.argv[4:]]
for job in cluster.as_completed(jobs, on_change=lambda changed: print(len(changed), flush=True)):
    print("over", job.id)
"""


def interrupted(room: Room, ids: list[str]) -> tuple[int, str, str]:
    """Wait for the jobs in a process of its own, and press Ctrl-C when it has heard of them."""
    words = [room.host.alias, str(room.host.config), str(room.cluster.journal.path), *ids]
    with subprocess.Popen(
        [*PYTHON, CLIENT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    return process.returncode, first + out, err


def test_an_interrupt_leaves_all_jobs_and_a_lost_link_is_waited_out(
    cold: Path, expect_logins: Callable[..., None], site: Site, slurm: SlurmLab, tmp_path: Path
) -> None:
    expect_logins(2)
    found: list[JobStatus] = []
    changes: list[JobStatus] = []
    with open_room(site.host("direct"), "slurm", slurm, tmp_path) as room:
        cluster = room.cluster
        rows: list[dict[str, Any]] = [{"name": f"w{n}"} for n in range(NUMBER)]
        text = "#!/bin/sh\nexit $((${SLURM_ARRAY_TASK_ID-0} == 2))\n"
        jobs = cluster.submit_many(rows, script_text=text, directory=room.here, hold=True)
        jobs.append(cluster.submit(script_text=text, directory=room.here, hold=True, array="1-3"))
        ids = [job.id for job in jobs]

        code, out, err = interrupted(room, ids)
        assert (code, "over" in out, "KeyboardInterrupt" in err) == (-signal.SIGINT, False, True)
        assert {str(status.state) for status in cluster.status(jobs).known.values()} == {"held"}

        waiting = threading.Thread(
            target=lambda: found.extend(cluster.wait(jobs, timeout=100, on_change=changes.extend))
        )
        waiting.start()
        wait_until("the first answer", lambda: len(changes) >= NUMBER)
        master = cluster.connection.check().master
        assert master is not None
        os.kill(master, signal.SIGKILL)
        slurm.command("scontrol", "release", ",".join(ids), user=room.host.user)
        waiting.join(100)
        assert not waiting.is_alive()
        cluster.connection.close(stop_master=True)
        # The room is tidied up below: by hand, without another login.
        for row in cluster.journal.rows():
            cluster.journal.forget(row.host, row.token)
    assert [status.job_id for status in found] == ids
    assert {str(status.state) for status in found[:-1]} == {"completed"}
    assert (found[-1].state, len(found)) == ("failed", NUMBER + 1)

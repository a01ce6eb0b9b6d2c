"""Ways for a job of the lab's Slurm to end, or to begin again, that nobody has to wait long for."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from tests.lab import namespaces
from tests.lab.slurm import SlurmLab, wait_until

AGAIN = "[ -e {0} ] && exit 0; touch {0}; exec sleep 300"
"""Sleeps the first time, and then ends well."""
HUNGRY = "exec python3 -c 'b = bytearray(300_000_000); print(sum(b))'"
"""A job that takes 300 MB."""


def let_expire(lab: SlurmLab, job_id: str) -> None:
    """The time of a running job is up now; Slurm looks for such jobs every 30 seconds.

    A limit is in minutes, the end that follows from it is in seconds.
    """
    soon = lab.command("date", "-d", "+2 seconds", "+%Y-%m-%dT%H:%M:%S").strip()
    lab.command("scontrol", "update", f"JobId={job_id}", f"EndTime={soon}")


def start_one_that_expires(lab: SlurmLab) -> str:
    """A user's job whose time will soon have been up, as if it were submitted by hand; its id."""
    words = ("sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "--wrap", "exec sleep 300")
    job_id = lab.command(*words, user=namespaces.USERS[0][0]).strip()

    def runs() -> bool:
        return lab.command("squeue", "-h", "-j", job_id, "-o", "%T").strip() == "RUNNING"

    wait_until("a job that expires", runs)
    let_expire(lab, job_id)
    return job_id


def fail_node(lab: SlurmLab, name: str) -> None:
    """Kill a node's slurmd; the controller is informed, and need not detect it."""
    lab.nodes[name].stop(number=signal.SIGKILL)
    lab.command("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=broken")


def mend_node(lab: SlurmLab, name: str) -> None:
    """Start it again; it comes into service by itself (ReturnToService)."""
    lab.nodes[name].start()
    lab.wait_until_ready()


def step_runs(job_id: str) -> bool:
    """Whether a slurmstepd of this job runs on any node."""
    title = f"slurmstepd: [{job_id}.".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(title):
                return True
    return False


def begin_again(lab: SlurmLab, *ids: str) -> None:
    """Start jobs that were sent back to the queue, for which Slurm would wait two minutes.

    It waits for a reason: with the end of a run its credential is revoked, and a node then takes
    a new one only if it was issued in a later second.  Else the job has ended for good, ``FAILED``
    with exit code 1 (slurmctld's log: "Job credential revoked").
    """
    wait_until("the end of the first runs", lambda: not any(step_runs(one) for one in ids))
    off_the_node = int(time.time())
    wait_until("the next second", lambda: time.time() > off_the_node + 1.05)
    for job_id in ids:
        lab.command("scontrol", "update", f"JobId={job_id}", "StartTime=now")

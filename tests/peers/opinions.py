"""What aiida-core reads in the same answers: records on stdin, its views on stdout, all JSON.

A process of its own: to import aiida-core makes a directory below ``AIIDA_PATH`` and warns of it.
It must be installed (extra ``opinions``); no profile and no database are needed.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")


def schedulers() -> dict[str, Any]:
    from aiida.schedulers.plugins.direct import DirectScheduler
    from aiida.schedulers.plugins.lsf import LsfScheduler
    from aiida.schedulers.plugins.pbspro import PbsproScheduler
    from aiida.schedulers.plugins.sge import SgeScheduler
    from aiida.schedulers.plugins.slurm import SlurmScheduler
    from aiida.schedulers.plugins.torque import TorqueScheduler

    classes = {
        "slurm": SlurmScheduler,
        "pbs": PbsproScheduler,
        "torque": TorqueScheduler,
        "sge": SgeScheduler,
        "lsf": LsfScheduler,
        "direct": DirectScheduler,
    }
    return {name: cls() for name, cls in classes.items()}


def view(scheduler: Any, kind: str, record: dict[str, Any]) -> dict[str, str]:
    """A word by job id; the name of the exception under an empty id, where that is the answer."""
    answer = (record["returncode"], record["stdout"], record["stderr"])
    try:
        if kind == "jobs":
            jobs = scheduler._parse_joblist_output(*answer)
            return {job.job_id: str(job.job_state.value) for job in jobs}
        if kind == "submit":
            found = scheduler._parse_submit_output(*answer)
            return {found: "submitted"} if isinstance(found, str) else {"": str(found.message)}
        ended = scheduler.parse_output(detailed_job_info={"stdout": record["stdout"]})
    except Exception as error:  # noqa: BLE001 - of any kind: it is what is compared
        return {"": type(error).__name__}
    return {"job": "no word" if ended is None else str(ended.message)[:60]}


def main() -> None:
    logging.disable(logging.CRITICAL)
    theirs = schedulers()
    asked = json.load(sys.stdin)
    json.dump([view(theirs[name], kind, record) for name, kind, record in asked], sys.stdout)


if __name__ == "__main__":
    main()

"""Torque: qsub, qstat -x (XML), qdel, qhold, qrls, pbsnodes.

Also reads what Slurm's qstat wrapper (slurm-wlm-torque) prints, whose letters are lossy: ``C`` is
any end, ``U`` anything else.  A server forgets ended jobs after ``keep_completed`` seconds.
"""

from __future__ import annotations

import re
from typing import ClassVar

from openssh_jobs.jobs import JobId
from openssh_jobs.schedulers.base import SubmitRequest
from openssh_jobs.schedulers.launcher import TORQUE_JOBS, Convention
from openssh_jobs.schedulers.pbs import PBS, memory_text, walltime


class Torque(PBS):
    """Torque, 2.5 to 6."""

    name: ClassVar[str] = "torque"
    aliases: ClassVar[tuple[str, ...]] = ()
    probe: ClassVar[str] = (
        "command -v qsub >/dev/null 2>&1 || exit 1\n"
        "command -v qconf >/dev/null 2>&1 && exit 1\n"
        "qstat --version 2>&1 </dev/null | grep -i '^ *version:'"
    )
    is_torque: ClassVar[bool] = True
    convention: ClassVar[Convention | None] = TORQUE_JOBS

    def _array_option(self) -> str:
        return "-t"

    def _resources(self, request: SubmitRequest) -> list[str]:
        wishes: list[str] = []
        if request.nodes or request.cpus or request.gpus:
            chunk = [f"nodes={request.nodes or 1}"]
            if request.cpus:
                chunk.append(f"ppn={request.cpus}")
            if request.gpus:
                chunk.append(f"gpus={request.gpus}")
            wishes.append(":".join(chunk))
        if request.memory:
            wishes.append(f"mem={memory_text(request.memory)}")
        limit = walltime(request.time_limit)
        if limit is not None:
            wishes.append(f"walltime={limit}")
        # In one word: Slurm's wrapper heeds the last -l only.
        return [",".join(wishes)] if wishes else []

    def _query(self, words: str) -> str:
        return f"qstat -x {words}"

    def _query_now(self, words: str) -> str | None:
        """Slurm's wrapper knows no ``-x``."""
        return f"qstat -f {words}"

    # Slurm's wrappers have no qselect, and their qstat calls an empty list an error, silently.
    _own_ids: ClassVar[str] = (
        'if command -v qselect >/dev/null; then qselect -u "$(id -un)" </dev/null\n'
        'else oj_list=$(qstat -u "$(id -un)" 2>&1 </dev/null)\noj_rc=$?\n'
        'if [ $oj_rc = 153 ] && [ -z "$oj_list" ]; then oj_rc=0; fi\n'
        "[ $oj_rc = 0 ] || printf '%s\\n' \"$oj_list\" >&2\n"
        "printf '%s\\n' \"$oj_list\" | sed -n 's/^\\([0-9][^ ]*\\) .*/\\1/p'\n"
        "(exit $oj_rc)\nfi"
    )

    def _says_nothing_of_unknown_ids(self, stderr: str) -> bool:
        return "Unknown option: x" in stderr and "Problem loading" not in stderr

    def usual_paths(self, job_id: str, name: str) -> tuple[str, str]:
        number = JobId.parse(job_id).number
        return f"{name}.o{number}", f"{name}.e{number}"

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return _LOOKS_LIKE.search(stdout) is not None


_LOOKS_LIKE = re.compile(
    r"<Data><Job>|<Job_Id>|^Job Id:\t|^Job id +Name +Username|exit_status = |^    comp_time = "
    r"|^OJ:[0-9a-f]+ begin (?:qstat|pbsnodes)-torque",
    re.MULTILINE,
)

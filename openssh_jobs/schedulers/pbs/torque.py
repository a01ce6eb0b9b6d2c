"""Torque: qsub, qstat -x (XML), qdel, qhold, qrls, pbsnodes.

Measured: Torque 6 (its last master).  A server forgets ended jobs after ``keep_completed`` seconds
(default 300).  Also reads what Slurm's qstat wrapper (slurm-wlm-torque) prints, whose
letters are lossy: ``C`` is any end, ``U`` anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ...errors import InputError
from ...jobs import CancelOutcome, JobId
from ..base import AfterEnd
from ..fields import chunks, expand_array
from ..launcher.launcher import TORQUE_JOBS, Convention
from ..request import ALL_OPTIONS, SubmitRequest
from ..submit_words import SubmitWords
from .scheduler import PBS, walltime
from .words import TORQUE_QSUB


class Torque(PBS):
    """Torque, 2.5 to 6."""

    name: ClassVar[str] = "torque"
    title: ClassVar[str | None] = "Torque"
    aliases: ClassVar[tuple[str, ...]] = ()
    lacks: ClassVar[Mapping[str, str]] = {
        "qos": "options=('-W', 'x=QOS:NAME') where Moab or Maui schedules",
        "reservation": "options=('-W', 'x=FLAGS:ADVRES:NAME') where Moab or Maui schedules",
        "constraint": "properties of nodes: options=('-l', 'nodes=1:NAME')",
        "arguments": "the script reads variables: env=",
    }
    capabilities: ClassVar[frozenset[str]] = ALL_OPTIONS - lacks.keys()
    submit_words: ClassVar[SubmitWords | None] = TORQUE_QSUB
    probe: ClassVar[str] = (
        "command -v qsub >/dev/null 2>&1 || exit 1\n"
        "command -v qconf >/dev/null 2>&1 && exit 1\n"
        "qstat --version 2>&1 </dev/null | grep -i '^ *version:'"
    )
    is_torque: ClassVar[bool] = True
    after_end: ClassVar[AfterEnd] = "requeue"  # where Slurm plays Torque
    convention: ClassVar[Convention | None] = TORQUE_JOBS
    late_output: ClassVar[str | None] = (
        "Where the job runs it is spooled, and it is delivered when the job ends; -k oe keeps it "
        "in the home directory from the start."
    )

    def _array_option(self) -> str:
        return "-t"

    def _check_array(self, request: SubmitRequest) -> None:
        """Numbers and ranges (translate_range_string_to_vector in u_misc.c).

        The server makes room for all indices up to the largest (parse_array_request in
        job_array.cpp), so that is bounded, too.
        """
        text = request.array or ""
        if ":" in text:
            raise InputError(
                f"Torque takes no array {text!r}",
                advice="Numbers and ranges without a step: 0-9, 1,3,5, 1-100%5.",
            )
        largest = max(expand_array(text), default=0)
        if largest > request.max_array:
            raise InputError(
                f"array {text!r}: Torque would make room for {largest} elements, more than "
                f"{request.max_array}",
                advice="Begin with a smaller number, or raise max_array of this host in "
                "servers.toml.",
            )

    def _resources(self, request: SubmitRequest) -> list[str]:
        resources: list[str] = []
        if request.nodes or request.cpus or request.gpus:
            chunk = [f"nodes={request.nodes or 1}"]
            if request.cpus:
                chunk.append(f"ppn={request.cpus}")
            if request.gpus:
                chunk.append(f"gpus={request.gpus}")
            resources.append(":".join(chunk))
        if request.memory:
            resources.append(f"mem={request.memory_in(1024)}kb")
        limit = walltime(request.seconds)
        if limit is not None:
            resources.append(f"walltime={limit}")
        # In one word: Slurm's wrapper uses the last -l only.
        return [",".join(resources)] if resources else []

    # Slurm's wrappers have no qselect, and their qstat calls an empty list an error, silently.

    def _asking(self, ids: Sequence[str]) -> list[str]:
        arrays = {job_id: None for job_id in ids if JobId.parse(job_id).tasks == ""}
        others = [job_id for job_id in ids if job_id not in arrays]
        return [
            *(f"oj_jobs {self.words(*batch)}\n" for batch in chunks(others)),
            *(f"oj_array {self.words(array)}\n" for array in arrays),
        ]

    def _outcome(self, text: str, returncode: int) -> CancelOutcome:
        if returncode == 153 and not text.strip():
            return CancelOutcome.NOT_FOUND  # qhold prints nothing for an unknown job
        return super()._outcome(text, returncode)

    def recognises(self, stdout: str, stderr: str = "", command: str | None = None) -> bool:
        return _LOOKS_LIKE.search(stdout) is not None


_LOOKS_LIKE = re.compile(
    r"<Data><Job>|<Job_Id>|^Job Id:\t|^Job id +Name +Username|exit_status = |^    comp_time = "
    r"|^OJ:[0-9a-f]+ begin (?:qstat|pbsnodes)-torque",
    re.MULTILINE,
)

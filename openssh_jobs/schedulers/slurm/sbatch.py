"""sbatch(1): its options and its answer; ids and paths of elements as Slurm writes them.  Pure."""

from __future__ import annotations

import re

from ...jobs import JobId
from ..fields import is_number
from ..request import SubmitRequest

# A wrapper of the site may put words, or the colour of its terminal, around it.
_SUBMITTED = re.compile(
    r"(?:^|[^\w\n])Submitted batch job ([0-9]+)(?: on cluster ([\w.\-]+))?(?![\w\-])",
    re.MULTILINE | re.ASCII,
)
_PARSABLE = re.compile(r"^[ \t]*([0-9]+(?:;[A-Za-z0-9_.\-]+)?)[ \t\r]*$", re.MULTILINE | re.ASCII)


def sbatch_words(request: SubmitRequest) -> list[str]:
    """The options of sbatch(1) for a request; ``request.options`` come last and win."""
    words = ["--parsable"]
    for option, value in (
        ("job-name", request.name),
        ("array", request.array),
        ("partition", request.queue),
        ("account", request.account),
        ("time", _limit(request.seconds)),
        ("nodes", request.nodes),
        ("cpus-per-task", request.cpus),
        ("mem", _memory(request)),
        ("gres", _gpus(request.gpus)),
        ("qos", request.qos),
        ("reservation", request.reservation),
        ("constraint", request.constraint),
        ("mail-user", request.mail),
        ("mail-type", "END,FAIL" if request.mail else None),
        ("output", request.stdout_path),
        ("error", request.stderr_path),
        ("dependency", _dependency(request)),
    ):
        if value is not None:
            words.append(f"--{option}={value}")
    if request.hold:
        words.append("--hold")
    words.extend(request.options)
    return words


def plain(job_id: JobId, *, array_only: bool = False) -> str:
    """An id as Slurm's commands take it: no cluster, no ``%2`` behind an array's elements."""
    if job_id.component is not None:
        return f"{job_id.number}+{job_id.component}"
    if job_id.tasks is None:
        return job_id.number
    tasks = job_id.tasks.partition("%")[0]
    if tasks.isdigit():
        return f"{job_id.number}_{tasks}"
    return job_id.number if array_only or not tasks else f"{job_id.number}_[{tasks}]"


def _limit(limit: int | None) -> str | None:
    if limit is None:
        return None
    days, seconds = divmod(limit, 86400)
    return f"{days}-{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _memory(request: SubmitRequest) -> str | None:
    size = request.memory_in(1024)
    return None if size is None else f"{size}K"


def _gpus(value: int | str | None) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if text.startswith("gpu") else f"gpu:{text}"


def _dependency(request: SubmitRequest) -> str | None:
    parts = [
        ":".join((word, *(plain(JobId.parse(job_id)) for job_id in ids)))
        for word, ids in (
            ("afterok", request.after_ok),
            ("afterany", request.after_any),
            ("afternotok", request.after_failed),
        )
        if ids
    ]
    return ",".join(parts) or None


EACH = "%a"
"""What stands in the path of elements that wait together, as in sbatch(1)."""
NO_VALUE = "4294967294"
"""What scontrol puts for it: NO_VAL of slurm.h."""


def path_of_element(path: str, task: str | None) -> str | None:
    """An element's own path; ``None`` for the whole array."""
    if EACH not in path:
        return path
    return path.replace(EACH, task) if task is not None and is_number(task) else None


def submitted_ids(stdout: str) -> list[str]:
    """The ids in the answer of sbatch, whatever banners stand around them."""
    spoken = [
        match[1] + (f";{match[2]}" if match[2] else "") for match in _SUBMITTED.finditer(stdout)
    ]
    if spoken:
        return spoken
    bare = _PARSABLE.findall(stdout)
    # A federation's "5;east" and a site's own "5" beside it are one job.
    return [job for job in bare if not any(other.startswith(f"{job};") for other in bare)]

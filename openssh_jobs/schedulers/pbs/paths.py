"""Where the PBS family puts the output of a job, by the attributes of its record.  Pure.

Measured on OpenPBS 23.06 and Torque 6: qsub(1B) under ``-o``, ``-e``, ``-j``, ``-k``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...jobs.job_id import JobId
from ..fields import is_number

__all__ = ["actual_path", "in_directory", "told_paths", "usual_path", "variable"]

INDEX = "^array_index^"


def variable(text: str | None, name: str) -> str | None:
    """A variable of ``Variable_List``."""
    found = re.search(rf"(?:^|,){name}=([^,]*)", text) if text else None
    return found[1] if found is not None else None


def told_paths(
    job_id: str, attributes: Mapping[str, str], *, torque: bool
) -> tuple[str | None, str | None]:
    """Where stdout and stderr of a job go; a directory ends in ``/``."""
    found = [
        _told(job_id, attributes, letter, key, torque=torque)
        for letter, key in (("o", "Output_Path"), ("e", "Error_Path"))
    ]
    join = attributes.get("Join_Path")
    if join == "oe":
        return found[0], found[0]
    if join == "eo":
        return found[1], found[1]
    return found[0], found[1]


def _told(
    job_id: str, attributes: Mapping[str, str], letter: str, key: str, *, torque: bool
) -> str | None:
    keep = attributes.get("Keep_Files", "n")
    name = attributes.get("Job_Name")
    parsed = JobId.parse(job_id)
    home = attributes.get("jobdir") or variable(attributes.get("Variable_List"), "PBS_O_HOME")
    if letter in keep and "d" not in keep and name and home and home.startswith("/"):
        # Kept where the job ran: in the home directory there, whatever -o says.
        if not torque:
            return f"{home.rstrip('/')}/{usual_path(job_id, name, letter, torque=False)}"
        index = f"-{INDEX}" if parsed.tasks == "" else ""
        return f"{home.rstrip('/')}/{name}{index}.{letter}{parsed.number}"
    path = without_host(attributes.get(key))
    if path is None:
        return None
    is_whole = parsed.tasks == ""
    whole_id = job_id.replace("[]", f"[{INDEX}]")
    if torque:
        # MOM puts these in; the files of members end in their index.
        for variable_name, value in (
            ("PBS_JOBID", whole_id),
            ("PBS_ARRAYID", parsed.tasks or INDEX),
        ):
            if parsed.tasks is not None or variable_name == "PBS_JOBID":
                path = re.sub(rf"\$(?:{variable_name}\b|\{{{variable_name}\}})", value, path)
        return f"{path}-{INDEX}" if is_whole else path
    if path.endswith("/"):
        # A directory; of an array, one file in it a member.
        path += in_directory(whole_id, letter)
    return actual_path(path, job_id) or path


def without_host(text: str | None) -> str | None:
    """``host:/path`` without the host."""
    if not text:
        return None
    host, colon, path = text.partition(":")
    return path if colon and "/" not in host else text


def usual_path(job_id: str, name: str, letter: str, *, torque: bool) -> str:
    """The file of a job that names none, from the directory that it was submitted from."""
    parsed = JobId.parse(job_id)
    if torque:
        # Members are called NAME-INDEX, their files NAME.oNUMBER-INDEX.
        bare = name.removesuffix(f"-{parsed.tasks}") if parsed.tasks else name
        return f"{bare}.{letter}{parsed.number}" + (f"-{parsed.tasks}" if parsed.tasks else "")
    index = parsed.tasks or (INDEX if parsed.tasks is not None else None)
    return f"{name}.{letter}{parsed.number}" + (f".{index}" if index else "")


def in_directory(job_id: str, letter: str) -> str:
    """The file of a job in a directory that ``-o`` or ``-e`` names: ``12.server.OU``."""
    return f"{job_id}.{'OU' if letter == 'o' else 'ER'}"


def actual_path(path: str, job_id: str) -> str | None:
    """A path with what stands for the job put in; ``None`` for one file a member."""
    parsed = JobId.parse(job_id)
    if INDEX in path and parsed.tasks is not None:  # else it is the name (measured)
        if not is_number(parsed.tasks):
            return None
        path = path.replace(INDEX, parsed.tasks)
    return path

"""Where Grid Engine puts the output of a job.  Pure.

Measured with 8.1.9; qsub(1) under ``-o``, ``-e`` and ``-j``.
"""

from __future__ import annotations

from collections.abc import Mapping


def usual_path(number: str, task: str | None, name: str, letter: str) -> str:
    """The output file of a job that names none (``letter``: o or e), qsub(1) under ``-o``."""
    return f"{name}.{letter}{number}" + (f".{task}" if task else "")


def output_paths(number: str, attributes: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Where stdout and stderr of a job go, by what ``qstat -j`` says of it."""
    stdout = _output_path(number, attributes, "stdout_path_list", "o")
    if attributes.get("merge", "n").strip() in ("y", "yes", "true"):
        return stdout, stdout
    return stdout, _output_path(number, attributes, "stderr_path_list", "e")


def _output_path(number: str, attributes: Mapping[str, str], key: str, letter: str) -> str | None:
    """The file (or directory) that a job's output goes to, as ``qstat -j`` tells; qsub(1), ``-o``.

    What only the node knows stays in it: ``$HOSTNAME``, and ``$TASK_ID`` of an array.
    """
    name = attributes.get("job_name")
    is_array = "job-array tasks" in attributes
    path = usual_path(number, "$TASK_ID" if is_array else None, name, letter) if name else None
    home, path_list = attributes.get("sge_o_home"), attributes.get(key, "").strip()
    if path_list:
        # HOST:HOST:PATH, a comma between several, none in a path.
        places = [text.split(":", 2) for text in path_list.split(",")]
        if len(places) != 1 or len(places[0]) != 3 or places[0][0] != "NONE":
            return None  # it depends on the node
        path = places[0][2]
        variables = [("$JOB_ID", number), ("$JOB_NAME", name), ("$USER", attributes.get("owner"))]
        variables.append(("$HOME", home))
        if not is_array:
            variables.append(("$TASK_ID", "0"))
        for word, value in variables:
            path = path.replace(word, value or word)
        if path.startswith("~/") and home:
            path = f"{home.rstrip('/')}/{path[2:]}"
    if path is None or path.startswith("~"):
        return None
    # Without -cwd or -wd a job begins at home.
    base = attributes.get("cwd") or home
    if not path.startswith("/") and base:
        path = f"{base.rstrip('/')}/{path}"
    return path


def actual_path(path: str, task: str | None, node: str | None) -> str | None:
    """A path of ``qstat -j`` with what the node knew put in; ``None`` while that is not known."""
    for word, value in (("$TASK_ID", task), ("$HOSTNAME", node)):
        if word in path:
            if value is None:
                return None
            path = path.replace(word, value)
    return path

"""What condor_q and condor_history print.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.schedulers.text import epoch, is_number, spent, whole_number

_S = JobState
_NUMBERS = {
    0: _S.PENDING,  # unexpanded
    1: _S.PENDING,
    2: _S.RUNNING,
    3: _S.COMPLETING,  # being removed
    5: _S.HELD,
    6: _S.COMPLETING,
    7: _S.SUSPENDED,
}
_LETTERS = {
    "I": 1, "P": 1, "R": 2, "X": 3, "C": 4, "H": 5, ">": 6, "<": 2, "S": 7, "U": 0,
}  # fmt: skip


def number_of(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) < 1e15 else None
    return whole_number(value) if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "undefined") else None


def json_list(text: str) -> list[dict[str, Any]] | None:
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return [one for one in found if isinstance(one, dict)]


def read(text: str, source: str, known: dict[str, JobStatus], unparsed: list[str]) -> bool:
    """Reads any listing; false for text that is none."""
    head = text.lstrip()
    if head.startswith("["):
        ads = json_list(text)
        if ads is None:
            raise SchedulerError("no valid JSON", kind="parse_error", stdout=text)
        for ad in ads:
            _keep(_status(ad, source), json.dumps(ad), known, unparsed)
        return True
    if re.search(r"^(?:ClusterId|JobStatus) = ", text, re.MULTILINE):
        for block in re.split(r"\n\s*\n", text):
            ad = _long_ad(block)
            if ad:
                _keep(_status(ad, source), block, known, unparsed)
        return True
    return _read_table(text, source, known, unparsed)


def _keep(
    status: JobStatus | None, text: str, known: dict[str, JobStatus], unparsed: list[str]
) -> None:
    if status is None:
        unparsed.append(text[:1000])
    else:
        known.setdefault(status.job_id, status)  # condor_history prints the newest first


def _long_ad(block: str) -> dict[str, Any]:
    ad: dict[str, Any] = {}
    for line in block.split("\n"):  # a value may hold what else ends a line for Python
        name, equals, value = line.partition(" = ")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            continue
        value = value.strip()
        if value.startswith('"') and value.endswith('"') and len(value) > 1:
            ad[name] = value[1:-1].replace('\\"', '"')
        elif value.lower() in ("true", "false"):
            ad[name] = value.lower() == "true"
        else:
            ad[name] = number_of(value.partition(".")[0])
    return ad


def _status(ad: Mapping[str, Any], source: str) -> JobStatus | None:
    cluster, proc = number_of(ad.get("ClusterId")), number_of(ad.get("ProcId"))
    number = number_of(ad.get("JobStatus"))
    if cluster is None or proc is None or number is None or cluster < 0 or proc < 0:
        return None
    code = number_of(ad.get("ExitCode"))
    by_signal = ad.get("ExitBySignal") is True
    signal = number_of(ad.get("ExitSignal")) if by_signal else None
    reason = _text(ad.get("HoldReason")) if number == 5 else None
    if number == 4:
        state = _S.UNKNOWN
        if by_signal or (code is not None and code != 0):
            state = _S.FAILED
        elif code == 0:
            state = _S.COMPLETED
        else:
            reason = "ended, and nobody says how"
    elif number == 3 and source == "accounting":
        state, reason = _S.CANCELLED, _text(ad.get("RemoveReason"))
    elif number in _NUMBERS:
        state = _NUMBERS[number]
    else:
        return None
    host = _text(ad.get("RemoteHost")) or _text(ad.get("LastRemoteHost"))
    seconds = number_of(ad.get("RemoteWallClockTime"))
    directory = _text(ad.get("Iwd"))
    facts: dict[str, Any] = {
        "raw_state": str(number),
        "reason": reason,
        "name": _text(ad.get("JobBatchName")) or _text(ad.get("Cmd")),
        "user": _text(ad.get("Owner")),
        "account": _text(ad.get("AccountingGroup")),
        "nodes": (host.rpartition("@")[2],) if host else None,
        "cpus": number_of(ad.get("RequestCpus")),
        "exit_code": code if state in (_S.COMPLETED, _S.FAILED) and not by_signal else None,
        "signal": signal if state is _S.FAILED else None,
        "submitted": epoch(number_of(ad.get("QDate"))),
        "started": epoch(number_of(ad.get("JobCurrentStartDate") or ad.get("JobStartDate"))),
        "ended": epoch(number_of(ad.get("CompletionDate") or ad.get("EnteredCurrentStatus")))
        if state.is_final
        else None,
        "elapsed": spent(seconds) if seconds else None,
        "source": source,
        "directory": directory,
        "stdout_path": _join(directory, _text(ad.get("Out"))),
        "stderr_path": _join(directory, _text(ad.get("Err"))),
        "command": _text(ad.get("Cmd")),
        "restarts": max(0, (number_of(ad.get("NumJobStarts")) or 1) - 1),
    }
    return JobStatus(f"{cluster}.{proc}", state, **facts)


def _join(directory: str | None, path: str | None) -> str | None:
    if path is None or path.startswith("/") or directory is None:
        return path
    return f"{directory}/{path}"


# --------------------------------------------------------------------------- tables

_ROW = re.compile(
    r"\s*(?P<id>[0-9]+\.[0-9]+)\s+(?P<owner>\S+)\s+[0-9]+/[0-9]+\s+[0-9]+:[0-9]+\s+"
    r"(?P<days>[0-9]+)\+(?P<clock>[0-9:]{8})\s+(?P<st>[IRXCHSU<>])\s+(?P<rest>.*)"
)
# condor_q -af:j with a letter or number for the state, as ARC asks for it.
_SHORT_ROW = re.compile(r"(?P<id>[0-9]+\.[0-9]+) (?P<st>[PIRXCHSU<>0-7])(?: .*)?")
_BATCH_IDS = re.compile(r"(?P<first>[0-9]+\.[0-9]+)(?:-(?P<last>[0-9]+))?")


def _read_table(text: str, source: str, known: dict[str, JobStatus], unparsed: list[str]) -> bool:
    columns: list[str] = []
    is_table = False
    for line in text.split("\n"):
        words = line.split()
        if words[:2] == ["OWNER", "BATCH_NAME"]:
            columns, is_table = words, True
            continue
        if words[:2] == ["ID", "OWNER"] or line.startswith("-- "):
            is_table = True
            continue
        if not words or re.match(r"(?:Total for|[0-9]+ jobs;|All Running)", line):
            continue
        found = _ROW.fullmatch(line) or _SHORT_ROW.fullmatch(line.strip())
        if found is not None:
            is_table = True
            letter = found["st"]
            number = int(letter) if is_number(letter) else _LETTERS[letter]
            cluster, _, proc = found["id"].partition(".")
            ad: dict[str, Any] = {"ClusterId": cluster, "ProcId": proc, "JobStatus": number}
            if "owner" in found.groupdict():
                ad["Owner"] = found["owner"]
            _keep(_status(ad, source), line, known, unparsed)
        elif columns:
            _keep(_batch(words, columns, source), line, known, unparsed)
        else:
            unparsed.append(line[:1000])
    return is_table


def _batch(words: list[str], columns: list[str], source: str) -> JobStatus | None:
    """A line of the batch view: so many jobs of a cluster in this state, so many in that."""
    ids = _BATCH_IDS.fullmatch(words[-1])
    # The columns of counts stand right before the ids; a batch's name may hold blanks.
    names = columns[columns.index("SUBMITTED") + 1 : -1] if "SUBMITTED" in columns else []
    counts = words[-1 - len(names) : -1]
    if ids is None or not names or len(counts) != len(names):
        return None
    count = {
        name: int(value) if is_number(value) else 0
        for name, value in zip(names, counts, strict=True)
    }
    if count.get("RUN"):
        state = _S.RUNNING
    elif count.get("IDLE"):
        state = _S.PENDING
    elif count.get("HOLD"):
        state = _S.HELD
    else:
        state = _S.UNKNOWN
    last = f"-{ids['last']}" if ids["last"] else ""
    told = ", ".join(f"{number} {name.lower()}" for name, number in count.items() if number)
    return JobStatus(
        f"{ids['first']}{last}", state, user=words[0], reason=told or None, source=source
    )

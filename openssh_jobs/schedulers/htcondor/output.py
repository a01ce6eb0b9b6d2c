"""What condor_q and condor_history print.  Pure.

Sources: condor_q(1) and queue.cpp of HTCondor 25.  Only JSON and XML escape what a user's text may
hold; the other forms are read for pasted listings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...jobs import JobState, JobStatus
from ..fields import epoch, is_number, spent
from ..rows import Rows
from .classads import SPOILT, escaped_ads, long_ads, number_of

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


def _text(value: object) -> str | None:
    # An expression that is not a literal is printed as /Expr(...)/.
    if not isinstance(value, str) or value in ("", "undefined") or value.startswith("/Expr("):
        return None
    return value


def read(text: str, rows: Rows, command: Sequence[str] = ()) -> bool:
    """Parse any listing of ``rows.source``; false for other text.

    ``command``: the words of the command, which name the columns of ``-autoformat``.
    """
    wanted = _autoformat(command)
    if wanted is not None:
        return _read_autoformat(text, wanted, rows)
    # The form is that of the first line that has one: a text in a later line may look like any.
    begins = next((match for match in _BEGINS.finditer(text) if match.lastgroup), None)
    form = begins.lastgroup if begins is not None else None
    if form == "long" and re.search(r"^(?:ClusterId|JobStatus) = ", text, re.MULTILINE):
        for block, ad in long_ads(text):
            _keep(rows, _status(ad, rows.source), block)
        return True
    if form != "table":
        ads = escaped_ads(text, rows.unparsed)
        for ad in ads or ():
            if ad.get("MyType") != "Summary":  # the totals, as -json and -xml have them
                _keep(rows, _status(ad, rows.source), json.dumps(ad))
        if ads is not None:
            return True
    return _read_table(text, rows)


_BEGINS = re.compile(
    r"^(?:(?P<json>[ \t]*\[\s*(?:\{|$)|\{\s*\"|.*<classads>)|(?P<long>[A-Z]\w* = \S)"
    r"|(?P<table>[ \t]*ID +OWNER|OWNER +BATCH_NAME))",
    re.MULTILINE | re.ASCII,
)


def _keep(rows: Rows, status: JobStatus | None, text: str) -> None:
    if rows.source == "queue" or status is None:
        rows.add_once(status, text)
    else:
        rows.known.setdefault(status.job_id, status)  # condor_history prints the newest first


# --------------------------------------------------------------------------- one ad


def _status(ad: Mapping[str, Any], source: str) -> JobStatus | None:
    cluster, proc = number_of(ad.get("ClusterId")), number_of(ad.get("ProcId"))
    number = number_of(ad.get("JobStatus"))
    if cluster is None or proc is None or number is None or cluster < 0 or proc < 0:
        return None
    if SPOILT in ad:
        return None
    code = number_of(ad.get("ExitCode"))
    by_signal = ad.get("ExitBySignal") is True
    signal = number_of(ad.get("ExitSignal")) if by_signal else None
    reason = _held(ad) if number == 5 else None
    if number == 4:
        state = _S.UNKNOWN
        if by_signal or (code is not None and code != 0):
            state = _S.FAILED
        elif code == 0:
            state = _S.COMPLETED
        else:
            reason = "ended, and the scheduler does not say how"
    elif number == 3 and source == "accounting":
        state, reason = _S.CANCELLED, _text(ad.get("RemoveReason"))
    elif number in _NUMBERS:
        state = _NUMBERS[number]
    else:
        return None
    return JobStatus(f"{cluster}.{proc}", state, reason=reason, source=source, **_facts(
        ad, number, state,
        code if state in (_S.COMPLETED, _S.FAILED) and not by_signal else None,
        signal if state is _S.FAILED else None,
    ))  # fmt: skip


def _facts(
    ad: Mapping[str, Any], number: int, state: JobState, code: int | None, signal: int | None
) -> dict[str, Any]:
    host = _text(ad.get("RemoteHost")) or _text(ad.get("LastRemoteHost"))
    seconds = number_of(ad.get("RemoteWallClockTime"))
    directory = _text(ad.get("Iwd"))
    return {
        "raw_state": str(number),
        "name": _text(ad.get("JobBatchName")) or _text(ad.get("Cmd")),
        "user": _text(ad.get("Owner")),
        "account": _text(ad.get("AccountingGroup")),
        "nodes": (host.rpartition("@")[2],) if host else None,
        "cpus": number_of(ad.get("RequestCpus")),
        "exit_code": code,
        "signal": signal,
        "submitted": epoch(number_of(ad.get("QDate"))),
        "started": epoch(number_of(ad.get("JobCurrentStartDate") or ad.get("JobStartDate"))),
        "ended": epoch(number_of(ad.get("CompletionDate") or ad.get("EnteredCurrentStatus")))
        if state.is_final
        else None,
        "elapsed": spent(seconds) if seconds else None,
        "directory": directory,
        "stdout_path": _join(directory, _text(ad.get("Out"))),
        "stderr_path": _join(directory, _text(ad.get("Err"))),
        "command": _text(ad.get("Cmd")),
        "restarts": max(0, (number_of(ad.get("NumJobStarts")) or 1) - 1),
    }


def _held(ad: Mapping[str, Any]) -> str | None:
    code = number_of(ad.get("HoldReasonCode"))
    return _text(ad.get("HoldReason")) or (f"HoldReasonCode {code}" if code is not None else None)


def _join(directory: str | None, path: str | None) -> str | None:
    if path is None or path.startswith("/") or directory is None:
        return path
    return f"{directory}/{path}"


# --------------------------------------------------------------------------- -autoformat

_NUMERIC = frozenset(
    (
        "clusterid", "procid", "jobstatus", "exitcode", "exitbysignal", "exitsignal", "qdate",
        "holdreasoncode", "jobstartdate", "jobcurrentstartdate", "completiondate", "jobprio",
        "enteredcurrentstatus", "requestcpus", "numjobstarts", "remotewallclocktime",
    )
)  # fmt: skip


def _autoformat(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """(letters, attributes) of ``-autoformat:LETTERS ATTRIBUTE …``, where a command has it."""
    for place, word in enumerate(words):
        option, _, letters = word.lstrip("-").partition(":")
        is_short = len(option) > 3 and "autoformat".startswith(option)
        if word.startswith("-") and (is_short or option == "af"):
            names: list[str] = []
            for name in words[place + 1 :]:
                if name.startswith("-"):
                    break
                names.append(name)
            has_id = "j" in letters or {"clusterid", "procid"} <= {title.lower() for title in names}
            if has_id and "jobstatus" in {title.lower() for title in names}:
                return letters, names
    return None


def _read_autoformat(text: str, wanted: tuple[str, list[str]], rows: Rows) -> bool:
    """Columns up to the first that may hold free text; what stands behind it has no place."""
    letters, names = wanted
    separator = "\t" if "t" in letters else "," if "," in letters else None
    plain: list[str] = []
    for name in names:
        if name.lower() not in _NUMERIC:
            break
        plain.append(name)
    is_read = False
    for line in text.split("\n"):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(separator, maxsplit=len(plain) + 1)]
        ad: dict[str, Any] = {}
        if "j" in letters:
            ad["ClusterId"], _, ad["ProcId"] = cells[0].partition(".")
            cells = cells[1:]
        if "l" in letters and separator is not None:
            cells = [cell.partition(" = ")[2] for cell in cells]
        lower = {name.lower(): cell for name, cell in zip(plain, cells, strict=False)}
        for name in ("ClusterId", "ProcId", "JobStatus", "ExitCode", "ExitSignal", "QDate"):
            ad.setdefault(name, lower.get(name.lower()))
        ad["ExitBySignal"] = lower.get("exitbysignal") == "true"
        status = _status(ad, rows.source)
        is_read = is_read or status is not None
        is_heading = "h" in letters and status is None and not is_read
        if not is_heading:
            _keep(rows, status, line)
    return is_read


# --------------------------------------------------------------------------- tables

_ROW = re.compile(
    r"\s*(?P<id>[0-9]+\.[0-9]+)\s+(?P<owner>\S+)\s+[0-9]+/[0-9]+\s+[0-9]+:[0-9]+\s+"
    r"(?P<days>[0-9]+)\+(?P<clock>[0-9:]{8})\s+(?P<st>[IRXCHSU<>])\s+(?P<rest>.*)"
)
# condor_q -af:j with a letter or number for the state, as ARC asks for it.
_SHORT_ROW = re.compile(r"(?P<id>[0-9]+\.[0-9]+) (?P<st>[PIRXCHSU<>0-7])(?: .*)?")
_BATCH_IDS = re.compile(
    r"(?P<cluster>[0-9]{1,18})\.(?P<first>[0-9]{1,18})(?:-(?P<last>[0-9]{1,18}))?", re.ASCII
)


def _read_table(text: str, rows: Rows) -> bool:
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
            _keep(rows, _status(ad, rows.source), line)
        elif columns:
            _keep(rows, _batch(words, columns, rows.source), line)
        else:
            rows.unparsed.append(line[:1000])
    return is_table


def _batch(words: list[str], columns: list[str], source: str) -> JobStatus | None:
    """A line of the batch view: so many jobs of a cluster in this state, so many in that.

    Where it does not say which of them is in which state (or which of the range have left), the
    line stands for the cluster, and not for its members.
    """
    ids = _BATCH_IDS.fullmatch(words[-1])
    # The columns of counts stand right before the ids; a batch's name may hold blanks.
    names = columns[columns.index("SUBMITTED") + 1 : -1] if "SUBMITTED" in columns else []
    counts = words[-1 - len(names) : -1]
    if ids is None or not names or len(counts) != len(names):
        return None
    if not all(is_number(value) or value == "_" for value in counts):
        return None  # "88.0 ... 95.0": a batch of several clusters
    count = {
        name: int(value) if is_number(value) else 0
        for name, value in zip(names, counts, strict=True)
    }
    states = [
        state
        for name, state in (("RUN", _S.RUNNING), ("IDLE", _S.PENDING), ("HOLD", _S.HELD))
        if count.get(name)
    ]
    listed = sum(count.get(name, 0) for name in ("RUN", "IDLE", "HOLD"))
    is_whole = listed == int(ids["last"] or ids["first"]) - int(ids["first"]) + 1
    last = f"-{ids['last']}" if ids["last"] else ""
    members = f"{ids['cluster']}.{ids['first']}{last}"
    job_id = members if len(states) == 1 and is_whole else ids["cluster"]
    reason = ", ".join(f"{number} {name.lower()}" for name, number in count.items() if number)
    return JobStatus(
        job_id,
        states[0] if states else _S.UNKNOWN,
        user=words[0],
        reason=reason or None,
        source=source,
    )

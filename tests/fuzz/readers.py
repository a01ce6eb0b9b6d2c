"""Every reader of text from a host, and what has to be true whatever the text is.

A reader gets bytes: one that chooses among its functions and options, then stdout, and behind two
zero bytes stderr.  What is wrong is an ``AssertionError`` or whatever else comes out of it.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial
from typing import Any

from openssh_jobs import parser
from openssh_jobs.commands import host_tools, os_errors
from openssh_jobs.errors import (
    SCHEDULER_ERROR_KINDS,
    InputError,
    OpenSSHJobsError,
    SchedulerError,
    TransferError,
    UnsafeName,
    printable,
)
from openssh_jobs.files import host_names, stat
from openssh_jobs.jobs import CancelOutcome, JobId, JobStatus, Node, Queue, Snapshot
from openssh_jobs.openssh import ssh_config as ssh_features
from openssh_jobs.openssh import ssh_errors
from openssh_jobs.schedulers import available, get, parse_detection
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.launcher import exit_record
from openssh_jobs.transfer import listing, tar_guard
from tests.hostile.archives import FORMS, archive
from tests.paths import DATA

TRANSCRIPTS = {
    "slurm": "slurm",
    "sge": "sge",
    "openpbs": "pbs",
    "torque-slurm": "torque",
    "versions": None,
    "opinions": None,
}
SPLIT = b"\0\0"
MARK = "0123456789abcdef77"
WANTED = ("5", "11_3", "12.pbs1", "88.0", "7.2", "123[4]")

Check = Callable[[bytes], None]

# --------------------------------------------------------------------------- what is always true

_DIGITS = re.compile(r"[0-9]+")
_ESCAPED = re.compile(r"\\u00(3[0-9])|&#(?:x(3[0-9])|(4[89]|5[0-7]));")


def _numbers(text: str) -> set[str]:
    """The numbers that stand in a text, also those that JSON or XML may spell otherwise."""
    found = set(_DIGITS.findall(text))
    plain = _ESCAPED.sub(
        lambda one: chr(int(one[3])) if one[3] else chr(int(one[1] or one[2], 16)), text
    )
    return found | set(_DIGITS.findall(plain)) if plain != text else found


def holds(snapshot: Snapshot, text: str, wanted: tuple[str, ...]) -> None:
    """A listing: whole, picklable, and nothing has ended whose id is not in the text."""
    numbers: set[str] | None = None
    for job_id, status in snapshot.known.items():
        assert tuple(status.as_dict()) == status.FIELDS
        if status.is_final:
            numbers = numbers if numbers is not None else _numbers(text)
            one = JobId.parse(status.job_id)
            parts = (one.number, one.tasks or "", one.proc or "", one.component or "")
            own = set(_DIGITS.findall(" ".join(parts)))
            assert own <= numbers, f"{job_id} is {status.state}, and is not in the text"
            asked = JobId.parse(job_id)
            assert asked.matches(one) or asked.contains(one), f"{job_id} by {one}"
        for when in (status.submitted, status.started, status.ended):
            assert when is None or when.tzinfo is not None
    for word in wanted:
        assert word in snapshot
    assert pickle.loads(pickle.dumps(snapshot)).known == snapshot.known


def _known_error(error: OpenSSHJobsError) -> None:
    assert str(error)
    assert "\n" not in error.message
    if isinstance(error, SchedulerError):
        assert error.kind in SCHEDULER_ERROR_KINDS


def _answer(found: Any, text: str, wanted: tuple[str, ...]) -> None:
    if isinstance(found, Snapshot):
        holds(found, text, wanted)
    elif isinstance(found, JobStatus):
        holds(Snapshot(known={found.job_id: found}), text, ())
    elif isinstance(found, str):
        JobId.parse(found)
        numbers = _numbers(text)
        assert JobId.parse(found).number in numbers, found
    elif isinstance(found, dict):
        assert all(isinstance(one, CancelOutcome) for one in found.values())
        assert set(wanted) <= found.keys()
    elif isinstance(found, list):
        assert all(isinstance(one, Node | Queue) and one.name for one in found)
    else:
        assert found is None or isinstance(found, bool)


# --------------------------------------------------------------------------- schedulers

COMMANDS = {
    "slurm": ("squeue", "squeue -h -o '%i|%T|%r|%j'", "sacct -n -P -o jobid,state,exitcode"),
    "pbs": ("qstat -f", "qstat -x -F json", "qstat"),
    "torque": ("qstat -f", "qstat -x", "qstat"),
    "sge": ("qstat -u '*' -xml", "qacct -j 5", "qstat"),
    "htcondor": (
        "condor_q -af:j JobStatus Cmd",
        "condor_history -xml",
        "condor_q -nobatch",
    ),
    "lsf": ("bjobs -noheader -o 'jobid stat job_name delimiter=\"|\"'", "bjobs -l 123", "bjobs"),
    "direct": ("ps -A", "ps -o pid,stat", "ps"),
}


def of_scheduler(name: str | None, data: bytes) -> None:
    """All functions of one scheduler (``None``: of the one whose output it seems to be)."""
    chosen, rest = data[:1], data[1:]
    choice = chosen[0] if chosen else 0
    out, _, err = rest.partition(SPLIT)
    stdout, stderr = (one.decode("utf-8", "surrogateescape") for one in (out, err))
    code = (0, 0, 1, 153)[choice // 8 % 4]
    wanted = WANTED if choice & 32 else ()
    answer = Answer(stdout, stderr, code)
    asked = wanted or None
    command = COMMANDS[name][choice // 64 - 1] if name is not None and choice >= 64 else None
    calls: tuple[Callable[[], Any], ...] = (
        lambda: parser.parse_status(
            stdout,
            name,
            stderr=stderr,
            returncode=code,
            requested=asked,
            command=command,
            timezone=UTC,
        ),
    )
    if name is not None:
        scheduler = get(name)
        calls = (
            *calls,
            *calls,
            lambda: scheduler.parse_submit(answer),
            lambda: scheduler.parse_cancel(answer, requested=asked),
            lambda: scheduler.parse_nodes(answer),
            lambda: scheduler.parse_queues(answer),
            lambda: scheduler.parse_history(answer, requested=asked),
            lambda: scheduler.parse_detail(answer),
        )
    try:
        found = calls[choice % len(calls)]()
        if choice == 5 and name is not None:
            found = get(name).parse_accounting(answer)
    except (SchedulerError, InputError) as error:
        _known_error(error)
        return
    _answer(found, f"{stdout}\n{stderr}", wanted)


# --------------------------------------------------------------------------- the others


def of_markers(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    found = exit_record.read_records(text)
    if found is None:
        return
    numbers = _numbers(text)
    for markers in found.values():
        for (number, member), run in markers.runs.items():
            assert number in numbers
            judged = exit_record.status_from_records(markers, "x", number, member)
            if isinstance(judged, JobStatus):
                assert judged.is_final
                assert str(run.code) in {str(int(one)) for one in numbers if len(one) < 4}
        exit_record.status_from_records(markers, "x", "5", None)


def of_ids(data: bytes) -> None:
    one, _, other = data.decode("utf-8", "surrogateescape").partition("\n")
    parsed = []
    for text in (one, other):
        try:
            parsed.append(JobId.parse(text))
        except InputError as error:
            _known_error(error)
            continue
        assert str(parsed[-1]) == text.strip(" \t\r\n")
        assert JobId.parse(str(parsed[-1])) == parsed[-1]
        assert parsed[-1].matches(parsed[-1])
        array = parsed[-1].array
        assert array is None or array.number == parsed[-1].number
    if len(parsed) == 2:
        assert parsed[0].matches(parsed[1]) is parsed[1].matches(parsed[0])
        assert not (parsed[0].matches(parsed[1]) and parsed[0].contains(parsed[1]))
        assert parsed[0].number == parsed[1].number or not parsed[0].contains(parsed[1])


def of_ssh(data: bytes) -> None:
    text = data[1:].decode("utf-8", "replace")
    choice = data[0] if data else 0
    error = ssh_errors.connect_error(
        text,
        host="h",
        login="openssh-jobs login h",
        through_proxy=bool(choice & 1),
        attended=bool(choice & 2),
        hops=[ssh_errors.HopLog("j", text, bool(choice & 8), "ssh j")] if choice & 4 else (),
    )
    assert isinstance(error, OpenSSHJobsError)
    assert str(error)
    assert str(error) == printable(str(error))
    # A banner, which is in the same stream only after a question, does not change the last words.
    last = f"alice@h: Permission denied ({'password' if choice & 8 else 'publickey'}).\r\n"
    right, lied = (
        ssh_errors.connect_error(said, host="h", login="l", attended=bool(choice & 2), asked=True)
        for said in (last, f"{text}\n{last}")
    )
    assert (type(lied), str(lied)) == (type(right), str(right))
    ssh_features.parse_version(text)
    ssh_features.parse_resolved(text)


def of_files(data: bytes) -> None:
    """What the host prints of itself, of files and of trees; the documented error is a
    ``ValueError``, which those who ask turn into theirs."""
    choice, rest = data[:1], data[1:]
    text = rest.decode("utf-8", "surrogateescape")
    try:
        match (choice[0] if choice else 0) % 4:
            case 0:
                host_tools.parse(rest)
            case 1:
                for member in listing.parse_find(rest):
                    assert member.kind in "fdlo"
                    assert member.size >= 0
                    assert host_names.fault(member.name) is None
            case 2:
                assert stat.parse_stat(text).st_size is not None
            case _:
                assert str(os_errors.error_of(text, "/x", host="h"))
    except UnsafeName as error:
        _printable(error)
    except ValueError:
        return


def _printable(error: OpenSSHJobsError) -> None:
    assert str(error).isprintable()


def of_archives(data: bytes) -> None:
    """What comes from a tar there; what goes on is no more than what came."""
    listed = [
        listing.Member(b"x", "f", 1),
        listing.Member(b"d", "d", 0),
        listing.Member(b"l", "l", 0),
    ]
    reader = tar_guard.TarGuard(listed, "h", b"/nowhere", plain=data[:1] == b"\0")
    try:
        assert data[1:].startswith(reader.feed(data[1:]))
        reader.close()
    except TransferError as error:
        _printable(error)


def of_detection(data: bytes) -> None:
    try:
        found = parse_detection(data.decode("utf-8", "surrogateescape"))
    except SchedulerError as error:
        _known_error(error)
        return
    assert all("\n" not in line for line in found.values())


READERS: dict[str, Check] = {
    **{name: partial(of_scheduler, name) for name in available() if name in COMMANDS},
    "detected": partial(of_scheduler, None),
    "detection": of_detection,
    "markers": of_markers,
    "ids": of_ids,
    "ssh": of_ssh,
    "files": of_files,
    "archives": of_archives,
}

# --------------------------------------------------------------------------- what it begins with


def _records(file: str) -> list[dict[str, Any]]:
    path = DATA / f"{file}.jsonl"
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def framed(text: str, name: str, code: int = 0) -> str:
    """A text as the answer to a framed script of one part."""
    return f"OJ+{MARK}\nOJ:{MARK} begin {name}\n{text}\nOJ:{MARK} end {name} {code}\nOJ-{MARK}\n"


def _choice(command: str, code: int) -> bytes:
    words = ("sbatch", "qsub"), ("scancel", "qdel"), ("sinfo", "pbsnodes", "qhost"), ("qstat -Q",)
    at = next((2 + at for at, some in enumerate(words) if any(w in command for w in some)), 0)
    return bytes([at + (16 if code else 0)])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_FRAMES = {
    "slurm": ("squeue@", "sacct@", "scontrol"),
    "sge": ("qstat", "qacct 5", "qhost"),
    "pbs": ("qstat-pbs",),
    "torque": ("qstat-torque",),
    "lsf": ("bjobs", "bjobs-json", "bhist 5"),
    "htcondor": ("condor_q", "condor_q-totals", "condor_history"),
}


def seeds(reader: str) -> Iterator[bytes]:
    """Real texts for a reader to begin with."""
    for file, scheduler in TRANSCRIPTS.items():
        for record in _records(file):
            name = scheduler or record["scheduler"]
            if len(record["stdout"]) > 20_000 or reader not in (name, "detected"):
                continue
            begin = (
                b"\0" if reader == "detected" else _choice(record["command"], record["returncode"])
            )
            yield begin + _bytes(record["stdout"]) + SPLIT + _bytes(record["stderr"])
            if reader == name and begin[0] < 2:
                for frame in _FRAMES.get(name, ()):
                    yield b"\x06" + _bytes(framed(record["stdout"], frame)) + SPLIT
                    yield b"\x20" + _bytes(framed(record["stdout"], frame)) + SPLIT
    if reader == "slurm":
        history = json.loads((DATA / "slurm-history.json").read_text(encoding="utf-8"))
        yield b"\x26" + _bytes(history["stdout"]) + SPLIT
        row = f"{MARK}|5|5|RUNNING|None|a|q|acc|n1|1|t|t|t|1:00|2:00|{MARK}|/d|{MARK}|name\n"
        yield b"\x20" + _bytes(framed(row, "squeue@")) + SPLIT
    yield from _made(reader)


def _made(reader: str) -> Iterator[bytes]:
    if reader in ("ssh", "files"):
        for record in _records("ssh"):
            yield b"\x03" + _bytes(record["stderr"][:2000])
    if reader == "markers":
        yield (
            b"at 1\nwrapped\nstart 5 - 0 n1 77 1795330124 0 .\nexit 5 - 0 3 1795330125 .\n\n"
            b"at 2\nplain\n\nat 3\nwrapped\nstart 7 2 1 n1 78 1795330124 4 .\ndone\n"
        )
    if reader == "ids":
        for one in (*WANTED, "11_[5-9%2]", "5[].srv@x", "4+1", "3;lab", "9.4-10:2"):
            yield f"{one}\n{one}".encode()
            yield f"11\n{one}".encode()
    if reader == "files":
        yield b"\0home /h\0cwd /h\0user u\0node n\0system Linux\0stat gnu\0has_tar \0tar GNU tar\0"
        yield b"\x01d 0 8 .\0f 12 8 ./a\0d 0 8 ./b\0l 3 0 ./c d\0"
        yield b"\x0281a4 12 0 0 1 5 6 1795330124.5 1795330124.5 1795330124.123456789\n"
    if reader == "archives":
        for form in FORMS.values():
            yield b"\1" + archive([("d", "./", ""), ("f", "./x", "1"), ("l", "./l", "x")], form)
            yield b"\0" + archive([("d", "./", ""), ("h", "./x", "./" + "y" * 120)], form)
    if reader == "detection":
        yield _bytes(framed("slurm-wlm 22.05.8", "slurm"))
    if reader == "direct":
        yield b"\x00" + b"PID STAT\n 5 R\n" + SPLIT
        yield b"\x20" + _bytes(framed("node x\nboot y\n", "direct")) + SPLIT

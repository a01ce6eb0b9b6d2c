"""The jobs of PBS and Torque by their tokens, on records that real servers printed."""

from __future__ import annotations

import html
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.tokens import TokenAnswer
from tests.paths import DATA
from tests.unit.schedulers.frames import frame

PLACE = "/home/hpcalice/runs/.openssh_jobs/t1"
OURS = f"-N x {PLACE}/x"
MARK = "0123456789abcdef77"
BOTH = pytest.mark.parametrize("name", ["pbs", "torque"])


def _real(name: str, number: str) -> str:
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    found = next(one for one in records if one["id"].startswith(f"{name}/{number}-"))
    return str(found["stdout"])


DSV = _real("openpbs-real", "002").partition("\n")[0]
XML = _real("torque-real", "012").rstrip("\n")
SERVERS = {
    "pbs": "Server: pbs1\n    job_history_enable = True\n    job_history_duration = 336:00:00\n",
    "torque": "Server: trq1\n    keep_completed = 300\n",
}
OFF = {"pbs": "Server: pbs1\n    server_state = Active\n", "torque": "Server: trq1\n"}


def request(script: str = f"{PLACE}/x", token: str = "t1", **more: Any) -> SubmitRequest:
    return SubmitRequest(script=script, token=token, **more)


def record(name: str, job_id: str, arguments: str | None) -> str:
    """What the server prints of one job with these arguments of qsub."""
    if name == "pbs":
        text = DSV.replace("234.pbs1", job_id).replace("|", f"|{MARK}|")
        old, new = "|Submit_arguments=-N a sleep.sh", f"|Submit_arguments={arguments}"
        if arguments is None:
            old, new = f"{old}|{MARK}", ""
        assert old in text
        return text.replace(old, new) + "\n"
    text = XML.partition("<Data>")[2].removesuffix("</Data>").replace("121.trq1", job_id)
    old = "<submit_args>-q stopped -N p ok.sh</submit_args>"
    assert old in text
    shown = "" if arguments is None else f"<submit_args>{html.escape(arguments)}</submit_args>"
    return text.replace(old, shown)


def jobs_text(name: str, ids: Sequence[str], records: Sequence[str], asked: str = "-x") -> str:
    head = "".join(f"{one}\n" for one in ids) or "\n"
    if name == "pbs":
        return f"{asked}\n{head if ids else ''}{''.join(records)}"
    body = f'<?xml version="1.0"?>\n<Data>{"".join(records)}</Data>\n' if records else ""
    return head + body


def answer_of(
    name: str, text: str, *, server: str = "", code: int = 0, queues: str = "Queue: batch\n"
) -> Answer:
    """The answer to ``token_script``; ``text`` and ``code`` are those of the jobs."""
    parts = [("server", server or SERVERS[name], 0)]
    if name == "torque":
        parts.append(("queues", queues, 0))
    return Answer(frame(*parts, ("jobs", text, code)))


def read(
    name: str,
    jobs: dict[str, str | None],
    *requests: SubmitRequest,
    listed: Sequence[str] | None = None,
    **more: Any,
) -> TokenAnswer:
    asked = more.pop("asked", "-x")
    records = [record(name, job_id, line) for job_id, line in jobs.items()]
    text = jobs_text(name, list(jobs) if listed is None else listed, records, asked)
    return get(name).parse_tokens(answer_of(name, text, **more), requests or (request(),))


def refused(name: str, answer: Answer, *requests: SubmitRequest) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        get(name).parse_tokens(answer, requests or (request(),))
    return caught.value


# -- the job is there ---------------------------------------------------------------------------


@BOTH
def test_the_job_is_there(name: str) -> None:
    found = read(name, {"7.srv": "-N a sleep.sh", "8.srv": OURS})
    assert found.jobs == {"t1": {"8.srv"}}
    assert found.is_whole


@BOTH
def test_two_jobs_with_one_token_are_both_found(name: str) -> None:
    found = read(name, {"7.srv": OURS, "8.srv": f"-q long {PLACE}/x"})
    assert found.jobs == {"t1": {"7.srv", "8.srv"}}


@BOTH
def test_two_submissions_are_kept_apart(name: str) -> None:
    other = request(f"{PLACE}2/x", "t12")
    found = read(name, {"7.srv": OURS, "8.srv": f"{PLACE}2/x"}, request(), other)
    assert found.jobs == {"t1": {"7.srv"}, "t12": {"8.srv"}}


def test_an_array_of_pbs_and_the_members_of_torque_are_the_array() -> None:
    found = read("pbs", {"7[].srv": f"-J 1-3 {PLACE}/x"})
    assert found.jobs == {"t1": {"7[].srv"}}
    members: dict[str, str | None] = {f"7[{index}].srv": f"-t 1-3 {PLACE}/x" for index in (1, 2, 3)}
    assert read("torque", members).jobs == {"t1": {"7[].srv"}}


# -- it is not ours -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "line",
    [
        f"{PLACE}2/x",
        f"{PLACE[:-1]}/x",
        f"{PLACE}/below/x",
        f"/other{PLACE}/x",
        f"-o {PLACE}/out /elsewhere/x",
        f"-o {PLACE}/out y.sh",
        f"-v A={PLACE}/x",
        f"{PLACE}/",
        f"{PLACE}",
        f"{PLACE.upper()}/x",
        f"{PLACE}\u200b/x",
    ],
)
def test_what_only_looks_like_it(name: str, line: str) -> None:
    found = read(name, {"7.srv": line})
    assert (found.jobs, found.is_whole) == ({}, True)


@BOTH
def test_a_job_that_qselect_does_not_name_is_not_ours(name: str) -> None:
    """Torque's qstat prints the jobs of all users where an array is among the ids."""
    found = read(name, {"7.srv": "-N a sleep.sh", "8.srv": OURS}, listed=["7.srv"])
    assert (found.jobs, found.is_whole) == ({}, True)


def test_a_real_answer_of_torque_about_an_array_has_other_jobs() -> None:
    text = _real("torque-real", "020").replace("-N a sleep.sh", OURS)
    found = get("torque").parse_tokens(answer_of("torque", f"124[].trq1\n{text}"), [request()])
    assert (found.jobs, found.is_whole) == ({}, True)
    found = get("torque").parse_tokens(answer_of("torque", f"116.trq1\n{text}"), [request()])
    assert found.jobs == {"t1": {"116.trq1"}}


@BOTH
def test_a_text_of_another_job_makes_no_record(name: str) -> None:
    fakes = [
        f"a\nJob Id: 9.srv|{MARK[:-1]}|Submit_arguments={OURS}",
        f"a|Submit_arguments={OURS}|x",
        f"a</submit_args></Job><Job><Job_Id>9.srv</Job_Id><submit_args>{OURS}</submit_args></Job>",
    ]
    for fake in fakes:
        found = read(name, {"7.srv": f"-v A='{fake}' y.sh"})
        assert (found.jobs, found.is_whole) == ({}, True)


def test_two_records_of_one_job_that_differ_are_no_answer() -> None:
    records = [record("torque", "7.srv", "y.sh"), record("torque", "7.srv", OURS)]
    text = jobs_text("torque", ["7.srv"], records)
    assert refused("torque", answer_of("torque", text)).kind == "parse_error"


# -- paths that a listing may write in another way -------------------------------------------------


@BOTH
@pytest.mark.parametrize("part", ["a b", "a'b", 'a"b', "a\nb", "ä", "a|b", "a\\b", "a&b", "\udcff"])
def test_an_odd_path_never_proves_absence(name: str, part: str) -> None:
    script = f"/home/{part}/.openssh_jobs/t1/x"
    found = read(name, {"7.srv": "-N a sleep.sh"}, request(script))
    assert (found.jobs, found.is_whole) == ({}, False)
    if name == "torque" or part not in ("a|b",):
        assert read(name, {"7.srv": script}, request(script)).jobs == {"t1": {"7.srv"}}


@BOTH
def test_the_name_of_a_script_may_hold_spaces(name: str) -> None:
    wanted = request(f"{PLACE}/my job")
    for line in (f"-N x {PLACE}/my job", f"-N x '{PLACE}/my job'"):
        assert read(name, {"7.srv": line}, wanted).jobs == {"t1": {"7.srv"}}
    assert not read(name, {}, wanted).is_whole


# -- ended jobs ---------------------------------------------------------------------------------


@BOTH
def test_how_long_ended_jobs_are_there(name: str) -> None:
    assert read(name, {}).remembers == {"pbs": 14 * 86400, "torque": 300}[name]
    assert read(name, {}, server=OFF[name]).remembers == 0


def test_pbs_without_the_ended_jobs_remembers_none() -> None:
    assert read("pbs", {"7.srv": "y.sh"}, asked="-").remembers == 0


def test_a_queue_of_torque_keeps_ended_jobs_for_a_time_of_its_own() -> None:
    queues = "Queue: batch\n    started = True\n\nQueue: fast\n    keep_completed = 20\n"
    assert read("torque", {}, queues=queues).remembers == 20
    assert read("torque", {}, queues=queues.replace("20", "9000")).remembers == 300


# -- what proves nothing --------------------------------------------------------------------------


@BOTH
def test_an_empty_answer_that_is_complete(name: str) -> None:
    found = read(name, {})
    assert (found.jobs, found.is_whole) == ({}, True)


@BOTH
def test_a_server_that_shows_no_arguments_proves_nothing(name: str) -> None:
    assert not read(name, {"7.srv": None, "8.srv": None}).is_whole
    assert read(name, {"7.srv": None, "8.srv": "y.sh"}).is_whole, "7 had none"


@BOTH
@pytest.mark.parametrize(
    "more",
    [
        {"queue": "batch@other"},
        {"options": ("-q", "batch@other")},
        {"options": ("-qbatch@other",)},
        {"options": ("-V", "-q", "@other")},
    ],
)
def test_another_server_is_not_asked(name: str, more: dict[str, Any]) -> None:
    assert not read(name, {}, request(**more)).is_whole
    assert read(name, {}, request(queue="batch", options=("-M", "a@b"))).is_whole


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "qselect: cannot connect to server pbs1 (errno=111)\n",
        "Job id            Name             User\n7.srv   a  alice\n",
        "7.srv\nqstat: no answer\n",
        "7.srv\n",
        "<Data><Job><Job_Id>7.srv</Job_Id>",
        "7.srv\n<html>down for maintenance</html>\n",
    ],
)
@pytest.mark.parametrize("before", ["", "-x\n"])
def test_another_text_is_an_error(name: str, text: str, before: str) -> None:
    if name == "torque" or before:
        refused(name, answer_of(name, before + text))


@BOTH
def test_a_listing_that_leaves_a_job_out_is_an_error(name: str) -> None:
    text = jobs_text(name, ["7.srv", "8.srv"], [record(name, "7.srv", "y.sh")])
    assert "8.srv" in refused(name, answer_of(name, text)).message


@BOTH
def test_a_cut_off_answer_is_an_error(name: str) -> None:
    records = [record(name, "7.srv", "y.sh"), record(name, "8.srv", OURS)]
    whole = answer_of(name, jobs_text(name, ["7.srv", "8.srv"], records)).stdout
    for length in range(0, len(whole) - 2, 7):
        refused(name, Answer(whole[:length]))
    # The frame is whole, and what a command printed is not.
    text = jobs_text(name, ["7.srv", "8.srv"], records)
    refused(name, answer_of(name, text[: text.index("8.srv", 20)]))


@BOTH
def test_a_command_that_failed_is_an_error(name: str) -> None:
    refused(name, answer_of(name, "", code=1))
    refused(name, answer_of(name, jobs_text(name, [], []), code=111))
    refused(name, answer_of(name, jobs_text(name, [], []), server="no server here\n"))
    refused(name, Answer(""))
    refused(name, Answer("", "qstat: command not found", 127))


# -- what runs on the host ------------------------------------------------------------------------


def run(tmp_path: Path, name: str, **programs: str) -> TokenAnswer:
    for program, text in programs.items():
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    script = get(name).token_script([request()], since=datetime.now(UTC))
    assert script is not None
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return get(name).parse_tokens(Answer(done.stdout, done.stderr, done.returncode), [request()])


def test_pbs_is_asked_for_ended_jobs_first(tmp_path: Path) -> None:
    qstat = (
        f"case $1 in -B) printf '{SERVERS['pbs']}'; exit;; esac\n"
        "case $1 in -x) shift;; esac; shift 3; d=$2; shift 2; for id; do\n"
        f'printf "Job Id: %s%sSubmit_arguments={PLACE}/x%s\\n" "$id" "$d" "${{d}}project=p"; done'
    )
    found = run(tmp_path, "pbs", qstat=qstat, qselect="[ $1 = -x ] && echo 7.srv")
    assert found.jobs == {"t1": {"7.srv"}}
    assert found.remembers == 14 * 86400
    # A server whose history is on may fail the first time.
    found = run(tmp_path, "pbs", qstat=qstat, qselect="[ $1 = -x ] && exit 1; echo 8.srv")
    assert found.jobs == {"t1": {"8.srv"}}
    assert found.remembers == 0
    found = run(tmp_path, "pbs", qstat=qstat, qselect="exit 0")
    assert (found.jobs, found.remembers, found.is_whole) == ({}, 14 * 86400, True)
    with pytest.raises(SchedulerError):
        run(tmp_path, "pbs", qstat=qstat, qselect="exit 1")


def test_torque_is_asked_what_its_queues_keep(tmp_path: Path) -> None:
    qstat = (
        f"case $1 in -B) printf '{SERVERS['torque']}'; exit;; -Q) printf "
        "'Queue: q\\n    keep_completed = 7\\n'; exit;; esac\nshift; printf '<Data>'\n"
        f"for id; do printf '<Job><Job_Id>%s</Job_Id><submit_args>{PLACE}/x</submit_args></Job>' "
        '"$id"; done; echo "</Data>"'
    )
    qsub = "exit 1"
    found = run(tmp_path, "torque", qsub=qsub, qstat=qstat, qselect="echo '7[1].srv'")
    assert found.jobs == {"t1": {"7[].srv"}}
    assert found.remembers == 7
    with pytest.raises(SchedulerError):
        run(tmp_path, "torque", qsub=qsub, qstat=qstat, qselect="exit 15")

"""HTCondor's jobs by their tokens: answers of condor_q and condor_history in the manual's form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.tokens import TokenAnswer
from tests.unit.schedulers.frames import frame
from tests.unit.schedulers.htcondor.test_output import totals
from tests.unit.schedulers.htcondor.test_scheduler import commands, run_sh

CONDOR = get("htcondor")
EMPTY = "[\n]\n"


def request(token: str = "t1", **more: Any) -> SubmitRequest:
    return SubmitRequest(script=f"/home/a b/.openssh_jobs/{token}/x.sub", token=token, **more)


def ads(*jobs: tuple[int, str]) -> str:
    return "[\n" + ",\n".join(
        json.dumps({"ClusterId": cluster, "OpenSSHJobsToken": token}) for cluster, token in jobs
    ) + "\n]\n"  # fmt: skip


def answer_of(
    listed: str,
    ended: str = EMPTY,
    *,
    stderr: str = "",
    codes: dict[str, int] | None = None,
    oldest: str = "",
) -> Answer:
    name, total, _ = totals(3)
    codes = codes or {}
    return Answer(
        frame(
            ("condor_q", listed, codes.get("condor_q", 0)),
            (name, total, codes.get(name, 0)),
            ("condor_history", ended, codes.get("condor_history", 0)),
            ("oldest", f"{oldest}1795686000", 0),
        ),
        stderr,
    )


def read(queue: str, history: str = EMPTY, *requests: SubmitRequest) -> TokenAnswer:
    return CONDOR.parse_tokens(answer_of(queue, history), requests or (request(),))


def refused(answer: Answer) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        CONDOR.parse_tokens(answer, [request()])
    return caught.value


def test_the_job_is_in_the_queue_or_has_ended() -> None:
    assert read(ads((7, "t1"))).jobs == {"t1": {"7"}}
    assert read(EMPTY, ads((7, "t1"))).jobs == {"t1": {"7"}}
    # It left the queue between the two questions, or some of its members did.
    assert read(ads((7, "t1"), (7, "t1")), ads((7, "t1"))).jobs == {"t1": {"7"}}


@pytest.mark.parametrize(
    ("oldest", "remembers"),
    [("1795685400\n", 600), ("1795690000\n", 0), ("", inf), ("undefined\n", inf)],
)
def test_a_history_goes_back_as_far_as_its_oldest_job(oldest: str, remembers: float) -> None:
    """The files before that may have been deleted: of what ended earlier it proves nothing."""
    assert CONDOR.parse_tokens(answer_of(EMPTY, oldest=oldest), [request()]).remembers == remembers


def test_two_jobs_with_one_token_are_both_found() -> None:
    assert read(ads((7, "t1")), ads((8, "t1"))).jobs == {"t1": {"7", "8"}}
    found = read(ads((7, "t1"), (8, "t2")), EMPTY, request(), request("t2"))
    assert found.jobs == {"t1": {"7"}, "t2": {"8"}}


@pytest.mark.parametrize("token", ["t12", "T1", "t", "t1 ", "", "t1\u200b", 't1" || true || "'])
def test_another_token_is_not_ours(token: str) -> None:
    # == of ClassAds does not tell capitals apart.
    found = read(ads((7, token)))
    assert (found.jobs, found.is_whole) == ({}, True)


def test_an_empty_answer_that_is_complete() -> None:
    for empty in (EMPTY, "", "[]\n"):
        found = read(empty, empty)
        assert (found.jobs, found.is_whole) == ({}, True)


@pytest.mark.parametrize(
    "text",
    [
        '[\n{"ClusterId": 7, "OpenSSHJobs',
        ads((6, "t1"))[:-3],
        ads((6, "t2")) + '[\n{"ClusterId": 7, "OpenSSHJobsTo',
        "-- Failed to fetch ads from: <10.0.0.1:9618> : head\n",
        "-- Failed to fetch ads from: <10.0.0.1:9618> : head\n" + EMPTY,
        EMPTY + "-- Schedd: other : <10.0.0.1:9618> does not answer\n",
        " ID   OWNER   SUBMITTED\n 7.0  alice   11/26 07:00\n",
        '{"ClusterId": 7, "OpenSSHJobsToken": "t1"}\n',
        "[1, 2]\n",
        "[" * 100_000,
    ],
)
def test_another_text_is_an_error(text: str) -> None:
    refused(answer_of(text))
    refused(answer_of(EMPTY, text))


@pytest.mark.parametrize(
    "ad",
    [
        '{"OpenSSHJobsToken": "t1"}',
        '{"ClusterId": "x", "OpenSSHJobsToken": "t1"}',
        '{"ClusterId": 7}',
        '{"ClusterId": 7, "OpenSSHJobsToken": 5}',
        '{"ClusterId": 7, "OpenSSHJobsToken": "t2", "openSSHJobstoken": "t1"}',
    ],
)
def test_an_ad_that_does_not_say_what_was_asked_for_is_an_error(ad: str) -> None:
    refused(answer_of(f"[\n{ad}\n]\n"))
    refused(answer_of(EMPTY, f"[\n{ad}\n]\n"))


def test_a_command_that_failed_is_an_error() -> None:
    for name in ("condor_q", "condor_q-totals", "condor_history"):
        refused(answer_of(EMPTY, codes={name: 1}))
        refused(answer_of("", "", codes={name: 127}))
    refused(answer_of("", stderr="Error: Collector has no record of schedd/submitter\n"))
    refused(Answer(""))
    refused(Answer("", "condor_q: not found", 127))


def test_a_silent_queue_is_an_error() -> None:
    text = answer_of("", "").stdout.replace(totals(3)[1], "")
    refused(Answer(text))


def test_a_cut_off_answer_is_an_error() -> None:
    whole = answer_of(ads((6, "t2"), (7, "t1"))).stdout
    for length in range(0, len(whole) - 2, 5):
        refused(Answer(whole[:length]))


@pytest.mark.parametrize(
    "options",
    [("-name", "other"), ("-remote", "other"), ("-r", "other"), ("-pool", "p"), ("-addr", "<a>")],
)
def test_another_schedd_is_not_asked(options: tuple[str, ...]) -> None:
    assert not read(EMPTY, EMPTY, request(options=options)).is_whole
    assert read(EMPTY, EMPTY, request(options=("-append", "priority = 5"))).is_whole


def test_only_jobs_of_this_user_with_these_tokens_are_asked_for(tmp_path: Path) -> None:
    text = (
        f'printf \'%s|\' "${{0##*/}}" "$@" >>{tmp_path}/asked; echo >>{tmp_path}/asked\n'
        "case $* in *-totals*) echo '0 jobs; 0 completed';; *) echo '[ ]';; esac\n"
    )
    env = commands(tmp_path, condor_q=text, condor_history=text, id="echo alice\n")
    script = CONDOR.token_script([request(), request("t2")], since=datetime.now(UTC))
    assert script is not None
    done = run_sh(script, env, tmp_path)
    found = CONDOR.parse_tokens(Answer(done.stdout, done.stderr, done.returncode), [request()])
    assert (found.jobs, found.is_whole) == ({}, True)
    wanted = (
        '|alice|-constraint|OpenSSHJobsToken == "t1" || OpenSSHJobsToken == "t2"|-json|-attributes|'
        "ClusterId,OpenSSHJobsToken|"
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        f"condor_q{wanted}",
        "condor_q|alice|-totals|",
        f"condor_history{wanted}",
        "condor_history|-forwards|-limit|1|-af|EnteredCurrentStatus|",
    ]

"""LSF's jobs by their descriptions: answers of ``bjobs -a -o`` in the documented form."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.tokens import TokenAnswer
from tests.unit.schedulers.frames import frame
from tests.unit.schedulers.htcondor.test_scheduler import commands, run_sh

LSF = get("lsf")
NONE = "No job found\n"
LSID = "echo 'IBM Spectrum LSF Standard 10.1.0.13'\n"
BPARAMS = "    CLEAN_PERIOD = 3600\n    MAX_JOBID = 999999\n"


def request(script: str = "/d/.openssh_jobs/t1/x", token: str = "t1", **more: Any) -> SubmitRequest:
    return SubmitRequest(script=script, token=token, **more)


def answer_of(
    bjobs: str, code: int = 0, *, describe: int = 0, bparams: str = BPARAMS, rc: int = 0
) -> Answer:
    return Answer(
        frame(("describe", "", describe), ("bparams", bparams, rc), ("bjobs", bjobs, code))
    )


def read(bjobs: str, *requests: SubmitRequest, **more: Any) -> TokenAnswer:
    return LSF.parse_tokens(answer_of(bjobs, **more), requests or (request(),))


def refused(answer: Answer) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        LSF.parse_tokens(answer, [request()])
    return caught.value


def test_the_job_is_there() -> None:
    found = read("6|-\n7|openssh_jobs:t1\n8|another job\n")
    assert found.jobs == {"t1": {"7"}}
    assert found.is_whole


def test_the_members_of_an_array_are_the_array() -> None:
    text = "".join(f"7[{index}]|openssh_jobs:t1\n" for index in (1, 2, 10))
    assert read(text).jobs == {"t1": {"7"}}


def test_two_jobs_with_one_token_are_both_found() -> None:
    assert read("7|openssh_jobs:t1\n8[1]|openssh_jobs:t1\n").jobs == {"t1": {"7", "8"}}
    found = read("7|openssh_jobs:t1\n8|openssh_jobs:t2\n", request(), request(token="t2"))
    assert found.jobs == {"t1": {"7"}, "t2": {"8"}}


@pytest.mark.parametrize(
    "described",
    [
        "openssh_jobs:t12",
        "openssh_jobs:T1",
        "openssh_jobs:t",
        "openssh_jobs:",
        "xopenssh_jobs:t1",
        " openssh_jobs:t1",
        "openssh_jobs:t1 and more",
        "openssh_jobs:t1|openssh_jobs:t1",
        "9|openssh_jobs:t1",
        "openssh_jobs:t1\u200b",
        "/d/.openssh_jobs/t1/x",
        "",
    ],
)
def test_another_description_is_not_ours(described: str) -> None:
    found = read(f"7|{described}\n")
    assert (found.jobs, found.is_whole) == ({}, True)


def test_how_long_ended_jobs_are_there() -> None:
    assert read(NONE).remembers == 3600
    assert read(NONE, bparams="", rc=1).remembers == 0
    assert read(NONE, bparams="", rc=0).remembers == 0
    # What bjobs says without -a.
    assert read("No unfinished job found\n").remembers == 0


def test_an_empty_answer_that_is_complete() -> None:
    found = read(NONE)
    assert (found.jobs, found.is_whole) == ({}, True)


def test_a_description_of_the_users_own_proves_nothing() -> None:
    assert not read(NONE, request(options=("-Jd", "mine"))).is_whole
    assert not read(NONE, request(options=("-Jdmine",))).is_whole
    assert not read(NONE, describe=1).is_whole
    assert not read(NONE, describe=127).is_whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "JOBID|JOB_DESCRIPTION\n7|openssh_jobs:t1\n",
        "JOBID   USER    STAT  QUEUE\n7       alice   RUN   normal\n",
        "7|openssh_jobs:t12\n8",
        "7|a description\nof two lines\n",
        "LSF is down. Please wait ...\n",
        "batch system daemon not responding ... still trying\n7|-\n",
        "7|-\nbatch system daemon not responding\n",
        "7@cluster2|openssh_jobs:t1\n",
        "7|-\nNo job found\n",
        "cannot open /lsf/conf: No job found here\n",
    ],
)
def test_another_text_is_an_error(text: str) -> None:
    refused(answer_of(text))


def test_a_command_that_failed_is_an_error() -> None:
    refused(answer_of("7|-\n", 255))
    refused(answer_of("LSF is down. Please wait ...\n", 255))
    refused(Answer(""))
    refused(Answer("", "bjobs: not found", 127))


def test_a_cut_off_answer_is_an_error() -> None:
    whole = answer_of("6|-\n7|openssh_jobs:t1\n").stdout
    for length in range(0, len(whole) - 2, 5):
        refused(Answer(whole[:length]))


# -- what runs on the host ------------------------------------------------------------------------


def run(tmp_path: Path, script: str = "x", **programs: str) -> TokenAnswer:
    env = commands(tmp_path, **{"lsid": LSID, "bparams": f"echo '{BPARAMS}'\n", **programs})
    requests = [request(str(tmp_path / script))]
    text = LSF.token_script(requests, since=datetime.now(UTC))
    assert text is not None
    done = run_sh(text, env, tmp_path)
    return LSF.parse_tokens(Answer(done.stdout, done.stderr, done.returncode), requests)


@pytest.mark.parametrize("name", ["x", "a b", "it's", 'a"b', "ä", "a\nb", "-x"])
def test_the_script_decides_whether_a_description_counts(tmp_path: Path, name: str) -> None:
    none = "echo 'No job found' >&2; exit 255\n"
    (tmp_path / name).write_text("#!/bin/sh\n#BSUB -n 2\n")
    assert run(tmp_path, name, bjobs=none).is_whole
    assert not run(tmp_path, name, bjobs=none, lsid="exit 1\n").is_whole
    (tmp_path / name).write_text("#!/bin/sh\n#BSUB -Jd mine\n")
    assert not run(tmp_path, name, bjobs=none).is_whole
    (tmp_path / name).unlink()
    assert not run(tmp_path, name, bjobs=none).is_whole, "it may have had one"


def test_a_description_cannot_say_that_there_is_no_job(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\n")
    found = run(tmp_path, bjobs="echo '6|No job found'; echo '7|openssh_jobs:t1'\n")
    assert found.jobs == {"t1": {"7"}}


@pytest.mark.parametrize(
    "bjobs",
    [
        "exit 0\n",
        "exit 255\n",
        "echo 'Failed in an LSF library call: No job found in the file' >&2; exit 255\n",
        "echo 'LSF is down. Please wait ...' >&2; exit 255\n",
    ],
)
def test_a_bjobs_that_says_nothing_proves_nothing(tmp_path: Path, bjobs: str) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\n")
    with pytest.raises(SchedulerError):
        run(tmp_path, bjobs=bjobs)

"""LSF as its documents and OpenLava's sources say: hostile texts, complete answers, refusals.

No cluster can run here: the commands are stand-ins that print the documented forms.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import parser
from openssh_jobs.errors import (
    InputError,
    SchedulerError,
    SubmitLimit,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.jobs import JobState
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from tests.helpers import examples
from tests.paths import DATA
from tests.unit.schedulers.frames import frame
from tests.unit.schedulers.htcondor.test_scheduler import commands, run_sh

LSF = get("lsf")
# Names and texts of lsb.err.c of OpenLava, those that a submission can end with.
ERRORS = [line.split("\t") for line in (DATA / "lsf-errors.txt").read_text().splitlines()]
HEAD = "JOBID|JOBINDEX|STAT|USER|QUEUE|EXEC_HOST|EXIT_CODE|SLOTS|EXIT_REASON\n"


def refusal(stderr: str, *, returncode: int = 255) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit("", "lsf", stderr=stderr, returncode=returncode)
    return caught.value


# --------------------------------------------------------------------------- refused or uncertain


def test_every_error_of_bsub_is_a_refusal_but_for_errors_of_the_communication() -> None:
    """bsub says "Job not submitted" after each of them, also where the answer was lost."""
    kinds: dict[type[SchedulerError], list[str]] = {}
    for name, text in ERRORS:
        kinds.setdefault(type(refusal(f"{text}. Job not submitted.\n")), []).append(name[5:])
    assert len(ERRORS) == 93
    assert len(kinds[SubmitRejected]) == 77
    assert sorted(kinds[SubmitLimit]) == [
        "HJOB_LIMIT", "NO_JOBID", "PJOB_LIMIT", "QJOB_LIMIT", "UJOB_LIMIT", "USER_JLIMIT",
    ]  # fmt: skip
    assert sorted(kinds[SubmitUnknown]) == [
        "EOF", "LSBLIB", "LSLIB", "NO_MEM", "OP_RETRY", "PREMATURE", "PROTOCOL", "SYS_CALL",
        "TIME_OUT", "XDR",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stderr", "cls", "kind"),
    [
        (
            "Failed in an LSF library call: LIM is down; try later. Job not submitted.\n",
            SubmitRejected,
            "transient",
        ),
        (
            "Failed in an LSF library call: Slave LIM configuration is not ready yet. "
            "Job not submitted.\n",
            SubmitRejected,
            "transient",
        ),
        (
            "LSF is down. Please wait ...\nFailed in an LSF library call: A socket operation has "
            "failed: Connection reset by peer. Job not submitted.\n",
            SubmitUnknown,
            "transient",
        ),
        ("LSF is down. Please wait ...\n", SubmitUnknown, "transient"),
        ("batch system daemon not responding ... still trying\n", SubmitUnknown, "transient"),
        ("Connection refused by server. Job not submitted.\n", SubmitRejected, "transient"),
        (
            "You must select a user group.\nRequest aborted by esub. Job not submitted.\n",
            SubmitRejected,
            "invalid_request",
        ),
        (
            "User <alice>: Pending job threshold reached. Retrying in 60 seconds...\n",
            SubmitLimit,
            "limit",
        ),
        ("User alice has reached max jobs 10. Job not submitted.\n", SubmitLimit, "limit"),
        ("Root job submission is disabled. Job not submitted.\n", SubmitRejected, "permission"),
    ],
)
def test_what_kind_of_refusal_it_is(stderr: str, cls: type[SchedulerError], kind: str) -> None:
    error = refusal(stderr)
    assert (type(error), error.kind) == (cls, kind)
    first = stderr.split(".")[0].strip()
    assert first in error.message


def test_bjobs_used_wrongly_is_not_asked_again() -> None:
    text = (
        "bjobs: You cannot use the -json option when the -o option is not specified or the "
        "LSB_BJOBS_FORMAT parameter is not defined.\n"
    )
    with pytest.raises(SchedulerError) as caught:
        parser.parse_status("", "lsf", stderr=text, returncode=255, requested=["1"])
    assert caught.value.kind == "invalid_request"


# --------------------------------------------------------------------------- complete or not


def test_each_id_is_absent_only_by_its_own_word() -> None:
    text = frame(("bjobs", f"{HEAD}123|4|RUN|alice|normal|host1|-|1|-\n", 255))
    said = "Job <5> is not found\nJob <123[7]> is not found\n"
    snapshot = LSF.parse_status(
        Answer(text, stderr=said), requested=["123[4]", "123[7]", "123[8]", "5", "6"]
    )
    assert list(snapshot.known) == ["123[4]"]
    assert (snapshot.absent, snapshot.unknown) == (("123[7]", "5"), ("123[8]", "6"))


def test_an_array_is_over_when_the_queue_has_no_member_that_is_not() -> None:
    rows = "".join(f"123|{one}|DONE|alice|normal|h|-|1|-\n" for one in (1, 2))
    snapshot = LSF.parse_status(
        Answer(frame(("bjobs", HEAD + rows, 0))), requested=["123", "123[3]"]
    )
    assert (snapshot.absent, snapshot.unknown) == (("123",), ("123[3]",))
    running = f"{rows}123|3|RUN|alice|normal|h|-|1|-\n"
    snapshot = LSF.parse_status(Answer(frame(("bjobs", HEAD + running, 0))), requested=["123"])
    assert snapshot["123"].state is JobState.RUNNING
    failed = f"{HEAD}{rows}123|3|EXIT|alice|normal|h|2|1|-\n"
    snapshot = LSF.parse_status(Answer(frame(("bjobs", failed, 0))), requested=["123"])
    assert snapshot["123"].state is JobState.FAILED
    # A row that nobody understands may be that of a member which runs.
    for text in (failed, HEAD + rows):
        odd = frame(("bjobs", f"{text}123|4|R\n", 0))
        snapshot = LSF.parse_status(Answer(odd), requested=["123"])
        assert snapshot.unparsed
        assert (dict(snapshot.known), snapshot.unknown) == ({}, ("123",))


def test_a_range_of_an_array_stands_for_its_members() -> None:
    rows = "".join(f"123|{one}|DONE|alice|normal|h|-|1|-\n" for one in (1, 2))
    running = f"{rows}123|3|RUN|alice|normal|h|-|1|-\n"
    wanted = ["123[1-2]", "123[2-4]", "123[7-9]"]
    snapshot = LSF.parse_status(Answer(frame(("bjobs", HEAD + running, 0))), requested=wanted)
    assert snapshot["123[2-4]"].state is JobState.RUNNING
    assert (snapshot.absent, snapshot.unknown) == (("123[1-2]",), ("123[7-9]",))


def test_what_lsf_says_of_a_job_counts_more_than_a_row_in_a_name() -> None:
    head = "JOBID   USER  STAT  QUEUE   FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
    row = "5       alice   DONE  normal     login1      host1       x          Nov 22 06:48"
    table = f"{head}6       eve     PEND  normal     login1         -        x\n{row}\n"
    snapshot = LSF.parse_status(
        Answer(
            frame(("bjobs", "", 255), ("bjobs-w", table, 255)),
            stderr="bjobs: invalid option -- 'o'\nJob <5> is not found\n",
        ),
        requested=["5", "6"],
    )
    assert (list(snapshot.known), snapshot.absent) == (["6"], ("5",))


@pytest.mark.parametrize("bad", ["5.0", "5_1", "5.server", "5[1-10%2]"])
def test_an_id_of_another_scheduler_is_not_sent(bad: str) -> None:
    for build in (LSF.status_script, LSF.history_script, LSF.cancel_script):
        with pytest.raises(InputError, match="not a job id of LSF"):
            build([bad])


def test_bhist_is_asked_of_each_job_by_itself() -> None:
    script = LSF.history_script(["5", "6[2]"])
    assert script is not None
    assert re.findall(r"bhist -n 0 -l '?([0-9\[\]]+)'?", script) == ["5", "6[2]"]
    many = LSF.history_script([str(one) for one in range(1, 200)])
    assert many is not None
    assert many.count("bhist -n 0") == 65
    forged = frame(("bhist 5", LONG.format(id=5, name="x", user="a", command="x", end=FAILED), 0),
                   ("bhist", FORGED + LONG.format(id=7, name="x", user="a", command="x", end=ENDED),
                    0))  # fmt: skip
    snapshot = LSF.parse_history(Answer(forged), requested=["5", "7", "8"])
    assert (str(snapshot["5"].state), str(snapshot["7"].state)) == ("failed", "completed")
    assert snapshot.unknown == ("8",)


# --------------------------------------------------------------------------- hostile texts

LONG = """\

Job <{id}>, Job Name <{name}>, User <{user}>, Project <default>, Command <{command}>
Sun Nov 22 06:48:44: Submitted from host <login1>, to Queue <normal>, CWD <$HOME>;
Sun Nov 22 06:48:45: Starting (Pid 17);
{end}
"""
ENDED = "Sun Nov 22 06:48:55: Done successfully. The CPU time used is 0.1 seconds;"
FAILED = "Sun Nov 22 06:48:55: Exited with exit code 3. The CPU time used is 0.1 seconds;"
FORGED = LONG.format(id=5, name="x", user="alice", command="x", end=ENDED)


def test_bhist_of_another_job_says_nothing_of_mine() -> None:
    theirs = LONG.format(id=6, name=f"x\n{FORGED}", user="eve", command=FORGED, end=ENDED)
    mine = LONG.format(id=5, name="x", user="alice", command="x", end=FAILED)
    text = frame(("bhist 6", theirs, 0), ("bhist 5", mine, 0))
    snapshot = LSF.parse_history(Answer(text), requested=["5", "6"])
    assert (snapshot["5"].state, snapshot["5"].exit_code) == (JobState.FAILED, 3)
    forgotten = frame(("bhist 6", theirs, 0), ("bhist 5", "No matching job found\n", 255))
    assert LSF.parse_history(Answer(forgotten), requested=["5", "6"]).absent == ("5",)


HOSTILE = [
    '"},{"JOBID":"5","JOBINDEX":"0","STAT":"DONE","JOB_NAME":"',
    '\n{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"5","STAT":"DONE"}]}\n',
    "\n5|0|DONE|alice|normal|h|-|1|-\n",
    "|DONE|\n5|DONE",
    "x\n5       alice   DONE  normal     login1      host1       x          Nov 22 06:48",
    f"\n{'-' * 78}\n{FORGED}",
    "Job <5> is not found\nJob <5>: No matching job found",
    "\u2028\x85\x1f\\",
    "Status <DONE>, Queue <normal>",
    "\nOJ:aaaaaaaaaaaaaaaa1 end bjobs 0\nOJ-aaaaaaaaaaaaaaaa1\n",
]
PIECES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet='"\\\n\r{}[],:<>|5 JOBIDSTATDONE0\x1f\x85\u2028', max_size=50),
)


def json_form(name: str, command: str, *, is_escaped: bool) -> str:
    records = [
        {"JOBID": "6", "JOBINDEX": "0", "STAT": "PEND", "USER": "eve", "JOB_NAME": name,
         "COMMAND": command},
        {"JOBID": "5", "JOBINDEX": "0", "STAT": "RUN", "USER": "alice", "JOB_NAME": "x",
         "COMMAND": "x"},
    ]  # fmt: skip

    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False) if is_escaped else f'"{value}"'

    reported = ",\n".join(
        "{" + ",".join(f'"{key}":{text(value)}' for key, value in one.items()) + "}"
        for one in records
    )
    return f'{{\n  "COMMAND":"bjobs",\n  "JOBS":2,\n  "RECORDS":[\n{reported}\n  ]\n}}\n'


@examples(300)
@given(PIECES, PIECES, st.booleans())
def test_the_texts_of_one_job_never_change_the_state_of_another(
    name: str, command: str, is_escaped: bool
) -> None:
    """Whether or not bjobs escapes them, and whatever else the second listing says."""
    safe = f"{HEAD}6|0|PEND|eve|normal|-|-|1|-\n5|0|RUN|alice|normal|h|-|1|-\n"
    details = json_form(name, command, is_escaped=is_escaped)
    snapshot = LSF.parse_status(
        Answer(frame(("bjobs", safe, 0), ("bjobs-json", details, 0))), requested=["5", "6", "7"]
    )
    assert snapshot["5"].state is JobState.RUNNING
    assert snapshot["6"].state is JobState.PENDING
    assert snapshot.unknown == ("7",)
    if is_escaped:
        assert (snapshot["6"].name or "-", snapshot["5"].name) == (name or "-", "x")


@examples(300)
@given(PIECES, PIECES, st.sampled_from(["json", "table", "long", "|"]), st.booleans())
def test_nor_in_a_pasted_listing(name: str, command: str, form: str, last: bool) -> None:
    if form == "json":
        text = json_form(name, command, is_escaped=True)
    elif form == "|":
        rows = ["5|x|RUN|y|alice\n", f"6|{name}|PEND|{command}|eve\n"]
        text = "JOBID|JOB_NAME|STAT|COMMAND|USER\n" + "".join(rows if last else rows[::-1])
    elif form == "table":
        head = "JOBID   USER  STAT  QUEUE   FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
        rows = [
            "5       alice   RUN   normal     login1      host1       x          Nov 22 06:48\n",
            f"6       eve     PEND  normal     login1         -        {name} Nov 22 06:48\n",
        ]
        text = head + "".join(rows if last else rows[::-1])
    else:
        records = [
            LONG.format(id=5, name="x", user="alice", command="x", end=""),
            LONG.format(id=6, name=name, user="eve", command=command, end=""),
        ]
        text = f"{'-' * 78}\n".join(records if last else records[::-1])
    try:
        snapshot = parser.parse_status(text, "lsf", requested=["5"])
    except SchedulerError:
        return
    assert snapshot["5"].state in (JobState.RUNNING, JobState.UNKNOWN)
    if form == "json":
        assert snapshot["5"].state is JobState.RUNNING


def test_json_that_lists_more_jobs_than_it_announces_is_not_believed() -> None:
    text = json_form(HOSTILE[0], "x", is_escaped=False)
    with pytest.raises(SchedulerError) as caught:
        parser.parse_status(text, "lsf", requested=["5"])
    assert caught.value.kind == "parse_error"


# --------------------------------------------------------------------------- acting


def test_unknown_words_of_bkill_are_an_answer() -> None:
    text = (
        "Job <1>: Illegal signal\nJob <2>: out of paper\nJob <3>: Failed in an LSF library call: "
        "Slave LIM configuration is not ready yet\nJob <4[1-3:2]> is being terminated\n"
    )
    assert parser.parse_cancel(text, "lsf", requested=["1", "2", "3", "4[1-3:2]", "5"]) == {
        "1": "invalid_request",
        "2": "invalid_request",
        "3": "transient",
        "4[1-3:2]": "requested",
        "5": "transient",
    }


# --------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize("version", ["10", "9", "openlava", "none"])
def test_the_status_script_on_old_and_new_versions(tmp_path: Path, version: str) -> None:
    details = json_form("my name", "x", is_escaped=True)
    safe = f"{HEAD}6|0|PEND|eve|normal|-|-|1|-\\n5|0|RUN|alice|normal|h|-|1|-"
    env = commands(
        tmp_path,
        bjobs='case "$V $*" in\n'
        '"none "*) echo "Job <5> is not found" >&2; echo "Job <6> is not found" >&2; exit 255;;\n'
        '"openlava "*" -o "*) echo "bjobs: invalid option -- o" >&2; exit 255;;\n'
        '"openlava "*) printf "%s\\n" "JOBID USER STAT QUEUE FROM_HOST EXEC_HOST JOB_NAME '
        'SUBMIT_TIME" "5 alice RUN normal l h x Nov 22 06:48" "6 eve PEND normal l - y '
        'Nov 22 06:48";;\n'
        '"9 "*" -json "*) echo "bjobs: illegal option" >&2; exit 255;;\n'
        f"*\" -json \"*) cat <<'EOF'\n{details}EOF\n;;\n"
        f"*) printf '{safe}\\n';;\nesac\n",
    )
    done = run_sh(LSF.status_script(["5", "6"]), {**env, "V": version}, tmp_path)
    snapshot = LSF.parse_status(Answer(done.stdout, stderr=done.stderr), requested=["5", "6"])
    if version == "none":
        assert snapshot.absent == ("5", "6")
        return
    assert [str(snapshot[one].state) for one in ("5", "6")] == ["running", "pending"]
    assert snapshot["6"].name == ("my name" if version == "10" else None)


def words(**wanted: Any) -> str:
    return LSF.submit_script(SubmitRequest(script="x", **wanted))


def test_nodes_are_different_hosts() -> None:
    assert "-n 6 -R 'span[ptile=3]'" in words(nodes=2, cpus=3)
    assert "-n 2 -R 'span[ptile=1]'" in words(nodes="2")
    assert "-n 4 -R 'span[hosts=1]'" in words(cpus=4)
    with pytest.raises(SchedulerError, match="nodes='2-4'"):
        words(nodes="2-4")


def test_env_reaches_the_job_or_is_refused(tmp_path: Path) -> None:
    env = commands(tmp_path, bsub='cat; echo "Job <7> is submitted to queue <q>."\n')
    script = LSF.submit_script(SubmitRequest(script="job.sh", env_names=("SECRET",)))
    (tmp_path / "job.sh").write_text("#!/bin/sh\n#BSUB -n 2\necho -env\n")
    done = run_sh(script, env, tmp_path)
    assert parser.parse_submit(done.stdout, "lsf", returncode=done.returncode) == "7"
    for line in ("#BSUB -env none", "#BSUB -q x -env 'all,~SECRET'", "#BSUB -L /bin/bash"):
        (tmp_path / "job.sh").write_text(f"#!/bin/sh\n{line}\n")
        done = run_sh(script, env, tmp_path)
        assert done.stdout == ""
        assert isinstance(refusal(done.stderr, returncode=done.returncode), SubmitRejected)
    for wanted in ({"env_names": ("HOME",)}, {"env_names": ("A",), "options": ("-env", "none")}):
        with pytest.raises(SchedulerError) as caught:
            words(**wanted)
        assert caught.value.kind == "unsupported"


def test_a_resource_string_of_the_script_is_not_lost_to_ours(tmp_path: Path) -> None:
    env = commands(tmp_path, bsub='echo "Job <7> is submitted to queue <q>."\n')
    (tmp_path / "x").write_text("#!/bin/sh\n#BSUB -n 4\n#BSUB  -R 'rusage[mem=4GB]'\n")
    for wanted in ({"cpus": 4}, {"nodes": 2}):
        done = run_sh(words(**wanted), env, tmp_path)
        error = refusal(done.stderr, returncode=done.returncode)
        assert (done.stdout, type(error), error.kind) == ("", SubmitRejected, "invalid_request")
        assert "#BSUB -R" in error.message
    assert run_sh(words(), env, tmp_path).stdout.startswith("Job <7>")
    (tmp_path / "x").write_text("#!/bin/sh\n#BSUB -n 4\necho -R x\n")
    assert run_sh(words(cpus=4), env, tmp_path).stdout.startswith("Job <7>")


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "x[1-5]"},
        {"memory": "8"},
        {"memory": "lots"},
        {"array": "5-1"},
        {"array": "0-4"},
        {"array": "1-4%0"},
        {"array": "1-4%x"},
    ],
)
def test_what_would_mean_something_else_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        words(**wanted)


def test_a_profile_cannot_keep_bsub_from_naming_the_job(tmp_path: Path) -> None:
    env = commands(tmp_path, bsub='echo "quiet: ${BSUB_QUIET-no} ${BSUB_CHK_RESREQ-no}"\n')
    (tmp_path / "x").write_text("#!/bin/sh\n")
    done = run_sh(words(), {**env, "BSUB_QUIET": "1", "BSUB_CHK_RESREQ": "y"}, tmp_path)
    assert done.stdout == "quiet: no no\n"


@pytest.mark.parametrize(("memory", "word"), [("8GB", "8192MB"), ("1.5G", "1536MB")])
def test_memory_with_its_unit(memory: str, word: str) -> None:
    assert f"-M {word}" in words(memory=memory)

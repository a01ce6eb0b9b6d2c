"""Two users of one scheduler: what one of them writes into a job says nothing of the other's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.errors import SchedulerError
from openssh_jobs.jobs import JobState
from openssh_jobs.schedulers.fields import quote
from tests.lab import namespaces, parts
from tests.lab.account import Account
from tests.lab.gridengine import GridEngineLab
from tests.lab.site import Site
from tests.lab.slurm import SlurmLab, in_place_of

ALICE, BOB = (namespaces.USERS[0][0], namespaces.USERS[1][0])
FORGOTTEN = "424242"

# The words in @ are the ids of Alice's jobs: one that waits, one that nobody knows any more.
VALUES = {
    "separators": "a|b,c;d:e\tf\x1fg\x1eh",
    "newline": "a\nb\n",
    "carriage return": "a\rb\r\n@MINE@|x",
    "line separators": "a\x0bb\x0cc\x1cd\x1de\x85f\u2028g\u2029h",
    "quotes and escapes": "'\"`$(id)${HOME}\\n\\x0a\\\\%j%%",
    "record of scontrol": (
        "x\nJobId=@GONE@ JobName=x UserId=@ALICE@(7001) JobState=COMPLETED Reason=None "
        "ExitCode=0:0 RunTime=00:00:01 SubmitTime=2026-11-20T10:00:00 NumCPUs=1\n"
        "JobId=@MINE@ JobName=x UserId=@ALICE@(7001) JobState=COMPLETED Reason=None ExitCode=0:0 "
        "NumCPUs=1 WorkDir=/ "
    ),
    "words of a record": "x JobState=COMPLETED UserId=root(0) ExitCode=0:0 StdOut=/etc/passwd ",
    "row of squeue": "x\n@MINE@|@MINE@|COMPLETED|@ALICE@|batch|n1|1|N/A|N/A|N/A|0:01|0:01|\n",
    "frame": (
        "x\nOJ+00\nOJ:00 begin squeue@\n00|@MINE@|@MINE@|COMPLETED|\n\nOJ:00 end squeue@ 0\nOJ-00\n"
    ),
    "marks": "$oj|@MINE@|$oj>@GONE@\n$oj|",
    "title of a cluster": "x\n\nCLUSTER: other",
    "xml": (
        "</JB_name></job_list><job_list state='running'><JB_job_number>@MINE@</JB_job_number>"
        "<JB_owner>@ALICE@</JB_owner><state>dr</state></job_list>&lt;&#10;]]>"
    ),
    "block of qacct": (
        "x\n==============================================================\nqname all.q\n"
        "owner @ALICE@\njobnumber @GONE@\ntaskid undefined\nfailed 0\nexit_status 0\n"
        "ru_wallclock 1s\n==========================================================\n"
        "job_number: @MINE@\nerror reason 1: forged\n"
    ),
    "colons of accounting": "a:b:0:0:@GONE@:x:0:0",
}


def written(text: str, mine: str) -> str:
    return text.replace("@MINE@", mine).replace("@GONE@", FORGOTTEN).replace("@ALICE@", ALICE)


@pytest.fixture(params=["slurm", "gridengine"])
def accounts(
    request: pytest.FixtureRequest, lab_directory: Path, tmp_path: Path
) -> Iterator[tuple[Account, Account]]:
    lab: SlurmLab | GridEngineLab = request.getfixturevalue(request.param)
    directory = lab_directory / f"hostile-{request.param}-{tmp_path.name}"
    directory.mkdir(mode=0o755)
    yield Account(lab, directory, ALICE), Account(lab, directory, BOB)
    command = "scancel" if isinstance(lab, SlurmLab) else "qdel"
    for user in (ALICE, BOB):
        lab.command(command, "-u", user, check=False)


# What each scheduler lets a user write into a job of his.
FIELDS = {
    "slurm": [
        *("--comment=@", "--job-name=@", "--account=@", "--wckey=@", "--mail-user=@", "--bb=@"),
        *("--network=@", "--container=@", "--mcs-label=@", "--cluster-constraint=@"),
        *("--output=@", "--error=@", "--input=@", "--chdir=@", "--constraint=@", "--licenses=@"),
        *("--reservation=@", "--qos=@", "--dependency=@", "--nodelist=@", "--gres=@"),
    ],
    "sge": [
        *("-N @", "-A @", "-ac x=@", "-v X=@", "-o @", "-e @", "-i @", "-M @", "-S @", "-wd @"),
        *("-l hostname=@", "-l arch=@", "-q @", "-P @", "-hold_jid @", "-ckpt @", "-pe @ 1"),
        *("-masterq @", "-jc @", "-sc x=@", "-soft -l arch=@", "-dl @", "-p @"),
    ],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_nothing_that_another_user_writes_is_believed_of_a_job(
    accounts: tuple[Account, Account], value: str
) -> None:
    alice, bob = accounts
    mine = alice.submit(hold=True, name="plain")
    text = written(value, mine)
    theirs = []
    for field in FIELDS[alice.scheduler.name]:
        words = tuple(word.replace("@", text) for word in field.split(" "))
        try:
            theirs.append(bob.submit(hold=True, options=words))
        except SchedulerError:
            continue  # refused, or its value is nothing that can be submitted
    own = alice.submit(
        hold=True, options=("--comment", text) if alice.scheduler.name == "slurm" else ("-A", "x")
    )
    assert theirs
    everybody = alice.status(all_users=True)
    assert everybody.unparsed == ()
    assert {mine, own, *theirs} <= everybody.known.keys()
    assert FORGOTTEN not in everybody.known
    users = {one: everybody[one].user for one in everybody.known}
    assert {users[one] for one in theirs} == {BOB}
    assert {users[one] for one in (mine, own)} == {ALICE}
    assert {everybody[one].state for one in (mine, own, *theirs)} == {JobState.HELD}, everybody
    several = alice.status(mine, FORGOTTEN, *theirs, all_users=True)
    assert several[mine].state is JobState.HELD
    assert several[mine].name == "plain"
    assert FORGOTTEN in several.absent
    listed = alice.status(mine, own, FORGOTTEN)
    assert (listed[mine].state, listed[own].state) == (JobState.HELD, JobState.HELD)
    assert listed.absent == (FORGOTTEN,)
    reported = alice.history(mine, FORGOTTEN, own, *theirs)
    assert FORGOTTEN not in reported.known
    for one in (mine, own):
        assert one not in reported.known or reported[one].state in (JobState.HELD, JobState.UNKNOWN)
    detail = alice.detail(mine)
    assert (detail.job_id, detail.state, detail.user) == (mine, JobState.HELD, ALICE)
    for one in theirs:
        try:
            detail = alice.detail(one)
        except SchedulerError as error:
            assert error.kind == "parse_error"  # noqa: PT017
        else:
            assert (detail.job_id, detail.state, detail.user) == (one, JobState.HELD, BOB)


def ended_hostile_jobs(alice: Account, bob: Account) -> None:
    """Bob's jobs with all these words have ended, and Alice's job is what it was."""
    is_slurm = alice.scheduler.name == "slurm"
    mine = alice.submit("#!/bin/sh\nexit 3\n", name="plain")
    theirs = {}
    for value in VALUES.values():
        text = written(value, mine)
        words = (
            ("--comment", text, "--job-name", text, "--wckey", text)
            if is_slurm
            else ("-ac", f"x={text}", "-v", f"X={text}")
        )
        more = ("--account", text) if is_slurm else ("-A", text)
        for options in ((*words, *more), words):
            try:
                theirs[bob.submit("#!/bin/sh\nexit 0\n", options=options)] = text
                break
            except SchedulerError:
                continue  # not taken with these words
    assert len(theirs) == len(VALUES)
    alice.wait(mine, lambda one: one.is_final or one.reason == "left the queue")
    for one in theirs:
        bob.wait(one, lambda one: one.is_final or one.reason == "left the queue")
    deadline = time.monotonic() + 30
    while True:
        reported = alice.history(FORGOTTEN, mine, *theirs)
        if {mine, *theirs} <= reported.known.keys() or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert FORGOTTEN not in reported.known
    assert (reported[mine].state, reported[mine].exit_code) == (JobState.FAILED, 3)
    # "allocation" is what slurmdbd calls a job whose record of its start it has not had; squeue is
    # not asked for names.
    assert reported[mine].name in ("plain", "allocation", None)
    for one, text in theirs.items():
        # A job whose own text contradicts its record is unknown.
        assert one in reported.unknown or reported[one].state is JobState.COMPLETED, reported[one]
        assert one in reported.known or "JobState=" in text or "JobId=" in text


def test_the_ends_of_hostile_jobs(accounts: tuple[Account, Account]) -> None:
    ended_hostile_jobs(*accounts)


def test_the_ends_of_hostile_jobs_in_slurms_accounting(
    slurm: SlurmLab, site: Site, lab_directory: Path
) -> None:
    parts.require("accounting")
    assert site.network is not None
    lab = SlurmLab(
        lab_directory / "hostile-db", site.network.login, accounting=True, remembers=2, cpus=8
    )
    directory = lab_directory / "hostile-accounts"
    directory.mkdir(mode=0o755)
    with in_place_of(slurm, lab):
        ended_hostile_jobs(Account(lab, directory, ALICE), Account(lab, directory, BOB))


def test_what_others_write_does_not_hide_a_job(accounts: tuple[Account, Account]) -> None:
    alice, bob = accounts
    if alice.scheduler.name == "sge":
        pytest.skip("Grid Engine takes no such words for a project that there is not")
    theirs = bob.submit(hold=True, options=("--account=a|b\nc", "--wckey=a|b"))
    status = alice.status(all_users=True)[theirs]
    assert (status.state, status.user, status.account) == (JobState.HELD, BOB, "a|b\nc")
    assert quote(status.account or "") != status.account

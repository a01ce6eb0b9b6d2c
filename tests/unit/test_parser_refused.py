"""A submission that was refused, and one that may have been carried out, by what was printed."""

from __future__ import annotations

import pytest

from openssh_jobs import parser
from openssh_jobs.errors import SchedulerError, SubmitLimit, SubmitRejected, SubmitUnknown
from tests.paths import DATA

# Name and text of every code in src/common/slurm_errno.c of Slurm 26.11.
SLURM_ERRORS = [line.split("\t") for line in (DATA / "slurm-errors.txt").read_text().splitlines()]
BANNER = """
-----------------------------------------------------------------
          Welcome to the Machine
-----------------------------------------------------------------

--> Verifying valid submit host (login1)...OK
--> Verifying job request is within current queue limits...FAILED

    [*] Too many simultaneous jobs in queue.
        --> Max job limits for alice =  20 jobs
"""


def outcome(
    scheduler: str, stderr: str, *, stdout: str = "", returncode: int = 1
) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        parser.parse_submit(stdout, scheduler, stderr=stderr, returncode=returncode)
    return caught.value


def test_every_code_of_slurm_is_a_refusal_but_for_errors_of_the_communication() -> None:
    refused: list[str] = []
    uncertain: list[str] = []
    for name, text in SLURM_ERRORS:
        error = outcome("slurm", f"sbatch: error: Batch job submission failed: {text}\n")
        (refused if isinstance(error, SubmitRejected) else uncertain).append(name)
        assert text.rstrip(".") in error.message
    assert (len(refused), len(uncertain)) == (355, 36)
    general = ("SLURM_", "SLURMCTLD_COMM", "ESLURM_AUTH", "ESLURM_PROTOCOL", "ESLURM_REST_AUTH")
    assert all(name.startswith((*general, "EINPROGRESS")) for name in uncertain)
    for name in ("SLURM_PROTOCOL_SOCKET_IMPL_TIMEOUT", "SLURM_PROTOCOL_SOCKET_ZERO_BYTES_SENT"):
        assert name in uncertain
    assert "SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR" in refused


@pytest.mark.parametrize("name", ["ESLURM_MAX_JOB_COUNT", "SLURMCTLD_COMMUNICATIONS_HARD_DROP"])
def test_a_limit_of_slurm_that_passes(name: str) -> None:
    text = dict(SLURM_ERRORS)[name]
    error = outcome("slurm", f"sbatch: error: Batch job submission failed: {text}\n")
    assert (type(error), error.kind) == (SubmitLimit, "limit")


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "pbs", "torque", "lsf", "htcondor"])
def test_unknown_words_are_a_refusal(scheduler: str) -> None:
    error = outcome(scheduler, "submit filter: this project is out of hours\n")
    assert (type(error), error.kind) == (SubmitRejected, "invalid_request")
    assert error.message == "submit filter: this project is out of hours"


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "pbs", "torque", "lsf", "htcondor"])
@pytest.mark.parametrize(
    ("stderr", "returncode"),
    [
        ("", 1),
        ("\n---------\n", 1),
        ("the project is out of hours\n", 0),
        ("the project is out of hours\n", -1),
        ("the project is out of hours\n", 124),
        ("Killed\n", 137),
        ("Terminated\n", 143),
        ("Hangup\n", 129),
        ("x: Connection reset by peer\n", 1),
        ("x: Connection timed out\n", 1),
        ("x: Transport endpoint is not connected\n", 1),
        ("x: Broken pipe\n", 1),
        ("client_loop: send disconnect: Broken pipe\n", 255),
    ],
)
def test_what_leaves_it_open(scheduler: str, stderr: str, returncode: int) -> None:
    assert type(outcome(scheduler, stderr, returncode=returncode)) is SubmitUnknown


@pytest.mark.parametrize(
    ("scheduler", "stdout"),
    [
        ("slurm", "Submitted batch job \n"),
        ("sge", "Your job  (x) has been sub"),
        ("htcondor", "1 job(s) submitted to cluster x\n"),
    ],
)
def test_words_of_success_without_an_id_are_no_refusal(scheduler: str, stdout: str) -> None:
    assert type(outcome(scheduler, "warning: x\n", stdout=stdout)) is SubmitUnknown


@pytest.mark.parametrize(
    "text",
    [
        "Your job has been rejected: no such project\n",
        "error: Invalid timeout value\n",
        "filter: jobs submitted by alice are not welcome\n",
    ],
)
@pytest.mark.parametrize("scheduler", ["slurm", "sge"])
def test_refusals_that_look_like_something_else(scheduler: str, text: str) -> None:
    assert type(outcome(scheduler, text)) is SubmitRejected
    assert type(outcome(scheduler, "", stdout=text)) is SubmitRejected


def test_a_filter_of_the_site_is_quoted_whole() -> None:
    error = outcome("slurm", "", stdout=BANNER)
    assert (type(error), error.kind) == (SubmitLimit, "limit")
    for words in ("limits...FAILED", "Too many simultaneous jobs", "for alice = 20 jobs"):
        assert words in error.message
    assert "-----" not in error.message
    assert "\n" not in error.message


def test_a_long_answer_keeps_the_lines_that_read_like_an_error() -> None:
    usage = "".join(f"   -{letter}  an option\n" for letter in "abcdefghijklmnopqrstuvwxyz")
    error = outcome("slurm", f"sbatch: unrecognized option '--x'\n{usage}", returncode=255)
    assert error.message == "sbatch: unrecognized option '--x'"
    flood = "word " * 100_000
    assert len(outcome("slurm", flood).message) <= 2000


@pytest.mark.parametrize(
    ("stderr", "cls"),
    [
        ('commlib error: got select error (Connection refused)\nUnable to run job: unable to send '
         'message to qmaster using port 6444 on host "m": got send error.\nExiting.\n',
         SubmitRejected),
        ('error: commlib error: got read error (closing "m/qmaster/1")\nerror: commlib error: got '
         'select error (Connection refused)\nUnable to run job: unable to contact qmaster using '
         'port 6444 on host "m".\nExiting.\n', SubmitUnknown),
        ('Unable to run job: failed receiving gdi request response for mid=1 (got syncron message '
         'receive timeout error).\nExiting.\n', SubmitUnknown),
        ("Unable to run job: GDI mismatch.\nExiting.\n", SubmitUnknown),
        ("Unable to run job: unable to contact qmaster using port 6444 on host \"m\".\nExiting.\n",
         SubmitUnknown),
        ("Unable to run job: JSV stderr: no such project here.\nExiting.\n", SubmitRejected),
        ("Unable to run job: job rejected: the requested queue \"x\" does not exist.\nExiting.\n",
         SubmitRejected),
        ("Your qsub request could not be scheduled; try again later.\n", SubmitRejected),
    ],
)  # fmt: skip
def test_grid_engine_with_and_without_a_master(stderr: str, cls: type[SchedulerError]) -> None:
    assert type(outcome("sge", stderr)) is cls


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "pbs", "torque", "lsf", "htcondor"])
def test_what_was_never_sent_is_a_refusal(scheduler: str) -> None:
    for stderr, returncode in (
        ("/bin/sh: 1: qsub: not found\n", 127),
        ("sbatch: line 3: fork: retry: Resource temporarily unavailable\n", 1),
        ("/bin/sh: 1: Cannot fork\n", 2),
        ("x: error while loading shared libraries: libx.so: cannot open\n", 127),
        ("x: Connection refused\n", 1),
    ):
        assert type(outcome(scheduler, stderr, returncode=returncode)) is SubmitRejected


@pytest.mark.parametrize("scheduler", ["pbs", "torque"])
def test_a_script_that_qsub_cannot_read_was_never_sent(scheduler: str) -> None:
    assert type(outcome(scheduler, "qsub: error reading script file\n")) is SubmitRejected
    # Torque asks the same server again: the first request may have arrived.
    said = "Connection to server timed out. Trying againqsub: submit error (Unauthorized Request)\n"
    assert type(outcome(scheduler, said)) is SubmitUnknown


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "pbs", "torque", "lsf", "htcondor"])
def test_a_query_that_fails_in_unknown_words_may_be_asked_again(scheduler: str) -> None:
    for stderr in ("frobnication failed\n", "Invalid credential\n", "Job dependency problem\n"):
        with pytest.raises(SchedulerError) as caught:
            parser.parse_status("", scheduler, stderr=stderr, returncode=1, requested=["1"])
        assert caught.value.kind == "transient"

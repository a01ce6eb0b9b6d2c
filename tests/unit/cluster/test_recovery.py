"""Submissions without an answer: what is found, what is submitted after all, what stays unknown.

The host is this machine behind /bin/sh, its scheduler some programs that say what Slurm's say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import attempt, recovery
from openssh_jobs.cluster.journal import ASKED, FILES, SENDING, Journal, Row
from openssh_jobs.commands import scripts
from openssh_jobs.errors import ConnectionLost, InputError, SubmitRejected, SubmitUnknown
from openssh_jobs.openssh import pid_file
from tests.unit.cluster.fakes import Bench, LocalHost

TEXT = {"script_text": "#!/bin/sh\ntrue\n", "directory": "job"}
SLEEP = f"300.{os.getpid()}"  # no other process of this machine has these seconds
LOST = ConnectionLost("cut", sent="maybe")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    host = LocalHost(home)
    host.slurm()
    monkeypatch.setattr(recovery, "_PAUSE", 0.01)
    journal = Journal(tmp_path / "journal")
    yield Bench(host, journal, "slurm")
    journal.close()


def lost(bench: Bench, **more: Any) -> Row:
    """A submission whose command never reached the host, as far as anybody here knows."""
    bench.host.failing["run_once"] = LOST
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT, **more)
    del bench.host.failing["run_once"]
    (row,) = bench.journal.rows()
    assert (row.stage, row.caller) == (SENDING, "")
    return row


def unanswered(bench: Bench, **more: Any) -> Row:
    """A submission whose command was carried out, and its answer lost."""
    run_once = bench.host.internal.run_once

    def and_cut(script: bytes, **options: object) -> object:
        run_once(script, **options)
        raise LOST

    bench.host.internal.run_once = and_cut
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT, **more)
    bench.host.internal.run_once = run_once
    (row,) = bench.journal.rows()
    return row


def finish(bench: Bench) -> Any:
    """What has become of the one open submission."""
    (row,) = bench.journal.rows()
    return bench.recovery.finish([row])["t1"]


def place(row: Row) -> Path:
    return Path(row.place or "")


# -- the host's files settle it -----------------------------------------------------------------


def test_a_result_on_the_host_is_the_answer(bench: Bench) -> None:
    unanswered(bench)
    bench.host.used.clear()
    assert finish(bench).job_id == "7"
    assert bench.host.used == ["call"], "one look, and nothing else"
    assert len(bench.host.jobs()) == 1


def test_the_same_call_goes_on_from_there(bench: Bench) -> None:
    unanswered(bench)
    assert bench.submit("t1", **TEXT).job_id == "7"
    assert len(bench.host.jobs()) == 1


def test_a_refusal_on_the_host_is_the_answer(bench: Bench) -> None:
    bench.host.slurm("echo 'sbatch: error: invalid partition' >&2; exit 1")
    unanswered(bench)
    error = finish(bench)
    assert isinstance(error, SubmitRejected)
    assert "invalid partition" in error.message
    assert bench.journal.rows() == []
    assert not (bench.host.home / "job").exists()


def test_the_owner_is_the_answer_whatever_else_is_there(bench: Bench) -> None:
    row = unanswered(bench, record_exit=True)
    (place(row) / "owner").write_text("12\n")
    assert finish(bench).job_id == "12"


def test_the_command_that_never_came_is_sent(bench: Bench) -> None:
    row = lost(bench)
    outcome = finish(bench)
    assert outcome.job_id == "7"
    assert bench.host.jobs() == [f"{row.place}/job"]
    assert (place(row) / "attempt-1").read_text().startswith("nonce ")
    assert not (bench.host.home / "asked").exists(), "no claim, no job: the queue is not asked"


def test_a_late_command_finds_its_attempt_taken(bench: Bench) -> None:
    kept: list[bytes] = []

    def swallow(script: bytes, **_: object) -> object:
        kept.append(script)
        raise LOST

    run_once, bench.host.internal.run_once = bench.host.internal.run_once, swallow
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT)
    bench.host.internal.run_once = run_once
    assert finish(bench).job_id == "7"
    done = run_once(kept[0])
    assert re.search(r": taken\n\nOJB\+\w+ end 0 125\n", done.stdout)
    assert len(bench.host.jobs()) == 1


# -- the queue settles it -----------------------------------------------------------------------


def no_answer(bench: Bench, how: str = "kill -9 $PPID; sleep 5") -> Row:
    """A submission whose processes were all killed while sbatch ran, after it had made the job."""
    bench.host.slurm("echo 'sbatch: error: Socket timed out on send/recv' >&2; exit 1")
    with pytest.raises(SubmitUnknown, match="Socket timed out"):
        bench.submit("t1", **TEXT)
    (row,) = bench.journal.rows()
    return row


def test_a_job_in_the_queue_is_found_by_its_script(bench: Bench) -> None:
    no_answer(bench)
    bench.host.slurm()
    outcome = finish(bench)
    assert outcome.job_id == "7"
    assert len(bench.host.jobs()) == 1
    assert outcome.submitted == pytest.approx(outcome.opened, abs=30)


def test_two_answers_without_the_job_and_it_is_submitted_again(bench: Bench) -> None:
    row = no_answer(bench)
    (bench.host.home / "queue").write_text(
        f"3 {row.place}x/job\n4 {row.place}/below/job\n5 /other{row.place}/job\n"
    )
    bench.host.slurm(settling=1)
    outcome = finish(bench)
    assert outcome.job_id == "10"
    assert (bench.host.home / "asked").read_text() == "asked\nasked\n"
    names = {name for name in os.listdir(place(row)) if not name.startswith("claim.")}
    assert names == {".oj-mark", "attempt-1", "attempt-2", "job", "result-1", "result-2"}


def test_a_job_that_comes_late_is_found_by_the_second_answer(bench: Bench) -> None:
    no_answer(bench)
    (bench.host.home / "queue").rename(bench.host.home / "later")
    (bench.host.home / "queue").touch()
    bench.host.slurm(settling=1)
    squeue = bench.host.home / "bin/squeue"
    squeue.write_text(squeue.read_text() + 'mv "$HOME/later" "$HOME/queue" 2>/dev/null\nexit 0\n')
    assert finish(bench).job_id == "7"
    assert len(bench.host.jobs()) == 1


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"),
        ("scontrol", "exit 1"),
        ("sacct", "echo 'sacct: error: slurm_persist_conn_open: failed' >&2; exit 1"),
        ("squeue", "echo rubbish"),
    ],
)
def test_a_source_that_does_not_answer_proves_nothing(
    bench: Bench, program: str, text: str
) -> None:
    no_answer(bench)
    (bench.host.home / "queue").write_text("")
    bench.host.program(program, text)
    error = finish(bench)
    assert isinstance(error, SubmitUnknown)
    assert bench.host.jobs() == []
    bench.host.slurm()
    assert finish(bench).job_id == "7", "a later call goes on from there"


def test_a_queue_that_forgets_proves_nothing_later(bench: Bench) -> None:
    row = no_answer(bench)
    (bench.host.home / "queue").write_text("")
    bench.host.slurm(remembers=6)
    claim = place(row) / "attempt-1"
    began = next(line for line in claim.read_text().splitlines() if line.startswith("began "))
    claim.write_text(claim.read_text().replace(began, f"began {int(began[6:]) - 7}"))
    error = finish(bench)
    assert isinstance(error, SubmitUnknown)
    assert "remembers ended jobs for 6 s" in error.message
    (place(row) / ".script").mkdir()
    assert finish(bench).job_id == "7", "its launcher would have written who it is"


def test_the_history_proves_it_at_any_time(bench: Bench) -> None:
    row = no_answer(bench)
    (bench.host.home / "queue").write_text("")
    bench.host.slurm(remembers=1)
    says = 'for w; do case $w in --delimiter=*) d=${w#*=};; esac; done; printf "%s" "'
    bench.host.program("sacct", f'{says}41${{d}}sbatch --parsable {row.place}/job${{d}}"')
    assert finish(bench).job_id == "41"


def test_several_jobs_with_its_script_are_named(bench: Bench) -> None:
    row = no_answer(bench)
    (bench.host.home / "queue").write_text(f"8 {row.place}/job\n9_1 {row.place}/job\n")
    error = finish(bench)
    assert isinstance(error, SubmitUnknown)
    assert "8, 9" in error.message


# -- attempts that go on ------------------------------------------------------------------------


def claim(row: Row, **facts: object) -> None:
    """A claim of attempt 1 with other facts than usual."""
    where = subprocess.run(
        ["/bin/sh", "-c", scripts.functions("cluster/attempt", "oj_where").decode()
         + 'oj_where; echo "$oj_here"'], capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    usual = {
        "nonce": "f00",
        "where": where,
        "group": 2**22 + 1,
        "pid": 1,
        "began": 1,
        "deadline": 2,
    }
    lines = [f"{name} {value}" for name, value in {**usual, **facts}.items()]
    (place(row) / "attempt-1").write_text("\n".join([*lines, ".", ""]))


def test_a_claim_elsewhere_is_waited_for_until_its_deadline(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = lost(bench)
    monkeypatch.setattr(attempt, "_CLOCKS_DIFFER", 0.0)
    deadline = int(time.time()) + 2
    claim(row, where="other/boot/", began=int(row.opened), deadline=deadline)
    assert finish(bench).job_id == "7"
    assert time.time() >= deadline
    assert (place(row) / "attempt-2").exists()


def test_a_claimer_that_is_gone_is_not_waited_for(bench: Bench) -> None:
    row = lost(bench)
    now = int(row.opened)
    claim(row, began=now, deadline=now + 1000)
    assert finish(bench).job_id == "7"


def test_a_claimer_that_lives_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    row = lost(bench)
    now = int(row.opened)
    monkeypatch.setattr(recovery, "_PATIENCE", 0.5)
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        claim(row, group=child.pid, began=now, deadline=now + 1000)
        error = finish(bench)
        assert isinstance(error, SubmitUnknown)
        assert "has not ended" in error.message
        assert bench.host.jobs() == []
    finally:
        child.kill()
        child.wait()
    assert finish(bench).job_id == "7"


def test_a_submit_command_ends_at_its_deadline(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "LIMIT", 3.0)
    bench.host.slurm(f"sleep {SLEEP} & wait; echo late >>$HOME/late")
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT)
    (row,) = bench.journal.rows()
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    assert f"sleep {SLEEP}" not in listed.stdout.splitlines()
    bench.host.slurm()
    assert finish(bench).job_id == "7"
    assert not (bench.host.home / "late").exists()
    assert row.token == "t1"


def test_a_limit_without_the_command_timeout(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.host.program("timeout", "echo 'timeout: not that one' >&2; exit 1")
    assert bench.submit("t0", **TEXT).job_id == "7"
    monkeypatch.setattr(attempt, "LIMIT", 3.0)
    bench.host.slurm(f"sleep {SLEEP} & wait; echo late >>$HOME/late")
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT)
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    assert f"sleep {SLEEP}" not in listed.stdout.splitlines()
    assert not (bench.host.home / "late").exists()


def test_what_begins_while_a_tree_is_ended_ends_with_it(bench: Bench) -> None:
    """A process that is started after the look at all processes, and before its parent's end."""
    real = shutil.which("ps")
    bench.host.program("ps", f'{real} "$@"; [ -e "$HOME/slow" ] || {{ >"$HOME/slow"; sleep 1; }}')
    bench.host.program("tree", f"sleep 0.5; sleep {SLEEP} & wait")
    function = scripts.functions("cluster/attempt", "oj_end_tree")
    done = bench.host._sh(function + b"tree >/dev/null 2>&1 & oj_end_tree $!")
    assert (done.returncode, done.stderr) == (0, b"")
    listed = subprocess.run(
        ["ps", "-A", "-o", "stat=", "-o", "args="], capture_output=True, text=True, check=True
    )
    left = [line.split(None, 1) for line in listed.stdout.splitlines() if f"sleep {SLEEP}" in line]
    assert [line for line in left if not line[0].startswith("Z")] == []


def test_a_host_without_links_claims_by_a_directory(bench: Bench) -> None:
    bench.host.program("ln", "exit 1")
    row = unanswered(bench)
    assert (place(row) / "attempt-1.d/claim").read_text().startswith("nonce ")
    assert finish(bench).job_id == "7"


# -- what is not whole --------------------------------------------------------------------------


def opened(bench: Bench, stage: str, caller: str) -> None:
    bench.journal.open_row(
        Row(
            host=bench.host.host, token="t1", digest="d", scheduler="slurm",
            directory=str(bench.host.home / "job"), stage=stage, call="c0ffee", caller=caller,
        )
    )  # fmt: skip


def test_what_was_only_asked_for_is_reported_without_the_host(bench: Bench) -> None:
    opened(bench, ASKED, "")
    error = finish(bench)
    assert isinstance(error, InputError)
    assert "has not been sent" in error.message
    assert (bench.journal.rows(), bench.host.used) == ([], [])


def test_files_that_were_on_their_way_are_removed(bench: Bench) -> None:
    bench.made()
    opened(bench, FILES, "")
    assert isinstance(finish(bench), InputError)
    assert not (bench.host.home / "job").exists()
    assert bench.journal.rows() == []


@pytest.mark.parametrize("mark", [None, b"openssh_jobs c0f"])
def test_a_directory_that_was_never_marked_is_taken(bench: Bench, mark: bytes | None) -> None:
    made = bench.host.home / "job/.openssh_jobs/t1"
    made.mkdir(parents=True, mode=0o700)
    made.parent.chmod(0o700)
    if mark is not None:
        (made / ".oj-mark").write_bytes(mark)
        with pytest.raises(SubmitUnknown, match="earlier submission"):
            bench.submit("t1", **TEXT)
        os.utime(made / ".oj-mark", (1, 1))
    assert bench.submit("t1", **TEXT).job_id == "7"


def test_a_call_at_work_is_left_alone(bench: Bench) -> None:
    for stage in (ASKED, FILES, SENDING):
        opened(bench, stage, pid_file.call())
        error = finish(bench)
        assert isinstance(error, SubmitUnknown)
        assert f"process {os.getpid()}" in error.message
        bench.journal.forget(bench.host.host, "t1")
    assert bench.host.used == []


def test_without_its_variables_it_is_not_submitted(bench: Bench) -> None:
    row = lost(bench, env={"SECRET": "hunter 2"})
    (place(row) / ".oj-env").unlink()
    assert isinstance(finish(bench), InputError)
    assert bench.host.jobs() == []
    row = lost(bench, env={"SECRET": "hunter 2"})
    (place(row) / ".oj-env").unlink()
    again = bench.submit("t1", **TEXT, env={"SECRET": "hunter 2"})
    assert again.job_id == "7", "the same call has them, and begins again"


def test_the_variables_are_forgotten_when_the_job_is_found(bench: Bench) -> None:
    bench.host.slurm("echo 'sbatch: error: Socket timed out' >&2; exit 1")
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT, env={"SECRET": "hunter 2"})
    (row,) = bench.journal.rows()
    assert (place(row) / ".oj-env").exists()
    bench.host.slurm()
    assert finish(bench).job_id == "7"
    assert not (place(row) / ".oj-env").exists()


def test_a_directory_that_is_gone_leaves_the_queue(bench: Bench) -> None:
    row = no_answer(bench)
    (bench.host.home / "job/.openssh_jobs").rename(bench.host.home / "elsewhere")
    bench.journal.file.execute("UPDATE submissions SET changed = changed - 1000")
    bench.host.slurm()
    assert finish(bench).job_id == "7"
    assert len(bench.host.jobs()) == 1
    assert row.token == "t1"


def test_the_order_of_a_submission_survives_the_journal(bench: Bench) -> None:
    row = lost(bench, time_limit="2:00:00", cpus=2, options=["--comment=a 'b'\udcff"])
    order = attempt.Order.of(row.request or "")
    assert order.text() == row.request
    assert (order.request.cpus, order.request.token) == (2, "t1")
    with pytest.raises(ValueError, match="later version"):
        attempt.Order.of(str(row.request).replace('"cpus"', '"qubits"'))


def test_many_are_one_look_and_one_question(bench: Bench) -> None:
    bench.host.slurm("echo 'sbatch: error: Socket timed out' >&2; exit 1")
    for number in range(5):
        with pytest.raises(SubmitUnknown):
            bench.submit(f"t{number}", script_text="#!/bin/sh\n", directory="job")
    bench.host.used.clear()
    bench.host.slurm()
    outcomes = bench.recovery.finish(bench.recovery.open_rows())
    ids = {getattr(outcome, "job_id", outcome) for outcome in outcomes.values()}
    assert ids == {"7", "8", "9", "10", "11"}
    assert bench.host.used == ["call", "run"]

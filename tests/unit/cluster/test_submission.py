"""A submission once: which steps, in which order, and what each failure leaves behind.

The host is this machine behind /bin/sh, its scheduler a program that says what sbatch says.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import permissions
from openssh_jobs.cluster import journal_file, recovery, submitter
from openssh_jobs.cluster.journal import FILES, SENDING, Journal, Row
from openssh_jobs.cluster.submission import Submission
from openssh_jobs.cluster.submitter import Submitter
from openssh_jobs.errors import (
    ConnectionLost,
    InputError,
    NoSpace,
    SchedulerError,
    SubmitRejected,
    SubmitUnknown,
)
from openssh_jobs.openssh import pid_file
from tests.unit.cluster.fakes import Bench, LocalHost

TEXT = {"script_text": "#!/bin/sh\ntrue\n", "directory": "job"}
SAYS_YES = 'echo "sbatch $PWD ${SECRET-unset}" >>"$HOME/calls"; echo 7\n'
LOST = ConnectionLost("cut", sent="maybe")


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    host = LocalHost(home)
    host.program("sbatch", SAYS_YES)
    journal = Journal(tmp_path / "journal")
    yield Bench(host, journal, "slurm")
    journal.close()


def calls(bench: Bench) -> int:
    path = bench.host.home / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def left(bench: Bench) -> list[str]:
    """What a submission left in the home directory."""
    return sorted(set(os.listdir(bench.host.home)) - {"bin", "calls", "scripts"})


# -- the way it goes ----------------------------------------------------------------------------


def test_one_round_trip_for_each_of_its_parts(bench: Bench) -> None:
    row = bench.submit("t1", **TEXT)
    assert (row.job_id, row.state, row.token) == ("7", "pending", "t1")
    assert bench.host.used == ["call", "run_once"]
    private = bench.host.home / "job/.openssh_jobs/t1"
    assert row.place == str(private)
    assert (private / "job").read_text() == TEXT["script_text"]
    assert private.stat().st_mode & 0o777 == 0o700
    assert (bench.host.home / "calls").read_text() == f"sbatch {bench.host.home}/job unset\n"
    assert [path.name for path in (bench.host.home / "job").iterdir()] == [".openssh_jobs"]


def test_a_script_of_the_host_is_copied_at_once_and_read_for_the_journal(bench: Bench) -> None:
    (bench.host.home / "job").mkdir()
    (bench.host.home / "job/run it.sh").write_text("#!/bin/sh\n")
    row = bench.submit("t1", script="run it.sh", directory="job")
    assert row.job_id == "7"
    assert bench.host.used == ["call", "call", "run_once"]
    assert (bench.host.home / "job/.openssh_jobs/t1/run it.sh").exists()


def test_the_environment_is_in_no_command_line_and_on_no_disk_after_it(bench: Bench) -> None:
    row = bench.submit("t1", **TEXT, env={"SECRET": "hunter 2"})
    assert row.job_id == "7"
    assert "hunter 2" in (bench.host.home / "calls").read_text()
    assert all(b"hunter" not in line for line in bench.host.lines)
    names = [name.partition(".")[0] or name for name in os.listdir(row.place or "")]
    assert sorted(names) == [".oj-mark", "attempt-1", "claim", "job", "result-1"]


def test_the_same_token_is_the_same_job(bench: Bench) -> None:
    first = bench.submit("t1", **TEXT)
    used = len(bench.host.used)
    assert bench.submit("t1", **TEXT).job_id == first.job_id
    assert len(bench.host.used) == used, "the journal knows it"
    assert calls(bench) == 1
    with pytest.raises(InputError, match="another submission"):
        bench.submit("t1", **TEXT, cpus=2)


# -- nothing is left where there is no job --------------------------------------------------------


@pytest.mark.parametrize("uploaded", [True, False])
def test_a_refusal_leaves_nothing(bench: Bench, tmp_path: Path, uploaded: bool) -> None:
    bench.host.program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    (tmp_path / "input").mkdir()
    more: dict[str, Any] = {"upload": tmp_path / "input"} if uploaded else {}
    with pytest.raises(SubmitRejected, match=r"slurm refused the job: .*invalid partition"):
        bench.submit("t1", **TEXT, **more)
    assert left(bench) == []
    assert bench.journal.rows() == []


def test_a_directory_that_was_there_before_stays(bench: Bench) -> None:
    bench.host.program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    (bench.host.home / "job").mkdir()
    with pytest.raises(SubmitRejected):
        bench.submit("t1", **TEXT)
    assert left(bench) == ["job"]
    assert os.listdir(bench.host.home / "job") == []


def test_a_file_that_cannot_be_written_leaves_nothing(bench: Bench) -> None:
    bench.host.program(
        "mkdir",
        'case "$*" in *.script*) echo "No space left on device" >&2; exit 1;; esac\n'
        'exec /bin/mkdir "$@"',
    )
    with pytest.raises(NoSpace, match="No space"):
        bench.submit("t1", **TEXT, record_exit=True)
    assert (left(bench), bench.journal.rows(), calls(bench)) == ([], [], 0)


def test_an_empty_or_missing_script_of_the_host(bench: Bench) -> None:
    (bench.host.home / "job").mkdir()
    with pytest.raises(FileNotFoundError, match=r"run\.sh"):
        bench.submit("t1", script="run.sh", directory="job")
    (bench.host.home / "job/run.sh").touch()
    with pytest.raises(InputError, match=r"run\.sh is empty"):
        bench.submit("t1", script="run.sh", directory="job")
    (bench.host.home / "job/sub").mkdir()
    with pytest.raises(IsADirectoryError):
        bench.submit("t1", script="sub", directory="job")
    assert os.listdir(bench.host.home / "job/sub") == []
    assert sorted(os.listdir(bench.host.home / "job")) == ["run.sh", "sub"]
    assert bench.journal.rows() == []


def test_a_directory_that_cannot_be_used_was_not_started(bench: Bench) -> None:
    run_once = bench.host.internal.run_once

    def once_gone(script: bytes, **options: object) -> object:
        (bench.host.home / "job").rename(bench.host.home / "moved")
        return run_once(script, **options)

    bench.host.internal.run_once = once_gone
    with pytest.raises(SubmitRejected) as caught:
        bench.submit("t1", **TEXT)
    assert caught.value.kind == "invalid_request"
    assert calls(bench) == 0


# -- there may be a job -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says",
    [
        "exit 1",
        "echo thank you",
        "kill -9 $$",
        "echo 'sbatch: error: Socket timed out' >&2; exit 1",
    ],
)
def test_an_answer_that_says_neither_is_unknown(bench: Bench, says: str) -> None:
    bench.host.program("sbatch", says)
    with pytest.raises(SubmitUnknown, match="not known whether") as caught:
        bench.submit("t1", **TEXT)
    assert caught.value.token == "t1"
    (row,) = bench.journal.rows()
    assert (row.stage, row.job_id) == (SENDING, None)
    assert (Path(row.place or "") / "job").exists(), "the job may still read it"
    bench.host.program("scontrol", "exit 1")
    with pytest.raises(SubmitUnknown, match="not known whether"):
        bench.submit("t1", **TEXT)


def test_a_lost_link_is_unknown_until_the_launcher_has_spoken(bench: Bench) -> None:
    bench.host.program("scontrol", "exit 1")
    bench.host.program("sbatch", "exit 1")
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT)
    (row,) = bench.journal.rows()
    assert row.place
    owner = Path(row.place) / "owner"
    (bench.host.home / "planted").write_text("9\n")
    owner.symlink_to(bench.host.home / "planted")
    with pytest.raises(SubmitUnknown):
        bench.submit("t1", **TEXT)
    owner.unlink()
    owner.write_text("7\n")
    assert bench.submit("t1", **TEXT).job_id == "7"
    assert calls(bench) == 0, "it is not submitted again"


def test_a_link_that_was_lost_before_it_was_sent(bench: Bench) -> None:
    bench.host.failing["run_once"] = ConnectionLost("cut", sent="no")
    with pytest.raises(ConnectionLost):
        bench.submit("t1", **TEXT)
    assert (left(bench), bench.journal.rows()) == ([], [])


def test_it_is_on_disk_before_it_is_sent(bench: Bench) -> None:
    seen: list[tuple[str | None, str | None]] = []
    run_once = bench.host.internal.run_once

    def look(script: bytes, **options: object) -> object:
        (row,) = bench.journal.rows()
        seen.append((row.stage, row.place))
        return run_once(script, **options)

    bench.host.internal.run_once = look
    bench.submit("t1", **TEXT)
    assert seen == [(SENDING, str(bench.host.home / "job/.openssh_jobs/t1"))]


# -- calls that ended on the way ------------------------------------------------------------------


def opened(bench: Bench, caller: str, call: str = "c0ffee") -> None:
    bench.journal.open_row(
        Row(
            host=bench.host.host, token="t1", digest="of another", scheduler="slurm",
            directory=str(bench.host.home / "job"), stage=FILES, call=call, caller=caller,
        )
    )  # fmt: skip


def test_a_call_at_work_is_waited_for(bench: Bench) -> None:
    opened(bench, pid_file.call())
    with pytest.raises(SubmitUnknown, match=f"at work.*process {os.getpid()}"):
        bench.submit("t1", **TEXT)
    assert bench.host.used == []


def test_the_files_of_a_call_that_died_are_removed_first(bench: Bench) -> None:
    bench.made()
    opened(bench, "")
    assert bench.submit("t1", **TEXT).job_id == "7"
    assert calls(bench) == 1


def test_files_that_are_not_in_the_journal_are_not_used(bench: Bench) -> None:
    bench.made()
    with pytest.raises(SubmitUnknown, match="earlier submission"):
        bench.submit("t1", **TEXT)
    assert bench.journal.rows() == []
    assert (bench.host.home / "job/.openssh_jobs/t1/.oj-mark").exists()


# -- exit records -------------------------------------------------------------------------------


def test_a_launcher_takes_the_place_of_the_script(bench: Bench) -> None:
    row = bench.submit("t1", **TEXT, record_exit=True)
    assert bench.host.used == ["call", "call", "run_once"], "the first looks for bash"
    private = Path(row.place or "")
    (body,) = (private / ".script").iterdir()
    assert body.read_text() == TEXT["script_text"]
    assert (private / "job").read_text() != TEXT["script_text"]
    assert bench.records.read(["8"]) == {
        "8": "it was not submitted from here: its record cannot be found"
    }
    assert isinstance(bench.records.read(["7"])["7"], str), "it has not run"


def test_an_exit_record_that_cannot_be_read_says_so(bench: Bench) -> None:
    bench.submit("t1", **TEXT, record_exit=True)
    bench.host.failing["call"] = LOST
    assert bench.records.read(["7"]) == {"7": "its exit record could not be read: cut"}


# -- many at once -------------------------------------------------------------------------------


def several(bench: Bench, number: int, **more: Any) -> list[Submission]:
    return [bench.submission(f"t{n}", **TEXT, name=f"n{n}", **more) for n in range(number)]


def test_many_take_the_round_trips_of_one(bench: Bench) -> None:
    bench.host.program("sbatch", SAYS_YES.replace("echo 7", 'wc -l <"$HOME/calls"'))
    commits: list[str] = []
    with bench.journal.file.transaction() as database:
        pass
    database.set_trace_callback(lambda text: commits.append(text) if "COMMIT" in text else None)
    rows = bench.submit_all(*several(bench, 30, env={"SECRET": "hunter 2"}))
    database.set_trace_callback(None)
    assert [row.job_id for row in rows if isinstance(row, Row)] == [str(n + 1) for n in range(30)]
    assert bench.host.used == ["call", "run_once"]
    assert len(commits) == 4, "asked for, files, sending, answered"
    assert all(b"hunter" not in line for line in bench.host.lines)
    assert bench.submit_all(*several(bench, 30, env={"SECRET": "hunter 2"})) == rows
    assert calls(bench) == 30


def test_many_look_up_the_settings_as_often_as_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = permissions.problem_of_path
    monkeypatch.setattr(
        permissions, "problem_of_path", lambda path: looks.append(path) or real(path)
    )
    bench.host.program("sbatch", SAYS_YES.replace("echo 7", 'wc -l <"$HOME/calls"'))
    counts = []
    for number in (2, 20):
        some = [bench.submission(f"t{number}-{n}", **TEXT) for n in range(number)]
        looks.clear()
        bench.submit_all(*some)
        counts.append(len(looks))
    assert counts[0] == counts[1] > 0


def test_all_are_on_disk_before_any_is_sent(bench: Bench) -> None:
    seen: list[set[str | None]] = []
    run_once = bench.host.internal.run_once

    def look(script: bytes, **options: object) -> object:
        seen.append({row.stage for row in bench.journal.rows()})
        return run_once(script, **options)

    bench.host.internal.run_once = look
    bench.submit_all(*several(bench, 3))
    assert seen == [{SENDING}]


def test_none_is_written_where_one_token_is_of_another(bench: Bench) -> None:
    bench.submit("t2", **TEXT, cpus=2)
    with pytest.raises(InputError, match="another submission"):
        bench.submit_all(*several(bench, 4))
    assert [row.token for row in bench.journal.rows()] == ["t2"]


def test_a_bound_for_each_command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitter, "MOST_COMMAND", 500)
    assert {type(row) for row in bench.submit_all(*several(bench, 7))} == {Row}
    assert bench.host.used.count("run_once") > 2
    assert calls(bench) == 7


def test_after_a_killed_submit_command_no_other_begins(bench: Bench) -> None:
    bench.host.program("sbatch", 'case $PWD in *) echo >>"$HOME/calls";; esac; '
                       '[ "$(wc -l <"$HOME/calls")" -lt 3 ] || kill -9 $$; echo 7')  # fmt: skip
    found = bench.submit_all(*several(bench, 6))
    assert [type(one).__name__ for one in found[:3]] == ["Row", "Row", "SubmitUnknown"]
    # One more command, because two of the first had been accepted.
    assert isinstance(found[3], SubmitUnknown)
    assert {(type(one), getattr(one, "sent", "")) for one in found[4:]} == {(SchedulerError, "no")}
    assert sorted(row.token for row in bench.journal.rows()) == ["t0", "t1", "t2", "t3"]
    assert not (bench.host.home / "job/.openssh_jobs/t4").exists()


def test_a_lost_link_leaves_all_of_them_open(bench: Bench) -> None:
    bench.host.failing["run_once"] = LOST
    found = bench.submit_all(*several(bench, 3))
    assert [type(one) for one in found] == [SubmitUnknown] * 3
    assert {(row.stage, row.caller) for row in bench.journal.rows()} == {(SENDING, "")}
    del bench.host.failing["run_once"]
    bench.host.used.clear()
    done = bench.recovery.finish(bench.journal.rows())
    assert {type(one) for one in done.values()} == {Row}
    assert calls(bench) == 3
    assert bench.host.used == ["call", "run_once"], "one look, and one command for all"


def test_recovered_together_one_is_refused(bench: Bench) -> None:
    bench.host.failing["run_once"] = LOST
    bench.submit_all(*several(bench, 4))
    del bench.host.failing["run_once"]
    refuses = '[ "$n" -ne 2 ] || { echo "invalid partition" >&2; exit 1; }'
    bench.host.program(
        "sbatch", f'echo >>"$HOME/calls"; n=$(wc -l <"$HOME/calls"); {refuses}; echo "$n"'
    )
    done = bench.recovery.finish(bench.journal.rows())
    assert Counter(type(one) for one in done.values()) == {Row: 3, SubmitRejected: 1}
    assert sorted(row.job_id or "" for row in bench.journal.rows()) == ["1", "3", "4"]


def test_what_no_job_needs_is_gone_and_the_umask_is_the_users(bench: Bench) -> None:
    bench.host.program("sbatch", 'umask >>"$HOME/umasks"; echo >>"$HOME/calls"; '
                       'echo "$(wc -l <"$HOME/calls")"')  # fmt: skip
    bench.submit_all(*several(bench, 3, env={"SECRET": "hunter 2"}))
    mask = os.umask(0o22)
    os.umask(mask)
    assert (bench.host.home / "umasks").read_text() == f"{mask:04o}\n" * 3
    private = bench.host.home / "job/.openssh_jobs"
    left = {path.name.partition(".")[0] or path.name for path in private.glob("*/*")}
    assert left == {".oj-mark", "attempt-1", "claim", "n0", "n1", "n2", "result-1"}


def test_an_accounting_that_does_not_answer_is_asked_once_for_many(bench: Bench) -> None:
    bench.host.program("sacct", 'echo >>"$HOME/asked-sacct"; exit 1')
    wanted = [bench.submission(f"t{n}", **TEXT, record_exit="auto") for n in range(4)]
    Submitter(bench.client, bench.files, bench.records, bench.recovery).check(wanted)
    assert (bench.host.home / "asked-sacct").read_text() == "\n"


def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    one = bench.submission("t1", **TEXT, cpus=2, env={"SECRET": "hunter"})
    Submitter(bench.client, bench.files, bench.records, bench.recovery).check([one])
    found = one.dry_run()
    assert (found.script, found.directory) == (TEXT["script_text"], f"{bench.host.home}/job")
    assert "--cpus-per-task=2" in found.command
    assert (found.env, found.scheduler) == (("SECRET",), "slurm")
    assert (bench.host.used, bench.journal.rows(), left(bench)) == ([], [], [])


# -- the journal cannot be written once the answer is there ---------------------------------------


def unwritable(bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the journal so as soon as the submit command has answered; returns what ends that."""
    monkeypatch.setattr(journal_file, "BUSY_TIMEOUT", 0.1)
    run_once = bench.host.internal.run_once
    undo: list[Callable[[], object]] = []

    def and_then(script: bytes, **options: object) -> object:
        done = run_once(script, **options)
        if how == "locked":
            other = sqlite3.connect(bench.journal.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            undo.append(other.close)
        elif how == "read-only":
            bench.journal.file.execute("PRAGMA query_only=1")
            undo.append(lambda: bench.journal.file.execute("PRAGMA query_only=0"))
        else:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):  # a journal without a log
                    Path(bench.journal.path + end).rename(f"{bench.journal.path}.moved{end}")
        return done

    bench.host.internal.run_once = and_then

    def as_before() -> None:
        bench.host.internal.run_once = run_once
        for step in undo:
            step()

    return as_before


@pytest.mark.parametrize("how", ["locked", "read-only"])
@pytest.mark.parametrize("ended", [False, True], ids=["process lives", "process ended"])
def test_an_id_is_not_lost_with_the_journal(
    bench: Bench,
    how: str,
    ended: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    as_before = unwritable(bench, how, monkeypatch)
    row = bench.submit("t1", **TEXT)
    assert (row.job_id, row.state, row.token, row.host) == ("7", "pending", "t1", "here")
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "job 7 of t1 was submitted, and is not in the journal" in warning
    as_before()
    (open_row,) = bench.journal.rows()
    assert (open_row.job_id, open_row.stage) == (None, SENDING)
    if ended:
        monkeypatch.setattr(recovery, "_unwritten", {})
        bench.journal.change("here", "t1", caller="")
    (open_row,) = bench.recovery.open_rows()
    found = bench.recovery.finish([open_row])["t1"]
    assert isinstance(found, Row)
    assert (found.job_id, found.state) == ("7", "pending")
    assert [row.job_id for row in bench.journal.rows()] == ["7"]
    assert bench.submit("t1", **TEXT).job_id == "7"
    assert calls(bench) == 1


def test_a_journal_that_was_moved_away_gets_the_job_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_before = unwritable(bench, "moved", monkeypatch)
    assert bench.submit("t1", **TEXT).job_id == "7"
    as_before()
    assert bench.submit("t1", **TEXT).job_id == "7"
    assert calls(bench) == 1

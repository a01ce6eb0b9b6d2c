"""``Tidy``: what may go by the journal and the queue, and what goes by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.job_files import JobFiles
from openssh_jobs.cluster.journal import TIDIED, Journal
from openssh_jobs.cluster.tidy import AGE, Tidied, Tidy, may_forget
from openssh_jobs.errors import ConnectionLost, SchedulerError
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from openssh_jobs.openssh import pid_file
from openssh_jobs.schedulers.answer import Answer
from tests.unit.cluster.fakes import LocalHost, make_private, row

DEAD = "1-1-" + pid_file.call().split("-", 2)[2]


class Queue:
    """A client whose scheduler answers from ``listed``; an error is raised."""

    def __init__(self, host: LocalHost, journal: Journal) -> None:
        self.connection = host
        self.journal = journal
        self.host = "h"
        self.name = "slurm"
        self.after_end = "requeue"
        self.listed: dict[str, JobStatus] | Exception = {}
        self.unknown: tuple[str, ...] = ()
        self.asked = 0

    def scheduler(self) -> Queue:
        return self

    def status_script(self, ids: list[str]) -> str:
        return " ".join(ids)

    def cleanup_script(self, ids: list[str]) -> None:
        assert ids

    def ask(self, script: str) -> str:
        self.asked += 1
        if isinstance(self.listed, Exception):
            raise self.listed
        return script

    def placed(self, error: SchedulerError) -> SchedulerError:
        return error

    def parse_status(self, answer: object, requested: list[str]) -> Snapshot:
        assert isinstance(self.listed, dict)
        known = {one: self.listed[one] for one in requested if one in self.listed}
        absent = [one for one in requested if one not in known and one not in self.unknown]
        return Snapshot(known=known, absent=tuple(absent), unknown=self.unknown)


@pytest.fixture
def queue(tmp_path: Path, journal: Journal) -> Queue:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Queue(LocalHost(home), journal)


@pytest.fixture
def tidy(queue: Queue) -> Tidy:
    client: Any = queue
    connection: Any = queue.connection
    return Tidy(client, JobFiles(connection, "h"))


def ended(queue: Queue, token: str = "t0000000000000001", **facts: Any) -> Path:
    """A submission in the journal and its private directory on the host."""
    connection: Any = queue.connection
    directory = f"{queue.connection.home}/{token}"
    values = {"job_id": token[-1], "state": "completed", "exit_code": 0, "call": "c1", **facts}
    queue.journal.open_row(row(token, directory=directory, **values))
    return Path(make_private(JobFiles(connection, "h"), directory, token, "c1").path)


def status(state: str, job_id: str = "1", source: str = "queue") -> dict[str, JobStatus]:
    return {job_id: JobStatus(job_id, JobState(state), source=source)}


def reasons(done: Tidied) -> list[str]:
    assert done.removed == ()
    return [left.reason for left in done.kept]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"state": "running"}, "it is running"),
        ({"state": "unknown"}, "it is not known how it ended"),
        ({"state": "new", "job_id": None, "stage": "sending"}, "its submission got no answer"),
        ({"state": "new", "job_id": None, "stage": None}, "its submission got no answer"),
        ({"state": "new", "job_id": None, "stage": "asked", "caller": pid_file.call()},
         "its submission is under way"),
        ({"state": "new", "job_id": None, "stage": "asked", "caller": "1-1-ffffffff-ffffffff"},
         "its submission is under way"),
        ({"scheduler": "direct"}, "where its output lies is not in the journal"),
        ({"scheduler": "pbs"}, "it is a job of pbs, and slurm is asked"),
    ],
)  # fmt: skip
def test_what_stays_by_the_journal(
    queue: Queue, tidy: Tidy, facts: dict[str, Any], reason: str
) -> None:
    place = ended(queue, **facts)
    (said,) = reasons(tidy.tidy(queue.journal.rows()))
    assert said.startswith(reason)
    assert place.exists()


@pytest.mark.parametrize(
    ("after_end", "listed", "launcher", "reason"),
    [
        ("requeue", status("pending"), False, "it is pending again"),
        ("run", status("running"), False, "it is running again"),
        ("requeue", status("unknown"), False, "the queue does not say that it is over"),
        ("requeue", status("failed"), True, "slurm still lists it: run again"),
        ("requeue", status("failed"), False, None),
        ("requeue", status("completed"), True, None),
        ("run", status("failed"), False, "slurm still lists it: it can be let run"),
        ("run", status("failed", source="accounting"), True, None),
        ("nothing", status("failed"), True, None),
        ("nothing", {}, None, "its exit code is not in the journal"),
        ("requeue", {}, True, None),
    ],
)
def test_what_stays_by_the_queue(
    queue: Queue,
    tidy: Tidy,
    after_end: str,
    listed: dict[str, JobStatus],
    launcher: bool | None,
    reason: str | None,
) -> None:
    facts: dict[str, Any] = {}
    if launcher is None:
        facts = {"state": "failed", "exit_code": None}
    place = ended(queue, **facts)
    if launcher is not False:
        (place / ".script").mkdir()
    queue.after_end, queue.listed = after_end, listed
    would = tidy.tidy(queue.journal.rows(), dry_run=True)
    assert place.exists()
    done = tidy.tidy(queue.journal.rows())
    assert (len(done.removed), place.exists()) == ((0, True) if reason else (1, False))
    assert [left.path for left in would.removed] == [left.path for left in done.removed]
    if reason is not None:
        assert done.kept[0].reason.startswith(reason.replace(" again", ""))
    (after,) = queue.journal.rows()
    assert after.tidied == (None if reason else TIDIED)
    runs = next((one.state for one in listed.values() if one.state.is_active), None)
    assert after.state == (runs or facts.get("state", "completed"))


def test_what_the_queue_does_not_say(queue: Queue, tidy: Tidy) -> None:
    place = ended(queue)
    queue.unknown = ("1",)
    assert reasons(tidy.tidy(queue.journal.rows())) == [
        "the queue does not say whether it runs again"
    ]
    for error in (SchedulerError("busy", kind="transient"), ConnectionLost("gone", sent="maybe")):
        queue.listed = error
        with pytest.raises(type(error)):
            tidy.tidy(queue.journal.rows())
    assert place.exists()


def test_all_go_with_one_query_one_listing_and_one_removal(queue: Queue, tidy: Tidy) -> None:
    places = [ended(queue, f"t000000000000000{number}") for number in range(1, 10)]
    queue.connection.used.clear()
    done = tidy.tidy(queue.journal.rows())
    assert len(done.removed) == len(places)
    assert not any(place.exists() for place in places)
    assert (queue.asked, queue.connection.used) == (1, ["call", "run"])
    queue.connection.used.clear()
    assert tidy.tidy(queue.journal.rows()) == Tidied()
    assert (queue.asked, queue.connection.used) == (1, [])


def test_without_its_line_a_token_keeps_its_files(queue: Queue, tidy: Tidy) -> None:
    place = ended(queue, "relax-1")
    home = queue.connection.home
    home.chmod(0o777)
    (home / "relax-1").chmod(0o700)
    assert len(reasons(tidy.tidy(queue.journal.rows()))) == 1
    assert place.exists()
    home.chmod(0o700)
    (home / ".openssh_jobs").write_text("in the way")
    (reason,) = reasons(tidy.tidy(queue.journal.rows()))
    assert reason.startswith("its token was not written to ~/.openssh_jobs/.tokens: ")
    assert place.exists()


def test_a_claim_of_another_call_ends_the_removal_of_what_was_never_sent(
    queue: Queue, tidy: Tidy, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ended(queue, state="new", job_id=None, stage="asked", caller=DEAD)
    (before,) = queue.journal.rows()
    assert len(tidy.tidy([before], dry_run=True).removed) == 2
    queue.journal.change("h", before.token, call="c2", caller=pid_file.call())
    assert reasons(tidy.tidy([before])) == ["another call with this token is at work"] * 2
    queue.journal.change("h", before.token, call="c1", caller=DEAD)
    queue.connection.program("rm", "exit 1")
    assert reasons(tidy.tidy([before])) == ["some of it could not be removed"] * 2
    (after,) = queue.journal.rows()
    assert (after.call, after.caller) == ("c1", "")
    (queue.connection.home / "bin/rm").unlink()
    assert len(tidy.tidy([after]).removed) == 2
    assert not place.parent.parent.exists()
    assert queue.journal.rows() == []


# -- by itself ----------------------------------------------------------------------------------


def age(queue: Queue, token: str, days: float) -> None:
    queue.journal.file.execute(
        "UPDATE submissions SET changed = ? WHERE token = ?", (time.time() - days * 86400, token)
    )


def test_what_is_due_by_itself(queue: Queue, tidy: Tidy) -> None:
    assert AGE == 7 * 86400
    tokens = [f"t000000000000000{number}" for number in range(1, 7)]
    for token, facts in zip(
        tokens,
        [{}, {}, {"state": "unknown"}, {"tidied": TIDIED}, {"tidied": "later"}, {"tidied": "3"}],
        strict=True,
    ):
        ended(queue, token, **facts)
        age(queue, token, 1 if facts == {"tidied": "later"} else 8)
    age(queue, tokens[1], 6)
    assert {one.token for one in tidy.due()} == {tokens[0], tokens[4]}


def test_nothing_due_is_looked_up_once_a_day(queue: Queue, tidy: Tidy) -> None:
    assert tidy.due() == []
    ended(queue)
    age(queue, "t0000000000000001", 8)
    assert tidy.due() == []
    queue.journal.file.execute("UPDATE facts SET changed = changed - 86401")
    assert len(tidy.due()) == 1


def test_it_goes_in_the_background_and_is_tried_three_times(queue: Queue, tidy: Tidy) -> None:
    place = ended(queue)
    listed = ended(queue, "t0000000000000002")
    for token in ("t0000000000000001", "t0000000000000002"):
        age(queue, token, 8)
    queue.connection.used.clear()
    for tries in ("1", "2", "3"):
        rows = tidy.due()
        assert rows != []
        queue.listed = status("running", "2")
        tidy.begin(rows, Answer("", "", 0))
        assert tidy.due() == [], "once a day"
        queue.journal.file.execute("UPDATE facts SET changed = changed - 86401")
        row_now = queue.journal.by_token("h", "t0000000000000001")
        assert row_now is not None
        assert row_now.tidied == tries
        assert row_now.changed < time.time() - AGE
    assert queue.connection.used == ["call"] * 3
    deadline = time.monotonic() + 20
    while place.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert listed.exists()
    assert [one.token for one in tidy.due()] == ["t0000000000000002"], "another job has its id"


def test_it_never_fails_a_call(queue: Queue, tidy: Tidy, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ended(queue)
    age(queue, "t0000000000000001", 8)
    queue.connection.failing["call"] = ConnectionLost("gone", sent="maybe")
    tidy.begin(tidy.due(), Answer("", "", 0))
    assert place.exists()
    (one,) = tidy.due()
    assert one.tidied is None


def test_what_the_journal_may_forget() -> None:
    over: dict[str, Any] = {"job_id": "1", "state": "failed", "tidied": TIDIED}
    assert may_forget(row(**over), None)
    for facts in ({"tidied": None}, {"tidied": "1"}, {"state": "running"}, {"state": "unknown"},
                  {"job_id": None}):  # fmt: skip
        assert not may_forget(row(**{**over, **facts}), None)

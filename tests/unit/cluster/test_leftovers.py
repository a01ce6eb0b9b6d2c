"""``HostLeftovers``: its shell functions in a real /bin/sh of this machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.job_files import JobFiles
from openssh_jobs.cluster.leftovers import (
    TOKEN_AGE,
    Found,
    HostLeftovers,
    Leaving,
    is_claimed,
    is_random,
)
from openssh_jobs.commands import control_shell
from openssh_jobs.errors import SchedulerError
from openssh_jobs.openssh import pid_file
from tests.unit.cluster.fakes import LocalHost, make_private, row


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    tmp_path.chmod(0o700)
    return LocalHost(tmp_path)


@pytest.fixture
def left(host: LocalHost) -> HostLeftovers:
    connection: Any = host
    return HostLeftovers(connection, "here")


def made(host: LocalHost, directory: str, token: str = "t1", call: str = "c1") -> Path:
    connection: Any = host
    return Path(make_private(JobFiles(connection, "here"), directory, token, call).path)


def test_what_lies_there_is_listed_in_one_round_trip(host: LocalHost, left: HostLeftovers) -> None:
    odd = f"{host.home}/new\nline 'q' $(touch x)"
    place = made(host, odd)
    (place / ".script").mkdir()
    (place / "big").write_bytes(b"x" * 100_000)
    (host.home / "empty/.openssh_jobs").mkdir(parents=True)
    (host.home / "bare").mkdir()
    directories = [odd, *(f"{host.home}/{name}" for name in ("empty", "bare", "gone", "a/b/c"))]
    before = len(host.used)
    found = left.look([row(directory=directory) for directory in directories])
    assert len(host.used) == before + 1
    (one,) = found[0]
    assert (one.word, one.place, one.mark, one.has_launcher) == ("found", str(place), "c1", True)
    assert one.size is not None
    assert 100_000 <= one.size < 150_000
    assert [items[0].word for items in found.values()] == [
        "found", "empty", "none", "none", "away",
    ]  # fmt: skip
    assert not (host.home / "x").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"done\0",
        "²\0done\0".encode(),
        b"9" * 10_000 + b"\0done\0",
        b"5\0" + b"x\0" * 6 + b"done\0",
    ],
)
def test_an_answer_that_makes_no_sense(
    left: HostLeftovers, host: LocalHost, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    said = control_shell.ShellAnswer(0, answer, b"")
    monkeypatch.setattr(host.internal, "call", lambda *_, **__: said)
    with pytest.raises(SchedulerError, match="cut off"):
        left.look([row()])


def test_numbers_that_are_none(
    left: HostLeftovers, host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [
        "5",
        "²",
        "found",
        "/d",
        "",
        "",
        "",
        "",
        "0",
        "found",
        "/d",
        "٣",
        "",
        "",
        "= x",
        "done",
        "",
    ]
    said = control_shell.ShellAnswer(0, "\0".join(fields).encode(), b"")
    monkeypatch.setattr(host.internal, "call", lambda *_, **__: said)
    assert left.look([row()]) == {0: [Found(word="found", place="/d")]}


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_listing_that_is_cut_off_says_nothing(
    host: LocalHost, left: HostLeftovers, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(host, f"{host.home}/job")
    whole = host.internal.call

    def shorter(script: bytes, **_: Any) -> control_shell.ShellAnswer:
        answer = whole(script)
        return control_shell.ShellAnswer(0, answer.stdout[: -cut or None][:-1], b"")

    monkeypatch.setattr(host.internal, "call", shorter)
    with pytest.raises(SchedulerError, match="cut off"):
        left.look([row(directory=f"{host.home}/job")])


def test_only_the_marked_directory_that_was_listed_goes(
    host: LocalHost, left: HostLeftovers
) -> None:
    rows = [row(f"t{number}", directory=f"{host.home}/job") for number in range(3)]
    places = [made(host, one.directory, one.token) for one in rows]
    listed = left.look(rows)
    # Meanwhile another call has put its own in the place of the second.
    (places[1] / ".oj-mark").unlink()
    (places[1] / ".oj-mark").write_text(f"openssh_jobs c2\n{host.home}/job\n.")
    leaving = [Leaving(one, listed[number]) for number, one in enumerate(rows)]
    failed = left.remove(leaving)
    assert list(failed) == [1]
    assert "carries no mark" in failed[1]
    assert [place.exists() for place in places] == [False, True, False]


def test_a_removal_without_an_answer_is_none(host: LocalHost, left: HostLeftovers) -> None:
    one = row(directory=f"{host.home}/job")
    made(host, one.directory)
    listed = left.look([one])
    host.program("nice", "exit 0")
    assert left.remove([Leaving(one, listed[0])]) == {0: "the removal gave no answer"}


@pytest.mark.parametrize("settled", [True, False])
def test_without_a_look_a_claim_of_the_last_day_counts(
    host: LocalHost, left: HostLeftovers, settled: bool
) -> None:
    one = row(directory=f"{host.home}/job")
    place = made(host, one.directory)
    (place / "claim.a").write_text("nonce a\n")
    os.link(place / "claim.a", place / "attempt-1")
    (place / "attempt-2.d").mkdir()
    (place / "result-2").write_text("0")
    unlooked = Leaving(one, [Found(word="found")])
    assert left.remove([unlooked]) == {0: "it is claimed"}
    assert place.exists()
    if settled:
        (place / "result-1").write_text("0\0007\0.")
    else:
        os.utime(place / "attempt-1", (0, 0))
    assert left.remove([unlooked]) == {}
    assert not place.exists()


CLAIM = "nonce a\ndeadline {deadline}\n.\n"


@pytest.mark.parametrize(
    ("claims", "claimed"),
    [
        ("", False),
        ("= open new\n" + CLAIM.format(deadline=1001), True),
        ("= open new\n" + CLAIM.format(deadline=900), False),
        ("= open new\n" + CLAIM.format(deadline=980), True),  # clocks differ
        ("= settled new\n" + CLAIM.format(deadline=1001), False),
        ("= open new\n", True),
        ("= open old\n", False),
        ("= open new\nnonce a\ndeadline 900\n", True),  # cut off: not a claim's end
        ("= open new\nnonce a\ndeadline 9x\n.\n", True),
        (f"= settled new\n{CLAIM}= open new\n{CLAIM}".format(deadline=1001), False),
        (f"= settled new\n{CLAIM}\n= open new\nnonce b\ndeadline 2000\n.\n".format(deadline=1),
         True),
    ],
)  # fmt: skip
def test_live_claims(claims: str, claimed: bool) -> None:
    assert is_claimed(claims, 1000) is claimed


def test_claims_as_they_lie_there(host: LocalHost, left: HostLeftovers) -> None:
    one = row(directory=f"{host.home}/job")
    place = made(host, one.directory)
    text = f"nonce a\ndeadline {int(time.time()) + 100}\n.\n"
    (place / "claim.a").write_text(text)
    assert left.look([one])[0][0].is_claimed
    os.link(place / "claim.a", place / "attempt-1")
    assert left.look([one])[0][0].is_claimed
    (place / "result-1").write_text("0\0007\0.")
    assert not left.look([one])[0][0].is_claimed
    (place / "attempt-2.d").mkdir()  # where links cannot be made: claimed, and not written yet
    assert left.look([one])[0][0].is_claimed
    (place / "attempt-2.d/claim").write_text("nonce b\ndeadline 100\n.\n")
    assert not left.look([one])[0][0].is_claimed


# -- tokens -------------------------------------------------------------------------------------


def token_row(token: str, age: float = 0.0) -> Any:
    return row(
        token, job_id="7", state="failed", exit_code=3, changed=time.time() - age, digest="abc"
    )


def used(host: LocalHost, token: str) -> Any:
    connection: Any = host
    return JobFiles(connection, "here").used_tokens([token]).get(token)


def test_a_token_has_one_line_for_90_days(host: LocalHost, left: HostLeftovers) -> None:
    assert used(host, "mine") is None
    assert left.keep_tokens([token_row("old", TOKEN_AGE - 100), token_row("mine")]) is None
    assert used(host, "mine") == ("7", "abc", "failed", 3)
    assert used(host, "min") is None
    assert used(host, "old") is not None
    record = host.home / ".openssh_jobs/.tokens"
    record.write_text(
        record.read_text() + f"gone 7 abc {int(time.time() - TOKEN_AGE - 9)} failed 3 .\n"
    )
    assert left.keep_tokens([token_row("new")]) is None
    assert [line.split()[0] for line in record.read_text().splitlines()] == ["old", "mine", "new"]
    assert sorted(os.listdir(host.home / ".openssh_jobs")) == [".tokens"]
    assert record.stat().st_mode & 0o777 == 0o600


def test_random_tokens_have_no_line(host: LocalHost, left: HostLeftovers) -> None:
    assert is_random("t0123456789abcdef")
    assert not is_random("t0123456789abcdeg")
    assert left.keep_tokens([token_row("t0123456789abcdef")]) is None
    assert host.used == []


def test_many_write_at_a_time(host: LocalHost, left: HostLeftovers) -> None:
    tokens = [f"k{number}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda token: left.keep_tokens([token_row(token)]), tokens))
    assert said == [None] * 8
    assert all(used(host, token) is not None for token in tokens)


def test_a_record_that_others_could_write_is_neither_read_nor_written(
    host: LocalHost, left: HostLeftovers
) -> None:
    assert left.keep_tokens([token_row("mine")]) is None
    host.home.chmod(0o777)
    assert used(host, "mine") is None
    assert "others can change" in str(left.keep_tokens([token_row("new")]))
    host.home.chmod(0o700)
    record = host.home / ".openssh_jobs/.tokens"
    target = host.home / "precious"
    record.rename(target)
    record.symlink_to(target)
    assert used(host, "mine") is None
    before = target.read_text()
    assert left.keep_tokens([token_row("new")]) is None
    assert target.read_text() == before
    assert not record.is_symlink()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("plant", ["link", "hard link", "fifo", "directory"])
def test_what_lies_in_the_place_of_the_new_record_is_not_written(
    host: LocalHost, left: HostLeftovers, plant: str
) -> None:
    assert left.keep_tokens([token_row("mine")]) is None
    target = host.home / "precious"
    target.write_text("precious")
    new = host.home / ".openssh_jobs/.tokens.new"
    if plant == "directory":
        new.mkdir()
        assert "Is a directory" in str(left.keep_tokens([token_row("new")]))
    else:
        plants = {"link": new.symlink_to, "hard link": new.hardlink_to}
        plants.get(plant, lambda _: os.mkfifo(new))(target)
        assert left.keep_tokens([token_row("new")]) is None
        assert used(host, "new") is not None
    assert target.read_text() == "precious"
    assert used(host, "mine") is not None


def test_the_record_is_not_moved_into_a_directory(host: LocalHost, left: HostLeftovers) -> None:
    record = host.home / ".openssh_jobs/.tokens"
    record.mkdir(parents=True)
    record.parent.chmod(0o700)
    assert "Is a directory" in str(left.keep_tokens([token_row("mine")]))
    assert os.listdir(record) == []


def test_a_lock_of_a_dead_one_is_broken_after_ten_minutes(
    host: LocalHost, left: HostLeftovers
) -> None:
    lock = host.home / ".openssh_jobs/.tokens.lock"
    lock.mkdir(parents=True)
    lock.parent.chmod(0o700)
    host.program("sleep", "exit 0")
    assert "in use" in str(left.keep_tokens([token_row("mine")]))
    os.utime(lock, (time.time() - 700,) * 2)
    assert left.keep_tokens([token_row("mine")]) is None


@pytest.mark.parametrize("line", ["mine 7 abc 5 failed", "mine 7 abc .", "mine .", "7 mine x ."])
def test_a_line_that_is_cut_off_says_nothing(host: LocalHost, line: str) -> None:
    record = host.home / ".openssh_jobs/.tokens"
    record.parent.mkdir(mode=0o700)
    record.write_text(line + "\n")
    assert used(host, "mine") is None


# -- parts --------------------------------------------------------------------------------------


def test_parts_of_the_dead_go_and_others_stay(host: LocalHost, left: HostLeftovers) -> None:
    job = host.home / "job"
    job.mkdir()
    old, mine = f".oj-{'0' * 12}.part", f".oj-{'1' * 12}.{pid_file.call()}.part"
    for directory in (host.home, job):
        for name in (old, mine, ".oj-notes.part", ".oj-0123456789abcdef.5.17.part"):
            (directory / name).write_text("x")
            os.utime(directory / name, (0, 0))
    rows = [row(directory=str(job))]
    would = left.dead_parts(rows, dry_run=True)
    assert (job / old).exists()
    assert left.dead_parts(rows, dry_run=False) == would
    assert {one.path for one in would} == {str(job / old), str(host.home / old)}
    assert len(list(job.iterdir())) == 3


def test_what_the_journal_does_not_know_is_named(host: LocalHost, left: HostLeftovers) -> None:
    assert left.strangers([]) == ()
    for name in ("t1", "t2", "direct"):
        (host.home / ".openssh_jobs" / name).mkdir(parents=True, mode=0o700)
    (host.home / ".openssh_jobs").chmod(0o700)
    (one,) = left.strangers([row("t1")])
    assert (one.token, one.path) == ("t2", f"{host.home}/.openssh_jobs/t2")

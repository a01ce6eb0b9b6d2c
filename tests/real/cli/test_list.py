"""``list``: on terminals of several sizes, and beside real schedulers."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.journal import Journal
from tests import screens
from tests.cli import (
    Terminal,
    on_terminal,
    program,
    script,
    started,
    submitted,
    without_colour,
)
from tests.lab.interactive import MakeServer, code, config_of, password
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

SIZES = [(80, 24), (120, 40), (60, 24)]


@pytest.fixture
def own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of the test alone; its directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def filled(own_journal: Path) -> Path:
    """A journal with a job of every kind."""
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    return own_journal


@pytest.mark.parametrize(("columns", "rows"), SIZES, ids=[f"{x}x{y}" for x, y in SIZES])
def test_the_screen(filled: Path, columns: int, rows: int) -> None:
    """The captured screens in tests/data/screens, and the same without colour."""
    with screens.screen(columns, rows, filled, PAGER="cat") as screen:
        screen.start("list")
        coloured = screen.shows("over 0", colour=True)
    expected = (screens.SCREENS / f"list-{columns}x{rows}.txt").read_text()
    assert coloured == expected, coloured
    with screens.screen(columns, rows, filled, PAGER="cat", NO_COLOR="1") as screen:
        screen.start("list")
        plain = screen.shows("over 0", colour=True)
    assert plain == re.sub("\x1b\\[[0-9;]*m", "", expected)


@pytest.mark.parametrize(("columns", "rows"), SIZES, ids=[f"{x}x{y}" for x, y in SIZES])
def test_the_cards(filled: Path, columns: int, rows: int) -> None:
    """The captured cards in tests/data/screens."""
    with screens.screen(columns, rows, filled) as screen:
        screen.start("cards")
        shown = screen.shows("over 0", colour=True)
    assert shown == (screens.SCREENS / f"cards-{columns}x{rows}.txt").read_text(), shown


def test_a_long_list_goes_through_less_and_a_short_one_does_not(filled: Path) -> None:
    with screens.screen(80, 6, filled, PAGER="less") as screen:
        screen.start("list")
        first = screen.shows("\n:")
        assert first.startswith("HOST  JOB")
        assert "over 0" not in first
        screen.press("Space")
        screen.shows("gpu asked 3 min 20 s ago.")
        screen.press("q")
        screen.shows("over 0")
    with screens.screen(80, 24, filled, PAGER="less") as screen:
        screen.start("list")
        assert screen.shows("over 0").startswith("HOST  JOB")


def test_ctrl_c_in_the_pager_is_the_pagers(filled: Path) -> None:
    with screens.screen(80, 6, filled, PAGER="less") as screen:
        screen.start("list")
        screen.shows("\n:")
        screen.press("C-c")
        screen.press("Space")
        screen.shows("gpu asked 3 min 20 s ago.")
        screen.press("q")
        screen.shows("over 0")


# -- beside a scheduler --------------------------------------------------------------------------


@pytest.fixture
def way(sshd: Host, slurm: SlurmLab) -> list[str]:
    """The options for Slurm, and the host."""
    return ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]


@pytest.fixture
def by_hand(sshd: Host, slurm: SlurmLab) -> Iterator[Callable[..., str]]:
    """Submits a job past this package; the id."""
    made: list[str] = []

    def submit(text: str, *options: str) -> str:
        where = ["--chdir", str(sshd.home), "--output", "/dev/null"]
        wrapped = slurm.command("sbatch", "--parsable", *where, *options, f"--wrap={text}",
                                user=sshd.user)  # fmt: skip
        made.append(wrapped.strip())
        return made[-1]

    yield submit
    slurm.command("scancel", *made, user=sshd.user, check=False)


def rows(*words: str, code: int = 0) -> dict[str, Any]:
    done = program("list", *words, "--json")
    assert done.code == code, done
    return {job["job_id"]: job for job in done.data["jobs"]}


def stamps() -> dict[str, int]:
    """How many answers of each query were stored."""
    with contextlib.closing(Journal()) as journal:
        return dict(journal.file.execute("SELECT query, stamp FROM polls"))


@pytest.mark.usefixtures("own_journal")
def test_one_truth_with_slurm(
    way: list[str], by_hand: Callable[..., str], there: str, tmp_path: Path
) -> None:
    host = way[-1]
    runs = submitted(way, there, script(tmp_path, "sleep 300"), "--time-limit", "0:05:00")
    waits = submitted(way, there, script(tmp_path, "true"), "--hold")
    array = by_hand("test $SLURM_ARRAY_TASK_ID != 2 && exec sleep 300", "--array=1-9%3", "-t5")
    try:
        found = _until(
            lambda: rows(*way),
            lambda listed: (
                listed[runs]["state"] == listed[array]["state"] == "running"
                and f"1 failed ({array}_2), " in listed[array]["reason"]
            ),
        )
        ours = [job_id for job_id in found if job_id.partition("_")[0] in (runs, waits, array)]
        assert set(ours) == {runs, waits, array}, "an array is one row"
        assert found[waits]["state"] == "held"
        assert (found[runs]["time_limit"], found[runs]["host"]) == (300, host)
        assert found[array]["token"] is None
        # The same without asking: states, times and ages.
        before = stamps()
        again, kept = rows(*way), rows()
        assert stamps() == before, "a fresh answer costs no query"
        assert again == kept
        assert {kept[job_id]["as_of"] for job_id in ours} == {kept[runs]["as_of"]}
        shown = without_colour(on_terminal("list", columns=120, PAGER="cat").out)
        assert re.search(rf"^{host} +{runs} .* running .* 0:0\d:\d\d / 0:05:00 ", shown, re.M)
        assert re.search(rf"^{host} +{array} .* running +1 failed \({array}_2\)", shown, re.M)
        assert re.search(rf"{host} asked \d+ s ago\.", " ".join(shown.split()))
    finally:
        assert program("cancel", *way, runs, waits, array).code == 0
    ended = _until(
        lambda: rows(*way), lambda listed: listed[runs]["state"] not in ("running", "completing")
    )
    assert ended[runs]["state"] == rows("--all")[runs]["state"] == "cancelled"


@pytest.mark.usefixtures("own_journal")
def test_a_silent_controller_leaves_the_rows_with_their_age(
    way: list[str], slurm: SlurmLab, there: str, tmp_path: Path
) -> None:
    job = submitted(way, there, script(tmp_path, "sleep 300"))
    known = rows(*way)[job]
    slurm.controller.stop()
    try:
        with contextlib.closing(Journal()) as journal:
            journal.file.execute("DELETE FROM polls")  # no answer of a moment ago
        done = program("list", *way, "--json")
        assert done.code == 5
        (row,) = (row for row in done.data["jobs"] if row["job_id"] == job)
        assert (row["state"], row["as_of"]) == (known["state"], known["as_of"])
        (error,) = done.data["errors"]
        assert error["kind"] == "transient"
        assert done.sentence() == error["message"]
    finally:
        slurm.controller.start()
        slurm.wait_until_ready()
    assert program("cancel", *way, job).code == 0


@pytest.mark.usefixtures("own_journal")
def test_a_host_that_cannot_be_reached_is_3_and_the_others_are_listed(
    direct: list[str], there: str, tmp_path: Path
) -> None:
    job = submitted(direct, there, script(tmp_path, "sleep 300"))
    done = program("list", *direct, "no-such-host.invalid", "--json")
    assert done.code == 3
    assert job in {row["job_id"] for row in done.data["jobs"]}
    assert [error["host"] for error in done.data["errors"]] == ["no-such-host.invalid"]
    assert "no-such-host.invalid" in done.sentence()
    assert program("cancel", *direct, job).code == 0


# -- several hosts -------------------------------------------------------------------------------


def nowhere(config: Path, command: str) -> str:
    """A configuration with hosts ``dead1`` to ``dead4``, behind a command that is no way."""
    made = config.parent / "with-dead"
    made.write_text(f"Host dead?\n  ProxyCommand {command}\n" + config.read_text())
    made.chmod(0o644)
    return str(made)


@pytest.mark.usefixtures("own_journal")
def test_hosts_are_asked_side_by_side(
    direct: list[str], sshd: Host, there: str, tmp_path: Path, expect_logins: Callable[..., None]
) -> None:
    expect_logins(1)  # another configuration is another connection
    job = submitted(direct, there, script(tmp_path, "sleep 300"))
    dead = ["dead3", "dead1", "dead4", "dead2"]
    config = nowhere(sshd.config, "sleep 5")
    began = time.monotonic()
    done = program(
        "list", "-F", config, "--scheduler", "direct", *dead[:2], sshd.alias, *dead[2:], "--json"
    )
    took = time.monotonic() - began
    assert done.code == 3
    assert job in {row["job_id"] for row in done.data["jobs"]}
    assert [error["host"] for error in done.data["errors"]] == dead
    assert 5 < took < 15, "20 if one waited for the other"
    assert program("logout", "-F", config, sshd.alias).code == 0
    assert program("cancel", *direct, job).code == 0


@pytest.mark.usefixtures("own_journal")
def test_ctrl_c_ends_it_while_hosts_are_silent(sshd: Host) -> None:
    config = nowhere(sshd.config, "sleep 60")
    child = started("list", "-F", config, "dead1", "dead2")
    time.sleep(3)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (130, b"openssh-jobs: stopped.\n")
    assert time.monotonic() - began < 2


@pytest.mark.usefixtures("own_journal")
def test_two_hosts_ask_one_after_the_other(cold: Path, asking: MakeServer) -> None:
    hosts = [asking(name, steps=[password("secret"), code("17")]) for name in ("one", "two")]
    config = config_of(cold, *hosts)
    way = ["-F", config, "--scheduler", "direct", "one", "two"]
    terminal = Terminal("list", *way)
    for _ in range(4):
        question = terminal.child.expect(["Password: ", "Verification code: "])
        time.sleep(0.1)
        terminal.child.sendline(["secret", "17"][question])
    terminal.shows("No such jobs on one, two.")
    assert terminal.end() == 0
    assert [host.logins for host in hosts] == [1, 1]
    for host in hosts:
        program("logout", "-F", config, host.alias)


def _until(ask: Callable[[], dict[str, Any]], is_so: Callable[[dict[str, Any]], bool]) -> Any:
    """What is listed once it is so; each look waits for a new answer of the queue."""
    for _ in range(8):
        found = ask()
        if is_so(found):
            return found
        with contextlib.closing(Journal()) as journal:
            journal.file.execute("DELETE FROM polls")
    raise AssertionError(found)

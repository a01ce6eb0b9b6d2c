"""What ``watch`` draws of jobs, by the clock of this machine."""

from __future__ import annotations

from datetime import timedelta

import pytest

from openssh_jobs import JobStatus
from openssh_jobs.cli import watch_view
from openssh_jobs.cli.listed_job import ListedJob

NOW = 1_773_144_000.0


def shown(monkeypatch: pytest.MonkeyPatch, later: float) -> str:
    """The screen so many seconds after the host said that the job has run for 10 minutes."""
    status = JobStatus(
        "4711",
        "running",
        name="relax",
        elapsed=timedelta(minutes=10),
        time_limit=timedelta(hours=2),
    )
    view = watch_view.View()
    view.take([ListedJob(host="hpc", status=status, as_of=NOW)], 0)
    monkeypatch.setattr("openssh_jobs.cli.watch_view.time.time", lambda: NOW + later)
    return "\n".join(view.lines(120, 24, {}))


def test_a_running_job_runs_on_between_two_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "0:10:30 / 2:00:00" in shown(monkeypatch, 30)
    assert "0:20:00 / 2:00:00" in shown(monkeypatch, 600)


@pytest.mark.parametrize("hours", [1, 9])
def test_after_a_sleep_of_the_machine_it_is_as_of_the_answer(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock has jumped, and the host was not asked yet."""
    screen = shown(monkeypatch, 3600 * hours)
    assert "0:10:00 / 2:00:00" in screen
    assert f"hpc asked {hours} h" in screen


def test_a_clock_that_was_set_back_takes_no_time_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "0:10:00 / 2:00:00" in shown(monkeypatch, -86400)

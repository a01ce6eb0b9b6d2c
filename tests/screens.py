"""The command line at a fixed moment, and what a terminal shows of it.

``python -m tests.screens WORDS`` is ``openssh-jobs WORDS`` on 2026-03-10 at 12:00 UTC, with the
journal that ``fill`` makes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openssh_jobs.cluster.journal import Journal, Row, followed_row
from tests.paths import CHECKOUT

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
SCREENS = CHECKOUT / "tests" / "data" / "screens"
_HOUR = 3600.0
_ARRAY = "1 out_of_memory (4720_17), 48 completed, 1 running"


def fill(journal: Journal) -> None:
    """The jobs of the screens: one of every kind."""
    rows: list[tuple[float, dict[str, Any]]] = [
        (2.8, {"job_id": "4711", "name": "relax-7", "state": "running", "nodes": "n017",
               "started": NOW - 735, "time_limit": 7200.0}),
        (2.7, {"job_id": "4712", "name": "freq-7", "state": "pending", "reason": "Dependency",
               "time_limit": 3600.0}),
        (20, {"job_id": "4720", "name": "sweep", "state": "running", "array": "1-60",
              "reason": f"50 elements: {_ARRAY}"}),
        (26, {"job_id": "4650", "name": "scan-3", "state": "failed", "exit_code": 3,
              "nodes": "n002", "started": NOW - 25 * _HOUR, "ended": NOW - 25 * _HOUR + 2650,
              "time_limit": 3600.0}),
        (30, {"job_id": "4648", "name": "scan-2", "state": "completed", "exit_code": 0,
              "nodes": "n002", "started": NOW - 27 * _HOUR, "ended": NOW - 26 * _HOUR}),
        (1, {"name": "opt-9", "state": "new", "stage": "sending", "caller": None}),
    ]  # fmt: skip
    for age, facts in rows:
        token = str(facts["name"])
        journal.open_row(_row(token))
        journal.change("hpc", token, **facts, submitted=NOW - age * _HOUR, learned=NOW - 12)
    train = followed_row("gpu", "88.0", directory="/data/alice/a-long-way-down/train",
                         scheduler="sge", name="train", state="held", reason="by you")  # fmt: skip
    journal.open_row(train)
    journal.change("gpu", train.token, submitted=NOW - 28 * _HOUR, learned=NOW - 200)
    journal.file.execute("UPDATE submissions SET opened = submitted, changed = ? - 10", (NOW,))
    journal.file.execute("UPDATE submissions SET submitted = NULL WHERE job_id IS NULL")
    journal.note_listed("hpc", NOW - 12)


def _row(token: str) -> Row:
    return Row(
        host="hpc",
        token=token,
        digest="",
        scheduler="slurm",
        directory=f"/home/alice/runs/{token}",
    )


def cards() -> list[Any]:
    """The cards of the screens: what waits for a job, what is behind others, and two ends."""
    from openssh_jobs import JobState, JobStatus
    from openssh_jobs.cli.card import Card
    from openssh_jobs.cli.listed_job import ListedJob
    from openssh_jobs.jobs.cause import Cause
    from openssh_jobs.jobs.explanation import Awaited, Explanation, Usage

    def minutes(number: float) -> timedelta:
        return timedelta(minutes=number)

    def usage(used: float, asked: int, **more: Any) -> Usage:
        gb = 1024**3
        return Usage(memory=int(used * gb), memory_asked=asked * gb, **more)

    def status(job_id: str, state: str, **more: Any) -> JobStatus:
        submitted = datetime.fromtimestamp(NOW - 2.75 * _HOUR, UTC)
        return JobStatus(job_id, state, submitted=submitted, source="queue", **more)

    freq = Explanation(
        status=status("4712", "pending", name="freq-7", queue="batch", reason="Dependency"),
        cause=Cause.DEPENDENCY,
        awaited=(Awaited(job_id="4711", state=JobState.RUNNING, left=minutes(108)),),
        scheduler="Slurm",
    )
    opt = Explanation(
        status=status("4730", "pending", name="opt-9", queue="batch", reason="Priority"),
        cause=Cause.PRIORITY,
        ahead=3,
        expected_start=datetime.fromtimestamp(NOW + 2.5 * _HOUR, UTC),
        asked_at=datetime.fromtimestamp(NOW, UTC),
        scheduler="Slurm",
    )
    swept = Explanation(
        status=status("4720_17", "out_of_memory", name="sweep", nodes=("n003",),
                      elapsed=minutes(44.2)),
        cause=Cause.OUT_OF_MEMORY,
        usage=usage(31.8, 32, cpus=4, cpu_time=minutes(160), elapsed=minutes(44.2)),
        others=Usage.of_elements([usage(number, 32) for number in (12.5, 20.1, 21.4)]),
    )  # fmt: skip
    relaxed = Explanation(
        status=status("4711", "completed", name="relax-7", nodes=("n017",), elapsed=minutes(12.05)),
        cause=Cause.COMPLETED,
        usage=usage(11.2, 64, cpus=16, cpu_time=minutes(179.3), elapsed=minutes(12.05),
                    time_limit=minutes(120)),
    )  # fmt: skip
    return [
        Card(
            job=ListedJob(host="hpc", status=one.status, token="t", directory=directory),
            explanation=one,
            home="/home/alice",
        )
        for one, directory in (
            (freq, "/home/alice/runs/freq-7"),
            (opt, "/home/alice/runs/opt-9"),
            (swept, "/home/alice/runs/sweep"),
            (relaxed, "/home/alice/runs/relax-7"),
        )
    ]


class Screen:
    """A terminal of a given size, with a program in it; tmux is the terminal."""

    def __init__(self, columns: int, rows: int, state: Path, **env: str) -> None:
        self._directory = tempfile.mkdtemp(prefix="oj")  # short: a socket lies in it
        self._at = ["tmux", "-S", os.path.join(self._directory, "s"), "-f", os.devnull]
        size = ["-x", str(columns), "-y", str(rows)]
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        known = {
            "XDG_STATE_HOME": str(state),
            "PYTHONPATH": str(CHECKOUT),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        words = ["env", "-i", *(f"{key}={value}" for key, value in (kept | known | env).items())]
        self._words = [*words, "TERM=screen", "sh"]
        self._tmux("new-session", "-d", *size, "cat")
        self._tmux("set", "-g", "status", "off")

    def _tmux(self, *words: str) -> str:
        return subprocess.run(
            [*self._at, *words], capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def start(self, *words: str) -> None:
        """Run ``openssh-jobs WORDS`` at the fixed moment; see ``run``."""
        self.run(sys.executable, "-m", "tests.screens", *words)

    def run(self, *argv: str) -> None:
        """Run a program; what it printed stays on the screen when it is over."""
        # Ctrl-C is for the program, not for the shell around it.
        shell = f"trap : INT; {shlex.join(argv)}; echo over $?; exec cat"
        self._tmux("respawn-pane", "-k", shlex.join([*self._words, "-c", shell]))

    def shell(self) -> None:
        """An interactive shell with job control."""
        self._tmux("respawn-pane", "-k", shlex.join([*self._words, "-i"]))

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def press(self, *keys: str) -> None:
        """Press keys."""
        self._tmux("send-keys", *keys)

    def shows(self, text: str, *, colour: bool = False, patience: float = 60) -> str:
        """The screen as soon as it has this text."""
        deadline = time.monotonic() + patience
        while True:
            found = self._tmux("capture-pane", "-p", *(["-e"] if colour else []))
            if text in found:
                # How tmux ends a colour is its own affair.
                found = re.sub("(?:\x1b\\[(?:0|39|49)m)+", "\x1b[0m", found.rstrip() + "\n")
                return re.sub("\n\x1b\\[0m", "\x1b[0m\n", found)
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def close(self) -> None:
        """End the terminal and what runs in it."""
        self._tmux("kill-server")
        shutil.rmtree(self._directory)


@contextlib.contextmanager
def screen(columns: int, rows: int, state: Path, **env: str) -> Iterator[Screen]:
    """A terminal for the length of a test, with the journal of ``fill``."""
    assert shutil.which("tmux"), "tmux is missing"
    made = Screen(columns, rows, state, **env)
    try:
        yield made
    finally:
        made.close()


class Clock:
    """The module ``time``, which stands still."""

    @staticmethod
    def time() -> float:
        """That moment."""
        return NOW


class _Then(datetime):
    """The class ``datetime``, which stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.fromtimestamp(NOW, tz)


def main() -> int:
    """Run the command line at that moment."""
    from openssh_jobs.cli import list as list_command
    from openssh_jobs.cli import listed_job, main, output, watch_view

    moment: Any = output
    moment.datetime = _Then
    for module in (list_command, listed_job, watch_view):
        found: Any = module
        found.time = Clock
    if sys.argv[1:] == ["cards"]:
        from openssh_jobs.cli import card
        from openssh_jobs.cli.output import Output

        card.show(cards(), Output())
        return 0
    return main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())

"""``watch``: the table of ``list``, alive, for all hosts at once."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from . import list as listed
from . import options, pager
from .exit_codes import ExitCode, UsageError
from .watch_view import GOES_ON, View
from .watched_hosts import WatchedHost, arguments_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..cluster.journal import Journal
    from .listed_job import ListedJob
    from .output import Output
    from .screen import Screen

_EVERY = 1.0
"""Seconds between two pictures: ages and elapsed times go on."""
_READ_EVERY = 5.0
"""Seconds after which the journal is read again without a sign of a change."""


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``watch`` to the command line."""
    parser = options.add_command(
        subparsers,
        "watch",
        summary,
        run,
        usage="[options] [HOST...]",
        examples="""\
  openssh-jobs watch
      all hosts of the journal with jobs that go on
  openssh-jobs watch hpc gpu --name 'relax*'

keys: up, down  choose a job       c  cancel it, after a question
      Enter     its card           /  show only jobs with this text
      t         follow its output  q  leave; the jobs go on
      f         fetch its files

A host is asked as often as its polls allow, once for all programs that watch it.
One that does not answer keeps its jobs as last known, with the time; one that
needs a password or a second factor is not asked: `openssh-jobs login HOST`.""",
    )
    parser.add_argument("hosts", metavar="HOST", nargs="*", help="only these hosts")
    listed.add_selection_options(parser)
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Watch until q or Ctrl-C."""
    if output.json or not (output.on_terminal and sys.stdin.isatty()):
        raise UsageError(
            "openssh-jobs watch: draws on a terminal; `openssh-jobs list` prints the table once, "
            "with --json for programs."
        )
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        with options.without_cluster_warnings():
            return _Watch(args, journal).run()
    except KeyboardInterrupt:
        return ExitCode.OK
    finally:
        options.end_commands()
        journal.close()


class _Watch:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, journal: Journal) -> None:
        self._args = args
        self._journal = journal
        self._hosts: dict[str, WatchedHost] = {}
        self._is_changed = threading.Event()
        self._read = -_READ_EVERY
        self._message = ""
        self._message_until = 0.0
        self._screen: Screen | None = None
        self.view = View()

    def run(self) -> int:
        """Draw, then ask the hosts, then follow keys until it is over."""
        from .screen import Screen

        self._update()
        with Screen() as screen:
            self._screen = screen
            self._paint(screen)
            self._ask_hosts()
            screen.draw_with_rich()
            try:
                while self._step(screen):
                    pass
            finally:
                self._screen = None
                for host in self._hosts.values():
                    host.stop()
        return ExitCode.OK

    def _ask_hosts(self) -> None:
        """Ask the hosts that were named, else those of all jobs that go on."""
        for name in self._args.hosts or [job.host for job in self.view.jobs if job.is_open]:
            if name not in self._hosts:
                host = WatchedHost(name, self._args, self._note_change)
                self._hosts[name] = host
                host.start()

    def _note_change(self) -> None:
        self._is_changed.set()
        if (screen := self._screen) is not None:
            screen.wake()

    # ------------------------------------------------------------------ the picture

    def _update(self) -> None:
        """Read the journal again, if something may have changed."""
        if not self._is_changed.is_set() and time.monotonic() - self._read < _READ_EVERY:
            return
        self._is_changed.clear()
        self._read = time.monotonic()
        hosts = [
            self._hosts[name].name if name in self._hosts else name for name in self._args.hosts
        ]
        found = listed.FoundJobs(self._journal, hosts, self._args)
        self.view.take(found.shown, len(found.others) + found.over_limit)

    def _paint(self, screen: Screen) -> None:
        columns, lines = screen.size
        troubles = {}
        for host in self._hosts.values():
            if (trouble := host.trouble) is not None:
                troubles[host.name] = trouble
        message = self._message if time.monotonic() < self._message_until else ""
        screen.paint(self.view.lines(columns, lines, troubles, self._last_line(), message))

    def _last_line(self) -> str:
        """The last line that the chosen job has printed, as far as that is known."""
        chosen = self.view.chosen
        job_id = chosen.job_id if chosen is not None and chosen.status.state in GOES_ON else None
        for host in self._hosts.values():
            is_there = chosen is not None and host.name == chosen.host
            host.show_output_of(job_id if is_there else None)
            if is_there and host.last_line is not None and host.last_line[0] == job_id:
                return f"{job_id}: {host.last_line[1]}" if host.last_line[1] else ""
        return ""

    def _say(self, text: str) -> None:
        self._message, self._message_until = text, time.monotonic() + 15
        if (screen := self._screen) is not None:
            screen.wake()

    # ------------------------------------------------------------------ keys

    def _step(self, screen: Screen) -> bool:
        """One picture and the keys after it; false when it is over."""
        self._update()
        self._ask_hosts()
        self._paint(screen)
        return all(self._key(key, screen) for key in screen.keys(_EVERY))

    def _key(self, key: str, screen: Screen) -> bool:
        if key == "hangup":
            return False
        if self.view.takes_text(key):
            return True
        if self.view.question is not None:
            asked, self.view.question = self.view.question, None
            if key in ("y", "Y"):
                self._cancel(asked)
            return True
        if key == "q":
            return False
        job = self.view.chosen
        if key in _SHOWN and job is not None and job.job_id is not None:
            self._show(_SHOWN[key], job, screen)
        elif key == "c" and job is not None and job.job_id is not None and job.is_open:
            # Only what goes on is asked about, so its host is followed.
            self.view.question = job
        return True

    def _words(self, command: Sequence[str], job: ListedJob) -> list[str]:
        args = arguments_for(self._args, job.host)
        name, *more = command
        words = options.advised_words(args, name, *more, args.host, job.status.job_id)
        if name == "fetch":
            words.append(f"job-{job.status.job_id}")
        # This program, as it was started.
        return [*sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])], *words]

    def _show(self, command: Sequence[str], job: ListedJob, screen: Screen) -> None:
        """Run a command about a job on the terminal until it ends."""
        from ..openssh import process

        with screen.left(), pager.interrupts_are_the_childs():
            print(f"openssh-jobs {' '.join(command)} {job.host} {job.status.job_id}", flush=True)
            child = process.spawn(
                self._words(command, job),
                stdin=None,
                stdout=None,
                stderr=None,
                own_environment=True,
                own_session=False,
            )
            try:
                child.wait()
            except BaseException:
                child.terminate()
                child.wait(10)
                raise
            print("\nEnter goes back to the table.", end="", flush=True)
            sys.stdin.readline()
        self._note_change()

    def _cancel(self, job: ListedJob) -> None:
        self._say(f"{job.host}: cancelling {job.status.job_id} ...")
        self._hosts[job.host].cancel(job.status.job_id, self._say)


_SHOWN = {"enter": ("status",), "t": ("tail", "-f"), "f": ("fetch",)}
"""Keys and the commands that have the terminal until they end."""

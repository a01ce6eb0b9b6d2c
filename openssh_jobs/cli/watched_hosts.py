"""The hosts of ``watch``: each is asked by a thread of its own, as often as its polls allow."""

from __future__ import annotations

import argparse
import copy
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from .. import logs
from . import options
from .cancel import TEXTS
from .listed_job import THIS_MACHINE
from .output import error_sentence, moment

if TYPE_CHECKING:
    from ..cluster.cluster import Cluster
    from ..cluster.job import Job

log = logs.logger("openssh_jobs.cli")

_LEAST_REST = 2.0
"""Seconds between two looks of a host that sets no interval; its answers may be shared."""
_LONGEST_REST = 60.0
_LINE_EVERY = 5.0
"""Seconds between two looks at the last line of the chosen job's output."""


def arguments_for(args: argparse.Namespace, name: str) -> argparse.Namespace:
    """The options of this command line for a host by its name in the journal.

    That name is ``USER@HOST:PORT`` with what was given as an option of ssh.
    """
    made = copy.copy(args)
    host, colon, port = name.rpartition(":")
    if colon and port.isascii() and port.isdigit() and ":" not in host:
        name, made.port = host, int(port)
    made.host = options.THIS_MACHINE if name == THIS_MACHINE else name
    return made


class Trouble(NamedTuple):
    """Why a host does not answer: in a few words for its rows, and in a sentence."""

    words: str
    sentence: str


class WatchedHost:
    """Keeps the journal's rows of one host up to date.

    Never asks for a password or a second factor: such a host needs ``openssh-jobs login``.
    ``changed()`` is called from its thread after each look.
    """

    def __init__(self, name: str, args: argparse.Namespace, changed: Callable[[], None]) -> None:
        self.name = name
        self.args = arguments_for(args, name)
        self._changed = changed
        self._awake = threading.Event()
        self._ends = False
        self._failed_since: float | None = None
        self.error: Exception | None = None
        self.wanted: str | None = None
        """The job whose last line of output is read with each look."""
        self.last_line: tuple[str, str] | None = None
        """A job and the last line of its output."""
        self._cluster: Cluster | None = None
        self._thread = threading.Thread(target=self._follow, name=f"watch {name}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def look(self) -> None:
        """Look now instead of at the next time; the interval between queries stays."""
        self._awake.set()

    def show_output_of(self, job_id: str | None) -> None:
        """Read the last line of this job's output from now on, or of none."""
        if job_id != self.wanted:
            self.wanted = job_id
            self._awake.set()

    def stop(self) -> None:
        """Ask no more; a query under way may still end."""
        self._ends = True
        self._awake.set()

    def cancel(self, job_id: str, done: Callable[[str], None]) -> None:
        """Cancel a job, in a thread of its own; ``done`` gets a sentence about the outcome."""

        def cancel() -> None:
            assert self._cluster is not None
            try:
                outcome = self._cluster.cancel([job_id])[job_id]
            except Exception as error:  # noqa: BLE001 - shown, and the table goes on
                done(error_sentence(error))
            else:
                done(f"{self.name}: job {job_id} {TEXTS[outcome]}.")
            self.look()

        if self._cluster is None:
            done(f"{self.name}: not reached yet.")
            return
        threading.Thread(target=cancel, name=f"watch cancel {job_id}", daemon=True).start()

    @property
    def trouble(self) -> Trouble | None:
        """Why this host's jobs are shown as last known; ``None``: it answers."""
        error, since = self.error, self._failed_since
        if error is None or since is None:
            return None
        if needs_login(error):
            command = options.advised_command(self.args, "login", self.args.host)
            return Trouble(f"login {self.args.host}", f"{self.name} asks: `{command}` answers it.")
        when = moment(datetime.fromtimestamp(since, UTC)).removeprefix("today ")
        return Trouble(f"no answer since {when}", error_sentence(error))

    def _follow(self) -> None:
        rest = _LEAST_REST
        try:
            self._cluster = cluster = options.cluster(self.args, asks=False)
            self.name = cluster.host
        except Exception as error:  # noqa: BLE001 - shown in the host's rows
            self._note(error)
            return
        while not self._ends:
            try:
                cluster.internal.update_journal()
            except Exception as error:  # noqa: BLE001 - the same
                self._note(error)
                rest = min(rest * 2, _LONGEST_REST)
            else:
                rest = _LEAST_REST
                self._note(None)
            self._rest(cluster, max(rest, cluster.internal.poller.interval))

    def _rest(self, cluster: Cluster, seconds: float) -> None:
        """Wait for the next look, and read the last line of the wanted job meanwhile."""
        until = time.monotonic() + seconds
        job: Job | None = None
        while (left := until - time.monotonic()) > 0 and not self._ends:
            wanted = self.wanted
            if wanted is not None and self.error is None:
                job = job if job is not None and job.id == wanted else cluster.job(wanted)
                self._read_last_line(job)
            self._awake.wait(min(left, _LINE_EVERY if wanted is not None else left))
            if self._awake.is_set():
                self._awake.clear()
                if self.wanted == wanted:
                    return

    def _read_last_line(self, job: Job) -> None:
        try:
            line = "".join(job.tail(lines=1)).strip()
        except Exception as error:  # noqa: BLE001 - there may be no file yet, or no way to it
            log.info("%s: no output of job %s: %s", self.name, job.id, error)
            line = ""
        if self.last_line != (job.id, line):
            self.last_line = job.id, line
            self._changed()

    def _note(self, error: Exception | None) -> None:
        if error is None:
            self._failed_since = None
        elif self._failed_since is None:
            self._failed_since = time.time()
        self.error = error
        if not self._ends:
            self._changed()


def needs_login(error: Exception) -> bool:
    """Whether a person has to answer something first."""
    from ..errors import AuthenticationFailed, AuthenticationNeeded

    return isinstance(error, AuthenticationNeeded | AuthenticationFailed)

"""A stay on the login node by one way: a job runs there while the way is lost and found again."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection, Job, JobState, Prompt, errors
from openssh_jobs.jobs import JobStatus
from tests.lab.chain import Chain, Way, WayIn, person

_UNTIL_GO = "#!/bin/sh\nn=0\nuntil [ -e go ] || [ $n -gt 1200 ]; do sleep 0.1; n=$((n+1)); done\n"
_numbers = itertools.count()


class Stay:
    """A program that nobody watches, its job, and a thread of it that waits for the job."""

    def __init__(self, way_in: WayIn, directory: Path) -> None:
        self.way_in, self.way = way_in, way_in.way
        self.cluster = Cluster(
            self.way.host,
            ssh_config=way_in.config,
            scheduler="direct",
            poll_interval=0.1,
            journal=str(directory / "journal"),
        )
        self.directory = f"stay-{next(_numbers)}"
        self.job: Job | None = None
        self._pool = ThreadPoolExecutor(1)
        self._waiting: Future[JobStatus] | None = None

    @property
    def command(self) -> str:
        """What a person has to type, as errors say it."""
        return f"openssh-jobs login -F {self.way_in.config} {self.way.host}"

    def open(self) -> None:
        """Open, run a command, submit the job and begin to wait for it."""
        self.works()
        self.job = self.cluster.submit(script_text=_UNTIL_GO, directory=f"~/{self.directory}")
        self.wait()

    def wait(self) -> None:
        """Wait for the job in the background."""
        assert self.job is not None
        self._waiting = self._pool.submit(self.job.wait, 120)

    def works(self) -> None:
        """A command runs, by the master that is open or by a login."""
        assert self.cluster.connection.run("echo in").stdout == "in\n"

    def refused(self, kind: type[errors.ConnectError]) -> errors.ConnectError:
        """The error that ended the wait, and that every further call gets, too."""
        assert self._waiting is not None
        error = self._waiting.exception(120)
        assert type(error) is kind, repr(error)
        assert isinstance(error, errors.ConnectError)
        dials = self.way_in.dials()
        for _ in range(2):
            with pytest.raises(kind) as again:
                self.cluster.connection.run("true")
            assert again.value.sent == "no"
        assert self.way_in.dials() == dials, "nobody knocks again"
        return error

    def goes_on(self) -> None:
        """The wait is not over, and has raised nothing."""
        assert self._waiting is not None
        with contextlib.suppress(TimeoutError):
            raise AssertionError(repr(self._waiting.exception(0.3)))

    def finish(self) -> None:
        """Let the job end: the wait is over."""
        (self.way_in.servers[-1].home / self.directory / "go").touch()
        assert self._waiting is not None
        assert self._waiting.result(120).state is JobState.COMPLETED

    # -- how a way is lost --------------------------------------------------------------------

    def kill_master(self) -> None:
        """The master dies, as after an OOM killer."""
        assert isinstance(self.cluster.connection, Connection)
        pid = self.cluster.connection.check().master
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        """The first server on the way ends all its connections."""
        assert self.way_in.servers[0].kill_sessions()

    def is_back(self, logins: list[int]) -> None:
        """The waiting thread has logged in again by itself, so often."""
        deadline = time.monotonic() + 60
        while self.way_in.logins() != logins:
            assert time.monotonic() < deadline, self.way_in.logins()
            time.sleep(0.05)
        self.works()

    def close(self) -> None:
        """End everything, whatever came before."""
        if self.job is not None:
            (self.way_in.servers[-1].home / self.directory / "go").touch()
        self._pool.shutdown()
        self.cluster.close()
        Connection(self.way.host, ssh_config=self.way_in.config).close(stop_master=True)


@contextlib.contextmanager
def stay(chain: Chain, way: Way, cold: Path, directory: Path, **lines: object) -> Iterator[Stay]:
    """A stay by a way; ``lines``: as for ``WayIn``."""
    way_in = WayIn(chain, way, cold.parent / "config", **lines)  # type: ignore[arg-type]
    here = Stay(way_in, directory)
    try:
        yield here
    finally:
        here.close()


def log_in(
    way_in: WayIn,
    responder: Callable[[Prompt], str | None] | None = person,
    *,
    user: str | None = None,
) -> None:
    """Log in as ``openssh-jobs login`` does, with a person."""
    connection = Connection(
        way_in.way.host, ssh_config=way_in.config, user=user, responder=responder
    )
    connection.reconnect()
    connection.close()

"""Many processes that wait for many jobs of a real Slurm; who asks the host how often is counted.

``scripts/lab poll [--processes N] [--jobs N] [--interval SECONDS]`` and ``scripts/lab soak
--minutes N``, as root.  What the host counted (``sdiag``, sshd's log) stands beside our figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab import namespaces
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab
from tests.paths import CHECKOUT

_COUNTED = (
    "REQUEST_JOB_INFO",
    "REQUEST_JOB_USER_INFO",
    "REQUEST_JOB_INFO_SINGLE",
    "REQUEST_PARTITION_INFO",
)
_SESSION = re.compile(r"Starting session: (?:forced-)?command ")


class Waiters:
    """Processes that wait for jobs of one host, on one journal, and say when each is over.

    ``ids``: the jobs of each process.  ``interval``: their ``poll_interval``.
    """

    def __init__(
        self, host: Host, directory: Path, ids: list[list[str]], interval: float | None
    ) -> None:
        self.journal = directory / "state" / "journal.sqlite"
        self._reported = [directory / f"reported-{number}" for number in range(len(ids))]
        self.processes = []
        for jobs, reported in zip(ids, self._reported, strict=True):
            facts = {
                "alias": host.alias,
                "config": str(host.config),
                "journal": str(self.journal),
                "interval": interval,
                "jobs": jobs,
            }
            with reported.open("wb") as stdout:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.lab.poll_worker", "wait", json.dumps(facts)],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    cwd=CHECKOUT,
                )
            self.processes.append(process)

    def reported(self) -> dict[str, tuple[str, float]]:
        """State and time (since 1970) by job, as far as the processes have said it."""
        found = {}
        for path in self._reported:
            for line in path.read_text().splitlines():
                job_id, state, when = line.split()
                found[job_id] = state, float(when)
        return found

    def _select(self, text: str) -> list[Any]:
        """One column of the journal; empty as long as there is none."""
        try:
            file = sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)
            with contextlib.closing(file):
                return [row[0] for row in file.execute(text)]
        except sqlite3.OperationalError:
            return []

    def holder(self, patience: float = 60) -> int | None:
        """The process that makes a query now; waits until there is one."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for holder in self._select(
                "SELECT holder FROM polls WHERE holder IS NOT NULL AND query LIKE '% queue'"
            ):
                return int(holder.partition("-")[0])
            time.sleep(0.002)
        return None

    def stamp(self, name: str = "queue") -> int:
        """How many queries of the queue (or the history) all processes have made."""
        stamps = self._select(f"SELECT stamp FROM polls WHERE query LIKE '% {name}'")
        return max(map(int, stamps), default=0)

    def wait(self, patience: float) -> None:
        """Wait until all have ended, but for those that were stopped."""
        deadline = time.monotonic() + patience
        for process in self.processes:
            process.wait(max(0.1, deadline - time.monotonic()))

    def end(self) -> None:
        """End those that are left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)


def submit_jobs(
    slurm: SlurmLab, host: Host, count: int, *, longest: float, fails: int
) -> list[str]:
    """Jobs of up to ``longest`` seconds that write down their end; every ``fails``-th fails."""
    directory = host.home / "poll"
    script = (
        f"mkdir -p {directory} && cd {directory} || exit 1\n"
        "i=0\n"
        f"while [ $i -lt {count} ]; do\n"
        f"  code=0; [ $((i % {fails})) -eq {fails - 1} ] && code=3\n"
        f'  s=$(awk "BEGIN {{ print 1 + (($i * 7919) % 1000) / 1000 * ({longest} - 1) }}")\n'
        "  sbatch --parsable -o /dev/null --mem=1 -n1 --wrap "
        f'"sleep $s; date +%s.%N > {directory}/\\$SLURM_JOB_ID; exit $code" || exit 1\n'
        "  i=$((i + 1))\n"
        "done\n"
    )
    done = subprocess.run(
        [*slurm.machine.enter, "runuser", "-u", host.user, "--", "/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        cwd="/",
    )
    return done.stdout.split()


def ended_at(host: Host, job_id: str) -> float | None:
    """When a job of ``submit_jobs`` ended, by itself."""
    try:
        return float((host.home / "poll" / job_id).read_text())
    except (OSError, ValueError):
        return None


def reset_counts(slurm: SlurmLab) -> None:
    """Let Slurm count from 0 on."""
    slurm.command("sdiag", "-r")


def counts(slurm: SlurmLab) -> dict[str, int]:
    """The queries for jobs that Slurm itself has counted, by the name of the message."""
    found = {}
    for line in slurm.command("sdiag").splitlines():
        match = re.match(r"\s*(REQUEST_\w+)\s*\(\s*\d+\)\s*count:(\d+)", line)
        if match and match[1] in _COUNTED:
            found[match[1]] = int(match[2])
    return found


def sessions(host: Host) -> int:
    """The commands that sshd has started for the user."""
    return len(_SESSION.findall(host.server.log_text()))


@contextlib.contextmanager
def site_with_slurm(**variant: Any) -> Iterator[tuple[Site, SlurmLab]]:
    """A login node with a Slurm, in the lab's own namespaces."""
    home = namespaces.LAB / "me"
    for directory in (home, namespaces.LAB / "r"):
        directory.mkdir(mode=0o700, exist_ok=True)
    os.environ.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / ".config"),
        XDG_STATE_HOME=str(home / ".state"),
        XDG_CACHE_HOME=str(home / ".cache"),
        OPENSSH_JOBS_RUNTIME_DIR=str(namespaces.LAB / "r"),
        OPENSSH_JOBS_CONFIG=str(home / "servers.toml"),
    )
    site = Site(namespaces.LAB / "s", verbose=True)
    slurm = None
    try:
        site.start()
        assert site.network is not None
        slurm = SlurmLab(namespaces.LAB / "slurm", site.network.login, **variant)
        slurm.start()
        yield site, slurm
    finally:
        if slurm is not None:
            slurm.stop()
        site.stop()


# -- scripts/lab poll ---------------------------------------------------------------------------


def _poll(arguments: argparse.Namespace) -> int:
    number, count = arguments.processes, arguments.jobs
    with site_with_slurm(cpus=8, remembers=300) as (site, slurm):
        host = site.host("direct")
        ids = submit_jobs(slurm, host, count, longest=arguments.longest, fails=50)
        reset_counts(slurm)
        before, began = sessions(host), time.monotonic()
        directory = namespaces.LAB / "poll"
        directory.mkdir()
        waiters = Waiters(
            host, directory, [ids[start::number] for start in range(number)], arguments.interval
        )
        lost: list[int] = []
        try:
            if not arguments.plain:
                lost = _disturb(waiters)
            remaining = [p for p in waiters.processes if p.pid not in lost]
            for process in remaining:
                process.wait(3600)
            took = time.monotonic() - began
            asked, logins = counts(slurm), host.logins()
            commands, reported = sessions(host) - before, waiters.reported()
        finally:
            waiters.end()
        late = sorted(
            reported[job_id][1] - end
            for job_id in reported
            if (end := ended_at(host, job_id)) is not None
        )
        interval = arguments.interval or 10.0
        states = {state: 0 for state, _ in reported.values()}
        for state, _ in reported.values():
            states[state] += 1
        print(f"processes {number}, jobs {count}, {took:.0f} s, interval {interval:g} s")
        print(f"reported              {len(reported)} jobs: {states}")
        print(f"seconds from the end  median {late[len(late) // 2]:.1f}, longest {late[-1]:.1f}")
        print(f"logins (sshd)         {logins}")
        print(f"commands (sshd)       {commands}")
        for name in _COUNTED:
            print(f"{name:<22}{asked.get(name, 0)}  (sdiag)")
        print(f"time/interval         {took / interval:.0f}")
        if not arguments.plain:
            print(f"queries (journal)     {waiters.stamp()}")
    return 0


def _disturb(waiters: Waiters) -> list[int]:
    """Kill a process in the middle of its query, and stop another one."""
    lost: list[int] = []
    for name, word in (("SIGKILL", "killed"), ("SIGSTOP", "stopped")):
        time.sleep(20)
        pid = waiters.holder()
        if pid is None:
            print(f"no holder to be {word}")
            continue
        before, began = waiters.stamp(), time.monotonic()
        os.kill(pid, getattr(signal, name))
        lost.append(pid)
        while waiters.stamp() == before and time.monotonic() - began < 120:
            time.sleep(0.01)
        print(f"holder {word}: the next answer {time.monotonic() - began:.1f} s later", flush=True)
    return lost


def main(arguments: list[str]) -> int:
    """``poll`` or ``soak``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/lab")
    commands = parser.add_subparsers(dest="command", required=True)
    poll = commands.add_parser("poll")
    poll.add_argument("--processes", type=int, default=20)
    poll.add_argument("--jobs", type=int, default=500)
    poll.add_argument("--longest", type=float, default=10.0, help="seconds of the longest job")
    poll.add_argument("--interval", type=float)
    poll.add_argument("--plain", action="store_true", help="kill and stop nobody")
    soak = commands.add_parser("soak")
    soak.add_argument("--minutes", type=float, default=60.0)
    soak.add_argument("--processes", type=int, default=6)
    given = parser.parse_args(arguments)
    if not namespaces.inside():
        why = namespaces.why_not()
        if why is not None:
            print(f"scripts/lab {given.command} {why}", file=sys.stderr)
            return 2
        command = [sys.executable, "-m", "tests.lab.poll", *arguments]
        return subprocess.run(
            namespaces.command_line(command), cwd=CHECKOUT, check=False
        ).returncode
    if given.command == "poll":
        return _poll(given)
    from tests.lab.soak import soak as run_soak

    return run_soak(given.minutes, given.processes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

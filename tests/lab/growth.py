"""``scripts/lab growth``: what watching costs, from 10 jobs to 10,000 and from one host to 50.

A Slurm of shell programs plays the answers at full size; each row is measured in a process of its
own.  The jobs of one host are watched through a ``LocalConnection``, many hosts through as many
real sshd on loopback addresses.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openssh_jobs import Cluster, Connection, LocalConnection, parser
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.schedulers import get
from openssh_jobs.testing.sshd import PrivateSshd
from tests.paths import CHECKOUT

_INTERVAL = 0.2
_SQUEUE = """\
echo squeue >>"$0.log"
while [ "$1" != -o ]; do shift; done
sed "s/@@/${2%%|*}/g" "$0.rows"
"""
_SACCT = """\
echo sacct >>"$0.log"
for word; do
  case $last in -j) jobs=$word ;; esac
  case $word in --delimiter=*) d=${word#--delimiter=} ;; esac
  last=$word
done
when=2026-01-01T08:00:00
printf '%s\\n' "$jobs" | tr , '\\n' | awk -v d="$d" -v t="$when" '{
  print $0 d $0 d "COMPLETED" d "0:0" d "u" d "p" d "a" d 1 d "n1" d t d t d t d "00:00:01" d \
    "01:00:00" d "job" d }'
"""
_OTHER = 'echo "${0##*/}" >>"$0.log"\n'


class FakeSlurm:
    """Programs in ``directory`` that print what Slurm's print of the jobs in ``states``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        for name, text in (
            ("squeue", _SQUEUE),
            ("sacct", _SACCT),
            ("scancel", _OTHER),
            ("scontrol", _OTHER),
            ("sbatch", _OTHER),
        ):
            path = directory / name
            path.write_text(f"#!/bin/sh\n{text}")
            path.chmod(0o755)
        self.show({})

    def show(self, states: Mapping[str, str]) -> None:
        """From now on ``squeue`` lists these jobs."""
        rows = directory_rows(states)
        new = self.directory / "new"
        new.write_text(rows)
        new.replace(self.directory / "squeue.rows")

    @property
    def prologue(self) -> str:
        return f"PATH='{self.directory}':$PATH"

    def commands(self) -> int:
        """How many of its programs were run."""
        logs = self.directory.glob("*.log")
        return sum(len(log.read_text().splitlines()) for log in logs)


def directory_rows(states: Mapping[str, str]) -> str:
    """Rows of squeue; ``@@`` stands for the mark."""
    times = "2026-01-01T08:00:00|2026-01-01T08:00:00|2026-01-01T09:00:00"
    return "".join(
        f"@@|{job_id}|{job_id.rpartition('_')[2]}|{state}|u|part|n[1-4]|4|{times}|"
        f"{time.monotonic() % 3600:.0f}|1:00:00|@@|None|@@|acct|@@|/home/u/runs/{job_id}|@@|"
        f"job-{job_id}\n"
        for job_id, state in states.items()
    )


def status_lines() -> dict[str, int]:
    """Memory (kB) and threads of this process."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "Threads"):
            found[name] = int(value.split()[0])
    return found


class Commits:
    """Counts the transactions of a journal that were synced."""

    def __init__(self, journal: Journal) -> None:
        journal.rows("")
        connection = journal.file._connection
        assert connection is not None
        self.count, self._brief = 0, False
        connection.set_trace_callback(self._note)

    def _note(self, text: str) -> None:
        if "synchronous=" in text:
            self._brief = "NORMAL" in text
        self.count += text.startswith("COMMIT") and not self._brief


class Cost:
    """CPU seconds, commands, synced transactions and round trips since the last look."""

    def __init__(self, slurm: FakeSlurm, cluster: Cluster) -> None:
        self._slurm, self._cluster = slurm, cluster
        self._commits = Commits(cluster.journal)
        self.look()

    def look(self) -> dict[str, float]:
        """The cost since the last look."""
        now = (
            time.process_time(),
            self._slurm.commands(),
            self._commits.count,
            self._cluster.connection.stats().commands,
        )
        before = getattr(self, "_before", now)
        self._before = (time.process_time(), *now[1:])
        names = ("cpu", "commands", "commits", "trips")
        return {name: a - b for name, a, b in zip(names, now, before, strict=True)}


def _poll(cluster: Cluster, ids: list[str]) -> None:
    """One query, as soon as it is due."""
    before = cluster.queries
    while cluster.queries == before:
        time.sleep(_INTERVAL)
        if cluster.internal.poller.seconds_until_due(_INTERVAL) <= 0:
            cluster.status(ids)


def measure_jobs(count: int, form: str, directory: Path) -> dict[str, Any]:
    """One host with so many jobs, or one array of so many elements."""
    slurm = FakeSlurm(directory / "slurm")
    ids = [f"77_{n}" if form == "array" else str(1000 + n) for n in range(count)]
    states = dict.fromkeys(ids, "RUNNING")
    slurm.show(states)
    empty = status_lines()["VmRSS"]
    with Cluster(
        LocalConnection(),
        scheduler="slurm",
        poll_interval=_INTERVAL,
        login_shell=False,
        prologue=slurm.prologue,
        journal=str(directory / "journal.sqlite"),
    ) as cluster:
        jobs = [cluster.job(job_id) for job_id in ids]
        cost = Cost(slurm, cluster)
        _poll(cluster, ids)
        first = cost.look()
        same = []
        for _ in range(3):
            slurm.show(states)
            cost.look()
            _poll(cluster, ids)
            same.append(cost.look())
        parsing = [_parse_time(slurm) for _ in range(3)]
        threads = status_lines()["Threads"]
        slurm.show(dict.fromkeys(ids[count // 2 :], "RUNNING"))
        cost.look()
        _poll(cluster, ids)
        half = cost.look()
        cluster.cancel(ids[count // 2 :])
        cancel = cost.look()
        slurm.show({})
        ended = [job.id for job in cluster.as_completed(jobs, timeout=120)]
        end = cost.look()
        assert sorted(ended) == sorted(ids)
        quiet = sum(path.stat().st_size for path in directory.glob("journal.sqlite*"))
        return {
            "count": count, "form": form, "first": first, "same": min(same, key=lambda c: c["cpu"]),
            "parsing": min(parsing), "half": half, "cancel": cancel, "end": end,
            "memory": status_lines()["VmRSS"] - empty, "threads": threads, "journal": quiet // 1024,
        }  # fmt: skip


def _parse_time(slurm: FakeSlurm) -> float:
    """CPU seconds to parse the answer to a query."""
    script = get("slurm").status_script(["1"])
    environment = {**os.environ, "PATH": f"{slurm.directory}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env=environment, check=True,
    )  # fmt: skip
    began = time.process_time()
    parser.parse_status(done.stdout, "slurm")
    return time.process_time() - began


# -- hosts --------------------------------------------------------------------------------------


def measure_hosts(count: int, seconds: float, directory: Path) -> dict[str, Any]:
    """So many hosts with 100 jobs each, each waited for by a thread, for some time."""
    slurm = FakeSlurm(directory / "slurm")
    ids = [str(1000 + n) for n in range(100)]
    slurm.show(dict.fromkeys(ids, "RUNNING"))
    with contextlib.ExitStack() as stack:
        # An sshd listens on 16 addresses at most.
        servers = [
            stack.enter_context(
                PrivateSshd(directory / f"sshd-{n}", alias=f"h{n}", address=f"127.0.0.{n}")
            )
            for n in range(2, count + 2)
        ]
        clusters = [
            Cluster(
                Connection(server.alias, ssh_config=str(server.config)),
                scheduler="slurm",
                login_shell=False,
                prologue=slurm.prologue,
                journal=str(directory / "journal.sqlite"),
            )
            for server in servers
        ]
        try:
            return _wait_for_all(clusters, ids, seconds, slurm, servers)
        finally:
            for cluster in clusters:
                cluster.connection.close(stop_master=True)
                cluster.journal.close()


def _wait_for_all(
    clusters: list[Cluster],
    ids: list[str],
    seconds: float,
    slurm: FakeSlurm,
    servers: list[PrivateSshd],
) -> dict[str, Any]:
    for cluster in clusters:
        cluster.status(ids)
    asked, began = slurm.commands(), time.process_time()

    def wait(cluster: Cluster) -> None:
        try:
            cluster.wait(ids, timeout=seconds)
        except TimeoutError:
            return

    threads = [threading.Thread(target=wait, args=(cluster,)) for cluster in clusters]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, status_lines()["Threads"])
        time.sleep(0.5)
    return {
        "count": len(clusters), "seconds": seconds, "cpu": time.process_time() - began,
        "commands": slurm.commands() - asked, "threads": most,
        "logins": sum(server.logins() for server in servers),
        "memory": status_lines()["VmRSS"], "descriptors": len(os.listdir("/proc/self/fd")),
    }  # fmt: skip


# -- an idle connection ---------------------------------------------------------------------------


def measure_idle(seconds: float, directory: Path) -> dict[str, Any]:
    """The CPU time of an open connection that does nothing, and of a wait for one job."""
    slurm = FakeSlurm(directory / "slurm")
    slurm.show({"1000": "RUNNING"})
    with PrivateSshd(directory / "sshd") as server:
        connection = Connection(server.alias, ssh_config=str(server.config))
        connection.run("true")
        master = connection.check().master
        before = time.process_time(), _cpu_of(master)
        time.sleep(seconds)
        after = time.process_time(), _cpu_of(master)
        idle, of_master = (b - a for a, b in zip(before, after, strict=True))
        cluster = Cluster(
            connection, scheduler="slurm", login_shell=False, prologue=slurm.prologue,
            journal=str(directory / "journal.sqlite"),
        )  # fmt: skip
        job = cluster.job("1000")
        began, asked, first = time.process_time(), slurm.commands(), _cpu_of(master)
        try:
            job.wait(timeout=seconds)
        except TimeoutError:
            pass
        waited = time.process_time() - began
        facts = {
            "seconds": seconds, "idle": idle, "master": of_master, "wait": waited,
            "wait_master": _cpu_of(master) - first, "commands": slurm.commands() - asked,
        }  # fmt: skip
        connection.close(stop_master=True)
        cluster.journal.close()
        return facts


def _cpu_of(pid: int | None) -> float:
    """The CPU seconds of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the tables -----------------------------------------------------------------------------------


def _measured(*words: str) -> dict[str, Any]:
    """A row, measured in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="oj-growth-") as directory:
        environment = {
            **os.environ,
            "OPENSSH_JOBS_RUNTIME_DIR": f"{directory}/r",
            "XDG_STATE_HOME": f"{directory}/state",
            "OPENSSH_JOBS_CONFIG": f"{directory}/servers.toml",
        }
        Path(directory, "r").mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, "-m", "tests.lab.growth", *words, directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT,
            env=environment, check=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print_jobs(row: dict[str, Any]) -> None:
    same, end = row["same"], row["end"]
    print(
        f"{row['count']:>6} {row['form']:<6} parse {row['parsing']:.4f}  poll {same['cpu']:.4f} "
        f"({same['cpu'] / row['parsing']:.1f}x)  half gone {row['half']['cpu']:.3f}  "
        f"cancel {row['cancel']['cpu']:.3f}  end {end['cpu']:.3f}  MB {row['memory'] / 1024:.1f}  "
        f"threads {row['threads']}  journal kB {row['journal']}  "
        f"a poll: commands {same['commands']}, round trips {same['trips']}, "
        f"syncs {same['commits']}  half: {row['half']['commands']}/{row['half']['trips']}/"
        f"{row['half']['commits']}  cancel: {row['cancel']['commands']}/{row['cancel']['trips']}/"
        f"{row['cancel']['commits']}  end: {end['commands']}/{end['trips']}/{end['commits']}",
        flush=True,
    )


def main(arguments: list[str]) -> int:
    """``growth``; returns the exit code."""
    options = argparse.ArgumentParser(prog="scripts/lab growth")
    options.add_argument("--jobs", default="10,100,1000,10000")
    options.add_argument("--hosts", default="1,10,50")
    options.add_argument("--seconds", type=float, default=60, help="of the waits")
    given = options.parse_args(arguments[1:])
    for form in ("jobs", "array"):
        for count in filter(None, given.jobs.split(",")):
            _print_jobs(_measured("measure-jobs", count, form))
    for count in filter(None, given.hosts.split(",")):
        print("hosts", _measured("measure-hosts", count, str(given.seconds)), flush=True)
    print("idle", _measured("measure-idle", str(given.seconds)), flush=True)
    return 0


def _measure(words: list[str]) -> int:
    what, *values, place = words
    directory = Path(place)
    row: Callable[[], dict[str, Any]] = {
        "measure-jobs": lambda: measure_jobs(int(values[0]), values[1], directory),
        "measure-hosts": lambda: measure_hosts(int(values[0]), float(values[1]), directory),
        "measure-idle": lambda: measure_idle(float(values[0]), directory),
    }[what]
    print(json.dumps(row()))
    return 0


if __name__ == "__main__":
    sys.exit(_measure(sys.argv[1:]))

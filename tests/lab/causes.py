"""The table of causes, brought about on real schedulers: ``tests/data/causes.jsonl``.

``scripts/lab causes`` does all of them and prints the table; the suite does those of one function a
scheduler.  What is compared is the code, never words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openssh_jobs import Cluster, Job, JobState, JobStatus
from openssh_jobs.cli.card import Card
from openssh_jobs.cli.listed_job import ListedJob
from openssh_jobs.jobs.explanation import Explanation
from openssh_jobs.schedulers import get
from tests.lab import memory, namespaces
from tests.lab.endings import HUNGRY, fail_node, let_expire
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.network import Machine
from tests.lab.poll import site_with_slurm
from tests.lab.room import Room, open_room
from tests.lab.slurm import SlurmLab, in_place_of
from tests.paths import CHECKOUT, DATA

NODES = """\
NodeName=n3 NodeHostname=nowhere NodeAddr=127.0.0.1 Port=6841 CPUs=4 RealMemory=1000
NodeName=n4 NodeHostname=nowhere NodeAddr=127.0.0.1 Port=6842 CPUs=4 RealMemory=1000
Licenses=matlab:1
PartitionName=small Nodes=n1,n2 MaxNodes=1
PartitionName=later Nodes=n3
PartitionName=full Nodes=n2
PartitionName=spare Nodes=n3,n4
PartitionName=limits Nodes=n1
PartitionName=licensed Nodes=n1
"""
"""What the lab's Slurm needs beside its usual configuration (``SlurmLab(more=...)``)."""
_LIMITS = """\
add qos one set MaxJobsPerUser=1
add qos two set MaxTRESPerUser=cpu=2
add qos brief set MaxWall=00:10:00
add account single parent=science MaxJobs=1
add account double parent=science GrpTRES=cpu=2
add user {user} account=single QOS=normal MaxJobs=1
add user {user} account=double QOS=normal
modify user {user} where account=science set QOS+=one,two,brief
"""
_SLEEP = "exec sleep 300"


@dataclass(frozen=True, slots=True)
class Row:
    """One cause of the table: how it comes about, and the code that is expected."""

    id: str
    scheduler: str
    cause: str
    by: str
    how: str
    said: Mapping[str, Any] | None = None


def table(scheduler: str | None = None) -> list[Row]:
    """The rows, or those of one scheduler (as the table calls it)."""
    lines = (DATA / "causes.jsonl").read_text().splitlines()
    rows = [Row(**json.loads(line)) for line in lines]
    return [row for row in rows if scheduler in (None, row.scheduler)]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one row; no explanation where it could not be brought about here."""

    row: Row
    explanation: Explanation | None

    @property
    def cause(self) -> str | None:
        """The code that was found."""
        return None if self.explanation is None else str(self.explanation.cause)

    @property
    def is_right(self) -> bool:
        """Whether it is the expected one."""
        return self.cause == self.row.cause

    @property
    def is_wrong(self) -> bool:
        """Whether it is another one, and not "unknown"."""
        return self.cause not in (None, "unknown", self.row.cause)


def of_texts() -> list[Found]:
    """The rows that are the scheduler's own words."""
    found = []
    for row in table():
        if row.said is not None:
            said = dict(row.said)
            status = JobStatus("1", said.pop("state"), source="queue", **said)
            found.append(Found(row, get(row.scheduler).explained(status)))
    return found


# --------------------------------------------------------------------------- the jobs


class _Jobs:
    """Jobs by the id of their row, submitted many at once."""

    def __init__(self, room: Room) -> None:
        self.room, self.jobs = room, dict[str, Job]()
        self._specs: list[tuple[str, dict[str, Any]]] = []

    def add(self, name: str, text: str = _SLEEP, *options: str, **asked: Any) -> None:
        """One more for the next ``submit``."""
        asked = {"directory": self.room.here, "time_limit": "0:05:00", **asked}
        asked["script_text"] = f"#!/bin/sh\n{text}\n"
        if options:
            asked["options"] = list(options)
        self._specs.append((name, asked))

    def submit(self) -> None:
        """Submit what was added."""
        specs, self._specs = self._specs, []
        for (name, _), job in zip(
            specs, self.room.cluster.submit_many([spec for _, spec in specs]), strict=True
        ):
            self.jobs[name] = job

    def id(self, name: str) -> str:
        return self.jobs[name].id

    def until(self, names: Iterable[str], state: JobState) -> None:
        """Wait until all of these are in a state."""
        names = list(names)

        def there() -> bool:
            known = self.room.cluster.status([self.id(name) for name in names])
            return all(known[self.id(name)].state == state for name in names)

        self.room.until(self.jobs[names[0]], there, state)

    def explained(self, names: Mapping[str, str] | None = None) -> dict[str, Explanation]:
        """What is explained now, by the id of the row; ``names``: other job ids for some."""
        ids = {name: job.id for name, job in self.jobs.items()} | dict(names or {})
        cluster: Cluster = self.room.cluster
        snapshot = cluster.status(list(ids.values()))
        found = cluster.internal.explain([snapshot[job_id] for job_id in ids.values()])
        return {name: found[job_id] for name, job_id in ids.items()}


def _compared(
    scheduler: str, explained: Callable[[], dict[str, Explanation]], patience: float
) -> list[Found]:
    """The rows of a scheduler, when all are right or no more patience is left."""
    deadline = time.monotonic() + patience
    while True:
        known = explained()
        found = [
            Found(row, known[row.id])
            for row in table(scheduler)
            if row.by == "real" and row.id in known
        ]
        if all(one.is_right for one in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


# --------------------------------------------------------------------------- Slurm


def _prepare(lab: SlurmLab, user: str) -> None:
    """Limits of the user, a node that is drained, one that is down, and a reservation."""
    limits = [*lab.machine.enter, "sacctmgr", "--immediate"]
    said = subprocess.run(
        limits,
        input=_LIMITS.format(user=user),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "rror" not in said.stderr + said.stdout, said.stdout + said.stderr
    lab.command("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=disk")
    lab.command("scontrol", "update", "NodeName=n4", "State=DOWN", "Reason=power")
    lab.command("scontrol", "create", "reservation", "ReservationName=course", "Nodes=n1",
                f"Users={user}", "StartTime=now+2days", "Duration=60")  # fmt: skip


def _submit_first(jobs: _Jobs, *, limits_memory: bool, long: bool) -> None:
    n1 = ("-w", "n1")
    jobs.add("runs", _SLEEP, *n1)
    jobs.add("exit-code", "exit 3", *n1)
    jobs.add("signal", "kill -9 $$", *n1)
    jobs.add("completed", "true", *n1)
    jobs.add("output-unwritable", "true", *n1, "--output=/etc/passwd/x")
    jobs.add("cancelled-user", _SLEEP, *n1)
    jobs.add("cancelled-admin", _SLEEP, *n1)
    jobs.add("cancelled-pending", hold=True)
    jobs.add("requeued", _SLEEP, *n1, "--requeue")
    jobs.add("requeued-held", _SLEEP, *n1, "--requeue")
    jobs.add("preempted", _SLEEP, "-w", "n2", "--exclusive", queue="full")
    jobs.add("held-user", hold=True)
    jobs.add("held-admin", _SLEEP, "--begin=now+1hour")
    jobs.add("begin", "true", "--begin=now+1hour")
    jobs.add("partition-time", queue="short", time_limit="1:00:00")
    jobs.add("partition-nodes", queue="small", nodes=2)
    jobs.add("partition-down", queue="closed")
    jobs.add("partition-inactive", queue="later")
    jobs.add("node-drained", "true", "-w", "n3", queue="spare")
    jobs.add("node-down", "true", "-w", "n4", queue="spare")
    jobs.add("qos-first", qos="one", queue="limits")
    jobs.add("qos-jobs", qos="one", queue="limits")
    jobs.add("qos-cpus", _SLEEP, "-n3", qos="two", queue="limits")
    jobs.add("qos-wall", qos="brief", time_limit="1:00:00", queue="limits")
    jobs.add("account-first", account="single", queue="limits")
    jobs.add("account-jobs", account="single", queue="limits")
    jobs.add("account-cpus", _SLEEP, "-n3", account="double", queue="limits")
    jobs.add("licenses-first", _SLEEP, "-L", "matlab:1", queue="licensed")
    jobs.add("licenses", _SLEEP, "-L", "matlab:1", queue="licensed")
    jobs.add("reservation", _SLEEP, reservation="course")
    jobs.add("array-throttle", _SLEEP, *n1, array="0-3%1")
    if limits_memory:
        jobs.add("out-of-memory", HUNGRY, *n1, memory="50M")
    if long:
        jobs.add("time-limit", _SLEEP, *n1)
    jobs.submit()


def _submit_others(jobs: _Jobs) -> None:
    """Jobs that wait for others or for free cores, when the full node is taken."""
    failed = jobs.jobs["exit-code"]
    jobs.add("resources", "true", "-n16", queue="full")
    jobs.add("dependency", after_ok=[jobs.jobs["runs"]])
    jobs.add("dependency-never", after_ok=[failed])
    jobs.add("dependency-killed", _SLEEP, "--kill-on-invalid-dep=yes", after_ok=[failed])
    jobs.submit()
    jobs.add("priority", "true", "-n16", queue="full")
    jobs.add("deadline", "true", "-n16", "--deadline=now+65seconds",
             queue="full", time_limit="0:01:00")  # fmt: skip
    jobs.submit()


def _act(jobs: _Jobs, lab: SlurmLab, user: str) -> None:
    root = lab.command
    root("scontrol", "hold", jobs.id("held-admin"))
    root("scontrol", "update", "PartitionName=later", "State=INACTIVE")
    root("scancel", jobs.id("cancelled-user"), jobs.id("cancelled-pending"), user=user)
    root("scancel", jobs.id("cancelled-admin"))
    root("scontrol", "requeue", jobs.id("requeued"))
    root("scontrol", "requeuehold", jobs.id("requeued-held"))


def of_slurm(room: Room, lab: SlurmLab, *, long: bool = False) -> list[Found]:
    """Those of Slurm with accounting.  ``long``: also those that take half a minute and more."""
    user = room.host.user
    _prepare(lab, user)
    jobs = _Jobs(room)
    _submit_first(jobs, limits_memory=lab.limits_memory, long=long)
    jobs.until(("runs", "preempted", "cancelled-user", "cancelled-admin"), JobState.RUNNING)
    jobs.until(("requeued", "requeued-held"), JobState.RUNNING)
    jobs.until(("exit-code",), JobState.FAILED)
    if long:
        jobs.until(("time-limit",), JobState.RUNNING)
        let_expire(lab, jobs.id("time-limit"))
    _submit_others(jobs)
    _act(jobs, lab, user)
    element = {"array-throttle": f"{jobs.id('array-throttle')}_3"}
    name, later = "slurm with slurmdbd", {"preempted", "node-fail", "deadline", "time-limit"}

    def now() -> dict[str, Explanation]:
        known = jobs.explained(element)
        return {row: one for row, one in known.items() if row not in later}

    found = _compared(name, now, 15)
    # A job takes the full node, and then the node fails.
    jobs.add("node-fail", _SLEEP, "-w", "n2", "-n16", "--no-requeue", queue="urgent")
    jobs.submit()
    jobs.until(("node-fail",), JobState.RUNNING)
    fail_node(lab, "n2")

    def then() -> dict[str, Explanation]:
        return {row: one for row, one in jobs.explained().items() if row in later}

    return found + _compared(name, then, 60 if long else 10)


def of_plain_slurm(room: Room, lab: SlurmLab) -> list[Found]:
    """Those of Slurm without accounting."""
    jobs = _Jobs(room)
    jobs.add("runs", _SLEEP, "-w", "n2", "--exclusive")
    jobs.add("plain-exit-code", "exit 3", "-w", "n1")
    jobs.add("plain-signal", "kill -9 $$", "-w", "n1")
    jobs.add("plain-cancelled", _SLEEP, "-w", "n1")
    jobs.add("plain-held", hold=True)
    jobs.add("plain-partition-time", queue="short", time_limit="1:00:00")
    jobs.submit()
    jobs.until(("runs", "plain-cancelled"), JobState.RUNNING)
    jobs.add("plain-dependency", after_any=[jobs.jobs["runs"]])
    jobs.add("plain-resources", _SLEEP, nodes=2, options=["--exclusive"])
    jobs.submit()
    lab.command("scancel", jobs.id("plain-cancelled"), user=room.host.user)
    found = _compared("slurm", jobs.explained, 15)
    snapshot = room.cluster.status([job.id for job in jobs.jobs.values()])
    before = room.cluster.internal.connection.stats().commands
    room.cluster.internal.explain(list(snapshot.known.values()))
    after = room.cluster.internal.connection.stats().commands
    assert after - before == 1, "more than one round trip for all cards"
    return found


# --------------------------------------------------------------------------- Grid Engine, direct


def of_grid_engine(room: Room, lab: GridEngineLab) -> list[Found]:
    """Those of Grid Engine."""
    user, jobs = room.host.user, _Jobs(room)

    def add(name: str, text: str = _SLEEP, *options: str, **asked: Any) -> None:
        jobs.add(name, text, *options, **{"time_limit": None, **asked})

    add("runs")
    add("sge-slot", _SLEEP, queue="short.q")
    add("sge-held", hold=True)
    add("sge-held-admin")
    add("sge-begin", _SLEEP, "-a", "203001010000")
    add("sge-resource", _SLEEP, "-l", "arch=nosuch", "-w", "n")
    add("sge-no-queue", _SLEEP, "-l", "num_proc=999", "-w", "n")
    add("sge-queue-time", _SLEEP, "-w", "n", queue="short.q", time_limit="1:00:00")
    add("sge-exit-code", "exit 3")
    add("sge-signal", "kill -9 $$")
    add("sge-exit-100", "exit 100")
    add("sge-no-directory", "true", "-wd", "/nonexistent/place")
    add("sge-h_rt", _SLEEP, time_limit="0:00:02")
    add("sge-qdel")
    add("sge-array-throttle", _SLEEP, "-tc", "1", array="1-3")
    skipped = {"sge-held-admin"}
    jobs._specs = [spec for spec in jobs._specs if spec[0] not in skipped]
    jobs.submit()
    jobs.until(("runs", "sge-slot", "sge-qdel"), JobState.RUNNING)
    add("sge-full", queue="short.q")
    add("sge-dependency", after_any=[jobs.jobs["runs"]])
    add("sge-held-admin", hold=True)
    jobs.submit()
    lab.command("qhold", "-h", "o", jobs.id("sge-held-admin"))
    lab.command("qrls", "-h", "u", jobs.id("sge-held-admin"), user=user)
    jobs.jobs["sge-qdel"].cancel()
    element = {"sge-array-throttle": f"{jobs.id('sge-array-throttle')}.3"}
    found = _compared("sge", lambda: jobs.explained(element), 20)
    add("sge-queue-disabled", queue="short.q")
    lab.command("qmod", "-d", "short.q")
    try:
        lab.command("qdel", jobs.id("sge-slot"), check=False)
        jobs.submit()
        only = jobs.jobs["sge-queue-disabled"]

        def disabled() -> dict[str, Explanation]:
            return {"sge-queue-disabled": room.cluster.internal.explain([only.status()])[only.id]}

        return found + _compared("sge", disabled, 10)
    finally:
        lab.command("qmod", "-e", "short.q")


def of_direct(room: Room) -> list[Found]:
    """Those of jobs without a scheduler."""
    jobs = _Jobs(room)
    for name, text in (
        ("direct-completed", "true"),
        ("direct-exit-code", "exit 3"),
        ("direct-signal", "kill -9 $$"),
        ("direct-cancelled", _SLEEP),
        ("direct-killed", _SLEEP),
        ("direct-restarted", _SLEEP),
    ):
        jobs.add(name, text, time_limit=None)
    jobs.add("direct-time-limit", time_limit="0:00:01")
    jobs.submit()
    jobs.until(("direct-cancelled", "direct-killed", "direct-restarted"), JobState.RUNNING)
    jobs.jobs["direct-cancelled"].cancel()
    records = room.host.home / ".openssh_jobs" / "direct"
    for name in ("direct-killed", "direct-restarted"):
        record = records / jobs.id(name)
        facts = dict(line.split(" ", 1) for line in (record / "start").read_text().splitlines())
        for key in ("pid", "child"):
            number = facts.get(key, "").split(" ")[0]
            if number.isdigit():
                os.kill(int(number), signal.SIGKILL)
        if name == "direct-restarted":
            text = (record / "start").read_text()
            (record / "start").write_text(text.replace(facts["boot"], "another-boot"))
    return _compared("direct", jobs.explained, 15)


# -- scripts/lab causes --------------------------------------------------------------------------


def _all() -> list[Found]:
    """Every row, one scheduler after the other."""
    with site_with_slurm() as (site, plain):
        assert site.network is not None
        host, place = site.host("direct"), namespaces.LAB / "causes"
        place.mkdir()
        found = of_texts()
        with open_room(host, "direct", None, _new(place / "direct")) as room:
            found += of_direct(room)
        with open_room(host, "slurm", plain, _new(place / "plain")) as room:
            found += of_plain_slurm(room, plain)
        lab = accounting_lab(namespaces.LAB / "accounting", site.network.login)
        with (
            in_place_of(plain, lab),
            open_room(host, "slurm", lab, _new(place / "accounting")) as room,
        ):
            found += of_slurm(room, lab, long=True)
        grid = GridEngineLab(namespaces.LAB / "gridengine", site.network.login)
        try:
            grid.start()
            with open_grid_room(host, grid, _new(place / "sge")) as room:
                found += of_grid_engine(room, grid)
        finally:
            grid.stop()
    return found


def accounting_lab(directory: Path, machine: Machine) -> SlurmLab:
    """A Slurm with accounting, and with limits of every kind; it is not started yet."""
    return SlurmLab(
        directory,
        machine,
        accounting=True,
        cpus=16,
        limits_memory=memory.why_not() is None,
        preempts=True,
        more=NODES,
    )


def _new(path: Path) -> Path:
    path.mkdir()
    return path


def report(found: Sequence[Found]) -> str:
    """The table, its sentences, and the counts."""
    lines = []
    for one in found:
        verdict = "right" if one.is_right else "WRONG" if one.is_wrong else "unknown"
        lines.append(
            f"{verdict:8}{one.row.scheduler:21}{one.row.id:24}{one.row.cause:27}"
            f"{'' if one.is_right else one.cause}"
        )
        if one.explanation is not None:
            lines.append(f"        {one.explanation.sentence}")
    left = {row.id for row in table()} - {one.row.id for one in found}
    lines.append(
        f"{len(found)} causes: {sum(one.is_right for one in found)} right, "
        f"{sum(one.is_wrong for one in found)} wrong, the others unknown; "
        f"not brought about here: {', '.join(sorted(left)) or 'none'}"
    )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """``causes [--cards]``: all of the table; 1 if less than 95 % are right, or any is wrong."""
    if not namespaces.inside():
        why = namespaces.why_not()
        if why is not None:
            print(f"scripts/lab causes {why}", file=sys.stderr)
            return 2
        command = [sys.executable, "-m", "tests.lab.causes", *arguments]
        inside = namespaces.command_line(command)
        return subprocess.run(inside, cwd=CHECKOUT, check=False).returncode
    found = _all()
    print(report(found))
    if "--cards" in arguments:
        for one in found:
            if one.explanation is not None:
                job = ListedJob.of_status("hpc", one.explanation.status)
                print("", *Card(job=job, explanation=one.explanation).lines(80), sep="\n")
    is_good = sum(one.is_right for one in found) >= 0.95 * len(found)
    return 0 if is_good and not any(one.is_wrong for one in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A wave: some submissions of each account, one fault at a random moment, and what came of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.once.client import script
from tests.once.world import CLOCKS, LIMIT, MIN_JOB_AGE, Account, World
from tests.paths import CHECKOUT

_CLIENT_PATIENCE = 200.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens: ``make``, and ``mend`` after ``lasts`` seconds.

    ``when``: seconds from the start of the submissions, at most; ``claimed``: as soon as one has
    its claim.  ``kills``: the clients; ``twice``: two clients have the same tokens; ``other``: the
    second login node recovers; ``old``: only when the queue has forgotten; ``full``: the disk of
    the ``host`` or of the ``client``.
    """

    name: str
    make: Callable[[World], None] | None = None
    mend: Callable[[World], None] | None = None
    lasts: float = 0.0
    when: float = 3.0
    claimed: bool = False
    kills: bool = False
    twice: bool = False
    other: bool = False
    old: bool = False
    full: str = ""


def _freeze(world: World) -> None:
    assert world.slurm is not None
    world.slurm.controller.freeze()


def _thaw(world: World) -> None:
    assert world.slurm is not None
    world.slurm.controller.thaw()
    world.slurm.wait_until_ready()


def _stop(world: World) -> None:
    assert world.slurm is not None
    world.slurm.controller.stop()


def _start(world: World) -> None:
    assert world.slurm is not None
    world.slurm.controller.start()
    world.slurm.wait_until_ready()


def _cut(world: World) -> None:
    world.network.direct_cable.cut()


def _mend(world: World) -> None:
    world.network.direct_cable.mend()


def _fill_host(world: World) -> None:
    for account in world.accounts:
        world.fill(account.full)


def _empty_host(world: World) -> None:
    for account in world.accounts:
        world.empty(account.full)


FAULTS = (
    Fault(name="the client is killed", kills=True),
    Fault(name="the master is killed", make=World.kill_masters),
    Fault(name="sshd's sessions are killed", make=World.kill_sessions),
    Fault(name="the remote shells and sbatch are killed", make=World.kill_remote, claimed=True),
    Fault(name="the cable is cut after a claim", make=_cut, mend=_mend, lasts=6, claimed=True),
    Fault(name="slurmctld hangs (Socket timed out)", make=_freeze, mend=_thaw, lasts=8),
    Fault(name="slurmctld is away", make=_stop, mend=_start, lasts=4),
    Fault(name="two processes, one token", twice=True),
    Fault(name="killed; recovery from another node", kills=True, other=True),
    Fault(name="the host's disk is full", make=_fill_host, mend=_empty_host, lasts=3,
          full="host"),
    Fault(name="the client's disk is full", make=lambda world: world.fill(world.local),
          mend=lambda world: world.empty(world.local), lasts=3, full="client"),
    Fault(name="all killed; MinJobAge is over", make=World.kill_remote, kills=True, old=True,
          claimed=True),
)  # fmt: skip


@dataclass
class Result:
    """What came of the submissions of one fault."""

    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.counts.update(other.counts)
        self.troubles += other.troubles


class Wave:
    """One wave.  ``size``: submissions of each account."""

    def __init__(
        self, world: World, fault: Fault, number: int, size: int, *, plain: bool, record: Any
    ) -> None:
        self.world, self.fault, self.number, self.plain = world, fault, number, plain
        self.record = record
        self.by_recover = number % 2 == 0
        self.random = random.Random(f"{fault.name} {number}")
        self.work = world.directory / f"w{number}"
        self.work.mkdir()
        self.names = {
            account.user: [f"w{number}-{account.user[3]}{one}" for one in range(size)]
            for account in world.accounts
        }
        self.result = Result()
        self.said: dict[str, list[list[str]]] = {}

    # -- the processes ----------------------------------------------------------------------------

    def _journal(self, account: Account) -> Path:
        top = self.world.local if self.fault.full == "client" else self.work
        return top / f"journal-{account.user}"

    def _directory(self, account: Account, name: str) -> str:
        top = account.full if self.fault.full == "host" else account.home
        return f"{top}/jobs/{name}"

    def _start(self, account: Account, *, recover: bool | None, other: bool = False) -> Any:
        label = f"{account.user}-{time.monotonic_ns()}"
        # A login that has failed is not tried again by itself: after the fault a new directory.
        runtime = (
            self.world.directory / f"r{self.number}{account.user[3]}{int(recover is not None)}"
        )
        runtime.mkdir(mode=0o700, exist_ok=True)
        ready = self.work / f"{label}.ready"
        asked = {
            "config": str((account.other if other else account.door).config),
            "journal": str(self._journal(account)),
            "prologue": self.world.prologue,
            "log": str(self.work / "log"),
            "limit": LIMIT,
            "clocks": CLOCKS,
            "ready": str(ready),
            "recover": bool(recover),
            "record_exit": self.record,
            "submissions": [
                {
                    "token": name,
                    "directory": self._directory(account, name),
                    "ledger": str(self.world.ledgers / name),
                    "delay": 0 if recover is not None else self.random.uniform(0, 2),
                }
                for name in self.names[account.user]
            ],
        }
        environment = {**os.environ, "OPENSSH_JOBS_RUNTIME_DIR": str(runtime)}
        environment["XDG_STATE_HOME"] = str(self.work / "state")
        output = self.work / f"{label}.out"
        with output.open("wb") as said, (self.work / "errors").open("ab") as errors:
            client = subprocess.Popen(
                [sys.executable, "-m", "tests.once.client"], stdin=subprocess.PIPE, stdout=said,
                stderr=errors, env=environment, cwd=CHECKOUT,
            )  # fmt: skip
        assert client.stdin is not None
        client.stdin.write(json.dumps(asked).encode())
        client.stdin.close()
        return client, ready, output, account

    def _plain(self, account: Account, name: str, stop: threading.Event) -> None:
        """What people write: try until an id comes."""
        time.sleep(self.random.uniform(0, 2))
        top = self.world.local if self.fault.full == "client" else self.work
        kept = top / f"{name}.id"
        line = f"mkdir -p {self._directory(account, name)} && cd $_ && cat >job && "
        line += f"{self.world.prologue}; sbatch job"
        ssh = [
            "ssh", "-F", str(account.door.config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
            "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "hpc", line,
        ]  # fmt: skip
        for _ in range(10):
            if stop.is_set():
                return
            with subprocess.Popen(
                ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                watch = threading.Thread(target=_kill_if, args=(stop, process), daemon=True)
                watch.start()
                said, _ = process.communicate(script(str(self.world.ledgers / name)).encode())
            if process.returncode == 0 and said.startswith(b"Submitted batch job "):
                try:
                    kept.write_bytes(said.split()[3])
                    return
                except OSError:
                    pass
            time.sleep(1)

    # -- what happens -----------------------------------------------------------------------------

    def run(self) -> Result:
        """The submissions, the fault, the recovery, and the count."""
        if self.plain:
            self._run_plain()
        else:
            self._run_clients()
        self.world.wait_for_jobs()
        self._count()
        self.world.clean()
        for file in self.work.glob("journal*"):
            file.unlink()
        return self.result

    def _happen(self) -> None:
        """The fault, at its moment, and its end."""
        fault = self.fault
        if fault.claimed:
            deadline = time.monotonic() + 20
            pattern = f"jobs/w{self.number}-*/.openssh_jobs/*/attempt-1"
            while not self.plain and time.monotonic() < deadline:
                if any(any(one.home.glob(pattern)) for one in self.world.accounts):
                    break
                time.sleep(0.02)
            time.sleep(self.random.uniform(0.5, 2) if self.plain else self.random.uniform(0, 0.6))
        else:
            time.sleep(self.random.uniform(0.3, fault.when))
        if fault.make is not None:
            fault.make(self.world)

    def _mend(self) -> None:
        if self.fault.mend is not None:
            time.sleep(self.fault.lasts)
            self.fault.mend(self.world)

    def _run_clients(self) -> None:
        fault = self.fault
        clients = [
            self._start(account, recover=None)
            for account in self.world.accounts
            for _ in range(2 if fault.twice else 1)
        ]
        self._wait_ready(clients)
        self._happen()
        if fault.kills:
            for client, *_ in clients:
                client.kill()
        self._mend()
        self._end(clients)
        if fault.old:
            self.world.wait_for_jobs()
            time.sleep(MIN_JOB_AGE + 8)
        again = [
            self._start(one, recover=self.by_recover, other=fault.other)
            for one in self.world.accounts
        ]
        self._end(again)
        for _, _, output, _ in [*clients, *again]:
            for line in output.read_text().splitlines():
                words = json.loads(line)
                self.said.setdefault(words[0], []).append(words[1:])
        self._sort_ways()

    def _wait_ready(self, clients: list[Any]) -> None:
        deadline = time.monotonic() + 60
        while not all(ready.exists() for _, ready, *_ in clients):
            assert time.monotonic() < deadline, "clients that do not start"
            time.sleep(0.02)

    def _end(self, clients: list[Any]) -> None:
        deadline = time.monotonic() + _CLIENT_PATIENCE
        for client, *_ in clients:
            try:
                client.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                self.result.troubles.append("a client that does not end")

    def _run_plain(self) -> None:
        stop = threading.Event()
        for turn in ("with the fault", "again"):
            stop = threading.Event()
            threads = [
                threading.Thread(target=self._plain, args=(account, name, stop))
                for account in self.world.accounts
                for name in self.names[account.user]
                for _ in range(2 if self.fault.twice and turn != "again" else 1)
                if not self._plain_id(name)
            ]
            for thread in threads:
                thread.start()
            if turn != "again":
                self._happen()
                if self.fault.kills:
                    stop.set()
                self._mend()
            for thread in threads:
                thread.join()

    def _plain_id(self, name: str) -> str:
        top = self.world.local if self.fault.full == "client" else self.work
        kept = top / f"{name}.id"
        return kept.read_text() if kept.exists() else ""

    # -- the count --------------------------------------------------------------------------------

    def _sort_ways(self) -> None:
        log = self.work / "log"
        ways = {"is known by its files": "files", "was found by its token": "token",
                "has no job and is submitted again": "resubmitted",
                "has not been sent": "not sent"}  # fmt: skip
        for line in log.read_text().splitlines() if log.exists() else ():
            for words, way in ways.items():
                self.result.counts[way] += words in line

    def _count(self) -> None:
        counts = self.result.counts
        for user, names in self.names.items():
            known = {} if self.plain else self._known(user)
            for name in names:
                ran = self.world.ran(name)
                job_id = self._plain_id(name) if self.plain else known.get(name, "")
                counts["submissions"] += 1
                said = self.said.get(name, [])
                last = said[-1] if said else []
                is_unknown = not self.plain and last[:1] == ["SubmitUnknown"]
                counts["unknown"] += is_unknown
                counts["doubled"] += len(ran) > 1
                lost = not ran and not is_unknown
                counts["lost"] += lost
                wrong = bool(job_id) and job_id not in ran
                ids = {words[0] for words in said if words and words[0].isdigit()}
                wrong = wrong or bool(ids - {job_id})
                # The last call has to have brought the id that the journal has.
                wrong = wrong or (not self.plain and not is_unknown and last[:1] != [job_id])
                counts["misreported"] += wrong
                if not self.plain and (len(ran) > 1 or lost or wrong or is_unknown):
                    self.result.troubles.append(f"{name}: ran {ran}, journal {job_id!r}, {said}")

    def _known(self, user: str) -> dict[str, str]:
        from openssh_jobs.cluster.journal import Journal

        account = next(one for one in self.world.accounts if one.user == user)
        path = self._journal(account)
        if not path.exists():
            return {}
        journal = Journal(path)
        try:
            return {row.token: row.job_id or "" for row in journal.rows()}
        finally:
            journal.close()


def _kill_if(stop: threading.Event, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if stop.wait(0.05):
            process.kill()
            return


def remove(wave: Wave) -> None:
    """Its files, where nothing was wrong."""
    if not wave.result.troubles:
        shutil.rmtree(wave.work, ignore_errors=True)

"""A real Slurm of two nodes on one machine of the lab: munged, slurmctld, two slurmd.

Nothing of it is written outside of the lab's directory and the lab's own copy of ``/etc``; it is
never started anywhere else.  Up in about a second, without systemd, cgroups or a database.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openssh_jobs.testing.sshd import find_program
from tests.lab import namespaces
from tests.lab.memory import MemoryCgroup
from tests.lab.network import Machine

if TYPE_CHECKING:
    from tests.lab.slurmdbd import SlurmDatabase

CONFIG = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=slurm
SlurmctldPort=6817
SlurmctldPidFile={lab}/slurmctld.pid
SlurmctldLogFile={lab}/slurmctld.log
StateSaveLocation={lab}/state
SlurmdPidFile={lab}/slurmd-%n.pid
SlurmdLogFile={lab}/slurmd-%n.log
SlurmdSpoolDir={lab}/spool-%n
SlurmdParameters=config_overrides
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
{accounting}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
JobRequeue=0
KillWait=2
MinJobAge={remembers}
SlurmdTimeout=15
SlurmctldTimeout=15
MessageTimeout={timeout}
DefMemPerCPU=50
{nodes}
PartitionName=batch Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00
PartitionName=short Nodes=n1 MaxTime=00:05:00
PartitionName=closed Nodes=n2 State=DOWN
"""
_NO_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={lab}/jobcomp.log"""

_PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


class Daemon:
    """One daemon in the foreground of its own session; it can be stopped, frozen, started again."""

    def __init__(self, name: str, argv: list[str], log: Path, user: str | None = None) -> None:
        self.name, self.argv, self.user = name, argv, user
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; does not wait until it answers."""
        with self.log.open("ab") as words:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **self.environment()},
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                start_new_session=True,
                cwd="/",
            )

    def environment(self) -> dict[str, str]:
        """More environment, for those that need it."""
        return {}

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """It takes connections and never answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, *, number: int = signal.SIGTERM, patience: float = 5) -> None:
        """End it, with KILL after ``patience`` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def last_words(self) -> str:
        """The end of its log, for error messages."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-5:])


def wait_until(
    what: str, condition: Callable[[], bool], *daemons: Daemon, patience: float = 30
) -> None:
    """Wait for a condition; what the daemons said last goes into the error."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            words = "\n".join(daemon.last_words() for daemon in daemons)
            raise AssertionError(f"{what} did not come up in {patience:g} s:\n{words}")
        time.sleep(0.02)


class SlurmLab:
    """Slurm on one machine of the lab's network: nodes n1 and n2, partitions batch and short.

    ``controller``, ``nodes`` and ``munge`` are the daemons, for tests that stop them.  Ended jobs
    are remembered for ``remembers`` seconds (MinJobAge); ``timeout`` is MessageTimeout.  Without
    ``accounting`` sacct says so.  A node has ``cpus``; with ``limits_memory`` a job that takes more
    than its share is killed; with ``preempts`` a partition ``urgent`` takes the place of other
    jobs.  ``more``: more lines of slurm.conf.  Of several only one
    can run at a time; one that was stopped can be started again, with its jobs.
    """

    partitions = ("batch", "short", "closed")

    def __init__(
        self,
        directory: Path,
        machine: Machine,
        *,
        accounting: bool = False,
        remembers: int = 300,
        timeout: int = 5,
        cpus: int = 2,
        limits_memory: bool = False,
        preempts: bool = False,
        more: str = "",
    ) -> None:
        namespaces.require_own("Slurm")
        self._more = (_PREEMPTION if preempts else "") + more
        self.limits_memory = limits_memory
        self._remembers, self._timeout, self._cpus = remembers, timeout, cpus
        self._memory = MemoryCgroup(directory) if limits_memory else None
        self.directory, self.machine = directory, machine
        self.accounting = accounting
        self.database: SlurmDatabase | None = None
        self.munge = self._daemon(
            "munged",
            "--foreground",
            f"--key-file={directory}/munge/key",
            f"--seed-file={directory}/munge/seed",
            f"--pid-file={directory}/munge/pid",
            f"--log-file={directory}/munge/log",
            "--socket=/run/munge/munge.socket.2",
            user="munge",
        )
        self.controller = self._daemon("slurmctld", "-D")
        self.nodes = {name: self._daemon("slurmd", "-D", "-N", name) for name in ("n1", "n2")}

    def _daemon(self, program: str, *arguments: str, user: str | None = None) -> Daemon:
        # nsenter needs root, munged refuses it: the change of user comes after.
        change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        argv = [*self.machine.enter, *change, find_program(program), *arguments]
        name = "-".join([program, *arguments[2:3]]) if program == "slurmd" else program
        return Daemon(name, argv, self.directory / f"{name}.out")

    def start(self) -> None:
        """Bring it all up; returns when both nodes are idle."""
        self._write_files()
        if self._memory is not None:
            self._memory.mount()
        self.munge.start()
        self._wait("munged", lambda: Path("/run/munge/munge.socket.2").exists())
        if self.accounting:
            from tests.lab.slurmdbd import SlurmDatabase

            self.database = SlurmDatabase(self.directory, self.machine)
            self.database.start()
        self.controller.start()
        for node in self.nodes.values():
            node.start()
        self.wait_until_ready()
        if self.database is not None:
            self.database.add_users([name for name, _ in namespaces.USERS])

    def wait_until_ready(self, patience: float = 30) -> None:
        """Wait until every node that runs is idle or at work."""
        running = sum(node.running() for node in self.nodes.values())

        def ready() -> bool:
            states = self.command("sinfo", "-h", "-p", "batch", "-N", "-o", "%t", check=False)
            up = [state for state in states.split() if state in ("idle", "mix", "alloc", "comp")]
            return len(up) >= running

        self._wait("slurmctld", ready, patience)

    def command(self, *argv: str, user: str | None = None, check: bool = True) -> str:
        """The output of a Slurm command on the login node, not through ssh."""
        return self.machine.output(*argv, user=user, check=check)

    def _wait(self, what: str, condition: Callable[[], bool], patience: float = 30) -> None:
        daemons = (*self.nodes.values(), self.controller, self.munge)
        wait_until(what, condition, *daemons, patience=patience)

    def _write_files(self) -> None:
        lab = self.directory
        lab.mkdir(mode=0o755, parents=True, exist_ok=True)
        munge = lab / "munge"
        # munged wants every directory on the way to be nobody else's to write.
        for directory, owner in (
            (munge, "munge"),
            (Path("/run/munge"), "munge"),
            (lab / "state", "slurm"),
        ):
            directory.mkdir(mode=0o755, exist_ok=True)
            _give(directory, owner)
        if not (munge / "key").exists():
            (munge / "key").write_bytes(secrets.token_bytes(128))
            (munge / "key").chmod(0o400)
            _give(munge / "key", "munge")
        for log in ("jobcomp.log", "slurmctld.log"):
            (lab / log).touch()
            _give(lab / log, "slurm")
        if self.accounting:
            accounting = (
                "AccountingStorageType=accounting_storage/slurmdbd\n"
                "AccountingStorageHost=127.0.0.1\n"
                "AccountingStorageEnforce=associations,limits,qos"
            )
        else:
            accounting = _NO_ACCOUNTING.format(lab=lab)
        host = self.machine.name
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={6831 + number} "
            f"CPUs={self._cpus} RealMemory=1000"
            for number, name in enumerate(self.nodes)
        )
        etc = Path("/etc/slurm")
        etc.mkdir(exist_ok=True)
        for old in etc.glob("*.conf"):
            old.unlink()
        (etc / "slurm.conf").write_text(
            CONFIG.format(
                lab=lab,
                host=host,
                nodes=nodes,
                accounting=accounting,
                remembers=self._remembers,
                timeout=self._timeout,
                task="task/none" if self._memory is None else "task/cgroup",
            )
            + self._more
        )
        # Needed even where no cgroup is used and none is mounted.
        memory = "CgroupPlugin=cgroup/v1\n" if self._memory is None else self._memory.settings
        (etc / "cgroup.conf").write_text(memory)
        know_host("10.88.2.2", host)

    def stop(self) -> None:
        """End every daemon and every job."""
        for daemon in (*self.nodes.values(), self.controller):
            daemon.stop()
        end_jobs("slurmstepd")
        if self._memory is not None:
            self._memory.unmount()
        if self.database is not None:
            self.database.stop()
        self.munge.stop()


def _give(path: Path, owner: str) -> None:
    shutil.chown(path, owner, owner)


def know_host(address: str, name: str) -> None:
    """Enter a machine in the lab's own /etc/hosts."""
    namespaces.require_own("a line in /etc/hosts")
    hosts = Path("/etc/hosts")
    if f" {name}\n" not in hosts.read_text():
        with hosts.open("a") as file:
            file.write(f"{address} {name}\n")


def end_jobs(program: str) -> None:
    """End every process whose name begins with ``program``, and all below them.

    slurmstepd and sge_shepherd outlive their daemon on purpose; in our process namespace all of
    them are ours.
    """
    namespaces.require_own("the end of jobs")
    parents: dict[int, int] = {}
    doomed = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(
                Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
            )
            if Path(f"/proc/{name}/comm").read_text().startswith(program):
                doomed.add(int(name))
    growing = True
    while growing:
        more = {pid for pid, parent in parents.items() if parent in doomed} - doomed
        doomed |= more
        growing = bool(more)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def in_place_of(shared: SlurmLab, lab: SlurmLab) -> Iterator[SlurmLab]:
    """Another Slurm runs while the one that all tests share is down: their ports are the same."""
    shared.stop()
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()
        shared.start()

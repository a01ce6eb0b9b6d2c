"""Where the trials take place: two accounts on one login node with a Slurm, and a second node."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import namespaces
from tests.lab.network import Network
from tests.lab.slurm import SlurmLab
from tests.lab.sshd import Sshd

MESSAGE_TIMEOUT, MIN_JOB_AGE = 2, 60
LIMIT, CLOCKS = 20.0, 3.0
"""Shorter than usual, so that the trials end: of Slurm, and the deadline of an attempt."""
_SLOW = """\
#!/bin/sh
# Before and after the request there is time for something to happen.
sleep "$(awk 'BEGIN { srand('"$$"'); print rand() * 0.8 }')"
out=$(/usr/bin/sbatch "$@")
code=$?
sleep "$(awk 'BEGIN { srand('"$$"' + 7); print rand() * 0.8 }')"
[ -z "$out" ] || echo "$out"
exit $code
"""


@dataclass
class Account:
    """One user: two doors of the login node behind one alias, and where the files lie."""

    user: str
    door: Sshd
    other: Sshd
    home: Path
    full: Path

    @property
    def doors(self) -> tuple[Sshd, Sshd]:
        return self.door, self.other


class World:
    """The machines, and what can happen to them.  ``network``: one that is there already."""

    def __init__(self, directory: Path, network: Network | None = None) -> None:
        self.directory = directory
        self._own = Network() if network is None else None
        self.network: Network = network or self._own  # type: ignore[assignment]
        self.accounts: list[Account] = []
        self.slurm: SlurmLab | None = None
        self.directory.mkdir(mode=0o755)
        self.ledgers = self.directory / "ran"
        self.ledgers.mkdir()
        self.ledgers.chmod(0o1777)
        programs = self.directory / "bin"
        programs.mkdir()
        (programs / "sbatch").write_text(_SLOW)
        (programs / "sbatch").chmod(0o755)
        self.prologue = f"PATH={programs}:/usr/bin:/bin; export PATH"
        self.local = self.directory / "local"
        self._small(self.local, 0)
        for number, (user, _) in enumerate(namespaces.USERS):
            self._add_account(user, number)

    def _add_account(self, user: str, number: int) -> None:
        login = self.network.login.enter
        second = [*login, "unshare", "--uts", "sh", "-c", 'hostname login2; exec "$@"', "sh"]
        doors = []
        for name, port, enter in (("d", 2200, login), ("e", 2300, second)):
            door = Sshd(
                self.directory / f"{name}{number}", alias="hpc", user=user, address="10.88.3.2",
                port=port + number, private_home=False, enter=enter,
            )  # fmt: skip
            door.start()
            doors.append(door)
        home = namespaces.LAB / "home" / user
        full = home / "full"
        self._small(full, doors[0].uid)
        self.accounts.append(Account(user, doors[0], doors[1], home, full))

    def _small(self, path: Path, owner: int) -> None:
        """A file system that is soon full."""
        path.mkdir()
        size = ["-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", str(path)]
        subprocess.run(["mount", *size], check=True, timeout=20)
        os.chown(path, owner, owner)

    def make_slurm(self, *, accounting: bool = False) -> SlurmLab:
        """Another Slurm, with a new history; it is not started."""
        self.slurm = SlurmLab(
            self.directory / f"slurm{int(accounting)}",
            self.network.login,
            accounting=accounting,
            remembers=MIN_JOB_AGE,
            timeout=MESSAGE_TIMEOUT,
            cpus=8,
        )
        return self.slurm

    def stop_slurm(self) -> None:
        """The end of it, and of its jobs."""
        if self.slurm is not None:
            self.slurm.stop()
            self.slurm = None

    def stop(self) -> None:
        """The end of all."""
        self.stop_slurm()
        self.kill_masters()
        for account in self.accounts:
            for door in account.doors:
                door.kill_sessions()
                door.stop()
            shutil.rmtree(account.home / "jobs", ignore_errors=True)
        for path in (self.local, *(account.full for account in self.accounts)):
            subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=20)
            path.rmdir()
        if self._own is not None:
            self._own.stop()

    # -- what can happen --------------------------------------------------------------------------

    def kill_masters(self) -> None:
        """The ssh that all commands of a client ride on."""
        for file in self.directory.glob("r*/*.pid"):
            with contextlib.suppress(OSError, ValueError):
                _kill(int(file.read_text().split()[0]))

    def kill_sessions(self) -> None:
        """sshd's side of all connections."""
        for account in self.accounts:
            account.door.kill_sessions(signal.SIGKILL)

    def kill_remote(self) -> None:
        """All processes of the accounts on the login node, but for their jobs."""
        uids = {account.door.uid for account in self.accounts}
        for pid, line in _processes():
            with contextlib.suppress(OSError):
                mine = os.stat(f"/proc/{pid}").st_uid in uids
                if mine and b"slurm" not in line and not line.startswith(b"sshd"):
                    _kill(pid)

    def fill(self, path: Path) -> None:
        """Until nothing goes on it any more."""
        with contextlib.suppress(OSError), (path / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def empty(self, path: Path) -> None:
        """There is space again."""
        (path / "ballast").unlink(missing_ok=True)

    def wait_for_jobs(self, patience: float = 90) -> None:
        """Until no job waits or runs."""
        assert self.slurm is not None
        deadline = time.monotonic() + patience
        while self.slurm.command("squeue", "-h", "-a", "-o", "%i", check=False).strip():
            assert time.monotonic() < deadline, "jobs that do not end"
            time.sleep(0.3)

    def ran(self, name: str) -> list[str]:
        """The ids of the jobs that ran for a submission."""
        ledger = self.ledgers / name
        return ledger.read_text().split() if ledger.exists() else []

    def clean(self) -> None:
        """Remove what a wave has left on the small file systems."""
        for account in self.accounts:
            for path in account.full.iterdir():
                shutil.rmtree(path, ignore_errors=True)
        for path in self.local.iterdir():
            path.unlink()


def _processes() -> list[tuple[int, bytes]]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.append((int(name), Path(f"/proc/{name}/cmdline").read_bytes()))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

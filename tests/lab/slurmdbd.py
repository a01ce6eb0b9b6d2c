"""Accounting for the lab's Slurm: a private MariaDB without a network, and slurmdbd on it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from openssh_jobs.testing.sshd import find_program
from tests.lab import namespaces
from tests.lab.network import Machine
from tests.lab.slurm import Daemon, wait_until

CONFIG = """\
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=6819
SlurmUser=slurm
LogFile={lab}/slurmdbd.log
PidFile={lab}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageUser=slurm
StorageLoc=slurm_acct
"""


class SlurmDatabase:
    """mariadbd and slurmdbd on one machine of the lab."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        namespaces.require_own("a database")
        self.directory, self.machine = directory, machine
        self.socket = directory / "db" / "socket"
        self.mariadb = Daemon(
            "mariadbd",
            [
                find_program("mariadbd"),
                "--no-defaults",
                "--skip-networking",
                f"--datadir={directory}/db/data",
                f"--socket={self.socket}",
                f"--pid-file={directory}/db/pid",
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=32M",
                "--innodb-lock-wait-timeout=900",
                "--innodb-flush-log-at-trx-commit=0",
            ],
            directory / "mariadbd.out",
            user="slurm",
        )
        # slurmdbd has no setting for a socket; the client library reads this variable.
        self.daemon = Daemon(
            "slurmdbd",
            [
                "env",
                f"MYSQL_UNIX_PORT={self.socket}",
                *machine.enter,
                find_program("slurmdbd"),
                "-D",
            ],
            directory / "slurmdbd.out",
        )

    def start(self) -> None:
        """Make the database and start both."""
        home = self.directory / "db"
        home.mkdir(mode=0o755)
        shutil.chown(home, "slurm", "slurm")
        subprocess.run(
            [
                find_program("mariadb-install-db"),
                "--no-defaults",
                "--user=slurm",
                f"--datadir={home}/data",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        self.mariadb.start()
        wait_until("mariadbd", self.socket.exists, self.mariadb)
        statements = (
            "CREATE DATABASE slurm_acct; "
            "CREATE OR REPLACE USER slurm@localhost IDENTIFIED VIA unix_socket; "
            "GRANT ALL ON slurm_acct.* TO slurm@localhost;"
        )
        subprocess.run(
            [find_program("mariadb"), "--no-defaults", f"--socket={self.socket}"],
            input=statements.encode(),
            capture_output=True,
            timeout=30,
            check=True,
        )
        config = Path("/etc/slurm/slurmdbd.conf")
        config.write_text(CONFIG.format(lab=self.directory))
        config.chmod(0o600)
        shutil.chown(config, "slurm", "slurm")
        (self.directory / "slurmdbd.log").touch()
        shutil.chown(self.directory / "slurmdbd.log", "slurm", "slurm")
        self.daemon.start()
        wait_until("slurmdbd", self._answers, self.daemon)
        self._manage("add", "cluster", "lab")

    def add_users(self, users: list[str]) -> None:
        """One account with all users, and a qos that allows one of them two jobs at a time."""
        self._manage("add", "account", "science")
        self._manage("add", "qos", "tiny", "set", "MaxSubmitJobsPerUser=2", "Flags=DenyOnLimit")
        names = ",".join(users)
        self._manage(
            "add", "user", names, "Account=science", "QOS=normal,tiny", "DefaultQOS=normal"
        )

    def _answers(self) -> bool:
        return self._sacctmgr("list", "cluster").returncode == 0

    def _sacctmgr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.machine.enter, "sacctmgr", "--immediate", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _manage(self, *arguments: str) -> None:
        done = self._sacctmgr(*arguments)
        assert done.returncode == 0, f"sacctmgr {arguments}: {done.stdout}{done.stderr}"

    def stop(self) -> None:
        """End both."""
        self.daemon.stop()
        self.mariadb.stop(patience=15)

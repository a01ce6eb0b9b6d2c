"""Servers of ARC's settings, on a real sshd: each with its scheduler and a directory of a test."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, arc
from openssh_jobs.arc import SSHClient, settings
from tests.lab import wrappers
from tests.lab.gridengine import GridEngineLab
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

FLAVOURS = ("Slurm", "Slurm as ARC has it", "OGE as ARC has it", "PBS as ARC has it", "local")
SCRIPTS = {"Slurm": "submit.sl", "OGE": "submit.sh", "PBS": "submit.sh", "local": "submit.sh"}
NAME_OPTION = {"Slurm": "#SBATCH --job-name=", "OGE": "#$ -N ", "PBS": "#PBS -N "}


def as_arc_has_them(soft: str, directory: str, setup: str = "") -> dict[str, dict[str, str]]:
    """ARC's tables of commands word for word, but for where the programs of the lab lie."""
    if soft == "Slurm":
        return {
            "check_status_command": {"Slurm": "/usr/bin/squeue -u $USER"},
            "submit_command": {"Slurm": "/usr/bin/sbatch"},
            "delete_command": {"Slurm": "/usr/bin/scancel"},
            "list_available_nodes_command": {"Slurm": 'sinfo -o "%n %t %O %E"'},
            "submit_filenames": {"Slurm": "submit.sl"},
        }
    if soft == "OGE":
        begin = f"export SGE_ROOT={directory}; {directory}/bin"
        return {
            "check_status_command": {"OGE": f"{begin}/qstat -u $USER"},
            "submit_command": {"OGE": f"{begin}/qsub"},
            "delete_command": {"OGE": f"{begin}/qdel"},
            "list_available_nodes_command": {
                "OGE": f'{begin}/qstat -f | grep "/8 " | grep "all" | grep -v "8/8"| grep -v "aAu"'
            },
            "submit_filenames": {"OGE": "submit.sh"},
        }
    return {
        "check_status_command": {"PBS": f"{setup}; {directory}/bin/qstat -u $USER"},
        "submit_command": {"PBS": f"{setup}; {directory}/bin/qsub"},
        "delete_command": {"PBS": f"{setup}; {directory}/bin/qdel"},
        "list_available_nodes_command": {"PBS": f"{setup}; {directory}/bin/pbsnodes"},
        "submit_filenames": {"PBS": "submit.sh"},
    }


@dataclass
class Place:
    """A server of ARC's settings and a directory there."""

    host: Host
    path: Path
    soft: str
    slurm: SlurmLab | None = None
    grid: GridEngineLab | None = None
    server: str = "hpc"
    script: str = field(init=False)

    def __post_init__(self) -> None:
        self.script = SCRIPTS[self.soft]

    @property
    def here(self) -> str:
        return str(self.path)

    @property
    def entry(self) -> dict[str, Any]:
        return arc.servers[self.server]

    def client(self, **options: Any) -> SSHClient:
        return SSHClient(self.server, **{"connection_attempts": 1, **options})

    def make(self, name: str, text: str = "", mode: int = 0o644) -> str:
        self.host.make(f"{self.path.name}/{name}", text.encode(), mode)
        return f"{self.here}/{name}"

    def program(self, name: str, text: str) -> str:
        """A program that plays a part, as ``bin/NAME``."""
        return self.make(f"bin/{name}", f"#!/bin/sh\n{text}\n", 0o755)

    def named(self, name: str) -> str:
        """The line of a script that gives a job its name."""
        return NAME_OPTION[self.soft] + name if self.soft in NAME_OPTION else ""

    def prepare(self, text: str, folder: str = "job", head: str = "") -> str:
        self.make(f"{folder}/{self.script}", f"#!/bin/sh\n{head}\n{text}\n")
        return f"{self.here}/{folder}"

    def submit(self, text: str, **options: str) -> str:
        with self.client() as ssh:
            status, job_id = ssh.submit_job(remote_path=self.prepare(text, **options))
        assert status == "running", ssh.last_submission
        return job_id

    def status(self, job_id: int | str) -> str:
        with self.client() as ssh:
            return ssh.check_job_status(job_id)

    def until(self, job_id: str, answer: str) -> str:
        said: str = self.wait_until(
            lambda: self.status(job_id), lambda said: said.startswith(answer)
        )
        return said

    @staticmethod
    def wait_until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + 60
        while True:
            said = ask()
            if good(said):
                return said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)

    def running(self) -> list[str]:
        with self.client() as ssh:
            return ssh.check_running_jobs_ids()


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """ARC's tables as they were, afterwards."""
    saved = {name: dict(table) for name, table in settings.TABLES.items()}
    configured = settings._configured
    try:
        yield
    finally:
        for name, table in settings.TABLES.items():
            table.clear()
            table.update(saved[name])
        settings._configured = configured


def local_entry(alias: str, user: str, config: Path, tmp_path: Path) -> dict[str, Any]:
    """The settings of a server whose jobs run on the login node."""
    return {
        "cluster_soft": "local", "address": alias, "un": user, "ssh_config": str(config),
        "journal": str(tmp_path / "journal"), "poll_interval": 0.1,
    }  # fmt: skip


@pytest.fixture
def own_settings(cold: Path) -> Iterator[None]:
    """Settings, connections and masters of one test."""
    with kept_settings():
        yield
        for _, shared in settings._shared.values():
            connection = shared.connection
            assert isinstance(connection, Connection)
            connection.close(stop_master=True)
            shared.cluster.close()


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the client, which are not waited for."""
    seconds: list[float] = []

    class Clock:
        sleep = staticmethod(seconds.append)

    monkeypatch.setattr(arc, "time", Clock)
    return seconds


@contextlib.contextmanager
def open_place(
    host: Host,
    soft: str,
    local: Path,
    *,
    tables: dict[str, dict[str, str]] | None = None,
    slurm: SlurmLab | None = None,
    grid: GridEngineLab | None = None,
    **options: Any,
) -> Iterator[Place]:
    """``local``: our side, for the journal.  Afterwards jobs and files are gone."""
    path = host.make_directory(f"arc-{secrets.token_hex(4)}")
    entry = {
        "cluster_soft": soft,
        "address": host.alias,
        "un": host.user,
        "ssh_config": str(host.config),
        "poll_interval": 0.1,
        "journal": str(local / "journal"),
        "cpus": 8,
        "memory": 16,
        "queues": {"": ""},
        **options,
    }
    with kept_settings():
        arc.configure(servers={"hpc": entry}, **(tables or {}))
        try:
            yield Place(host, path, soft, slurm, grid)
        finally:
            SSHClient("hpc")._cluster.close()
            shutil.rmtree(path)
            shutil.rmtree(host.home / ".openssh_jobs", ignore_errors=True)


def end_all_jobs(place: Place) -> None:
    """Cancel what a test has left running."""
    slurm = place.slurm
    if slurm is None:
        with place.client() as ssh:
            ssh.delete_jobs(ssh.check_running_jobs_ids())
    else:
        slurm.command("scancel", f"--user={place.host.user}")
        place.wait_until(
            lambda: slurm.command("squeue", "-h", "-u", place.host.user, "-o", "%i").strip(),
            lambda listed: not listed,
        )


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(
    flavour: str, request: pytest.FixtureRequest, sshd: Host, tmp_path: Path, lab_directory: Path
) -> Iterator[Place]:
    soft = flavour.split()[0]
    facts: dict[str, Any] = {}
    if soft in ("Slurm", "PBS"):
        facts["slurm"] = request.getfixturevalue("slurm")
    if soft == "OGE":
        facts["grid"] = grid = request.getfixturevalue("gridengine")
        facts["prologue"] = grid.prologue
        facts["tables"] = as_arc_has_them(soft, str(grid.directory))
    elif soft == "PBS":
        setup = wrappers.prologue(lab_directory)
        facts["prologue"] = setup
        facts["grace"] = 2
        facts["tables"] = as_arc_has_them(soft, str(lab_directory / "torque"), setup)
    elif "ARC" in flavour:
        facts["tables"] = as_arc_has_them(soft, "")
    with open_place(sshd, soft, tmp_path, **facts) as place:
        yield place
        end_all_jobs(place)

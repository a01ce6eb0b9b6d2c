"""ARC's server ``local``: jobs of the machine that the program runs on, without ssh.

The schedulers of the lab run on another machine of its network; ARC's tables of commands, which
are shell text, go there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import SSHClient, local
from tests.helpers import until
from tests.lab import wrappers
from tests.real.arc.places import NAME_OPTION, SCRIPTS, Place, kept_settings

USER = pwd.getpwuid(os.geteuid()).pw_name


@dataclass
class Here:
    """A directory of this machine, and the tables that lead to a scheduler."""

    path: Path
    soft: str

    def prepare(self, text: str, name: str = "a1") -> str:
        directory = self.path / name
        head = NAME_OPTION[self.soft] + name if self.soft in NAME_OPTION else ""
        if self.soft == "OGE":  # else its output lands in the home of whoever runs the tests
            head += f"\n#$ -o {directory} -e {directory}"
        directory.mkdir()
        local.write_file(
            str(directory / SCRIPTS[self.soft]), f"#!/bin/sh\n{head}\ncd '{directory}'\n{text}\n"
        )
        local.change_mode(mode="+x", file_name=SCRIPTS[self.soft], path=str(directory))
        return str(directory)

    def submit(self, text: str, name: str = "a1") -> str:
        job_status, job_id = local.submit_job(path=self.prepare(text, name))
        assert (job_status, type(job_id)) == ("running", str)
        return job_id


def running(here: Here) -> list[str]:
    """As ARC lists them; without a queueing system it lists none."""
    if here.soft != "local":
        return local.check_running_jobs_ids()
    assert local.check_running_jobs_ids() == []
    with SSHClient("local") as ssh:
        return ssh.check_running_jobs_ids()


@pytest.fixture(params=["Slurm", "OGE", "PBS", "local"])
def here(request: pytest.FixtureRequest, tmp_path: Path, lab_directory: Path) -> Iterator[Here]:
    soft = request.param
    entry: dict[str, Any] = {
        "cluster_soft": soft, "un": "<username>", "cpus": 8, "poll_interval": 0.1, "grace": 2,
        "journal": str(tmp_path / "journal"),
    }  # fmt: skip
    tables: dict[str, Any] = {}
    if soft != "local":
        lab = request.getfixturevalue("gridengine" if soft == "OGE" else "slurm")
        setup = getattr(lab, "prologue", "true")
        if soft == "PBS":
            setup = wrappers.prologue(lab_directory)
        programs = _programs(tmp_path / "bin", lab.machine.enter, setup)
        entry["prologue"] = f"PATH={programs}:$PATH; export PATH"
        status, submit, delete = QUEUE_COMMANDS[soft]
        tables = {
            "check_status_command": {soft: f"{programs}/{status} -u {USER}"},
            "submit_command": {soft: f"export X=1; {programs}/{submit}"},
            "delete_command": {soft: f"{programs}/{delete}"},
        }
    with kept_settings(), contextlib.ExitStack() as stack:
        if soft == "OGE":  # whoever runs these tests may submit
            stack.enter_context(lab.configured(min_uid="0", min_gid="0"))
        arc.configure(servers={"local": entry}, **tables)
        try:
            yield Here(tmp_path, soft)
        finally:
            if soft in ("Slurm", "PBS"):
                lab.command("scancel", f"--user={USER}")
            else:
                with SSHClient("local", connection_attempts=1) as ssh:
                    ssh.delete_jobs(ssh.check_running_jobs_ids())
            if soft == "OGE":
                # The host may get the new limits after its first job, whose failure then puts
                # the queue into an error.
                assert until(lambda: not lab.command("qstat", "-u", USER).strip(), 30)
                lab.command("qmod", "-cq", "all.q", "short.q")
            SSHClient("local")._cluster.close()


QUEUE_COMMANDS = {
    "Slurm": ("squeue", "sbatch", "scancel"),
    "OGE": ("qstat", "qsub", "qdel"),
    "PBS": ("qstat", "qsub", "qdel"),
}


def _programs(directory: Path, enter: list[str], setup: str) -> Path:
    """A scheduler's commands as programs that run on the machine of the scheduler."""
    directory.mkdir()
    run = shlex.quote(f'PATH=/usr/bin:/bin:/usr/sbin:/sbin; {setup}; exec "$@"')
    for name in "squeue sbatch scancel sacct scontrol qstat qsub qdel qacct qhost".split():  # noqa: SIM905
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(enter)} sh -c {run} sh {name} "$@"\n')
        program.chmod(0o755)
    return directory


def test_a_job_from_its_submission_to_its_end(here: Here) -> None:
    go = here.path / "go"
    job_id = here.submit(f"while [ ! -e {go} ]; do sleep 0.1; done; echo out > output.out")
    assert job_id in running(here)
    assert local.check_job_status(job_id) == "running"
    go.touch()
    Place.wait_until(lambda: local.check_job_status(job_id), lambda said: said == "done")
    Place.wait_until(lambda: running(here), lambda ids: job_id not in ids)
    assert (here.path / "a1" / "output.out").read_text() == "out\n"


def test_a_job_is_deleted(here: Here) -> None:
    job_id = here.submit("sleep 300")
    assert local.delete_job(job_id) is None
    Place.wait_until(lambda: running(here), lambda ids: job_id not in ids)


def test_only_jobs_of_arc_are_deleted(here: Here) -> None:
    if here.soft == "local":
        pytest.skip("what ARC submits without a scheduler has the name of its script")
    ids = {name: here.submit("sleep 300", name) for name in ("a12", "b34", "a56", "a7x")}
    local.delete_all_local_arc_jobs(jobs=["a56", "b34"])
    gone = {ids["a56"]}
    Place.wait_until(lambda: set(running(here)), gone.isdisjoint)
    assert {ids[name] for name in ("a12", "b34", "a7x")} <= set(running(here))
    local.delete_all_local_arc_jobs()
    gone = {ids["a12"]}
    Place.wait_until(lambda: set(running(here)), gone.isdisjoint)
    assert {ids[name] for name in ("b34", "a7x")} <= set(running(here))


def test_the_client_of_local_works_on_this_machine(here: Here) -> None:
    with SSHClient("local", connection_attempts=1) as ssh:
        path = f"{here.path}/sub/file"
        ssh.upload_file(remote_file_path=path, file_string="text\n")
        assert ssh.read_remote_file(remote_file_path=path) == ["text\n"]
        assert ssh._send_command_to_server("uname -n")[0] == [f"{os.uname().nodename}\n"]
        assert ssh.logins == 0

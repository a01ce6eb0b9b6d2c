"""Every place where ARC calls its client, with its argument names and what it does with results.

On a real Slurm, a real Grid Engine, Slurm's qsub wrappers and a host without a scheduler, with
ARC's own tables of commands.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import SSHClient
from tests.real.arc.places import Place


class Adapter:
    """What ARC's ``JobAdapter`` does with a server, call for call."""

    def __init__(self, place: Place, text: str, name: str = "a1") -> None:
        self.place = place
        self.server = place.server
        self.remote_path = f"{place.here}/runs/ARC_Projects/project/spc1/opt_{name}"
        self.text = f"#!/bin/sh\n{place.named(name)}\ncd '{self.remote_path}'\n{text}\n"
        self.job_status: list[Any] = ["initializing", {}]
        self.job_id: Any = 0

    def execute(self, tmp_path: Path) -> None:
        """``upload_files`` and ``legacy_queue_execution``."""
        source = tmp_path / "input.gjf"
        source.write_text("%chk=check.chk\n")
        with SSHClient(self.server) as ssh:
            ssh.upload_file(
                remote_file_path=os.path.join(self.remote_path, "input.gjf"),
                local_file_path=str(source),
            )
            ssh.upload_file(
                remote_file_path=os.path.join(self.remote_path, self.place.script),
                file_string=self.text,
            )
            ssh.change_mode(mode="+x", file_name=self.place.script, remote_path=self.remote_path)
        with SSHClient(self.server) as ssh:
            self.job_status[0], self.job_id = ssh.submit_job(remote_path=self.remote_path)

    def server_status(self) -> str:
        """``_check_job_server_status``."""
        with SSHClient(self.server) as ssh:
            return ssh.check_job_status(self.job_id)


def get_server_job_ids(server: str) -> list[Any]:
    """As ARC's scheduler gathers them."""
    server_job_ids: list[Any] = []
    with SSHClient(server) as ssh:
        server_job_ids.extend(ssh.check_running_jobs_ids())
    return server_job_ids


def test_a_job_from_upload_to_download(place: Place, tmp_path: Path) -> None:
    go = f"{place.here}/go"
    job = Adapter(place, f"while [ ! -e {go} ]; do sleep 0.1; done\necho out > output.out")
    job.execute(tmp_path)
    assert job.job_status[0] == "running"
    assert isinstance(job.job_id, str)
    assert job.job_id in get_server_job_ids(place.server), "the same type, the same form"
    assert job.server_status() == "running"
    place.make("go")
    assert place.wait_until(job.server_status, lambda said: said != "running") == "done"
    place.wait_until(lambda: get_server_job_ids(place.server), lambda ids: job.job_id not in ids)
    output, missing = tmp_path / "output.out", tmp_path / "check.chk"
    with SSHClient(place.server) as ssh:  # download_files, set_initial_and_final_times
        for name, local in (("output.out", output), ("check.chk", missing)):
            ssh.download_file(
                remote_file_path=os.path.join(job.remote_path, name), local_file_path=str(local)
            )
        when = ssh.get_last_modified_time(
            remote_file_path_1=os.path.join(job.remote_path, "check.chk"),
            remote_file_path_2=os.path.join(job.remote_path, "output.out"),
        )
    assert output.read_text() == "out\n"
    assert not missing.exists()
    assert isinstance(when, datetime)
    assert when.tzinfo is None
    assert abs((datetime.now() - when).total_seconds()) < 120


def test_additional_information_is_downloaded_or_an_ioerror(place: Place, tmp_path: Path) -> None:
    """``_get_additional_job_info`` catches TypeError and IOError, then reads what is there."""
    place.make("job/out.txt", "said\n")
    found = {}
    with SSHClient(place.server) as ssh:
        for name in ("out.txt", "err.txt", "job.log"):
            local = tmp_path / name
            try:
                ssh.download_file(
                    remote_file_path=os.path.join(place.here, "job", name),
                    local_file_path=str(local),
                )
            except (TypeError, OSError):
                pass
            found[name] = local.read_text() if local.is_file() else None
    assert found == {"out.txt": "said\n", "err.txt": None, "job.log": None}


def test_a_job_is_deleted(place: Place, tmp_path: Path) -> None:
    """``delete`` of an adapter and ``trsh_job_on_server``: one call, no result."""
    job = Adapter(place, "sleep 300")
    job.execute(tmp_path)
    with SSHClient(place.server) as ssh:
        assert ssh.delete_job(job.job_id) is None
    place.wait_until(lambda: get_server_job_ids(place.server), lambda ids: job.job_id not in ids)
    said = place.wait_until(job.server_status, lambda said: said != "running")
    # Slurm's wrappers, alone, show an ended job without saying how it ended.
    assert said.startswith("errored") or (place.soft, said) == ("PBS", "done")


def test_troubleshooting_on_a_server(place: Place, tmp_path: Path) -> None:
    """``trsh_job_on_server``: a client without ``with``, the script read, changed, written back."""
    nodes = SSHClient(place.server).list_available_nodes()
    assert isinstance(nodes, list)
    assert all(isinstance(node, str) for node in nodes)
    if place.soft != "PBS":
        assert nodes
    place.prepare("true")
    remote_submit_file = os.path.join(place.here, "job", place.script)
    with SSHClient(place.server) as ssh:
        content = ssh.read_remote_file(remote_file_path=remote_submit_file)
    assert all(line.endswith("\n") for line in content)
    content.insert(1, f"# node {nodes[0] if nodes else ''}\n")
    text = "".join(content)
    with SSHClient(place.server) as ssh:
        ssh.upload_file(remote_file_path=remote_submit_file, file_string=text)
    assert Path(remote_submit_file).read_text() == text


def test_a_survey_of_software(place: Place) -> None:
    """``determine_ess_settings``: seven questions a server, the truth of the lists counts."""
    with SSHClient(place.server) as ssh:
        found = {name: bool(ssh.find_package(name)) for name in
                 ("g03", "g09", "g16", "qchem", "orca", "molpro", "sh")}  # fmt: skip
    assert found == {"g03": False, "g09": False, "g16": False, "qchem": False, "orca": False,
                     "molpro": False, "sh": True}  # fmt: skip


def test_check_files_are_deleted_at_the_end(place: Place) -> None:
    """ARC's ``main``: paths by server, never an exception."""
    place.make("runs/ARC_Projects/p/a/check.chk")
    place.make("runs/ARC_Projects/p/a/input.log")
    place.make("runs/ARC_Projects/other/check.chk")
    arc.delete_check_files_on_servers(
        {place.server: f"{place.path.name}/runs/ARC_Projects/p", "local": "x", "gone": "y"}
    )
    left = sorted(path.name for path in place.path.rglob("*") if path.is_file())
    assert left == ["check.chk", "input.log"]
    assert (place.path / "runs/ARC_Projects/other/check.chk").exists()


def test_all_jobs_of_arc_are_deleted_and_no_others(place: Place, tmp_path: Path) -> None:
    """``arc/utils/delete.py`` with ``jobs=None``, and with ids."""
    if place.soft == "local":
        pytest.skip("what ARC submits without a scheduler has the name of its script")
    jobs = {name: Adapter(place, "sleep 300", name) for name in ("a12", "b34", "a56x", "xa7", "a8")}
    for job in jobs.values():
        job.execute(tmp_path)
    arc.delete_all_arc_jobs(server_list=[place.server], jobs=[jobs["a8"].job_id])
    gone = {jobs["a8"].job_id}
    place.wait_until(lambda: set(get_server_job_ids(place.server)), gone.isdisjoint)
    assert {jobs[name].job_id for name in ("a12", "b34", "a56x", "xa7")} <= set(place.running())
    arc.delete_all_arc_jobs(server_list=place.server)
    gone = {jobs["a12"].job_id}
    place.wait_until(lambda: set(get_server_job_ids(place.server)), gone.isdisjoint)
    assert {jobs[name].job_id for name in ("b34", "a56x", "xa7")} <= set(place.running())


def test_a_listing_that_arc_made_itself(place: Place, tmp_path: Path) -> None:
    """``check_job_status_in_stdout(job_id=, stdout=, server=)`` on the site's own listing."""
    if place.soft == "local":
        pytest.skip("there is no listing to make without a scheduler")
    go = f"{place.here}/go"
    job = Adapter(place, f"while [ ! -e {go} ]; do sleep 0.1; done", "a12345")
    job.execute(tmp_path)
    command = arc.check_status_command.get(place.soft, "squeue -u $USER")
    with SSHClient(place.server) as ssh:
        for text in (
            command,
            *([command + " -h"] if place.slurm and place.soft == "Slurm" else []),
        ):
            out, _ = ssh._send_command_to_server(text)
            for stdout in (out, "".join(out), [line.rstrip("\n") for line in out]):
                said = [
                    arc.check_job_status_in_stdout(job_id=job_id, stdout=stdout, server="hpc")
                    for job_id in (job.job_id, int(job.job_id), 987654)
                ]
                assert said == ["running", "running", "done"], out
    place.make("go")

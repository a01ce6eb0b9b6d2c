"""ARC's client on a real sshd, with a real Slurm and with no scheduler: every documented call."""

from __future__ import annotations

import os
import stat
import time
import types
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import SSHClient
from tests.real.arc.places import Place


@pytest.fixture(params=["Slurm", "Slurm as ARC has it", "local"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Fewer than test_callers.py has."""
    return str(request.param)


# -- jobs -------------------------------------------------------------------------------------


def test_a_job_as_arc_runs_one(place: Place, tmp_path: Path) -> None:
    job_id = place.submit(f"while [ ! -e {place.here}/go ]; do sleep 0.1; done; echo out > out.txt")
    assert isinstance(job_id, str)
    assert job_id.isdigit()
    with place.client() as ssh:
        assert ssh.check_job_status(job_id) == "running"
        assert ssh.check_job_status(int(job_id)) == "running"
    assert job_id in place.running(), "the same type, the same form"
    place.host.make(f"{place.path.name}/go")
    place.until(job_id, "done")
    assert job_id not in place.running()
    with place.client() as ssh:
        ssh.download_file(
            remote_file_path=f"{place.here}/job/out.txt", local_file_path=str(tmp_path / "out.txt")
        )
    assert (tmp_path / "out.txt").read_text() == "out\n"


def test_a_job_that_fails_is_done_for_its_output_tells_why(place: Place) -> None:
    job_id = place.submit("exit 3")
    assert place.until(job_id, "done") == "done"
    with place.client() as ssh:
        assert ssh._cluster.job(job_id).exit_code == 3, "and what it ended with is known"


def test_a_job_that_was_cancelled_is_errored(place: Place) -> None:
    job_id = place.submit("sleep 300")
    with place.client() as ssh:
        assert ssh.delete_job(job_id) is None
    assert place.until(job_id, "errored")
    assert job_id not in place.running()
    with place.client() as ssh:
        ssh.delete_job(int(job_id))  # it is over: no error


def test_ids_compare_whole(place: Place) -> None:
    """Substring match: 1099072 ran because 10990729 did."""
    ids = [place.submit("sleep 300", folder=f"j{number}") for number in range(11)]
    longest = max(ids, key=len)
    part = longest[:-1]
    with place.client() as ssh:
        ssh.delete_jobs(ids)
    for job_id in ids:
        place.until(job_id, "errored")
    assert set(place.running()).isdisjoint(ids)
    if part and part not in ids:
        with place.client() as ssh:
            assert not ssh._cluster.job(part).last.is_final


def test_only_arcs_own_jobs_are_deleted_by_name(place: Place) -> None:
    """Every job of the user went, with the documentation promising names of ``a`` and digits."""
    slurm = place.slurm is not None
    ids = {}
    for name in ("a123", "b123", "a123b", "a1234567_mine"):
        head = f"#SBATCH --job-name={name}" if slurm else ""
        if slurm:
            ids[name] = place.submit("sleep 300", folder=name, head=head)
        else:
            with place.client() as ssh:
                job = ssh._cluster.submit(script_text="sleep 300", name=name, directory=place.here)
            ids[name] = job.id
    arc.delete_all_arc_jobs(["hpc"])
    place.until(ids["a123"], "errored")
    with place.client() as ssh:
        assert {name: ssh.check_job_status(ids[name]) for name in list(ids)[1:]} == {
            "b123": "running", "a123b": "running", "a1234567_mine": "running",
        }  # fmt: skip
    arc.delete_all_arc_jobs("hpc", jobs=[ids["b123"]])
    place.until(ids["b123"], "errored")
    with place.client() as ssh:
        assert ssh.check_job_status(ids["a123b"]) == "running"


def test_deleting_what_cannot_be_deleted_is_said(place: Place) -> None:
    """Failures of a deletion were ignored."""
    with place.client() as ssh:
        ssh.delete_jobs([])
        ssh.delete_jobs(["99999999"])  # not there: nothing to do
        with pytest.raises(arc.InputError):
            ssh.delete_jobs(["*"])
        with pytest.raises(arc.InputError):
            ssh.delete_job("1; scancel -u me")


def test_a_submission_that_fails_is_errored_and_tells_why(place: Place) -> None:
    with place.client() as ssh:
        assert ssh.submit_job(remote_path=f"{place.here}/none") == ("errored", "")
        assert "No such file" in str(ssh.last_submission)
        place.host.make(f"{place.path.name}/empty/{place.script}")
        assert ssh.submit_job(remote_path=f"{place.here}/empty") == ("errored", "")
        assert "empty" in str(ssh.last_submission)
        if place.slurm is not None:
            bad = place.prepare("true", folder="bad", head="#SBATCH -p nosuch")
            assert ssh.submit_job(remote_path=bad) == ("errored", "")
            assert "invalid partition specified: nosuch" in str(ssh.last_submission)


def test_banners_do_not_hide_a_job(place: Place) -> None:
    """Any text on stderr, or a line before the id, made an orphan of an accepted job."""
    rc = place.host.home / ".bash_profile"
    rc.write_text("echo WELCOME to 12345; echo noise 678 >&2\n")
    try:
        arc.servers["hpc"]["prologue"] = "echo a line of ours; echo and an error >&2"
        job_id = place.submit("sleep 300")
        with place.client() as ssh:
            assert ssh.check_job_status(job_id) == "running"
            assert job_id in ssh.check_running_jobs_ids()
        if place.slurm is not None:
            listed = place.slurm.command("squeue", "-h", "-u", place.host.user, "-o", "%i")
            assert listed.split().count(job_id) == 1
    finally:
        rc.unlink()


def test_an_answer_that_does_not_come_ends_no_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed status query read as "job finished": the defect that ends all jobs at once."""
    job_id = place.submit("sleep 300")
    place.running()
    waits: list[float] = []
    # The module's own name for it: the whole program's time.sleep stays.
    monkeypatch.setattr(arc, "time", types.SimpleNamespace(sleep=waits.append))
    error = "slurm_load_jobs error: Socket timed out on send/recv operation"
    text = f"#!/bin/sh\necho '{error}' >&2; exit 1"
    place.host.make(f"{place.path.name}/bin/squeue", text.encode())
    (place.path / "bin/squeue").chmod(0o755)
    if arc.check_status_command:
        command = f"export X=1; {place.here}/bin/squeue -u $USER"
        monkeypatch.setitem(arc.check_status_command, "Slurm", command)
    if place.slurm is None:
        arc.servers["hpc"]["prologue"] = "exit 0"
    else:
        arc.servers["hpc"]["prologue"] = f"PATH={place.here}/bin:$PATH; export PATH"
    with place.client(connection_attempts=2) as ssh:
        with pytest.raises(arc.ServerError, match="the list of jobs on hpc"):
            ssh.check_running_jobs_ids()
        with pytest.raises(arc.ServerError, match=f"the status of job {job_id}"):
            ssh.check_job_status(job_id)
    # What is no answer of a scheduler at all is no reason to wait for one.
    assert waits == ([60.0, 60.0] if place.slurm is not None else [])
    del arc.servers["hpc"]["prologue"]
    monkeypatch.undo()
    with place.client() as ssh:
        assert ssh.check_job_status(job_id) == "running"


def test_unknown_jobs_stay_running_for_the_grace_time(place: Place) -> None:
    """Absent from the queue meant done at once."""
    arc.servers["hpc"]["grace"] = 2
    with place.client() as ssh:
        assert ssh.check_job_status("99999999") == "running"
        assert "99999999" in ssh.check_running_jobs_ids()
    place.until("99999999", "done")
    assert "99999999" not in place.running()


@pytest.mark.parametrize("flavour", ["Slurm as ARC has it"], indirect=True)
def test_a_job_that_the_sites_listing_hides_is_looked_for(place: Place) -> None:
    """Held jobs are hidden by the constraint that HTCondor is asked with, and so were done."""
    arc.check_status_command["Slurm"] = "squeue -u $USER -t pending"
    arc.servers["hpc"]["grace"] = 1
    job_id = place.submit(f"while [ ! -e {place.here}/go ]; do sleep 0.1; done; exit 5")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        with place.client() as ssh:
            assert ssh.check_job_status(job_id) == "running"
        assert job_id in place.running()
        time.sleep(0.2)

    def state() -> str:
        with place.client() as ssh:
            ssh.check_job_status(job_id)
            return ssh._cluster.job(job_id).last.state

    # Between two looks for it, it is only unknown.
    place.wait_until(state, lambda said: said == "running")
    place.host.make(f"{place.path.name}/go")
    place.until(job_id, "done")
    with place.client() as ssh:
        assert ssh._cluster.job(job_id).exit_code == 5


# -- what it costs ------------------------------------------------------------------------------


def test_a_hundred_clients_are_one_login_and_one_query(place: Place, site: Any) -> None:
    """A new connection for every ``with SSHClient``, and ``ls`` before every command."""
    job_id = place.submit("sleep 300")
    arc.servers["hpc"]["poll_interval"] = 30
    before = place.host.logins()
    cluster = SSHClient("hpc")._cluster
    cluster.status([job_id])
    commands, queries = cluster.connection.stats().commands, cluster.queries
    for _ in range(50):
        with place.client() as ssh:
            assert ssh.check_job_status(job_id) == "running"
    assert place.host.logins() == before
    if place.slurm is not None:
        assert (cluster.queries, cluster.connection.stats().commands) == (queries, commands)
        for _ in range(20):
            assert job_id in place.running()
        assert cluster.queries == queries + 1, "for all labels together"


# -- files ----------------------------------------------------------------------------------------


# Files are the same with every scheduler.
any_scheduler = pytest.mark.parametrize("flavour", ["local"], indirect=True)


@pytest.fixture
def ssh(place: Place) -> Iterator[SSHClient]:
    with place.client() as client:
        yield client


@any_scheduler
def test_uploading(ssh: SSHClient, place: Place, tmp_path: Path) -> None:
    source = tmp_path / "in put"
    source.write_bytes(b"\x00\xff binary")
    target = f"{place.here}/new $(touch x)/deep \"q'/file"
    assert ssh.upload_file(remote_file_path=target, local_file_path=str(source)) is None
    assert Path(target).read_bytes() == b"\x00\xff binary"
    ssh.upload_file(remote_file_path=target, file_string="text é\n")
    assert Path(target).read_text() == "text é\n"
    ssh.upload_file(remote_file_path=target, file_string="")
    assert Path(target).read_bytes() == b"", "an empty text is a text"
    with pytest.raises(arc.InputError, match="non-existing"):
        ssh.upload_file(remote_file_path=target, local_file_path="/no/such/file")
    with pytest.raises(arc.InputError, match="file_string"):
        ssh.upload_file(remote_file_path=target)
    place.host.make(f"{place.path.name}/plain")
    with pytest.raises(arc.ServerError, match="plain/x"):
        ssh.upload_file(remote_file_path=f"{place.here}/plain/x", file_string="x")
    relative = f"{place.path.name}/relative/file"
    ssh.upload_file(remote_file_path=relative, file_string="from home")
    assert (place.host.home / relative).read_text() == "from home"
    assert not list(place.path.rglob("x"))


@any_scheduler
def test_downloading(ssh: SSHClient, place: Place, tmp_path: Path) -> None:
    """A missing file left a stale local copy, or an empty one, to be read as the result."""
    place.host.make(f"{place.path.name}/a 'file", b"\x00\xff\n")
    local = tmp_path / "local"
    assert ssh.download_file(f"{place.here}/a 'file", str(local)) is True
    assert local.read_bytes() == b"\x00\xff\n"
    assert ssh.download_file(f"{place.here}/missing", str(local)) is False
    assert not local.exists()
    assert Path(f"{local}.stale").read_bytes() == b"\x00\xff\n"
    assert ssh.download_file(f"{place.here}/missing", str(tmp_path / "other")) is False
    assert not (tmp_path / "other").exists()
    place.host.make_directory(f"{place.path.name}/closed", 0o000)
    with pytest.raises(OSError, match="ermission"):
        ssh.download_file(f"{place.here}/closed/x", str(tmp_path / "other"))
    (place.path / "closed").chmod(0o700)  # or nobody but root could remove it


@any_scheduler
def test_reading(ssh: SSHClient, place: Place) -> None:
    place.host.make(f"{place.path.name}/log", b"one\ntwo\xff\nth\x0cree")
    lines = ssh.read_remote_file(remote_file_path=f"{place.here}/log")
    assert lines == ["one\n", "two\udcff\n", "th\x0cree"], "a form feed ends no line"
    with pytest.raises(FileNotFoundError):
        ssh.read_remote_file(f"{place.here}/none")
    assert ssh.list_dir(place.here) == ["log"]
    with pytest.raises(FileNotFoundError):
        ssh.list_dir(f"{place.here}/none")
    assert place.path.name in ssh.list_dir()


@any_scheduler
def test_times(ssh: SSHClient, place: Place) -> None:
    path = place.host.make(f"{place.path.name}/a")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    expected = datetime.fromtimestamp(1_700_000_000)
    a, none = f"{place.here}/a", f"{place.here}/none"
    assert ssh.get_last_modified_time(remote_file_path_1=a) == expected
    assert ssh.get_last_modified_time(remote_file_path_1=none, remote_file_path_2=a) == expected
    assert ssh.get_last_modified_time(none) is None
    assert ssh.get_last_modified_time(none, none) is None
    assert expected.tzinfo is None


@any_scheduler
def test_modes(ssh: SSHClient, place: Place) -> None:
    """It asked the local disk whether the remote file is there; nothing was quoted."""
    path = place.host.make(f"{place.path.name}/sub/-odd name;x", mode=0o600)
    ssh.change_mode(mode="+x", file_name="-odd name;x", remote_path=f"{place.here}/sub")
    assert stat.S_IMODE(path.stat().st_mode) & 0o100
    ssh.change_mode(mode="755", file_name=f"{place.path.name}/sub/-odd name;x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    ssh.change_mode("700", "sub", recursive=True, remote_path=place.here)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(FileNotFoundError):
        ssh.change_mode("+x", "none", remote_path=place.here)


@any_scheduler
def test_check_files_go_for_real(ssh: SSHClient, place: Place) -> None:
    for name in ("p $(x)/a.chk", "p $(x)/b/c.chk", "p $(x)/b/c.log", "q/d.chk"):
        place.host.make(f"{place.path.name}/{name}")
    arc.delete_check_files_on_servers({"hpc": f"{place.path.name}/p $(x)", "down": "x"})
    left = sorted(str(p.relative_to(place.path)) for p in place.path.rglob("*") if p.is_file())
    assert left == ["p $(x)/b/c.log", "q/d.chk"]


@any_scheduler
def test_commands(ssh: SSHClient, place: Place) -> None:
    assert ssh._send_command_to_server("echo a; echo b >&2") == (["a\n"], ["b\n"])
    assert ssh._send_command_to_server(["x=a", "echo $x"]) == (["a\n"], []), "one after the other"
    out, _ = ssh._send_command_to_server("pwd", remote_path=place.here)
    assert out == [f"{place.here}\n"]
    with pytest.raises(arc.InputError, match="remote_path"):
        ssh._send_command_to_server("touch ~/ran", remote_path=f"{place.here}/none")
    assert not (place.host.home / "ran").exists(), "cd failed, and nothing was run elsewhere"
    out, _ = ssh._send_command_to_server("printf '\\377\\n\\f\\034\\n'")
    assert out == ["\udcff\n", "\x0c\x1c\n"]


@any_scheduler
def test_packages(ssh: SSHClient) -> None:
    found = ssh.find_package("bash")
    assert found
    assert found[0].endswith("/bash\n")
    assert ssh.find_package("no-such-program") == []
    assert ssh.find_package("x; echo y") == []


def test_nodes(place: Place) -> None:
    names = place.client().list_available_nodes()
    if place.slurm is not None:
        # As ARC asks, a node is called by its host name, and here both are one machine.
        hosts = place.slurm.command("sinfo", "-h", "-o", "%n").split()
        verbatim = bool(arc.list_available_nodes_command)
        assert sorted(names) == (sorted(set(hosts)) if verbatim else ["n1", "n2"])
    else:
        assert len(names) == 1


def test_a_client_that_was_never_connected_logs_in_once(
    cold: Path, expect_logins: Callable[..., None], site: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Calling without ``with`` and without ``connect`` raised TypeError."""
    host = site.host("direct")
    entry = {
        "cluster_soft": "local", "address": host.alias, "ssh_config": str(host.config),
        "journal": str(tmp_path / "journal"),
    }  # fmt: skip
    monkeypatch.setattr(arc, "servers", {"here": entry})
    expect_logins(1)
    before = host.logins()
    for _ in range(3):
        ssh = SSHClient("here", connection_attempts=1)
        assert ssh._ssh is None
        assert isinstance(ssh.list_dir(), list)
        assert ssh._ssh is not None
        ssh.close()
        assert ssh._ssh is None
    assert host.logins() == before + 1
    ssh._cluster.connection.close(stop_master=True)
    ssh._cluster.close()

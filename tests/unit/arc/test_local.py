"""The functions of ARC's ``arc.job.local`` that need no scheduler: commands, files, listings."""

from __future__ import annotations

import datetime
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from openssh_jobs import arc, errors
from openssh_jobs.arc import exceptions, local, settings


@pytest.fixture(autouse=True)
def arcs_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    saved = {name: dict(table) for name, table in settings.TABLES.items()}
    monkeypatch.setattr(settings, "_configured", False)
    arc.configure(
        servers={"local": {"cluster_soft": "HTCondor", "un": "<username>"}},
        output_filenames={"gaussian": "input.log", "qchem": "output.out"},
    )
    yield
    for name, table in settings.TABLES.items():
        table.clear()
        table.update(saved[name])


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "submit program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"'{path}'"


# -- commands -------------------------------------------------------------------------------


def test_a_command_gives_lines_and_its_exit_status(tmp_path: Path) -> None:
    out, err = output = local.execute_command("echo a; echo; echo b; echo c >&2")
    assert (out, err, output.returncode) == (["a", "", "b"], ["c"], 0)
    assert isinstance(output, tuple)
    out, _ = local.execute_command([f"cd {tmp_path}", "pwd"])
    assert out == [str(tmp_path)]
    out, _ = local.execute_command(["false", "echo b"])
    assert out == [], "one after the other while they succeed"
    assert local.execute_command("printf '\\377'")[0] == ["\udcff"]
    assert local.execute_command("kill -9 $$").returncode == -9


def test_other_shells_and_no_shell() -> None:
    assert local.execute_command("echo $BASH", executable="/bin/bash")[0] == ["/bin/bash"]
    assert local.execute_command(["echo", "a b", "$X"], shell=False)[0] == ["a b $X"]
    assert local.execute_command("echo 'a b'", shell=False)[0] == ["a b"]


def test_a_command_that_cannot_be_run() -> None:
    for command in ("no-such-program", "/etc/passwd", "echo x; no-such-program"):
        with pytest.raises(exceptions.SettingsError, match="erroneous"):
            local.execute_command(command)
        output = local.execute_command(command, no_fail=True)
        assert output.returncode in (126, 127)
        assert output[1]
    with pytest.raises(exceptions.SettingsError):
        local.execute_command("x", executable="/no/such/shell")


def test_a_command_that_lasts() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="sleep 60"):
        local.execute_command("sleep 60", timeout=0.2)
    assert time.monotonic() - began < 10


# -- submitting by a command that the caller names ----------------------------------------------


def test_text_on_stderr_makes_no_orphan(tmp_path: Path) -> None:
    """Defect 5: any text there made a submission ``errored``, and its job ran on unknown."""
    submit = program(tmp_path, 'echo Welcome; echo "$PWD $1" >&2; echo Submitted batch job 77')
    (tmp_path / "a $(b)").mkdir()
    answer = local.submit_job(
        path=str(tmp_path / "a $(b)"), cluster_soft="Slurm", submit_cmd=submit,
        submit_filename="submit it.sl",
    )  # fmt: skip
    assert answer == ("running", "77")


def test_a_refusal_is_errored_and_submits_once(tmp_path: Path) -> None:
    submit = program(tmp_path, f"echo >>{tmp_path}/n; echo 'sbatch: error: invalid partition "
                     "specified: x' >&2; exit 1")  # fmt: skip
    answer = local.submit_job(
        path=str(tmp_path), cluster_soft="Slurm", submit_cmd=submit, submit_filename="s"
    )
    assert answer == ("errored", "")
    assert (tmp_path / "n").read_text() == "\n"


def test_without_an_answer_nothing_is_made_up(tmp_path: Path) -> None:
    submit = program(tmp_path, "echo 'sbatch: error: Socket timed out' >&2; exit 1")
    with pytest.raises(arc.ServerError, match="Socket timed out"):
        local.submit_job(
            path=str(tmp_path), cluster_soft="Slurm", submit_cmd=submit, submit_filename="s"
        )


def test_a_limit_is_waited_for(tmp_path: Path) -> None:
    submit = program(
        tmp_path,
        f"echo >>{tmp_path}/n; if [ $(wc -l <{tmp_path}/n) -lt 3 ]; then echo 'qsub: would exceed "
        "queue generic per-user limit' >&2; exit 38; fi; echo 2016614.pbs01",
    )
    asked: dict[str, Any] = {"path": str(tmp_path), "cluster_soft": "PBS", "submit_cmd": submit,
             "submit_filename": "s"}  # fmt: skip
    with mock.patch("time.sleep") as sleep:
        assert local.submit_job(**asked, recursion=True) == ("errored", "")
        assert local.submit_job(**asked) == ("running", "2016614")
    assert [call.args for call in sleep.call_args_list] == [(300.0,)]


def test_a_compute_node_takes_no_jobs() -> None:
    for said in ("qsub: Unauthorized Request: Please do NOT submit jobs on compute nodes!",
                 "Jobs should be submitted on login server, i.e. ZEUS."):  # fmt: skip
        with (
            mock.patch.object(local, "execute_command", return_value=([], [said])),
            pytest.raises(ValueError, match="compute node"),
        ):
            local.submit_job(".", "pbs", "qsub", "submit.sh")


# -- listings -----------------------------------------------------------------------------------

SLURM = [
    "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)",
    "          10990729    normal     a207   alongd PD       0:00      1 (None)",
    "                 7   xeon-p8  xa1001d   alongd  R       0:05      1 d-19-14-2",
    "            12_[2]   xeon-p8  xa1001d   alongd PD       0:05      1 (None)",
    "                13   xeon-p8     a a a   alongd CG       0:05      1 d-19-14-2",
]


def test_running_jobs_in_a_listing() -> None:
    """Defect 14: short ids were empty text; the first lines were skipped whatever they held."""
    assert local.parse_running_jobs_ids(SLURM, "slurm") == ["10990729", "7", "12", "13"]
    assert local.parse_running_jobs_ids(SLURM[1:3], "Slurm") == ["10990729", "7"]
    condor = ["11224.0 R 8 6759 a2495 7", "11225.1 P 8 6759 a2496 6"]
    assert local.parse_running_jobs_ids(condor) == ["11224", "11225"]
    assert local.parse_running_jobs_ids([], "oge") == []
    for stdout, soft in (([], "slurm"), (["Error: no daemon"], "htcondor"), (["x"], "pbs")):
        with pytest.raises(errors.SchedulerError):
            local.parse_running_jobs_ids(stdout, soft)
    with pytest.raises(ValueError, match="wrong"):
        local.parse_running_jobs_ids([], "wrong")


def test_the_id_of_a_submission() -> None:
    assert local._determine_job_id(["Submitted batch job 17670585"], cluster_soft="slurm") == (
        "17670585"
    )
    assert local._determine_job_id(
        ["Submitting job(s).", "1 job(s) submitted to cluster 5263."]
    ) == "5263"  # fmt: skip
    for stdout, soft in ((["Welcome"], "slurm"), ([], "pbs"), (["5"], "wrong")):
        with pytest.raises(ValueError):  # noqa: PT011
            local._determine_job_id(stdout, cluster_soft=soft)


@pytest.mark.parametrize("soft", ["local", "Local"])
def test_a_machine_without_a_queueing_system_has_no_ids(soft: str) -> None:
    with mock.patch.dict(local.servers, {"local": {"cluster_soft": soft}}):
        with mock.patch.object(local, "execute_command") as execute:
            assert local.check_running_jobs_ids() == []
        execute.assert_not_called()


def test_a_queueing_system_that_is_not_supported() -> None:
    with mock.patch.dict(local.servers, {"local": {"cluster_soft": "no_such_scheduler"}}):
        with pytest.raises(ValueError, match="no_such_scheduler"):
            local.check_running_jobs_ids()
        with pytest.raises(ValueError, match="no_such_scheduler"):
            local.submit_job(path=".", submit_filename="x")


def test_without_a_server_local_nothing_is_deleted() -> None:
    with mock.patch.dict(local.servers, clear=True):
        local.servers["other"] = {"cluster_soft": "PBS"}
        local.delete_all_local_arc_jobs()


# -- files --------------------------------------------------------------------------------------


def test_times(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    os.utime(path, (1_700_000_000, 1_700_000_000))
    expected = datetime.datetime.fromtimestamp(1_700_000_000)
    assert local.get_last_modified_time(str(path)) == expected
    assert local.get_last_modified_time("no file", str(path)) == expected
    assert local.get_last_modified_time("no file") is None


def test_output_is_renamed(tmp_path: Path) -> None:
    local.write_file(str(tmp_path / "input.log"), "é")
    local.rename_output(local_file_path=str(tmp_path / "output.out"), software="Gaussian")
    assert [path.name for path in tmp_path.iterdir()] == ["output.out"]
    local.rename_output(local_file_path=str(tmp_path / "output.out"), software="gaussian")
    with mock.patch("time.sleep") as sleep:
        local.rename_output(local_file_path=str(tmp_path / "x" / "output.out"), software="qchem")
    assert sleep.call_count == 5
    with pytest.raises(KeyError, match="molpro"):
        local.rename_output(local_file_path="x", software="molpro")


@pytest.mark.parametrize("name", ["run.sh", "a 'b\"", "$(touch hacked)", "-R"])
def test_modes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.touch(0o600)
    local.change_mode(mode="+x", file_name=name, path=str(tmp_path))
    assert path.stat().st_mode & 0o100
    local.change_mode(mode="700", file_name=name, path=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    local.change_mode(mode="755", file_name=".", recursive=True, path=str(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileNotFoundError):
        local.change_mode(mode="+x", file_name="none", path=str(tmp_path))
    with pytest.raises(RuntimeError, match="odd"):
        local.change_mode(mode="odd", file_name=name, path=str(tmp_path))

"""The 23 defects of ARC's client, one test each, by their numbers (docs/arc.rst lists them).

On a real sshd.  The commands that ARC's settings name are programs of these tests where a
scheduler has to say something odd, and a real Slurm where it has to be right.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import exceptions, local
from tests.helpers import master_of
from tests.lab import parts
from tests.lab.site import Host
from tests.real.arc.places import Place, open_place

HEADER = "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"
RUNNING = "          10990729    normal     a207   alongd  R       0:05      1 d-19-14-2\n"
BANNER = "echo 'setlocale: LC_CTYPE: cannot change locale (en_IL)' >&2"
NO_ACCOUNTING = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


def printing(text: str) -> str:
    return f"cat <<'END'\n{text}END"


@pytest.fixture
def scripted(sshd: Host, tmp_path: Path) -> Iterator[Place]:
    """A server whose scheduler's commands are scripts: ``place.program`` writes them."""
    with open_place(sshd, "Slurm", tmp_path, grace=0, key="") as place:
        programs = f"{place.here}/bin"
        arc.configure(
            check_status_command={"Slurm": f"export X=1; {programs}/squeue -u $USER"},
            submit_command={"Slurm": f"{programs}/sbatch"},
            delete_command={"Slurm": f"{programs}/scancel"},
            list_available_nodes_command={"Slurm": f'{programs}/sinfo -o "%n %t %O %E"'},
        )
        place.entry["prologue"] = f"PATH={programs}:$PATH; export PATH"
        for name in ("sacct", "scontrol"):
            place.program(name, NO_ACCOUNTING)
        yield place


slurm_as_arc_has_it = pytest.mark.parametrize("flavour", ["Slurm as ARC has it"], indirect=True)
any_scheduler = pytest.mark.parametrize("flavour", ["local"], indirect=True)


def test_01_a_failed_status_query_ends_no_job(scripted: Place) -> None:
    scripted.program("squeue", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    with scripted.client() as ssh:
        with pytest.raises(arc.ServerError, match="Socket timed out"):
            ssh.check_running_jobs_ids()
        with pytest.raises(arc.ServerError, match="Socket timed out"):
            ssh.check_job_status(10990729)


def test_02_text_on_stderr_is_no_error_of_a_job(scripted: Place) -> None:
    scripted.program("squeue", f"{BANNER}; {printing(HEADER + RUNNING)}")
    assert scripted.status(10990729) == "running"
    assert scripted.running() == ["10990729"]


@slurm_as_arc_has_it
def test_03_what_left_the_queue_is_looked_for_in_the_history(place: Place) -> None:
    failed, cancelled = place.submit("exit 3", folder="a"), place.submit("sleep 300", folder="b")
    with place.client() as ssh:
        ssh.delete_job(cancelled)
    assert place.until(cancelled, "errored").startswith("errored")
    assert place.until(failed, "done") == "done"
    with place.client() as ssh:
        assert ssh._cluster.job(failed).exit_code == 3


def test_04_ids_compare_whole(scripted: Place) -> None:
    scripted.program("squeue", printing(HEADER + RUNNING))
    # Of more jobs at once the history is queried later.
    said = {job_id: scripted.status(job_id) for job_id in (10990729, 1099072, 207)}
    assert said == {10990729: "running", 1099072: "done", 207: "done"}


def test_05_a_job_behind_a_banner_is_no_orphan(scripted: Place) -> None:
    directory = scripted.prepare("true")
    scripted.program("sbatch", f"{BANNER}; echo Welcome; echo 'Submitted batch job 77'")
    with scripted.client() as ssh:
        assert ssh.submit_job(remote_path=directory) == ("running", "77")
    scripted.program("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    directory = scripted.prepare("true", folder="other")
    with scripted.client() as ssh:
        assert ssh.submit_job(remote_path=directory) == ("errored", "")


def test_06_the_second_try_after_a_limit_counts(scripted: Place, sleeps: list[float]) -> None:
    directory, count = scripted.prepare("true"), f"{scripted.here}/count"
    scripted.program(
        "sbatch",
        f"echo >>{count}; if [ $(wc -l <{count}) -lt 3 ]; then echo 'sbatch: error: "
        "AssocMaxSubmitJobLimit' >&2; echo 'sbatch: error: Batch job submission failed: Job "
        "violates accounting/QOS policy (job submit limit, user'\"'\"'s size and/or time limits)'"
        " >&2; exit 1; fi; echo 'Submitted batch job 78'",
    )
    with scripted.client(connection_attempts=1440) as ssh:
        assert ssh.submit_job(remote_path=directory) == ("running", "78")
    assert sleeps == [300.0, 300.0]
    assert Path(count).read_text() == "\n\n\n"


@any_scheduler
def test_07_a_command_whose_end_was_not_seen_is_not_sent_again(place: Place) -> None:
    with place.client() as ssh, pytest.raises(arc.ServerError):
        ssh._send_command_to_server(f"echo ran >> {place.here}/count; kill -KILL $PPID $$")
    assert (place.path / "count").read_text() == "ran\n"


@any_scheduler
def test_08_nothing_is_sent_only_to_see_whether_the_link_lives(place: Place) -> None:
    with place.client() as ssh:
        ssh._send_command_to_server("true")
        before = ssh._connection.stats()
        for _ in range(10):
            ssh._send_command_to_server("true")
            ssh.list_dir(place.here)
        after = ssh._connection.stats()
    assert after.commands - before.commands == 10
    assert after.control_calls - before.control_calls == 10


@any_scheduler
def test_09_a_hundred_clients_are_one_login(place: Place) -> None:
    place.host.logins()
    before = place.host.logins()
    for _ in range(100):
        with place.client() as ssh:
            assert ssh._ssh is not None
    assert place.host.logins() == before


@any_scheduler
def test_10_the_key_is_for_logging_in_and_host_keys_are_checked(place: Place) -> None:
    place.entry["key"] = str(place.path / "key")
    target = master_of(place.client()._connection).destination
    assert target.identity_file == place.entry["key"]
    place.entry["key"] = ""
    known = place.path / "nobody"
    known.touch()
    place.entry["ssh_options"] = {"UserKnownHostsFile": str(known)}
    with pytest.raises(arc.ServerError, match="host key"):
        place.client(connection_attempts=3).connect()
    assert known.read_bytes() == b"", "and no key was taken over"
    del place.entry["ssh_options"]


@any_scheduler
def test_11_an_interruption_is_not_swallowed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = place.client(connection_attempts=3)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ssh._connection, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ssh.connect()


@any_scheduler
@pytest.mark.parametrize("name", ['a"b', "$(touch x)", "a`touch x`b", "a'b", "a b", "-rf"])
def test_12_what_a_path_holds_is_no_shell_text(place: Place, name: str) -> None:
    directory = f"{place.here}/{name}"
    with place.client() as ssh:
        ssh.upload_file(remote_file_path=f"{directory}/{name}", file_string="text")
        ssh.change_mode(mode="700", file_name=name, remote_path=directory)
        assert ssh._send_command_to_server("pwd", remote_path=directory)[0] == [f"{directory}\n"]
        with pytest.raises(arc.InputError):
            ssh._send_command_to_server("touch x", remote_path=f"{directory}/none")
        assert ssh.find_package(f"{name}; echo y") == []
        with pytest.raises(arc.InputError):
            ssh.delete_job(f"1; touch {place.here}/x")
    assert (Path(directory) / name).stat().st_mode & 0o777 == 0o700
    assert not [path for path in place.path.rglob("x") if path.name == "x"]
    assert not (place.host.home / "x").exists()


@any_scheduler
def test_13_the_local_disk_is_not_asked_about_a_remote_path(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.make("sub/run.sh")
    asked: list[Any] = []
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or real(path))
    with place.client() as ssh:
        ssh.change_mode(mode="+x", file_name="run.sh", remote_path=f"{place.here}/sub")
    assert not [path for path in asked if str(path).startswith(place.here)]
    assert (place.path / "sub/run.sh").stat().st_mode & 0o100


def test_14_ids_of_every_width_and_form_are_read(scripted: Place) -> None:
    rows = "".join(
        f"{job_id:>18}    normal     a207   alongd {state:>2}       0:05      1 n1\n"
        for job_id, state in (("7", "R"), ("10990728", "PD"), ("12_[1-4]", "PD"), ("12_5", "R"))
    )
    scripted.program("squeue", printing(HEADER + rows))
    assert scripted.running() == ["7", "10990728", "12"]


def test_15_every_state_has_a_word(scripted: Place) -> None:
    states = "R PD CG CF S RQ SI SO ST RS TO DL OOM F CA NF BF PR".split()  # noqa: SIM905
    rows = "".join(
        f"{number:>18}    normal     a 2 7   alongd {state:>2}       0:05      1 n1\n"
        for number, state in enumerate(states, 1)
    )
    scripted.program("squeue", printing(HEADER + rows))
    words = {
        state: arc.check_job_status_in_stdout(job_id=number, stdout=HEADER + rows, server="hpc")
        for number, state in enumerate(states, 1)
    }
    running = "R PD CG CF S RQ SI SO ST RS".split()  # noqa: SIM905
    assert [state for state, word in words.items() if word == "running"] == running
    assert {state for state, word in words.items() if word == "done"} >= {"TO", "OOM"}
    assert {state for state, word in words.items() if word == "errored"} >= {"NF", "CA"}


@any_scheduler
def test_16_an_old_local_copy_is_not_taken_for_the_result(place: Place, tmp_path: Path) -> None:
    old, new = tmp_path / "output.out", tmp_path / "check.chk"
    old.write_text("of the job before")
    with place.client() as ssh:
        for path in (old, new):
            ssh.download_file(
                remote_file_path=f"{place.here}/{path.name}", local_file_path=str(path)
            )
        assert not old.exists()
        assert not new.exists(), "nor is an empty one made"
        place.make("check.chk", "\x00binary")
        ssh.upload_file(remote_file_path=f"{place.here}/empty", file_string="")
        ssh.download_file(f"{place.here}/check.chk", str(new))
    assert new.read_bytes() == b"\x00binary"
    assert (place.path / "empty").read_bytes() == b""


@any_scheduler
def test_17_an_upload_replaces_a_file_as_a_whole(place: Place) -> None:
    path = Path(place.make("input.gjf", "before"))
    with place.client() as ssh, path.open() as reader:
        ssh.list_dir(place.here)
        before = ssh._connection.stats()
        ssh.upload_file(remote_file_path=str(path), file_string="after")
        after = ssh._connection.stats()
        assert reader.read() == "before", "who reads it reads the old one to its end"
        assert path.read_text() == "after"
    trips = after.control_calls + after.commands - before.control_calls - before.commands
    assert trips <= 2, "the directory, and the file"


@any_scheduler
def test_18_a_time_is_that_of_this_machines_zone_whatever_the_servers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.make("output.out")
    os.utime(path, (1_700_000_000.25, 1_700_000_000.25))
    monkeypatch.setenv("TZ", "Asia/Jerusalem")
    time.tzset()
    try:
        with place.client() as ssh:
            when = ssh.get_last_modified_time(remote_file_path_1=path)
        assert when == datetime.fromtimestamp(1_700_000_000.25)
        assert when.timestamp() == 1_700_000_000.25
    finally:
        monkeypatch.undo()
        time.tzset()


@any_scheduler
def test_19_software_is_found_where_a_login_finds_it(place: Place) -> None:
    """Most .bashrc return early for whoever is not interactive; the PATH is the profile's."""
    parts.require_bash_account()
    place.program("g16", "true")
    files = {".bashrc": "case $- in *i*) ;; *) return ;; esac\n",
             ".bash_profile": f"PATH={place.here}/bin:$PATH\n"}  # fmt: skip
    before = {name: (place.host.home / name) for name in files}
    assert not any(path.exists() for path in before.values())
    for name, text in files.items():
        place.host.make(name, text.encode())
    try:
        with place.client() as ssh:
            found = ssh.find_package("g16")
    finally:
        for path in before.values():
            path.unlink()
    assert found == [f"{place.here}/bin/g16\n"]


def test_20_a_deletion_that_fails_is_said_and_strangers_stay(scripted: Place) -> None:
    rows = RUNNING + RUNNING.replace("10990729", "      77").replace("a207", "b207")
    scripted.program("squeue", printing(HEADER + rows))
    scripted.program("scancel", f"echo \"$@\" >>{scripted.here}/asked; "
                     "echo 'scancel: error: Kill job error on job id 10990729: "
                     "Access/permission denied' >&2; exit 1")  # fmt: skip
    with scripted.client() as ssh, pytest.raises(arc.ServerError, match="10990729"):
        ssh.delete_jobs(["10990729"])
    assert (scripted.path / "asked").read_text() == "10990729\n", "once, and no other"


def test_21_nodes_are_read_by_their_states_and_a_header_is_none(scripted: Place) -> None:
    listing = (
        "HOSTNAMES STATE CPU_LOAD REASON\nn1 idle 0.01 none\nn2 mix 3.50 none\n"
        "n3 alloc 8.00 none\nn4 down* N/A Not responding\nn5 drain 0.02 disk\n"
    )
    scripted.program("sinfo", printing(listing))
    assert scripted.client().list_available_nodes() == ["n1", "n2"]


def test_22_the_exit_status_of_a_local_command_is_known(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    output = local.execute_command(["echo out", "echo oops >&2; exit 3"])
    assert output == (["out"], ["oops"])
    assert output.returncode == 3
    assert "-> 3: oops" in caplog.text
    with pytest.raises(exceptions.SettingsError, match="no-such-program"):
        local.execute_command("no-such-program")
    assert local.execute_command("no-such-program", no_fail=True).returncode == 127


@any_scheduler
def test_23_odd_bytes_and_endless_commands(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "openssh_jobs.arc")
    monkeypatch.setattr(arc.client, "COMMAND_TIMEOUT", 1.0)
    with place.client() as ssh:
        assert ssh._send_command_to_server("printf '\\377\\n'; exit 4")[0] == ["\udcff\n"]
        assert "exit 4 -> 4" in caplog.text, "a command is logged with its result"
        began = time.monotonic()
        with pytest.raises(arc.ServerError, match="sleep 61"):
            ssh._send_command_to_server("sleep 61")
    assert time.monotonic() - began < 20

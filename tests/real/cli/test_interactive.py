"""``exec`` for a person: shells, terminals, the node of a job, and the questions of a login."""

from __future__ import annotations

import os
import re
import shutil
import signal
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection, errors
from openssh_jobs.openssh.login_record import WRONG_ANSWERS_PER_HOUR
from tests.cli import Terminal, at, program, script, stop_master
from tests.lab import parts
from tests.lab.interactive import MakeServer, code, config_of, password
from tests.lab.site import Host


@pytest.fixture
def remote_terminals() -> None:
    parts.require_remote_terminals()


ICANON = 3, termios.ICANON  # of the local modes


def modes(terminal: Terminal) -> list[Any]:
    return termios.tcgetattr(terminal.child.child_fd)[:6]


# -- terminals ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("remote_terminals")
def test_a_shell_on_a_terminal_of_the_host(sshd: Host) -> None:
    """Its size, job control, Ctrl-C, the status, the modes afterwards; no login for all of it."""
    logins = sshd.logins()
    terminal = Terminal("exec", *at(sshd), columns=80)
    before = modes(terminal)
    terminal.child.sendline("PS1='? '; stty size; echo $TERM")
    terminal.shows("24 80\r\nxterm\r\n")
    assert modes(terminal) != before
    terminal.child.setwinsize(30, 100)
    terminal.child.sendline("sleep 0.2; stty size")
    terminal.shows("30 100\r\n")
    terminal.child.sendline("echo go''es; sleep 60")
    terminal.shows("goes")
    time.sleep(0.2)
    terminal.child.sendcontrol("z")
    terminal.shows("Stopped")
    terminal.child.sendline("echo stopp''ed; fg")
    terminal.shows("stopped")
    terminal.shows("sleep 60")
    time.sleep(0.2)
    terminal.child.sendcontrol("c")
    terminal.child.sendline("echo st''atus $?; exit 5")
    terminal.shows("status 130")
    assert terminal.end() == 5
    assert sshd.logins() == logins


@pytest.mark.usefixtures("remote_terminals")
def test_a_program_that_handles_ctrl_c_goes_on(sshd: Host) -> None:
    terminal = Terminal("exec", "-t", *at(sshd), "python3", "-q")
    terminal.shows(">>> ")
    terminal.child.sendline("import time; print('sle' + 'eps'); time.sleep(60)")
    terminal.shows("sleeps")
    time.sleep(0.3)
    terminal.child.sendcontrol("c")
    terminal.shows("KeyboardInterrupt")
    terminal.child.sendline("print(6 * 7); exit(9)")
    terminal.shows("42")
    assert terminal.end() == 9


@pytest.mark.usefixtures("remote_terminals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_terminal_is_put_back(sshd: Host, number: signal.Signals) -> None:
    """After SIGTERM to this program, and after its ssh was killed."""
    ready = "printf '\\033[?1049hready'; sleep 60"
    terminal = Terminal("exec", "-t", *at(sshd), ready)
    before = modes(terminal)
    assert before[ICANON[0]] & ICANON[1]
    terminal.shows("ready")
    assert not modes(terminal)[ICANON[0]] & ICANON[1]
    child = terminal.child
    victim = child.pid
    if number == signal.SIGKILL:
        (victim,) = map(
            int, Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        )
    os.kill(victim, number)
    terminal.shows(
        "\x1b[?1049;1000;1002;1003;1006;2004;1l" if number == signal.SIGKILL else "stopped; "
    )
    after = None
    while after != before:  # until the test is over: the terminal ends with the program
        try:
            after = modes(terminal)
        except termios.error:
            break
    assert terminal.end() == 128 + number
    assert after == before


@pytest.mark.usefixtures("remote_terminals")
def test_the_full_limit_of_sessions_is_named(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None]
) -> None:
    """All sessions are taken: ``exec -t`` waits for one, and ``doctor`` says who has them."""
    expect_logins(1)
    host = make_sshd(max_sessions=1)
    connection = Connection(host.alias, ssh_config=host.config)
    with connection.popen("sleep 6"):
        terminal = Terminal("exec", "-t", *at(host), "echo", "at last")
        done = program("doctor", *at(host))
    assert done.code == 3
    assert re.search(rf"FAIL .*\(MaxSessions\) are in use; .*held by .*{os.getpid()}", done.out)
    terminal.shows("waiting for one to end")
    terminal.shows("at last")
    assert terminal.end() == 0
    stop_master(host)


def test_without_a_terminal_a_shell_reads_its_commands(sshd: Host) -> None:
    done = program("exec", *at(sshd), input=b"echo said; echo err >&2; exit 7\n")
    assert (done.code, done.out, done.err) == (7, "said\n", "err\n")


# -- the node of a job --------------------------------------------------------------------------


def test_a_command_on_the_node_of_a_job(
    sshd: Host,
    slurm: Any,
    there: str,
    tmp_path: Path,
    own_journal: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", "0.5")
    way = ["-F", str(sshd.config), "--scheduler", "slurm"]
    job = script(tmp_path, "sleep 100")
    job_id = program(
        "submit", *way, sshd.alias, there, "--script", job, "--array", "1-2"
    ).out.strip()
    shown = "squeue -h -j $SLURM_JOB_ID -o %K; echo $SLURM_STEP_ID; cat; echo err >&2; exit 3"
    try:
        while "running" not in program("list", *way, sshd.alias, "--name", "*").out:
            pass
        done = program("exec", *way, "--job", f"{job_id}_1", sshd.alias, shown, input=b"in\n")
        assert (done.code, done.out) == (3, "1\n0\nin\n")
        assert "err" in done.err.splitlines()
        terminal = Terminal("exec", *way, "-t", "--job", f"{job_id}_2", sshd.alias)
        terminal.child.sendline("squeue -h -j $SLURM_JOB_ID -o %F.%K; exit 4")
        terminal.shows(f"{job_id}.2")
        assert terminal.end() == 4
    finally:
        program("cancel", *way, sshd.alias, job_id)
    late = program("exec", *way, "--job", "999999", sshd.alias, "true")
    assert late.code == 1
    assert "job 999999 is unknown" in late.sentence()


@pytest.fixture
def node(sshd: Host, make_sshd: Callable[..., Host]) -> Iterator[Host]:
    """A server that the host's own ssh reaches by the names of its nodes."""
    made = make_sshd(enter=sshd.server.enter, address=sshd.server.address, port=2222)
    block = made.server.client_block().split("\n", 1)[1]
    block = block.replace(str(made.server.identity), f"{sshd.home}/.ssh/key")
    block = block.replace(str(made.server.known_hosts), f"{sshd.home}/.ssh/known")
    sshd.make_directory(".ssh", 0o700)
    sshd.make(".ssh/config", f"Host n1 n2\n{block}".encode())
    sshd.make(".ssh/key", made.server.identity.read_bytes(), 0o600)
    sshd.make(".ssh/known", made.server.known_hosts.read_bytes())
    yield made
    shutil.rmtree(sshd.home / ".ssh")


def test_the_hosts_own_ssh_goes_to_the_node_where_the_settings_say_so(
    sshd: Host,
    slurm: Any,
    node: Host,
    there: str,
    tmp_path: Path,
    own_journal: None,
    monkeypatch: pytest.MonkeyPatch,
    expect_logins: Callable[..., None],
) -> None:
    expect_logins(2)  # both at the node
    config = tmp_path / "servers.toml"
    config.write_text(f"[servers.{sshd.alias}]\nnode_ssh = true\n")
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", "0.5")
    way = ["-F", str(sshd.config), "--scheduler", "slurm"]
    job = script(tmp_path, "sleep 100")
    job_id = program("submit", *way, sshd.alias, there, "--script", job).out.strip()
    shown = "echo $SSH_CONNECTION, $SLURM_JOB_ID; cat; echo err >&2; exit 3"
    where = f"{sshd.server.address} 2222,"
    try:
        while "running" not in program("list", *way, sshd.alias, "--name", "*").out:
            pass
        logins = sshd.logins()
        done = program("exec", *way, "--job", job_id, sshd.alias, shown, input=b"in\n")
        assert (done.code, done.out.partition(where)[2]) == (3, "\nin\n"), done
        assert "err" in done.err.splitlines()
        assert (sshd.logins(), node.logins()) == (logins, 1)
        terminal = Terminal("exec", *way, "-t", "--job", job_id, sshd.alias)
        terminal.child.sendline("echo $SSH_CONNECTION, $(tty); exit 4")
        terminal.shows(f"{where} /dev/pts/")
        assert terminal.end() == 4
        assert (sshd.logins(), node.logins()) == (logins, 2)
    finally:
        program("cancel", *way, sshd.alias, job_id)


def test_grid_engine_says_why_its_means_is_not_used(
    sshd: Host, gridengine: Any, there: str, tmp_path: Path, own_journal: None
) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "sge", "--prologue", gridengine.prologue]
    job = script(tmp_path, "sleep 100")
    job_id = program("submit", *way, sshd.alias, there, "--script", job).out.strip()
    try:
        while "running" not in program("list", *way, sshd.alias).out:
            time.sleep(1)
        done = program("exec", *way, "--job", job_id, sshd.alias, "true")
        assert done.code == 4
        said = done.sentence()
        assert "ends the whole job with a task of qrsh -inherit that is broken off" in said
        assert "node_ssh = true" in said
    finally:
        program("cancel", *way, sshd.alias, job_id)


def test_a_scheduler_without_such_means_says_so(
    direct: list[str], there: str, tmp_path: Path, own_journal: None
) -> None:
    job = script(tmp_path, "sleep 100")
    job_id = program("submit", *direct, there, "--script", job).out.strip()
    *way, alias = direct
    done = program("exec", *way, "--job", job_id, alias, "true")
    assert done.code == 4
    assert "does not support a command on the node of a job" in done.sentence()
    program("cancel", *direct, job_id)


# -- who is asked -------------------------------------------------------------------------------


def test_a_command_at_a_terminal_asks_what_ssh_would_ask(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password("correct horse"), code("493817")])
    config = config_of(cold, host)
    words = ("-F", config, "asks", "echo", "in")
    # Neither a program, nor a person who said --batch, is asked.
    assert program("exec", *words).code == 3
    batch = Terminal("exec", "--batch", *words)
    assert batch.end() == 3
    assert "type `openssh-jobs login" in batch.seen.getvalue().lower().replace("\r\n", " ")
    assert host.counts["right 1"] == 0
    terminal = Terminal("exec", *words)
    terminal.answer("Password: ", "correct horse")
    terminal.answer("Verification code: ", "493817")
    terminal.shows("in")
    assert terminal.end() == 0
    assert program("exec", *words).out == "in\n"
    assert host.logins == 1
    program("logout", "-F", config, "asks")


def test_wrong_answers_count_in_the_same_record(cold: Path, asking: MakeServer) -> None:
    host = asking(steps=[password("right")])
    config = config_of(cold, host)
    for _ in range(WRONG_ANSWERS_PER_HOUR + 1):
        terminal = Terminal("exec", "-F", config, "asks", "true")
        terminal.child.expect(["Password: ", "failed within the last hour"])
        if "last hour" in terminal.child.after:
            assert terminal.end() == 3
            break
        terminal.child.sendline("wrong")
        assert terminal.end() == 3
    else:
        raise AssertionError("asked once too often")
    assert host.counts["wrong 1"] == WRONG_ANSWERS_PER_HOUR
    with pytest.raises(errors.AuthenticationFailed):
        Connection("asks", ssh_config=config).open()
    assert host.counts["wrong 1"] == WRONG_ANSWERS_PER_HOUR

"""``config`` and what settings do: the user's own ssh on our master, data host, defaults."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli import on_terminal, program, script
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab

pytestmark = pytest.mark.usefixtures("own_journal")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "servers.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))
    return path


@pytest.mark.parametrize("first", ["ssh", "ours"])
def test_the_users_own_ssh_shares_the_login(
    first: str, cold: Path, make_sshd: Any, expect_logins: Any
) -> None:
    expect_logins(1)
    host = make_sshd()
    done = program("config", "-F", str(host.config), host.alias, "--ssh")
    assert (done.code, done.err) == (0, "")
    plain = host.config.read_text()
    host.config.write_text(done.out + plain)

    def ssh(*words: str) -> str:
        command = ["ssh", "-F", str(host.config), *words]
        # Its master keeps stderr open.
        return subprocess.run(
            command, check=True, timeout=30, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout  # fmt: skip

    def ours(word: str) -> str:
        return program("exec", "-F", str(host.config), host.alias, "--", "echo", word).out

    try:
        if first == "ssh":
            assert ssh(host.alias, "echo one") == "one\n"
            assert ours("two") == "two\n"
        else:
            assert ours("one") == "one\n"
            assert ssh(host.alias, "echo two") == "two\n"
        assert host.logins() == 1
    finally:
        done = program("logout", "-F", str(host.config), host.alias)
    assert (done.code, done.err) == (0, "")
    with pytest.raises(subprocess.CalledProcessError):
        ssh("-O", "check", host.alias)


def test_files_go_through_the_data_host(
    cold: Path, make_sshd: Any, servers: Path, tmp_path: Path, expect_logins: Any
) -> None:
    expect_logins(1)
    host = make_sshd()
    servers.write_text(f'[servers.front]\ndata_host = "{host.alias}"\n')
    (tmp_path / "a.txt").write_text("text\n")
    config = str(host.config)
    try:
        # Nothing listens where `front` would be: only the data host can have answered.
        done = program("put", "-F", config, str(tmp_path / "a.txt"), "front:a.txt")
        assert (done.code, done.err) == (0, "")
        assert (host.home / "a.txt").read_text() == "text\n"
        done = program("get", "-F", config, "front:a.txt", str(tmp_path / "b.txt"))
        assert (done.code, (tmp_path / "b.txt").read_text()) == (0, "text\n")
    finally:
        program("logout", "-F", config, host.alias)


def test_slurm_gets_the_settings_and_words_after_the_dashes(
    sshd: Host, slurm: SlurmLab, servers: Path, there: str, tmp_path: Path
) -> None:
    servers.write_text(
        f'[servers.{sshd.alias}]\nscheduler = "slurm"\nqueue = "short"\ntime_limit = "0:30:00"\n'
        'account = "chem"\n'
        f'base_directory = "{there}"\noptions = ["--comment=by default"]\n'
        'prologue = "export SBATCH_NO_REQUEUE=1"\n'
    )
    way = ["-F", str(sshd.config), sshd.alias]
    path = script(tmp_path, "echo $SLURM_JOB_PARTITION $SLURM_JOB_NAME")

    def submitted(*words: str) -> tuple[dict[str, Any], str]:
        done = program("submit", "--json", "--hold", *way, "x", "--script", path, *words)
        assert (done.code, done.err) == (0, "")
        record = slurm.command("scontrol", "-o", "show", "job", done.data["job_id"])
        slurm.command("scancel", done.data["job_id"])
        return done.data, record

    data, record = submitted()
    assert (data["queue"], data["time_limit"]) == ("short", 1800)
    assert data["directory"] == str(sshd.home / there / "x")
    for fact in (
        *("Partition=short", "TimeLimit=00:30:00", "Comment=by default", "Account=chem"),
        "Requeue=0",
    ):
        assert fact in record
    data, record = submitted("--", "--partition", "batch", "-J", "it's $HOME", "--time", "60")
    assert (data["queue"], data["time_limit"], data["name"]) == ("batch", 3600, "it's $HOME")
    for fact in ("Partition=batch", "TimeLimit=01:00:00", "Comment=by default"):
        assert fact in record
    shown = on_terminal("submit", *way, "x", "--script", path, "--", "-t", "2", columns=60)
    assert f"to {sshd.alias}, queue short, time limit 0:02:00" in " ".join(shown.out.split())
    done = program("submit", *way, "x", "--script", path, "--", "-p", "shrt")
    assert (done.code, done.out) == (4, "")
    assert done.sentence().endswith("Queues there: batch, short, closed. Did you mean short?")
    done = program("submit", *way, "x", "--script", path, "--", "--wrap", "date")
    assert (done.code, done.out) == (2, "")


def test_a_wrong_setting_is_an_error_everywhere(servers: Path, sshd: Host) -> None:
    servers.write_text("[defaults]\nqueu = 'x'\n")
    says = f"openssh-jobs: {servers}:2: there is no setting 'queu' (did you mean queue?).\n"
    for words in (["config"], ["list"], ["exec", "-F", str(sshd.config), sshd.alias, "--", "ls"]):
        done = program(*words)
        assert (done.code, done.out, done.err) == (2, "", says), words


def test_debug_shows_what_is_sent_and_no_secret(
    sshd: Host, slurm: SlurmLab, there: str, tmp_path: Path
) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]
    words = ["submit", *way, there, "--script", "-", "--hold", "--env", "KEY=hunter2"]
    done = program("--debug", *words, input=b"#!/bin/sh\n# hunter3\n")
    assert done.code == 0
    lines = done.err.splitlines()
    slurm.command("scancel", done.out.strip())
    assert all(line[:8].count(":") == 2 for line in lines), "each with its time"
    assert any(f"ssh -G -F {sshd.config}" in line for line in lines)
    assert any("asks the scheduler: sbatch --parsable --hold" in line for line in lines)
    assert any("asks the control shell: " in line for line in lines)
    assert "hunter" not in done.err
    assert os.linesep not in done.out.strip()

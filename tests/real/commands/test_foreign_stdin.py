"""Accounts whose rc files put something else in the place of stdin: nothing reads it for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.commands import control_shell
from openssh_jobs.errors import CommandNotStarted, OpenSSHJobsError
from tests.helpers import Backend
from tests.lab import parts
from tests.lab.site import Host

from .test_start_and_end import ExpectLogins, MakeSshd

LIMIT, PATIENT = 1.0, 15.0
"""Start limits: the second one where it must not be reached, on a busy machine either."""
ELSEWHERE = {
    "itself": "exec <~/.bashrc\n",
    "zeros": "exec </dev/zero\n",
    "lines": "exec < <(yes)\n",
    "nothing comes": "exec <>~/fifo\n",
}


def processes(home: Path) -> list[str]:
    """The processes of an account, found by its home."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if b"HOME=" + os.fsencode(home) in environment and words:
                found.append(f"{process.name} {words.decode(errors='replace')[:90]}")
    return found


def assert_none_left(host: Host, call: str) -> None:
    until = time.monotonic() + 2.5  # the watch over a command's time ends within a second
    while left := processes(host.home):
        assert time.monotonic() < until, (call, left)
        time.sleep(0.05)


def make_host(make_sshd: MakeSshd) -> Host:
    parts.require_proc()
    host = make_sshd(files={".bashrc": "", ".bash_profile": ""})
    os.mkfifo(host.home / "fifo")
    (host.home / "fifo").chmod(0o666)
    return host


def calls_that_read(c: Connection, here: Path) -> dict[str, Callable[[], object]]:
    def talk(*, login_shell: bool = False) -> object:
        with c.popen("cat", login_shell=login_shell) as process:
            return process.communicate("data", timeout=20)

    def submit() -> object:
        with Cluster(c, scheduler="direct", journal=str(here / "journal.db")) as cluster:
            return cluster.submit(script_text="#!/bin/sh\ntrue\n", directory="~/job", token="one")

    (here / "tree").mkdir(exist_ok=True)
    (here / "tree" / "file").write_bytes(b"x" * 300_000)
    return {
        "run": lambda: c.run("cat", input="data"),
        "run with env": lambda: c.run("true", env={"A": "b"}),
        "run in a login shell": lambda: c.run("cat", input="data", login_shell=True),
        "popen": talk,
        "popen in a login shell": lambda: talk(login_shell=True),
        "exists": lambda: c.exists("/"),
        "write_bytes": lambda: c.write_bytes("there", b"data"),
        "put": lambda: c.put(here / "tree" / "file", "there"),
        "put by sftp": lambda: c.put(here / "tree" / "file", "there", method="sftp"),
        "submit": submit,
    }


def test_the_reason_is_seen_when_all_of_it_is_read_at_once(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(make_sshd)
    (host.home / ".bashrc").write_text(ELSEWHERE["itself"])
    expect_logins(1)
    read = control_shell._Shell._read

    def read_all(shell: control_shell._Shell, deadline: float) -> None:
        while True:
            read(shell, deadline)

    monkeypatch.setattr(control_shell._Shell, "_read", read_all)
    with Connection(host.alias, ssh_config=host.config, start_timeout=PATIENT) as c:
        try:
            with pytest.raises(CommandNotStarted, match="another stdin"):
                c.exists("/")
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    ("backend", "name"), [*(("mux", name) for name in ELSEWHERE), ("process", "itself")]
)
def test_another_stdin_is_refused_and_nothing_is_left(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    name: str,
) -> None:  # fmt: skip
    host = make_host(make_sshd)
    (host.home / ".bashrc").write_text(ELSEWHERE[name])
    expect_logins(1)
    limit = LIMIT if name == "nothing comes" else PATIENT
    with Connection(
        host.alias, ssh_config=host.config, exec_backend=backend, start_timeout=limit
    ) as c:
        try:
            for call, run in calls_that_read(c, tmp_path).items():
                began = time.monotonic()
                with pytest.raises(CommandNotStarted, match="another stdin") as caught:
                    run()
                assert caught.value.sent == "no", call
                assert time.monotonic() - began < limit + 5, call
            assert c.run("cat").stdout == "", "a command without input gets none"
            c.popen("cat").close()
            assert_none_left(host, "all")
            assert c.check()
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_data_is_not_mixed_with_another_stdin(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, name: str
) -> None:
    """The lanes of a transfer, where the rc file changed after the first call."""
    host = make_host(make_sshd)
    expect_logins(1)
    tree, big = tmp_path / "tree", tmp_path / "big"
    tree.mkdir()
    big.write_bytes(b"x" * 9_000_000)
    (tree / "file").write_bytes(b"x" * 300_000)
    with Connection(host.alias, ssh_config=host.config, start_timeout=LIMIT) as c:
        try:
            for call, run in {
                "a tree": lambda: c.put(tree, "there"),
                "a file": lambda: c.put(big, "there", method="tar"),
                "rsync": lambda: c.put(tree, "there", method="rsync"),
            }.items():
                (host.home / ".bashrc").write_text("")
                assert not c.exists("there")
                (host.home / ".bashrc").write_text(ELSEWHERE[name])
                began = time.monotonic()
                with pytest.raises(OpenSSHJobsError):
                    run()
                assert time.monotonic() - began < 9, call
            (host.home / ".bashrc").write_text("")
            assert not c.exists("there")
            assert c.glob(".*.part*") == []
        finally:
            c.close()
            assert_none_left(host, name)
            c.close(stop_master=True)


def test_a_shell_that_hangs_before_it_begins_is_ended_by_the_next_one(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins
) -> None:
    """It cannot be reached while no shell of the account begins."""
    host = make_host(make_sshd)
    (host.home / ".bashrc").write_text("exec <~/fifo\n")
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, start_timeout=LIMIT) as c:
        try:
            for call in (lambda: c.run("true"), lambda: c.exists("/")):
                with pytest.raises(CommandNotStarted, match="silent for"):
                    call()
            assert processes(host.home)
            (host.home / ".bashrc").write_text("")
            assert c.exists("/")
            c.close()
            assert_none_left(host, "exists")
        finally:
            c.close(stop_master=True)

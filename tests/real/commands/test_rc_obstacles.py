"""Rc files that take from a session what our scripts need: each call ends, and says why."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.errors import CommandNotStarted, InvalidAnswer, OpenSSHJobsError
from tests.helpers import until
from tests.lab.site import Host

from .test_foreign_stdin import assert_none_left, make_host, processes
from .test_start_and_end import ExpectLogins, MakeSshd

MOST = 5
"""Shells that hang at the same time: the server has more sessions, for one that begins."""
HARMLESS = {
    "traps": "trap '' HUP TERM\n",
    "set -e": "set -e\n",
    "no such TMPDIR": "TMPDIR=/nonexistent; export TMPDIR\n",
    "odd TMPDIR": "TMPDIR='/proc/self/fd/3\n*'; export TMPDIR\n",
}
HARMFUL = {
    "file size": "ulimit -f 0\n",
    "umask": "umask 777\n",
    "no HOME": "unset HOME\n",
    "relative HOME": "HOME=somewhere; export HOME\n",
    "empty HOME": "HOME=; export HOME\n",
    "HOME is a file": "HOME=/etc/passwd; export HOME\n",
    "HOME of others": "HOME=/; export HOME\n",
    "no such HOME": "HOME=/nonexistent; export HOME\n",
}


def calls(c: Connection, there: str, here: Path) -> dict[str, Callable[[], object]]:
    """Each returns something true if it did what it is for."""
    data = b"x" * 300_000
    (here / "tree").mkdir(exist_ok=True)
    (here / "tree" / "file").write_bytes(data)

    def submit() -> object:
        with Cluster(c, scheduler="direct", journal=str(here / "journal.db")) as cluster:
            job = cluster.submit(script_text="#!/bin/sh\ntrue\n", directory=f"{there}/job")
            return job.wait(timeout=20).exit_code == 0

    def got() -> object:
        c.get(f"{there}/put", here / "got")
        return (here / "got").read_bytes() == data

    def got_tree() -> object:
        c.get(f"{there}/tree", here / "got-tree")
        return (here / "got-tree" / "file").read_bytes() == data

    def many() -> object:
        results = c.run_many(["echo 1", "echo 2"])
        for result in results:
            if result.error is not None:
                raise result.error
        return [result.stdout for result in results] == ["1\n", "2\n"]

    return {
        "run": lambda: c.run("echo out").stdout == "out\n",
        "run_many": many,
        "run with env": lambda: c.run("echo $A", env={"A": "b"}).stdout == "b\n",
        "run in a login shell": lambda: c.run("echo out", login_shell=True).stdout == "out\n",
        "exists": lambda: c.exists(there),
        "write_bytes": lambda: c.write_bytes(f"{there}/written", b"data"),
        "read_bytes": lambda: c.read_bytes(f"{there}/.hushlogin") == b"quiet",
        "put": lambda: c.put(here / "tree" / "file", f"{there}/put"),
        "put a tree": lambda: c.put(here / "tree", f"{there}/tree"),
        "get": got,
        "get a tree": got_tree,
        "submit": submit,
    }


def connected(
    make_sshd: MakeSshd, expect_logins: ExpectLogins, rc: str, start_timeout: float
) -> tuple[Host, Connection]:
    host = make_host(make_sshd)
    for name, text in ((".bashrc", rc), (".bash_profile", rc), (".hushlogin", "quiet")):
        (host.home / name).write_text(text)
        (host.home / name).chmod(0o644)
    expect_logins(1)
    return host, Connection(host.alias, ssh_config=host.config, start_timeout=start_timeout)


@pytest.mark.parametrize("name", [*HARMLESS, *HARMFUL])
def test_each_call_does_it_or_says_why(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, name: str
) -> None:
    rc = {**HARMLESS, **HARMFUL}[name]
    host, c = connected(make_sshd, expect_logins, rc, 30)
    refused = {}
    try:
        for call, run in calls(c, str(host.home), tmp_path).items():
            began = time.monotonic()
            try:
                assert run(), call
            except (OpenSSHJobsError, OSError) as error:
                refused[call] = error
            assert time.monotonic() - began < 20, call
        said = {call: str(error) for call, error in refused.items()}
        assert [call for call, words in said.items() if "connection was lost" in words] == []
        if name in HARMLESS:
            assert said == {}
        if name == "file size":
            for call in ("write_bytes", "put a tree"):
                assert getattr(refused[call], "errno", None) == errno.EFBIG, call
            assert "limit there" in said["put"]
        if name in ("no HOME", "empty HOME"):
            assert isinstance(refused["exists"], InvalidAnswer)
            assert "HOME is" in said["exists"]
        c.close()
        assert_none_left(host, name)
        assert list(host.home.glob(".*part*")) == []
    finally:
        c.close(stop_master=True)


def begins(c: Connection) -> bool:
    try:
        return c.run("echo out").stdout == "out\n"
    except CommandNotStarted:
        return False


@pytest.mark.parametrize("rc", ["kill -STOP $$\n", "exec <~/fifo\n"])
def test_shells_that_never_begin_are_ended_by_the_next_one(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, rc: str
) -> None:
    """Nothing reaches them before; no question whether the link is well adds to them."""
    host, c = connected(make_sshd, expect_logins, rc, 1)
    try:
        tried = 0
        for call, run in calls(c, str(host.home), tmp_path).items():
            with pytest.raises(CommandNotStarted, match="silent for"):
                run()
            tried += 2 if call == "run_many" else 1
            assert len(processes(host.home)) <= min(tried, MOST), call
        for name in (".bashrc", ".bash_profile"):
            (host.home / name).write_text("")
        assert until(lambda: begins(c), 20)
        assert c.exists("/")
        c.close()
        assert_none_left(host, rc)
    finally:
        c.close(stop_master=True)

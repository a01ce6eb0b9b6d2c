"""Rc files that start processes which hold the streams of every session, and never end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.errors import InvalidAnswer, RemoteOSError
from openssh_jobs.transfer.options import Method
from tests.helpers import Backend
from tests.lab import parts
from tests.lab.site import Host

from .test_foreign_stdin import processes
from .test_start_and_end import ExpectLogins, MakeSshd

SOON = 6.0
"""Seconds of a call that does little, on a busy machine."""
HOLDERS = {
    "background": "sleep 1000 &\n",
    "stderr": "sleep 1000 >/dev/null &\n",
    "stdout": "sleep 1000 2>/dev/null &\n",
    "nohup": "nohup sleep 1000 2>/dev/null &\n",
    "orphan": "(sleep 1000 &)\n",
    "a loop": "while :; do sleep 1; done &\n",
    "a session of its own": "setsid sleep 1000 & sleep 1001 &\n",
    "only a session of its own": "setsid sleep 1000 &\n",
    "a pipe": "sleep 1000 | sleep 1000 &\n",
}


@pytest.fixture
def host(make_sshd: MakeSshd, expect_logins: ExpectLogins, cold: Path) -> Iterator[Host]:
    parts.require_proc()
    expect_logins(1)
    host = make_sshd(files={".bashrc": "", ".bash_profile": ""})
    yield host
    for each in processes(host.home):
        if "sleep" in each or "while" in each:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(each.split()[0]), signal.SIGKILL)


def calls(c: Connection, here: Path) -> dict[str, Callable[[], object]]:
    data = os.urandom(300_000)
    (here / "tree").mkdir()
    (here / "tree" / "file").write_bytes(data)
    (here / "big").write_bytes(os.urandom(9_000_000))

    def talk() -> object:
        with c.popen("cat; echo err >&2; exit 3") as process:
            assert process.communicate("data", timeout=SOON) == ("data", "err\n")
        return process.returncode == 3

    def wait() -> object:
        with c.popen("echo out; exit 3") as process:
            assert process.wait(timeout=SOON) == 3
            return process.stdout is not None and process.stdout.read() == "out\n"

    def submit() -> object:
        with Cluster(c, scheduler="direct", journal=str(here / "journal.db")) as cluster:
            job = cluster.submit(script_text="#!/bin/sh\necho out\n", directory="~/job")
            return job.wait(timeout=20).exit_code == 0

    def back(method: Method = "auto") -> Callable[[], object]:
        def get() -> object:
            c.get("big", here / "back", method=method)
            return (here / "back").read_bytes() == (here / "big").read_bytes()

        return get

    def tree_back() -> object:
        c.get("tree", here / "tree-back")
        return (here / "tree-back" / "file").read_bytes() == data

    return {
        "run": lambda: c.run("echo out; echo err >&2; exit 3").stdout == "out\n",
        "run with input": lambda: c.run("cat", input="data").stdout == "data",
        "run much": lambda: len(c.run("seq 300000").stdout) == 1_988_895,
        "run in a login shell": lambda: c.run("echo out", login_shell=True).stdout == "out\n",
        "popen": talk,
        "popen, wait": wait,
        "exists": lambda: not c.exists("there"),
        "write_bytes": lambda: c.write_bytes("there", data) or c.read_bytes("there") == data,
        "put": lambda: c.put(here / "big", "big"),
        "get": back(),
        "put by tar": lambda: c.put(here / "big", "big", method="tar"),
        "get by tar": back("tar"),
        "get by sftp": back("sftp"),
        "get by scp": back("scp"),
        "put a tree": lambda: c.put(here / "tree", "tree"),
        "get a tree": tree_back,
        "rsync": lambda: c.put(here / "tree", "tree", method="rsync", merge=True),
        "submit": submit,
    }


SOME = ("run", "popen", "exists", "put a tree", "get a tree")
"""Enough for each kind of process."""


@pytest.mark.parametrize(
    ("backend", "name"), [*(("mux", name) for name in HOLDERS), ("process", "background")]
)
def test_every_call_ends_with_its_command(
    host: Host, tmp_path: Path, backend: Backend, name: str
) -> None:
    for file in (".bashrc", ".bash_profile"):
        (host.home / file).write_text(HOLDERS[name])
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            slow = {}
            for call, run in calls(c, tmp_path).items():
                if name != "background" and call not in SOME:
                    continue
                began = time.monotonic()
                assert run(), call
                took = time.monotonic() - began
                if took > SOON:
                    slow[call] = took
            assert slow == {}
            assert c.check()
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("name", ["a session of its own", "only a session of its own"])
def test_daemons_of_calls_at_the_same_time(host: Host, name: str) -> None:
    """Each keeps its output, though what rc files leave at that time looks the same."""
    (host.home / ".bashrc").write_text(HOLDERS[name])
    late = "setsid sh -c 'sleep 0.7; echo late' & echo out"
    commands = ["sleep 0.3; echo out", "sleep 0.3; echo out", late] * 8
    with Connection(host.alias, ssh_config=host.config) as c:
        try:
            with ThreadPoolExecutor(6) as pool:
                done = list(pool.map(lambda command: c.run(command, timeout=60), commands))
        finally:
            c.close(stop_master=True)
    assert [one.stdout for one in done] == ["out\n", "out\n", "out\nlate\n"] * 8


@pytest.fixture
def last() -> Path:
    """The number of the last process that was started."""
    parts.require_namespaces("choosing the numbers of processes")
    return Path("/proc/sys/kernel/ns_last_pid")


def test_process_numbers_that_begin_anew(last: Path, host: Host) -> None:
    """What the rc files of earlier calls left has larger numbers than what is started later."""
    (host.home / ".bashrc").write_text(HOLDERS["a session of its own"])
    largest = int(Path("/proc/sys/kernel/pid_max").read_text())
    with Connection(host.alias, ssh_config=host.config) as c:
        try:
            for number in (20_000, 10_000, *range(largest - 15, largest, 4)):
                last.write_text(str(number))
                began = time.monotonic()
                command = "setsid sh -c 'sleep 0.7; echo late' & echo out"
                assert c.run(command, timeout=20).stdout == "out\nlate\n", number
                assert time.monotonic() - began < SOON, number
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    ("backend", "name", "login_shell"),
    [
        ("mux", "background", False),
        ("mux", "stderr", False),
        ("mux", "a session of its own", False),
        ("mux", "background", True),
        ("process", "background", False),
    ],
)
def test_what_the_command_left_running_keeps_its_output(
    host: Host, backend: Backend, name: str, login_shell: bool
) -> None:
    """As with subprocess, beside what rc files left, and also after the child left the session."""
    for file in (".bashrc", ".bash_profile"):
        (host.home / file).write_text(HOLDERS[name])
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            for command in (
                "(sleep 1; echo late) & echo out",
                "setsid sh -c 'sleep 1; echo late' & echo out",
                "(exec setsid sh -c 'sleep 1; echo late' 2>/dev/null &); echo out",
            ):
                done = c.run(command, login_shell=login_shell)
                assert (done.stdout, done.returncode) == ("out\nlate\n", 0), command
                with c.popen(command, login_shell=login_shell) as process:
                    assert process.stdout is not None
                    assert process.wait(timeout=SOON) == 0
                    assert process.stdout.read() == "out\nlate\n", command
            began = time.monotonic()
            assert c.run("sleep 30 >/dev/null 2>&1 & echo out").stdout == "out\n"
            assert time.monotonic() - began < SOON
        finally:
            c.close(stop_master=True)


def test_an_end_of_a_shell_that_hangs_keeps_no_command(host: Host, backend: Backend) -> None:
    (host.home / ".bash_logout").write_text("sleep 1000\n")
    (host.home / ".bashrc").write_text("trap 'sleep 1000' EXIT\n")
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            for login_shell in (True, False, False):  # by exec /bin/sh, then by the shell itself
                done = c.run("echo out; exit 3", login_shell=login_shell, timeout=20)
                assert (done.stdout, done.returncode) == ("out\n", 3)
        finally:
            c.close(stop_master=True)


def test_a_host_with_many_processes(host: Host) -> None:
    """Those that cannot matter are not looked at one by one, nor what they descend from."""
    (host.home / ".bashrc").write_text(HOLDERS["background"])
    nested = '[ $1 = 0 ] && echo && sleep 1000 || /bin/sh -c "$2" sh $(($1 - 1)) "$2"; :'
    command = ["/bin/sh", "-c", nested, "sh", "400", nested]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as many:
        try:
            assert many.stdout is not None
            assert many.stdout.readline() == b"\n"
            with Connection(host.alias, ssh_config=host.config) as c:
                try:
                    assert c.run("echo out", timeout=30).stdout == "out\n"
                finally:
                    c.close(stop_master=True)
        finally:
            os.killpg(many.pid, signal.SIGKILL)


@pytest.mark.parametrize("stream", [1, 2])
def test_what_an_rc_file_leaves_writing_delays_no_short_call(host: Host, stream: int) -> None:
    """What it writes into an answer spoils it, and that is found; what comes behind is not ours."""
    loop = f"while :; do echo NOISE >&{stream}; sleep 0.01; done"
    (host.home / ".bashrc").write_text(f"sh -c '{loop}' &\n")
    host.make("file", b"content")
    spoilt = 0
    with Connection(host.alias, ssh_config=host.config) as c:
        try:
            for _ in range(20):
                began = time.monotonic()
                try:
                    assert c.stat(f"{host.home}/file").st_size == 7
                    assert c.listdir(str(host.home)).count("file") == 1
                except (InvalidAnswer, RemoteOSError):
                    spoilt += 1
                assert time.monotonic() - began < SOON
            for command in ("echo out; exit 3", "echo out; (sleep 1; echo late) & exit 3"):
                with c.popen(command) as process:
                    out, err = process.communicate(timeout=20)
                assert process.returncode == 3
                assert "out\n" in out
                assert "NOISE" in out + (err or ""), "it cannot be told apart"
                assert "late" not in command or "late\n" in out
        finally:
            c.close(stop_master=True)
    assert stream == 1 or not spoilt

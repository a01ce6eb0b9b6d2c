"""Where a command begins and where it ends: accounts whose rc files stand in between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.errors import (
    CommandNotStarted,
    CommandTimeout,
    ConfigurationError,
    ConnectionLost,
    InvalidAnswer,
    OpenSSHJobsError,
)
from tests.helpers import Backend
from tests.lab import parts
from tests.lab.site import Host

START = 1.0
"""Seconds for a shell that never begins."""

MakeSshd = Callable[..., Host]
ExpectLogins = Callable[..., None]


def connect(host: Host, backend: Backend, start_timeout: float = 30) -> Connection:
    return Connection(
        host.alias, ssh_config=host.config, exec_backend=backend, start_timeout=start_timeout
    )


def every_call(c: Connection, here: Path) -> dict[str, Callable[[], object]]:
    """One call for each way to the host; all that is sent as data would leave a trace if it ran."""
    (here / "file").write_text("touch ~/RAN-PUT\n")
    (here / "tree").mkdir(exist_ok=True)
    (here / "tree" / "file").write_text("touch ~/RAN-TREE\n")
    return {
        "run": lambda: c.run("touch ~/RAN-LINE"),
        "run with input": lambda: c.run("cat", input="touch ~/RAN-INPUT\n", timeout=30),
        "run with env": lambda: c.run("touch ~/RAN-ENV", env={"A": "b"}),
        "run in a login shell": lambda: c.run("touch ~/RAN-LOGIN", login_shell=True),
        "run a long script": lambda: c.run("touch ~/RAN-LONG\n" * 9000),
        "popen": lambda: c.popen("cat"),
        "exists": lambda: c.exists("/"),
        "write_bytes": lambda: c.write_bytes("/tmp/never", b"touch ~/RAN-WRITE\n"),
        "read_bytes": lambda: c.read_bytes("/etc/hostname"),
        "put": lambda: c.put(here / "file", "/tmp/never"),
        "put by sftp": lambda: c.put(here / "file", "/tmp/never", method="sftp"),
        "put a tree": lambda: c.put(here / "tree", "/tmp/never"),
        "get": lambda: c.get("/etc/hostname", here / "got"),
    }


SOME = ("run with input", "write_bytes", "put")
"""Enough where each one takes its time."""


def assert_never_begins(
    c: Connection, host: Host, here: Path, words: str, names: Sequence[str] = ()
) -> None:
    """The same error from every call, true to the facts, and nothing was run."""
    calls = every_call(c, here)
    for name in names or calls:
        call = calls[name]
        began = time.monotonic()
        with pytest.raises(CommandNotStarted, match=words) as caught:
            call()
        assert time.monotonic() - began < 25 + START, name
        assert not isinstance(caught.value, ConnectionLost)
        assert caught.value.advice
        at_risk = name in ("run", "run with input", "run in a login shell", "popen", "read_bytes")
        assert caught.value.sent in (("no", "maybe") if at_risk else ("no",)), name
    assert sorted(path.name for path in host.home.glob("RAN*")) == []


@pytest.mark.parametrize(
    ("rc", "words", "names"),
    [
        pytest.param("exec /bin/dash\n", "silent for|ended", (), id="another-shell"),
        pytest.param("echo Loading; exit 0\n", "status 0 .*Loading", (), id="exit"),
        pytest.param("echo Hanging; sleep 6\n", "silent for .*Hanging", SOME, id="hangs"),
        pytest.param("cat >/dev/null; exit 3\n", "silent for|status 3", SOME, id="reads"),
    ],
)
def test_an_rc_file_that_never_lets_a_command_begin(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    rc: str, words: str, names: Sequence[str],
) -> None:  # fmt: skip
    host = make_sshd(files={".bashrc": rc})
    expect_logins(1)
    with connect(host, backend, START) as c:
        try:
            assert_never_begins(c, host, tmp_path, words, names)
            assert c.check(), "the link is well, and nobody ended it"
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    ("force", "words"),
    [
        pytest.param("internal-sftp", "sftp connections only", id="sftp-only"),
        pytest.param("/bin/false", "status 1", id="false"),
        pytest.param(
            'echo "not here: $SSH_ORIGINAL_COMMAND" >&2; exit 126', "not here: exec", id="echoes"
        ),
        pytest.param('/bin/rbash -c "$SSH_ORIGINAL_COMMAND"', "restricted", id="rbash"),
    ],
)
def test_an_account_for_something_else(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    force: str, words: str,
) -> None:  # fmt: skip
    host = make_sshd(config_extra=f"ForceCommand {force}")
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            assert_never_begins(c, host, tmp_path, words)
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    "rc", ["exec </dev/null\n", "exec >/dev/null\n", "exec 1>&2\n", "exec >&-\n", "exec 2>&1\n"]
)
def test_an_rc_file_that_moves_a_stream_is_found_before_anything_is_believed(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    rc: str,
) -> None:  # fmt: skip
    """No empty output of success, and no wait for an answer that goes elsewhere."""
    host = make_sshd(files={".bashrc": rc})
    expect_logins(1)
    with connect(host, backend, START) as c:
        try:
            calls = every_call(c, tmp_path)
            for name in ("exists", "put a tree"):
                with pytest.raises(CommandNotStarted):
                    calls[name]()
            with pytest.raises(OpenSSHJobsError):
                calls["write_bytes"]()
            if rc != "exec </dev/null\n":
                with pytest.raises((CommandNotStarted, InvalidAnswer)):
                    c.run("echo hi")
            assert c.check()
        finally:
            c.close(stop_master=True)


def test_a_forced_command_that_runs_a_command_twice_is_found(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend
) -> None:
    """Of the second time it has no input: that does not mean that nothing was run."""
    run = 'sh -c "$SSH_ORIGINAL_COMMAND"'
    host = make_sshd(config_extra=f"ForceCommand {run}; {run}")
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            for env in (None, {"A": "b"}):
                with pytest.raises(InvalidAnswer, match="more than once") as caught:
                    c.run("echo >>~/RAN", env=env)
                assert caught.value.sent == "yes"
            assert (host.home / "RAN").read_text() == "\n" * 3
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("profile", ["exec /bin/dash -l\n", "echo 'Loading'; exit 0\n"])
def test_a_login_shell_that_never_begins(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend, profile: str
) -> None:
    """Only what needs a login shell is an error; a submission knows that there is no job."""
    host = make_sshd(files={".bash_profile": profile})
    expect_logins(1)
    with connect(host, backend, 3) as c:
        try:
            with pytest.raises(CommandNotStarted) as caught:
                c.run("touch ~/RAN; exit 7", login_shell=True, check=True)
            assert caught.value.sent == "maybe"
            with pytest.raises(CommandNotStarted) as caught:
                c.run("touch ~/RAN", env={"A": "b"}, login_shell=True)
            assert caught.value.sent == "no"
            assert c.run("echo plain").stdout == "plain\n"
            assert not c.exists("~/RAN")
        finally:
            c.close(stop_master=True)


def test_a_submission_whose_shell_never_begins_leaves_its_token_free(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend
) -> None:
    host = make_sshd(files={".bash_profile": "exit 0\n"})
    expect_logins(1)
    connection = connect(host, backend)
    cluster = Cluster(connection, scheduler="direct")
    try:
        with pytest.raises(CommandNotStarted) as caught:
            cluster.submit(script_text="echo done", directory="~/job", token="once")
        assert caught.value.sent == "no"
        (host.home / ".bash_profile").write_text("")
        job = cluster.submit(script_text="echo done", directory="~/job", token="once")
        assert job.wait(timeout=60).exit_code == 0
    finally:
        connection.close(stop_master=True)


def test_a_timeout_counts_from_the_call(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend
) -> None:
    """A shell that is slow to begin uses up the time that was given for the command."""
    host = make_sshd(files={".bash_profile": "sleep 66\n"})
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            with pytest.raises(CommandTimeout, match="had not begun") as caught:
                c.run("true", login_shell=True, timeout=1)
            assert caught.value.confirmed
            assert caught.value.sent == "maybe"
        finally:
            c.close(stop_master=True)


def test_rc_files_that_are_slow_are_waited_for(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend
) -> None:
    host = make_sshd(files={".bashrc": "sleep 1\n"})
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            assert c.run("echo late; cat", input="and in").stdout == "late\nand in"
            assert c.exists("/")
        finally:
            c.close(stop_master=True)
    with pytest.raises(ConfigurationError):
        Connection(host.alias, start_timeout=0)


@pytest.mark.parametrize("rc", ["exec </dev/null\n", "exec <&-\n", "exec <~/other\n"])
def test_input_that_an_rc_file_keeps_from_a_command_is_not_lost_in_silence(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend, rc: str
) -> None:
    """Else the command would take nothing, or something else, for all of its input."""
    files = {".bashrc": rc, ".bash_profile": "", "other": "other\n" * 9}
    host = make_sshd(files=files)
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            for login_shell in (False, True):
                with pytest.raises(CommandNotStarted, match="has another stdin") as caught:
                    c.run("cat >~/RAN", input="data\n", login_shell=login_shell)
                assert caught.value.sent == "no"
                with (
                    pytest.raises(CommandNotStarted, match="has another stdin"),
                    c.popen("cat >~/RAN", login_shell=login_shell) as process,
                ):
                    process.communicate("data\n", timeout=20)
            assert c.run("echo out").stdout == "out\n"
            assert not (host.home / "RAN").exists()
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("rc", ["exec >&2\n", "exec >/dev/null\n"])
def test_output_that_an_rc_file_keeps_back_is_not_an_empty_one(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend, rc: str
) -> None:
    host = make_sshd(files={".bashrc": rc})
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            with pytest.raises(InvalidAnswer, match="did not come"):
                c.run("echo out")
            process = c.popen("echo out")
            with pytest.raises(InvalidAnswer, match="did not come"):
                process.communicate(timeout=20)
            process.close()
            process = c.popen("echo out")
            with pytest.raises(InvalidAnswer, match="did not come"):
                process.wait(timeout=20)
            process.close()
        finally:
            c.close(stop_master=True)


NOISY_ENDS = "trap 'echo from the trap; echo trap >&2; cat' EXIT\n"


def test_what_a_shell_prints_at_its_end_is_in_no_result(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend
) -> None:
    host = make_sshd(
        files={
            ".bashrc": NOISY_ENDS,
            ".bash_profile": NOISY_ENDS,
            ".bash_logout": "echo from the logout file\n",
        }
    )
    expect_logins(1)
    data = os.urandom(300_000)
    with connect(host, backend) as c:
        try:
            for login_shell in (False, True):
                done = c.run("echo 42; echo err >&2; exit 5", login_shell=login_shell)
                assert (done.returncode, done.stdout, done.stderr) == (5, "42\n", "err\n")
                with c.popen("cat", login_shell=login_shell) as process:
                    assert process.communicate("in", timeout=20)[0] == "in"
                with c.popen("echo out; exit 5", login_shell=login_shell) as process:
                    assert process.stdout is not None
                    assert process.stdout.read() == "out\n", "though its stdin is open"
                    assert process.wait(timeout=20) == 5
            c.write_bytes("file", data)
            assert c.read_bytes("file") == data
            c.get("file", tmp_path / "got", method="tar")
            assert (tmp_path / "got").read_bytes() == data
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    "files",
    [
        {".bash_profile": "trap 'exit 0' EXIT\n"},
        {".bash_logout": "exit 0\n"},
        {".bash_profile": "exit() { builtin exit 0; }\n"},
    ],
    ids=["trap", "logout", "function"],
)
def test_the_end_of_a_login_shell_does_not_change_the_status(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend,
    files: dict[str, str],
) -> None:  # fmt: skip
    host = make_sshd(files=files)
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            assert c.run("echo out; false", login_shell=True).returncode == 1
            done = c.run("set -e; false; echo on", login_shell=True)
            assert (done.returncode, done.stdout) == (1, "")
            assert c.run("kill -9 $BASHPID", login_shell=True).returncode == 137
            assert c.run("true", login_shell=True).returncode == 0
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize(
    "rc",
    [
        "set -v\n",
        "set -x\n",
        "set -euo pipefail\n",
        "set -C\n",
        "PATH=/nonexistent\n",
        "unset PATH\n",
        "IFS=x; OJ=1\n",
        "IFS=-o0123456789; export IFS\n",
        "export TAR_OPTIONS='--exclude=file --nonsense' POSIXLY_CORRECT=1\n",
        "yes noise | head -c 400000\nyes noise | head -c 400000 >&2\n",
        "exec 3>/dev/null 4>&3\n",
    ],
)
def test_what_rc_files_do_to_a_shell_is_survived(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    rc: str,
) -> None:  # fmt: skip
    host = make_sshd(files={".bashrc": rc})
    expect_logins(1)
    (tmp_path / "file").write_bytes(os.urandom(200_000))
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            for timeout in (30, None):
                done = c.run("echo hi; exit 3", timeout=timeout)
                assert (done.returncode, done.stdout) == (3, "hi\n")
            assert (
                c.run("read line; echo $line $A", input="in\n", env={"A": "a"}).stdout == "in a\n"
            )
            assert not c.exists("~/nothing")
            c.mkdir("made")
            assert c.is_dir("made")
            assert "made" in c.listdir(".")
            c.put(tmp_path / "file", "there", method="tar")
            assert c.read_bytes("there") == (tmp_path / "file").read_bytes()
            c.put(tmp_path, "tree")
            c.get("tree", tmp_path / "tree")
            assert (tmp_path / "tree" / "file").read_bytes() == (tmp_path / "file").read_bytes()
        finally:
            c.close(stop_master=True)


BASH_IS_SH = (
    *("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c"),
    """'mount --bind /bin/bash /bin/sh; exec /bin/bash "$@"'""",
    "bash",
)


@pytest.mark.parametrize(
    "rc",
    [
        "set -euf; export SHELLOPTS\n",
        "set -C; export SHELLOPTS\n",
        'cd() { builtin cd "$@" && ls; }; rm() { echo rm; }; export -f cd rm\n',
    ],
)
def test_what_rc_files_export_to_a_bash_that_is_sh_is_survived(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, backend: Backend,
    rc: str,
) -> None:  # fmt: skip
    parts.require_namespaces("another /bin/sh")
    host = make_sshd(files={".bashrc": "PS1=\n" + rc}, shell=BASH_IS_SH, user="root")
    expect_logins(1)
    (tmp_path / "file").write_bytes(os.urandom(200_000))
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            c.put(tmp_path, "tree")
            assert c.glob("tr*") == ["tree"]
            assert not c.exists("~/nothing")
            assert c.read_bytes("tree/file") == (tmp_path / "file").read_bytes()
            c.get("tree", tmp_path / "back")
            assert (tmp_path / "back" / "file").read_bytes() == (tmp_path / "file").read_bytes()
            done = c.run("pwd", cwd="tree")
            assert (done.returncode, done.stdout) == (0, f"{host.home}/tree\n")
            c.write_bytes("tree/file", b"new")
            c.rmtree("tree")
            assert not (host.home / "tree").exists()
        finally:
            c.close(stop_master=True)


@pytest.mark.parametrize("shell", ["zsh", "mksh", "yash", "busybox"])
def test_more_login_shells(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend, shell: str
) -> None:
    parts.require(shell)
    words = ("busybox", "sh") if shell == "busybox" else (shell,)
    files = {".zshenv": "setopt glob_subst\n"}  # which expands what is assigned or compared
    host = make_sshd(shell=("env", f"SHELL=$(command -v {shell})", *words), files=files)
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, exec_backend=backend) as c:
        try:
            for _ in range(2):
                done = c.run("echo 'a b' ä; echo err >&2; exit 3")
                assert (done.returncode, done.stdout, done.stderr) == (3, "a b ä\n", "err\n")
                assert c.run("kill -9 $$").returncode == 137
            assert c.run("cat; echo $A", input="in", env={"A": "a 'b'"}).stdout == "ina 'b'\n"
            with pytest.raises(FileNotFoundError):
                c.run("true", cwd="/no/such")
            c.write_bytes("file", b"x" * 100_000)
            assert c.read_bytes("file") == b"x" * 100_000
            if shell != "busybox":  # which is no shell under that name
                done = c.run('echo "$A"; exit 4', env={"A": "b:=c"}, cwd="/usr", login_shell=True)
                assert (done.returncode, done.stdout) == (4, "b:=c\n")
        finally:
            c.close(stop_master=True)


def test_a_host_that_never_stops_talking_is_given_up(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, backend: Backend
) -> None:
    """In the rc files, and in an answer; what is kept meanwhile has an end."""
    host = make_sshd(files={".bashrc": "yes 'a word from the host'\n"})
    expect_logins(1)
    with connect(host, backend) as c:
        try:
            for call in (lambda: c.exists("/"), lambda: c.run("true")):
                with pytest.raises(CommandNotStarted, match="a word from the host"):
                    call()
            (host.home / ".bashrc").write_text("")
            host.make("bin/stat", b"#!/bin/sh\nexec yes 'a word from the host'\n")
            (host.home / "bin/stat").chmod(0o755)
            assert c.features.stat
            (host.home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
            c.close()
            with pytest.raises(OpenSSHJobsError, match=r"more than \d+ bytes"):
                c.stat("/")
        finally:
            c.close(stop_master=True)


def test_output_that_is_passed_on_need_not_be_kept(connection: Connection) -> None:
    lines: list[str] = []
    done = connection.run("seq 100000; echo err >&2", on_stdout=lines.append, keep=False)
    assert (done.stdout, done.stderr) == ("", "err\n"), "what is not passed on is kept"
    assert lines == [f"{n}\n" for n in range(1, 100_001)]


def test_a_line_without_an_end_comes_in_pieces(connection: Connection) -> None:
    pieces: list[bytes] = []
    connection.run("head -c 50000000 /dev/zero", text=False, on_stdout=pieces.append, keep=False)
    assert sum(map(len, pieces)) == 50_000_000
    assert max(map(len, pieces)) < 20_000_000

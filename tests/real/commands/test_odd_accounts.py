"""What the rc files or the environment of an account bring changes nothing in our own scripts.

Functions, aliases, traps, options and read-only variables: the right result, or an error of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection
from openssh_jobs.errors import (
    CommandFailed,
    CommandNotStarted,
    OpenSSHJobsError,
    TransferError,
)
from tests.lab import parts
from tests.paths import CHECKOUT

from .test_start_and_end import BASH_IS_SH, ExpectLogins, MakeSshd

Call = Callable[[], object]


def functions(names: str, body: str) -> str:
    return "".join(f"{name}() {{ {body}; }}\n" for name in names.split())


def our_variables() -> str:
    """All variables of our shell text that an account could have made read-only."""
    package = CHECKOUT / "openssh_jobs"
    text = "".join(path.read_text() for path in package.rglob("*.sh"))
    text += "".join(path.read_text() for path in (package / "commands").glob("*.py"))
    names = {*re.findall(r"\boj_[a-z_]+\b", text), *"abcdefghijklmnopqrstuvwxyz", "OJ_SCRIPT"}
    assert {"oj_r", "oj_dir", "i"} <= names
    return " ".join(sorted(names))


def outcome(c: Connection, command: str, **options: object) -> tuple[int, str]:
    done = c.run(command, timeout=60, **options)  # type: ignore[call-overload]
    return done.returncode, done.stdout


def commands(c: Connection) -> Iterator[tuple[str, Call, object]]:
    """Commands of the user's, in all forms, and what is right."""
    yield from commands_in(c, login=False)
    yield from commands_in(c, login=True)


def commands_in(c: Connection, *, login: bool) -> Iterator[tuple[str, Call, object]]:
    def run(command: str, **options: object) -> Call:
        return lambda: outcome(c, command, login_shell=login, **options)

    where = "login shell" if login else "plain"
    yield f"{where}: fails", run("echo out; sh -c 'exit 3'"), (3, "out\n")
    yield f"{where}: succeeds", run("echo yes"), (0, "yes\n")
    given = run("pwd; cat; echo $A; false", cwd="/usr/share", env={"A": "v"}, input="in-")
    yield f"{where}: given", given, (1, "/usr/share\nin-v\n")
    yield f"{where}: popen", lambda: talk(c, login), (4, "in")


def result(run: Call) -> object:
    try:
        return run()
    except (CommandNotStarted, CommandFailed) as error:
        return error


def talk(c: Connection, login: bool) -> tuple[int | None, str]:
    with c.popen("cat; sh -c 'exit 4'", login_shell=login) as process:
        out = process.communicate("in", timeout=60)[0]
    return process.returncode, out


def files(c: Connection, here: Path) -> Iterator[tuple[str, Call, object]]:
    tree = here / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_bytes(b"x" * 70_000)

    def calls() -> object:
        c.makedirs("m/n")
        c.write_bytes("m/a", b"1")
        c.write_bytes("m/a", b"12")
        c.rename("m/a", "m/b")
        seen = sorted(c.listdir("m")), c.exists("m/a"), c.read_bytes("m/b"), c.glob("m/[b]*")
        c.rmtree("m")
        return *seen, c.exists("m")

    def there_and_back() -> object:
        c.put(tree, "there")
        c.put(tree, "there", update=True)
        c.get("there", here / "back")
        return (here / "back" / "sub" / "file").stat().st_size

    yield "files", calls, (["b", "n"], False, b"12", ["m/b"], False)
    yield "tree", there_and_back, 70_000


def jobs(c: Connection, here: Path) -> Iterator[tuple[str, Call, object]]:
    def submit(script: str) -> object:
        cluster = Cluster(c, scheduler="direct", journal=str(here / "journal.db"))
        job = cluster.submit(script_text=script, directory="~/job", env={"A": "v"})
        if "sleep" in script:
            job.cancel()
        status = job.wait(timeout=60)
        return str(status.state), status.exit_code if "sleep" not in script else None

    yield "job", lambda: submit("#!/bin/dash\necho $A\nexit 3\n"), ("failed", 3)
    yield "cancel", lambda: submit("#!/bin/dash\nsleep 314\n"), ("cancelled", None)


def every(c: Connection, here: Path) -> Iterator[tuple[str, Call, object]]:
    yield from commands(c)
    yield from files(c, here)
    yield from jobs(c, here)


ACCOUNTS = {
    "functions": functions(
        "test [ kill command read trap umask wait mkdir mv shift", "echo mine; return 3"
    )
    + 'cd() { builtin cd "$@"; builtin test -f .env; }\n',
    "read-only variables": "set -E; trap 'exit 0' ERR; cd() { :; }; unset() { :; }\n"
    "readonly @VARIABLES@\n",
    "traps": "set -eET; trap 'echo err' ERR; trap 'echo debug' DEBUG; trap 'echo ret' RETURN\n"
    "trap 'echo bye; exit 0' EXIT\n",
    "surroundings": "export CDPATH=/usr:/ POSIXLY_CORRECT=1; IFS=ab; umask 027\n"
    + functions("command read builtin", ":"),
    "output": functions("unset", "echo mine") + "BASH_XTRACEFD=1; set -x\n",
}
"""Each in .bashrc and in .bash_profile."""


@pytest.mark.parametrize("name", ACCOUNTS)
def test_what_rc_files_define_changes_no_result(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, name: str
) -> None:
    variables = " ".join(f"{variable}=0" for variable in our_variables().split())
    text = ACCOUNTS[name].replace("@VARIABLES@", variables)
    host = make_sshd(files={".bashrc": text, ".bash_profile": text})
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config) as c:
        try:
            for call, run, right in every(c, tmp_path):
                assert run() == right, call
        finally:
            c.close(stop_master=True)


HOPELESS = {
    "eval": functions("eval", ":"),
    "exec": functions("exec", "echo mine; return 0"),
    "printf": functions("printf", ":"),
    "ends": functions("exit printf set", ":"),
    "aliases": "shopt -s expand_aliases\nalias exec='echo mine' eval=: printf=: exit=:\n",
}


@pytest.mark.parametrize("name", HOPELESS)
def test_where_nothing_can_be_run_no_result_is_believed(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, name: str
) -> None:
    """The right result or a typed error; and what a plain /bin/sh can do works from then on."""
    rc = HOPELESS[name]
    host = make_sshd(files={".bashrc": rc, ".bash_profile": rc})
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config, start_timeout=2) as c:
        try:
            for _ in range(2):
                refused = set()
                for call, run, right in commands(c):
                    got = result(run)
                    if isinstance(got, OpenSSHJobsError):
                        assert re.search("without starting|rc file", str(got))
                        refused.add(call)
                    else:
                        assert got == right, call
            if name not in ("exec", "aliases"):
                assert all(call.startswith("login") for call in refused), (
                    "only the login shell itself"
                )
        finally:
            c.close(stop_master=True)


NAMES = "[ test read wait kill cat mkdir mv rm ln cd umask ls date sleep"
EXPORTED = {
    "functions": functions(NAMES, "echo mine; return 3") + f"export -f {NAMES}\n",
    "silent functions, options": functions("wait true cd echo command unset", ":")
    + "export -f wait true cd echo command unset\nset -Cf\n"
    + "shopt -s failglob nocasematch xpg_echo dotglob; export BASHOPTS SHELLOPTS\n",
    "a trace on stdout": "export BASH_XTRACEFD=1 SHELLOPTS; set -kx\n",
}


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_to_a_bash_that_is_sh_changes_no_result(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path, name: str
) -> None:
    parts.require_namespaces("another /bin/sh")
    rc = "PS1=\n" + EXPORTED[name]
    host = make_sshd(files={".bashrc": rc, ".bash_profile": ""}, shell=BASH_IS_SH, user="root")
    expect_logins(1)
    with Connection(host.alias, ssh_config=host.config) as c:
        try:
            for call, run, right in (*files(c, tmp_path), *jobs(c, tmp_path)):
                assert run() == right, call
            assert outcome(c, "exec /bin/dash -c 'pwd; exit 3'", cwd="/usr") == (3, "/usr\n")
        finally:
            c.close(stop_master=True)


def test_rsync_and_scp_end_where_an_rc_file_comes_between(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path
) -> None:
    """Their other half never begins, or its answer has no end, and both would wait for ever."""
    parts.require("rsync")
    host = make_sshd(files={".bashrc": ""})
    expect_logins(1)
    (tmp_path / "file").write_text("x")
    with Connection(host.alias, ssh_config=host.config, start_timeout=2) as c:
        try:
            assert c.features.rsync
            (host.home / ".bashrc").write_text("cat >/dev/null\n")
            with pytest.raises(CommandNotStarted, match="silent for 2 s"):
                c.put(tmp_path / "file", "there", method="rsync")
            (host.home / ".bashrc").write_text("printf 'no newline'\n")
            with pytest.raises(CommandNotStarted, match="silent for 2 s"):
                c.put(tmp_path / "file", "there", method="scp")
            (host.home / ".bashrc").write_text("")
            assert not c.exists("there")
        finally:
            c.close(stop_master=True)


def test_an_sftp_server_that_hangs_is_no_login_shell_that_hangs(
    make_sshd: MakeSshd, cold: Path, expect_logins: ExpectLogins, tmp_path: Path
) -> None:
    """Files take another way, and nothing else is given up for it."""
    host = make_sshd(sftp=False, config_extra="Subsystem sftp sleep 4")
    expect_logins(1)
    (tmp_path / "file").write_text("x")
    with Connection(host.alias, ssh_config=host.config, start_timeout=1) as c:
        try:
            for name in "abcd":
                assert c.put(tmp_path / "file", name).bytes == 1
                assert c.get(name, tmp_path / name).bytes == 1
            with pytest.raises(TransferError, match="no working sftp"):
                c.put(tmp_path / "file", "there", method="sftp")
            assert c.run("echo out").stdout == "out\n"
        finally:
            c.close(stop_master=True)

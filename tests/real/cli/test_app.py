"""What becomes of errors and closed streams of the command line, with real hosts."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs.testing.sshd import free_port, make_key
from tests.cli import PROGRAM, at, on_terminal, program, without_colour
from tests.lab.site import Host


def test_an_unknown_host(cold: Path) -> None:
    done = program("exec", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    assert "no-such-host.invalid: ssh does not know this host" in done.sentence()
    assert "ssh -G no-such-host.invalid" in done.sentence()


def test_an_unknown_host_as_data(cold: Path) -> None:
    done = program("exec", "--json", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    error = done.data["error"]
    assert (error["type"], error["exit_code"]) == ("HostUnreachable", 3)
    assert (error["host"], error["sent"]) == ("no-such-host.invalid", "no")
    assert error["message"] == done.sentence()


def test_no_server_listens(cold: Path) -> None:
    done = program("exec", "-p", str(free_port()), "127.0.0.1", "--", "ls")
    assert done.code == 3
    assert "cannot be reached: Connection refused" in done.sentence()


def test_a_refused_key(make_sshd: Callable[..., Host], cold: Path) -> None:
    host = make_sshd()
    make_key(cold / "other", "another key")
    config = cold / "config"
    config.write_text(
        host.config.read_text().replace(str(host.server.identity), str(cold / "other"))
    )
    done = program("exec", "-F", str(config), host.alias, "--", "ls")
    assert done.code == 3
    assert "was refused; the server takes: publickey" in done.sentence()


def test_an_unreachable_jump_host(sshd: Host, cold: Path) -> None:
    done = program("exec", "-J", "gate.invalid", *at(sshd), "--", "ls")
    assert done.code == 3
    assert "jump host" in done.sentence()
    assert "gate.invalid" in done.sentence()


def test_debug_shows_where_and_the_sentence_stays(cold: Path) -> None:
    done = program("exec", "--debug", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    assert "Traceback" in done.err
    assert "HostUnreachable" in done.err
    assert "ssh does not know this host" in done.err.splitlines()[-1]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_trouble(sshd: Host, closed: str, tmp_path: Path) -> None:
    """What is closed gets nothing; the command does its work, and its files arrive as they are."""
    there = sshd.home / "oj-closed"
    for words in (
        ["exec", *at(sshd), "--", "sh", "-c", "echo said; echo also >&2; echo ran >>oj-closed"],
        ["exec", "--json", "-s", "echo said; echo ran >>oj-closed", *at(sshd)],
        ["get", "-F", str(sshd.config), f"{sshd.alias}:oj-closed", str(tmp_path / "got")],
        ["login"],
        ["--version"],
    ):
        line = shlex.join([*PROGRAM, *words]) + " " + closed
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False)
        said = done.stderr.decode()
        assert (done.returncode, "Traceback" in said) == (0, False), said
        assert ">&-" not in closed.replace("2>&-", "") or done.stdout == b""
    there.unlink()
    assert (tmp_path / "got").read_text() == "ran\nran\n"


def test_a_failure_with_closed_streams_has_its_exit_code(cold: Path) -> None:
    words = shlex.join([*PROGRAM, "exec", "no-such-host.invalid", "--", "ls"])
    assert (
        subprocess.run(["sh", "-c", words + " >&- 2>&-"], timeout=60, check=False).returncode == 3
    )


def test_a_terminal_gets_the_same_sentence(cold: Path) -> None:
    done = on_terminal("exec", "no-such-host.invalid", "--", "ls")
    assert done.code == 3
    lines = without_colour(done.out).splitlines()
    assert max(map(len, lines)) <= 80
    assert "ssh does not know this host" in " ".join(lines)
    assert any("`ssh -G no-such-host.invalid`" in line for line in lines), "no break in a command"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["put", "--help"], 0),
        (["help", "get"], 0),
        (["config"], 0),
        (["no-such-command"], 2),
        (["exec", "no-such-host.invalid", "--", "ls"], 3),
        (["exec", "--json", "no-such-host.invalid", "--", "ls"], 3),
    ],
)
def test_what_cannot_be_written_is_one_sentence_or_the_code(
    cold: Path, words: list[str], code: int
) -> None:
    """A full disk, and a reader that is gone, as stdout; a full disk as stderr."""
    line = shlex.join([*PROGRAM, *words])
    for to, wanted in {
        ">/dev/full": (code or 1,),
        "| :": (code, 141),  # the reader may go before or after it
        "2>/dev/full": (code,),
        ">/dev/full 2>/dev/full": (code or 1,),
    }.items():
        script = f"{line} {to}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, check=False)
        said = done.stderr.decode()
        assert done.returncode in wanted, (to, said)
        assert len(said.splitlines()) <= 1, (to, said)

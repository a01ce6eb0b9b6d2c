"""``doctor``: healthy and broken hosts, each for real; it never asks and never repairs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from tests.cli import Done, program
from tests.lab import parts
from tests.lab.agent import Agent
from tests.lab.interactive import MakeServer, password
from tests.lab.site import Host


def findings(done: Done) -> dict[str, tuple[str, str, str]]:
    """check: (level, text, mend) of ``doctor --json``."""
    return {
        finding["check"]: (finding["level"], finding["text"], finding["mend"])
        for finding in done.data["findings"]
    }


def doctor(host: Any, *words: str) -> Done:
    return program("doctor", "-F", str(host.config), host.alias, *words)


def test_a_host_that_is_well(host: Host, slurm: Any) -> None:
    done = doctor(host)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line[:4] for line in lines[:-1]] == ["ok  "] * (len(lines) - 1)
    assert lines[-1] == "all is well"
    for text in (
        "OpenSSH",
        f"{host.alias} → {host.user}@",
        "of 90 bytes",
        "wal mode, integrity_check ok",
        "logged in already",
        "shell: ",
        "sftp, GNU tar",
        "free in the home directory",
        "slurm",
        "clocks agree within",
    ):
        assert text in done.out
    assert ("through bastion (hpcbob@" in done.out) == bool(host.jumps)


def test_the_same_as_data(host: Host) -> None:
    done = doctor(host, "--json")
    assert done.code == 0
    assert (done.data["host"], done.data["works"]) == (host.alias, True)
    assert list(findings(done)) == [
        *("openssh", "configuration", "sockets", "journal", "agent", "login"),
        *("shell", "files", "scheduler", "clock"),
    ]


def test_a_damaged_journal_is_named_and_all_else_is_looked_at(
    sshd: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert doctor(sshd, "--json").code == 0
    (path,) = tmp_path.rglob("journal-*.sqlite")
    with path.open("r+b") as handle:
        handle.seek(4096)  # the first page has the list of tables
        handle.write(b"\xff" * (path.stat().st_size - 4096))
    done = doctor(sshd, "--json")
    assert done.code != 0
    level, text, mend = findings(done)["journal"]
    assert (level, str(path) in text, "Move it away" in mend) == ("FAIL", True, True)
    assert "clock" in findings(done)


def test_a_first_login_is_said_to_be_one(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd()
    level, text, _ = findings(doctor(host, "--json"))["login"]
    assert level == "ok"
    assert text.startswith("login in ")
    assert "kept for 10 min" in text
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_a_host_that_asks(cold: Path, asking: MakeServer) -> None:
    server = asking(steps=[password("x")])
    config = cold.parent / "config"
    config.write_text(server.config())
    for _ in range(2):
        done = program("doctor", "-F", str(config), "asks")
        assert done.code == 3
        lines = done.out.splitlines()
        assert lines[-1] == "1 thing does not work"
        assert lines[-3].startswith("FAIL  it asks for a password or a code")
        assert (
            lines[-2] == f"      Type `openssh-jobs login -F {config} asks` once, or open the "
            "master with a responder."
        )
    assert server.counts["connections"] == 1, "the second one had nothing new to find out"


def test_noise_and_a_strange_shell(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    parts.require("tcsh")
    expect_logins(1)
    host = make_sshd(shell=("tcsh",), files={".cshrc": "echo one\necho two\necho three\n"})
    found = findings(doctor(host, "--json"))
    level, text, mend = found["shell"]
    assert level == "warn"
    assert "print 3 lines before every command" in text
    assert mend
    assert found["sftp"][0] == "warn"
    assert found["files"][0] == "ok"
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_no_sftp(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd(sftp=False)
    found = findings(doctor(host, "--json"))
    assert found["sftp"][0] == "warn"
    assert found["sftp"][1].startswith("no sftp (")
    assert found["files"][0] == "ok"
    assert "sftp" not in found["files"][1]
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_an_account_without_a_shell(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd(config_extra="ForceCommand echo 'This account is not available.'; exit 1")
    done = doctor(host)
    assert done.code != 0
    assert "FAIL  the login shell runs no commands: This account is not available." in done.out
    assert done.out.count("FAIL") == 1
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_an_account_that_never_stops(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd(config_extra="ForceCommand exec yes")
    done = doctor(host)
    assert "FAIL  the login shell runs no commands: y\n" in done.out
    assert done.out.count("FAIL") == 1
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_keys_that_cannot_be_used_unattended(
    cold: Path, make_sshd: Any, expect_logins: Any, tmp_path: Path
) -> None:
    """A locked key, an expired certificate and an agent with too many keys, beside a good key."""
    expect_logins(0)
    host = make_sshd()
    agent = Agent(cold.parent / "a")
    agent.start()
    try:
        for number in range(6):
            agent.new_key(f"key{number}")
        locked, ca = tmp_path / "locked", tmp_path / "ca"
        for path, phrase in ((locked, "sesame open"), (ca, "")):
            keygen("-t", "ed25519", "-N", phrase, "-a", "1", "-f", str(path))
        dates = "20240101000000:20240203040500"
        keygen("-s", str(ca), "-I", "me", "-n", host.user, "-V", dates, f"{locked}.pub")
        config = cold.parent / "config"
        text = host.config.read_text().replace("IdentitiesOnly yes", f'IdentityFile "{locked}"')
        config.write_text(text.replace("IdentityAgent none", f'IdentityAgent "{agent.socket}"'))
        done = program("doctor", "-F", str(config), host.alias, "--json")
        found = findings(done)
        assert found["certificate"][0] == "warn"
        assert f"{locked}-cert.pub expired on 2024-02-03 at 04:05" in found["certificate"][1]
        assert found["keys"][0] == "warn"
        assert str(locked) in found["keys"][1]
        assert found["agent"][0] == "warn"
        assert "agent: 6 keys" in found["agent"][1]
        # And so the server gives up before it sees the right key.
        assert done.code == 3
        assert "too many keys were offered" in found["login"][1]
        assert "IdentitiesOnly" in found["login"][2]
    finally:
        agent.stop()


def keygen(*words: str) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", *words],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


def test_an_agent_that_is_gone(cold: Path, make_sshd: Any, expect_logins: Any) -> None:
    expect_logins(1)
    host = make_sshd()
    config = cold.parent / "config"
    gone = cold.parent / "no-agent"
    text = host.config.read_text().replace("IdentityAgent none", f'IdentityAgent "{gone}"')
    config.write_text(text)
    found = findings(program("doctor", "-F", str(config), host.alias, "--json"))
    assert found["agent"][0] == "warn"
    assert str(gone) in found["agent"][1]
    assert found["login"][0] == "ok"
    Connection(host.alias, ssh_config=config).close(stop_master=True)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["no-such-host.invalid"], 3, "FAIL  ssh does not know this host"),
        (["-o", "Bogus=1", "h"], 2, "Bad configuration option: bogus"),
        (
            ["-o", "ProxyJump=127.0.0.1:9", "127.0.0.1"],
            3,
            "FAIL  the connection through the jump host [127.0.0.1]:9 failed",
        ),
        (["-p", "9", "127.0.0.1"], 3, "FAIL  127.0.0.1 port 9 cannot be reached"),
        (["-J", "a b", "127.0.0.1"], 2, "FAIL  the host name 'a b' contains ' '"),
    ],
)
def test_what_is_wrong_before_the_host(cold: Path, words: list[str], code: int, text: str) -> None:
    done = program("doctor", *words)
    assert done.code == code
    assert text in done.out
    assert done.err == ""


def test_a_socket_directory_that_cannot_be_used(cold: Path, tmp_path: Path) -> None:
    for path, text in (
        (tmp_path / ("long" * 20), "bytes too long"),
        (tmp_path / "open", "is open to others"),
    ):
        if "open" in path.name:
            path.mkdir(mode=0o755)
        done = program("doctor", "h", OPENSSH_JOBS_RUNTIME_DIR=str(path))
        assert done.code == 2
        assert text in done.out
        assert "OPENSSH_JOBS_RUNTIME_DIR" in done.out

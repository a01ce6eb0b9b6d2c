"""Which OpenSSH can do what, and what ``ssh -G`` makes of a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.commands import host_tools as remote
from openssh_jobs.errors import ConfigurationError, UnsupportedOpenSSH
from openssh_jobs.openssh import ssh_config
from openssh_jobs.openssh.destination import Destination

VERSIONS = {
    "OpenSSH_7.4p1, OpenSSL 1.0.2k-fips  26 Jan 2017": (7, 4),
    "OpenSSH_8.0p1, OpenSSL 1.1.1k  FIPS 25 Mar 2021": (8, 0),
    "OpenSSH_8.2p1 Ubuntu-4ubuntu0.5, OpenSSL 1.1.1f  31 Mar 2020": (8, 2),
    "OpenSSH_8.7p1, OpenSSL 3.0.7 1 Nov 2022": (8, 7),
    "OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.22 25 Aug 2026": (9, 2),
    "OpenSSH_9.6p1 Ubuntu-3ubuntu13.5, OpenSSL 3.0.13 30 Jan 2024": (9, 6),
    "OpenSSH_9.9p1, LibreSSL 3.3.6": (9, 9),
    "OpenSSH_10.0p2 Debian-5, OpenSSL 3.5.1 1 Jul 2025": (10, 0),
    "OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2": (8, 1),
    "something new": (99, 0),
    "": (99, 0),
}
CAN = {
    (7, 4): {"dump_configuration", "proxy_jump"},
    (8, 0): {"dump_configuration", "proxy_jump", "remote_command", "set_env"},
    (8, 4): {"askpass_prompt", "askpass_require"},
    (8, 5): {"log_verbose", "persist_frees_stderr"},
    (9, 2): {"scp_sftp_mode", "scp_sftp_default"},
    (9, 6): {"mux_connect_timeout", "percent_j"},
}


@pytest.mark.parametrize(("said", "number"), VERSIONS.items())
def test_versions(said: str, number: tuple[int, int]) -> None:
    version = ssh_config.parse_version(said + "\n")
    assert (version.major, version.minor) == number
    assert version.windows == ("Windows" in said)


def test_what_a_version_has_every_later_one_has() -> None:
    gained: set[str] = set()
    for number, names in CAN.items():
        gained |= names
        version = ssh_config.SshVersion(*number, "")
        assert {name for name in ssh_config.SINCE if version.has(name)} == gained
    assert gained == set(ssh_config.SINCE)
    assert ssh_config.parse_version("?").has("percent_j"), "nothing is held back from the unknown"
    with pytest.raises(KeyError):
        ssh_config.SshVersion(9, 2, "").has("no_such_feature")


@pytest.mark.parametrize(
    ("said", "words"),
    [("OpenSSH_6.6.1p1 Ubuntu", "too old"), ("OpenSSH_for_Windows_9.5p1", "use the ssh of WSL")],
)
def test_an_ssh_that_cannot_share_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UnsupportedOpenSSH) as caught:
        ssh_config.ssh_version()
    assert words.lower() in str(caught.value).lower()


def test_no_ssh_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnsupportedOpenSSH, match="no ssh on the PATH"):
        ssh_config.ssh_version()


def test_the_configuration_is_asked_not_read(tmp_path: Path) -> None:
    config = tmp_path / "config"
    (tmp_path / "more").write_text("Host inner\n    ProxyJump gate\n    HostName 10.0.0.7\n")
    config.write_text(
        f"Include {tmp_path}/more\nHost *\n    User alice\n    IdentityFile ~/a\n"
        '    IdentityFile "~/b c"\n    ControlPath none\n'
    )
    found = ssh_config.resolve(Destination(host="inner", ssh_config=str(config), port=2222))
    assert found.get("hostname") == "10.0.0.7"
    assert (found.get("user"), found.get("port"), found.get("proxyjump")) == (
        "alice", "2222", "gate",
    )  # fmt: skip
    assert found.values["identityfile"] == ("~/a", "~/b c")
    assert found.get("controlpath") is None
    assert found.get("no-such-keyword") is None


def test_a_configuration_that_hangs_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text('Match exec "sleep 30"\n    User x\n')
    with pytest.raises(ConfigurationError, match="Match exec"):
        ssh_config.resolve(Destination(host="h", ssh_config=str(config)), timeout=0.3)


@given(st.text(max_size=200))
def test_any_output_of_ssh_g_can_be_read(text: str) -> None:
    for values in ssh_config.parse_resolved(text).values.values():
        assert values


@given(st.binary(max_size=200))
def test_any_answer_of_a_host_is_facts_or_a_value_error(data: bytes) -> None:
    try:
        found = remote.parse(data)
    except ValueError:
        return
    assert found.home.startswith("/")

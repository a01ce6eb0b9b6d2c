"""Every way in that ``ssh HOST`` knows: open, run, lose, reopen, and a wait for a job across it.

Logins are counted in the log of every sshd on the way.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Connection, Prompt, errors
from tests.lab import pam
from tests.lab.chain import PASSWORD, Chain, Way, WayIn, person
from tests.lab.site import Host
from tests.real.openssh.ways import log_in, stay

pytest_plugins = ("tests.fixtures",)

ALONE = [
    Way(passes=("bastion", "login")),
    Way(passes=("bastion", "second", "login")),
    Way(passes=("bastion", "second", "third", "login")),
    Way(passes=("bastion", "second", "third", "login"), nested=True),
    Way(passes=("bastion", "second", "login"), command=True),
]


@pytest.mark.parametrize("way", ALONE, ids=str)
def test_a_way_that_needs_no_person_is_opened_again(
    chain: Chain, cold: Path, tmp_path: Path, way: Way
) -> None:
    with stay(chain, way, cold, tmp_path) as here:
        here.open()
        assert here.way_in.logins() == [1] * len(way.passes)
        here.kill_master()
        here.is_back([2] * len(way.passes))
        here.cut()
        here.is_back([3] * len(way.passes))
        here.finish()
        assert here.way_in.logins() == here.way_in.dials() == [3] * len(way.passes)


ASKING = [
    Way(passes=("bastion-code", "login")),
    Way(passes=("bastion", "login-code")),
    Way(passes=("bastion-code", "second", "login")),
    Way(passes=("bastion", "second-code", "login")),
    Way(passes=("bastion", "second-code", "third", "login"), nested=True),
    Way(passes=("bastion", "second", "third-code", "login")),
    Way(passes=("bastion-code", "second", "third", "login-code")),
    Way(passes=("bastion-code", "login"), command=True),
]


@pytest.mark.parametrize("way", ASKING, ids=str)
def test_a_way_with_a_second_factor_is_opened_by_a_person_only(
    chain: Chain, cold: Path, tmp_path: Path, way: Way
) -> None:
    asks = next(number for number, name in enumerate(way.passes) if name.endswith("-code"))
    with stay(chain, way, cold, tmp_path) as here:
        for _ in range(3):
            with pytest.raises(errors.AuthenticationNeeded) as caught:
                here.works()
            assert here.command in str(caught.value)
        if not way.command and asks < len(way.hops):
            assert f"the jump host {way.passes[asks]} (hpcbob@" in str(caught.value)
        # One dial in all, up to the server that asks; it got no answer, not even an empty one.
        once = [int(number <= asks) for number in range(len(way.passes))]
        assert here.way_in.dials() == once
        assert here.way_in.logins() == [int(number < asks) for number in range(len(way.passes))]
        assert "Failed keyboard" not in here.way_in.servers[asks].log_text()
        log_in(here.way_in)
        here.open()
        before = here.way_in.dials()
        lose = here.kill_master if asks else here.cut
        lose()
        error = here.refused(errors.AuthenticationNeeded)
        assert "needed a person to answer (password, code)" in str(error)
        assert here.command in str(error)
        assert here.way_in.dials() == before
        log_in(here.way_in)
        here.wait()
        here.finish()
        assert here.way_in.dials() == [2 + dial for dial in once]


def test_a_person_may_take_longer_at_a_jump_host_than_a_host_may_take_to_answer(
    chain: Chain, cold: Path
) -> None:
    way = Way(passes=("bastion-code", "second", "login"))
    often = dict.fromkeys(way.passes, "ConnectTimeout 3")  # as many users have it
    way_in = WayIn(chain, way, cold.parent / "config", extra=often)

    def slow(prompt: Prompt) -> str | None:
        time.sleep(3.5)  # twice
        return person(prompt)

    connection = Connection(way.host, ssh_config=way_in.config, responder=slow, connect_timeout=3)
    assert connection.run("echo in").stdout == "in\n"
    assert way_in.logins() == way_in.dials() == [1, 1, 1]
    connection.close(stop_master=True)


# -- a master of the user on the way --------------------------------------------------------------


@pytest.fixture
def users_master(tmp_path: Path) -> Iterator[Callable[[WayIn, str, Path], subprocess.Popen[bytes]]]:
    """``ssh -M BASTION`` in another terminal of the same user, who has answered there."""
    askpass = tmp_path / "askpass"
    started: list[subprocess.Popen[bytes]] = []

    def start(way_in: WayIn, alias: str, path: Path) -> subprocess.Popen[bytes]:
        askpass.write_text(
            f"#!/bin/sh\ncase $1 in *assword*) echo '{PASSWORD}';; *) echo {pam.code()};; esac\n"
        )
        askpass.chmod(0o700)
        started.append(
            subprocess.Popen(
                ["ssh", "-F", way_in.config, "-M", "-N", "-o", "ControlPersist=no", alias],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"},
            )
        )
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return started[-1]

    yield start
    for master in started:
        master.kill()
        master.wait(10)


def test_the_users_own_master_to_the_bastion_is_used_and_never_ended(
    chain: Chain, cold: Path, tmp_path: Path,
    users_master: Callable[[WayIn, str, Path], subprocess.Popen[bytes]],
) -> None:  # fmt: skip
    way, path = Way(passes=("bastion-code", "login")), cold.parent / "users"
    own = {"bastion-code": f"ControlPath {path}"}
    with stay(chain, way, cold, tmp_path, extra=own) as here:
        master = users_master(here.way_in, "bastion-code", path)
        here.open()
        assert here.way_in.logins() == [1, 1]
        here.kill_master()
        here.is_back([1, 2])
        # It ends, and takes our way with it: nobody answers for the user.
        master.kill()
        master.wait(10)
        error = here.refused(errors.AuthenticationNeeded)
        assert "the jump host bastion-code (hpcbob@" in str(error)
        assert here.command in str(error)
        assert here.way_in.dials() == [2, 2]
        path.unlink(missing_ok=True)
        master = users_master(here.way_in, "bastion-code", path)
        here.wait()
        here.is_back([2, 3])
        here.finish()
        assert here.way_in.dials() == [3, 3]
    assert master.poll() is None, "it is the user's"


def test_a_master_that_the_configuration_makes_at_the_bastion_is_kept(
    chain: Chain, cold: Path, tmp_path: Path
) -> None:
    """``ControlMaster auto`` with ``ControlPersist``: many users have it for every host."""
    way, path = Way(passes=("bastion", "second", "login")), cold.parent / "auto"
    own = {"bastion": f"ControlMaster auto\n    ControlPersist 60\n    ControlPath {path}"}
    with stay(chain, way, cold, tmp_path, extra=own) as here:
        here.open()
        here.kill_master()
        here.is_back([1, 2, 2])
        here.cut()  # this ends the bastion's, too
        here.is_back([2, 3, 3])
        here.finish()
        config = here.way_in.config
    argv = ["ssh", "-F", str(config), "-O", "exit", "bastion"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"it was ended with ours: {done.stderr}"


# -- what goes wrong at a jump host ---------------------------------------------------------------

THREE = Way(passes=("bastion", "second", "third", "login"))


def change(config: Path, alias: str, old: str, new: str) -> None:
    """Another line in the block of one host."""
    blocks = config.read_text().split("Host ")
    number = next(n for n, block in enumerate(blocks) if block.startswith(f"{alias}\n"))
    assert old in blocks[number]
    blocks[number] = blocks[number].replace(old, new)
    config.write_text("Host ".join(blocks))


@pytest.mark.parametrize(
    ("alias", "old", "new", "kind", "words", "dials"),
    [
        ("bastion", "Port 22022", "Port 9", errors.JumpHostFailed,
         "the connection through the jump host bastion failed: 10.88.1.1 port 9 cannot be reached",
         [0, 0, 0, 0]),
        ("second", "Port 22022", "Port 9", errors.JumpHostFailed,
         "the jump host bastion does not forward to second (connect failed: Connection refused)",
         [1, 0, 0, 0]),
        ("login", "Port 22022", "Port 9", errors.JumpHostFailed,
         "the jump host third does not forward to login (connect failed: Connection refused)",
         [1, 1, 1, 0]),
        ("second", "IdentitiesOnly yes", "PubkeyAuthentication no", errors.AuthenticationFailed,
         "the jump host second: hpcalice@10.88.4.2 was refused; the server takes: publickey",
         [1, 1, 0, 0]),
        ("third", "Port 22022", "Port 22022\n    HostKeyAlias x", errors.HostKeyUnknown,
         "the jump host third: the host key of x is not in known_hosts", [1, 1, 1, 0]),
    ],
    ids=["first-closed", "second-closed", "login-closed", "second-refuses", "third-unknown"],
)  # fmt: skip
def test_the_jump_host_that_fails_is_named_and_not_tried_again(
    chain: Chain,
    cold: Path,
    alias: str,
    old: str,
    new: str,
    kind: type[errors.ConnectError],
    words: str,
    dials: list[int],
) -> None:
    way_in = WayIn(chain, THREE, cold.parent / "config")
    change(way_in.config, alias, old, new)
    for _ in range(3):
        with pytest.raises(errors.ConnectError) as caught:
            Connection("login", ssh_config=way_in.config).open()
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert caught.value.sent == "no"
    assert "tried again" in str(caught.value)
    assert way_in.dials() == dials


@pytest.mark.parametrize("full", ["two", "private"])
def test_a_server_on_the_way_that_takes_no_more_logins_is_named(
    cold: Path, make_sshd: Callable[..., Host], expect_logins: Callable[..., None], full: str
) -> None:
    """A real MaxStartups 1: a client that never logs in takes the only place."""
    hosts = {
        name: make_sshd(alias=name, max_startups="1:100:1" if name == full else None)
        for name in ("one", "two", "private")
    }
    expect_logins(1 if full == "two" else 2)
    config = cold.parent / "config"
    blocks = [hosts[name].server.client_block() for name in ("one", "two")]
    last = hosts["private"].server.client_block(extra=["ProxyJump one,two"])
    config.write_text("".join([*blocks, last]))
    server = hosts[full].server
    with socket.create_connection((server.address, server.port), 10) as idler:
        assert idler.recv(8) == b"SSH-2.0-"
        with pytest.raises(errors.ConnectError, match="MaxStartups") as caught:
            Connection("private", ssh_config=config).open()
    at_hop = "private: the connection through the jump host two failed: the server closed the"
    at_host = "private: the server closed the connection before it sent anything"
    assert type(caught.value) is (errors.JumpHostFailed if full == "two" else errors.Throttled)
    assert (at_hop if full == "two" else at_host) in str(caught.value)


def test_a_silent_jump_host_is_named_and_not_the_one_behind_it(
    cold: Path, make_sshd: Callable[..., Host], expect_logins: Callable[..., None]
) -> None:
    first, last = make_sshd(alias="one"), make_sshd()
    expect_logins(1)
    config = cold.parent / "config"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config.write_text(
            first.server.client_block()
            + f"Host two\n    HostName 127.0.0.1\n    Port {silent.getsockname()[1]}\n"
            + last.server.client_block(extra=["ProxyJump one,two"])
        )
        connection = Connection("private", ssh_config=config, connect_timeout=3)
        with pytest.raises(errors.JumpHostFailed, match="two failed: it does not answer"):
            connection.open()


def test_logins_through_jump_hosts_have_one_budget(
    chain: Chain, cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cold.parent / "servers.toml"
    settings.write_text("[servers.login]\ndials_per_hour = 2\n")
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(settings))
    with stay(chain, Way(passes=("bastion", "second", "login")), cold, tmp_path) as here:
        here.works()
        here.kill_master()
        here.works()
        here.kill_master()
        for _ in range(2):
            with pytest.raises(errors.Throttled, match="2 logins were begun"):
                here.works()
        assert here.way_in.dials() == [2, 2, 2]
        log_in(here.way_in, None)
        here.works()

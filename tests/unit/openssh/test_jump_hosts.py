"""The way over jump hosts, and the commands that ssh would start for it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from openssh_jobs import errors
from openssh_jobs.openssh.destination import Destination
from openssh_jobs.openssh.jump_hosts import Hop, called, command, hops, proxy_command
from openssh_jobs.openssh.ssh_config import Resolved, parse_resolved


def test_the_way_is_what_ssh_makes_of_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host outer\n    HostName 10.0.0.1\n    User olga\n"
        "Host inner\n    HostName 10.0.0.2\n    ProxyJump outer\n"
        "Host here there\n    HostName 10.0.0.3\n    HostKeyAlias three\n"
        "Host here\n    ProxyJump inner\n"
        "Host there\n    ProxyJump ivan@inner:2022,last\n"
        "Host round\n    ProxyJump round2\nHost round2\n    ProxyJump round\n"
    )

    def way(alias: str) -> tuple[Destination, Resolved]:
        destination = Destination(host=alias, ssh_config=str(config))
        argv = ["ssh", "-G", *destination.arguments(), "--", alias]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        return destination, parse_resolved(done.stdout)

    found = [(hop.name, hop.resolved.get("hostname")) for hop in hops(*way("here"))]
    assert found == [("outer", "10.0.0.1"), ("inner", "10.0.0.2")]
    assert hops(*way("outer")) == []
    found_there = hops(*way("there"))
    assert [hop.name for hop in found_there] == ["outer", "ivan@inner:2022", "last"]
    assert found_there[1].resolved.get("user") == "ivan"
    assert found_there[1].resolved.get("port") == "2022"
    destination, resolved = way("here")
    on_the_way = hops(destination, resolved)
    assert called("10.0.0.2", resolved, on_the_way) == 1
    assert called("three", resolved, on_the_way) == 1
    assert called("10.9.9.9", resolved, on_the_way) == 0
    commands = [command(found_there, number, destination) for number in range(3)]
    assert commands == [
        f"ssh -F {config} outer",
        f"ssh -F {config} -J outer ivan@inner:2022",
        f"ssh -F {config} -J outer,ivan@inner:2022 last",
    ]
    with pytest.raises(errors.ConfigurationError, match="round in circles"):
        hops(*way("round"))


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        ("gate", ["--", "gate"]),
        ("olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("ssh://olga@gate:2022", ["-l", "olga", "-p", "2022", "--", "gate"]),
        ("[::1]:22", ["-p", "22", "--", "::1"]),
        ("o%lga@gate", ["-l", "o%%lga", "--", "gate"]),
    ],
)
def test_the_ssh_to_a_jump_host_is_started_as_ssh_would(jump: str, words: list[str]) -> None:
    line = proxy_command(
        Destination(host="h", ssh_config="none"),
        [Hop(jump, Resolved({}))],
        options=[["BatchMode=yes"]],
        logs=["/x y/log"],
        stderr="/x y/rest",
    )
    assert line is not None
    shell, flag, script = shlex.split(line)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert script.endswith(" 2>>'/x y/rest'")
    got = shlex.split(script.removesuffix(" 2>>'/x y/rest'"))
    assert got[0] == "exec"
    assert got[2:6] == ["-E", "/x y/log", "-F", "none"]
    assert [word for word in got[6:] if word not in ("-o", "BatchMode=yes", "-W", "[%h]:%p")] == (
        words
    )


@pytest.mark.parametrize("count", [4, 6])
def test_each_of_several_jump_hosts_gets_its_options(tmp_path: Path, count: int) -> None:
    """Read by the shells that would run it: what is quoted several times arrives."""
    names = ["first@first:2201", "a", "bob@b", *(f"h{number}" for number in range(3, count))]
    line = proxy_command(
        Destination(host="h", ssh_config="none"),
        [Hop(name, Resolved({})) for name in names],
        options=[[f"X=%d {number}"] for number in range(count)],
        logs=[f"/l%g {number}" for number in range(count)],
        stderr="/r",
    )
    assert line is not None
    assert len(line) < 1 << 17, "the longest argument that Linux takes"
    # As ssh expands it before a shell gets it.
    script = shlex.split(line.replace("%h", "HOST").replace("%p", "PORT").replace("%%", "%"))[2]
    line = script.removeprefix("exec ").removesuffix(" 2>>/r")
    found: list[str] = []
    while line is not None:
        words = shlex.split(line)
        number = count - 1 - len(found)
        found.append(words[-1])
        assert words[words.index("-E") + 1] == f"/l%g {number}"
        assert f"X=%d {number}" in words
        commands = [word for word in words if word.startswith("ProxyCommand=")]
        line = commands[0].removeprefix("ProxyCommand=").replace("%h", "HOST") if commands else None
        line = line.replace("%p", "PORT").replace("%%", "%") if line else None
    assert found == [*(f"h{number}" for number in range(count - 1, 2, -1)), "b", "a", "first"]


def test_without_a_jump_host_there_is_no_proxy() -> None:
    cases: list[dict[str, tuple[str, ...]]] = [
        {},
        {"proxyjump": ("none",)},
        {"proxycommand": ("nc %h %p",)},
    ]
    destination = Destination(host="h")
    for values in cases:
        assert hops(destination, Resolved(values)) == []
    assert proxy_command(destination, [], options=[], logs=[], stderr="x") is None

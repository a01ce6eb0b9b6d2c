"""``openssh_jobs.testing.PrivateSshd`` as its documentation shows it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import ConfigurationError
from openssh_jobs.testing import PrivateSshd
from tests.helpers import until
from tests.paths import CHECKOUT


def example(text: str) -> str:
    """The code between ``::`` and the next line that is not indented."""
    lines = iter(textwrap.dedent(text).splitlines())
    assert any(line == "    from openssh_jobs import Connection" for line in lines), text
    code = ["    from openssh_jobs import Connection"]
    for line in lines:
        if line and not line.startswith("    "):
            break
        code.append(line)
    return textwrap.dedent("\n".join(code))


@pytest.mark.parametrize("place", ["docstring", "docs/public-names.rst"])
def test_the_example(place: str, cold: Path, tmp_path: Path) -> None:
    text = inspect.getdoc(PrivateSshd) or ""
    if place != "docstring":
        text = (CHECKOUT / place).read_text()
    names: dict[str, Any] = {}
    exec(compile(example(text), place, "exec"), names)
    test: Callable[[Path], None] = names["test_my_program"]
    test(tmp_path)
    assert (tmp_path / "sshd" / "sshd.log").read_text().count("Accepted publickey") == 1


def test_what_a_user_can_do_with_it(cold: Path, tmp_path: Path) -> None:
    with PrivateSshd(tmp_path / "sshd", alias="mine", config_extra="MaxSessions 3") as server:
        assert server.address == "127.0.0.1"
        assert server.config.read_text().startswith("Host mine\n")
        host = Connection("mine", ssh_config=server.config)
        assert host.run("pwd").stdout == f"{server.home}\n"
        assert server.home == tmp_path / "sshd" / "home"
        before = server.pid
        server.restart()
        assert server.pid != before
        assert host.run("echo on").stdout == "on\n"
        assert server.logins() == 1
        assert server.sessions() != []
        assert server.kill_sessions() != []
        # A call in the moment of the loss could not know whether its command was sent.
        assert until(lambda: not host.check())
        assert host.run("echo again").stdout == "again\n"
        assert server.logins() == 2
        host.close(stop_master=True)
        assert "Accepted publickey" in server.log_text()
    assert server.sessions() == server.remains() == []
    with pytest.raises(ConfigurationError, match=r"call start\(\) first"):
        _ = server.pid


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'must not contain " % .*50%'):
        PrivateSshd(tmp_path / "50%")

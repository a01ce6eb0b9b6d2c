"""What the command line takes as a value: hosts with paths, ports to forward, numbers, times."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from openssh_jobs.cli import app, login, options
from openssh_jobs.cli.exit_codes import UsageError
from openssh_jobs.cli.forward import ForwardSpec, parse_spec
from openssh_jobs.cli.options import split_remote


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("hpc:runs/x", "hpc", "runs/x"),
        ("alice@hpc:/scratch/a:b", "alice@hpc", "/scratch/a:b"),
        ("hpc:", "hpc", "~/"),
        ("hpc:.", "hpc", "~/"),
        ("hpc:~", "hpc", "~/"),
        ("hpc:~/x/", "hpc", "~/x/"),
        ("hpc:x/..", "hpc", "x/../"),
        ("[fe80::1]:x", "fe80::1", "x"),
        ("me@[fe80::1]:x:y", "me@fe80::1", "x:y"),
        ("hpc:dir[1]/x", "hpc", "dir[1]/x"),
        ("hpc:a]b", "hpc", "a]b"),
        ("hpc:[x]:y", "hpc", "[x]:y"),
        ("alice@hpc:*[0-9]", "alice@hpc", "*[0-9]"),
        ("[fe80::1%eth0]:x[1]", "fe80::1%eth0", "x[1]"),
        ("hpc:two\nlines", "hpc", "two\nlines"),
    ],
)
def test_host_and_path(text: str, host: str, path: str) -> None:
    assert split_remote(text) == (host, path)


@pytest.mark.parametrize(
    "text", ["", "x", ":x", "/a:b", "./a:b", "ssh://h/x", "x[1]/y:z", "[::1]", "[]:x"]
)
def test_no_host_and_path(text: str) -> None:
    with pytest.raises(UsageError):
        split_remote(text)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("8888:node01:9999", ForwardSpec("127.0.0.1", 8888, "node01", 9999)),
        ("127.0.0.2:8888:node01:9999", ForwardSpec("127.0.0.2", 8888, "node01", 9999)),
        ("*:8888:node01:9999", ForwardSpec("*", 8888, "node01", 9999)),
        ("[::1]:8888:[fe80::1]:9999", ForwardSpec("::1", 8888, "fe80::1", 9999)),
        ("8888", ForwardSpec("127.0.0.1", 8888, "localhost", 8888)),
        ("4711:9999", ForwardSpec("127.0.0.1", 9999, "localhost", 9999, "4711")),
        ("8888:4711_3:9999", ForwardSpec("127.0.0.1", 8888, "localhost", 9999, "4711_3")),
        ("4711[3]:9999", ForwardSpec("127.0.0.1", 9999, "localhost", 9999, "4711[3]")),
        ("88.0:9999", ForwardSpec("127.0.0.1", 9999, "localhost", 9999, "88.0")),
        ("node01:9999", ForwardSpec("127.0.0.1", None, "node01", 9999)),
        ("8888:10.0.0.1:80", ForwardSpec("127.0.0.1", 8888, "10.0.0.1", 80)),
    ],
)
def test_what_to_forward(text: str, spec: ForwardSpec) -> None:
    assert parse_spec(text) == spec


def test_two_ports_of_a_remote_forward() -> None:
    spec = ForwardSpec("127.0.0.1", 8888, "localhost", 9999)
    assert parse_spec("8888:9999", remote=True) == spec


@pytest.mark.parametrize("text", ["", "a", "0", "70000", "1:2:3:4:5", "8888:node 1:80", "x:"])
def test_what_cannot_be_forwarded(text: str) -> None:
    with pytest.raises(UsageError):
        parse_spec(text)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (options.seconds, "0.5", 0.5),
        (options.whole_number, "0", 0),
        (options.port, "65535", 65535),
        (login.persist_time, "90", 90),
        (login.persist_time, "12h", 43200),
        (login.persist_time, "forever", None),
    ],
)
def test_values(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("exec --timeout 5m h", "--timeout must be a number of seconds > 0; '5m' was given"),
        ("exec --timeout 0 h", "--timeout must be a number of seconds > 0; '0' was given"),
        ("exec --timeout nan h", "--timeout must be a number of seconds > 0; 'nan' was given"),
        ("exec -p 0 h", "-p/--port must be a port from 1 to 65535; '0' was given"),
        ("exec -p 65536 h", "-p/--port must be a port from 1 to 65535; '65536' was given"),
        ("tail h 1 -n -1", "-n/--lines must be a whole number >= 0; '-1' was given"),
        ("tail h 1 -n \u0663", "-n/--lines must be a whole number >= 0; '\u0663' was given"),
        ("submit h d --cpus 2.5", "--cpus must be a whole number >= 0; '2.5' was given"),
        ("login h --persist 5x", "--persist must be a time such as 12h, 30m or 2d, or forever"),
        ("login h --persist 0", "'0' was given"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(words: str, says: str) -> None:
    command = words.split()[0]
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        app.parse(words.split())
    assert str(error.value).startswith(f"openssh-jobs {command}: ")
    assert str(error.value).endswith(f". See `openssh-jobs {command} --help`.")

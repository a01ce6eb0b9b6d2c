"""Completion in bash, zsh and fish: real shells, a journal, and a host whose master is open."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.cluster.journal_view import remember_queues
from tests import screens
from tests.cli import program
from tests.helpers import until
from tests.lab import parts
from tests.lab.site import Host
from tests.screens import Screen

SHELLS = {
    "bash": (["bash", "--norc", "-i"], "source {file}; PS1='ready> '"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "fpath=({file.parent} $fpath); autoload -U compinit; compinit -u -D; PS1='ready> '",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "source {file}; set -g fish_autosuggestion_enabled 0; "
        "function fish_prompt; echo 'ready> '; end",
    ),
}
pytestmark = pytest.mark.usefixtures("own_journal")
_OURS = re.compile("OPENSSH_JOBS_|XDG_|SSH_AUTH_SOCK|PYTHONPYCACHEPREFIX")


@contextlib.contextmanager
def shell(name: str, directory: Path) -> Iterator[Screen]:
    """A shell with the completion; first in its path is what ``directory/bin`` holds."""
    if name != "bash":
        parts.require(name)
    done = program("config", "--completion", name)
    assert (done.code, done.err) == (0, "")
    file = directory / "functions" / "_openssh-jobs"
    file.parent.mkdir()
    file.write_text(done.out)
    argv, set_up = SHELLS[name]
    env = {key: value for key, value in os.environ.items() if _OURS.match(key)}
    state = Path(env.pop("XDG_STATE_HOME"))
    env["HOME"] = str(directory)
    env["PATH"] = f"{directory}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with screens.screen(100, 24, state, **env) as screen:
        screen.run(*argv)
        time.sleep(0.5)
        screen.press(set_up.format(file=file), "Enter")
        screen.shows("\nready>")
        screen.press("C-l")
        yield screen


def completed(screen: Screen, typed: str, expected: str, end: str = "C-u") -> None:
    """Type some words and a Tab until the screen shows what is expected.

    No words: the line as it is.  More than once: on a busy machine a host may take longer to answer
    than a completion waits.  C-u empties the line, because of a C-c while it still completes only
    the completion may take notice.
    """
    for attempt in range(10):
        if typed:
            screen.press("C-u")
            screen.press("-l", f"openssh-jobs {typed}")
        screen.press("Tab")
        with contextlib.suppress(AssertionError):
            screen.shows(expected, patience=2 if attempt < 9 else 10)
            break
    else:
        pytest.fail(f"{typed!r} was not completed: {screen.shows('')}")
    screen.press(end)
    screen.press("C-l")


@pytest.mark.parametrize("name", SHELLS)
def test_commands_options_and_what_the_journal_knows(name: str, tmp_path: Path) -> None:
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
        remember_queues(journal, "hpc", ["batch", "short", "a queue\x1b[2J"])
    with shell(name, tmp_path) as screen:
        completed(screen, "stat", "openssh-jobs status")
        completed(screen, "submit --time-l", "--time-limit")
        completed(screen, "status h", "openssh-jobs status hpc")
        completed(screen, "status hpc 465", "openssh-jobs status hpc 4650")
        completed(screen, "submit hpc --queue sh", "--queue short")
        completed(screen, "get hp", "openssh-jobs get hpc:")


@pytest.mark.parametrize("name", SHELLS)
def test_paths_on_a_host_over_its_open_master(name: str, sshd: Host, tmp_path: Path) -> None:
    """With a wrapper that names the lab's configuration of ssh, as the user's own has the host."""
    real = shutil.which("openssh-jobs", path=str(Path(sys.executable).parent))
    wrapper = tmp_path / "bin" / "openssh-jobs"
    wrapper.parent.mkdir()
    wrapper.write_text(
        "#!/bin/sh\ncommand=$1\nshift\n"
        f'[ "$command" != get ] || {{ printf %s "$*" >{tmp_path}/taken; exit; }}\n'
        f'exec {real} "$command" -F {sshd.config} "$@"\n'
    )
    wrapper.chmod(0o755)
    results = sshd.make_directory("results-of-today")
    (results / "last.log").touch()
    hostile = "odd $(touch RAN)`touch RAN`;touch RAN&'*"
    logins = sshd.logins()
    try:
        with shell(name, tmp_path) as screen:
            completed(screen, f"get {sshd.alias}:results-of-t", f"{sshd.alias}:results-of-today/")
            whole = f"{sshd.alias}:results-of-today/last.log"
            completed(screen, f"get {sshd.alias}:results-of-today/la", whole)
            # The path goes on behind a directory.
            completed(screen, f"get {sshd.alias}:results-of-t", "results-of-today/", end="Tab")
            completed(screen, "", whole)
            # What a host calls a file is no command, neither at the Tab nor at the Enter.
            (results / hostile).touch()
            screen.press(f"cd {tmp_path}", "Enter", "C-l")
            completed(screen, f"get {sshd.alias}:results-of-today/od", "touch", end="Enter")
            assert until((tmp_path / "taken").exists)
            assert (tmp_path / "taken").read_text() == f"{sshd.alias}:results-of-today/{hostile}"
            assert not (tmp_path / "RAN").exists()
    finally:
        shutil.rmtree(results)
    assert sshd.logins() == logins


def test_a_host_without_a_master_is_not_asked(cold: Path, make_sshd: Any) -> None:
    host = make_sshd()
    done = program("config", "-F", str(host.config), "--words", "paths", f"{host.alias}:")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert host.logins() == 0


@pytest.mark.parametrize("what", ["master", "host"])
def test_what_hangs_is_waited_for_a_fifth_of_a_second(
    what: str, cold: Path, make_sshd: Any, expect_logins: Any
) -> None:
    """In all: finding the master, listing and leaving."""
    expect_logins(1)
    host = make_sshd()
    connection = Connection(host.alias, ssh_config=host.config)
    master = connection.open().check().master
    assert master is not None

    def least(*options: str) -> float:
        took = []
        for _ in range(3):
            began = time.monotonic()
            words = ("--words", "paths", f"{host.alias}:")
            done = program("config", "-F", str(host.config), *options, *words)
            took.append(time.monotonic() - began)
            assert (done.code, done.out, done.err) == (0, "", "")
        return min(took)

    without_master = least("-p", "1")
    if what == "master":
        os.kill(master, signal.SIGSTOP)
    else:
        host.server.freeze()
    try:
        # On a busy machine everything takes longer.
        assert least() < 2 * without_master + 0.2 + 0.2
    finally:
        os.kill(master, signal.SIGCONT)
        host.server.thaw()
        connection.close(stop_master=True)

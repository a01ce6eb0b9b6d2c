"""The host ``.``: this machine on the command line, without ssh."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli import program
from tests.helpers import until


def test_a_command_runs_here() -> None:
    done = program(
        "exec", ".", "--", "sh", "-c", "uname -n; cat; echo err >&2; exit 3", input=b"in"
    )
    assert (done.code, done.out, done.err) == (3, f"{os.uname().nodename}\nin", "err\n")


def test_a_timeout_is_kept() -> None:
    done = program("exec", "--timeout", "0.3", ".", "--", "sleep", "30.25")
    assert done.code == 124
    assert done.sentence() == ".: the command ran longer than 0.3 s and was ended."


def test_files_are_copied_here(tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_bytes(b"\0\xff")
    done = program("put", str(tmp_path / "tree"), f".:{tmp_path}/there")
    assert (done.code, (tmp_path / "there" / "sub" / "file").read_bytes()) == (0, b"\0\xff")
    done = program("get", f".:{tmp_path}/there", str(tmp_path / "back"))
    assert (done.code, (tmp_path / "back" / "sub" / "file").read_bytes()) == (0, b"\0\xff")
    done = program("get", f".:{tmp_path}/none", str(tmp_path / "nothing"))
    assert done.code == 1
    assert "this machine" in done.sentence()


def test_a_job_without_a_scheduler(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\necho done here\n")
    where = ("--scheduler", "direct")
    work = str(tmp_path / "work")
    done = program("submit", *where, "--json", ".", work, "--script", str(script))
    assert done.code == 0, done.out + done.err
    job = done.data["job_id"]

    def is_over() -> bool:
        said = program("status", *where, "--json", ".", job).data
        return [one["state"] for one in said["jobs"]] == ["completed"]

    assert until(is_over, patience=30)
    assert program("tail", *where, ".", job).out == "done here\n"


@pytest.mark.parametrize(
    "words", [("-J", "x"), ("-F", "x"), ("-i", "x"), ("-p", "22"), ("-l", "me"), ("-o", "A=b")]
)
def test_options_of_ssh_are_refused(words: tuple[str, str]) -> None:
    done = program("exec", *words, ".", "--", "true")
    assert done.code == 2
    assert done.sentence() == (
        f"openssh-jobs: `.` is this machine, which is not reached by ssh: leave {words[0]} out."
    )


@pytest.mark.parametrize(
    "words", [("login", "."), ("logout", "."), ("forward", ".", "80"), ("doctor", ".")]
)
def test_there_is_nothing_to_log_in_to(words: tuple[str, ...]) -> None:
    done = program(*words)
    assert (done.code, done.out) == (2, "")
    assert done.sentence() == ("openssh-jobs: `.` is this machine: there is nothing to log in to.")


def test_an_alias_called_local_is_an_alias(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host local\n  HostName host.invalid\n  ProxyCommand exit 7\n")
    done = program("exec", "-F", str(config), "local", "--", "true")
    assert done.code == 3
    assert done.sentence().startswith("local: ")

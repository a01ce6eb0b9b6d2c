"""What ``submit`` takes from servers.toml: only where neither caller nor script say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, LocalConnection
from openssh_jobs.cluster.defaults import below_base, with_defaults
from openssh_jobs.cluster.specification import Specification
from openssh_jobs.schedulers import get

SETTINGS = """\
[servers.hpc]
queue = "long"
account = "chem"
time_limit = "2:00:00"
options = ["--nice"]
base_directory = "~/runs"
"""


@pytest.fixture(autouse=True)
def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "servers.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))


def wanted(**asked: Any) -> Specification:
    names = ("script", "script_file", "upload", "after_ok", "after_any", "after_failed")
    given: dict[str, Any] = {
        **dict.fromkeys(names),
        "script_text": "#!/bin/sh\n",
        "arguments": (),
        "options": (),
        **asked,
    }
    return Specification.of(env=None, **given)


def filled(script: bytes = b"", scheduler: str = "slurm", **asked: Any) -> Specification:
    return with_defaults(wanted(**asked), get(scheduler), "hpc", lambda: script)


def test_what_nobody_says_comes_from_the_settings() -> None:
    found = filled()
    assert (found.queue, found.account, found.time_limit) == ("long", "chem", "2:00:00")
    assert found.options == ("--nice",)
    assert with_defaults(found, get("slurm"), "hpc", lambda: b"") == found, "once"
    other = with_defaults(wanted(), get("slurm"), "other", lambda: b"")
    assert other == wanted()


def test_caller_words_and_script_say_it_before_the_settings() -> None:
    found = filled(b"#SBATCH --time=5\n", queue="short", options=["-A", "phys"])
    assert (found.queue, found.account, found.time_limit) == ("short", None, None)
    assert found.options == ("--nice", "-A", "phys")


def test_a_scheduler_without_them_gets_none_and_no_script_is_read() -> None:
    found = with_defaults(wanted(queue=None), get("direct"), "hpc", lambda: b"")
    assert (found.queue, found.account, found.options) == (None, None, ())


def test_relative_directories_begin_below_the_base() -> None:
    assert below_base("hpc", "x/y") == "~/runs/x/y"
    assert below_base("hpc", None) == "~/runs"
    assert below_base("hpc", "/scratch/x") == "/scratch/x"
    assert below_base("hpc", "~/x") == "~/x"
    assert (below_base("other", "x"), below_base("other", None)) == ("x", "~")


def test_the_shell_of_the_scheduler_is_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = tmp_path / "servers.toml"
    with Cluster(LocalConnection()) as cluster:
        assert cluster.internal.client.identity().split("\0")[2:] == ["login shell", ""]
    own = 'login_shell = false\nprologue = "X=1"\nscheduler = "direct"\n'
    config.write_text(f'[servers."this machine"]\n{own}')
    with Cluster(LocalConnection()) as cluster:
        assert cluster.internal.client.identity().split("\0")[2:] == ["shell", "X=1"]
        assert cluster.internal.client.run(b"echo $X", 20).stdout == "1\n"
        assert cluster.scheduler == "direct"
    with Cluster(LocalConnection(), scheduler="slurm", login_shell=True, prologue="") as cluster:
        assert cluster.internal.client.identity().split("\0")[2:] == ["login shell", ""]
        assert cluster.scheduler == "slurm"

"""What ``--json`` prints is what the schemas under docs say: real output of every command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cli import main
from tests.cli import at, program, script, started
from tests.lab.site import Host
from tests.schemas import PRINT_JSON, check

pytestmark = pytest.mark.usefixtures("own_journal")
_seen: set[str] = set()


class Run:
    """Runs command lines in this process, which is quicker than one of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, command: str, *words: str, code: int = 0) -> Any:
        """The document of a command, which is as its schema says."""
        ended = main([command, "--json", *words])
        out, err = self._capsys.readouterr()
        assert ended == code, err
        _seen.add(command)
        return check(command, out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line, and the check of its document."""
    return Run(capsys)


def test_the_way_in_and_files(run: Run, sshd: Host, there: str, tmp_path: Path, tree: Path) -> None:
    assert run("doctor", *at(sshd))["works"]
    run("doctor")
    assert [link["host"] for link in run("login")["connections"]]
    # No other name: the master that all tests share would end.
    config = tmp_path / "config"
    config.write_text("Host unused\n    HostName 127.0.0.1\n\n")
    assert run("logout", "-F", str(config), "unused")["ended"] == []
    settings = tmp_path / "settings.py"
    settings.write_text("servers = {'hpc': 'slurm'}\n")
    run("config", "--import-arc", str(settings))
    assert run("config", sshd.alias)["settings"]["node_ssh"]["source"] == "default"
    run("config", *at(sshd), "--ssh")
    assert run("exec", "-n", *at(sshd), "sh", "-c", "echo o; exit 3", code=3)["returncode"] == 3
    remote = f"{sshd.alias}:{there}/tree"
    run("put", "-F", str(sshd.config), str(tree), remote)
    run("get", "-F", str(sshd.config), remote, str(tmp_path / "copy"))
    run("get", "-F", str(sshd.config), f"{remote}/none", str(tmp_path / "none"), code=1)
    child = started("forward", "--json", *at(sshd), "18888:localhost:9")
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        text = "".join(iter(lambda: child.stdout.readline().decode(), "}\n")) + "}\n"  # type: ignore[union-attr]
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    check("forward", text)
    _seen.add("forward")


def test_jobs_and_what_they_leave(run: Run, direct: list[str], there: str, tmp_path: Path) -> None:
    job = script(tmp_path, "echo done; exit 3")
    run("submit", *direct, f"{there}/a", "--script", job, "--dry-run")
    job_id = run("submit", *direct, f"{there}/a", "--script", job)["job_id"]
    (ended,) = run("wait", *direct, job_id, code=1)["jobs"]
    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    run("list")
    run("list", *direct)
    run("status", *direct)
    run("status", *direct, job_id, code=1)
    run("status", *direct, job_id, "--history")
    run("tail", *direct, job_id)
    run("fetch", *direct, job_id, str(tmp_path / "results"))
    run("cancel", *direct, job_id, code=1)
    assert run("hold", *direct, job_id, code=4)["error"]["kind"] == "unsupported"
    run("release", *direct, job_id, code=4)
    run("queues", *direct, code=4)
    run("queues", "--nodes", *direct)
    run("recover")
    run("recover", *direct, there)
    run("tidy", *direct, "--dry-run", "--forget")
    run("tidy", *direct)
    run("demo")


def test_what_only_a_scheduler_has(
    run: Run, sshd: Host, slurm: Any, there: str, tmp_path: Path
) -> None:
    way = ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]
    held = ("--hold", "--script", script(tmp_path, "sleep 60"))
    job_id = run("submit", *way, there, *held)["job_id"]
    assert run("hold", *way, job_id)["outcomes"] == {job_id: "requested"}
    (job,) = run("status", *way, job_id)["jobs"]
    assert (job["state"], job["submitted"][-6]) == ("held", "+")
    assert run("hold", *way, "999999", code=1)["outcomes"] == {"999999": "not_found"}
    run("release", *way, job_id)
    run("wait", *way, job_id, "--timeout", "0.1", code=124)
    run("cancel", *way, job_id)
    run("queues", *way)
    run("queues", *way, "--nodes")


def test_every_command_was_looked_at() -> None:
    assert _seen == set(PRINT_JSON) - {"watch"}, "it has no document but errors"


def test_an_error_is_a_document(run: Run) -> None:
    assert run("list", "--stat", code=2)["error"]["type"] == "UsageError"
    done = program("nope", "--json")
    assert (done.code, check("error", done.out)["error"]["exit_code"]) == (2, 2)
    assert json.loads(done.out)["error"]["message"].startswith("openssh-jobs: there is no command")

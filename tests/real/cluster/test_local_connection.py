"""Jobs of a program that runs on the login node itself: real schedulers, and no ssh."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab import namespaces, parts
from tests.paths import PACKAGE

USER = "hpcalice"
SUBMITTED = """\
import json, sys, time
from pathlib import Path
from openssh_jobs import Cluster, LocalConnection

top, scheduler, prologue = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
reported = {}
with Cluster(
    LocalConnection(), scheduler=scheduler, prologue=prologue, poll_interval=0.2,
    journal=str(top / "journal"),
) as cluster:
    (top / "input").mkdir()
    (top / "input" / "data").write_text("42\\n")
    text = "#!/bin/sh\\nuname -n; cat data > result; echo oops >&2; exit 3\\n"
    asked = dict(script_text=text, upload=top / "input", directory=str(top / "work"), name="here")
    # Unique: the host remembers the tokens of jobs that are over.
    token = f"once-{time.time_ns()}"
    job = cluster.submit(**asked, token=token)
    assert cluster.submit(**asked, token=token).id == job.id
    status = job.wait(timeout=60)
    reported["ended"] = [status.state, job.exit_code, cluster.scheduler]
    reported["lines"] = [list(job.tail()), list(job.tail("stderr"))]
    job.fetch(top / "back")
    reported["back"] = (top / "back" / "result").read_text()

    long = cluster.submit(script_text="#!/bin/sh\\nsleep 600\\n", directory=str(top / "long"))
    while not cluster.status([long.id]).known[long.id].state.is_active: pass
    listed = [status.job_id for status in cluster.jobs()]
    reported["listed"] = long.id in listed
    reported["outcome"] = long.cancel()
    reported["cancelled"] = long.wait(timeout=60).state
    nodes = [node.name for node in cluster.nodes()] if scheduler != "direct" else []
    reported["nodes"] = len(nodes)
    reported["logins"] = cluster.connection.stats().logins
print(json.dumps(reported))
"""


@dataclass
class LoginNode:
    """A shell of a user on the machine that has the scheduler; its network has no sshd for us."""

    top: Path
    scheduler: str
    packages: Path
    python: Path
    prologue: str = ""
    enter: list[str] = field(default_factory=list)

    def run(self, code: str) -> Any:
        environment = {
            "HOME": str(self.top),
            "SHELL": "/bin/bash",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(self.packages),
            # A master could have no socket.
            "OPENSSH_JOBS_RUNTIME_DIR": "/nonexistent",
        }
        python = [str(self.python), "-S", "-W", "error", "-X", "dev", "-c", code]
        done = subprocess.run(
            [*self.enter, *python, str(self.top), self.scheduler, self.prologue],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env=environment,
            cwd=self.top,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(params=["slurm", "sge", "direct"])
def login_node(request: pytest.FixtureRequest, lab_directory: Path) -> Iterator[LoginNode]:
    directory = lab_directory / f"local-{secrets.token_hex(4)}"
    top, packages = directory / "home", directory / "packages"
    top.mkdir(parents=True)
    # The user of the lab may not be able to read the checkout, nor this interpreter.
    shutil.copytree(PACKAGE, packages / PACKAGE.name)
    for name in ("pexpect", "ptyprocess", "platformdirs"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, packages / name)
    python = Path(sys.executable).resolve()
    enter: list[str] = []
    prologue = ""
    if request.param != "direct":
        parts.require_namespaces("a scheduler")
        lab = request.getfixturevalue("slurm" if request.param == "slurm" else "gridengine")
        prologue = getattr(lab, "prologue", "")
        enter = [*lab.machine.enter]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        if namespaces.inside():
            enter += ["runuser", "-u", USER, "--"]
            shutil.chown(top, USER)
            prefix = stack.enter_context(_readable(Path(sys.base_prefix), directory / "python"))
            python = prefix / python.relative_to(Path(sys.base_prefix).resolve())
        yield LoginNode(top, request.param, packages, python, prologue, enter)


@contextlib.contextmanager
def _readable(directory: Path, place: Path) -> Iterator[Path]:
    """A directory under another name, behind no directory that keeps users out."""
    place.mkdir()
    subprocess.run(["mount", "--bind", directory, place], check=True, timeout=10)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True, timeout=10)
        place.rmdir()


def test_a_job_from_its_submission_to_its_files(login_node: LoginNode) -> None:
    """``_logins_add_up`` sees to it that nothing logged in on the way."""
    reported = login_node.run(SUBMITTED)
    name = os.uname().nodename if login_node.scheduler == "direct" else None
    (first, *rest), errors = reported["lines"]
    # Slurm keeps both in one file.
    assert [*rest, *errors] in (["oops\n"], ["oops\n", first, "oops\n"])
    assert name is None or first == f"{name}\n"
    assert reported["ended"] == ["failed", 3, login_node.scheduler]
    assert reported["back"] == "42\n"
    assert reported["listed"]
    assert reported["outcome"] == "requested"
    assert reported["cancelled"] == "cancelled"
    assert reported["nodes"] >= 1 or login_node.scheduler == "direct"
    assert reported["logins"] == 0

"""A journal on a full or read-only disk: nothing is submitted."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import program, script, submitted
from tests.lab import namespaces, parts
from tests.lab.site import Host


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own."""
    parts.require_namespaces("a mount")
    namespaces.require_own("mounts")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(place)]
    subprocess.run(mount, check=True, timeout=20)
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=20)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as full:
        while full.write(b"x" * 4096):
            pass


@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("new", [True, False], ids=["new", "used"])
def test_nothing_is_submitted(
    disk: Path,
    sshd: Host,
    tmp_path: Path,
    how: str,
    new: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(disk))
    direct = ["-F", str(sshd.config), "--scheduler", "direct", sshd.alias]
    name = f"oj-disk-{how}-{new}"
    sshd.make_directory(name)
    if not new:
        submitted(direct, name, script(tmp_path, "sleep 0.1"))
    if how == "full":
        fill(disk / "full")
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=20)
    done = program("submit", *direct, f"{name}/never", "--script", script(tmp_path, "true"))
    assert (done.code, done.out) == (2, "")
    sentence = done.sentence()
    assert str(disk) in sentence
    assert f"because {'the disk is full' if how == 'full' else 'it is read-only'}: " in sentence
    assert not (sshd.home / name / "never").exists()
    if how == "full":
        (disk / "full").unlink()
        assert submitted(direct, f"{name}/never", script(tmp_path, "true"))
    shutil.rmtree(sshd.home / name, ignore_errors=True)


FILLS_THE_DISK = """\
import sys
from pathlib import Path
from openssh_jobs import Cluster
from openssh_jobs.cluster.attempt import Attempts

disk, config, alias, directory = sys.argv[1:]
run = Attempts.run

def and_fill(*given):
    found = run(*given)
    try:
        with Path(disk).open("wb", buffering=0) as full:
            while full.write(bytes(4096)):
                pass
    except OSError:
        pass
    return found

Attempts.run = and_fill
with Cluster(alias, ssh_config=config, scheduler="direct") as cluster:
    job = cluster.submit(script_text="echo once >>ran", directory=directory, token="full")
    print(job.id, job.wait(timeout=30).state, *job.tail())
"""


def test_an_id_is_not_lost_with_a_disk_that_fills_meanwhile(
    disk: Path, sshd: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the command and its answer: the job is usable, and another process recovers it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(disk))
    name = "oj-disk-fills"
    sshd.make_directory(name)
    words = (str(disk / "full"), str(sshd.config), sshd.alias, f"{name}/job")
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "was submitted, and is not in the journal" in done.stderr
    assert "the disk is full" in done.stderr
    job_id, state, *_ = done.stdout.split()
    assert state == "completed"
    (disk / "full").unlink()
    direct = ["-F", str(sshd.config), "--scheduler", "direct", sshd.alias]
    recovered = program("recover", *direct)
    assert recovered.code == 0, recovered.err
    assert job_id in recovered.out
    assert (sshd.home / name / "job" / "ran").read_text() == "once\n"
    shutil.rmtree(sshd.home / name, ignore_errors=True)

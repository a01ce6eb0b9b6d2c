"""The checks at the end of a run (logins, processes, files) are shown something bad and fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import namespaces, parts
from tests.paths import CHECKOUT

PREAMBLE = """\
import os, subprocess, sys
def login(host):
    subprocess.run(["ssh", "-F", host.config, host.alias, "true"], check=True, timeout=30)
"""


def run_suite(directory: Path, body: str) -> subprocess.CompletedProcess[str]:
    """A run of its own with the same conftest, on loopback, in a directory of its own."""
    (directory / "test_bad.py").write_text(PREAMBLE + body)
    environment = {
        **os.environ,
        namespaces.MARK: "none",
        "PYTHONPATH": str(CHECKOUT),
        "PYTEST_ADDOPTS": "",
        "CI": "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"]
    return subprocess.run(
        [*command, "-c", str(CHECKOUT / "setup.cfg"), "--rootdir", str(directory), str(directory)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("def test(site): login(site.host('direct'))", "1 logins, and 0 were meant"),
        ("def test(site, expect_logins): expect_logins(1)", "0 logins, and 1 were meant"),
        (
            "def test(site, expect_logins):\n"
            "    expect_logins(1)\n"
            "    login(site.host('direct'))\n"
            "    login(site.host('jump'))",
            "2 logins, and 1 were meant",
        ),
        (
            "def test(site):\n"
            "    h = site.host('direct')\n"
            "    subprocess.run(['ssh', '-F', h.config, 'bastion', 'true'], check=True)",
            "1 logins at the bastion, 0 behind it",
        ),
        (
            "def test(lab_directory):\n"
            "    child = subprocess.Popen([sys.executable, '-c',\n"
            "        f\"import time; time.sleep(8); '{lab_directory}/x'\"])\n"
            "    child.returncode = 0",
            "left running: ",
        ),
        (
            "def test(cold):\n"
            "    child = subprocess.Popen([sys.executable, '-c',\n"
            "        f\"import time; time.sleep(8); '{cold}'\"])\n"
            "    child.returncode = 0",
            "masters or clients of this test still run",
        ),
        (
            "import atexit, tempfile\n"
            "def test():\n"
            "    left = tempfile.mkdtemp(prefix='ssh-', dir='/tmp')\n"
            "    atexit.register(os.rmdir, left)",
            "left on disk: /tmp/ssh-",
        ),
    ],
)
def test_what_is_left_or_does_not_add_up_fails_the_run(
    tmp_path: Path, body: str, complaint: str
) -> None:
    parts.require("ssh", "sshd")
    done = run_suite(tmp_path, body)
    assert complaint in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout


def test_a_run_that_adds_up_passes(tmp_path: Path) -> None:
    parts.require("ssh", "sshd")
    body = (
        "def test(site, expect_logins):\n"
        "    expect_logins(2)\n"
        "    login(site.host('direct'))\n"
        "    login(site.host('jump'))"
    )
    done = run_suite(tmp_path, body)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "logins: 2 accepted by 2 hosts, 2 meant" in done.stdout


def test_in_ci_a_missing_part_fails_and_elsewhere_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(parts.PARTS, "unheard-of", (("no-such-program",), ("no-such-package",)))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no no-such-program here"):
        parts.require("unheard-of")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-package"):
        parts.require("unheard-of")

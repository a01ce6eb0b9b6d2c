"""Programs of this machine that are run to their end."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from openssh_jobs.openssh import process


@pytest.mark.parametrize("fd", [1, 2])
def test_a_program_that_never_stops_talking_is_ended(fd: int) -> None:
    began = time.monotonic()
    done = process.run(["/bin/sh", "-c", f"exec yes >&{fd}"], timeout=60, most=1_000_000)
    assert time.monotonic() - began < 10
    assert (done.returncode, done.timed_out) == (-signal.SIGTERM, False)
    assert 1_000_000 < len(done.stdout) + len(done.stderr) < 1_100_000


def test_input_and_output_of_any_length() -> None:
    data = bytes(range(256)) * 40_000
    done = process.run(["/bin/sh", "-c", "cat; echo said >&2; exit 3"], timeout=60, input=data)
    assert done == (3, data, b"said\n", False)
    assert process.run(["true"], timeout=60, input=data).returncode == 0
    done = process.run(["cat"], timeout=60, input=b"", stdout=subprocess.DEVNULL)
    assert done == (0, b"", b"", False)


@pytest.mark.parametrize("script", ["echo in time; exec sleep 60", "exec >&- 2>&-; exec sleep 60"])
def test_a_program_is_ended_in_time(script: str) -> None:
    began = time.monotonic()
    done = process.run(["/bin/sh", "-c", script], timeout=0.5)
    assert time.monotonic() - began < 10
    assert (done.returncode, done.timed_out) == (-signal.SIGTERM, True)
    assert done.stdout == (b"in time\n" if "echo" in script else b"")

"""Another user of this machine, and directories that everybody may write."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import PYTHON
from tests.lab import namespaces

MALLORY = namespaces.USERS[1][1]
two_users = pytest.mark.skipif(
    os.geteuid() != 0 or namespaces.MARK not in os.environ, reason="two users need the lab"
)


def as_mallory(script: str, directory: Path) -> None:
    subprocess.run(
        ["sh", "-c", script], cwd=directory, user=MALLORY, group=MALLORY, extra_groups=[],
        check=True, timeout=30,
    )  # fmt: skip


# Renames what appears in the directory, and puts something else in its place; tries to read all.
_SWAPS = """
import contextlib, os, random, select, sys, time
top, file, directory, run, user = sys.argv[1:]
# Only now: that user may not be able to run this Python.
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
os.umask(0)
os.chdir(top)
number, read = 0, set()
def is_over():
    return bool(select.select([0], [], [], 0)[0])
def script(name):
    with open(name, "x") as handle:
        handle.write("#!/bin/sh\\necho theirs >>" + run + "\\n")
    os.chmod(name, 0o777)
def folder(name):
    os.mkdir(name, 0o777)
    for inner in ("job", "sub", ".script", ".oj-env"):
        script(name + "/" + inner)
def look(name):
    with contextlib.suppress(OSError):
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if b"hunter2" in os.read(handle, 1 << 20):
                read.add(name)
        finally:
            os.close(handle)
kinds = [
    lambda name: os.symlink(file, name), lambda name: os.symlink(directory, name),
    lambda name: os.symlink(directory + "/new", name), lambda name: os.link(file, name),
    os.mkfifo, script, folder, lambda name: None,
]
names = ["work", "target", "tree", ".openssh_jobs"]
while not is_over():
    for place in (".", "tree", "work", "work/.openssh_jobs"):
        try:
            if os.path.islink(place) or os.stat(place).st_uid == os.geteuid() and place != ".":
                if random.random() < 0.02:
                    os.rename(place, f"held-{time.monotonic_ns()}")
                continue
            found = os.listdir(place)
        except OSError:
            continue
        for name in found:
            path = place + "/" + name
            if is_over():
                break
            look(path)
            if name.startswith("held-") or random.random() < 0.5:
                continue
            if not name.startswith(".oj-") and random.random() < 0.9:
                continue
            time.sleep(random.random() * 0.004)
            with contextlib.suppress(OSError):
                os.rename(path, f"held-{time.monotonic_ns()}")
                random.choice(kinds)(path)
                number += 1
    if random.random() < 0.01:
        with contextlib.suppress(OSError):
            random.choice(kinds)(random.choice(names))
            number += 1
print(number, *read)
"""


@contextlib.contextmanager
def swapping(directory: Path, file: Path, folder: Path, run: Path) -> Iterator[list[str]]:
    """Another user who replaces names in a directory by links to a file and a folder of ours.

    Afterwards the list holds how often, and the names of files in which a secret could be read.
    """
    said: list[str] = []
    with subprocess.Popen(
        [*PYTHON, _SWAPS, str(directory), str(file), str(folder), str(run), str(MALLORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield said
        finally:
            try:
                said += child.communicate(timeout=20)[0].split()
            finally:
                child.kill()

"""Another user replaces our names, again and again, while we submit and transfer among theirs."""

from __future__ import annotations

import collections
import itertools
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.errors import OpenSSHJobsError
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.real.cluster.neighbours import MALLORY, swapping, two_users

SECONDS = float(os.environ.get("OPENSSH_JOBS_RACE", "3"))
"""How long they are at it; as a proof by hand, minutes."""
LONGEST = 20.0
"""Seconds of one call: a fifo in the place of a file is not waited for."""


@pytest.fixture
def room(sshd: Host, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "direct", None, tmp_path) as room:
        yield room


def facts(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that must not change: modes, owners, times and contents.

    What a job prints lies where it runs: that the other user can choose.
    """
    found = {}
    for each in [path, *path.rglob("*")]:
        if re.fullmatch(r"job-\d+\.(out|err)", each.name):
            continue
        about = each.lstat()
        data = each.read_bytes() if each.is_file() else b""
        when = about.st_mtime_ns if each.is_file() else 0
        found[str(each)] = about.st_mode, about.st_uid, when, data
    return found


def calls(
    room: Room, top: Path, group: Path, here: Path
) -> list[tuple[str, Callable[[int], object]]]:
    c, cluster = room.cluster.connection, room.cluster
    small, tree, mine = here / "small", here / "tree", here / "mine"
    small.write_text("mine")
    small.chmod(0o666)
    (tree / "sub").mkdir(parents=True)
    for name in ("job", "sub/a", "sub/b"):
        (tree / name).write_text("#!/bin/sh\necho mine\n")
    mine.mkdir()

    def submit(number: int, directory: str = "work", **asked: Any) -> None:
        job = cluster.submit(
            script_text="#!/bin/sh\n: $SECRET\n", directory=f"{top}/{directory}",
            env={"SECRET": "hunter2"}, token=f"t{number}", **asked,
        )  # fmt: skip
        random.choice([job.cancel, job.status, lambda: job.fetch(mine / f"got{number}")])()

    return [
        ("put", lambda _: c.put(small, f"{top}/target")),
        ("put by scp", lambda _: c.put(small, f"{top}/target", method="scp")),
        ("put resumed", lambda _: c.put(small, f"{top}/target", resume=True, preserve=True)),
        ("put tree", lambda n: c.put(tree, f"{top}/tree{n}")),
        ("merge", lambda _: c.put(tree, f"{top}/tree", merge=True)),
        ("update", lambda _: c.put(tree, f"{top}/tree", update=True, delete=True)),
        ("write", lambda _: c.write_bytes(f"{top}/target", b"mine")),
        ("get", lambda n: c.get(f"{top}/target", group / f"got{n}")),
        ("get tree", lambda n: c.get(f"{top}/tree", group / f"tree{n}")),
        ("get update", lambda n: c.get(f"{top}/tree", group / "t", update=True)),
        ("submit", submit),
        ("submit upload", lambda n: submit(n, f"up{n}", upload=tree)),
        ("tidy", lambda _: cluster.tidy(older_than=0)),
    ]


@two_users
@pytest.mark.timeout(SECONDS + 3 * LONGEST)
@pytest.mark.parametrize("mode", [0o1777, 0o2770])
def test_names_that_another_user_replaces(room: Room, tmp_path: Path, mode: int) -> None:
    top, group = (Path(os.environ["TMPDIR"]) / f"{name}-{os.getpid()}" for name in ("top", "group"))
    for place, owner in ((top, room.path.stat().st_uid), (group, 0)):
        place.mkdir()
        os.chown(place, owner if mode == 0o2770 else 0, MALLORY)
        place.chmod(mode)
    precious = room.path / "precious"
    precious.mkdir(mode=0o755)
    for name in ("thesis", "job"):
        (precious / name).write_text("three years")
        (precious / name).chmod(0o600)
    for path in (precious, *precious.iterdir()):
        os.chown(path, room.path.stat().st_uid, -1)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").write_text("three years")
    kept = precious, tmp_path / "precious"
    before = [facts(place) for place in kept]
    done: collections.Counter[tuple[str, str]] = collections.Counter()
    longest = 0.0
    try:
        with (
            swapping(top, precious / "thesis", precious, top / "run") as said,
            swapping(group, kept[1] / "thesis", kept[1], top / "run") as said_here,
        ):
            work = calls(room, top, group, tmp_path)
            until = time.monotonic() + SECONDS
            for number in itertools.count():
                if time.monotonic() > until:
                    break
                name, call = random.choice(work)
                began = time.monotonic()
                try:
                    call(number)
                    done[name, "done"] += 1
                except (OpenSSHJobsError, OSError) as error:
                    done[name, type(error).__name__] += 1
                longest = max(longest, time.monotonic() - began)
                now = [facts(place) for place in kept]
                pairs = zip(now, before, strict=True)
                changed = [sorted(set(a.items()) ^ set(b.items())) for a, b in pairs]
                assert changed == [[], []], (name, number)
        print(said, said_here, longest, sum(done.values()), dict(done))
        assert [facts(place) for place in kept] == before
        assert said[1:] == [], "the variables of env= were read"
        assert not (top / "run").exists()
        assert longest < LONGEST
    finally:
        shutil.rmtree(top)
        shutil.rmtree(group)

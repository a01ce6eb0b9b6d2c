"""A short form of ``scripts/faults hostile``: some of each kind of lie, for every method."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs.transfer.options import Method
from tests.helpers import tar_in
from tests.hostile.host import Hostile, forget_reads, lay, look, was_read
from tests.hostile.trial import play
from tests.hostile.variants import METHODS, Variant, variants
from tests.lab import namespaces, parts

EACH = {"sftp": 1, "scp": 4, "tar": 1, "rsync": 1}
"""Variants of each kind: of single files there are fewer kinds."""


def some(method: Method) -> list[Variant]:
    """A few of each kind, the same in every run."""
    everything = variants(method)
    by_kind: dict[str, list[Variant]] = {}
    for variant in everything:
        by_kind.setdefault(variant.kind, []).append(variant)
    choice = random.Random(method)
    return [
        one
        for kind in by_kind.values()
        for one in choice.sample(kind, min(EACH[method], len(kind)))
    ]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_around_the_target_notices(
    method: Method, cold: Path, tmp_path: Path, expect_logins: Callable[..., None]
) -> None:
    if not namespaces.inside():
        parts.require_namespaces("a host with files of the names that are here")
    parts.require("rsync")
    tars = {name: tar_in(tmp_path / name, name) for name in ("busybox", "bsdtar")}
    host = Hostile(cold.parent / "hostile")
    host.start()
    expect_logins(0)  # a server of its own, which the ledger does not count
    try:
        outcomes = [play(host, variant, tars) for variant in some(method)]
        with host.connection() as connection:
            connection.close(stop_master=True)
    finally:
        host.stop()
    assert [one.line() for one in outcomes if one.outside or one.trouble] == []
    # What it says in place of a pattern is read: else nothing of that was tried.
    assert any("gave the name" in one.result for one in outcomes)
    assert len(outcomes) >= len({variant.kind for variant in variants(method)}) > 3


def test_there_are_two_hundred_of_each_method() -> None:
    for method in METHODS:
        every = variants(method)
        assert len({(one.kind, one.name) for one in every}) == len(every) >= 200, method


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    lay(tmp_path / "g", b"MINE")
    return tmp_path / "g"


def test_the_canaries_see_everything(ground: Path) -> None:
    """Else the tests above would prove nothing."""
    target = ground / "in" / "t"
    before = look(ground, target)
    forget_reads(ground)
    assert was_read(ground, target) == []
    (ground / "in" / "canary").read_bytes()
    assert was_read(ground, target) == ["in/canary"]
    assert look(ground, target) == before
    for change in (
        lambda: (ground / "out" / "x").mkdir(),
        lambda: (ground / "out" / "secret").write_bytes(b"else"),
        lambda: (ground / "out" / "setuid").chmod(0o755),
        lambda: (ground / "top").unlink(),
        lambda: (ground / "out" / "hard").hardlink_to(ground / "out" / "d" / "deep"),
    ):
        change()
        after = look(ground, target)
        assert after != before
        before = after

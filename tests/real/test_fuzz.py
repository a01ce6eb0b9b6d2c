"""What the fuzzer once found (``scripts/fuzz``), and what it begins with, once more through all."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import clusters, hosts
from tests.fuzz.readers import READERS, seeds
from tests.paths import CHECKOUT

KEPT = CHECKOUT / "tests" / "fuzz" / "kept"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("reader", READERS)
def test_real_texts_pass_every_check(reader: str) -> None:
    texts = list(seeds(reader))
    assert texts
    for text in texts:
        READERS[reader](text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "path", sorted(KEPT.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_was_found_stays_mended(path: Path) -> None:
    READERS[path.parent.name](path.read_bytes())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("call", hosts.CALLS)
def test_a_host_that_lies(call: str, tmp_path: Path) -> None:
    """The truth, an empty answer, and one of the other lies; ``scripts/fuzz`` tries them all."""
    some = Random(call).sample([lie for lie in hosts.LIES if lie not in ("truth", "empty")], 1)
    found = {lie: hosts.play(call, lie, 1, tmp_path) for lie in ("truth", "empty", *some)}
    assert {lie: problem for lie, problem in found.items() if problem} == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("call", "lie"),
    [("run", "huge-status"), ("run in a login shell", "huge-status"), ("popen", "huge-status")],
)
def test_a_lie_that_was_once_believed(call: str, lie: str, tmp_path: Path) -> None:
    assert hosts.play(call, lie, 1, tmp_path) is None


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("call", "lie"),
    [
        ("submit", "truth"),
        ("submit", "doubled"),
        ("submit many", "doubled"),
        ("tail", "truth"),
        ("tail", "thousands of digits"),
    ],
)
def test_a_host_that_lies_to_a_cluster(call: str, lie: str, tmp_path: Path) -> None:
    """What was found once; ``scripts/fuzz`` tries them all."""
    assert clusters.play(call, lie, 1, tmp_path) is None

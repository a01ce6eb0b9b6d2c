"""What the fuzzer once found (``scripts/fuzz``), and what it begins with, once more through all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.readers import READERS, seeds

KEPT = Path(__file__).parent / "fuzz" / "kept"


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

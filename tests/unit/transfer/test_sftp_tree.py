"""What counts as progress of a tree by sftp, and how much of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openssh_jobs.commands import limits
from openssh_jobs.errors import TransferError
from openssh_jobs.transfer.sftp_tree import Arrivals


def test_only_what_arrived_is_progress_and_it_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers for ever, with nothing or with more than it listed, comes to an end."""
    monkeypatch.setattr(limits, "grown", lambda size: size)
    one, two = tmp_path / "one", tmp_path / "two"
    arrivals = Arrivals([os.fsencode(one), os.fsencode(two)], 10, b"/there", "h", None)
    assert arrivals.moved() == arrivals.moved() == 0
    one.write_bytes(b"1234")
    assert arrivals.moved() == 4
    arrivals.through(1)
    assert arrivals.moved() == 4
    two.write_bytes(b"123456")
    assert arrivals.moved() == 10
    two.write_bytes(b"1234567")
    with pytest.raises(TransferError, match="'/there' was listed with 10 bytes, and far more"):
        arrivals.moved()

"""Reading the streams of the library's own commands: how long, and how much."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs.commands import limits
from openssh_jobs.commands.marks import Marks, new_nonce
from openssh_jobs.commands.stdio import Exchange


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_trickle_is_silence(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    monkeypatch.setattr(limits, "SILENCE", 1.0)
    ours, theirs = zip(os.pipe(), os.pipe(), strict=True)
    nonce = new_nonce()
    running: Any = SimpleNamespace(
        what="cat", inp=-1, out=ours[0], err=ours[1], preamble=b"", sent_input=0, read_by=None,
        early_out=b"", early_err=b"", is_left=lambda own: False, patience=lambda: 0.05,
        out_marks=Marks(nonce, hold=False), err_marks=Marks(nonce, hold=False),
    )  # fmt: skip
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.05):
            os.write(theirs[stream == "err"], b"x")

    writer = threading.Thread(target=trickle)
    writer.start()
    began = time.monotonic()
    try:
        exchange = Exchange(running, b"", most=limits.WORDS)
        assert not exchange.run(began + 5, silence=limits.SILENCE)
        assert time.monotonic() - began < 4
    finally:
        over.set()
        writer.join()
        for fd in (*ours, *theirs):
            os.close(fd)

"""Reading the streams of the library's own commands: how long, and how much."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openssh_jobs.commands import limits
from openssh_jobs.commands.leftovers import Leftovers
from openssh_jobs.commands.marks import Marks, new_nonce
from openssh_jobs.commands.stdio import Exchange


def test_what_comes_while_the_host_is_asked_who_holds_a_stream_is_kept() -> None:
    ours, theirs = zip(os.pipe(), os.pipe(), strict=True)
    nonce = new_nonce()
    marks = Marks(nonce, hold=False), Marks(nonce, hold=False)
    for line, mark in zip((b"end", b"status 0"), marks, strict=True):
        assert mark.feed(nonce + b" " + line + b"\n") == b""
    asked = []

    def is_left(*_: int) -> bool:
        """A child of the command writes, and ends, before the answer."""
        asked.append(os.write(theirs[0], b"late"))
        return True

    running: Any = SimpleNamespace(
        what="cat", inp=-1, out=ours[0], err=ours[1], preamble=b"", sent_input=0, read_by=None,
        early_out=b"", early_err=b"", out_marks=marks[0], err_marks=marks[1], takes_stdout=True,
    )  # fmt: skip
    login_shell, groups = SimpleNamespace(leaves_processes=True), SimpleNamespace(is_left=is_left)
    leftovers = Leftovers(running, cast("Any", login_shell), cast("Any", groups))
    running.is_left = lambda own: leftovers.hold_alone(2, 3, own=own)
    running.patience = lambda: 0.05
    try:
        exchange = Exchange(running, b"")
        assert exchange.run(time.monotonic() + 5)
        assert (exchange.output(), asked) == ((b"late", b""), [4])
    finally:
        for fd in (*ours, *theirs):
            os.close(fd)


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

"""``Screen``: what is written to the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from openssh_jobs.cli import screen


def test_a_signal_while_rich_enters_the_screen_leaves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes behind the bytes, before rich has noted that they were written."""
    console = pytest.importorskip("rich.console").Console
    real = console.set_alt_screen

    def interrupted(self: Any, enable: bool = True) -> bool:
        done = bool(real(self, enable))
        if enable:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(console, "set_alt_screen", interrupted)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    painter = screen._Rich()
    with pytest.raises(KeyboardInterrupt):
        painter.start()
    painter.stop()
    written = capsys.readouterr().out
    assert written.rindex("\x1b[?1049l") > written.rindex("\x1b[?1049h")

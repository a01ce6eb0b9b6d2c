"""Loggers: what a host says in a record is text, for handlers of other programs, too."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import openssh_jobs
from openssh_jobs import logs

PACKAGE = Path(openssh_jobs.__file__).parent


def test_no_control_character_reaches_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    log = logs.logger("openssh_jobs.test_logs")
    with caplog.at_level(logging.DEBUG, "openssh_jobs"):
        log.warning("%s: %s, %d of %s", "h", "a\x1b]52;c;eA==\x07\nb\u202e\x9bc\udcff", 3, [1])
        log.warning("lost: %s", OSError("session refused: \x1b[2J"))
        log.warning("%(name)s", {"name": "x"})
        log.warning("nothing")
    assert [record.getMessage() for record in caplog.records] == [
        r"h: a\x1b]52;c;eA==\x07\nb\u202e\x9bc\udcff, 3 of [1]",
        r"lost: session refused: \x1b[2J",
        "x",
        "nothing",
    ]


def test_a_logger_has_it_once() -> None:
    logs.logger("openssh_jobs.test_logs")
    assert len(logs.logger("openssh_jobs.test_logs").filters) == 1


def test_every_module_logs_by_it() -> None:
    """The command line has handlers and levels of its own."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"logging\.getLogger\(", path.read_text())
    }
    assert found == {"logs.py", "cli/app.py", "cli/options.py"}

"""Loggers of this package: text in their records is ``printable``, whatever handles them."""

from __future__ import annotations

import logging

from .printable import printable


def logger(name: str) -> logging.Logger:
    """The logger of that name; control characters in the arguments of its records are escaped.

    Names, commands and messages come from hosts, and handlers write to terminals and into files
    whose lines are read one by one.
    """
    found = logging.getLogger(name)
    found.addFilter(_escape)
    return found


def _escape(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            printable(value) if isinstance(value, (str, BaseException)) else value
            for value in record.args
        )
    return True

"""The types of what ``run`` and ``popen`` take: the command and the options that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import ReadableBuffer

    Command = str | bytes | Sequence[str | bytes]
    """Shell text, or an argument vector."""


class StartOptions(TypedDict, total=False):
    """The options of ``popen`` that do not change the type of its result."""

    cwd: str | None
    env: Mapping[str, str] | None
    encoding: str
    errors: str
    login_shell: bool | None


class RunOptions(StartOptions, total=False):
    """The options of ``run`` that do not change the type of its result."""

    input: str | ReadableBuffer | None
    timeout: float | None
    check: bool
    keep: bool

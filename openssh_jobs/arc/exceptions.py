"""ARC's exceptions: ours of those names, subclasses of ARC's own where those are loaded."""

from __future__ import annotations

import sys

from ..errors import ConfigurationError, InputError, ServerError

__all__ = ["InputError", "ServerError", "SettingsError", "adopt_arcs"]


class SettingsError(ConfigurationError):
    """A command of the settings that this machine cannot run."""


_USUAL = {ours: ours.__bases__ for ours in (InputError, ServerError, SettingsError)}


def adopt_arcs() -> None:
    """Make ARC's exceptions of the same names base classes of these, if they are loaded.

    The classes themselves stay the same objects, so that who imported one before ARC was loaded
    still catches it.
    """
    theirs = sys.modules.get("arc.exceptions")
    for ours, bases in _USUAL.items():
        parent = getattr(theirs, ours.__name__, None)
        if isinstance(parent, type) and issubclass(parent, Exception):
            bases = (*bases, parent)
        if ours.__bases__ != bases:
            ours.__bases__ = bases

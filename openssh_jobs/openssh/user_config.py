"""Lines of ssh_config(5) with which the user's own ``ssh`` shares the master of a route."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from . import runtime_directory

if TYPE_CHECKING:
    from .master import Master


def lines(master: Master) -> list[str]:
    """The lines for a master's destination; ``ssh -G`` is run, nothing is sent.

    Raises ``ConfigurationError``.

    An ssh whose ``ControlPath`` lies in a directory that is missing fails, so the directory, which
    may be gone after a restart of the machine, is made first; one of another user is not used.
    """
    directory = runtime_directory.prepare_directory()
    if re.search(r'["\\\x00-\x1f\x7f]', directory):
        raise ConfigurationError(
            f"{directory!r} cannot stand in an ssh configuration",
            advice="Name another directory in OPENSSH_JOBS_RUNTIME_DIR.",
        )
    path = os.path.join(directory, master.name)
    destination = master.destination
    user, _, host = destination.host.removeprefix("ssh://").rpartition("@")
    user = user or destination.user or ""
    place = shlex.quote(directory)
    # A percent sign stands for something in a command, and in a path.
    made = f"mkdir -p -m 700 {place} && test -O {place}".replace("%", "%%")
    persist = 600 if master.persist is None else master.persist
    return [
        "# Above all other lines that set ControlPath for this host.",
        f'Match originalhost {host}{f" user {user}" if user else ""} exec "{made}"',
        "    ControlMaster auto",
        f'    ControlPath "{path.replace("%", "%%")}"',
        f"    ControlPersist {persist}",
    ]

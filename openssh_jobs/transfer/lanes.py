"""``Lanes``: the parts of a connection that transfers use: sessions, held shell, held sftp."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..commands.control_shell import ControlShell
    from ..commands.runner import Commands
    from ..files.path_shell import PathShell
    from .sftp import Sftp


SCRIPTS = "transfer/transfer"
"""The file of the scripts of transfers, for ``commands.scripts``."""


class Lanes(NamedTuple):
    """The lanes of one connection."""

    commands: Commands
    shell: ControlShell
    sftp: Sftp
    files: PathShell
    host: str

"""``interact``: a command or a shell for the person at this process's terminal."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..openssh import terminal
from . import quoting

if TYPE_CHECKING:
    from .options import Command
    from .runner import Commands


# A command with nothing in it that a shell would act on, after its name.
_SIMPLE = re.compile(rb"\s*([\w./+@%:-]+)(?:\s+[\w./+@%:,=-]+)*\s*\Z", re.ASCII)


def _replacing_the_shell(command: Command) -> bytes:
    """The command with its ``sh`` replaced by the program, where it is one program.

    Ctrl-C reaches both, and dash would end by it after the program has handled it and gone on.
    """
    script = quoting.join_command(command)
    if isinstance(command, (str, bytes)):
        simple = _SIMPLE.match(script)
        name = simple[1] if simple is not None else None
    else:
        name = quoting.quote(command[0])
    if name is None:
        return script
    return b'case "$(command -v ' + name + b')" in */*) exec ' + script + b";; esac; " + script


class Interactive(ABC):
    """The part of a host that gives a person a terminal there."""

    host: str
    _commands: Commands

    def interact(
        self, command: Command | None = None, *, tty: bool = True, login_shell: bool = False
    ) -> int:
        """Run a command, or without one a login shell, on the standard streams of this process.

        With ``tty`` it runs on a terminal of the host, which follows the size of ours; the modes
        of ours are put back at the end, whatever happens.  Without, input and output are passed on
        byte by byte.  ``login_shell``: the account's login shell runs the command.  Ctrl-C is the
        command's.  Returns the exit status as ssh does: 255 after a signal.

        Raises ``ConfigurationError`` if ``tty`` is asked for and standard input is no terminal,
        ``SessionLimit``, ``ConnectionLost`` and what a login raises.  Never repeated.
        """
        if tty and not terminal.is_there():
            raise ConfigurationError(
                "a terminal (tty=True, -t) needs one here, and standard input is none",
                host=self.host,
            )
        script, what = b"", "a login shell"
        if command is not None:
            what = quoting.describe(command)
            script = self._commands.plan(_replacing_the_shell(command)).script
            if login_shell:
                script = b'exec "${SHELL:-/bin/sh}" -l -c ' + quoting.quote(script)
        return self._interact(script, what, tty=tty)

    @abstractmethod
    def _interact(self, script: bytes, what: str, *, tty: bool) -> int:
        """Run a script, or without one a login shell, on our standard streams."""

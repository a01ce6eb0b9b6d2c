"""Command lines of ssh(1) as those of an ssh that rides the open master and cannot connect.

Nothing of the caller's command line that could choose another way reaches that ssh: it gets the
options of ``guest``, and those that concern its session only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, MasterRequired
from . import guest, runtime_directory, ssh_config
from .destination import Destination
from .master import Master

if TYPE_CHECKING:
    from .mux_protocol import Link
    from .ssh_arguments import SshCommandLine


def arguments(
    line: SshCommandLine,
    *,
    ssh_config_file: str | None = None,
    jump: str | None = None,
    max_age: float | None = None,
) -> list[str]:
    """The program and its arguments for a command line of ssh.  Sends nothing to the host.

    ``-V``, ``-Q`` and ``-G`` are for the real ssh, which opens no connection for them.  All else
    rides the live master of the route: the one that a ``Connection`` with these options has, or
    the one without the options if these leave host, account and key as they are.

    Raises ``MasterRequired`` if there is none, with the command that opens one, and
    ``ConfigurationError`` for names and options that are invalid.
    """
    ssh = ssh_config.find("ssh")
    if line.answer is not None:
        return [ssh, line.answer]
    if line.host is None:
        raise ConfigurationError("there is no host")
    destination = Destination(
        host=line.host,
        user=line.user,
        port=line.port,
        identity_file=line.identity_file,
        jump=jump,
        ssh_config=ssh_config_file,
        ssh_options=line.route_options,
    )
    if line.prints_configuration:
        file = ["-F", destination.config_path] if destination.config_path is not None else []
        way = [*file, *(["-J", jump] if jump is not None else []), *line.all_options]
        return [ssh, *way, "-G", line.host, "--", *line.command]
    master, link = _open_master(destination, max_age)
    return [
        *guest.arguments("ssh", link.path),
        *line.session,
        *guest.session_options(master.resolved),
        # The name is for ssh's messages and for %h; after it, because older releases go on with
        # options behind the host although -- was before it.
        line.host,
        "--",
        *line.command,
    ]


def _open_master(destination: Destination, max_age: float | None) -> tuple[Master, Link]:
    master = Master(destination, policy="existing", max_age=max_age)
    try:
        return master, master.ensure()
    except MasterRequired:
        plain = dataclasses.replace(destination, ssh_options={})
        if destination.ssh_options:
            other = Master(plain, policy="existing", max_age=max_age)
            if runtime_directory.is_same_route(master.resolved, other.resolved):
                try:
                    return other, other.ensure()
                except MasterRequired:
                    destination = plain
    raise MasterRequired(
        "no connection is open, and this ssh opens none",
        host=destination.host,
        advice=f"Type `{destination.login_command()}`.",
    )

"""``ssh``: an ssh for other programs, which rides the open connection and cannot make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import exit_codes, options
from .exit_codes import ExitCode, UsageError
from .output import Output

if TYPE_CHECKING:
    import argparse


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``ssh`` to the command line."""
    parser = options.add_command(
        subparsers,
        "ssh",
        summary,
        run,
        usage="[long options] [options of ssh] HOST [COMMAND...]",
        examples="""\
  rsync -a -e 'openssh-jobs ssh' runs hpc:
      rsync over the connection that is open; without one it fails, and nothing logs in
  GIT_SSH_COMMAND='openssh-jobs ssh' git clone hpc:repositories/code
  openssh-jobs ssh -p 2222 alice@hpc ls
      the words are those of ssh(1): the command is a line of the login shell
  openssh-jobs ssh --ssh-config lab.conf hpc ls
      long options are ours; they go before all other words

What could end the connection or lead away from it is refused: -O -M -S -F -E -J -W,
forwards, and -o with ControlPath, ProxyCommand and their like. What concerns the making
of a connection (-4 -C -c -m, other keys of -o) has no effect, as with ssh on a socket.""",
        codes=exit_codes.help_text(
            (ExitCode.SSH, ExitCode.INTERRUPTED),
            first="that of ssh: of the remote command, or",
        ),
    )
    parser.add_argument("--ssh-config", metavar="FILE", help="ssh configuration file, as -F of ssh")
    parser.add_argument("--jump", metavar="HOST", help="jump host or hosts, as -J of ssh")
    parser.add_argument("--debug", action="store_true", help="log every step; show tracebacks")
    parser.set_defaults(json=False, quiet=False)


def run(args: argparse.Namespace, output: Output) -> int:
    """Let ssh take the place of this program."""
    from .. import settings, site_policy
    from ..errors import ConfigurationError
    from ..openssh import guest_command, ssh_arguments

    try:
        line = ssh_arguments.read(args.after_host)
    except ConfigurationError as error:
        raise UsageError(f"openssh-jobs ssh: {error.message}.") from None
    if line.host is None and line.answer is None:
        raise UsageError("openssh-jobs ssh: name a HOST. See `openssh-jobs ssh --help`.")
    limits = [site_policy.local().max_age]
    if line.host is not None:
        options.require_ssh(line.host)
        limits.append(settings.max_age(line.host))
    output.successor = guest_command.arguments(
        line,
        ssh_config_file=args.ssh_config,
        jump=args.jump,
        max_age=min((limit for limit in limits if limit is not None), default=None),
    )
    return ExitCode.OK

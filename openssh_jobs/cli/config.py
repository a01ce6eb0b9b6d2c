"""``config``: the settings of this program, where each comes from, and what is wrong in them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from .. import settings
from . import completion, options
from .exit_codes import ExitCode, UsageError
from .output import Output, terminal_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..site_policy import SitePolicy

_LARGEST = 1 << 20


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``config`` to the command line."""
    parser = options.add_command(
        subparsers,
        "config",
        summary,
        run,
        usage="[HOST]\n"
        "       openssh-jobs config [options] HOST --ssh\n"
        "       openssh-jobs config --completion SHELL\n"
        "       openssh-jobs config --import-arc SETTINGS.py",
        examples="""\
  openssh-jobs config
      the file of the settings, what holds for all hosts, and which hosts have their own
  openssh-jobs config hpc
      what holds for hpc, by the file and by the policies of this machine and of the site
  openssh-jobs config hpc --ssh
      lines for ~/.ssh/config, with which your own ssh shares the connection
  openssh-jobs config --completion bash >~/.openssh-jobs.bash
      completes commands, options, hosts, jobs, queues and, over an open
      connection, paths; `source` it in ~/.bashrc; for zsh a file _openssh-jobs
      in your fpath; for fish ~/.config/fish/completions/openssh-jobs.fish
  openssh-jobs config --import-arc ~/.arc/settings.py

Settings are only shown here; the file is changed with an editor.""",
    )
    parser.add_argument("host", metavar="HOST", nargs="?")
    parser.add_argument(
        "--ssh",
        action="store_true",
        help="print the lines of ssh_config(5) with which your own ssh uses the same connection",
    )
    parser.add_argument(
        "--import-arc",
        metavar="SETTINGS.py",
        help="print ARC's servers and commands as the text of a servers.toml; the file is read, "
        "not executed: what is not a literal in it is left out and named on stderr",
    )
    parser.add_argument(
        "--completion",
        choices=completion.SHELLS,
        metavar="SHELL",
        help="print the completion for bash, zsh or fish",
    )
    # What that runs for words that only this program knows; HOST is what was typed so far.
    parser.add_argument("--words", choices=completion.KINDS, help=argparse.SUPPRESS)
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Show the settings; failed where something of ARC's could not be read."""
    if args.words is not None:
        for word in completion.words(args.words, args):
            output.line(word)
        return ExitCode.OK
    if args.completion is not None:
        sys.stdout.write(completion.script(args.completion))
        return ExitCode.OK
    if args.import_arc is not None:
        if args.host is not None or args.ssh:
            raise UsageError("openssh-jobs config: --import-arc goes without HOST and --ssh.")
        return _import_arc(args.import_arc, output)
    if args.ssh:
        if args.host is None:
            raise UsageError("openssh-jobs config: --ssh needs HOST.")
        return _show_ssh(args, output)
    settings.check()
    _check_schedulers()
    return _show(args.host, output)


# --------------------------------------------------------------------------- the settings


def _check_schedulers() -> None:
    """Raise ``ConfigurationError`` for the name of a scheduler that there is not."""
    from ..cluster.scheduler_client import scheduler_of_settings

    for host in ("", *settings.servers()):
        scheduler_of_settings(host)


def _show(host: str | None, output: Output) -> int:
    path = settings.config_file()
    found, policy = settings.values(host), _policy(host)
    servers = sorted(settings.servers())
    if output.json:
        values = {name: {"value": one.value, "source": one.source} for name, one in found.items()}
        output.data(
            {
                "path": path,
                "exists": os.path.exists(path),
                "host": host,
                "settings": values,
                "servers": servers,
                "policy": policy.as_dict(),
                "problems": policy.problems,
            }
        )
        return ExitCode.OK
    output.line(path if os.path.exists(path) else f"{path} (there is no such file)")
    rows = [(name, _shown(one.value), _origin(one.source, path)) for name, one in found.items()]
    _print_rows(rows, output, {name: one.what for name, one in settings.SETTINGS.items()})
    if policy.as_dict():
        output.line("")
        output.line("policy of the site (of each limit the tighter one holds):")
        _print_rows([(name, _shown(value), "") for name, value in policy.as_dict().items()], output)
    for problem in policy.problems:
        output.note(problem)
    if host is None:
        output.line("")
        own = ", ".join(servers) or "none"
        output.line(f"hosts with settings of their own: {own}")
    elif settings.server_of(host) is None:
        output.line("")
        output.line(f"there is no table [servers.{_quoted(host)}]: what holds is for all hosts")
    return ExitCode.OK


def _policy(host: str | None) -> SitePolicy:
    """The policy of this machine, with that of the host as far as it is known; sends nothing."""
    from .. import site_policy

    if host is None or host == options.THIS_MACHINE:
        return site_policy.local()
    from ..cluster.cluster import Cluster

    with Cluster(host) as cluster:
        return cluster.internal.client.policy


def _shown(value: Any) -> str:
    """A value as one line; text that is no plain word as TOML has it."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    if isinstance(value, str) and re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII) is None:
        return _quoted(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quoted(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _origin(source: str, path: str) -> str:
    line = source.removeprefix(f"{path}:")
    return source if line == source else f"line {line}"


def _print_rows(
    rows: list[tuple[str, str, str]], output: Output, explained: Mapping[str, str] | None = None
) -> None:
    """Name, value and origin; a value that is too long for the screen stays whole.

    ``explained``: what each is, shown where all of them have room.
    """
    names = max(len(name) for name, _, _ in rows)
    room = terminal_width() - names - 2
    width = max(1, min(max(len(value) for _, value, _ in rows), room - 12))
    origins = max(len(origin) for _, _, origin in rows)
    texts = explained or {}
    used = names + width + origins + 6
    if used + max(map(len, texts.values()), default=0) > terminal_width():
        texts = {}
    for name, value, origin in rows:
        if len(value) > width and origin:
            output.line(f"{name:{names}}  {value}")
            output.line(f"{'':{names}}  {'':{width}}  {origin}".rstrip())
        else:
            line = f"{name:{names}}  {value:{width}}  {origin:{origins}}  {texts.get(name, '')}"
            output.line(line.rstrip())


# --------------------------------------------------------------------------- ssh


def _show_ssh(args: argparse.Namespace, output: Output) -> int:
    """The lines for the user's own ssh."""
    from ..openssh import user_config
    from ..openssh.master import Master

    lines = user_config.lines(Master(options.destination(args, args.host)))
    if output.json:
        output.data({"host": args.host, "lines": lines})
        return ExitCode.OK
    for line in lines:
        output.line(line)
    return ExitCode.OK


# --------------------------------------------------------------------------- ARC


def _import_arc(name: str, output: Output) -> int:
    from ..arc import settings_import

    path = os.path.expanduser(name)
    found = settings_import.read_settings(_source(path), path)
    for note in (*found.left_out, *found.notes):
        output.note(note)
    if output.json:
        output.data({**found.tables, "left_out": found.left_out, "notes": found.notes})
    else:
        for line in settings_import.to_toml(found.tables).splitlines():
            output.line(line)
    if not found.tables:
        output.note(f"{path} sets none of ARC's tables ({', '.join(settings_import.TABLES)})")
    return ExitCode.OK if found.tables and not found.left_out else ExitCode.FAILED


def _source(path: str) -> bytes:
    with open(path, "rb") as handle:
        data = handle.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UsageError(f"{path} is larger than a settings file can be ({_LARGEST} bytes)")
    return data

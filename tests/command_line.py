"""The block of docs/command-line.rst that the command line has to agree with.

``python -m tests.command_line`` rewrites it from the parsers of the commands.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from openssh_jobs.cli.app import COMMANDS, GROUPS, build_parser
from tests.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "command-line.rst"
_BLOCK = re.compile(r"(\.\. the commands\n\n)(.*?)(?=\.\. the end of the commands\n)", re.DOTALL)
_SHARED = re.compile(r"connection|output|scheduler|files")


def parser_of(command: str) -> Any:
    """The parser of a command."""
    return build_parser(command).commands[command]


def own_options(command: str) -> list[argparse.Action]:
    """The options of a command that it does not share with others, and that its help shows."""
    return [
        action
        for group in parser_of(command)._action_groups
        if not _SHARED.match(group.title or "")
        for action in group._group_actions
        if action.option_strings and action.help != argparse.SUPPRESS and action.dest != "help"
    ]


def block() -> str:
    """The commands in their groups, each with its usage and its own options."""
    lines = []
    for group, commands in GROUPS.items():
        lines += [f"{group.capitalize()}", "-" * len(group), ""]
        for name in commands:
            usage = parser_of(name).usage.replace("\n       ", "``, ``")
            lines += [f"``{usage}``", f"    {COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."]
            options = [
                f"{', '.join(action.option_strings)} {action.metavar or ''}".rstrip()
                for action in own_options(name)
            ]
            if options:
                lines += ["", "    " + ",\n    ".join(f"``{text}``" for text in options)]
            lines.append("")
    return "\n".join(lines)


def shown() -> str:
    """The block as the page has it."""
    found = _BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE.name} has no place for the commands"
    return found[2]


def main() -> None:
    """Write the block."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda found: found[1] + block(), text), encoding="utf-8")


if __name__ == "__main__":
    main()

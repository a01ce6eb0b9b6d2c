"""The parser of a command: errors are sentences; it finds where the words of others begin."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from .exit_codes import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


COMPLETES = {
    "host": "hosts",
    "hosts": "hosts",
    "job": "jobs",
    "jobs": "jobs",
    "queue": "queues",
    "local": "paths",
    "remote": "paths",
    "directory": "directory",
    "script": "file",
}
"""Arguments by their name in the parser, and what a shell completes them with."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence that names the way to the help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )
        self.other_name: Callable[[str, str | None], str | None] = lambda option, value: None
        """How an option of another program, with its value, is given here; ``None``: not known."""
        self.commands: Mapping[str, Parser] = {}
        """The parsers of the commands, in that of all commands."""

    def print_help(self, file: Any = None) -> None:
        """Print the help; an ``OSError`` is raised, which argparse would drop with the text."""
        stream = sys.stdout if file is None else file
        stream.write(self.format_help())
        stream.flush()

    def note_completions(self) -> None:
        """Give each argument what ``COMPLETES`` says of it, where shtab looks for it."""
        for action in self._actions:
            if action.dest in COMPLETES:
                setattr(action, "complete", COMPLETES[action.dest])  # noqa: B010

    def end_of_first(self, words: Sequence[str]) -> int:
        """The number of words up to the first one that is no option and no value of one."""
        skips = False
        for at, word in enumerate(words):
            if skips:
                skips = False
            elif word == "--":
                return at  # the first one is missing
            elif word.startswith("-") and word != "-":
                skips = self._takes_next(word)
            else:
                return at + 1
        return len(words)

    def end_of_long(self, words: Sequence[str]) -> int:
        """The number of words at the beginning that are long options and their values."""
        at = 0
        while at < len(words) and words[at].startswith("--") and words[at] != "--":
            at += 2 if self._takes_next(words[at]) else 1
        return min(at, len(words))

    def _takes_next(self, word: str) -> bool:
        """Whether the value of an option is the next word."""
        if word.startswith("--"):
            action = self._option_string_actions.get(word)  # not --option=value
            return action is not None and action.nargs != 0
        for at, letter in enumerate(word[1:], 2):  # -nF FILE, -nFFILE
            action = self._option_string_actions.get(f"-{letter}")
            if action is None or action.nargs != 0:
                return action is not None and at == len(word)
        return False

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError``; ``--timeout must be ...`` for what a type of ours refused."""
        message = re.sub(r"^argument ([^:]+): (?=must )", r"\1 ", message)
        message = re.sub(
            r"^argument ([^:]+): invalid choice: (.*) \(choose from (.*)\)$",
            r"\1 must be one of \3; \2 was given",
            message,
            flags=re.DOTALL,
        )
        raise UsageError(f"{self.prog}: {message}. See `{self.prog} --help`.")

    def refuse(self, words: Sequence[str], typed: Sequence[str]) -> NoReturn:
        """Raise ``UsageError`` for words that no option takes: each, and what may be meant.

        ``typed``: the whole command line, where the value of such an option stands behind it.
        """
        said = []
        for word in words:
            name, equals, value = word.partition("=")
            if name.startswith("-"):
                following = [*typed, "-"][typed.index(word) + 1] if word in typed else "-"
                given = value if equals else None if following.startswith("-") else following
                said.append(f"there is no option {name}{self._meant(name, given)}")
        if all("=" in word for word in words if word.startswith("-")):  # else it may be a value
            said += [f"{word!r} is one argument too many" for word in words if word[:1] != "-"]
        raise UsageError(f"{self.prog}: {'; '.join(said)}. See `{self.prog} --help`.")

    def _meant(self, name: str, value: str | None) -> str:
        other = self.other_name(name, value)
        if other is not None:
            return f" ({other})"
        known = [text for text in self._option_string_actions if text.startswith("--")]
        longer = [text for text in known if len(name) > 3 and text.startswith(name)]
        return did_you_mean(name, known) if not longer else f" (did you mean {longer[0]}?)"


def close_names(word: str, known: Iterable[str]) -> list[str]:
    """The names that are most like a word, the most similar first."""
    import difflib

    return difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.65)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` with the name most like a word; or nothing."""
    close = close_names(word, known)
    return f" (did you mean {close[0]}?)" if close else ""

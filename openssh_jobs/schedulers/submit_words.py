"""The words of a submit command: which stand for a parameter of ``submit``, which are refused.

``submit`` passes words on as they are.  Here it is read what they mean, so that it can be said;
and those are refused after which the submission could not be followed: the command would wait,
submit nothing, or submit something else than the script.  Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..errors import InputError

WAITS = "the submit command would wait for the job"
NOTHING = "the submit command would submit no job"
SILENT = "the submit command would not print the job's id"
ANOTHER = "another script or program would run than the one of the submission"
ELEMENTS = "the elements would not be followed; give it as --array (array=)"


class Said(NamedTuple):
    """One option among the words, and its value; ``option`` is empty for a bare word."""

    option: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitWords:
    """The words that a submit command takes.

    ``style``: ``getopt`` for getopt_long(3), ``plain`` where an option is a whole word.  ``flags``
    have no value, ``optional`` has one only behind ``=``, ``pairs`` have two.  ``means``: the
    parameter of ``submit`` that an option stands for; ``resources``: options whose value is a list
    of ``name=value``, of which ``means`` has the names, too.  ``refused``: why, by option;
    ``refused_values``: why, by option and the expression that the value fits.  ``bare``: what
    words that are no options may be.  ``seconds`` reads a time limit.
    """

    program: str
    style: Literal["getopt", "plain"]
    values: frozenset[str]
    flags: frozenset[str]
    optional: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    means: Mapping[str, str] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    refused_values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bare: str | None = None
    seconds: Callable[[str], int | None] = lambda text: None

    def check(self, words: Sequence[str]) -> None:
        """Raise ``InputError`` for words after which the job could not be followed."""
        for said in self._read(words):
            shown = said.option if said.value is None else f"{said.option} {said.value}".strip()
            why = self.refused.get(said.option)
            form, why_value = self.refused_values.get(said.option, ("", ""))
            if why is None and form and re.match(form, said.value or "", re.IGNORECASE):
                why = why_value
            if why is None and not said.option:
                if self.bare is not None and re.match(self.bare, said.value or "", re.DOTALL):
                    continue
                why = f"{self.program} would take it for the script or a program to run"
                shown = repr((said.value or "")[:80])
            if why is not None:
                raise InputError(
                    f"{self.program} must not get {shown}: {why}",
                    advice=self._advice(words, said) if not said.option else None,
                )

    def _advice(self, words: Sequence[str], said: Said) -> str | None:
        """How to give a value to an option that is not known here."""
        at = words.index(said.value) if said.value in words else 0
        before = words[at - 1] if at else ""
        if self.style != "getopt" or not before.startswith("-") or "=" in before:
            return None
        glue = "=" if before.startswith("--") else ""
        return f"If it is the value of {before}, write {before}{glue}{said.value}."

    def understood(self, words: Sequence[str]) -> dict[str, str]:
        """What the words set, by the parameter of ``submit`` that they stand for."""
        found: dict[str, str] = {}
        for said in self._read(words):
            pairs = [(said.option, said.value)]
            if said.option in self.resources or (not said.option and self.bare is not None):
                pairs = [
                    (name.strip(), value.strip())
                    for name, equals, value in (
                        part.partition("=") for part in _parts(said.value or "")
                    )
                    if equals
                ]
            for option, value in pairs:
                name = self.means.get(option)
                if name is not None:
                    found[name] = value if value is not None else ""
        return found

    def of_script(self, script: bytes, directive: str | None) -> dict[str, str]:
        """What the directives of a script set, as ``understood`` gives it."""
        words: list[str] = []
        for line in script.decode("utf-8", "replace").splitlines():
            if directive is None:
                words.append(line.strip())
            elif line.startswith(directive):
                try:
                    words += shlex.split(line[len(directive) :], comments=True)
                except ValueError:
                    words += line[len(directive) :].split()
        return self.understood(words)

    # -- reading ---------------------------------------------------------------

    def _read(self, words: Sequence[str]) -> Iterator[Said]:
        rest = iter(words)
        for word in rest:
            if word == "--" or len(word) < 2 or not word.startswith("-"):
                yield Said("", word)
            elif self.style == "plain":
                yield from self._read_plain(word, rest)
            elif word.startswith("--"):
                yield self._read_long(word, rest)
            else:
                yield from self._read_short(word, rest)

    def _read_long(self, word: str, rest: Iterator[str]) -> Said:
        typed, equals, value = word.partition("=")
        option = self._whole(typed)
        if equals:
            return Said(option, value)
        return Said(option, next(rest, None) if option in self.values else None)

    def _whole(self, typed: str) -> str:
        """The long option that is meant: getopt_long takes each unambiguous beginning of one."""
        known = (*self.values, *self.flags, *self.optional)
        if typed in known:
            return typed
        longer = [option for option in known if option.startswith(typed) and len(typed) > 2]
        if len(longer) > 1:
            # Which it is depends on the version: that it must not be one that is refused is sure.
            longer = [option for option in longer if option in self.refused] or [typed]
        return longer[0] if longer else typed

    def _read_short(self, word: str, rest: Iterator[str]) -> Iterator[Said]:
        at = 1
        while at < len(word):
            option, attached = f"-{word[at]}", word[at + 1 :]
            if option in self.values:
                yield Said(option, attached or next(rest, None))
                return
            if option in self.optional or (option not in self.flags and at == 1):
                yield Said(option, attached or None)
                return
            yield Said(option, None)
            at += 1

    def _read_plain(self, word: str, rest: Iterator[str]) -> Iterator[Said]:
        if word in self.pairs:
            yield Said(word, " ".join((next(rest, ""), next(rest, ""))))
        elif word in self.flags:
            yield Said(word, None)
        else:
            # One that is not known here is thought to have a value.
            yield Said(word, next(rest, None))


def words(text: str) -> frozenset[str]:
    """The options in a text, separated by spaces; ``-abc:`` would be no option."""
    return frozenset(text.split())


def meaning(**options: str) -> dict[str, str]:
    """``queue="-p --partition"`` as the parameter by option."""
    return {option: name for name, text in options.items() for option in text.split()}


def clock_seconds(text: str, units: Iterable[int] = (1, 60, 3600)) -> int | None:
    """``H:M:S``, ``M:S`` or ``S`` in seconds; ``units``: of the parts, the last one first."""
    parts, lengths = text.strip().split(":"), tuple(units)
    if not 0 < len(parts) <= len(lengths) or not all(re.fullmatch("[0-9]{1,9}", x) for x in parts):
        return None
    return sum(int(part) * unit for part, unit in zip(reversed(parts), lengths, strict=False))


def _parts(text: str) -> list[str]:
    """The parts of a list of ``name=value``; of ``select=1:ncpus=2`` only the whole."""
    return re.split(r",(?=[A-Za-z_]+=)", text)

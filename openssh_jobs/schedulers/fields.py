"""Small readers that all schedulers share: times, durations, sizes, host lists, first lines.

Pure.  A reader that cannot make sense of its text answers ``None``: one odd field spoils itself,
not the row.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from ..commands import quoting
from ..commands.quoting import to_text
from ..errors import InputError

__all__ = [
    "check_array",
    "chunks",
    "command_words",
    "epoch",
    "expand_array",
    "expand_hosts",
    "first_line",
    "is_number",
    "joined_lines",
    "json_text",
    "parse_duration",
    "parse_size",
    "parse_time",
    "quote",
    "shell_path",
    "signal_and_code",
    "spent",
    "text_seconds",
    "whole_number",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_MAX_HOSTS = 65536
_MAX_BRACKETS = 8
_MAX_ARRAY = 4_000_000
_HEAD = 100_000


_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+:,./-]+")


def quote(word: str) -> str:
    """One word of a POSIX shell command line, as the rest of the package quotes it."""
    # Ids come by the ten thousand, and are plain.
    return word if _PLAIN_WORD.fullmatch(word) else to_text(quoting.quote(word))


def shell_path(path: str) -> str:
    """A path as one shell word that no program takes for an option."""
    return quote(f"./{path}" if path.startswith("-") else path)


def is_number(text: str) -> bool:
    """True for at most 18 of the digits 0 to 9 and nothing else.

    ``str.isdigit`` takes the digits of all scripts, and ``int`` fails for thousands of them.
    """
    return len(text) <= 18 and text.isascii() and text.isdigit()


def whole_number(text: str | None) -> int | None:
    """An integer, or ``None`` for anything else."""
    text = text.strip() if text is not None else ""
    return int(text) if _NUMBER.fullmatch(text) is not None else None


# --------------------------------------------------------------------------- time

_DURATION = re.compile(
    r"(?:(?P<days>[0-9]{1,7})-)?(?P<clock>[0-9]{1,9}(?::[0-9]{1,9}){0,3})(?:\.[0-9]+)?", re.ASCII
)


def parse_duration(text: str | None, *, bare: str = "minutes") -> timedelta | None:
    """``1-02:03:04``, ``02:03:04``, ``03:04`` or a bare number of minutes (or seconds).

    With days in front the clock starts with hours (``2-12`` is two and a half days), as in Slurm.
    ``UNLIMITED``, ``N/A`` and the like are ``None``.
    """
    found = _DURATION.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    numbers = [int(part) for part in found["clock"].split(":")]
    days = int(found["days"] or 0)
    if len(numbers) == 4:
        days, numbers = numbers[0], numbers[1:]
    if found["days"] is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    elif len(numbers) == 2:
        hours, minutes, seconds = 0, numbers[0], numbers[1]
    else:
        return _delta(**{bare: numbers[0]})
    return _delta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _delta(**parts: int) -> timedelta | None:
    try:
        return timedelta(**parts)
    except OverflowError:
        return None


def spent(seconds: int | None) -> timedelta | None:
    """So many seconds; ``None`` for what is negative, or longer than any computer will run."""
    return timedelta(seconds=seconds) if seconds is not None and 0 <= seconds < 10**10 else None


def text_seconds(value: timedelta | float | str) -> timedelta | None:
    """A time limit given as ``timedelta``, seconds, or text in the common form."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    return timedelta(seconds=value)


def epoch(value: object) -> datetime | None:
    """An aware time from seconds since 1970; 0, negative and absurd numbers are "not said"."""
    if isinstance(value, str):
        value = whole_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def parse_time(text: str | None, zone: tzinfo | None = None) -> datetime | None:
    """An aware time from ISO text, mail-like text (``Sun Nov 22 06:48:44 2026``) or an epoch.

    Text without an offset needs ``zone``; without one there is no knowing when that was: ``None``.
    """
    if not text:
        return None
    text = text.strip()
    if is_number(text):
        return epoch(text)
    when: datetime | None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = _ctime(text)
    if when is None:
        return None
    if when.tzinfo is None:
        if zone is None:
            return None
        when = when.replace(tzinfo=zone)
    try:
        when = when.astimezone(UTC)
    except OverflowError:
        return None
    # The epoch itself, in whatever zone, is how programs write "never".
    return when if when.year > 1970 else None


def _ctime(text: str) -> datetime | None:
    for form in ("%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S.%f"):
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    from email.utils import parsedate_tz  # here, because it takes long to import

    parsed = parsedate_tz(text) if text.count(":") == 2 else None
    if parsed is None or parsed[9] is None:
        return None
    try:
        naive = datetime(*parsed[:6], tzinfo=UTC)
        return naive - timedelta(seconds=parsed[9])
    except (ValueError, OverflowError):
        return None


# --------------------------------------------------------------------------- sizes

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([kmgtpe]?)(i?)(b?|w?)(?:/s)?", re.I | re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}


def parse_size(text: str | None, *, unit: str = "") -> int | None:
    """Bytes from ``2000M``, ``1.5G``, ``64gb``; ``unit`` is that of a bare number."""
    found = _SIZE.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    power = _POWER[(found[2] or unit).lower()]
    return int(float(found[1]) * 1024**power) if "." in found[1] else int(found[1]) * 1024**power


# --------------------------------------------------------------------------- names of hosts


def _outside_brackets(text: str) -> Iterator[str]:
    depth = start = 0
    for place, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


_BRACKETS = re.compile(r"([^\[\]]*)\[([0-9,\-]+)\](.*)", re.ASCII)


def expand_hosts(text: str | None) -> tuple[str, ...] | None:
    """``n[1-3,7],login`` as names; a list too long to be real is left as it is."""
    if not text or text in ("(null)", "None", "N/A", "None assigned"):
        return None
    names: list[str] = []
    for part in _outside_brackets(text):
        if part:
            names.extend(_expand(part, _MAX_HOSTS - len(names)))
        if len(names) >= _MAX_HOSTS:
            return (text,)
    return tuple(names) or None


def _expand(text: str, room: int) -> list[str]:
    found = _BRACKETS.fullmatch(text)
    if found is None or text.count("[") > _MAX_BRACKETS:
        return [text]
    tails = _expand(found[3], room)
    names: list[str] = []
    for part in found[2].split(","):
        low, _, high = part.partition("-")
        last = high or low
        if not (is_number(low) and is_number(last)) or len(last) > 9:
            return [text]
        if (int(last) - int(low) + 1) * len(tails) > room - len(names):
            return [text] * max(1, room)
        width = len(low)
        for number in range(int(low), int(last) + 1):
            names.extend(f"{found[1]}{number:0{width}d}{tail}" for tail in tails)
    return names


# Slurm takes 1,001 elements by default, PBS 10,000, Grid Engine 75,000; a Torque server
# that was asked for 200,000 never came back.
MOST_ELEMENTS = 100_000
_ELEMENTS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?", re.ASCII)


def check_array(text: str, most: int = MOST_ELEMENTS) -> None:
    """``InputError`` for what is not an array, or one of more than ``most`` elements."""
    body, percent, limit = text.partition("%")
    if percent and (not is_number(limit) or int(limit) < 1):
        raise InputError(f"array: {text!r} has no number of at least 1 behind the %")
    count = 0
    for part in body.split(","):
        found = _ELEMENTS.fullmatch(part)
        if found is None:
            raise InputError(
                f"no array: {text!r}", advice="Write it like 0-9, 1-99:2, 3,5,7-9 or 0-99%10."
            )
        low, high, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if high < low or step < 1:
            raise InputError(f"array: {part!r} of {text!r} has no elements")
        count += (high - low) // step + 1
    if count > most:
        raise InputError(
            f"array: {text!r} has {count} elements, more than {most}",
            advice="Submit several arrays, or raise max_array of this host in servers.toml.",
        )


def expand_array(text: str) -> list[int]:
    """The indices of ``0-9:3,12%2``; empty for text that is not an array (or is one too long)."""
    found: list[int] = []
    for part in text.strip("[]").partition("%")[0].split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?", part.strip())
        if match is None:
            return []
        low, high, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1) or 1
        if (high - low) // step + len(found) > _MAX_ARRAY:
            return []
        found.extend(range(low, high + 1, step))
    return found


# --------------------------------------------------------------------------- lines


def first_line(*texts: str, skip: re.Pattern[str] | None = None) -> str:
    """The first line that says something, without control characters, at most 300 long.

    A line of dashes says nothing, unless there are only such lines.
    """
    dashes = ""
    for text in texts:
        for line in text.splitlines():
            line = _CONTROL.sub(" ", line).strip()
            if not line or (skip is not None and skip.search(line)):
                continue
            if any(map(str.isalnum, line)):
                return line[:300]
            dashes = dashes or line[:300]
    return dashes


_TELLING = re.compile(
    r"error|fail|fatal|den(?:y|ied)|refus|reject|invalid|illegal|unable|unknown|unrecogni|ambiguous|cannot|not\b|n't\b"
    r"|exceed|limit|too (?:many|long|large)|require|missing",
    re.IGNORECASE,
)
_MOST_LINES, _MOST_LETTERS = 20, 2000


def joined_lines(*texts: str, skip: re.Pattern[str] | None = None) -> str:
    """The lines that say something, in one line without control characters.

    A line of dashes says nothing.  Of more than twenty lines (a usage text, a long banner) those
    that read like an error are kept, or the first and the last ones where none does.
    """
    found: dict[str, None] = {}
    for text in texts:
        for line in text.splitlines():
            line = " ".join(_CONTROL.sub(" ", line).split())
            if any(map(str.isalnum, line)) and not (skip is not None and skip.search(line)):
                found.setdefault(line[:_MOST_LETTERS])
    lines = list(found)
    if len(lines) > _MOST_LINES:
        telling = [line for line in lines if _TELLING.search(line)]
        lines = telling[:_MOST_LINES] or [*lines[:5], *lines[5 - _MOST_LINES :]]
    joined = ""
    for line in lines:
        glue = "" if not joined else " " if joined[-1] in ".:;,!?" else "; "
        joined += glue + line
    return joined if len(joined) <= _MOST_LETTERS else f"{joined[: _MOST_LETTERS - 1]}…"


_OBJECT = re.compile(r"^[ \t\ufeff]*[{\[]", re.MULTILINE)


def json_text(text: str, *names: str) -> str:
    """The JSON in a text, without what a login script or a module printed around it.

    It begins on a line of its own and holds all of these names; empty where there is none.
    """
    if not all(name in text for name in names):
        return ""
    closed = max(text.rfind("}"), text.rfind("]")) + 1
    for found in list(_OBJECT.finditer(text, 0, _HEAD))[:_MOST_LINES]:
        start = found.end() - 1
        head = text[start : start + 200].lstrip("{[ \t\r\n")
        # A banner may begin with a bracket; JSON goes on with a name, an object or its end.
        if head[:1] not in ('"', "}", "]", "") or _is_banner(text[start : start + _BANNER], names):
            continue
        if all(name in text[start:] for name in names):
            return text[start:closed] if closed > start else text[start:]
    return ""


_BANNER = 2000


def _is_banner(text: str, names: tuple[str, ...]) -> bool:
    """Whether a text begins with JSON that holds not all of these names: ``{"quota": 3}``."""
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return not all(name in text[:end] for name in names)


def chunks(words: Iterable[str], *, size: int = 60_000) -> Iterator[list[str]]:
    """The words in lists whose text fits a command line (which holds 128 KiB)."""
    batch: list[str] = []
    length = 0
    for word in words:
        if batch and length + len(word) + 3 > size:
            yield batch
            batch, length = [], 0
        batch.append(word)
        length += len(word) + 3
    if batch:
        yield batch


def signal_and_code(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of a raw wait status (``768`` is exit 3, ``9`` is signal 9)."""
    number = status & 0x7F
    return ((status >> 8) & 0xFF, None) if number == 0 else (None, number)


_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


_ANSI_C = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f"}


def _unescaped(found: re.Match[str]) -> str:
    """``$'\\x1f'`` as bash reads it, quoted in the common way."""

    def letter(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _ESCAPES.get(code, code)

    return quote(_ESCAPE.sub(letter, found[1]))


def command_words(command: str | None, programs: Iterable[str]) -> list[str]:
    """The words of a typed command, from the first of these programs to the end of that command.

    Empty where none of them is called, or where the text is no command line.
    """
    if not command:
        return []
    try:
        words = shlex.split(_ANSI_C.sub(_unescaped, command), comments=False)
    except ValueError:
        return []
    wanted = set(programs)
    for place, word in enumerate(words):
        if word.rsplit("/", 1)[-1] in wanted:
            rest = words[place:]
            ends = [at for at, token in enumerate(rest) if token in ("|", "||", "&&", ";")]
            return rest[: ends[0]] if ends else rest
        if not _ASSIGNMENT.fullmatch(word) and place > 8:
            break
    return []

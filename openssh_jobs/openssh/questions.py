"""What a question of a login asks, who asks it, and whether an answer fits.  Pure.

ssh asks for passphrases and host keys, servers ask for anything.  An answer that is for this
machine must not reach a server, so only ssh's own questions have these kinds.  A server's question
begins with ``(user@host) `` (OpenSSH 8.5) wherever its banner ended, or is that for a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class PromptKind(StrEnum):
    """The kind of a question."""

    PASSWORD = "password"  # noqa: S105 - the name of a kind
    PASSPHRASE = "passphrase"  # noqa: S105
    CODE = "code"
    MENU = "menu"
    TOUCH = "touch"
    HOST_KEY = "host_key"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: ``text`` is all output since the last answer, with menus and hints.

    ``host`` is the host that asks, as ssh names it (the destination if ssh does not name one, as
    with passphrases); ``echo``: whether the answer may be shown while it is typed.  A responder
    returns text, or ``None`` if it has no answer.  ``touch`` waits for the security key, not for
    text: any answer but ``None`` continues.  ``host_key`` takes ``yes`` or the fingerprint that
    ``text`` shows; any other answer refuses the key.
    """

    kind: PromptKind
    text: str
    host: str
    echo: bool


# --------------------------------------------------------------------------- what a text means

_HOST_KEY = re.compile(
    r"\(yes/no(?:/\[fingerprint\])?\)\?\s*\Z|type 'yes'(?:, | or )'no'.*:\s*\Z", re.I
)
_NEW_SECRET = re.compile(r"\b(?:new|current|old|retype|re-enter|again|change)\b", re.I)
_PASSPHRASE = re.compile(r"passphrase|\bPIN\b")
_CODE = re.compile(
    r"verification|one[- ]?time|passcode|\botp\b|token|authenticator|second factor|\b2fa\b"
    r"|\bmfa\b|\bcode\b",
    re.I,
)
_CHOICE = re.compile(r"\boptions?\b|\bselect|\bchoose|\bchoice|\(\d+\s*-\s*\d+\)", re.I)
_ITEMS = re.compile(r"^\s*\[?\(?\d{1,2}[.)\]:]\s+\S", re.MULTILINE)
_PASSWORD = re.compile(r"pass\s?word|first factor|kennwort|mot de passe", re.I)

_ASKER = re.compile(r"^\((?P<who>[^\s()]+@[^\s()]+)\) ", re.MULTILINE)
_PASSWORD_OF = re.compile(r"^(?P<who>\S+@\S+)'s password:|@(?P<host>[^\s@]+)'s password: ?\Z", re.M)
_KEY_OF = re.compile(r"authenticity of host '(?P<host>[^' ]+)")
_SHOWN_KEY = re.compile(r"key fingerprint is:?\s+(?P<key>\S+?)\.?\s*$", re.MULTILINE)


def _asker(users: Sequence[str]) -> re.Pattern[str]:
    """The words that ssh puts before a server's question, where a banner may have left the cursor.

    Without the names of the ``users`` only at the beginning of a line: a banner may name people.
    """
    if not users:
        return _ASKER
    return re.compile(rf"\((?P<who>(?:{'|'.join(map(re.escape, users))})@[^\s()]+)\) ")


def is_for_password_method(line: str) -> bool:
    """Whether this line is ssh's question for the password method of a server."""
    return _PASSWORD_OF.search(line) is not None


def kind_of(text: str, users: Sequence[str] = ()) -> PromptKind:
    """The kind of a question by its text, of which the last line asks.

    ``users``: the names with which ssh logs in on the way.
    """
    asker = _asker(users)
    line = text.rstrip("\n").rpartition("\n")[2]
    by_server = asker.search(text) is not None or is_for_password_method(line)
    # Without the name of the host that asks: it might be "token".
    line = _ASKER.sub("", asker.split(line)[-1])
    own = _HOST_KEY.search(line), _PASSPHRASE.search(line)
    if any(own):
        if by_server:
            # Only a person can know what such a server means, and what it may know.
            return PromptKind.PASSWORD if _PASSWORD_OF.search(line) else PromptKind.OTHER
        return PromptKind.HOST_KEY if own[0] else PromptKind.PASSPHRASE
    if _CHOICE.search(line) or len(_ITEMS.findall(text)) > 1:
        return PromptKind.MENU
    asks_secret = _PASSWORD.search(line) is not None
    if asks_secret and _NEW_SECRET.search(line):
        # An expired password: only a person should change it.
        return PromptKind.OTHER
    if _CODE.search(line):  # "one-time password" too
        return PromptKind.CODE
    if asks_secret:
        return PromptKind.PASSWORD
    return PromptKind.OTHER


def host_of(text: str, users: Sequence[str] = ()) -> str | None:
    """The host that asks, if ssh itself names it (``(user@host) `` since OpenSSH 8.5).

    Empty if the text names two: a server may pretend to be another one.
    """
    found = [*_ASKER.finditer(text), *_asker(users).finditer(text)]
    names = {one["who"].rpartition("@")[2] for one in found}
    for one in _PASSWORD_OF.finditer(text):
        if one["who"] or not names:  # else these are words of the server that asks
            names.add(one["host"] or one["who"].rpartition("@")[2])
    if len(names) > 1:
        return ""
    keys = _KEY_OF.findall(text)
    return next(iter(names), keys[-1] if keys else None)


def make_prompt(text: str, *, host: str, echo: bool, users: Sequence[str] = ()) -> Prompt:
    """The prompt for a text that waits for an answer."""
    asker, kind = host_of(text, users), kind_of(text, users)
    # ssh turns the echo off before it asks for a passphrase.
    if asker == "" or (kind == PromptKind.PASSPHRASE and echo):
        return Prompt(PromptKind.OTHER, text, asker or host, echo)
    return Prompt(kind, text, asker or host, echo)


def accepts_key(text: str, answer: str) -> bool:
    """Whether an answer to a host key question accepts the key that was shown."""
    wanted = answer.strip()
    if wanted.lower() == "yes":
        return True
    # The last one counts: a jump host may have sent any text before.
    shown = _SHOWN_KEY.findall(text)
    return bool(shown) and wanted == shown[-1]

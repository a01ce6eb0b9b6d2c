"""Command lines of ssh(1), read as ssh reads them: which words are options, host and command.

Pure.  Only what is in the tables is accepted, because the options decide whether an ssh stays on
the open connection: see ``guest_command``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigurationError

WITH_VALUE = frozenset("BDEFIJLOQRSWbceilmopw")
"""Options with a value, glued (``-p22``) or as the next word: getopt(3) in ssh.c of 7.4 to 10.0."""
WITHOUT_VALUE = frozenset("1246ACGKMNTVXYafgknqstvxy")
"""Options without a value, which may stand together (``-TMq``)."""

_FORWARD = "the forward would stay in the open connection; use `openssh-jobs forward`"
_CREDENTIALS = "the open connection hands on nothing of yours but its sessions"
_LEADS_AWAY = "it would lead away from the open connection"

REFUSED = {
    "O": "it could end the open connection, which other programs use; use `openssh-jobs logout`",
    "M": "no connection is opened here; use `openssh-jobs login`",
    "S": _LEADS_AWAY,
    "F": "give the file before all other words, as `openssh-jobs ssh --ssh-config FILE`",
    "J": "give the jump host before all other words, as `openssh-jobs ssh --jump HOST`",
    "E": "messages go to standard error",
    "W": "use `openssh-jobs forward`",
    "L": _FORWARD,
    "R": _FORWARD,
    "D": _FORWARD,
    "w": _FORWARD,
    "g": _FORWARD,
    "N": "without forwards it has no use",
    "A": _CREDENTIALS,
    "K": _CREDENTIALS,
    "X": _CREDENTIALS,
    "Y": _CREDENTIALS,
    "P": "its meaning depends on the version of ssh",
}
"""Options that are refused, and the rest of the sentence."""

REFUSED_KEYS = {
    "controlmaster": REFUSED["M"],
    "controlpath": _LEADS_AWAY,
    "controlpersist": REFUSED["M"],
    "proxycommand": _LEADS_AWAY,
    "proxyjump": REFUSED["J"],
    "proxyusefdpass": _LEADS_AWAY,
    "localcommand": "no command is run on this machine",
    "permitlocalcommand": "no command is run on this machine",
    "knownhostscommand": "no command is run on this machine",
    "localforward": _FORWARD,
    "remoteforward": _FORWARD,
    "dynamicforward": _FORWARD,
    "gatewayports": _FORWARD,
    "tunnel": _FORWARD,
    "tunneldevice": _FORWARD,
    "forwardagent": _CREDENTIALS,
    "forwardx11": _CREDENTIALS,
    "forwardx11trusted": _CREDENTIALS,
    "gssapidelegatecredentials": _CREDENTIALS,
    "include": "give the file before all other words, as `openssh-jobs ssh --ssh-config FILE`",
    "host": "it is for configuration files",
    "match": "it is for configuration files",
    "tag": "it chooses other lines of the configuration",
}
"""Keys of ``-o``, in lower case, that are refused."""

_HARMLESS_IF_NO = frozenset(
    (
        "permitlocalcommand",
        "gatewayports",
        "tunnel",
        "forwardagent",
        "forwardx11",
        "forwardx11trusted",
        "gssapidelegatecredentials",
    )
)
"""Refused keys that sftp and scp turn off: ``-oPermitLocalCommand=no``."""

_OF_THE_SESSION = frozenset("1efnqstTvy")
"""Options that concern one session; the others concern the making of a connection."""
_SESSION_KEYS = frozenset(
    (
        "enableescapecommandline",
        "escapechar",
        "forkafterauthentication",
        "loglevel",
        "logverbose",
        "remotecommand",
        "requesttty",
        "sendenv",
        "sessiontype",
        "setenv",
        "stdinnull",
    )
)
_ROUTE_KEYS = {"b": "BindAddress", "B": "BindInterface", "I": "PKCS11Provider"}
"""Options that are short for a key of the configuration."""
_NO_EFFECT_KEYS = frozenset(("batchmode", "clearallforwardings", "exitonforwardfailure"))

# readconf.c: blanks, the key, blanks or one equals sign, the value to the end.
_KEY_VALUE = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)(?:\s*=\s*|\s+)(\S.*)", re.DOTALL)


@dataclass(slots=True)
class SshCommandLine:
    """A command line of ssh, read.

    ``answer``: an option such as ``-V`` that ssh answers without a host.  ``session``: the words of
    options that concern the session only, each complete (``-oSendEnv=LANG``).  ``all_options``:
    those of all options that were accepted, in their order.
    """

    host: str | None = None
    command: list[str] = field(default_factory=list)
    answer: str | None = None
    prints_configuration: bool = False
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    route_options: dict[str, str] = field(default_factory=dict)
    session: list[str] = field(default_factory=list)
    all_options: list[str] = field(default_factory=list)


def read(words: Sequence[str]) -> SshCommandLine:
    """Read the words after ``ssh``.  Raises ``ConfigurationError`` for what is refused.

    Options may stand before and after the host; the first word behind it that is none begins the
    command, and so does the word after ``--``.
    """
    line = SshCommandLine()
    at = 0
    while at < len(words) and line.answer is None:
        word = words[at]
        if word == "--":
            at += 1
            if line.host is None and at < len(words):
                line.host = words[at]
                at += 1
            break
        if word.startswith("-") and word != "-":
            at = _read_cluster(words, at, line)
            continue
        if line.host is not None:
            break
        line.host = word
        at += 1
    line.command = list(words[at:])
    return line


def _read_cluster(words: Sequence[str], at: int, line: SshCommandLine) -> int:
    """Read the options of one word, and the value that the last takes; the index of the next."""
    word = words[at]
    if word.startswith("--"):
        raise ConfigurationError(f"there is no option {word.partition('=')[0]} of ssh")
    for place, letter in enumerate(word[1:], 2):
        if letter in REFUSED:
            raise ConfigurationError(f"-{letter} is refused: {REFUSED[letter]}")
        if letter in WITHOUT_VALUE:
            _accept(line, letter)
            if line.answer is not None:
                return at + 1
            continue
        if letter not in WITH_VALUE:
            raise ConfigurationError(f"there is no option -{letter} of ssh")
        value, following = word[place:], at + 1
        if not value:
            if following >= len(words):
                raise ConfigurationError(f"-{letter} needs a value")
            value, following = words[following], following + 1
        if not value or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise ConfigurationError(f"-{letter} cannot have the value {value!r}")
        _accept_value(line, letter, value)
        return following
    return at + 1


def _accept(line: SshCommandLine, letter: str) -> None:
    if letter == "V":
        line.answer = "-V"
        return
    if letter == "G":
        line.prints_configuration = True
        return
    word = f"-{letter}"
    line.all_options.append(word)
    if letter in _OF_THE_SESSION:
        line.session.append(word)


def _accept_value(line: SshCommandLine, letter: str, value: str) -> None:
    if letter == "Q":
        line.answer = f"-Q{value}"
        return
    if letter == "o":
        _accept_key(line, value)
        return
    word = f"-{letter}{value}"
    line.all_options.append(word)
    if letter == "l":
        line.user = line.user or value
    elif letter == "p":
        line.port = line.port or _port(value)
    elif letter == "i":
        if line.identity_file is not None:
            raise ConfigurationError("-i can be given once")
        line.identity_file = value
    elif letter in _ROUTE_KEYS:
        line.route_options.setdefault(_ROUTE_KEYS[letter], value)
    elif letter in _OF_THE_SESSION:
        line.session.append(word)


def _accept_key(line: SshCommandLine, text: str) -> None:
    found = _KEY_VALUE.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"-o must be KEY=VALUE; {text!r} was given")
    key, value = found[1], found[2].rstrip()
    name = key.lower()
    if name in REFUSED_KEYS and not (name in _HARMLESS_IF_NO and value.lower() in ("no", "false")):
        raise ConfigurationError(f"-o {key} is refused: {REFUSED_KEYS[name]}")
    word = f"-o{key}={value}"
    line.all_options.append(word)
    if name in _SESSION_KEYS:
        if name == "sessiontype" and value.strip('"').lower() == "none":
            raise ConfigurationError(f"-o {key}=none is refused: {REFUSED['N']}")
        line.session.append(word)
    elif name == "user":
        line.user = line.user or value
    elif name == "port":
        line.port = line.port or _port(value)
    elif name not in REFUSED_KEYS and name not in _NO_EFFECT_KEYS:
        if name in (known.lower() for known in line.route_options):
            if name.endswith("file"):  # these add up, the first of all others counts
                raise ConfigurationError(f"-o {key} can be given once")
            return
        line.route_options[key] = value


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value[:6]) < 65536):
        raise ConfigurationError(f"the port must be from 1 to 65535; {value!r} was given")
    return int(value)

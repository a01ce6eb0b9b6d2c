"""The paths of settings and state on this machine, and the values in ``servers.toml``.

The file has a table ``[servers.NAME]`` for each host, and ``[defaults]`` for all of them; the
other tables are ARC's.  All of it is checked whenever any of it is read.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import permissions
from .errors import ConfigurationError

APP = "openssh_jobs"
MOST_BYTES = 1 << 18
"""What is longer is no settings file."""
POLL_INTERVAL = "OPENSSH_JOBS_POLL_INTERVAL"


def config_file() -> str:
    """The path of ``servers.toml``: ``$OPENSSH_JOBS_CONFIG``, else in the user's config dir."""
    explicit = os.environ.get("OPENSSH_JOBS_CONFIG")
    if explicit:
        return explicit
    import platformdirs

    return os.path.join(platformdirs.user_config_dir(APP), "servers.toml")


def state_directory() -> str:
    """The directory of the journal.  Created with mode 0700 by the writer."""
    import platformdirs

    return platformdirs.user_state_dir(APP)


def check_home(path: str) -> None:
    """Raise ``ConfigurationError`` if a path lies in the user's home, and that does not exist.

    A home that is not mounted yet, or the one of an account that has none, is not created.
    """
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        import pwd

        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            return  # a user without an account, as in a container
    home = os.path.abspath(home)
    if os.path.commonpath([home, os.path.abspath(path)]) == home and not os.path.isdir(home):
        raise ConfigurationError(
            f"the home directory {home} does not exist, and is not created for {path}",
            advice="Set HOME, or set XDG_STATE_HOME to another directory for the journal.",
        )


# --------------------------------------------------------------------------- the settings


class Kind(NamedTuple):
    """What a setting may be: in words, and a function that says whether a value is that."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: object, kinds: type | tuple[type, ...], least: float) -> bool:
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    return is_number and least <= value < 1e9  # type: ignore[operator]


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable() and " " not in value


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value and "\n" not in value


def _is_host(value: object) -> bool:
    return _is_word(value) and not str(value).startswith("-")


def _is_time_limit(value: object) -> bool:
    from .jobs.time_limit import time_limit_of

    try:
        return isinstance(value, str) and time_limit_of(value) is not None
    except ValueError:  # InputError
        return False


def _is_list_of_words(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) and "\0" not in one for one in value
    )


_SECONDS = Kind("a number of seconds >= 0", lambda value: _is_number(value, (int, float), 0))
_GIGABYTES = Kind("a number of GB >= 0", lambda value: _is_number(value, (int, float), 0))
_COUNT = Kind("an integer >= 1", lambda value: _is_number(value, int, 1))
_WORD = Kind("one word", _is_word)
_TEXT = Kind("a text", lambda value: isinstance(value, str) and "\0" not in value)
_PATH = Kind("a path on the host", _is_path)
_HOST = Kind("the name of a host", _is_host)
_SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
_TIME_LIMIT = Kind("HH:MM:SS or D-HH:MM:SS", _is_time_limit)
_WORDS = Kind("a list of words", _is_list_of_words)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a host's table.  ``default``: what holds without it; ``None``: nothing."""

    kind: Kind
    what: str
    default: Any = None


SETTINGS = {
    "scheduler": Setting(_WORD, "its name, or auto: found out", "auto"),
    "login_shell": Setting(_SWITCH, "its commands run in the login shell", True),
    "prologue": Setting(_TEXT, "shell text before its commands", ""),
    "start_timeout": Setting(_SECONDS, "seconds for the login shell to start", 30.0),
    "poll_floor": Setting(_SECONDS, "least seconds between two queries", None),
    "dials_per_hour": Setting(_COUNT, "most logins without a person an hour", 20),
    "max_age": Setting(_SECONDS, "most seconds that a connection lasts", None),
    "data_host": Setting(_HOST, "the host for put, get and fetch", None),
    "base_directory": Setting(_PATH, "where relative job directories begin", "~"),
    "account": Setting(_WORD, "account of jobs that name none", None),
    "queue": Setting(_WORD, "queue of jobs that name none", None),
    "time_limit": Setting(_TIME_LIMIT, "time limit of jobs that name none", None),
    "options": Setting(_WORDS, "first words for the submit command", ()),
    "transfer_limit": Setting(_GIGABYTES, "GB above which put, get and fetch ask", 10),
    "node_ssh": Setting(_SWITCH, "its own ssh may go to the nodes of jobs", False),
    "max_array": Setting(_COUNT, "most elements of one array", 100_000),
}
"""The settings of a host, of ``[defaults]`` too, in the order in which they are shown."""

ARC_KEYS = frozenset((
    "address", "un", "user", "key", "identity_file", "cluster_soft", "queues", "excluded_queues",
    "cpus", "memory", "path", "precedence", "max_simultaneous_jobs", "strict_host_key_checking",
    "port", "jump", "ssh_config", "ssh_options", "forward_agent", "master", "persist",
    "connect_timeout", "exec_backend", "max_sessions", "poll_interval", "grace", "record_exit",
    "journal",
))  # fmt: skip
"""Further keys of ``[servers.NAME]``, which only ``openssh_jobs.arc`` reads and checks.

An entry of ARC's (with ``cluster_soft``) may have others, too.
"""
ARC_TABLES = (
    "servers", "check_status_command", "submit_command", "delete_command",
    "list_available_nodes_command", "submit_filenames", "output_filenames",
)  # fmt: skip
"""The tables that ARC's settings have."""


# --------------------------------------------------------------------------- the file


def read_config() -> dict[str, Any]:
    """The content of ``servers.toml``, checked; empty if the file does not exist.

    Raises ``ConfigurationError``, with the line, for a key or a value that is wrong, and for a
    file that cannot be read or that others can change: it contains commands that run as this user.
    """
    return _read().content


def check() -> None:
    """Raise ``ConfigurationError`` where ``servers.toml`` or the environment is wrong."""
    _read()
    _poll_interval()


class _Content(NamedTuple):
    content: dict[str, Any]
    lines: list[str]


_known: tuple[object, _Content] | None = None


_held: contextvars.ContextVar[_Content | None] = contextvars.ContextVar("_held", default=None)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A context in which this thread reads the file once, so that all values are of one time."""
    token = _held.set(_read())
    try:
        yield
    finally:
        _held.reset(token)


def _read() -> _Content:
    global _known
    content = _held.get()
    if content is not None:
        return content
    path = config_file()
    problem = permissions.problem_of_path(path)
    if problem is not None:
        raise ConfigurationError(
            f"{path} {problem}",
            advice="Take its permissions from others (chmod go-w), or use a copy of your own.",
        )
    try:
        # O_NONBLOCK: opening a fifo that another user put there would block.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as handle:
            facts = os.fstat(handle.fileno())
            if not permissions.is_trusted_file(facts):
                raise ConfigurationError(
                    f"{path} belongs to another user, or others can write it",
                    advice="Use a copy of your own (chmod go-w).",
                )
            which = (path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if _known is None or _known[0] != which:
                _known = (which, _parsed(path, handle.read(MOST_BYTES + 1)))
            return _known[1]
    except FileNotFoundError:
        return _Content({}, [])
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}",
            advice="OPENSSH_JOBS_CONFIG names another file.",
        ) from error


def _parsed(path: str, data: bytes) -> _Content:
    import tomllib

    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        text = data.decode("utf-8")
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    # As TOML counts lines: a line ends with \n alone.
    found = _Content(content, text.split("\n"))
    _check_content(path, found)
    return found


def _check_content(path: str, file: _Content) -> None:
    for name, table in file.content.items():
        if name not in ("defaults", *ARC_TABLES):
            raise _no_such(path, file, (name,), ("defaults", *ARC_TABLES))
        if not isinstance(table, dict):
            raise ConfigurationError(f"{_place(path, file, (name,))}: {name} must be a table")
    _check_table(path, file, ("defaults",), file.content.get("defaults", {}))
    for name, table in file.content.get("servers", {}).items():
        if not isinstance(table, dict):
            where = _place(path, file, ("servers", name))
            raise ConfigurationError(f"{where}: [servers] must hold one table per server")
        _check_table(path, file, ("servers", name), table)


def _check_table(path: str, file: _Content, at: tuple[str, ...], table: Mapping[str, Any]) -> None:
    for name, value in table.items():
        setting = SETTINGS.get(name)
        if setting is None:
            if len(at) == 1 and name in ARC_KEYS:
                where = _place(path, file, (*at, name))
                raise ConfigurationError(f"{where}: {name} belongs to a table [servers.NAME]")
            known = SETTINGS if len(at) == 1 else (*SETTINGS, *ARC_KEYS)
            if name not in known and ("cluster_soft" not in table or _is_like(name, SETTINGS)):
                raise _no_such(path, file, (*at, name), known)
        elif not setting.kind.fits(value):
            raise ConfigurationError(
                f"{name} of {at[-1]} in {_place(path, file, (*at, name))} must be "
                f"{setting.kind.words}, not {value!r}"
            )


def _is_like(name: str, known: Iterable[str]) -> bool:
    """Whether a name is a misspelt one; others an entry of ARC may have, which ARC's users read."""
    import difflib

    return bool(difflib.get_close_matches(name, list(known), n=1, cutoff=0.8))


def _no_such(
    path: str, file: _Content, at: tuple[str, ...], known: Iterable[str]
) -> ConfigurationError:
    import difflib

    close = difflib.get_close_matches(at[-1], list(known), n=1, cutoff=0.6)
    settings = [name for name in known if name not in ARC_KEYS]
    meant = f" (did you mean {close[0]}?)" if close else ""
    what = "setting" if len(at) > 1 else "table"
    return ConfigurationError(
        f"{_place(path, file, at)}: there is no {what} {at[-1]!r}{meant}",
        advice=None if close else f"There are: {', '.join(settings)}.",
    )


def _place(path: str, file: _Content, at: tuple[str, ...]) -> str:
    return f"{path}:{line_of(file.lines, at)}"


def line_of(lines: list[str], at: tuple[str, ...]) -> int:
    """The number of the line in a TOML text where a key, given by its path, is set.

    It is the first line without which the text, cut off there, does not have the key: what TOML
    is, only ``tomllib`` knows.
    """
    import tomllib

    def parsed(count: int) -> tuple[int, bool]:
        """The least number of lines from ``count`` on that is TOML, and whether it has the key."""
        for end in range(count, len(lines) + 1):
            try:
                table: Any = tomllib.loads("\n".join(lines[:end]))
            except ValueError:
                continue  # in the middle of a value
            for key in at:
                if not isinstance(table, dict) or key not in table:
                    return end, False
                table = table[key]
            return end, True
        return len(lines), True

    low, high = 0, len(lines)  # low: lines without the key that are TOML; high: with it
    while low + 1 < high:
        middle = (low + high) // 2
        end, has = parsed(middle)
        if has:
            high = middle  # from here on it is set, perhaps in the middle of its value
        else:
            low = end
    return low + 1


# --------------------------------------------------------------------------- of one host


def servers() -> dict[str, dict[str, Any]]:
    """The tables below ``[servers]``, by name."""
    found: dict[str, dict[str, Any]] = read_config().get("servers", {})
    return found


def server_of(host: str) -> str | None:
    """The name of the table for a host: its own, that of ``user@HOST``, or of its address."""
    tables = servers()
    plain = host.removeprefix("ssh://").rpartition("@")[2]
    for name in (host, plain, plain.partition(":")[0]):
        if name in tables:
            return name
    named = [name for name, table in tables.items() if table.get("address") == plain]
    return named[0] if len(named) == 1 else None


class Value(NamedTuple):
    """The value of a setting and where it comes from: ``default``, ``FILE:LINE``, ``$NAME``."""

    value: Any
    source: str


def value(host: str, name: str) -> Any:
    """A setting of a host: its own, that of ``[defaults]``, or ``None``."""
    content = read_config()
    tables = content.get("servers", {}).get(server_of(host), {}), content.get("defaults", {})
    return next((table[name] for table in tables if name in table), None)


def values(host: str | None) -> dict[str, Value]:
    """All settings of a host, ``None``: of one that has no table, with their sources."""
    file, path = _read(), config_file()
    server = None if host is None else server_of(host)
    places = [("servers", server)] if server is not None else []
    found = {}
    for name, setting in SETTINGS.items():
        found[name] = Value(setting.default, "default")
        for at in (("defaults",), *places):
            table: Any = file.content
            for key in at:
                table = table.get(key, {})
            if name in table:
                found[name] = Value(table[name], _place(path, file, (*at, name)))
    floor = _poll_interval()
    if floor is not None and floor >= (found["poll_floor"].value or 0):
        found["poll_floor"] = Value(floor, f"${POLL_INTERVAL}")
    return found


def place_of(host: str, name: str) -> str:
    """Where a setting of a host is set."""
    return values(host)[name].source


def poll_floor(host: str) -> float | None:
    """The minimum seconds between two queries of a host, or ``None`` where nothing sets one.

    The largest of ``poll_floor`` in ``servers.toml`` and ``$OPENSSH_JOBS_POLL_INTERVAL``.
    """
    floors = (value(host, "poll_floor"), _poll_interval())
    return max((float(floor) for floor in floors if floor is not None), default=None)


def _poll_interval() -> float | None:
    text = os.environ.get(POLL_INTERVAL)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise ConfigurationError(f"{POLL_INTERVAL} must be a number of seconds >= 0, not {text!r}")
    return number


def start_timeout(host: str) -> float | None:
    """Seconds for the login shell to start a command (``start_timeout``), or ``None``."""
    return _seconds(host, "start_timeout")


def max_age(host: str) -> float | None:
    """Seconds after which a master takes no new sessions (``max_age``), or ``None``."""
    return _seconds(host, "max_age")


def _seconds(host: str, name: str) -> float | None:
    found = value(host, name)
    return None if found is None else float(found)


def max_array(host: str) -> int | None:
    """The maximum number of elements of one array (``max_array``), or ``None``."""
    found: int | None = value(host, "max_array")
    return found


def transfer_limit(host: str) -> int:
    """Bytes above which ``put``, ``get`` and ``fetch`` of the command line ask first.

    ``transfer_limit`` is in GB (10^9 bytes).
    """
    found: float | None = value(host, "transfer_limit")
    return int((SETTINGS["transfer_limit"].default if found is None else found) * 10**9)


def node_ssh(host: str) -> bool:
    """Whether the host's own ssh may go to the nodes of jobs (``node_ssh``)."""
    return bool(value(host, "node_ssh"))


def dials_per_hour(host: str) -> int | None:
    """The maximum number of unattended logins per hour (``dials_per_hour``), or ``None``."""
    found: int | None = value(host, "dials_per_hour")
    return found

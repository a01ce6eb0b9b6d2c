"""The paths of settings and state on this machine, and the values in ``servers.toml``."""

from __future__ import annotations

import os
from typing import Any

from . import permissions
from .errors import ConfigurationError

APP = "openssh_jobs"


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


def read_config() -> dict[str, Any]:
    """The content of ``servers.toml``; empty if the file does not exist.

    Raises ``ConfigurationError`` if it cannot be read, or if others can write it: it contains
    commands that run as this user.
    """
    import tomllib

    path = config_file()
    try:
        # O_NONBLOCK: opening a fifo that another user put there would block.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as handle:
            if not permissions.is_trusted_file(os.fstat(handle.fileno())):
                raise ConfigurationError(
                    f"{path} belongs to another user, or others can write it",
                    advice="Use a copy of your own (chmod go-w).",
                )
            return tomllib.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def servers() -> dict[str, dict[str, Any]]:
    """The tables below ``[servers]``, by name."""
    found = read_config().get("servers", {})
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ConfigurationError(f"[servers] in {config_file()} must hold one table per server")
    return found


def _seconds(host: str, name: str) -> float | None:
    value = servers().get(host, {}).get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigurationError(
            f"{name} of {host} in {config_file()} must be a number of seconds >= 0, not {value!r}"
        )
    return float(value)


def poll_floor(host: str) -> float | None:
    """The minimum seconds between two queries of a host, or ``None`` where nothing sets one.

    The largest of ``poll_floor`` in ``servers.toml`` and ``$OPENSSH_JOBS_POLL_INTERVAL``.
    """
    floors = (_seconds(host, "poll_floor"), _poll_interval())
    return max((floor for floor in floors if floor is not None), default=None)


def _poll_interval() -> float | None:
    text = os.environ.get("OPENSSH_JOBS_POLL_INTERVAL")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ConfigurationError(
            f"OPENSSH_JOBS_POLL_INTERVAL must be a number of seconds >= 0, not {text!r}"
        )
    return value


def start_timeout(host: str) -> float | None:
    """Seconds for the login shell to start a command (``start_timeout``), or ``None``."""
    return _seconds(host, "start_timeout")


def max_age(host: str) -> float | None:
    """Seconds after which a master takes no new sessions (``max_age``), or ``None``."""
    return _seconds(host, "max_age")


def max_array(host: str) -> int | None:
    """The maximum number of elements of one array (``max_array``), or ``None``."""
    value = servers().get(host, {}).get("max_array")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"max_array of {host} in {config_file()} must be an integer >= 1, not {value!r}"
        )
    return value


def dials_per_hour(host: str) -> int | None:
    """The maximum number of unattended logins per hour (``dials_per_hour``), or ``None``."""
    value = servers().get(host, {}).get("dials_per_hour")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"dials_per_hour of {host} in {config_file()} must be an integer >= 1, not {value!r}"
        )
    return value

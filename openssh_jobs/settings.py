"""Where settings and state lie on this machine, and what ``servers.toml`` says."""

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
    """The directory of the journal; made, for its owner alone, by who writes there."""
    import platformdirs

    return platformdirs.user_state_dir(APP)


def read_config() -> dict[str, Any]:
    """The whole of ``servers.toml`` as it stands; empty where there is no such file.

    Raises ``ConfigurationError`` for one that cannot be read, or that others can write: it names
    commands that run as us.
    """
    import tomllib

    path = config_file()
    try:
        # A fifo that somebody has put there would keep us waiting.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as handle:
            if not permissions.is_trusted_file(os.fstat(handle.fileno())):
                raise ConfigurationError(
                    f"{path} belongs to somebody else, or others can write it",
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
        raise ConfigurationError(f"[servers] in {config_file()} is to hold one table a server")
    return found


def _seconds(host: str, name: str) -> float | None:
    value = servers().get(host, {}).get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigurationError(f"{name} of {host} in {config_file()} is no number of seconds")
    return float(value)


def poll_floor(host: str) -> float | None:
    """The site's own least number of seconds between two queries (``poll_floor``), if any."""
    return _seconds(host, "poll_floor")


def start_timeout(host: str) -> float | None:
    """Seconds for the login shell to begin with a command (``start_timeout``), if that was set."""
    return _seconds(host, "start_timeout")


def max_array(host: str) -> int | None:
    """The most elements that one array may have (``max_array``), if that was set."""
    value = servers().get(host, {}).get("max_array")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"max_array of {host} in {config_file()} is no number from 1 on")
    return value


def dials_per_hour(host: str) -> int | None:
    """How many logins an hour are made unattended (``dials_per_hour``), if that was set."""
    value = servers().get(host, {}).get("dials_per_hour")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"dials_per_hour of {host} in {config_file()} is no number from 1 on"
        )
    return value

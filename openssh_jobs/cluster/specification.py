"""``Specification``: the parameters of ``submit``, checked before anything is sent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Protocol, TypedDict

from ..commands.command_line import exports
from ..commands.quoting import to_bytes
from ..errors import InputError
from ..jobs import JobId
from ..schedulers.fields import MOST_ELEMENTS
from ..schedulers.request import JobOptions, SubmitRequest


class HasId(Protocol):
    """What has the id of a job as ``id``, such as a ``Job``."""

    @property
    def id(self) -> str: ...


AnyJob = str | int | JobId | HasId
"""A job, or its id."""
AnyJobs = AnyJob | Iterable[AnyJob]
"""A job, its id, or a collection of either."""


class ScriptOptions(TypedDict, total=False):
    """The parameters of ``submit`` but for the path of a script on the host."""

    script_file: str | os.PathLike[str] | None
    script_text: str | None
    directory: str | None
    upload: str | os.PathLike[str] | None
    name: str | None
    array: str | None
    after_ok: AnyJobs | None
    after_any: AnyJobs | None
    after_failed: AnyJobs | None
    hold: bool
    queue: str | None
    account: str | None
    time_limit: timedelta | str | None
    nodes: int | str | None
    cpus: int | None
    memory: int | str | None
    gpus: int | str | None
    qos: str | None
    reservation: str | None
    constraint: str | None
    stdout_path: str | None
    stderr_path: str | None
    mail: str | None
    arguments: Sequence[str]
    options: Sequence[str]
    env: Mapping[str, str] | None
    record_exit: bool | str | None
    token: str | None


class SubmitOptions(ScriptOptions, total=False):
    """The parameters of ``submit`` for one of many jobs, or for all of them."""

    script: str | None


AnySpecifications = (
    str | os.PathLike[str] | Iterable[SubmitOptions | Mapping[str, object] | os.PathLike[str] | str]
)
"""A local directory of scripts; or for each job a local script, or parameters of ``submit``."""

# Options that came later: where they are not used, the digest is that of an older version.
_LATER = ("qos", "reservation", "constraint", "stdout_path", "stderr_path", "mail", "arguments")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def check_token(token: str) -> str:
    """The token; raises ``InputError`` for any other text."""
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise InputError(
            f"{token!r} is not a token",
            advice="A token is 1 to 64 letters, digits, dots, dashes and underscores.",
        )
    return token


def job_ids(jobs: AnyJobs | None, host: str | None = None) -> tuple[str, ...]:
    """The ids of jobs given as jobs, ids, or a collection of either; each checked.

    Raises ``InputError`` for what is no id, and for a job of another host than ``host``: its id
    means another job there.
    """
    if jobs is None:
        return ()
    if isinstance(jobs, str | int | JobId) or hasattr(jobs, "id"):
        members: Iterable[object] = [jobs]
    elif isinstance(jobs, Iterable) and not isinstance(jobs, bytes | bytearray):
        members = jobs
    else:
        raise InputError(f"not a job and not an id: {jobs!r}")
    found = []
    for job in members:
        job_id, its = str(JobId.parse(getattr(job, "id", job))), getattr(job, "host", host)
        if None not in (host, its) and its != host:
            raise InputError(
                f"the job {job_id} is one of {its}, not of {host}", host=host,
                advice=f"On {host} this id means another job, or none.",
            )  # fmt: skip
        found.append(job_id)
    return tuple(found)


# Names of the files beside the script on the host.
_RESERVED = re.compile(r"\.oj-|(?:attempt-[0-9]+(?:\.d)?|result-[0-9]+|claim\..*|owner)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification(JobOptions):
    """The parameters of ``submit``, checked.  ``content``: the local script's bytes.

    Raises ``InputError`` or the ``OSError`` of a local file.
    """

    script: str | None = None
    script_file: str | None = None
    script_text: str | None = None
    directory: str | None = None
    upload: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    @classmethod
    def of(
        cls,
        *,
        env: Mapping[str, str] | None,
        max_array: int | None = None,
        content: bytes | None = None,
        **asked: Any,
    ) -> Specification:
        """Check the parameters and read the local script.

        ``content``: its bytes, where ``script_file`` is only its name.
        """
        given = [key for key in ("script", "script_file", "script_text") if asked[key] is not None]
        if len(given) != 1:
            raise InputError(
                "give exactly one of script (a path on the host), script_file (a local file) and "
                f"script_text, not {' and '.join(given) or 'none'}"
            )
        content = _local_script(asked) if content is None else content
        script = asked["script"]
        if script is not None and ("\0" in script or not script.strip("/")):
            raise InputError(f"{script!r} is not the path of a script")
        if asked["upload"] is not None:
            _check_upload(asked)
        for key in ("after_ok", "after_any", "after_failed"):
            asked[key] = job_ids(asked[key])
        for key in ("arguments", "options"):
            if isinstance(asked[key], str):
                raise InputError(f"{key} must be a list of words, not one text")
            asked[key] = tuple(asked[key])
        _check_environment(env or {})
        made = cls(env=dict(env or {}), content=content, **asked)
        made.request("x", None, max_array)  # the checks of each option
        if _RESERVED.match(made.script_name):
            raise InputError(f"the script's name {made.script_name!r} is reserved for this package")
        return made

    @property
    def script_name(self) -> str:
        """The file name of the script: job names default to it."""
        if self.script is not None:
            return posixpath.basename(self.script.rstrip("/"))
        if self.script_file is not None:
            return os.path.basename(self.script_file)
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", self.name or "job").lstrip("-.") or "job"
        return plain[:100]

    def request(
        self, script: str, token: str | None, max_array: int | None = None
    ) -> SubmitRequest:
        """What the scheduler's class gets to build the submit command."""
        return SubmitRequest(
            script=script,
            directory=self.directory,
            token=token,
            env_names=tuple(self.env),
            max_array=max_array or MOST_ELEMENTS,
            **self.job_options(),
        )

    def digest(self, scheduler: str) -> str:
        """A hash of all parameters; values of ``env`` go in only as a hash."""
        facts = {option.name: getattr(self, option.name) for option in fields(self)}
        for name in _LATER:
            if not facts[name]:
                del facts[name]
        facts["content"] = hashlib.sha256(self.content or b"").hexdigest()
        facts["env"] = hashlib.sha256(exports(dict(sorted(self.env.items())))).hexdigest()
        facts["scheduler"] = scheduler
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_script(path: str) -> bytes:
    """The bytes of a local script."""
    with open(path, "rb") as handle:
        return handle.read()


def _local_script(asked: dict[str, Any]) -> bytes | None:
    """The bytes of ``script_file`` or ``script_text``, checked; ``None`` for neither."""
    content = None
    if asked["script_file"] is not None:
        asked["script_file"] = os.fspath(asked["script_file"])
        content = read_script(asked["script_file"])
    if asked["script_text"] is not None:
        content = to_bytes(asked["script_text"])
    if content is not None:
        _check_script(content)
    return content


def _check_upload(asked: dict[str, Any]) -> None:
    asked["upload"] = upload = os.fspath(asked["upload"])
    if not os.path.exists(upload):
        raise FileNotFoundError(errno.ENOENT, "upload must be a local directory", upload)
    if not os.path.isdir(upload):
        raise NotADirectoryError(errno.ENOTDIR, "upload must be a local directory", upload)
    if asked["directory"] is None:
        raise InputError("upload needs directory=, its name on the host")
    _check_uploaded_script(upload, asked["script"])


def _check_environment(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not isinstance(value, str) or "\0" in value:
            raise InputError(f"the value of {name!r} in env must be text without zero bytes")
    try:
        exports(env)
    except ValueError as error:
        raise InputError(str(error)) from None


def _check_script(content: bytes) -> None:
    if not content.strip():
        raise InputError("the script is empty")
    if b"\0" in content:
        raise InputError("the script holds zero bytes: it is not text")


def _check_uploaded_script(upload: str, script: str | None) -> None:
    """Check a script that comes with the upload, before anything is sent."""
    if script is None or script.startswith(("/", "~/")):
        return
    path = os.path.join(upload, script)
    if os.path.isfile(path):
        _check_script(read_script(path))
    elif os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "the script is a directory", path)
    elif not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, "upload has no such script", path)


# --------------------------------------------------------------------------- many

_DEFAULTS: dict[str, object] = {"hold": False, "arguments": (), "options": ()}
_PARAMETERS = (*SubmitOptions.__optional_keys__,)
_SCRIPTS = ("script", "script_file", "script_text")


def parameters_of_many(
    specifications: AnySpecifications, common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """All parameters of each job, as ``Cluster.submit_many`` describes it."""
    _check_names(common, "submit_many")
    # All jobs get the same: an iterator would be empty after the first.
    common = {key: [*it] if isinstance(it, Iterator) else it for key, it in common.items()}
    if common.get("token") is not None:
        raise InputError(
            "a token names one submission",
            advice="Give each job its own, in its specification.",
        )
    if isinstance(specifications, str | os.PathLike):
        specifications, common = _of_directory(os.fspath(specifications), common)
    elif isinstance(specifications, Mapping):
        raise InputError("submit_many takes a list of specifications; submit takes one")
    made = []
    for at, one in enumerate(specifications):
        if not isinstance(one, str | os.PathLike | Mapping):
            raise InputError(f"a specification must be a mapping or a local script, not {one!r}")
        own: dict[str, Any] = dict(one) if isinstance(one, Mapping) else {"script_file": one}
        _check_names(own, f"specification {at}")
        asked = {name: _DEFAULTS.get(name) for name in _PARAMETERS} | dict(common)
        if any(own.get(name) is not None for name in _SCRIPTS):
            asked |= dict.fromkeys(_SCRIPTS)
        asked |= own
        asked["env"] = {**(common.get("env") or {}), **(own.get("env") or {})}
        made.append(asked)
    if not made:
        raise InputError("submit_many got no specifications: there is nothing to submit")
    return made


def _check_names(given: Mapping[str, object], where: str) -> None:
    unknown = sorted(set(map(str, given)) - set(_PARAMETERS))
    if unknown:
        raise InputError(
            f"{where}: submit has no parameter {', '.join(unknown)}",
            advice=f"It has {', '.join(sorted(_PARAMETERS))}.",
        )


def _of_directory(
    local: str, common: Mapping[str, Any]
) -> tuple[list[Mapping[str, object]], Mapping[str, Any]]:
    """A job for each script directly in a local directory, which is uploaded."""
    given = [name for name in ("upload", *_SCRIPTS) if common.get(name) is not None]
    if given:
        raise InputError(f"a directory of scripts has its own; {', '.join(given)} must be left out")
    found: list[Mapping[str, object]] = []
    for name in sorted(os.listdir(local)):
        path = os.path.join(local, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if file.read(2) == b"#!":
                    found.append({"script": name})
    if not found:
        raise InputError(f"no file in {local} begins with #!: there is no script to submit")
    return found, {**common, "upload": local}

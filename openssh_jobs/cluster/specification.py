"""What a caller of ``submit`` asks for, checked before anything is sent."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from ..commands.command_line import exports
from ..commands.quoting import to_bytes
from ..errors import InputError
from ..jobs import JobId
from ..schedulers.base import SubmitRequest
from ..schedulers.fields import MOST_ELEMENTS

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def check_token(token: str) -> str:
    """A token that is one; ``InputError`` for any other text."""
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise InputError(
            f"{token!r} is no token",
            advice="A token is 1 to 64 letters, digits, dots, dashes and underscores.",
        )
    return token


def job_ids(jobs: Any) -> tuple[str, ...]:
    """The ids of jobs given as jobs, ids, or a collection of either; each checked."""
    if jobs is None:
        return ()
    if isinstance(jobs, str | int | JobId) or hasattr(jobs, "id"):
        jobs = [jobs]
    if not isinstance(jobs, Iterable) or isinstance(jobs, bytes | bytearray):
        raise InputError(f"not a job and not an id: {jobs!r}")
    return tuple(str(JobId.parse(getattr(one, "id", one))) for one in jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What a caller of ``submit`` asked for, checked; nothing has been sent yet.

    Raises ``InputError`` or the ``OSError`` of a local file.
    """

    script: str | None = None
    script_file: str | None = None
    script_text: str | None = None
    directory: str | None = None
    upload: str | None = None
    name: str | None = None
    array: str | None = None
    after_ok: tuple[str, ...] = ()
    after_any: tuple[str, ...] = ()
    after_failed: tuple[str, ...] = ()
    hold: bool = False
    queue: str | None = None
    account: str | None = None
    time_limit: timedelta | str | None = None
    nodes: int | str | None = None
    cpus: int | None = None
    memory: int | str | None = None
    gpus: int | str | None = None
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    @classmethod
    def of(
        cls, *, env: Mapping[str, str] | None, max_array: int | None = None, **asked: Any
    ) -> Specification:
        """Check what was asked and read the local script."""
        given = [key for key in ("script", "script_file", "script_text") if asked[key] is not None]
        if len(given) != 1:
            raise InputError(
                "give exactly one of script (a path on the host), script_file (a local file) and "
                f"script_text, not {' and '.join(given) or 'none'}"
            )
        content = None
        if asked["script_file"] is not None:
            asked["script_file"] = os.fspath(asked["script_file"])
            content = read_script(asked["script_file"])
        if asked["script_text"] is not None:
            content = to_bytes(asked["script_text"])
        if content is not None:
            _check_script(content)
        script = asked["script"]
        if script is not None and ("\0" in script or not script.strip("/")):
            raise InputError(f"{script!r} is no path of a script")
        if asked["upload"] is not None:
            asked["upload"] = os.fspath(asked["upload"])
            if not os.path.isdir(asked["upload"]):
                error = NotADirectoryError if os.path.exists(asked["upload"]) else FileNotFoundError
                number = 20 if error is NotADirectoryError else 2
                raise error(number, "upload is to be a local directory", asked["upload"])
            if asked["directory"] is None:
                raise InputError("upload needs directory=, its name on the host")
            _check_uploaded_script(asked["upload"], asked["script"])
        for key in ("after_ok", "after_any", "after_failed"):
            asked[key] = job_ids(asked[key])
        if isinstance(asked["options"], str):
            raise InputError("options is a list of words, not one text")
        asked["options"] = tuple(asked["options"])
        for name, value in (env or {}).items():
            if not isinstance(value, str) or "\0" in value:
                raise InputError(f"the value of {name!r} in env is no text without zero bytes")
        try:
            exports(env or {})
        except ValueError as error_in_env:
            raise InputError(str(error_in_env)) from None
        made = cls(env=dict(env or {}), content=content, **asked)
        if made.script_name.startswith(".oj-"):
            raise InputError(f"the script's name {made.script_name!r} is one of this package's own")
        made.request("x", None, max_array)  # the scheduler's own checks of names and numbers
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
        """What the scheduler's file gets to see."""
        return SubmitRequest(
            script=script,
            directory=self.directory,
            name=self.name,
            array=self.array,
            after_ok=self.after_ok,
            after_any=self.after_any,
            after_failed=self.after_failed,
            hold=self.hold,
            queue=self.queue,
            account=self.account,
            time_limit=self.time_limit,
            nodes=self.nodes,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
            token=token,
            env_names=tuple(self.env),
            options=self.options,
            max_array=max_array or MOST_ELEMENTS,
        )

    def digest(self, scheduler: str) -> str:
        """A fingerprint of all that was asked; values of ``env`` go in only as a hash."""
        facts = asdict(self)
        facts["content"] = hashlib.sha256(self.content or b"").hexdigest()
        facts["env"] = hashlib.sha256(exports(dict(sorted(self.env.items())))).hexdigest()
        facts["scheduler"] = scheduler
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_script(path: str) -> bytes:
    """The bytes of a local script."""
    with open(path, "rb") as handle:
        return handle.read()


def _check_script(content: bytes) -> None:
    if not content.strip():
        raise InputError("the script is empty")
    if b"\0" in content:
        raise InputError("the script holds zero bytes: it is no text")


def _check_uploaded_script(upload: str, script: str | None) -> None:
    """A script that comes with the upload is looked at here, before anything is sent."""
    if script is None or script.startswith(("/", "~/")):
        return
    path = os.path.join(upload, script)
    if os.path.isfile(path):
        _check_script(read_script(path))
    elif os.path.isdir(path):
        raise IsADirectoryError(21, "the script is a directory", path)
    elif not os.path.lexists(path):
        raise FileNotFoundError(2, "upload has no such script", path)

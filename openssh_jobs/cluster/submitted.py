"""What was submitted, for the journal: script, parameters, command, uploads; and once more from it.

Values of ``env`` are not kept, nor the content of uploads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import logs
from ..errors import InputError
from ..openssh import process
from ..transfer import checksums, listing
from .journal import Kept
from .specification import Specification, job_ids

if TYPE_CHECKING:
    from .job_files import HostScript
    from .journal import Journal
    from .specification import AnyJob

log = logs.logger("openssh_jobs.cluster.submitted")

MOST_SCRIPT = 1 << 20
"""Bytes of a script that are kept."""
MOST_UPLOADS = 10_000
"""Names of uploaded files that are kept; of more there is only their number and one digest."""
MOST_COMMAND = 4096
"""Characters of the command that are kept; only ``direct`` has longer ones, its own shell text."""
_GIT_TIMEOUT = 5.0
_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?\n\Z")
_NOT_KEPT = frozenset(("env", "content", "script_text"))


class _KeptScript(NamedTuple):
    """A script: its bytes where they are kept, its digest and size as far as known."""

    content: bytes | None = None
    digest: str | None = None
    size: int | None = None


class Keeper:
    """What is kept of submissions that are about to be sent.

    Each upload, and each repository of git, is looked at once.
    """

    def __init__(self) -> None:
        self._uploads_of = cache(_uploads_of)
        self._commit_of = cache(_commit_of)

    def kept_of(
        self, wanted: Specification, read: HostScript | None, *, digest: str, command: str
    ) -> Kept:
        """``read``: a script of the host.  What could not be read is left out."""
        found = _script_of(wanted, read)
        place = _local_directory(wanted)
        return Kept(
            digest=digest,
            script=found.content,
            script_digest=found.digest,
            script_size=found.size,
            specification=json.dumps(_parameters(wanted)),
            command=command[:MOST_COMMAND],
            uploads=None if wanted.upload is None else self._uploads_of(wanted.upload),
            git_commit=None if place is None else self._commit_of(place),
        )


def _parameters(wanted: Specification) -> dict[str, object]:
    """The parameters of ``submit`` as JSON has them; of ``env`` only the names."""
    found = {
        option.name: getattr(wanted, option.name)
        for option in fields(wanted)
        if option.name not in _NOT_KEPT
    }
    if isinstance(wanted.time_limit, timedelta):
        found["time_limit"] = {"seconds": wanted.time_limit.total_seconds()}
    for name in ("script_file", "upload"):
        if found[name] is not None:
            found[name] = os.path.abspath(found[name])
    return found | {"env": sorted(wanted.env), "script_name": wanted.script_name}


def _script_of(wanted: Specification, read: HostScript | None) -> _KeptScript:
    if wanted.content is not None:
        return _script(wanted.content)
    if read is not None:
        return _KeptScript(size=read.size) if read.content is None else _script(read.content)
    try:
        path = os.path.join(wanted.upload or "", wanted.script or "")
        with open(path, "rb") as handle:
            content = handle.read(MOST_SCRIPT + 1)
        if len(content) <= MOST_SCRIPT:
            return _script(content)
        return _KeptScript(None, checksums.local(os.fsencode(path)), os.path.getsize(path))
    except OSError as error:
        log.info("the text of the script is not kept: %s", error)
    return _KeptScript()


def _script(content: bytes) -> _KeptScript:
    kept = content if len(content) <= MOST_SCRIPT else None
    return _KeptScript(kept, hashlib.sha256(content).hexdigest(), len(content))


def _uploads_of(directory: str) -> str | None:
    """Name, size and sha256 of each file below a local directory, and one digest of them all.

    Of a link it is the digest of what it points to, as a text.
    """
    top, found = os.fsencode(directory), []
    try:
        for member in sorted(listing.walk(top)):
            path = os.path.join(top, member.name)
            if member.kind == "f":
                digest = checksums.local(path)
            elif member.kind == "l":
                digest = hashlib.sha256(os.readlink(path)).hexdigest()
            else:
                continue
            found.append((os.fsdecode(member.name), member.size, digest))
    except OSError as error:
        log.info("the names of what was uploaded are not kept: %s", error)
        return None
    facts: dict[str, object] = {
        "count": len(found),
        "bytes": sum(size for _, size, _ in found),
        "digest": hashlib.sha256(json.dumps(found).encode("ascii")).hexdigest(),
    }
    if len(found) <= MOST_UPLOADS:
        facts["files"] = found
    return json.dumps(facts)


def _local_directory(wanted: Specification) -> str | None:
    """Where the upload or the script of this machine lies."""
    if wanted.upload is not None:
        return os.path.abspath(wanted.upload)
    if wanted.script_file is not None:
        return os.path.dirname(os.path.abspath(wanted.script_file))
    return None


def _commit_of(directory: str) -> str | None:
    """The commit of the git repository that a directory lies in, if git says it."""
    if not _in_repository(directory):
        return None
    # In a hook of git these variables name another repository.
    command = ["env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "git", "-C", directory]
    try:
        done = process.run([*command, "rev-parse", "--verify", "HEAD"], timeout=_GIT_TIMEOUT)
    except OSError as error:
        log.info("the commit of %s is not kept: %s", directory, error)
        return None
    return done.stdout.decode().strip() if _COMMIT.match(done.stdout) else None


def _in_repository(directory: str) -> bool:
    while not os.path.lexists(os.path.join(directory, ".git")):
        above = os.path.dirname(directory)
        if above == directory:
            return False
        directory = above
    return True


# --------------------------------------------------------------------------- once more


def specification_again(
    journal: Journal, host: str, job: AnyJob, given: Mapping[str, Any], max_array: int | None
) -> Specification:
    """What a job was submitted with, to be submitted again.

    ``given``: the parameters of ``submit``, of which those that are given win.  Raises
    ``InputError`` for what was not kept and is not given: the submission, a long script, values of
    ``env``, and an uploaded directory that is gone or has changed.
    """
    kept, name = _kept(journal, host, job)
    before = json.loads(kept.specification)
    env_names, script_name = before.pop("env"), before.pop("script_name")
    unknown = [key for key in before if key not in given and before[key]]
    if unknown:
        raise InputError(
            f"{name} was submitted by a later version of this package with "
            f"{', '.join(unknown)}, which this version does not have",
            host=host,
        )
    for key in ("script", "script_file", "script_text"):
        if given[key] is not None:
            raise InputError(f"again= submits the script of {name}; {key}= must be left out")
    asked = {key: given[key] or before.get(key, given[key]) for key in given}
    if isinstance(asked["time_limit"], dict):
        asked["time_limit"] = timedelta(seconds=asked["time_limit"]["seconds"])
    missing = [variable for variable in env_names if variable not in (given["env"] or {})]
    if missing:
        raise InputError(
            f"{name} had {', '.join(missing)} in env, whose values are not kept",
            host=host,
            advice="Give them again with env= (--env NAME=VALUE).",
        )
    asked["env"] = given["env"]
    content = None
    if before["upload"] is not None:
        if given["upload"] is None:
            _check_uploads(name, before["upload"], kept)
        if given["directory"] is None:
            asked["directory"] = f"{before['directory'].rstrip('/')}-again-{secrets.token_hex(4)}"
    if before["upload"] is None or not _is_below(before["script"]):
        content = _kept_script(name, kept)
        asked |= {"script": None, "script_file": script_name}
    return Specification.of(max_array=max_array, content=content, **asked)


def _is_below(script: str | None) -> bool:
    """Whether a script comes with the upload."""
    return script is not None and not script.startswith(("/", "~/"))


def _kept(journal: Journal, host: str, job: AnyJob) -> tuple[Kept, str]:
    found = job_ids(job, host)
    if len(found) != 1:
        raise InputError(f"again= takes one job, not {len(found)}: {job!r}", host=host)
    name = f"job {found[0]}"
    row = journal.by_member(host, found[0])
    if row is None:
        raise InputError(f"{name} was not submitted from this machine", host=host)
    kept = journal.kept(row)
    if kept is None:
        raise InputError(
            f"the journal does not have what {name} was submitted with: an older version of this "
            "package submitted it",
            host=host,
            advice="Submit it with its script.",
        )
    return kept, name


def _kept_script(name: str, kept: Kept) -> bytes:
    if kept.script is not None:
        return kept.script
    if kept.script_size is None:
        raise InputError(f"the script of {name} could not be read, and is not kept")
    raise InputError(
        f"the script of {name} has {kept.script_size} bytes, and is not kept: at most "
        f"{MOST_SCRIPT} bytes are"
    )


def _check_uploads(name: str, directory: str, kept: Kept) -> None:
    """Raise ``InputError`` unless a local directory is still what was uploaded."""
    advice = "Name the directory to upload with upload= (--upload LOCAL)."
    if not os.path.isdir(directory):
        raise InputError(
            f"{name} was submitted with the directory {directory}, which is gone; what was in it "
            "is not kept",
            advice=advice,
        )
    now = json.loads(_uploads_of(directory) or "{}")
    before = json.loads(kept.uploads or "{}")
    if now and now.get("digest") == before.get("digest"):
        return
    old, new = ({tuple(file) for file in facts.get("files", ())} for facts in (before, now))
    names = sorted({str(file[0]) for file in old ^ new})
    which = f": {', '.join(names[:5])}{', ...' if names[5:] else ''}" if names else ""
    raise InputError(
        f"the directory {directory}, with which {name} was submitted, has changed{which}",
        advice=advice,
    )

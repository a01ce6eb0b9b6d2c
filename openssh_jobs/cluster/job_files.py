"""``JobFiles``: what a job of this package has on the host, by one shell function per method.

A submission has a private directory of its own, ``DIRECTORY/.openssh_jobs/TOKEN/``, or
``~/.openssh_jobs/TOKEN/`` where others could replace that (``files/private_directory.py``).
Directories are absolute paths.  A method is one round trip.
"""

from __future__ import annotations

import errno
import posixpath
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .. import logs
from ..commands.os_errors import error_of, refused
from ..commands.quoting import quote, to_text
from ..commands.scripts import Shell, Value, call, functions, path, words
from ..errors import InputError, InvalidAnswer, OpenSSHJobsError, SchedulerError, SubmitUnknown
from ..files import private_directory
from ..files.private_directory import MADE
from ..schedulers.fields import is_number
from ..schedulers.launcher.exit_record import records_script

if TYPE_CHECKING:
    from ..commands.control_shell import ShellAnswer
    from ..host import Host

log = logs.logger("openssh_jobs.cluster.job_files")

MOST_JOBS = 500
"""Submissions that one round trip carries."""
MOST_AT_ONCE = 1 << 20
"""Bytes of files that one round trip puts into private directories, but for a longer file."""
_SCRIPTS = "cluster/job_files"
_NO_FILE = 21  # the status of oj_print_from for a device, a pipe or a directory


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFiles:
    """What is put on the host for a submission: its private directory, and files in that.

    ``files``: their bytes by name, made for ``DIRECTORY/.openssh_jobs/TOKEN``.  ``copied``: a
    script of the host that is copied there, and its name.  ``chosen``: the caller chose the token,
    so that it may have been used before.
    """

    directory: str
    token: str
    call_id: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    copied: tuple[str, str] | None = None
    chosen: bool = True


class PrivateDirectory(NamedTuple):
    """A new private directory; ``made``: the job's directory was made for it, too.

    ``is_complete``: it has its files; not if it is elsewhere than was expected.
    """

    path: str
    made: bool
    is_complete: bool = True


class HostScript(NamedTuple):
    """A script on the host: its size, ``None`` if it cannot be read; its bytes unless too long."""

    size: int | None
    content: bytes | None


class UsedToken(NamedTuple):
    """A token in the host's record: its job, which is over, and the digest of its submission."""

    job_id: str
    digest: str
    state: str
    exit_code: int | None

    @classmethod
    def of(cls, line: str) -> UsedToken | None:
        """What a line of the record says; ``None`` for one that is not whole."""
        words = line.split()
        if len(words) != 7:
            return None
        _, job_id, digest, _, state, code, _ = words
        return cls(job_id, digest, state, int(code) if re.fullmatch("[0-9]{1,9}", code) else None)


class NotRegular(Exception):
    """The output goes to what is no regular file; ``path`` is its name."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def made_mark(call_id: str) -> str:
    """The name of the file that says which call of ``submit`` has made a job's directory."""
    return f"./{MADE}{call_id}"


def private_script(function: str, *arguments: Value) -> bytes:
    """A call of a function of ``job_files.sh`` that goes into private directories."""
    return private_directory.functions().encode() + call(_SCRIPTS, function, *arguments) + b"\n"


def remove_private_script(directory: str, token: str, call_id: str = "") -> bytes:
    """Shell text that removes a private directory; ``call_id``: only if this call has made it."""
    return private_script("oj_remove_private", directory, token, call_id)


def remove_made_script(directory: str, call_id: str) -> bytes:
    """Shell text that removes a job's directory that this call has made."""
    return private_script("oj_remove_made", directory, made_mark(call_id))


class JobFiles:
    """The files of jobs on one host.  ``host``: its name in errors and in the journal."""

    def __init__(self, connection: Host, host: str) -> None:
        self._connection = connection
        self._host = host

    def create(self, new: Sequence[NewFiles]) -> list[PrivateDirectory | UsedToken]:
        """Make private directories with their files, and the jobs' directories that are missing.

        One round trip for each ``MOST_AT_ONCE`` bytes.  Ends at the first that fails.  Raises
        ``OSError``, ``PermissionError`` where no place is private, ``InputError`` for an empty
        script, ``SubmitUnknown`` where a token has a private directory already.
        """
        found: list[PrivateDirectory | UsedToken] = []
        for some in _portions(new):
            lines = functions("cluster/tokens", "oj_token_line")
            lines += private_directory.functions().encode() + _functions(
                "oj_in", "oj_begin", "oj_create", "oj_return", "oj_finish"
            )
            answer = self._connection.internal.call(lines + b"".join(_creations(some)))
            done: list[PrivateDirectory | UsedToken] = []
            *said, _ = _records(answer.stdout)
            if len(said) > len(some):
                raise InvalidAnswer(
                    f"the host answered for {len(said)} directories of {len(some)}",
                    host=self._host,
                    command="submit",
                )
            for facts in said:
                used = UsedToken.of(facts[1]) if facts[0] == "used" else None
                if used is None and facts[0] not in ("made", "moved"):
                    break
                done.append(used or self._created(facts))
            if len(done) < len(some):
                failed = said[len(done)] if len(said) > len(done) else []
                raise self._not_created(some[len(done)], answer, failed)
            found += done
        return found

    def _created(self, facts: Sequence[str]) -> PrivateDirectory:
        kind, place, reason, made = facts
        if reason:
            log.warning(
                "%s: the job's private files lie in %s, because %s", self._host, place, reason
            )
        return PrivateDirectory(place, made == "made", kind == "made")

    def put_files(self, new: Sequence[NewFiles]) -> None:
        """Put the files into private directories that are there.  Raises ``OSError``."""
        for some in _portions(new):
            lines = private_directory.functions().encode() + _functions("oj_reenter")
            answer = self._connection.internal.call(lines + b"".join(_additions(some)))
            if answer.status:
                failed = some[min(len(_records(answer.stdout)) - 1, len(some) - 1)]
                raise self._not_created(failed, answer, [])

    def _not_created(
        self, new: NewFiles, answer: ShellAnswer, said: Sequence[str]
    ) -> OpenSSHJobsError:
        place, why = (*said[1:], "", "")[:2]
        if answer.status == 4 and new.copied is not None:
            return InputError(f"the script {new.copied[0]} is empty", host=self._host)
        if answer.status == 5:
            detail = f"{place}; {why}"
            error = refused(errno.EPERM, new.directory, host=self._host, detail=detail)
            error.advice = (
                "Remove ~/.openssh_jobs if it is no directory of yours; take its permissions, and "
                "those of your home directory, from others (chmod go-w ~ ~/.openssh_jobs)."
            )
            return error
        if answer.status == 6:
            return SubmitUnknown(
                f"the host has the files of an earlier submission with this token ({place})",
                token=new.token,
                kind="no_job_id",
                host=self._host,
                advice=f"Look for a job whose script lies there, and remove {place} or take "
                "another token.",
            )
        if answer.status == 0:
            message = "what was prepared on the host is not known: the answer is cut off"
            return SchedulerError(message, kind="transport", host=self._host)
        failed = new.directory
        if answer.status == 3 and new.copied is not None:
            failed = new.copied[0]
        return error_of(to_text(answer.stderr), failed, host=self._host)

    def scripts(self, names: Sequence[str], most: int) -> tuple[bool, dict[str, HostScript]]:
        """Whether there is a /bin/bash, and scripts of the host, those of up to ``most`` bytes."""
        script = call(_SCRIPTS, "oj_scripts", most + 1, [path(name) for name in names])
        answer = self._connection.internal.call(script, again=True).stdout
        bash, _, rest = answer.partition(b"\n")
        found: dict[str, HostScript] = {}
        for name in names:
            line, _, rest = rest.partition(b"\n")
            size = int(line) if is_number(to_text(line).strip()) else None
            length = min(size or 0, most + 1)
            content = rest[:length] if size is not None and size <= most else None
            if rest[length : length + 2] != b"\0\n":
                size = content = None  # cut off, or it has changed meanwhile
                rest = b""
            found[name] = HostScript(size, content)
            rest = rest[length + 2 :]
        return bash == b"yes", found

    def used_tokens(self, tokens: Sequence[str]) -> dict[str, UsedToken]:
        """What the host's record of tokens says about those whose jobs are over and files gone."""
        script = private_directory.functions().encode()
        script += functions("cluster/tokens", "oj_token_line")
        for token in tokens:
            script += b"oj_token_line " + quote(token) + b"\n"
        answer = self._connection.internal.call(script + b":", again=True)
        lines = to_text(answer.stdout).splitlines()
        used = ((line.partition(" ")[0], UsedToken.of(line)) for line in lines)
        return {token: found for token, found in used if found is not None}

    def forget_environment(self, file: str) -> None:
        """Remove a file with the variables of ``env=``."""
        script = call(_SCRIPTS, "oj_forget_environment", path(file))
        self._connection.internal.call(script, again=True)

    def read_exit_records(self, places: Mapping[str, tuple[str, str]]) -> str:
        """What launchers wrote, by a mark of letters and digits; a place is (directory, token)."""
        script = records_script(places).encode("utf-8", "surrogateescape")
        return to_text(self._connection.internal.call(script, again=True).stdout)

    def read_from(
        self, file: str, offset: int, most: int, names: Sequence[str] = ()
    ) -> tuple[int, bytes]:
        """The size of a file, and its bytes from an offset on, ``most`` at most.

        ``names``: where ``file`` is a directory, the first of these in it that is a file.
        Raises ``OSError``, ``NotRegular``.
        """
        script = call(_SCRIPTS, "oj_print_from", path(file), offset + 1, most, *names)
        answer = self._connection.internal.call(script, again=True)
        found = file
        if answer.stdout and answer.status:
            found = to_text(answer.stdout).removeprefix("./")  # what path() put there
        if answer.status == _NO_FILE:
            raise NotRegular(found)
        if answer.status != 0:
            raise error_of(to_text(answer.stderr), found, host=self._host)
        size, _, data = answer.stdout.partition(b"\n")
        if not is_number(to_text(size.strip())):
            raise SchedulerError(
                f"no answer on the size of {file}", kind="transport", host=self._host
            )
        return int(size), data[:most]

    def remove(self, directory: str, token: str) -> None:
        """Remove a submission's private directory; what carries no mark of ours stays, logged."""
        script = remove_private_script(directory, token)
        answer = self._connection.internal.call(script, again=True)
        if answer.status != 0:
            why = " ".join(to_text(answer.stderr).split())
            log.warning("%s: the files of %s were not removed: %s", self._host, token, why)

    def undo(self, *submissions: tuple[str, str, str]) -> list[bool]:
        """Remove what calls of ``submit`` have made; false where some of it stays, logged.

        A submission is (directory, token, call).  Another run's directory of the same name carries
        no mark of this call.
        """
        end = f"OJU+{secrets.token_hex(8)}"
        script = private_directory.functions().encode() + _functions("oj_undo")
        for directory, token, call_id in submissions:
            wanted = words(directory, token, call_id, made_mark(call_id))
            script += b"(oj_undo %b) >/dev/null; printf '%%s %%d\n' %b $?\n" % (
                wanted,
                end.encode(),
            )
        answer = self._connection.internal.call(script, again=True)
        said = re.findall(rf"^{re.escape(end)} ([0-9]+)$", to_text(answer.stdout), re.MULTILINE)
        # More answers than questions are the answers to none.
        done = [status == "0" for status in said if len(said) <= len(submissions)]
        done += [False] * (len(submissions) - len(done))
        for (directory, _, _), is_gone in zip(submissions, done, strict=True):
            if not is_gone:
                why = " ".join(to_text(answer.stderr).split())
                log.warning("%s: %s is left as it is: %s", self._host, directory, why)
        return done

    def remove_made(self, directory: str, call_id: str) -> None:
        """Remove a job's directory that this call has made, if no other user could change it."""
        self._connection.internal.call(remove_made_script(directory, call_id), again=True)


# --------------------------------------------------------------------------- shell text


def _functions(*wanted: str) -> bytes:
    return b"".join(
        functions(_SCRIPTS, name)
        for name in (*wanted, "oj_put", "oj_make_below", "oj_copy_script", "oj_created")
    )


def _portions(new: Sequence[NewFiles]) -> Iterator[list[NewFiles]]:
    """As many of them as one round trip takes."""
    some: list[NewFiles] = []
    size = 0
    for one in new:
        length = sum(map(len, one.files.values()))
        if some and (size + length > MOST_AT_ONCE or len(some) == MOST_JOBS):
            yield some
            some, size = [], 0
        some.append(one)
        size += length
    if some:
        yield some


def _creations(new: Sequence[NewFiles]) -> Iterator[bytes]:
    texts = _Texts(new)
    yield texts.definitions
    for (directory, call_id), group in groupby(new, lambda one: (one.directory, one.call_id)):
        some = list(group)
        names = [name for one in some for name in (one.token, *_below(one))]
        yield b"oj_in %b\n" % words(directory, made_mark(call_id), call_id, names)
        for one in some:
            token = words(one.token)
            yield (
                b"if oj_begin %b %b; then if oj_create %b; then\n%boj_created made\nelse "
                b"oj_created moved\nfi\noj_return\nfi\n"
                % (token, words("yes" if one.chosen else ""), token, texts.writing(one))
            )
    yield b"oj_finish\n"


def _below(new: NewFiles) -> list[str]:
    """The directories in its private directory, as far as their names are shell words."""
    above = dict.fromkeys(posixpath.dirname(name) for name in new.files)
    return [f"{new.token}/{name}" for name in above if re.fullmatch(r"[A-Za-z0-9._-]+", name)]


def _additions(new: Sequence[NewFiles]) -> Iterator[bytes]:
    texts = _Texts(new)
    yield texts.definitions + b"oj_private= oj_reason= oj_made=\n"
    for one in new:
        where = words(one.directory, one.token)
        yield b"(oj_reenter %b\n%boj_created made) || exit\n" % (where, texts.writing(one))


class _Texts:
    """The bytes of files as shell words; what several files have in common is sent once.

    That is what is left of them where their token is taken out.
    """

    def __init__(self, new: Sequence[NewFiles]) -> None:
        pieces = Counter(
            piece
            for one in new
            for data in one.files.values()
            for piece in data.replace(b"\0", b"").split(one.token.encode())
        )
        shared = [piece for piece, times in pieces.items() if times > 1 and len(piece) > 16]
        self._names = {piece: b"oj_text%d" % at for at, piece in enumerate(shared)}
        self.definitions = b"".join(
            name + b"=" + quote(piece) + b"\n" for piece, name in self._names.items()
        )

    def writing(self, new: NewFiles) -> bytes:
        """Shell text that puts the files of a submission into the current directory."""
        lines: list[bytes] = []
        if new.copied is not None:
            script, name = new.copied
            lines.append(b"oj_copy_script " + words(path(script), path(name)))
        made: set[str] = set()
        for name, data in new.files.items():
            above = posixpath.dirname(name)
            if above and above not in made:
                made.add(above)
                lines.append(b"oj_make_below " + words(above))
            lines.append(b"oj_put " + words(path(name), *self._words(data, new.token.encode())))
        return b"".join(line + b"\n" for line in lines)

    def _words(self, data: bytes, token: bytes) -> list[Value]:
        if b"\0" not in data:
            return [self._word(data, token)]
        *parts, rest = data.split(b"\0")
        if rest:
            raise ValueError("the data must end with its last zero byte")
        return ["", *(self._word(part, token) for part in parts)]

    def _word(self, data: bytes, token: bytes) -> Shell:
        pieces = data.split(token)
        if not any(piece in self._names for piece in pieces):
            return Shell(quote(data))
        found = []
        for piece in pieces:
            name = self._names.get(piece)
            found.append(quote(piece) if name is None else b'"$' + name + b'"')
        return Shell(token.join(found))


def _records(stdout: bytes) -> list[list[str]]:
    """The records of four fields in an answer, and last what is there of one more."""
    fields = to_text(stdout).split("\0")[:-1]
    return [fields[at : at + 4] for at in range(0, len(fields) - len(fields) % 4, 4)] + [
        fields[len(fields) - len(fields) % 4 :]
    ]

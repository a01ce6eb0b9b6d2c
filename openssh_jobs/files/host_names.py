"""Checks of names that a host gives: only checked names are joined to a local path.

A host controls its answers completely: listings, archives, globs, home directories, links.  A name
is refused, before anything is created or read here, if it

* is empty, absolute or longer than any path, holds a NUL, or has a part that is empty, ``.`` or
  ``..``,
* occurred before in the same answer,
* is below something that is not a directory according to the same answer,
* is the same as another name to the local file system (case, Unicode).
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ..commands import limits
from ..commands.quoting import to_bytes, to_text
from ..errors import UnsafeName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Named(Protocol):
    """A member of a tree, as far as checks of names go (``transfer.listing.Member``)."""

    @property
    def name(self) -> bytes:
        """Its path below the top."""

    @property
    def kind(self) -> str:
        """One of ``f d l o``."""


_LONGEST = 4096
"""Bytes of a path in a call of any system (PATH_MAX; 1024 with some)."""
_KINDS = {"f": "a file", "d": "a directory", "l": "a link", "o": "a fifo or a device"}


def refused(name: bytes | str, why: str, *, host: str, call: str) -> UnsafeName:
    """The error for a name, with its control characters escaped; a long one is shortened."""
    data = to_bytes(name)
    shown = repr(to_text(data[: limits.SAID]))
    if len(data) > limits.SAID:
        shown = f"{shown}… ({len(data)} bytes)"
    return UnsafeName(
        f"{call} gave the name {shown}, which {why}: nothing was changed",
        host=host,
        sent="yes",
    )


def fault(name: bytes) -> str | None:
    """Why a single name below a directory is invalid; ``None`` if it is valid."""
    if not name:
        return "is empty"
    if len(name) > _LONGEST:
        return "is longer than any path"
    if b"\0" in name:
        return "holds a NUL"
    if name.startswith(b"/"):
        return "is absolute"
    for part in name.split(b"/"):
        if part in (b"", b".", b".."):
            return f"has the part {to_text(part)!r}"
    return None


def last_part(path: bytes, *, host: str) -> bytes:
    """The last part of a path on the host, as a name below a local directory.

    The host chooses what ``~`` stands for.  Raises ``UnsafeName`` where the path ends in ``/``,
    ``.`` or ``..``.
    """
    name = posixpath.basename(path.rstrip(b"/"))
    if fault(name) is not None:
        error = refused(path, "does not end in a name", host=host, call="the source")
        error.advice = "Give the local target a name."
        raise error
    return name


def absolute(path: bytes, *, host: str, call: str) -> bytes:
    """Check that a path on the host is absolute and has no ``..``.  Raises ``UnsafeName``."""
    why = None
    if b"\0" in path or not path.startswith(b"/"):
        why = "is not absolute"
    elif b".." in path.split(b"/"):
        why = "has the part '..'"
    if why is not None:
        raise refused(path, why, host=host, call=call)
    return path


def matching(paths: Iterable[bytes], pattern: bytes, *, host: str) -> list[bytes]:
    """Check the paths that the host gave for a shell pattern: they match, as far as is known here.

    ``*`` and ``?`` match no leading dot: else a host could give ``.bashrc`` for them.  Which signs
    ``[...]`` and ``?`` match depends on the locale there: any are taken.  ``.`` and ``..``, which
    some shells find for ``.*``, are left out.  Raises ``UnsafeName``.
    """
    wanted = pattern.split(b"/")
    call = f"the pattern {to_text(pattern)!r}"
    found: dict[bytes, None] = {}
    for path in paths:
        got = path.split(b"/")
        changed = [pair for pair in zip(got, wanted, strict=False) if pair[0] != pair[1]]
        if len(got) != len(wanted) or any(_SIGN.search(form) is None for _, form in changed):
            raise refused(path, "does not match", host=host, call=call)
        if any(part in (b".", b"..") and form.startswith(b".") for part, form in changed):
            continue
        if any(fault(part) is not None for part, _ in changed):
            raise refused(path, "goes elsewhere", host=host, call=call)
        if not all(_could_match(part, form) for part, form in changed):
            raise refused(path, "does not match", host=host, call=call)
        if path in found:
            raise refused(path, "came twice", host=host, call=call)
        found[path] = None
    return list(found)


_SIGN = re.compile(rb"(\*|\?|\[[!^]?\]?(?:\[[:.=][^\]]*[:.=]\]|[^\]])*\])")


def _could_match(name: bytes, form: bytes) -> bool:
    """Whether one part of a pattern could match a name: its plain text is there, in its order."""
    if name.startswith(b".") and not form.startswith(b"."):
        return False
    start, *pieces = _SIGN.split(form)
    at = len(start) if name.startswith(start) else len(name) + 1
    for number, (sign, text) in enumerate(zip(pieces[::2], pieces[1::2], strict=True), 1):
        # ? and [...] stand for a sign, which may be several bytes.
        at += sign != b"*"
        if number * 2 == len(pieces):
            return name.endswith(text) and at <= len(name) - len(text)
        at = name.find(text, at) + len(text) if name.find(text, at) >= 0 else len(name) + 1
    return at == len(name)


class HostNames:
    """The names of one answer (``call`` names it), with the kinds that the answer gave them."""

    def __init__(self, host: str, call: str) -> None:
        self.host = host
        self.call = call
        self.kinds: dict[bytes, str] = {}
        self._has_top = False

    def refuse(self, name: bytes, why: str) -> UnsafeName:
        """The error for a name of this answer; ``why`` completes "which …"."""
        return refused(name, why, host=self.host, call=self.call)

    def add(self, name: bytes, kind: str) -> bytes | None:
        """Add a name as ``find .`` prints it; returns it without ``./``, ``None`` for the top."""
        if name in (b".", b"./", b"./."):
            if self._has_top:
                raise self.refuse(name, "came twice")
            if kind != "d":
                raise self.refuse(name, "is not a directory")
            self._has_top = True
            return None
        plain = self.check(name.removeprefix(b"./"))
        if plain in self.kinds:
            raise self.refuse(plain, "came twice")
        self.kinds[plain] = kind
        return plain

    def check(self, name: bytes) -> bytes:
        """Return a name that leads below the top; raises ``UnsafeName`` for any other."""
        why = fault(name)
        if why is not None:
            raise self.refuse(name, why)
        return name

    def entry(self, name: bytes) -> bytes:
        """Add the name of an entry of a directory; raises ``UnsafeName``."""
        if b"/" in self.check(name):
            raise self.refuse(name, "holds a slash")
        self.add(name, "")
        return name

    def close(self) -> None:
        """Check the whole answer: it holds the top, and all parents are directories."""
        if not self._has_top:
            raise self.refuse(b".", "is missing")
        good = {b""}
        for name in self.kinds:
            parent = name.rpartition(b"/")[0]
            if parent not in good:
                self.check_parent(name)
                good.add(parent)

    def check_parent(self, name: bytes) -> None:
        """Raise ``UnsafeName`` unless the parent of a name is a directory by this answer."""
        parent = name.rpartition(b"/")[0]
        if parent and self.kinds.get(parent) != "d":
            what = _KINDS.get(self.kinds.get(parent, ""), "not there")
            raise self.refuse(name, f"lies below {to_text(parent)!r}, which is {what}")


# --------------------------------------------------------------------------- local file systems


_NOTHING = ("Cf", "Cn", "Me", "Mn")
"""Categories of signs that some file system ignores; those not assigned yet among them."""
_FILLERS = "\u115f\u1160"
"""Letters that count for nothing (Default_Ignorable_Code_Point; ext4 with casefold)."""


def alike(name: bytes) -> str:
    """A text that is equal for all names that some file system could treat as the same.

    Coarser than any file system (case, composed and decomposed letters, signs without a width or a
    meaning so far, dots and blanks at the end): names that share it are tried on the real one.
    """
    if name.isascii():
        # The steps below would not change it.
        return name.decode().lower().rstrip(" .")
    from unicodedata import category, normalize

    text = normalize("NFKD", normalize("NFKD", to_text(name)).upper().casefold())
    kept = (sign for sign in text if category(sign) not in _NOTHING and sign not in _FILLERS)
    return "".join(kept).rstrip(" .")


def groups(names: Iterable[bytes]) -> list[list[bytes]]:
    """Names of one directory that could be the same file, in groups of two or more."""
    everything = list(names)
    if any(b"~" in name for name in everything):
        # A short name of FAT (NAME~1) is like none of the long ones.
        return [everything] if len(everything) > 1 else []
    found: dict[str, list[bytes]] = {}
    for name in everything:
        found.setdefault(alike(name), []).append(name)
    return [group for group in found.values() if len(group) > 1]


@contextmanager
def _probe(directory: bytes) -> Iterator[Callable[[bytes], bytes]]:
    """A function that creates a file of a name in a new directory, all removed at the end."""
    import tempfile

    top = tempfile.mkdtemp(dir=directory, prefix=b".oj-", suffix=b".part")
    made: list[bytes] = []

    def create(name: bytes) -> bytes:
        path = os.path.join(top, name)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        made.append(path)
        return path

    try:
        yield create
    finally:
        for path in made:
            os.unlink(path)
        os.rmdir(top)


def fall_together(directory: bytes, names: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Two of these names that are the same file on the file system of a directory, or ``None``.

    Creates all of them in a new directory and removes it again.
    """
    made: dict[bytes, bytes] = {}
    with _probe(directory) as create:
        for name in names:
            try:
                made[name] = create(name)
            except FileExistsError as error:
                return name, _same_file(os.fsencode(error.filename), made)
    return None


def _same_file(path: bytes, made: dict[bytes, bytes]) -> bytes:
    facts = os.lstat(path)
    same = (name for name, other in made.items() if os.path.samestat(facts, os.lstat(other)))
    return next(same, next(reversed(made)))


_NOT_EVERYWHERE = re.compile(rb'[\x01-\x1f"*:<>?\\|\x7f]')
_FAULT_OF_THE_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENOENT)


def refuse_not_taken(directory: bytes, members: Iterable[Named], *, host: str) -> None:
    """Raise ``UnsafeName`` for a name that the file system of a local directory does not take.

    One name is tried for each sign that some file systems do not take (exFAT: ``a:b``), and one
    that is not UTF-8: the programs that transfer the files would name neither.
    """
    tried: dict[bytes, bytes] = {}
    for member in members:
        last = member.name.rpartition(b"/")[2]
        if not last.isascii() and to_text(last).encode("utf-8", "replace") != last:
            tried.setdefault(b"\xff", member.name)
        for sign in _NOT_EVERYWHERE.findall(last):
            tried.setdefault(sign, member.name)
    if not tried:
        return
    with _probe(directory) as create:
        for name in dict.fromkeys(tried.values()):
            last = name.rpartition(b"/")[2]
            try:
                create(last)
            except FileExistsError:
                pass  # the same name in another directory
            except OSError as error:
                if error.errno not in _FAULT_OF_THE_NAME:
                    raise
                why = f"the file system here does not take ({error.strerror})"
                raise refused(name, why, host=host, call="the listing") from error


def _by_directory(members: Iterable[Named]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for member in members:
        parent, _, name = member.name.rpartition(b"/")
        found.setdefault(parent, []).append(name)
    return found


def check_apart(directory: bytes, members: Iterable[Named], *, host: str) -> None:
    """Raise ``UnsafeName`` if two members are the same file in an empty local directory."""
    for parent, names in _by_directory(members).items():
        for group in groups(names):
            _try(directory, parent, group, host)


def check_target(target: bytes, members: Sequence[Named], *, host: str) -> None:
    """Check that members can be moved into a local directory without passing through a link.

    Raises ``UnsafeName`` if the file system treats a name as that of another member or of an
    existing file, ``NotADirectoryError`` for a link or a file in the place of a directory,
    ``IsADirectoryError`` for a directory in the place of a file.
    """
    refuse_in_the_way(target, members)
    for parent, names in _by_directory(members).items():
        place = os.path.join(target, parent) if parent else target
        if not os.path.isdir(place):
            for group in groups(names):
                _try(target, parent, group, host)
            continue
        wanted = set(names)
        for group in groups({*names, *os.listdir(place)}):
            if wanted.intersection(group):
                _try(place, parent, sorted(group), host)


def _try(directory: bytes, parent: bytes, group: list[bytes], host: str) -> None:
    pair = fall_together(directory, group)
    if pair is not None:
        name, other = (to_text(posixpath.join(parent, last)) for last in pair)
        why = f"is the same as {other!r} to the file system here"
        raise refused(name, why, host=host, call="the listing")


def refuse_in_the_way(target: bytes, members: Iterable[Named]) -> None:
    """Raise if a local file is of another kind, which a merge neither follows nor replaces."""
    for member in members:
        place = os.path.join(target, member.name)
        try:
            mode = os.lstat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if member.kind == "d" and not stat.S_ISDIR(mode):
            detail = "Not a directory (a link is not followed)"
            raise NotADirectoryError(errno.ENOTDIR, detail, os.fsdecode(place))
        if member.kind != "d" and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", os.fsdecode(place))

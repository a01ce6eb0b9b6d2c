"""Checks an archive from a host before the local tar reads it: every header, every name.

Accepted are archives in the formats that tar(5) of libarchive calls ustar, pax and GNU, with
members that were listed, of the kind that was listed.  Anything else ends the stream before the
local tar receives the header: names that lead outside, duplicate names, members below something
that is not a directory in the archive, hard links to something that is not a file in it, devices,
and any header that two tars could interpret differently.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import adler32

from ..commands import limits
from ..commands.quoting import to_text
from ..errors import TransferError
from ..files import host_names
from . import tar_holes

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 512
_CHUNK = 1 << 18
_LONGEST_NAME = 1 << 16
_LONGEST_RECORDS = 1 << 20
_MOST_PADDING = 1 << 20
"""Maximum bytes of zeros after the end; the longest record of any tar is half of that."""
_KINDS = {b"0": "f", b"\0": "f", b"7": "f", b"S": "f", b"1": "h", b"2": "l", b"5": "d"}
_TYPES = {"f": "a file", "h": "a hard link", "l": "a link", "d": "a directory"}
_USTAR, _GNU, _OLD = b"ustar\x0000", b"ustar  \0", bytes(8)
_MAGIC, _PREFIX = slice(257, 265), slice(345, 500)
_FIELDS = struct.Struct("100s 24x 11s 1s 12x 8s 1s 100x 8s 80x 1s 166x").unpack_from
"""The header's name, size, end of size, checksum, kind, magic and first byte of the prefix."""


class _Pending(NamedTuple):
    """The data of earlier headers for the next member: GNU's long names, and pax records."""

    name: bytes | None = None
    link: bytes | None = None
    records: dict[bytes, bytes] | None = None


_NOTHING = _Pending()


def header_sum(block: bytes) -> int:
    """The sum of the bytes of a header, those of its checksum counted as blanks."""
    # The lower half of adler32 is one more than the sum, modulo 65521: no piece of at most 256
    # bytes comes to that.
    return (
        (adler32(block[:148]) & 0xFFFF)
        + (adler32(block[156:412]) & 0xFFFF)
        + (adler32(block[412:]) & 0xFFFF)
        - 3
        + 8 * 32
    )


class TarGuard:
    """Reads an archive piece by piece; ``feed`` returns the bytes that may be passed to a tar.

    ``listed``: names and kinds of the allowed members.  ``strangers``: also allow members that
    were created after the listing.  ``plain``: the local tar does not support pax records.
    ``directory``: an empty local directory, in which names that might be the same are created to
    find out.
    """

    def __init__(
        self,
        listed: Iterable[host_names.Named],
        host: str,
        directory: bytes,
        *,
        strangers: bool = False,
        plain: bool = False,
    ) -> None:
        self._host = host
        members = list(listed)
        self._listed = {member.name: member.kind for member in members}
        self._left = limits.grown(sum(getattr(member, "size", 0) for member in members))
        self._strangers = strangers
        self._plain = plain
        self._directory = directory
        self._came = host_names.HostNames(host, "the archive")
        self._alike: dict[tuple[bytes, str], list[bytes]] | None = None
        self._kept = b""
        self._content = 0
        self._map: tar_holes.HoleMap | None = None
        self._held: tuple[bytes, int] | None = None
        self._body = bytearray()
        self._pending = _NOTHING
        self.ended = False
        self._padding = 0

    # ------------------------------------------------------------------ the stream

    def feed(self, data: bytes) -> bytes:
        """Read the next bytes of the archive; returns those that are known to be harmless.

        Raises ``UnsafeName``, and ``TransferError`` for data that is not a valid archive.
        """
        data = self._kept + data if self._kept else data
        at, size = 0, len(data)
        while at < size:
            if self._content:
                step = min(self._content, size - at)
                if self._held is not None:
                    self._body += data[at : at + step]
                self._content -= step
                at += step
                if not self._content and self._held is not None:
                    self._take_body()
                continue
            if self._pending is _NOTHING and self._map is None and not self.ended:
                at = self._plain_files(data, at)
            if self._content:
                continue
            if size - at < BLOCK:
                break
            self._block(data[at : at + BLOCK])
            at += BLOCK
        self._kept = data[at:]
        return data[:at]

    def close(self) -> None:
        """End the stream.  Raises ``TransferError`` if the archive is incomplete."""
        if not self.ended or self._kept:
            raise self._wrong("it ends too early")

    def _wrong(self, why: str) -> TransferError:
        return TransferError(
            f"the host's archive is refused: {why}: nothing was kept", host=self._host, sent="yes"
        )

    def _plain_files(self, data: bytes, at: int) -> int:
        """Skip the plain files that begin at ``at``; returns where they end.

        A fast path for nine headers of ten, with the same result: any other header is left to
        ``_block``.  It handles files that were listed as files and have not occurred yet, below a
        directory that has, with a header in the most common format.
        """
        listed, kinds = self._listed, self._came.kinds
        last = len(data) - BLOCK
        while at <= last:
            name, size, blank, check, kind, magic, prefix = _FIELDS(data, at)
            name = name.partition(b"\0")[0]
            plain = name[2:]
            parent, slash, own = plain.rpartition(b"/")
            if (
                kind != b"0"
                or magic not in (_GNU, _USTAR)
                or prefix != b"\0"
                or not name.startswith(b"./")
                or own in (b"", b".", b"..")
                or (slash and kinds.get(parent) != "d")
                or plain in kinds
                or listed.get(plain) != "f"
                or blank not in (b"\0", b" ")
                or size.strip(b"01234567")
                or check != b"%06o\0 " % header_sum(data[at : at + BLOCK])
                or int(size, 8) > self._left
            ):
                break
            kinds[plain] = "f"
            self._left -= int(size, 8)
            at += BLOCK
            content = -(-int(size, 8) // BLOCK) * BLOCK
            if content > len(data) - at:
                self._content = content
                break
            at += content
        return at

    def _block(self, block: bytes) -> None:
        if self._map is not None:
            if self._taken(self._map, block):
                self._content, self._map = self._map.behind, None
        elif not any(block):
            self._zeros()
        elif self.ended:
            raise self._wrong("data follows its end")
        else:
            self._header(block)

    def _taken(self, holes: tar_holes.HoleMap, block: bytes) -> bool:
        try:
            return holes.take(block)
        except ValueError as error:
            raise self._wrong(str(error)) from None

    def _zeros(self) -> None:
        if self._pending is not _NOTHING:
            raise self._wrong("it ends between the extended header of a member and the member")
        self.ended = True
        self._padding += BLOCK
        if self._padding > _MOST_PADDING:
            raise self._wrong("it does not end")

    def _header(self, block: bytes) -> None:
        self._checksum(block)
        kind, size = block[156:157], self._number(block[124:136])
        magic = block[_MAGIC]
        if magic not in (_USTAR, _GNU, _OLD):
            raise self._wrong(f"the format {magic!r} is unknown")
        if kind in (b"L", b"K", b"x", b"g"):
            self._extension(kind, size)
            return
        self._member(block, kind, size, magic)

    def _checksum(self, block: bytes) -> None:
        if header_sum(block) != self._octal(block[148:156]):
            raise self._wrong("a header is damaged")

    def _octal(self, field: bytes) -> int:
        # Not NULs before the digits: some tars stop there and read 0.
        digits = field.lstrip(b" ").rstrip(b" \0")
        if digits.strip(b"01234567"):
            raise self._wrong(f"a number in a header is {field[:20]!r}")
        return int(digits or b"0", 8)

    def _number(self, field: bytes) -> int:
        if field[0] == 0x80:
            return self._bounded(int.from_bytes(field[1:], "big"))
        return self._octal(field)

    def _bounded(self, number: int) -> int:
        if number >= 1 << 62:
            raise self._wrong("a member is larger than any file can be")
        return number

    # ------------------------------------------------------------------ what goes before a member

    def _extension(self, kind: bytes, size: int) -> None:
        if kind in (b"x", b"g") and self._plain:
            raise self._wrong("it has records that the tar here does not know")
        most = _LONGEST_NAME if kind in (b"L", b"K") else _LONGEST_RECORDS
        if not 0 < size <= most:
            raise self._wrong(f"an extended header has {size} bytes, and must have 1 to {most}")
        self._held, self._body = (kind, size), bytearray()
        self._content = -(-size // BLOCK) * BLOCK

    def _take_body(self) -> None:
        if self._held is None:
            raise AssertionError("no header is held")
        (kind, size), self._held = self._held, None
        body = bytes(self._body[:size])
        if kind in (b"L", b"K"):
            text, _, rest = body.partition(b"\0")
            known = self._pending.name if kind == b"L" else self._pending.link
            if known is not None or rest.strip(b"\0"):
                raise self._wrong("a member has two names")
            if kind == b"L":
                self._pending = self._pending._replace(name=text)
            else:
                self._pending = self._pending._replace(link=text)
            return
        records = self._records(body)
        if kind == b"g":
            if records.keys() & {b"path", b"linkpath", b"size", b"SCHILY.realsize"} or any(
                key.startswith(b"GNU.sparse") for key in records
            ):
                raise self._wrong("a global header sets the name, target or size of all members")
            return
        if self._pending.records is not None:
            raise self._wrong("a member has two names")
        self._pending = self._pending._replace(records=records)

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        """``LENGTH KEY=VALUE`` lines (pax(1))."""
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(body):
            digits, blank, _ = body[at : at + 20].partition(b" ")
            if not blank or not digits.isdigit():
                raise self._wrong("a record does not begin with its length")
            record = body[at : at + int(digits)]
            key, sign, value = record[len(digits) + 1 :].partition(b"=")
            if len(record) != int(digits) or not sign or not value.endswith(b"\n"):
                raise self._wrong("a record is damaged")
            if key in found:
                raise self._wrong(f"the record {to_text(key)!r} is repeated")
            found[key] = value[:-1]
            at += int(digits)
        return found

    # ------------------------------------------------------------------ a member

    def _member(self, block: bytes, kind: bytes, size: int, magic: bytes) -> None:
        pending, self._pending = self._pending, _NOTHING
        records = pending.records or {}
        name, link = self._names(block, magic, pending, records)
        if b"size" in records:
            size = self._bounded(self._octal_ten(records[b"size"]))
        sort = _KINDS.get(kind)
        if sort is None:
            raise self._came.refuse(name, f"has the type {kind!r}: no file, directory or link")
        if sort == "f" and name.endswith(b"/"):
            sort = "d"  # as the tars of 1979 wrote directories
        if size and sort != "f":
            raise self._wrong(f"{to_text(name)!r} is {_TYPES[sort]} and has content")
        self._check(name.rstrip(b"/") if sort == "d" else name, sort, link)
        # A file with holes counts with them: nobody expects an exabyte that takes no space.
        self._left -= max(size, self._real_size(block, kind, size, records))
        if self._left < 0:
            raise self._wrong("it holds far more than was listed")
        self._content = -(-size // BLOCK) * BLOCK
        holes = self._hole_map(block, kind, size, magic, pending)
        if holes is not None:
            # The content begins behind the map.
            self._content, self._map = 0, holes

    def _hole_map(
        self, block: bytes, kind: bytes, size: int, magic: bytes, pending: _Pending
    ) -> tar_holes.HoleMap | None:
        """The map of holes that begins with a member, if it goes on behind the header."""
        records = pending.records or {}
        keys = {key for key in records if key.startswith(b"GNU.sparse")}
        if kind == b"S" and magic == _GNU and not keys:
            try:
                gnu = tar_holes.GnuMap(block, size, self._number)
            except ValueError as error:
                raise self._wrong(str(error)) from None
            return None if gnu.complete else gnu
        if not keys and kind != b"S":
            return None
        if (
            kind != b"0"
            or magic != _USTAR
            or pending.name is not None
            or keys != tar_holes.PAX_RECORDS
            or records[b"GNU.sparse.major"] != b"1"
            or records[b"GNU.sparse.minor"] != b"0"
        ):
            raise self._wrong("a map of holes has a form that is not known")
        real = self._bounded(self._octal_ten(records[b"GNU.sparse.realsize"]))
        return tar_holes.PaxMap(size, real)

    def _real_size(self, block: bytes, kind: bytes, size: int, records: dict[bytes, bytes]) -> int:
        """The size of a file with its holes.

        Checks what only libarchive's tar reads: star's size of a file, holes of Solaris.
        """
        if b"SUN.holesdata" in records:
            raise self._wrong("a map of holes has a form that is not known")
        if b"GNU.sparse.realsize" in records:
            size = self._octal_ten(records[b"GNU.sparse.realsize"])
        elif kind == b"S":
            size = self._number(block[tar_holes.REAL_SIZE])
        said = records.get(b"SCHILY.realsize")
        if said is not None and self._octal_ten(said) != size:
            raise self._wrong("a member has two sizes")
        return size

    def _octal_ten(self, digits: bytes) -> int:
        if not digits.isdigit() or len(digits) > 19:
            raise self._wrong(f"a size in a record is {digits[:20]!r}")
        return int(digits)

    def _names(
        self, block: bytes, magic: bytes, pending: _Pending, records: dict[bytes, bytes]
    ) -> tuple[bytes, bytes]:
        """The name of a member and what it links to, from all places where they may be given."""
        name = block[:100].partition(b"\0")[0]
        prefix = block[_PREFIX].partition(b"\0")[0]
        if magic == _USTAR and prefix:
            name = prefix + b"/" + name
        elif prefix and block[156:157] != b"S":
            raise self._wrong("a member has two names")
        names = [pending.name, records.get(b"path")]
        if all(name is not None for name in names):
            raise self._wrong("a member has two names")
        longer = [*names, records.get(b"GNU.sparse.name")]
        if not any(long is not None and long.startswith(name) for long in longer):
            # Else it is the beginning of the longer name, cut off where the field ends.
            self._harmless(name)
        for long in longer:
            if long is not None:
                name = long
                self._harmless(name)
        link = block[157:257].partition(b"\0")[0]
        links = [link for link in (pending.link, records.get(b"linkpath")) if link is not None]
        if len(links) > 1:
            raise self._wrong("a link has two targets")
        return name, links[0] if links else link

    def _harmless(self, name: bytes) -> None:
        plain = name.removeprefix(b"./").removesuffix(b"/")
        if name not in (b".", b"./"):
            self._came.check(plain)

    def _check(self, name: bytes, sort: str, link: bytes) -> None:
        kind = sort
        if sort == "h":
            # The tar here has the target already, as a file of this archive.
            kind = self._came.kinds.get(link.removeprefix(b"./"), "")
            if kind not in ("f", "l"):
                why = f"is a hard link to {to_text(link)!r}, which is not an earlier member"
                raise self._came.refuse(name, why)
        elif sort == "l" and not link:
            raise self._came.refuse(name, "is a link without a target")
        plain = self._came.add(name, kind)
        if plain is None:
            return
        self._came.check_parent(plain)
        wanted = self._listed.get(plain)
        if wanted is None and not self._strangers:
            raise self._came.refuse(plain, "was not requested")
        if wanted is not None and wanted != kind:
            raise self._came.refuse(plain, f"is {_TYPES[sort]}, and was listed as {_TYPES[wanted]}")
        if wanted is None:
            self._check_apart(plain)

    def _check_apart(self, name: bytes) -> None:
        """Try a name that was not listed together with the others."""
        if self._alike is None:
            self._alike = {}
            for known in (*self._listed, *self._came.kinds):
                self._remember(known)
        group = self._remember(name)
        if len(group) > 1:
            members = [_Name(alike, "f") for alike in dict.fromkeys(group)]
            host_names.check_apart(self._directory, members, host=self._host)

    def _remember(self, name: bytes) -> list[bytes]:
        parent, _, last = name.rpartition(b"/")
        if self._alike is None:
            raise AssertionError("nothing is known yet")
        group = self._alike.setdefault((parent, host_names.alike(last)), [])
        if name not in group:
            group.append(name)
        return group


class _Name(NamedTuple):
    name: bytes
    kind: str


def pass_on(source: int, to: int, guard: TarGuard) -> None:
    """Copy an archive from one descriptor to another through a guard; closes both.

    If the tar ends before its input does nothing is raised: the tar reports the reason itself.
    """
    open_still = True
    try:
        while data := os.read(source, _CHUNK):
            view = memoryview(guard.feed(data))
            while view and open_still:
                try:
                    view = view[os.write(to, view) :]
                except BrokenPipeError:
                    if not guard.ended:
                        return
                    open_still = False  # it does not read the zeros behind the end
    finally:
        os.close(to)
        os.close(source)
    guard.close()

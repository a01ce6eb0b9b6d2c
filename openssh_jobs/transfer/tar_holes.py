"""Maps of holes in an archive, checked so that every tar finds the same next header.  Pure.

A tar reads as many bytes behind a header as the map says, or as the header says, or both in turn:
where the two differ some of them take content for headers.  So the pieces of a file have to fill
what is stored of it exactly, in order, and all but the last in whole blocks.

Two formats are known, those that tar(5) of libarchive calls the old GNU format and GNU pax 1.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 512
_FIELD = 12
_IN_HEADER, _EXTENDED, REAL_SIZE = slice(386, 482), slice(482, 483), slice(483, 495)
_IN_BLOCK, _CONTINUED = slice(0, 504), slice(504, 505)
_LONGEST_NUMBER = 18
PAX_RECORDS = frozenset(
    (b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name", b"GNU.sparse.realsize")
)
"""The records of the format 1.0."""


class HoleMap(Protocol):
    """A map that is read block by block."""

    behind: int
    """Bytes of content behind the map, with padding, once it is complete."""

    def take(self, block: bytes) -> bool:
        """Read the next block; true if the map is complete.  Raises ``ValueError``."""


class _Pieces:
    """The pieces of a file of ``real`` bytes."""

    def __init__(self, real: int) -> None:
        self._real = real
        self._end = 0
        self.stored = 0

    def add(self, offset: int, length: int) -> None:
        if offset < self._end or offset + length > self._real:
            raise ValueError("a map of holes has pieces that overlap or lie outside of the file")
        if length and self.stored % _BLOCK:
            raise ValueError("a map of holes has a piece that ends within a block")
        self._end = offset + length
        self.stored += length

    def close(self, stored: int) -> None:
        if self.stored != stored:
            raise ValueError("a map of holes and the content have different lengths")


class GnuMap:
    """The map of a member of the kind ``S``: in its header, and in blocks behind it.

    ``number`` reads a field of a header.
    """

    def __init__(self, header: bytes, stored: int, number: Callable[[bytes], int]) -> None:
        self.behind = -(-stored // _BLOCK) * _BLOCK
        self._stored = stored
        self._number = number
        self._pieces = _Pieces(number(header[REAL_SIZE]))
        self._over = False
        self.complete = self._take(header[_IN_HEADER], header[_EXTENDED])

    def take(self, block: bytes) -> bool:
        """Read a block that continues the map."""
        return self._take(block[_IN_BLOCK], block[_CONTINUED])

    def _take(self, fields: bytes, goes_on: bytes) -> bool:
        for at in range(0, len(fields), 2 * _FIELD):
            offset, length = fields[at : at + _FIELD], fields[at + _FIELD : at + 2 * _FIELD]
            if not any(offset + length):
                self._over = True
            elif self._over or not (offset[0] and length[0]):
                # Some tars stop at an empty offset, others at an empty length.
                raise ValueError("a map of holes goes on behind its end")
            else:
                self._pieces.add(self._number(offset), self._number(length))
        if goes_on not in (b"\0", b"\1", b"1") or (goes_on != b"\0" and self._over):
            raise ValueError("it is not clear where a map of holes ends")
        if goes_on != b"\0":
            return False
        self._pieces.close(self._stored)
        return True


class PaxMap:
    """The map in format 1.0: lines with numbers at the head of the content of ``size`` bytes."""

    def __init__(self, size: int, real: int) -> None:
        self.behind = -(-size // _BLOCK) * _BLOCK
        self._left = size
        self._pieces = _Pieces(real)
        self._line = b""
        self._numbers: list[int] = []
        self._count: int | None = None

    def take(self, block: bytes) -> bool:
        """Read the next block of the content."""
        self.behind -= _BLOCK
        self._left -= _BLOCK
        if self._left < 0:
            raise ValueError("a map of holes is longer than the content")
        *lines, self._line = (self._line + block).split(b"\n")
        for line in lines:
            self._add(line)
            if self._count == 0:
                self._pieces.close(self._left)
                return True
        if len(self._line) > _LONGEST_NUMBER:
            raise ValueError("a map of holes has a line that is not a number")
        return False

    def _add(self, line: bytes) -> None:
        if not line.isdigit() or len(line) > _LONGEST_NUMBER:
            raise ValueError("a map of holes has a line that is not a number")
        if self._count is None:
            self._count = int(line)
            return
        self._numbers.append(int(line))
        if len(self._numbers) == 2:
            self._pieces.add(*self._numbers)
            self._numbers.clear()
            self._count -= 1

"""The marks in the output streams of a command: lines that begin with its nonce.  Pure.

``command_line.py`` says which marks a command prints, and where.
"""

from __future__ import annotations

import os

from ..errors import InvalidAnswer
from . import limits

SHELL, START, STATUS = b"shell", b"start", b"status"
END = b"end"
"""On stdout, after the command; what it left running may still write there."""
READ = b"read"
"""The head of stdin was ours."""
CWD_FAILED = b"cwd"
CUT_SHORT = b"short"
"""The script, or what precedes its input, did not arrive complete on stdin; nothing was run."""


def new_nonce() -> bytes:
    """A nonce for one command; each half of it is long enough not to be guessed."""
    return b"oj-" + os.urandom(16).hex().encode()


def mark(nonce: bytes, word: bytes = b"", *values: bytes) -> bytes:
    """Shell text that prints a mark; ``values`` are shell words behind it.

    They are quoted: an rc file may have put digits into IFS.
    """
    half = len(nonce) // 2
    values = tuple(b'"%b"' % value for value in values)
    words = [word, *(b"%s" for _ in values)] if word else []
    form = b" ".join([b"%s%s", *words])
    return b" ".join([b"\\printf '" + form + b"\\n'", nonce[:half], nonce[half:], *values])


class Marks:
    """Removes the lines with the nonce from a stream that is read in pieces of any size.

    ``hold=True`` holds back what arrives before the first mark and then drops it: rc files print
    that.  Raises ``InvalidAnswer`` for more than ``limits.NOISE`` of it, and for more or longer
    marks than any command has.
    """

    def __init__(self, nonce: bytes, *, hold: bool, host: str | None = None) -> None:
        self._nonce = nonce
        self.host = host
        self._kept = b""
        self._noise = bytearray()
        self.holds = hold
        self.found: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take the next piece of the stream; returns it without the complete marks in it."""
        data = self._kept + data
        out = []
        while (at := data.find(self._nonce)) >= 0:
            out.append(self._before(data[:at]))
            data = data[at:]
            end = data.find(b"\n")
            if end < 0:
                if len(data) > limits.MARK:
                    raise self._too_much("a mark without an end")
                self._kept = data
                return b"".join(out)
            word = data[len(self._nonce) : end].strip()
            self.holds = self.holds and word == END  # which another stdout may have, too
            self.found.append(word)
            if len(self.found) > limits.MARKS:
                raise self._too_much("more marks than any command makes")
            data = data[end + 1 :]
        keep = self._partial(data)
        self._kept = data[len(data) - keep :]
        out.append(self._before(data[: len(data) - keep]))
        return b"".join(out)

    def _before(self, data: bytes) -> bytes:
        if not self.holds:
            return data
        self._noise += data
        if len(self._noise) > limits.NOISE:
            raise self._too_much(f"more than {limits.NOISE} bytes before the command began")
        return b""

    def _too_much(self, what: str) -> InvalidAnswer:
        return InvalidAnswer(f"the host sent {what}", host=self.host)

    def _partial(self, data: bytes) -> int:
        """The count of bytes at the end that could be the beginning of the nonce."""
        for length in range(min(len(self._nonce) - 1, len(data)), 0, -1):
            if self._nonce.startswith(data[len(data) - length :]):
                return length
        return 0

    def rest(self) -> bytes:
        """The bytes left at the end of the stream, without those that were held back."""
        data, self._kept = self._kept, b""
        return self._before(data)

    @property
    def noise(self) -> bytes:
        """What arrived before the first mark."""
        return bytes(self._noise)

    def value(self, word: bytes) -> list[bytes] | None:
        """The words after the first mark that begins with ``word``."""
        for found in self.found:
            words = found.split()
            if words and words[0] == word:
                return words[1:]
        return None

    def count(self, word: bytes) -> int:
        """The number of marks that begin with ``word``."""
        return sum(found.split()[:1] == [word] for found in self.found)

    def number(self, word: bytes, most: int, at: int = 0) -> int | None:
        """The number in word ``at`` of a mark; ``None`` without one up to ``most``."""
        words = self.value(word)
        if not words or not words[at].isdigit() or len(words[at]) > limits.DIGITS:
            return None
        number = int(words[at])
        return number if number <= most else None


def exit_status(marks: Marks) -> int | None:
    """The exit status that a waiting shell printed; ``None`` where none did."""
    status = marks.number(STATUS, 511)
    if status is None or status <= 255:
        return status
    # After signal N ksh has 256+N and yash 384+N, where all others have 128+N.
    return status - (256 if status >= 384 else 128)

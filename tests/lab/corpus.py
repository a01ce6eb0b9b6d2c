"""Three hundred names and contents that programs trip over."""

from __future__ import annotations

import hashlib
import random
import unicodedata

SIGNS = "!\"#$%&'()*+,-.:;<=>?@[\\]^_`{|}~ "
WORDS = [
    "-", "--", "-rf", "-e", "--help", "--files-from", "-C", "-T", "-oProxyCommand=id", "~", "~root",
    "~/x"[:1] + "x", "...", ".x", "..x", "x..", "$HOME", "${HOME}", "$(touch pwned)",
    "`touch pwned`", "; touch pwned", "& touch pwned", "| touch pwned", "> pwned", "\\", "\\\\",
    "\\n", "\\0", "\\x41", "\\ ", "a\\", "a\\\\b", "%s%n%x", "%%", "!!", "!$", "^a^b", "{a,b}",
    "{1..9}", "[a-z]", "[!a]", "[", "]", "[]", "*", "**", "?", "a*", "*a", "a?", "'", "''", "a'b",
    '"', '""', 'a"b', "'\"'\"'", "\"'", " ", "  ", " a", "a ", "\t", "\ta", "a\tb", "\r", "a\r",
    "a\rb", "\r\n", "\n", "a\n", "\na", "a\nb", "\n\n", "a\n-rf", "pwd", "bye", "put a b",
    "Remote working directory: x", "sftp> ", "#", "#a", "a#", ";", ";a", "none:", "none:x", "a:b",
    ":", "::", "[::1]:x", "ustar", "./x"[2:] + "y", "@a", "@LongLink", "././@LongLink"[4:],
    ".oj-x", ".oj-0123456789ab.part.not", "con", "nul", "aux", "x.", "a.tar.gz", "=a", "+a", "a=b",
    "e\u0301", "\u00e9", "\u1e9b\u0323", "\ufb01", "\u212b", "\u00c5", "A\u030a", "\u200b",
    "\u202e", "\ufeff", "\u0130", "\u0131", "\u00df", "\u1e9e", "\u4e2d\u6587", "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0e01\u0e33", "\u05d0\u05d1", "\u2028",
    "\u00a0",
]  # fmt: skip


def names() -> list[bytes]:
    """All of them, as the bytes that a Unix file system takes; no two alike."""
    found = {bytes([byte]) for byte in range(1, 256) if byte not in b"/."}
    found |= {b"a" + sign.encode() + b"b" for sign in SIGNS}
    found |= {word.encode() for word in WORDS}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        found |= {unicodedata.normalize(form, word).encode() for word in WORDS}
    found |= {b"n" * 255, b" " * 255, b"\xff" * 255, "\u00fc".encode() * 127, b"'" * 255}
    found |= {b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"x\xff", b"\x80x"}
    found |= {bytes(range(1, 47)), bytes(range(48, 160)), bytes(range(160, 256))}
    found |= {b"-" + bytes([byte]) for byte in range(0x41, 0x5B)}
    return sorted(found - {b".", b".."})


def content(name: bytes, number: int) -> bytes:
    """What is in the file: nothing, blocks to the byte, noise, text that looks like a protocol."""
    chance = random.Random(name)  # for each name other bytes, the same in every run
    kinds = (
        b"",
        b"\0",
        name,
        b"\n",
        b"\0" * 512,
        chance.randbytes(511),
        chance.randbytes(513),
        b"C0644 5 x\nhello\0",
        b"\x01\x02\x04\x00" * 3,
        b"no newline at the end",
        b"\r\n" * 7,
        bytes(range(256)) * 5,
    )
    return kinds[number % len(kinds)]


def digest(data: bytes) -> str:
    """Its sha256."""
    return hashlib.sha256(data).hexdigest()

"""Archives that lead elsewhere, written without any check."""

from __future__ import annotations

import ast
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.names import PLACES, SPELLINGS

TAR = b'case "$1" in -c) cat {say}/tar.data; exec cat >/dev/null;; esac\n'
_KINDS = {
    "f": tarfile.REGTYPE,
    "d": tarfile.DIRTYPE,
    "l": tarfile.SYMTYPE,
    "h": tarfile.LNKTYPE,
    "c": tarfile.CHRTYPE,
    "b": tarfile.BLKTYPE,
    "p": tarfile.FIFOTYPE,
    "7": tarfile.CONTTYPE,
    "V": b"V",
    "M": b"M",
    "D": b"D",
    "N": b"N",
    "A": b"A",
    "o": b"\0",
}
# What bsdtar sets, and others do not: it would let other users write, or run.
RECORDS = {
    "an attribute": {"SCHILY.xattr.user.x": "y", "LIBARCHIVE.xattr.user.x": "eQ=="},
    "rights": {"SCHILY.acl.access": "user::rwx,group::r-x,other::r-x,user:nobody:rwx:9,mask::rwx"},
    "rights below": {"SCHILY.acl.default": "user::rwx,group::rwx,other::rwx"},
    "names": {"GNU.sparse.name": "../canary", "GNU.dumpdir": "Ygood"},
    "a link": {"linkpath": "../../out/secret"},
    "a size": {"size": "3"},
    "a large size": {"size": "4611686018427387903"},
    "a path with a NUL": {"path": "./good\0/../../canary"},
    "no path": {"path": ""},
}
Piece = tuple[str, str, str]
START: list[Piece] = [("d", "./", ""), ("f", "./good", "new good"), ("d", "./sub", "")]
REST: list[Piece] = [("f", "./sub/evil", "EVIL"), ("l", "./link", "good")]


def archive(pieces: list[Piece], form: int) -> bytes:
    """A tar of (kind, name, content or link target), written without any check."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for kind, name, value in pieces:
            info = tarfile.TarInfo(name)
            info.mode = 0o4755 if kind == "s" else 0o755
            info.type = _KINDS.get(kind, tarfile.REGTYPE)
            if kind == "x":
                record = tarfile.TarInfo("./PaxHeaders/x")
                record.type = tarfile.XHDTYPE
                text = b"".join(_record(*pair) for pair in RECORDS[value].items())
                record.size = len(text)
                tar.addfile(record, io.BytesIO(text))
            elif kind == "n":
                content = archive(ast.literal_eval(value), form)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                head = buffer.getbuffer()[-len(content) - 512 :]
                head[124:136] = (b"%o" % len(content)).rjust(12, b"\0")
                head[148:156] = b" " * 8
                head[148:156] = b"%06o\0 " % sum(head[:512])
                head.release()
            elif kind in ("f", "s", "o", "7", "h+"):
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value.encode()))
            else:
                info.linkname = value
                tar.addfile(info)
    return buffer.getvalue()


def _record(key: str, value: str) -> bytes:
    """``LENGTH KEY=VALUE``, with the length of all of it."""
    line = f" {key}={value}\n".encode()
    length = next(n for n in range(len(line), len(line) + 9) if len(str(n)) + len(line) == n)
    return str(length).encode() + line


def hidden(pieces: list[Piece]) -> list[Piece]:
    """The same members, behind a header whose size some read as that of their archive."""
    return [*START[:1], ("n", "./good", repr(pieces)), *START[2:], *REST]


def evil_archives() -> Iterator[tuple[str, str, list[Piece]]]:
    """(kind, name, pieces)."""
    whole = [*START, *REST]
    long = "./sub/" + "x" * 120
    for place in PLACES:
        for spelling, form in SPELLINGS.items():
            yield "dotdot", f"{spelling} {place}", [*whole, ("f", form.format(place), "EVIL")]
        yield "dotdot", f"long {place}", [*whole, ("f", f"{long}/../../{place}", "EVIL")]
        yield "dotdot", f"first {place}", [("f", f"./{place}", "EVIL"), *whole]
        for kind in ("h", "l"):
            yield f"a {kind} outside", place, [*whole, (kind, f"./{place}", "./good")]
            yield f"a {kind} to outside", place, [*START[:1], (kind, "./good", place), *REST]
    for place in ("in/new", "out/secret", "in/canary"):
        name = "{ground}/" + place
        yield "absolute", place, [*whole, ("f", name, "EVIL")]
        yield "absolute", f"//{place}", [*whole, ("f", f"/{name}", "EVIL")]
        for kind in ("h", "l"):
            yield f"a {kind} to outside", name, [*START[:1], (kind, "./good", name), *REST]
            more = [(kind, "./good", name), ("f", "./good", "EVIL")]
            yield f"a {kind}, then written", name, [*START[:1], *more, *REST]
    for point in ("{ground}/out", "../../out", "..", "{ground}/in/.ssh"):
        for last in ("secret", "evil", "new", "authorized_keys"):
            swapped: list[Piece] = [*START[:2], ("l", "./sub", point)]
            yield "below a link", f"{point} {last}", [*swapped, ("f", f"./sub/{last}", "EVIL")]
        twice: list[Piece] = [*START, ("l", "./sub", point), *REST]
        yield "below a link", f"a directory, then a link {point}", twice
        steps: list[Piece] = [("l", "./a", "."), ("l", "./a/b", point), ("f", "./b/new", "EVIL")]
        yield "below a link", f"two links {point}", [*START, *steps]
        hard: list[Piece] = [("l", "./a", point), ("h", "./b", "./a/secret")]
        yield "below a link", f"a hard link through {point}", [*START, *hard]
    for kind in "cbpVMDNA7":
        yield "odd sorts", kind, [*START, *REST, (kind, "./odd", "")]
        yield "odd sorts", f"{kind} for a file", [START[0], (kind, "./good", ""), START[2], *REST]
    yield "set-id", "a file", [START[0], ("s", "./good", "new good"), START[2], *REST]
    yield "set-id", "linked", [*START, *REST, ("h", "./set", "{ground}/out/setuid")]
    yield "twice", "a file", [*whole, ("f", "./good", "EVIL")]
    yield "twice", "a directory, then a file", [*whole, ("f", "./sub", "EVIL")]
    for point in ("{ground}/out", "../../out"):
        steps = [("l", "./a", point), ("f", "./a/new", "EVIL"), ("h", "./b", f"{point}/secret")]
        yield "hidden", point, hidden([*steps, ("f", "./b", "EVIL")])
    for name in ("../canary", "{ground}/in/canary", "../.ssh/authorized_keys", "./unlisted"):
        yield "hidden", name, hidden([("f", name, "EVIL"), ("c", "./odd", "")])
    for name in RECORDS:
        for at in (1, 2):
            yield "records", f"{name} {at}", [*whole[:at], ("x", "", name), *whole[at:]]
    yield "missing", "a file", whole[:1]
    yield "missing", "all", []


FORMS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def packed(pieces: list[Piece], form: str, damaged: int | None = None) -> bytes:
    return repr((pieces, form, damaged)).encode()


def unpacked(text: bytes, ground: Path) -> bytes:
    """The archive of ``tar.pieces``, once it is known where the ground is."""
    pieces, form, damaged = ast.literal_eval(text.decode())
    filled = [
        (kind, name.replace("{ground}", str(ground)), value.replace("{ground}", str(ground)))
        for kind, name, value in pieces
    ]
    data = bytearray(archive(filled, FORMS[form]))
    if damaged is not None:
        # A header's name, kind, link or sum with one bit turned.
        at = (damaged * 37) % 345 + 512 * (damaged % 3)
        data[at] ^= 1 << (damaged % 8)
    return bytes(data)

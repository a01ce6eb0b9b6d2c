"""What a hostile ``find`` lists: names, kinds and links, for a tree of the host."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping

from tests.hostile.names import PLACES, SPELLINGS

Record = tuple[str, int, str]
HONEST: list[Record] = [
    ("d", 4096, "."),
    ("f", 8, "./good"),
    ("d", 4096, "./sub"),
    ("f", 4, "./sub/evil"),
    ("l", 4, "./link"),
]
FIND = b"""\
case "$*" in
*%l*) cat {say}/find.long; exit 0;;
*%p*|*-exec*) cat {say}/find.short; exit 0;;
esac
"""


def listing(records: list[Record], links: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """A ``find`` that prints these records, and a ``readlink`` that answers for its links."""
    short = long = b""
    points = dict(links or {})
    for kind, size, name in records:
        place = os.fsencode(name)
        short += b"%b %d 8 %b\0" % (kind.encode(), size, place)
        point = os.fsencode(points.get(name, "good" if kind == "l" else ""))
        long += b"%b %d 8 1700000000.5 %b\0%b\0" % (kind.encode(), size, place, point)
    cases = "".join(
        f"    */{name.removeprefix('./')}) printf '%s\\n' '{point}'; exit 0;;\n"
        for name, point in points.items()
    )
    script = f'for p; do case "$p" in\n{cases}esac; done\n'.encode()
    tools = {"find": FIND, "find.short": short, "find.long": long}
    return {**tools, "readlink": script} if cases else tools


def evil_listings() -> Iterator[tuple[str, str, list[Record], dict[str, str]]]:
    """(kind, name, records, where links point)."""
    for (spelling, form), place in itertools.product(SPELLINGS.items(), PLACES):
        name = form.format(place)
        yield "dotdot", f"{spelling} {place}", [*HONEST, ("f", 4, name)], {}
    for place in ("in/canary", "in/new", "out/secret", "out/new"):
        yield "absolute", f"file {place}", [*HONEST, ("f", 4, "{ground}/" + place)], {}
        yield "absolute", f"file //{place}", [*HONEST, ("f", 4, "/{ground}/" + place)], {}
    for place in ("../made", "../../out/made", "../.ssh", "../../out/d"):
        yield "directory", place, [*HONEST, ("d", 4096, f"./{place}")], {}
        yield "directory", f"first {place}", [HONEST[0], ("d", 4096, f"./{place}")], {}
    for place in ("../planted", "../../out/planted", "../canary"):
        records = [*HONEST, ("l", 4, f"./{place}")]
        yield "link", f"planted at {place}", records, {f"./{place}": "{ground}/out/secret"}
    for point in ("{ground}/out/secret", "../../out/new", "../canary", "{ground}/in/new"):
        one: Record = ("l", 4, "./y")
        yield "twice", f"link and file {point}", [*HONEST, one, ("f", 4, "./y")], {"./y": point}
        yield "twice", f"file and link {point}", [*HONEST, ("f", 4, "./y"), one], {"./y": point}
    for point in ("{ground}/out", "../../out", "..", "{ground}/in", "../.ssh"):
        for last in ("secret", "canary", "authorized_keys", "new"):
            records = [*HONEST, ("l", 4, "./x"), ("f", 4, f"./x/{last}")]
            yield "below a link", f"{point} {last}", records, {"./x": point}
        records = [*HONEST, ("l", 4, "./x"), ("d", 4096, "./x"), ("f", 4, "./x/new")]
        yield "below a link", f"a directory, too: {point}", records, {"./x": point}
    for name in ("./good/x", "./nowhere/x", "./nowhere/../good"):
        yield "below no directory", name, [*HONEST, ("f", 4, name)], {}
    for name in ("", "./", "./.", "..", "./..", "/", "//", "./sub/", "./sub/.", "./good", "."):
        yield "empty or dots", repr(name), [*HONEST, ("f", 4, name)], {}
    for name in ("sub/evil", ".//good", "./sub//evil", "./sub/./evil", "./sub/", "././good"):
        yield "another spelling", name, [*HONEST, ("f", 4, name)], {}
    for length in (256, 4095, 4097, 1_000_000):
        for before in ("./", "./../", "./good/"):
            yield "long", f"{before} {length}", [*HONEST, ("f", 4, before + "n" * length)], {}
    yield "no top", "nothing", [], {}
    yield "no top", "without a top", HONEST[1:], {}
    yield "newline", "a name", [*HONEST, ("f", 4, "./a\n./../canary")], {}
    yield "newline", "up", [*HONEST, ("f", 4, "./\n/../../canary")], {}

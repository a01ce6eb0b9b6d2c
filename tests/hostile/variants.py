"""What hostile hosts say: names, kinds, archives, homes; crossed with methods and options."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from openssh_jobs import Connection
from openssh_jobs.cluster.job import Job
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.transfer.options import Method
from tests.hostile.archives import FORMS, REST, START, TAR, evil_archives, packed
from tests.hostile.names import PLACES, SPELLINGS

METHODS: tuple[Method, ...] = ("sftp", "scp", "tar", "rsync")
Call = Callable[[Connection, Path], str | None]
Record = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that a host does, and what is asked of it.

    ``tools``: scripts that stand in for its tools; ``twisted``: names of its tree that are
    something else to the programs that move files; ``exists``: whether the target does.
    """

    kind: str
    name: str
    method: Method
    call: Call
    tools: Mapping[str, bytes] = field(default_factory=dict)
    twisted: Mapping[str, str] = field(default_factory=dict)
    home: str | None = None
    exists: bool = False
    tar: str = "gnu"


# -- what a listing says ------------------------------------------------------------------------

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


OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "update": {"update": True},
    "merge": {"merge": True},
    "preserve": {"preserve": True},
    "update verify": {"update": True, "verify": True},
    "followed": {"follow_symlinks": True},
    "update followed": {"update": True, "follow_symlinks": True},
    "filtered": {"exclude": ["nothing"]},
}


def tree(method: Method, options: dict[str, Any], source: str = "in/tree") -> Call:
    """``get`` of the tree on the host."""

    def call(connection: Connection, ground: Path) -> None:
        connection.get(f"{ground}/{source}", ground / "in" / "t", method=method, **options)

    return call


def fetched(method: Method, options: dict[str, Any]) -> Call:
    """``Job.fetch`` of a job whose directory is the tree."""

    def call(connection: Connection, ground: Path) -> None:
        row = SimpleNamespace(
            token=None, directory=f"{ground}/in/tree", stdout_path=None, is_followed=False
        )
        known = JobStatus("1", JobState.COMPLETED)  # of one that goes on the host is asked
        watch = SimpleNamespace(last=lambda _: known, follow=lambda *_: ())
        jobs = SimpleNamespace(host="hostile", connection=connection, tracker=watch)
        job = Job(cast("Any", jobs), "1", cast("Any", row))
        job.fetch(ground / "in" / "t", method=method, **options)

    return call


DIRECTORIES = ("", "/a\0b", ".", "tree", "~", "-rf", "/", "{ground}/in/tree/..", "{ground}/in",
               "{ground}/in/tree/../../out", "/" + "x" * 300, "/\x1b[2J")  # fmt: skip


def of_directories(method: Method) -> Iterator[Variant]:
    """``Job.fetch`` of a job that another program submitted: the scheduler names its directory."""
    for directory, which in itertools.product(DIRECTORIES, ("", "merge", "update")):

        def call(
            connection: Connection,
            ground: Path,
            directory: str = directory,
            options: dict[str, Any] = OPTIONS[which],
        ) -> None:
            place = directory.format(ground=ground)
            row = SimpleNamespace(token=None, directory=place, stdout_path=None, is_followed=True)
            known = JobStatus("1", JobState.COMPLETED, directory=place)
            watch = SimpleNamespace(last=lambda _: known, follow=lambda *_: ())
            jobs = SimpleNamespace(
                host="hostile", connection=connection, tracker=watch, detail=lambda _: known
            )
            job = Job(cast("Any", jobs), "1", cast("Any", row))
            job.fetch(ground / "in" / "t", method=method, **options)

        yield Variant(
            "a job's directory",
            f"{which}: {directory!r}",
            method,
            call,
            tools=listing(HONEST),
            exists=bool(which),
        )


def _with(tools: dict[str, bytes], more: dict[str, bytes]) -> dict[str, bytes]:
    return {**tools, **more}


def of_listings(method: Method) -> Iterator[Variant]:
    """Hostile listings, with every option in turn and the commonest with each."""
    names = list(OPTIONS)
    for number, (kind, name, records, links) in enumerate(evil_listings()):
        for which in dict.fromkeys(("", "update", names[number % len(names)])):
            options = OPTIONS[which]
            exists = bool(options.get("update") or options.get("merge"))
            for call, word in ((tree, "get"), (fetched, "fetch")):
                if word == "fetch" and number % 4:
                    continue
                yield Variant(
                    kind,
                    f"{word} {which}: {name}",
                    method,
                    call(method, options),
                    tools=listing(records, links),
                    exists=exists,
                )


# -- a target that holds links of the day before ------------------------------------------------


def of_old_links(method: Method) -> Iterator[Variant]:
    """The listing is fair, but what it lists as a directory is a link here."""
    for below, name in itertools.product(("dlink",), ("secret", "new", "d/deep", "setuid")):
        directories = [("d", 4096, "./" + below)]
        if "/" in name:
            directories.append(("d", 4096, f"./{below}/d"))
        records = [*HONEST, *directories, ("f", 4, f"./{below}/{name}")]
        twisted = {f"{below}/{name}": "f"}
        for which in ("update", "merge", "update verify"):
            yield Variant(
                "a link here",
                f"{which}: {below}/{name}",
                method,
                tree(method, OPTIONS[which], "in/twisted"),
                tools=listing(records),
                twisted=twisted,
                exists=True,
            )
    for which, kind in itertools.product(("update", "merge", "update followed"), ("a link", "f")):
        yield Variant(
            "a link here",
            f"{which}: a file for a link to one, {kind} there",
            method,
            tree(method, OPTIONS[which], "in/twisted"),
            tools=listing([*HONEST[:2], ("f", 4, "./flink")]),
            twisted={"flink": "f" if kind == "f" else "{ground}/in/canary"},
            exists=True,
        )


# -- the listing and what comes are not the same ------------------------------------------------

TWISTS: dict[str, dict[str, str]] = {
    "a file is a link to a canary": {"good": "{ground}/out/secret"},
    "a file is a link up": {"good": "../../out/secret"},
    "a file is a directory": {"good": "/"},
    "a file is a fifo": {"good": "|"},
    "a directory is a link": {"sub": "{ground}/out"},
    "a directory is a link up": {"sub": "../../out"},
    "a directory is a fifo": {"sub": "|"},
    "a file of a directory is a link": {"sub/evil": "{ground}/in/.ssh/authorized_keys"},
    "all are links": {"good": "../../out/secret", "sub": "../../out"},
    "a link is a directory": {"link": "/"},
}


def of_twists(method: Method) -> Iterator[Variant]:
    """What moves the files sees another tree than what lists them."""
    tools = listing(HONEST)
    ways = ("", "update", "preserve", "followed")
    for (name, twisted), which in itertools.product(TWISTS.items(), ways):
        if "fifo" in name and method == "sftp":
            continue  # the server opens it and waits: no case of names
        yield Variant(
            "another tree",
            f"{which}: {name}",
            method,
            tree(method, OPTIONS[which], "in/twisted"),
            tools=tools,
            twisted=twisted,
            exists=which == "update",
        )


# -- archives -----------------------------------------------------------------------------------


def of_archives() -> Iterator[Variant]:
    """Hostile archives behind a fair listing, read by each tar of this machine in turn."""
    turns = itertools.cycle(itertools.product(("gnu", "bsdtar", "busybox"), FORMS))
    for kind, name, pieces in evil_archives():
        for which in ("", "update"):
            tar, form = next(turns)
            yield Variant(
                f"archive: {kind}",
                f"{which}: {name} ({tar}, {form})",
                "tar",
                tree("tar", OPTIONS[which]),
                tools=_with(listing(HONEST), {"tar": TAR, "tar.pieces": packed(pieces, form)}),
                exists=which == "update",
                tar=tar,
            )
    for number in range(40):
        yield Variant(
            "archive: damaged",
            f"byte {number}",
            "tar",
            tree("tar", {}),
            tools=_with(
                listing(HONEST),
                {"tar": TAR, "tar.pieces": packed([*START, *REST], "gnu", damaged=number)},
            ),
            tar=("gnu", "bsdtar", "busybox")[number % 3],
        )


# -- homes, patterns, paths ---------------------------------------------------------------------

HOMES = ("{ground}/in/tree/..", "{ground}/in/tree/../../in", "{ground}/in/tree/.", "/",
         "{ground}/in/t/..", "{ground}/in/..", "{ground}/in//..", "{ground}/in/../")  # fmt: skip
FACTS = {"file": b"81a4 4 0 0 1 1 1 0 0 0", "directory": b"41ed 4096 0 0 2 2 2 0 0 0"}
STAT = b'case "$*" in *%%f*) echo %b; exit 0;; esac\n'
SINGLE = ("", "update", "preserve", "update verify")


def of_homes(method: Method) -> Iterator[Variant]:
    """``~`` is what the host says."""
    whichs = SINGLE if method == "scp" else ("", "update", "merge")
    for (home, facts), which in itertools.product(itertools.product(HOMES, FACTS), whichs):

        def call(
            connection: Connection, ground: Path, options: dict[str, Any] = OPTIONS[which]
        ) -> None:
            connection.get("~", f"{ground}/in/t/", method=method, **options)

        yield Variant(
            "home",
            f"{which}: {home} is a {facts}",
            method,
            call,
            tools=_with(listing([HONEST[0], ("f", 4, "./canary")]), {"stat": STAT % FACTS[facts]}),
            home=home,
            exists=True,
        )


GLOBS = ("../canary", "./../canary", "sub/../../canary", "{ground}/in/canary", "../../out/secret",
         "x/../../.ssh/authorized_keys", "../new", "//{ground}/in/canary")  # fmt: skip


def of_patterns(method: Method) -> Iterator[Variant]:
    """What came for a pattern, a directory or a realpath is got under that name, as users do."""
    for (name, pattern), which in itertools.product(
        itertools.product(GLOBS, ("*", "*.log", "[a-z]*")), SINGLE
    ):

        def call(
            connection: Connection,
            ground: Path,
            pattern: str = pattern,
            options: dict[str, Any] = OPTIONS[which],
        ) -> None:
            for found in connection.glob(pattern):
                connection.get(found, os.path.join(ground, "in/t", found), method=method, **options)

        yield Variant(
            "pattern",
            f"{which}: {pattern} is {name}",
            method,
            call,
            tools={"printf": os.fsencode(name) + b"\0"},
            exists=True,
        )
    for name, which in itertools.product(("..", ".", "", "../canary", "a/b"), ("list", "scan")):

        def walk(connection: Connection, ground: Path, which: str = which) -> None:
            directory = f"{ground}/in/tree"
            names = connection.listdir(directory)
            if which == "scan":
                names = [one.name for one in connection.scandir(directory)]
            for found in names:
                assert found not in ("", ".", ".."), f"{found!r} is no entry of a directory"
                place = f"{ground}/in/tree/{found}"
                if connection.is_file(place):
                    connection.get(place, os.path.join(ground, "in/t", found), method=method)

        records = b"./%b\\0" % name.encode()
        facts = b"f 644 4 0 0 1 1 1 0 0 0\\0" if which == "scan" else b""
        script = b"case \"$*\" in *maxdepth\\ 1*) printf '%b'; exit 0;; esac\n" % (records + facts)
        yield Variant(
            "directory listing",
            f"{which}: {name!r}",
            method,
            walk,
            tools={"find": script},
            exists=True,
        )


SCP = b'case "$1 $2" in *-f*) cat {say}/scp.data; exec timeout .3 cat >/dev/null;; esac\n'


def of_scp() -> Iterator[Variant]:
    """Records of scp's protocol that were not asked for."""
    bodies = {
        "a name up": b"C0644 4 ../canary\nEVIL\0",
        "an absolute name": b"C0644 4 {ground}/in/canary\nEVIL\0",
        "dots": b"C0644 4 ..\nEVIL\0",
        "no name": b"C0644 4 \nEVIL\0",
        "two files": b"C0644 8 good\nnew good\0C0644 4 canary\nEVIL\0",
        "a directory": b"D0755 0 in\nC0644 4 canary\nEVIL\0E\n",
        "a directory up": b"D0755 0 ..\nC0644 4 canary\nEVIL\0E\n",
        "a directory that is itself": b"D0777 0 .\n",
        "times": b"T1 0 1 0\nC0644 4 ../canary\nEVIL\0",
        "set-id": b"C4755 8 good\nnew good\0",
        "an end": b"E\n",
        "too long": b"C0644 4 good\nnew good and more\0",
        "too short": b"C0644 800 good\nnew good",
        "a negative size": b"C0644 -4 good\nEVIL\0",
        "a newline": b"C0644 4 go\nod\nEVIL\0",
        "a warning": b"\1../canary\nC0644 8 good\nnew good\0",
    }
    for (name, data), which in itertools.product(bodies.items(), SINGLE):

        def call(
            connection: Connection, ground: Path, options: dict[str, Any] = OPTIONS[which]
        ) -> None:
            connection.get(f"{ground}/in/tree/good", f"{ground}/in/t/", method="scp", **options)

        tools = {"scp": SCP, "scp.data": data}
        yield Variant("scp records", f"{which}: {name}", "scp", call, tools=tools, exists=True)


def of_single_twists(method: Method) -> Iterator[Variant]:
    """A single file that is something else to the program which moves it."""
    lies = STAT % FACTS["file"]
    for (name, twisted), which in itertools.product(TWISTS.items(), SINGLE):
        if "fifo" in name or not {"good"} & twisted.keys():
            continue

        def call(
            connection: Connection, ground: Path, options: dict[str, Any] = OPTIONS[which]
        ) -> None:
            connection.get(f"{ground}/in/twisted/good", f"{ground}/in/t/", method=method, **options)

        yield Variant(
            "another file",
            f"{which}: {name}",
            method,
            call,
            tools={"stat": lies},
            twisted=twisted,
            exists=True,
        )


def of_single_links(method: Method) -> Iterator[Variant]:
    """A single file whose target is a link of the day before."""
    for which, facts in itertools.product(SINGLE, FACTS):

        def call(
            connection: Connection, ground: Path, options: dict[str, Any] = OPTIONS[which]
        ) -> None:
            connection.get(
                f"{ground}/in/twisted/flink", f"{ground}/in/t/", method=method, **options
            )

        yield Variant(
            "a link here",
            f"{which}: one file for a link to one, called a {facts}",
            method,
            call,
            tools={"stat": STAT % FACTS[facts]},
            twisted={"flink": "f"},
            exists=True,
        )


def of_resumed() -> Iterator[Variant]:
    """``resume=True``, by the stream that it always takes."""
    for home, facts in itertools.product(HOMES, FACTS):

        def call(connection: Connection, ground: Path) -> None:
            connection.get("~", f"{ground}/in/t/", resume=True, method="tar")

        tools = {"stat": STAT % FACTS[facts]}
        yield Variant("home", f"resume: {home} is a {facts}", "tar", call, tools, {}, home, True)


def variants(method: Method) -> list[Variant]:
    """All variants of a method."""
    found: list[Variant] = []
    if method != "scp":
        found += [*of_listings(method), *of_old_links(method), *of_twists(method)]
        found += of_directories(method)
    if method == "tar":
        found += [*of_archives(), *of_resumed()]
    if method == "scp":
        found += of_scp()
    return [
        *found,
        *of_single_twists(method),
        *of_single_links(method),
        *of_homes(method),
        *of_patterns(method),
    ]

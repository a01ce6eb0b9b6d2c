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
from tests.hostile.listings import HONEST, evil_listings, listing

METHODS: tuple[Method, ...] = ("sftp", "scp", "tar", "rsync")
Call = Callable[[Connection, Path], str | None]


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


SERVERS = {
    "names itself as what failed here": b"""\
echo 'rsync: [receiver] mkstemp "/etc/passwd" failed: Permission denied (13)' >&2; exit 11
""",
    "is in another directory": b'cd {ground}/out; exec /usr/bin/rsync "$@"\n',
    "follows links": b'exec /usr/bin/rsync --copy-links "$@"\n',
    "lists more": b'cd {ground}/out; exec /usr/bin/rsync "$@" -r\n',
    "sends a device": b"""\
rm {ground}/in/tree/good; mknod {ground}/in/tree/good c 1 5; exec /usr/bin/rsync "$@"
""",
    "sends what all may write": b'chmod 6777 {ground}/in/tree/good; exec /usr/bin/rsync "$@"\n',
    "speaks otherwise": b"head -c 9999 /dev/zero; exit 0\n",
}


def of_servers() -> Iterator[Variant]:
    """An ``rsync --server`` that does something else than it was asked for."""
    for (name, lie), which in itertools.product(SERVERS.items(), ("", "update", "followed")):

        def call(
            connection: Connection, ground: Path, options: dict[str, Any] = OPTIONS[which]
        ) -> None:
            connection.get(f"{ground}/in/tree/good", f"{ground}/in/t/", method="rsync", **options)

        tools = _with(listing(HONEST), {"rsync": b'case "$*" in *--server*)\n%b;; esac\n' % lie})
        for one, word in ((tree("rsync", OPTIONS[which]), "a tree"), (call, "a file")):
            exists = which == "update" or word == "a file"
            yield Variant(
                "a server", f"{which}: {word}, {name}", "rsync", one, tools, {}, None, exists
            )


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
    if method == "rsync":
        found += of_servers()
    return [
        *found,
        *of_single_twists(method),
        *of_single_links(method),
        *of_homes(method),
        *of_patterns(method),
    ]

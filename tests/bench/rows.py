"""The rows of the benchmark: each yields pairs of measured seconds and the goal for their ratio."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rich

from openssh_jobs import Connection, parser
from openssh_jobs.cluster.journal import Journal
from tests import screens
from tests.bench import libraries
from tests.bench.bench import LIMIT, Bench, Comparison, call, pairs, until_shown

# Modules, the goal as a ratio to `import subprocess`, and what the row is called.
_IMPORTS: tuple[tuple[str, float | None, str], ...] = (
    ("openssh_jobs", 1.6, ""),
    ("openssh_jobs.connection", 2.6, "Connection"),
    ("openssh_jobs.cluster", None, "Cluster"),
)
_MEMORY: tuple[tuple[str, float | None, str], ...] = (
    ("openssh_jobs", 1.27, "package"),
    ("openssh_jobs.connection", 1.5, "Connection"),
    ("openssh_jobs.cluster", None, "Cluster"),
)

_LIVE = """
from rich.live import Live
from rich.table import Table
with Live(Table()):
    pass
print("over")
"""


def import_time(bench: Bench) -> Iterator[Comparison]:
    """A fresh process that imports us as pip installed us, against one that imports subprocess."""

    def fresh(name: str) -> Callable[[], None]:
        # -P: the directory we stand in is the checkout, which is not what was installed.
        return lambda: call([bench.installed, "-P", "-c", f"import {name}"])

    for name, most, what in _IMPORTS:
        ours, theirs = pairs(fresh(name), fresh("subprocess"), 5 * bench.times)
        yield Comparison("import subprocess", ours, theirs, most, what)


def run(bench: Bench) -> Iterator[Comparison]:
    """``run("true")`` on an open connection."""
    host = bench.connection()
    ssh = bench.ssh("-T", "none", "true")

    def repeat(work: Callable[[], Any], count: int) -> Callable[[], None]:
        def again() -> None:
            for _ in range(count):
                work()

        return again

    count = 20
    ours, theirs = pairs(
        repeat(lambda: host.run("true"), count), repeat(lambda: call(ssh), count), 3 * bench.times
    )
    yield Comparison("ssh -S", ours, theirs, 0.55)
    ours, theirs = pairs(
        repeat(lambda: host.exists("/etc"), count), repeat(lambda: call(ssh), count), bench.times
    )
    yield Comparison("ssh -S", ours, theirs, 0.10, "exists")
    slow = bench.connection(slow=True)
    ours, theirs = pairs(
        repeat(lambda: slow.exists("/etc"), 5),
        repeat(lambda: time.sleep(0.04), 5),
        bench.times,
    )
    yield Comparison("one round trip", ours, theirs, 1.1, "exists, 40 ms")
    # Nothing is sent on stdin before the command has begun: one round trip more than the two of a
    # session.
    data = b"x" * 1024
    path = str(bench.directory / "written")
    for what, work in (
        ("1 KB of input, 40 ms", lambda: slow.run("cat >/dev/null", input=data)),
        ("write_bytes of 1 KB, 40 ms", lambda: slow.write_bytes(path, data)),
    ):
        ours, theirs = pairs(repeat(work, 5), repeat(lambda: time.sleep(0.04), 5), 3 * bench.times)
        yield Comparison("one round trip", ours, theirs, 3.2, what)


def many(bench: Bench) -> Iterator[Comparison]:
    """500 commands, 50 asked for at once."""
    from concurrent.futures import ThreadPoolExecutor

    host = bench.connection()
    before = bench.server.logins()
    ssh = bench.ssh("-T", "none", "true")

    def ours() -> None:
        results = host.run_many(["true"] * 500, concurrency=50)
        failed = [one for one in results if one.error is not None or one.returncode != 0]
        if failed:
            raise RuntimeError(f"{len(failed)} of 500 failed: {failed[0]}")

    def theirs() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: subprocess.run(ssh, timeout=LIMIT, check=False), range(500)))

    one, two = pairs(ours, theirs, bench.times)
    if bench.server.logins() != before:
        raise RuntimeError("another login was made")
    yield Comparison("ssh -S, 8 at once", one, two, 1 / 1.6)


def tree(bench: Bench) -> Iterator[Comparison]:
    """5,000 files of 2 KB up and down on loopback, 500 at 40 ms."""
    yield from _tree(bench, 5000, slow=False)
    yield from _tree(bench, 500, slow=True)


def _tree(bench: Bench, count: int, *, slow: bool) -> Iterator[Comparison]:
    host = bench.connection(slow=slow)
    source = bench.directory / f"tree{count}"
    for number in range(count):
        path = source / f"d{number % 50}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(number).encode()).digest() * 64)
    there, here = bench.directory / "there", bench.directory / "here"
    shell = " ".join(bench.ssh(slow=slow))

    def clean() -> None:
        for path in (there, here):
            shutil.rmtree(path, ignore_errors=True)

    def after(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            clean()
            work()

        return run

    rsync = ["rsync", "-r", "-e", shell]
    note = f"{count} files{', 40 ms' if slow else ''}"
    times = bench.times
    if shutil.which("rsync"):
        ours, theirs = pairs(
            after(lambda: host.put(source, str(there))),
            after(lambda: call([*rsync, f"{source}/", f"none:{there}/"])),
            times,
        )
        yield Comparison("rsync", ours, theirs, 1.0, f"{note}, up")
        ours, theirs = pairs(
            after(lambda: host.get(str(source), here)),
            after(lambda: call([*rsync, f"none:{source}/", f"{here}/"])),
            times,
        )
        yield Comparison("rsync", ours, theirs, 1.0, f"{note}, down")
    if not slow:
        batch = f"put -r {source} {there}\n".encode()
        sftp = bench.ssh("-b", "-", "none", program="sftp")
        ours, theirs = pairs(
            after(lambda: host.put(source, str(there))),
            after(lambda: (there.mkdir(), call(sftp, input=batch))),
            1,
        )
        yield Comparison("sftp -b", ours, theirs, 1 / 6, f"{note}, up")
    clean()
    shutil.rmtree(source)


def update(bench: Bench) -> Iterator[Comparison]:
    """Ten changed files of 5,000 on loopback and of 500 at 40 ms, up and down."""
    if shutil.which("rsync"):
        yield from _update(bench, 5000, slow=False)
        yield from _update(bench, 500, slow=True)


def _update(bench: Bench, count: int, *, slow: bool) -> Iterator[Comparison]:
    host = bench.connection(slow=slow)
    one, two = bench.directory / "tree1", bench.directory / "tree2"
    for number in range(count):
        path = one / f"d{number % 50}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(number).encode()).digest() * 64)
    shutil.copytree(one, two)
    rsync = ["rsync", "-rt", "-e", " ".join(bench.ssh(slow=slow))]
    turns = itertools.count()

    def after_changes(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            turn = next(turns)
            for number in range(10):
                (one / f"d{number}" / f"f{number}").write_bytes(b"x" * (turn + 1))
            work()

        return run

    note = f"10 of {count} files{', 40 ms' if slow else ''}"
    for direction, ours, theirs in (
        ("up", lambda: host.put(one, str(two), update=True), [f"{one}/", f"none:{two}/"]),
        ("down", lambda: host.get(str(one), two, update=True), [f"none:{one}/", f"{two}/"]),
    ):
        first, second = pairs(
            after_changes(ours),
            after_changes(lambda words=theirs: call([*rsync, *words])),  # type: ignore[misc]
            bench.times,
        )
        yield Comparison("rsync -rt", first, second, None, f"{note}, {direction}")
    shutil.rmtree(one)
    shutil.rmtree(two)


def others(bench: Bench) -> Iterator[Comparison]:
    """A tree up and down, against scp -r, sftp -r, paramiko and asyncssh, on loopback and far."""
    yield from _others(bench, 500, slow=False)
    yield from _others(bench, 60, slow=True)


def _others(bench: Bench, count: int, *, slow: bool) -> Iterator[Comparison]:
    host = bench.connection(slow=slow)
    source = bench.directory / f"others{count}"
    source.mkdir()
    for number in range(count):
        (source / f"f{number}").write_bytes(hashlib.sha256(str(number).encode()).digest() * 64)
    there, here = bench.directory / "there", bench.directory / "here"

    def after(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for path in (there, here):
                shutil.rmtree(path, ignore_errors=True)
            work()

        return run

    note = f"{count} files{', 40 ms' if slow else ''}"
    ways = bench.ssh("-q", "-r", slow=slow, program="scp")
    batch = bench.ssh("-q", "-b", "-", "none", slow=slow, program="sftp")
    port = bench.slow.port if slow else bench.server.port
    peers: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (
            "scp -r",
            lambda: call([*ways, str(source), f"none:{there}"]),
            lambda: call([*ways, f"none:{source}", str(here)]),
        ),
        (
            "sftp -r",
            lambda: (there.mkdir(), call(batch, input=f"put -r {source}/* {there}\n".encode())),
            lambda: (here.mkdir(), call(batch, input=f"get -r {source}/* {here}\n".encode())),
        ),
    ]
    with (
        libraries.Paramiko(bench.server, port) as one,
        libraries.AsyncSsh(bench.server, port) as two,
    ):
        for name, peer in (("paramiko", one), ("asyncssh", two)):
            peers.append(
                (
                    name,
                    lambda peer=peer: peer.put_tree(source, there),  # type: ignore[misc]
                    lambda peer=peer: peer.get_tree(source, here),  # type: ignore[misc]
                )
            )
        for name, up, down in peers:
            one_way, other = pairs(after(lambda: host.put(source, str(there))), after(up), 1)
            yield Comparison(name, one_way, other, None, f"{note}, up")
            one_way, other = pairs(after(lambda: host.get(str(source), here)), after(down), 1)
            yield Comparison(name, one_way, other, None, f"{note}, down")
    shutil.rmtree(source)


def large(bench: Bench) -> Iterator[Comparison]:
    """One file of 200 MB up and down on loopback, one of 40 MB at 40 ms."""
    yield from _large(bench, 200, slow=False)
    yield from _large(bench, 40, slow=True)


def _large(bench: Bench, size: int, *, slow: bool) -> Iterator[Comparison]:
    host = bench.connection(slow=slow)
    source, there = bench.directory / "large", bench.directory / "large.there"
    source.write_bytes(os.urandom(1 << 20) * size)
    sftp = bench.ssh("-q", "-b", "-", "none", slow=slow, program="sftp")
    goal = 1 / 2 if slow else 1 / 0.95
    note = f"{size} MB{', 40 ms' if slow else ''}"
    one, two = pairs(
        lambda: host.put(source, str(there)),
        lambda: call(sftp, input=f"put {source} {there}\n".encode()),
        bench.times,
    )
    yield Comparison("sftp", one, two, goal, f"{note}, up")
    one, two = pairs(
        lambda: host.get(str(source), there),
        lambda: call(sftp, input=f"get {source} {there}\n".encode()),
        bench.times,
    )
    yield Comparison("sftp", one, two, goal, f"{note}, down")
    source.unlink()
    there.unlink(missing_ok=True)


def recovery(bench: Bench) -> Iterator[Comparison]:
    """The first command after ``kill -9`` of the master, against a cold connection."""
    cold = [
        "ssh", "-F", str(bench.server.config), "-o", "ControlPath=none", "-T",
        bench.server.alias, "true",
    ]  # fmt: skip
    host = Connection(bench.server.alias, ssh_config=str(bench.server.config)).open()

    def ours() -> None:
        link = host._master.find()
        if link is not None:
            os.kill(link.pid, 9)
            while _running(link.pid):
                time.sleep(0.001)
        if host.run("echo right").stdout != "right\n":
            raise RuntimeError("a wrong answer")

    one, two = pairs(ours, lambda: call(cold), 3 * bench.times)
    yield Comparison("a cold ssh", one, two, 1.3)


def _running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as handle:
            return handle.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def parse(bench: Bench) -> Iterator[Comparison]:
    """100,000 lines of squeue, every state looked at."""
    states = ("R", "PD", "CG", "S", "CD", "F", "TO", "CA")
    lines = ["             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)"]
    lines += [
        f"{number:18d} {'batch':9} {'job' + str(number):>8.8} {'alice':>8} "
        f"{states[number % len(states)]:>2} {'1:02:03':>10} {1:6d} n{number % 900}"
        for number in range(1, 100_001)
    ]
    text = "\n".join(lines) + "\n"

    def ours() -> None:
        for status in parser.parse_status(text, "slurm").known.values():
            _ = status.state

    machine = "\n".join(
        f"{number}|batch|job{number}|alice|{states[number % len(states)]}"
        for number in range(1, 100_001)
    )

    def split() -> None:
        for line in machine.splitlines():
            line.split("|")

    one, two = pairs(ours, split, bench.times)
    yield Comparison("splitlines and split", one, two, None)
    theirs = _qtoolkit()
    if theirs is not None:
        one, two = pairs(ours, theirs, bench.times)
        yield Comparison("qtoolkit", one, two, 0.5)


def _qtoolkit() -> Callable[[], None] | None:
    try:
        from qtoolkit.io.slurm import SlurmIO
    except ImportError:
        return None
    reader = SlurmIO()
    states = ("RUNNING", "PENDING", "COMPLETING", "SUSPENDED", "COMPLETED", "FAILED")
    separator = reader.SQUEUE_FIELD_SEPARATOR if hasattr(reader, "SQUEUE_FIELD_SEPARATOR") else None
    if separator is None:
        from qtoolkit.io import slurm

        names = ("separator", "_SEPARATOR")
        separator = next((getattr(slurm, one) for one in names if hasattr(slurm, one)), "<><>")
    fields = [key for key, _ in reader.squeue_fields]
    facts = {"%i": "0", "%t": "R", "%r": "None", "%j": "job", "%u": "alice", "%P": "batch"}
    lines = []
    for number in range(1, 100_001):
        row = [facts.get(field, "0") for field in fields]
        for index, field in enumerate(fields):
            if field == "%i":
                row[index] = str(number)
            elif field in ("%T", "%t"):
                row[index] = states[number % len(states)] if field == "%T" else "R"
        lines.append(separator.join(row))
    text = "\n".join(lines)

    def read() -> None:
        for job in reader.parse_jobs_list_output(exit_code=0, stdout=text, stderr=""):
            _ = job.state

    try:
        read()
    except Exception as error:  # noqa: BLE001 - a peer of another version is no failure of ours
        print(f"qtoolkit could not be compared: {error}", file=sys.stderr)
        return None
    return read


def first_picture(bench: Bench) -> Iterator[Comparison]:
    """The first picture of ``watch``, against an empty table in a live display of rich."""
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    config = bench.directory / "nowhere"
    config.write_text("Host *\n  ProxyCommand false\n")
    packages = str(Path(rich.__file__).parents[1])
    env = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": packages}

    def shows(text: str, code: str, *words: str) -> Callable[[], None]:
        argv = [bench.installed, "-P", "-c", code, *words]
        return lambda: until_shown(argv, text.encode(), env)

    ours, theirs = pairs(
        shows("q quit", "from openssh_jobs.cli import main; main()", "watch", "-F", str(config)),
        shows("over", _LIVE),
        5 * bench.times,
    )
    yield Comparison("rich", ours, theirs, 1.5)


def memory(bench: Bench) -> Iterator[Comparison]:
    """Peak memory of a process that imports us, in KB (as if they were milliseconds)."""

    def peak(name: str) -> float:
        # Not ru_maxrss: that is inherited from the process that started this one.
        code = f"import {name}; print(open('/proc/self/status').read())"
        argv = [bench.installed, "-P", "-c", code]
        done = subprocess.run(argv, capture_output=True, check=True, timeout=LIMIT, text=True)
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1e3

    theirs = [peak("subprocess") for _ in range(bench.times)]
    for name, most, what in _MEMORY:
        ours = [peak(name) for _ in range(bench.times)]
        yield Comparison("import subprocess", ours, theirs, most, f"{what}: peak memory, KB")


ALL: dict[str, Callable[[Bench], Iterator[Comparison]]] = {
    "import": import_time,
    "memory": memory,
    "watch": first_picture,
    "run": run,
    "many": many,
    "tree": tree,
    "update": update,
    "others": others,
    "large": large,
    "recovery": recovery,
    "parse": parse,
}

"""A host that lies: the calls of a connection against one that changes what it answers.

What is sent runs in a real /bin/sh (and a real sftp-server) below a directory of its own; what
comes back is changed on the way: a status that is none, digits that are letters, an answer that
is empty, cut off or doubled.  Whatever a call makes of it is a typed error or a value; an answer
without a body is a success of nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from openssh_jobs import Connection
from openssh_jobs.errors import ConnectionLost, OpenSSHJobsError, Sent
from openssh_jobs.transport.base import Link, TransportError

SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
# A mark on a line of its own, as both streams have them.
_MARK = re.compile(rb"(oj-[0-9a-f]{18,40}[^\n]*\n)")
_ENDS_WITH_MARK = re.compile(rb"oj-[0-9a-f]{18,40}[^\n]*\n\Z")

# --------------------------------------------------------------------------- lies


def _bodies(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change what stands between marks, but for the newline by which an answer is framed."""
    out = []
    for piece in _MARK.split(data):
        body = piece.removesuffix(b"\n")
        if _MARK.fullmatch(piece) or not body.strip():
            out.append(piece)
        else:
            out.append(change(body) + piece[len(body) :])
    return b"".join(out)


def _marks(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    pieces = _MARK.split(data)
    return b"".join(change(piece) if _MARK.fullmatch(piece) else piece for piece in pieces)


def _words(line: bytes, word: bytes) -> bytes:
    nonce, blank, rest = line.partition(b" ")
    return nonce + blank + re.sub(rb"[0-9]+", word, rest) if blank else line


def _junk(random: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(max(1, len(out) // 20)):
        if out:
            out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out)


Lie = Callable[[Random, bytes], bytes]
LIES: dict[str, Lie] = {
    "truth": lambda random, data: data,
    "empty": lambda random, data: _bodies(data, lambda body: b""),
    "letters": lambda random, data: _bodies(data, lambda body: re.sub(rb"[0-9]+", b"x", body)),
    "huge": lambda random, data: _bodies(
        data, lambda body: re.sub(rb"[0-9]+", b"9" * random.choice((25, 400, 5000)), body)
    ),
    "negative": lambda random, data: _bodies(data, lambda body: re.sub(rb"[0-9]+", b"-7", body)),
    "one-word": lambda random, data: _bodies(data, lambda body: body.split()[0]),
    "no-blanks": lambda random, data: _bodies(data, lambda body: body.replace(b" ", b"")),
    "doubled": lambda random, data: _bodies(data, lambda body: body + body),
    "half": lambda random, data: _bodies(data, lambda body: body[: len(body) // 2]),
    "no-ends": lambda random, data: _bodies(data, lambda body: body.replace(b"\0", b"")),
    "zeros": lambda random, data: _bodies(data, lambda body: b"\0" * random.randrange(1, 40)),
    "junk": lambda random, data: _bodies(data, lambda body: _junk(random, body)),
    "no-status": lambda random, data: _marks(data, lambda line: _words(line, b"$$")),
    "huge-status": lambda random, data: _marks(data, lambda line: _words(line, b"9" * 5000)),
    "marks-twice": lambda random, data: _marks(data, lambda line: line + line),
    "cut": lambda random, data: data[: random.randrange(len(data) + 1)],
}

# --------------------------------------------------------------------------- the host


class _Session:
    """One session: a real shell, and threads that change what it says."""

    def __init__(
        self, command: bytes, fds: Sequence[int], home: Path, lie: Lie, random: Random
    ) -> None:
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "SHELL": "/bin/sh"}
        self._child = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=fds[0],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=home,
            start_new_session=True,
        )
        self.status: int | None = None
        self._lie = lie
        self._random = random
        self._pumps = [
            threading.Thread(target=self._pump, args=(stream, os.dup(fd)), daemon=True)
            for stream, fd in ((self._child.stdout, fds[1]), (self._child.stderr, fds[2]))
        ]
        for pump in self._pumps:
            pump.start()

    def _pump(self, stream: Any, to: int) -> None:
        held = b""
        with contextlib.suppress(OSError), stream:
            os.set_blocking(to, True)
            while data := os.read(stream.fileno(), 65536):
                held += data
                if _ENDS_WITH_MARK.search(held[-200:]):
                    self._write(to, held)
                    held = b""
            self._write(to, held)
        os.close(to)

    def _write(self, to: int, data: bytes) -> None:
        view = memoryview(self._lie(self._random, data))
        while view:
            view = view[os.write(to, view) :]
        if self._lie is LIES["cut"] and data:
            raise BrokenPipeError  # and nothing more comes

    def wait(self, timeout: float) -> bool:
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        for pump in self._pumps:
            pump.join(timeout)
        self.status = code if code >= 0 else None
        return True

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, 9)
        self._child.wait(5)
        for pump in self._pumps:
            pump.join(5)

    abandon = close


class _LyingTransport:
    """A way to the host that lies."""

    host = by_hand = "liar"
    default_sessions = 8
    always_wide = False

    def __init__(self, home: Path, lie: Lie, random: Random) -> None:
        self._home = home
        self._lie = lie
        self._random = random

    def link(self) -> Link:
        return Link("/nonexistent/socket", os.getpid(), False)

    def is_over_age(self, link: Link) -> bool:
        return False

    def discard(self, link: Link) -> None:
        pass

    def answers(self, link: Link, timeout: float) -> bool:
        return True

    def open(
        self, link: Link, command: bytes, fds: Sequence[int], *, subsystem: bool = False
    ) -> _Session:
        return _Session(command, fds, self._home, self._lie, self._random)

    def failure(self, session: Any, stderr: bytes) -> TransportError | None:
        return None

    def lost(self, link: Link, what: str, *, sent: Sent, why: str) -> ConnectionLost:
        return ConnectionLost(f"lost ({why})", host=self.host, command=what, sent=sent)

    def program(self, link: Link, name: str) -> list[str] | None:
        if name != "sftp":
            return None
        server = next((path for path in SFTP_SERVERS if os.path.exists(path)), "")
        liar = [sys.executable, str(Path(__file__).with_name("lying_sftp_server.py"))]
        words = " ".join([*liar, str(self._random.randrange(1 << 30)), server])
        return ["sftp", "-D", server if self._lie is LIES["truth"] else words]


@contextlib.contextmanager
def lying(home: Path, lie: Lie, random: Random) -> Iterator[Connection]:
    """A connection to a host that lies; nothing leaves this machine."""
    made = Connection("liar", start_timeout=3)
    made._sessions.transport = _LyingTransport(home, lie, random)
    try:
        yield made
    finally:
        made.close()


# --------------------------------------------------------------------------- the calls

LONGEST = 60
"""Seconds after which a call hangs: several times what it waits for any answer here."""

Call = Callable[[Connection, str, Path], Any]
"""A connection, a directory there, a directory here."""


def _popen(c: Connection) -> Any:
    with c.popen("echo out; cat; exit 3") as process:
        return process.communicate("in", timeout=20)


def _stream(c: Connection, there: str) -> Any:
    with c.popen(["cat", f"{there}/file"], text=False) as process:
        return process.stdout.read() if process.stdout is not None else None


CALLS: dict[str, Call] = {
    "read_bytes": lambda c, d, h: c.read_bytes(f"{d}/file"),
    "read_bytes large": lambda c, d, h: c.read_bytes(f"{d}/large"),
    "read_text": lambda c, d, h: c.read_text(f"{d}/file"),
    "write_bytes": lambda c, d, h: c.write_bytes(f"{d}/new", b"x" * 3000),
    "write_bytes over": lambda c, d, h: c.write_bytes(f"{d}/file", b"y"),
    "write_text": lambda c, d, h: c.write_text(f"{d}/new", "text"),
    "stat": lambda c, d, h: c.stat(f"{d}/file"),
    "stat of nothing": lambda c, d, h: c.stat(f"{d}/no"),
    "lstat": lambda c, d, h: c.lstat(f"{d}/link"),
    "exists": lambda c, d, h: c.exists(f"{d}/file"),
    "is_file": lambda c, d, h: c.is_file(f"{d}/file"),
    "is_dir": lambda c, d, h: c.is_dir(d),
    "is_dir of a file": lambda c, d, h: c.is_dir(f"{d}/file"),
    "stat_many": lambda c, d, h: c.stat_many([f"{d}/file", f"{d}/no", d]),
    "exists_many": lambda c, d, h: c.exists_many([f"{d}/file", f"{d}/no"]),
    "listdir": lambda c, d, h: c.listdir(d),
    "listdir empty": lambda c, d, h: c.listdir(f"{d}/empty"),
    "scandir": lambda c, d, h: c.scandir(d),
    "glob": lambda c, d, h: c.glob(f"{d}/f*"),
    "glob of nothing": lambda c, d, h: c.glob(f"{d}/no*"),
    "mkdir": lambda c, d, h: c.mkdir(f"{d}/made"),
    "mkdir with mode": lambda c, d, h: c.mkdir(f"{d}/made", 0o700),
    "makedirs": lambda c, d, h: c.makedirs(f"{d}/a/b/c"),
    "makedirs again": lambda c, d, h: c.makedirs(d, exist_ok=True),
    "remove": lambda c, d, h: c.remove(f"{d}/file"),
    "rmdir": lambda c, d, h: c.rmdir(f"{d}/empty"),
    "rmtree": lambda c, d, h: c.rmtree(f"{d}/tree"),
    "rename": lambda c, d, h: c.rename(f"{d}/file", f"{d}/renamed"),
    "replace": lambda c, d, h: c.replace(f"{d}/file", f"{d}/large"),
    "chmod": lambda c, d, h: c.chmod(f"{d}/file", 0o600),
    "symlink": lambda c, d, h: c.symlink("file", f"{d}/link2"),
    "readlink": lambda c, d, h: c.readlink(f"{d}/link"),
    "realpath": lambda c, d, h: c.realpath(f"{d}/link"),
    "copy": lambda c, d, h: c.copy(f"{d}/file", f"{d}/copied"),
    "disk_usage": lambda c, d, h: c.disk_usage(d),
    "features": lambda c, d, h: c.features,
    "put": lambda c, d, h: c.put(h / "file", f"{d}/put"),
    "put by tar": lambda c, d, h: c.put(h / "file", f"{d}/put", method="tar"),
    "put update": lambda c, d, h: c.put(h / "file", f"{d}/file", update=True),
    "put verify": lambda c, d, h: c.put(h / "file", f"{d}/put", method="tar", verify=True),
    "put resume": lambda c, d, h: c.put(h / "file", f"{d}/put", resume=True),
    "put tree": lambda c, d, h: c.put(h / "tree", f"{d}/put"),
    "put tree merge": lambda c, d, h: c.put(h / "tree", f"{d}/tree", merge=True),
    "put tree update": lambda c, d, h: c.put(h / "tree", f"{d}/tree", update=True),
    "put tree verify": lambda c, d, h: c.put(h / "tree", f"{d}/put", verify=True),
    "put tree by sftp": lambda c, d, h: c.put(h / "tree", f"{d}/put", method="sftp"),
    "get": lambda c, d, h: c.get(f"{d}/file", h / "got"),
    "get by tar": lambda c, d, h: c.get(f"{d}/file", h / "got", method="tar"),
    "get update": lambda c, d, h: c.get(f"{d}/file", h / "file", update=True),
    "get verify": lambda c, d, h: c.get(f"{d}/file", h / "got", method="tar", verify=True),
    "get resume": lambda c, d, h: c.get(f"{d}/file", h / "got", resume=True),
    "get preserve": lambda c, d, h: c.get(f"{d}/file", h / "got", preserve=True),
    "get tree": lambda c, d, h: c.get(f"{d}/tree", h / "got"),
    "get tree merge": lambda c, d, h: c.get(f"{d}/tree", h / "tree", merge=True),
    "get tree update": lambda c, d, h: c.get(f"{d}/tree", h / "tree", update=True),
    "get tree verify": lambda c, d, h: c.get(f"{d}/tree", h / "got", verify=True),
    "get tree by sftp": lambda c, d, h: c.get(f"{d}/tree", h / "got", method="sftp"),
    "run": lambda c, d, h: c.run("echo out; exit 3"),
    "run with input": lambda c, d, h: c.run("cat", input="in" * 1000),
    "run with env": lambda c, d, h: c.run("echo $A", env={"A": "a b"}, cwd=d),
    "run in no directory": lambda c, d, h: c.run("true", cwd=f"{d}/no"),
    "run in a login shell": lambda c, d, h: c.run("echo out", login_shell=True),
    "run_many": lambda c, d, h: c.run_many(["echo 1", "exit 2"], concurrency=1),
    "popen": lambda c, d, h: _popen(c),
    "popen of a file": lambda c, d, h: _stream(c, d),
}
# Their answer may be empty, or what they ask the host for is none of it.
_MAY_SUCCEED_WITHOUT_AN_ANSWER = {name for name in CALLS if name.startswith(("run", "popen"))}


def prepare(directory: Path) -> None:
    """What the calls work on, there and here."""
    for side in ("there", "here"):
        top = directory / side
        shutil.rmtree(top, ignore_errors=True)
        (top / "tree" / "sub").mkdir(parents=True)
        (top / "empty").mkdir()
        (top / "file").write_bytes(b"content 12345\n")
        (top / "large").write_bytes(bytes(range(256)) * 400)
        (top / "tree" / "one").write_bytes(b"1" * 2000)
        (top / "tree" / "sub" / "two").write_bytes(b"2" * 20)
        (top / "link").symlink_to("file")
    (directory / "here" / "tree" / "one").write_bytes(b"another")


def play(call: str, lie: str, seed: int, directory: Path) -> str | None:
    """One call against one lie: what is wrong with what came of it, or ``None``."""
    prepare(directory)
    random = Random(f"{call} {lie} {seed}")

    def work() -> Any:
        with lying(directory / "there", LIES[lie], random) as c:
            return CALLS[call](c, str(directory / "there"), directory / "here")

    fails = call in ("stat of nothing", "run in no directory")
    needs_answer = call not in _MAY_SUCCEED_WITHOUT_AN_ANSWER
    return judged(work, lie, fails=fails, needs_answer=needs_answer)


def judged(
    work: Callable[[], Any], lie: str, *, fails: bool = False, needs_answer: bool = False
) -> str | None:
    """What is wrong with what comes of a call; ``fails``: it has to fail with the truth, too."""
    try:
        found = work()
    except OpenSSHJobsError as error:
        if lie == "truth" and not fails:
            return f"{type(error).__name__}: {error}"
        return None if str(error) and str(error).isprintable() else f"unprintable: {error!r}"
    except OSError as error:
        # Of this machine: a file here.
        return None if error.errno is not None and lie != "truth" else repr(error)
    except Exception as error:  # noqa: BLE001 - whatever it is: that is the finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {error}"
    if lie == "empty" and needs_answer:
        return f"a success made of an empty answer: {found!r}"[:300]
    return None


def main(
    seconds: int,
    folder: Path,
    name: str = "hosts",
    calls: Iterable[str] = CALLS,
    lies: Iterable[str] = LIES,
    play: Callable[[str, str, int, Path], str | None] = play,
    longest: float = LONGEST,
) -> int:
    """Play until the time is over; the count of findings, of which each kind is printed once.

    Every call meets every lie once before one of them meets it again.
    """
    random = Random(time.time_ns())
    until = time.monotonic() + seconds
    calls, lies = list(calls), list(lies)
    pairs = list(itertools.product(calls, lies))
    deck: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    played = 0
    slowest = (0.0, "")
    while time.monotonic() < until:
        if not deck:
            deck = random.sample(pairs, len(pairs))
        call, lie = deck.pop()
        seed = random.randrange(1 << 30)
        begun = time.monotonic()
        problem = play(call, lie, seed, folder / name)
        took = time.monotonic() - begun
        slowest = max(slowest, (took, f"{call} / {lie} / {seed}"))
        if problem is None and took > longest:
            problem = f"hangs: {took:.0f} s"
        played += 1
        if problem is not None and (call, problem.split(":")[0]) not in seen:
            seen.add((call, problem.split(":")[0]))
            (folder / f"crash-{name}-{len(seen)}").write_text(f"{call}\n{lie}\n{seed}\n{problem}\n")
            print(f"Error: {call} / {lie} / {seed}: {problem}", flush=True)
        if played % 100 == 0:
            print(f"{played} played, {len(seen)} findings", flush=True)
    print(f"{len(calls)} calls, {len(lies)} lies, {len(pairs)} pairs", flush=True)
    print(f"longest: {slowest[0]:.1f} s, {slowest[1]}", flush=True)
    print(f"stat::number_of_executed_units: {played}", flush=True)
    return len(seen)

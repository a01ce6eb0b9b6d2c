"""One trial: something is under way, a fault is made, and everything that follows is looked at."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import ConnectionLost, OpenSSHJobsError
from tests.faults.table import Fault, World
from tests.lab import leaks
from tests.lab.site import Site

TRANSFERS = ("get", "put", "sftp-get", "sftp-put", "tree")
FLIGHTS = ("command", "shell", *TRANSFERS, "nothing")
# Keepalives that notice a dead link in about 3 s, so that a trial does not take a minute.
QUICK = {"ServerAliveInterval": "1", "ServerAliveCountMax": "2"}
_BIG = 300 << 20
_PATIENCE = 90.0


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    fault: str
    flight: str
    route: str
    backend: str
    result: str = ""
    recovered: float = 0.0
    logins: int = 0
    trouble: str = ""

    def line(self) -> str:
        """One row of the report."""
        where = f"{self.route}/{self.backend}"
        verdict = self.trouble or "ok"
        return (
            f"{self.fault:34} {self.flight:8} {where:15} {self.result:28} "
            f"{self.recovered:6.1f} s {self.logins:3d}  {verdict}"
        )


HEADER = (
    f"{'FAULT':34} {'FLIGHT':8} {'WAY':15} {'WHAT CAME BACK':28} {'NEXT':>8} {'LOGINS':>5}  VERDICT"
)


class _InFlight(threading.Thread):
    """A call in a thread of its own, with how it ended."""

    def __init__(self, work: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: str | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - judged by the caller
            self.error = error


def run_trial(
    site: Site, fault: Fault, flight: str, route: str, backend: str, directory: Path
) -> Outcome:
    """Make one fault under one kind of call; the outcome says what was wrong, if anything."""
    outcome = Outcome(fault.name, flight, route, backend)
    host = site.host(route)
    runtime = directory / "r"
    runtime.mkdir(mode=0o700, parents=True)
    before = host.logins()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENSSH_JOBS_RUNTIME_DIR", str(runtime))
        patch.setattr("openssh_jobs.transport.sessions.WATCH_INTERVAL", 1.0)
        connection = Connection(
            host.alias,
            ssh_config=host.config,
            ssh_options=QUICK,
            exec_backend=backend,  # type: ignore[arg-type]
            connect_timeout=10,
            # Short, because a master without a socket ends by itself; but not so short that one
            # ends while an outage is waited for.
            persist=20 if fault.lost and fault.lasts else 2,
        )
        try:
            _go(connection, site, fault, flight, outcome, directory, runtime)
        finally:
            connection.close(stop_master=True)
    outcome.logins = host.logins() - before
    if not outcome.trouble and outcome.logins != 1 + fault.logins:
        outcome.trouble = f"{1 + fault.logins} logins were meant"
    left = leaks.wait_for_processes(directory, named_only=True)
    if not outcome.trouble and left:
        outcome.trouble = f"left running: {left[0][:60]}"
    return outcome


def _go(
    connection: Connection,
    site: Site,
    fault: Fault,
    flight: str,
    outcome: Outcome,
    directory: Path,
    runtime: Path,
) -> None:
    host = site.host(outcome.route)
    connection.open()
    connection.run("true")
    connection.exists("/")
    link = connection._master.find()
    assert link is not None
    world = World(connection, site, host, runtime, link.pid, Path(link.path))
    call = _InFlight(_work(connection, flight, directory, world))
    call.start()
    time.sleep(0.3)
    fault.make(world)
    began = time.monotonic()
    mender = threading.Timer(fault.lasts, lambda: fault.mend and fault.mend(world))
    mender.start()
    try:
        call.join(_PATIENCE)
        if call.is_alive():
            outcome.trouble = f"the call did not end within {_PATIENCE:.0f} s"
            os.kill(world.master, 9)
            call.join(20)
            return
        _judge(call, fault, outcome)
        outcome.recovered = _next_answer(connection, began, outcome)
    finally:
        mender.join()
    if flight in TRANSFERS:
        _look_for_debris(connection, directory, host.home, outcome)


def _work(connection: Connection, flight: str, directory: Path, world: World) -> Callable[[], str]:
    big = f"{world.host.home}/fault-big"
    if flight in TRANSFERS and not connection.exists(big):
        connection.run(f"head -c {_BIG} /dev/zero > {big}", check=True)
    here = directory / "big"
    if flight in ("put", "sftp-put"):
        with open(here, "wb") as handle:
            handle.truncate(_BIG)
    if flight == "tree":
        (directory / "tree").mkdir()
        # Not a hole: that would travel at once.
        with open(directory / "tree" / "big", "wb") as handle:
            for _ in range(_BIG >> 20):
                handle.write(bytes(1 << 20))
    target = f"{world.host.home}/fault-{directory.name}"
    works: dict[str, Callable[[], str]] = {
        "command": lambda: connection.run("sleep 2; echo whole").stdout.strip(),
        "shell": lambda: connection._shell.call(b"sleep 2; echo whole").stdout.decode().strip(),
        "get": lambda: _size(connection.get(big, directory / "got").bytes),
        "put": lambda: _size(connection.put(here, target).bytes),
        "sftp-get": lambda: _size(connection.get(big, directory / "got", method="sftp").bytes),
        "sftp-put": lambda: _size(connection.put(here, target, method="sftp").bytes),
        "tree": lambda: _size(connection.put(directory / "tree", target + "-tree").bytes),
        "nothing": lambda: "whole",
    }
    return works[flight]


def _size(count: int) -> str:
    return "whole" if count == _BIG else f"{count} bytes"


def _judge(call: _InFlight, fault: Fault, outcome: Outcome) -> None:
    error = call.error
    if error is None:
        outcome.result = call.result or "nothing"
        if call.result != "whole":
            outcome.trouble = "a result that is not whole"
        elif not fault.whole and outcome.flight in ("command", "shell"):
            outcome.trouble = "it cannot have ended well"
        return
    sent = getattr(error, "sent", "?")
    outcome.result = f"{type(error).__name__} sent={sent}"
    if not isinstance(error, OpenSSHJobsError):
        outcome.trouble = f"a strange error: {error!r}"[:120]
    elif not fault.lost:
        outcome.trouble = f"it should have survived: {error}"[:120]
    elif outcome.flight in ("command", "shell") and not isinstance(error, ConnectionLost):
        outcome.trouble = f"not ConnectionLost: {error}"[:120]
    elif outcome.flight == "command" and sent == "no":
        outcome.trouble = "it says that nothing was sent"


def _next_answer(connection: Connection, began: float, outcome: Outcome) -> float:
    """Seconds from the fault to the next good answer."""
    last: BaseException | None = None
    while time.monotonic() - began < _PATIENCE:
        try:
            if connection.run("echo next", timeout=30).stdout == "next\n":
                return time.monotonic() - began
        except OpenSSHJobsError as error:
            last = error
        time.sleep(1.0)  # no storm: the budget of dials is part of what is tried
    outcome.trouble = outcome.trouble or f"no good answer any more: {last}"[:160]
    return time.monotonic() - began


def _look_for_debris(connection: Connection, directory: Path, home: Path, outcome: Outcome) -> None:
    names = [name for name in os.listdir(directory) if name.startswith(".oj-")]
    names += [name for name in connection.listdir(str(home)) if name.startswith(".oj-")]
    if names and not outcome.trouble:
        outcome.trouble = f"debris: {names[0]}"
    for name in connection.listdir(str(home)):
        if name.startswith((".oj-", f"fault-{directory.name}")):
            connection.run(["rm", "-rf", "--", f"{home}/{name}"])
    got = directory / "got"
    if got.exists() and got.stat().st_size != _BIG and not outcome.trouble:
        outcome.trouble = "a file that is not whole"

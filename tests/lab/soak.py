"""``scripts/lab soak``: processes submit and wait for a long time while the host has its troubles.

Links are cut at the server, the cable is out for some seconds, Slurm's controller restarts.  There
may be one login, and one more for each link that was lost; memory and descriptors stay as they are.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab import namespaces
from tests.lab.poll import sessions, site_with_slurm
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab
from tests.paths import CHECKOUT

_BETWEEN = 75.0
"""Seconds between two troubles."""


def soak(minutes: float, number: int) -> int:
    """Run it; 1 where the logins do not add up."""
    with site_with_slurm(cpus=8, remembers=120) as (site, slurm):
        host = site.host("direct")
        host.make_directory("soak")
        directory = namespaces.LAB / "soak"
        directory.mkdir()
        # A link that is lost every few minutes is more than an hour's budget of logins.
        settings = Path(namespaces.LAB / "me" / "servers.toml")
        settings.write_text(f"[servers.{host.alias}]\ndials_per_hour = 1000\n")
        began = time.time()
        processes = _start(host, directory, number, began + 60 * minutes)
        try:
            lost, words = _trouble(site, slurm, host, began + 60 * minutes)
            for process in processes:
                process.wait(1500)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)
        return _report(directory, host, number, time.time() - began, lost, words)


def _start(host: Host, directory: Path, number: int, until: float) -> list[subprocess.Popen[bytes]]:
    facts = {
        "alias": host.alias,
        "config": str(host.config),
        "journal": str(directory / "state" / "journal.sqlite"),
        "interval": None,
        "jobs": 3,
        "until": until,
    }
    started = []
    for one in range(number):
        with (
            (directory / f"{one}.out").open("wb") as out,
            (directory / f"{one}.err").open("wb") as err,
        ):
            command = [sys.executable, "-m", "tests.lab.poll_worker", "again", json.dumps(facts)]
            started.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=CHECKOUT
                )
            )
    return started


def _trouble(site: Site, slurm: SlurmLab, host: Host, until: float) -> tuple[int, dict[str, int]]:
    """Make trouble until then; how many links were lost, and how often what was done."""
    lost = 0
    words = {"links cut": 0, "cable out for 5 s": 0, "controller restarted": 0}
    for what in itertools.cycle(words):
        if time.time() + _BETWEEN > until:
            return lost, words
        time.sleep(_BETWEEN)
        if what == "links cut":
            lost += bool(host.server.kill_sessions())
        elif what == "controller restarted":
            slurm.controller.stop()
            time.sleep(5)
            slurm.controller.start()
            slurm.wait_until_ready(120)
        else:
            assert site.network is not None
            site.network.direct_cable.cut()
            time.sleep(5)
            site.network.direct_cable.mend()
        words[what] += 1
        print(f"{time.strftime('%H:%M:%S')} {what}; {host.logins()} logins so far", flush=True)
    raise AssertionError("unreachable")


def _report(
    directory: Path, host: Host, number: int, took: float, lost: int, words: dict[str, int]
) -> int:
    logins = host.logins()
    print(f"{took / 60:.1f} minutes, {number} processes; {words}")
    print(f"logins {logins}, meant 1 + {lost}")
    print(f"commands of all kinds (sshd) {sessions(host)}")
    bad = logins != 1 + lost
    total = 0
    for one in range(number):
        rounds: list[dict[str, Any]] = [
            json.loads(line) for line in (directory / f"{one}.out").read_text().splitlines()
        ]
        if not rounds:
            print(f"process {one}: no round: {(directory / f'{one}.err').read_text()[-500:]}")
            bad = True
            continue
        warm, last = rounds[min(2, len(rounds) - 1)], rounds[-1]
        total += last["done"]
        states = sorted({state for figures in rounds for state in figures["states"]})
        print(
            f"process {one}: {last['done']} jobs {states}, {last['errors']} errors, "
            f"{last['queries']} queries, memory {warm['memory']} -> {last['memory']} kB, "
            f"descriptors {warm['descriptors']} -> {last['descriptors']}"
        )
        errors = (directory / f"{one}.err").read_text().splitlines()
        for line in dict.fromkeys(line[:150] for line in errors):
            print(f"    {line}")
    print(f"{total} jobs")
    return 1 if bad else 0

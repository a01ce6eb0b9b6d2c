"""Submit with something happening each time, and count the jobs:  scripts/lab once [--count N]

``--count``: submissions, at least (300).  ``--only WORD``: the faults whose names hold it.
``--no-loop``: leave out the plain loop of ssh and sbatch.  Needs root.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.lab import namespaces
from tests.once.wave import FAULTS, Fault, Result, Wave, remove
from tests.once.world import CLOCKS, LIMIT, MESSAGE_TIMEOUT, MIN_JOB_AGE, World

_COLUMNS = (
    ("submissions", "SUBMITTED"), ("doubled", "DOUBLED"), ("lost", "LOST"),
    ("misreported", "MISREPORTED"), ("files", "BY FILES"), ("token", "BY TOKEN"),
    ("resubmitted", "RESUBMITTED"), ("unknown", "UNKNOWN"),
)  # fmt: skip
_LOOP = ("submissions", "doubled", "lost", "misreported")


def main() -> int:
    """All of it; 1 where a job is doubled, lost or misreported, or unknown without need."""
    parser = argparse.ArgumentParser(prog="scripts/lab once", description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-loop", action="store_true")
    asked = parser.parse_args()
    if not namespaces.inside():
        print("run it by scripts/lab once, as root", file=sys.stderr)
        return 2
    faults = [fault for fault in FAULTS if asked.only in fault.name]
    results = {fault.name: Result() for fault in faults}
    loops = {fault.name: Result() for fault in faults}
    began = time.monotonic()
    world = World(namespaces.LAB / "o")
    number = 0
    try:
        rounds = max(1, -(-asked.count // (len(faults) * 2 * 2 * _size(asked.count, faults))))
        size = _size(asked.count, faults)
        for accounting in (False, True):
            world.make_slurm(accounting=accounting).start()
            for turn in range(rounds):
                for place, fault in enumerate(faults):
                    number += 1
                    # Without an accounting jobs write who they are, but for every other time.
                    record = "auto" if (turn + place) % 2 == 0 and not fault.old else False
                    result = _wave(world, fault, number, size, plain=False, record=record)
                    _judge(result, fault, accounting=accounting)
                    results[fault.name].add(result)
                    if not asked.no_loop and not accounting and turn == 0:
                        number += 1
                        result = _wave(world, fault, number, size, plain=True, record=False)
                        loops[fault.name].add(result)
            world.stop_slurm()
    finally:
        world.stop()
    return _report(results, loops, time.monotonic() - began)


def _size(count: int, faults: list[Fault]) -> int:
    """Submissions of each account in a wave."""
    return max(1, min(7, -(-count // (len(faults) * 4))))


def _wave(
    world: World, fault: Fault, number: int, size: int, *, plain: bool, record: object
) -> Result:
    wave = Wave(world, fault, number, size, plain=plain, record=record)
    begun = time.monotonic()
    result = wave.run()
    seen = {key: value for key, value in result.counts.items() if value}
    what = "loop" if plain else "ours"
    print(
        f"{number:3d} {fault.name} ({what}, {time.monotonic() - begun:.0f} s): {seen}", flush=True
    )
    for trouble in result.troubles:
        print(f"    {trouble}", flush=True)
    remove(wave)
    return result


def _judge(result: Result, fault: Fault, *, accounting: bool) -> None:
    allowed = fault.old and not accounting
    if result.counts["unknown"] and not allowed:
        result.counts["needless"] += result.counts["unknown"]


def _report(results: dict[str, Result], loops: dict[str, Result], seconds: float) -> int:
    print(
        f"\nMessageTimeout {MESSAGE_TIMEOUT} s, MinJobAge {MIN_JOB_AGE} s, deadline of an attempt "
        f"{LIMIT:.0f} s (+ {CLOCKS:.0f} s from another node), {seconds / 60:.0f} minutes"
    )
    titles = "".join(f"{title:>13}" for _, title in _COLUMNS)
    print(f"{'FAULT':42}{titles}   | LOOP: SUBMITTED DOUBLED LOST MISREPORTED")
    total, total_loop = Result(), Result()
    for name, result in results.items():
        print(_line(name, result, loops[name]))
        total.add(result)
        total_loop.add(loops[name])
    print(_line("all", total, total_loop))
    counts = total.counts
    bad = counts["doubled"] + counts["lost"] + counts["misreported"] + counts["needless"]
    print(f"unknown although accounting or queue could tell: {counts['needless']}")
    return 1 if bad else 0


def _line(name: str, ours: Result, loop: Result) -> str:
    cells = "".join(f"{ours.counts[key]:13d}" for key, _ in _COLUMNS)
    return f"{name:42}{cells}   | " + " ".join(f"{loop.counts[key]:9d}" for key in _LOOP)


if __name__ == "__main__":
    raise SystemExit(main())

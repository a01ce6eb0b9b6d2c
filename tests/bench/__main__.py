"""Speed as ratios against what users would pick instead, measured side by side in one run.

    scripts/bench [--quick] [ROW ...]

Absolute times on a shared machine mean nothing; each ratio is the median of pairs that were taken
one after the other, A B A B.  The server is a private sshd on loopback; rows at a round trip of
40 ms go through a proxy that adds 20 ms each way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from openssh_jobs.testing.sshd import PrivateSshd
from tests.bench import peers, rows
from tests.bench.bench import Bench, Comparison


class Row(NamedTuple):
    """One measured comparison: ours against a peer, and the goal for the ratio."""

    name: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    goal: str
    met: bool | None


def main() -> int:
    """Run the rows asked for and print the table; 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(rows.ALL))
    parser.add_argument("--quick", action="store_true", help="a third of the repetitions")
    asked = parser.parse_args()
    unknown = set(asked.rows) - rows.ALL.keys()
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = Path(tempfile.mkdtemp(prefix="oj-bench-", dir=base))
    os.environ["OPENSSH_JOBS_RUNTIME_DIR"] = str(directory / "rt")
    os.environ["XDG_STATE_HOME"] = str(directory / "state")
    measured: list[Row] = []
    try:
        with (
            PrivateSshd(
                directory / "sshd",
                private_home=False,
                # No rc files: they would be most of what is measured.
                config_extra=f"SetEnv HOME={directory}",
            ) as server,
            peers.SlowLink(server.address, server.port, 0.02) as slow,
        ):
            bench = Bench(server, slow, directory, 1 if asked.quick else 3)
            for name in asked.rows or rows.ALL:
                for one in rows.ALL[name](bench):
                    row = _row(name, one)
                    measured.append(row)
                    _show(row)
            bench.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    missed = [row for row in measured if row.met is False]
    print(f"{len(measured)} rows, {len(missed)} goals missed")
    return 1 if missed else 0


def _row(name: str, one: Comparison) -> Row:
    ratio = statistics.median(a / b for a, b in zip(one.ours, one.theirs, strict=True))
    met = None if one.most is None else ratio <= one.most
    goal = "" if one.most is None else f"at most {one.most:g}"
    return Row(
        f"{name}{': ' + one.what if one.what else ''}",
        one.peer,
        statistics.median(one.ours),
        statistics.median(one.theirs),
        ratio,
        goal,
        met,
    )


def _show(row: Row) -> None:
    verdict = {None: "", True: "met", False: "MISSED"}[row.met]
    print(
        f"{row.name:44} {row.ours * 1e3:10.2f} {row.theirs * 1e3:10.2f} ms  "
        f"{row.ratio:6.3f} x {row.peer:22} {row.goal:14} {verdict}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())

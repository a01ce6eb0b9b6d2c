"""Make every fault for real and print what came of it:  scripts/faults [WORD ...]

A row is chosen where every WORD is part of it (``scripts/faults master command mux``).  Needs
root, for cables that can be cut.
"""

from __future__ import annotations

import itertools
import shutil
import sys

from tests.faults.table import FAULTS
from tests.faults.trial import FLIGHTS, HEADER, run_trial
from tests.lab import namespaces
from tests.lab.site import Site


def main() -> int:
    """All rows; 1 where one of them has trouble."""
    reason = None if namespaces.inside() else "run it by scripts/faults, as root"
    if reason:
        print(reason, file=sys.stderr)
        return 2
    wanted = sys.argv[1:]
    site = Site(namespaces.LAB / "s")
    bad = count = 0
    try:
        site.start()
        print(HEADER)
        for fault, flight, backend in itertools.product(FAULTS, FLIGHTS, ("mux", "process")):
            for route in fault.routes:
                row = f"{fault.name} {flight} {route} {backend}"
                if not all(word in row for word in wanted):
                    continue
                count += 1
                directory = namespaces.LAB / f"f{count}"
                outcome = run_trial(site, fault, flight, route, backend, directory)
                bad += bool(outcome.trouble)
                print(outcome.line(), flush=True)
                shutil.rmtree(directory, ignore_errors=True)
    finally:
        site.stop()
    print(f"{count} trials, {bad} with trouble")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())

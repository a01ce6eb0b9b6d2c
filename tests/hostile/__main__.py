"""Meet every hostile host and print what came of it:  scripts/faults hostile [WORD ...]

A variant is chosen where every WORD is part of its row (``scripts/faults hostile sftp link``).
Needs root, for hosts that have files of the same names as this machine.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from tests.helpers import tar_in
from tests.hostile.host import Hostile
from tests.hostile.trial import play
from tests.hostile.variants import METHODS, variants
from tests.lab import namespaces


def main() -> int:
    """All variants; 1 where one of them had an effect outside of its target, or other trouble."""
    if not namespaces.inside():
        print("run it by scripts/faults hostile, as root", file=sys.stderr)
        return 2
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    loud = "-v" in sys.argv
    directory = namespaces.LAB / "hostile"
    directory.mkdir()
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "OPENSSH_JOBS_RUNTIME_DIR"):
        os.environ[variable] = str(directory / variable[:12])
        Path(os.environ[variable]).mkdir(mode=0o700, exist_ok=True)
    tars = {name: Path(tar_in(directory / name, name)) for name in ("busybox", "bsdtar")}
    host = Hostile(directory)
    counts: Counter[str] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    host.start()
    try:
        for method in METHODS:
            for variant in variants(method):
                row = f"{method} {variant.kind} {variant.name}"
                if not all(word in row for word in wanted):
                    continue
                outcome = play(host, variant, tars)
                counts[method] += 1
                counts[f"{method} outside"] += bool(outcome.outside)
                counts[f"{method} trouble"] += bool(outcome.trouble)
                kinds[method, variant.kind] += bool(outcome.outside)
                if loud or outcome.outside or outcome.trouble:
                    print(f"{variant.kind:18}", outcome.line(), flush=True)
    finally:
        with host.connection() as connection:
            connection.close(stop_master=True)
        host.stop()
    for (way, kind), number in sorted(kinds.items()):
        print(f"{way:6} {kind:30} {number} outside")
    for method in METHODS:
        print(
            f"{method:6} {counts[method]:4} variants, {counts[f'{method} outside']} with an effect "
            f"outside of the target, {counts[f'{method} trouble']} with other trouble"
        )
    return 1 if any(counts[f"{m} {w}"] for m in METHODS for w in ("outside", "trouble")) else 0


if __name__ == "__main__":
    raise SystemExit(main())

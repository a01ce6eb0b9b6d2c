"""Meet every hostile host and print what came of it:  scripts/faults hostile [WORD ...]

A variant is chosen where every WORD is part of its row (``scripts/faults hostile sftp link``).
Every hundred variants a line says how far it is; each one with an effect is printed at once.
Needs root, for hosts that have files of the same names as this machine.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import tar_in
from tests.hostile.host import Hostile
from tests.hostile.trial import EFFECTS, Outcome, play
from tests.hostile.variants import METHODS, Variant, variants
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
    kinds: Counter[str] = Counter()
    tallies = {method: Tally(method) for method in METHODS}
    host.start()
    try:
        for method, tally in tallies.items():
            chosen = [one for one in variants(method) if all(word in row(one) for word in wanted)]
            for number, variant in enumerate(chosen, 1):
                outcome = play(host, variant, tars)
                tally.add(outcome)
                kinds[variant.kind] += bool(outcome.outside)
                if loud or outcome.outside or outcome.trouble:
                    print(f"{variant.kind:18}", outcome.line(), flush=True)
                if number % 100 == 0 and number < len(chosen):
                    print(f"{tally}; {len(chosen) - number} to come", flush=True)
            for kind, affected in sorted(kinds.items()):
                print(f"{method:6} {kind:30} {affected} outside")
            kinds.clear()
            if chosen:
                print(tally, flush=True)
    finally:
        with host.connection() as connection:
            connection.close(stop_master=True)
        host.stop()
    return 1 if any(tally.outside or tally.trouble for tally in tallies.values()) else 0


def row(variant: Variant) -> str:
    """What the words of the command line are looked for in."""
    return f"{variant.method} {variant.kind} {variant.name}"


@dataclass(slots=True)
class Tally:
    """What came of the variants of one method so far."""

    method: str
    outside: int = 0
    trouble: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    harmless: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.outside += bool(outcome.outside)
        self.trouble += bool(outcome.trouble)
        self.effects.update(one.partition(":")[0] for one in outcome.outside)
        if outcome.result == "went through":
            self.harmless += 1
        else:
            self.errors[outcome.result.partition(":")[0]] += 1

    def __str__(self) -> str:
        number = self.harmless + self.errors.total()
        effects = ", ".join(f"{self.effects[word]} {word}" for word in EFFECTS)
        errors = ", ".join(f"{count} {name}" for name, count in self.errors.most_common())
        return (
            f"{self.method:6} {number:4} variants, {self.outside} with an effect outside of the "
            f"target (canaries: {effects}), {self.trouble} with other trouble; "
            f"{self.harmless} went through without harm, {self.errors.total()} refused ({errors})"
        )


if __name__ == "__main__":
    raise SystemExit(main())

"""One variant played: what it did to the ground, to the target, and how the call ended."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from openssh_jobs.errors import OpenSSHJobsError
from tests.hostile.host import Hostile, forget_reads, lay, lay_target, look, was_read
from tests.hostile.variants import Variant

LONG = 10_000
"""Characters of an error above which it is a burden."""
_OURS = re.compile(r"/proc/\d+/fd/")
EFFECTS = ("created", "changed", "removed", "read")
"""What may happen to a file around the target."""


@dataclass(slots=True)
class Outcome:
    """``outside``: what happened around the target; ``trouble``: what else was wrong."""

    variant: Variant
    result: str = ""
    outside: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One row of the report."""
        said = "; ".join([*self.outside, *self.trouble]) or "ok"
        return f"{self.variant.method:6} {self.variant.name:60} {self.result[:90]:90}  {said}"


def _with_attributes(top: Path) -> list[Path]:
    """What has ACLs or other attributes, which no transfer asks for."""
    return [path for path in top.rglob("*") if not path.is_symlink() and os.listxattr(path)]


def _is_kept(name: str, error: Exception) -> bool:
    """Whether it is a part that an error names as kept for ``resume=True``."""
    return name.endswith(".part") and f"{name}'" in str(error)


class _Before(NamedTuple):
    ground: dict[str, tuple[object, ...]]
    target: dict[str, tuple[object, ...]]


def play(host: Hostile, variant: Variant, tars: dict[str, Path]) -> Outcome:
    """Play a variant; ``tars`` are directories that hold another tar of this machine."""
    outcome = Outcome(variant)
    lay(host.ground, b"MINE")
    target = host.ground / "in" / "t"
    if variant.exists:
        lay_target(host.ground)
    host.plant(dict(variant.twisted))
    host.say(dict(variant.tools), variant.home and variant.home.format(ground=host.ground))
    before = _Before(look(host.ground, target), look(target))
    forget_reads(host.ground)
    path = os.environ["PATH"]
    if variant.tar in tars:
        os.environ["PATH"] = f"{tars[variant.tar]}:{path}"
    try:
        with host.connection() as connection:
            outcome.result = variant.call(connection, host.ground) or "went through"
    except (OpenSSHJobsError, OSError) as error:
        outcome.result = f"{type(error).__name__}: {error}".replace(str(host.ground), "…")
        kept = {name: facts for name, facts in look(target).items() if not _is_kept(name, error)}
        if kept != before.target:
            outcome.trouble.append("an error, and the target is not as it was")
    except Exception as error:  # noqa: BLE001 - what no caller expects is a finding
        outcome.result = f"{type(error).__name__}: {error}"
        outcome.trouble.append("an error of no type of ours")
    finally:
        os.environ["PATH"] = path
    if len(outcome.result) > LONG or _OURS.search(outcome.result):
        outcome.trouble.append("an error that is long, or about a path that nobody asked for")
    outcome.trouble += [f"attributes: {path.name}" for path in _with_attributes(target)]
    outcome.outside += [f"read: {name}" for name in was_read(host.ground, target)]
    after = look(host.ground, target)
    for name in sorted(before.ground.keys() | after.keys()):
        one, two = before.ground.get(name), after.get(name)
        if one != two:
            word = "created" if one is None else "removed" if two is None else "changed"
            outcome.outside.append(f"{word}: {name}")
    return outcome

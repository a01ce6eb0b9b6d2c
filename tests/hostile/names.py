"""Names that lead elsewhere, however they are spelled."""

from __future__ import annotations

# Where a name may lead: over a canary, or beside one.
PLACES = ("../canary", "../new", "../../out/secret", "../../top", "../.ssh/authorized_keys")
SPELLINGS = {
    "dotdot": "./{0}",
    "bare": "{0}",
    "inside": "./sub/../{0}",
    "through a dot": "./sub/./../{0}",
    "two slashes": "./sub//../{0}",
    "through a file": "./good/../{0}",
    "through a link": "./link/../{0}",
}

"""What doctor says of a scheduler whose commands are there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from openssh_jobs.cli.doctor import _schedulers

MARK = "0b9aaaf61789363528791"


def framed(*sections: tuple[str, str, int]) -> str:
    parts = "".join(
        f"OJ:{MARK} begin {name}\n{text}\nOJ:{MARK} end {name} {code}\n"
        for name, text, code in sections
    )
    return f"OJ+{MARK}\n{parts}OJ-{MARK}\n"


def said_of(listing: str, stderr: str) -> list[Any]:
    """``listing``: the answer of a real OpenPBS to the query of the own queue."""

    def run(script: str, **_: object) -> SimpleNamespace:
        is_probe = "begin pbs" in script
        out = framed(("pbs", "pbs_version = 23.06.06\n", 0)) if is_probe else listing
        return SimpleNamespace(stdout=out, stderr="" if is_probe else stderr, returncode=0)

    connection: Any = SimpleNamespace(internal=SimpleNamespace(run=run))
    return list(_schedulers(connection))


@pytest.mark.parametrize(
    ("code", "stderr", "works"),
    [
        (0, "", True),
        (162, "Connection refused\nqselect: cannot connect to server pbs1 (errno=15010)\n", False),
    ],
)
def test_a_scheduler_whose_server_is_down_is_not_well(code: int, stderr: str, works: bool) -> None:
    (found,) = said_of(framed(("qselect-pbs", "\n", code)), stderr)
    assert "pbs_version = 23.06.06" in found.text
    assert ("cannot connect to server pbs1" in found.text) is not works
    assert (found.level == "ok") is works

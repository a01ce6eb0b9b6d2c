"""The script that asks Slurm how jobs ended, with commands that note what they are asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

from openssh_jobs.schedulers import get

IDS = [str(number) for number in range(1, 201)]


def asked_of_scontrol(directory: Path, sacct: str) -> list[str]:
    """The ids that scontrol was asked for; ``sacct``: what the accounting command does."""
    programs = {"sacct": sacct, "scontrol": f'for id; do :; done; echo "$id" >> {directory}/asked'}
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    script = get("slurm").history_script(IDS)
    assert script is not None
    subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    asked = directory / "asked"
    return asked.read_text().split() if asked.exists() else []


def test_few_jobs_are_asked_for_where_the_accounting_answers(tmp_path: Path) -> None:
    assert asked_of_scontrol(tmp_path, "exit 0") == IDS[:50]


def test_all_jobs_are_asked_for_where_it_does_not(tmp_path: Path) -> None:
    assert asked_of_scontrol(tmp_path, "exit 1") == IDS

"""``config --import-arc``: ARC's settings on stdout as servers.toml, and what was left out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from openssh_jobs.cli import main

GOOD = """\
servers = {'hpc': {'cluster_soft': 'Slurm', 'address': 'hpc.edu', 'un': 'me', 'queues': {'': ''}}}
check_status_command = {'Slurm': '/usr/bin/squeue -u $USER'}
"""


def test_the_settings_come_out_as_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "settings.py"
    path.write_text(GOOD)
    assert main(["config", "--import-arc", str(path)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert tomllib.loads(said.out) == {
        "servers": {"hpc": {"cluster_soft": "Slurm", "address": "hpc.edu", "un": "me",
                            "queues": {"": ""}}},
        "check_status_command": {"Slurm": "/usr/bin/squeue -u $USER"},
    }  # fmt: skip
    assert main(["config", "--import-arc", str(path), "--json"]) == 0
    assert '"left_out": []' in capsys.readouterr().out


def test_what_was_left_out_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.py"
    marker = tmp_path / "executed"
    path.write_text(f"{GOOD}servers['b'] = open({str(marker)!r}, 'w')\n")
    assert main(["config", "--import-arc", str(path)]) == 1
    said = capsys.readouterr()
    assert said.err == "line 3: servers['b'] is not a literal: left out\n"
    assert "hpc" in tomllib.loads(said.out)["servers"]
    assert not marker.exists()
    path.write_text("x = 1\n")
    assert main(["config", "--import-arc", str(path)]) == 1
    assert "none of ARC's tables" in capsys.readouterr().err


def test_files_that_are_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "settings.py"
    path.write_text("servers = {")
    for words, code, text in (
        ([str(path)], 2, "is not Python source"),
        ([str(tmp_path / "none")], 2, "No such file"),
        (["/dev/zero"], 2, "larger"),
        ([], 2, "import-arc"),
    ):
        assert main(["config", "--import-arc", *words]) == code, words
        assert text in capsys.readouterr().err

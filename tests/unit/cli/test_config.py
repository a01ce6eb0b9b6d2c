"""``config --import-arc``: ARC's settings on stdout as servers.toml, and what was left out."""

from __future__ import annotations

import json
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


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "servers.toml"
    path.write_text(
        '[defaults]\npoll_floor = 20\n[servers.hpc]\nqueue = "long"\noptions = ["--comment=a b"]\n'
    )
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_config_shows_path_values_and_where_each_comes_from(
    servers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["config", "hpc"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0] == str(servers)
    found = rows(said.out)
    assert found["queue"] == ["long", "line", "4"]
    assert found["poll_floor"] == ["20", "line", "2"]
    assert found["scheduler"] == ["auto", "default"]
    assert found["options"] == ['["--comment=a', 'b"]', "line", "5"]
    assert main(["config", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["settings"]["queue"] == {"value": None, "source": "default"}
    assert data["settings"]["poll_floor"] == {"value": 20, "source": f"{servers}:2"}
    assert (data["servers"], data["path"]) == (["hpc"], str(servers))
    servers.write_text("")
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", "60")
    assert main(["config"]) == 0
    assert rows(capsys.readouterr().out)["poll_floor"][:2] == ["60", "$OPENSSH_JOBS_POLL_INTERVAL"]
    monkeypatch.setenv("COLUMNS", "1")
    assert main(["config"]) == 0
    assert {"60", "$OPENSSH_JOBS_POLL_INTERVAL"} <= set(capsys.readouterr().out.split())


def test_what_is_wrong_in_it_is_an_error_of_each_command(
    servers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, says in (
        ("[servers.hpc]\nqueu = 1\n", f"{servers}:2: there is no setting 'queu' (did you mean"),
        ("[servers.hpc]\nscheduler = 'slrum'\n", f"{servers}:2: there is no scheduler 'slrum'"),
    ):
        servers.write_text(text)
        commands = [["config"], ["list"], ["login"]] if "queu" in text else [["config"]]
        for words in commands:
            assert main(words) == 2
            assert says in capsys.readouterr().err


def test_a_site_s_policy_is_shown_beside_the_settings(
    servers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = servers.parent / "site.toml"
    policy.write_text("poll_floor = 30\nwrong = 1\n")
    monkeypatch.setattr("openssh_jobs.site_policy.local_file", lambda: str(policy))
    assert main(["config", "hpc"]) == 0
    said = capsys.readouterr()
    assert "policy of the site" in said.out
    assert "poll_floor  30\n" in said.out
    assert "'wrong' is not a setting of a site" in said.err


def test_a_misspelt_host_is_named_by_the_settings_and_by_ssh(
    servers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = servers.parent / "config"
    config.write_text("Host hpc\n    HostName 127.0.0.1\nHost *\n    ConnectTimeout 1\n")
    assert main(["exec", "-F", str(config), "hpcc.invalid", "--", "true"]) == 3
    assert "Did you mean" not in capsys.readouterr().err, "not alike"
    assert main(["exec", "-F", str(config), "hpcc", "--", "true"]) == 3
    assert "Did you mean hpc? " in capsys.readouterr().err

"""Where settings lie, and what ``servers.toml`` may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssh_jobs import settings
from openssh_jobs.errors import ConfigurationError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))
    return path


def test_the_file_is_named_by_the_environment_or_the_config_directory(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.config_file() == str(config)
    monkeypatch.delenv("OPENSSH_JOBS_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "cfg"))
    assert settings.config_file() == str(tmp_path / "cfg" / "openssh_jobs" / "servers.toml")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert settings.state_directory() == str(tmp_path / "state" / "openssh_jobs")


def test_no_file_is_no_settings(config: Path) -> None:
    assert not config.exists()
    assert settings.read_config() == {}
    assert settings.servers() == {}
    assert settings.poll_floor("hpc") is None


def test_servers_and_their_poll_floor(config: Path) -> None:
    config.write_text(
        '[servers.hpc]\npoll_floor = 120\nprologue = "x"\n[servers."a.b"]\npoll_floor = 0.5\n'
    )
    assert settings.servers()["hpc"] == {"poll_floor": 120, "prologue": "x"}
    assert (settings.poll_floor("hpc"), settings.poll_floor("a.b")) == (120.0, 0.5)
    assert settings.poll_floor("other") is None


@pytest.mark.parametrize("value", ['"10"', "true", "-1", "[1]", "nan"])
def test_a_poll_floor_is_a_number_of_seconds(config: Path, value: str) -> None:
    config.write_text(f"[servers.hpc]\npoll_floor = {value}\n")
    with pytest.raises(ConfigurationError, match=r"poll_floor of hpc .* must be a number"):
        settings.poll_floor("hpc")


@pytest.mark.parametrize(
    "content", [b"servers = 3\n", b"[servers]\nhpc = 3\n", b"not toml", b"\xff\xfe = 1\n"]
)
def test_what_is_no_settings_file_is_said_so(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(config)):
        settings.servers()


def test_a_file_that_cannot_be_read_is_not_taken_for_none(config: Path) -> None:
    config.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        settings.read_config()


@pytest.mark.parametrize(("text", "floor"), [("30", 120.0), ("240.5", 240.5), ("", 120.0)])
def test_the_environment_can_raise_a_poll_floor(
    config: Path, monkeypatch: pytest.MonkeyPatch, text: str, floor: float
) -> None:
    config.write_text("[servers.hpc]\npoll_floor = 120\n")
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", text)
    assert settings.poll_floor("hpc") == floor
    assert settings.poll_floor("other") == (float(text) if text else None)


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf", "1e9"])
def test_a_poll_interval_in_the_environment_is_a_number_of_seconds(
    config: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("OPENSSH_JOBS_POLL_INTERVAL", text)
    with pytest.raises(ConfigurationError, match="OPENSSH_JOBS_POLL_INTERVAL must be a number"):
        settings.poll_floor("hpc")

"""Where settings lie, and what ``servers.toml`` may say."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from openssh_jobs import settings
from openssh_jobs.cluster.journal import Journal
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


def test_values_that_are_held_are_of_one_time(config: Path) -> None:
    config.write_text("[defaults]\nqueue = 'long'\n")
    with settings.held():
        config.write_text("[defaults]\nqueue = 'short'\n")
        assert settings.value("hpc", "queue") == "long"
    assert settings.value("hpc", "queue") == "short"


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


@pytest.mark.parametrize("kind", ["absent", "link that leads nowhere", "file"])
def test_a_home_that_does_not_exist_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    home = tmp_path / "home"
    if kind == "file":
        home.touch()
    elif kind != "absent":
        home.symlink_to("nowhere")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    before = sorted(tmp_path.rglob("*"))
    journal = Journal(Path(settings.state_directory()) / "journal.sqlite")
    with pytest.raises(ConfigurationError, match=f"{home} does not exist.*XDG_STATE_HOME"):
        journal.rows()
    journal.close()
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    elsewhere = Journal(Path(settings.state_directory()) / "journal.sqlite")
    assert list(elsewhere.rows()) == []
    elsewhere.close()


@pytest.mark.parametrize("end", ["", "/"])
def test_the_slash_behind_a_home_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("HOME", f"{tmp_path}/home{end}")
    with pytest.raises(ConfigurationError, match="does not exist"):
        settings.check_home(f"{tmp_path}/home/.local/state")


def test_a_user_without_an_account_and_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_account(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_account)
    settings.check_home("/somewhere")


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


TEXT = """\
[defaults]
poll_floor = 15
options = [
  "--nice",
]

[servers.hpc]
prologue = '''
module load x
'''
queue = "long"
[servers.named]
cluster_soft = "Slurm"
address = "login.example"
time_limit = "1:00:00"
share = 0.5
"""


def test_each_value_has_its_source(config: Path) -> None:
    config.write_text(TEXT)
    found = {name: (one.value, one.source) for name, one in settings.values("me@hpc").items()}
    assert found["poll_floor"] == (15, f"{config}:2")
    assert found["options"] == (["--nice"], f"{config}:3")
    assert found["prologue"] == ("module load x\n", f"{config}:8")
    assert found["queue"] == ("long", f"{config}:11")
    assert found["dials_per_hour"] == (20, "default")
    assert (settings.value("hpc", "queue"), settings.value("other", "queue")) == ("long", None)
    assert settings.value("other", "options") == ["--nice"]
    assert settings.server_of("login.example") == "named", "by its address"
    assert settings.value("login.example", "time_limit") == "1:00:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[servers.hpc]\n\nqueu = 'x'\n", r":3: there is no setting 'queu' \(did you mean queue\?"),
        ("[defaults]\nzzz = 1\n", r":2: there is no setting 'zzz'\. There are: scheduler, "),
        ("[default]\n", r":1: there is no table 'default' \(did you mean defaults\?\)"),
        ("[defaults]\naddress = 'x'\n", r":2: address belongs to a table \[servers.NAME\]"),
        ("[servers.hpc]\ncluster_soft = 'x'\npoll_flor = 1\n", r":3: .* mean poll_floor"),
        ("servers.hpc.queue = ''\n", r"queue of hpc in .*:1 must be one word, not ''"),
        ("[defaults]\nqueue = 'a b'\n", r"queue of defaults in .*:2 must be one word"),
        ("[defaults]\ntime_limit = '60'\n", r"time_limit of .*:2 must be HH:MM:SS or D-HH:MM:SS"),
        ("[defaults]\noptions = '-x'\n", r"options of .* must be a list of words, not '-x'"),
        ("[defaults]\nlogin_shell = 1\n", r"must be true or false, not 1"),
        ("[defaults]\ndata_host = '-oProxyCommand=x'\n", r"must be the name of a host"),
        ("[defaults]\nmax_array = 0\n", r"must be an integer >= 1"),
        ("[defaults]\nx = 'a'\nx = 'b'\n", r"cannot be read: .*line 3"),
        ("#" * (settings.MOST_BYTES + 1), r"more than \d+ bytes"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(config: Path, text: str, says: str) -> None:
    config.write_text(text)
    for call in (settings.check, lambda: settings.value("hpc", "queue"), settings.read_config):
        with pytest.raises(ConfigurationError, match=says):
            call()


def test_who_could_change_the_file_or_a_link_to_it_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    real = tmp_path / "real.toml"
    real.write_text("[defaults]\nqueue = 'x'\n")
    link = open_to_all / "servers.toml"
    link.symlink_to(real)
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(link))
    assert settings.value("hpc", "queue") == "x", "a link of one's own"
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigurationError, match=r"which others can write"):
        settings.check()
    open_to_all.chmod(0o755)
    real.chmod(0o666)
    with pytest.raises(ConfigurationError, match="others can write it"):
        settings.check()


def test_a_change_of_the_file_is_seen(config: Path) -> None:
    for name in ("a", "bb"):
        config.write_text(f"[defaults]\nqueue = '{name}'\n")
        assert settings.value("hpc", "queue") == name


def test_the_limit_of_transfers_is_in_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "servers.toml"
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(path))
    assert settings.transfer_limit("hpc") == 10 * 10**9
    for text, expected in (("0.5", 500_000_000), ("0", 0), ("2", 2 * 10**9)):
        path.write_text(f"[servers.hpc]\ntransfer_limit = {text}\n")
        path.chmod(0o600)
        assert settings.transfer_limit("hpc") == expected
    for text in ("-1", "true", '"2 GB"', "nan"):
        path.write_text(f"[servers.hpc]\ntransfer_limit = {text}\n")
        with pytest.raises(ConfigurationError, match="a number of GB"):
            settings.transfer_limit("hpc")

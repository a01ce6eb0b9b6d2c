"""Where sockets lie: private, short, found again."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.errors import ConfigurationError
from openssh_jobs.openssh import login, masters, pid_file, runtime_directory, ssh_config
from openssh_jobs.openssh.destination import Destination
from tests.helpers import until


@pytest.fixture
def base(cold: Path) -> Path:
    """A short private directory."""
    return cold.parent


def use(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> None:
    monkeypatch.setenv("OPENSSH_JOBS_RUNTIME_DIR", str(path))


def test_a_directory_is_made_for_us_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, base / "new")
    old = os.umask(0)
    try:
        assert runtime_directory.prepare_directory() == str(base / "new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((base / "new").stat().st_mode) == 0o700
    assert runtime_directory.prepare_directory() == str(base / "new")


def test_what_others_could_reach_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "open").mkdir(mode=0o755)
    (base / "private").mkdir(mode=0o700)
    (base / "link").symlink_to("private")
    (base / "file").touch()
    for name, problem in (("open", "open to others"), ("link", "a link"), ("file", "not a dir")):
        use(monkeypatch, base / name)
        with pytest.raises(ConfigurationError, match=problem) as caught:
            runtime_directory.prepare_directory()
        assert name in str(caught.value)
        assert "OPENSSH_JOBS_RUNTIME_DIR" in str(caught.value)
    if os.geteuid() == 0:
        (base / "theirs").mkdir(mode=0o700)
        os.chown(base / "theirs", 12345, 12345)
        use(monkeypatch, base / "theirs")
        with pytest.raises(ConfigurationError, match="belongs to user 12345"):
            runtime_directory.prepare_directory()


def test_nothing_is_made_below_what_others_can_change(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "open").mkdir()
    (base / "open").chmod(0o777)
    (base / "open" / "link").symlink_to(base)
    for path in (base / "open" / "new", base / "open" / "link" / "new"):
        use(monkeypatch, path)
        with pytest.raises(ConfigurationError, match="open, which others can write"):
            runtime_directory.prepare_directory()
        assert not path.exists()


def test_names_that_ssh_would_expand_or_that_are_too_long(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a b", "a%h", "${HOME}", 'a"b'):
        use(monkeypatch, base / name)
        with pytest.raises(ConfigurationError, match="expand"):
            runtime_directory.prepare_directory()
        assert not (base / name).exists()
    room = runtime_directory.MAX_SOCKET_BYTES - len("/") - 13 - len(os.fsencode(base)) - 1
    use(monkeypatch, base / ("x" * room))
    longest = Path(runtime_directory.prepare_directory()) / ("0" * 12 + "+")
    assert len(os.fsencode(longest)) == runtime_directory.MAX_SOCKET_BYTES
    use(monkeypatch, base / ("x" * (room + 1)))
    with pytest.raises(ConfigurationError, match="1 bytes too long"):
        runtime_directory.prepare_directory()


def test_every_directory_is_looked_at(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENSSH_JOBS_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    found = runtime_directory.directories()
    assert found[0] == str(base / "oj")
    assert found[-1] == f"/tmp/oj-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert "relative/oj" not in runtime_directory.directories()


def name(config: str, base: Path, **options: object) -> str:
    path = base / "config"
    path.write_text(config)
    destination = Destination(host="hpc", **{"ssh_config": str(path), **options})  # type: ignore[arg-type]
    return runtime_directory.route_name(destination, ssh_config.resolve(destination))


def test_a_name_stands_for_a_route(base: Path) -> None:
    plain = "Host hpc other\n    HostName 10.0.0.1\n    User alice\n"
    first = name(plain, base)
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")
    assert name(plain + "    Compression yes\n    LocalForward 1234 x:1\n", base) == first
    others = {
        name(plain.replace("10.0.0.1", "10.0.0.2"), base),
        name(plain.replace("alice", "bob"), base),
        name(plain + "    ProxyJump gate\n", base),
        name(plain + "    HostKeyAlias x\n", base),
        name(plain + "    IdentityFile ~/other\n", base),
        name(plain, base, port=2222),
        name(plain, base, ssh_options={"Ciphers": "aes128-ctr"}),
    }
    assert len(others | {first}) == 8


# -- whose process ----------------------------------------------------------------


def test_a_number_is_no_proof(base: Path) -> None:
    """Only the process that was noted is ever ended, not the next one with its number."""
    path = str(base / "sock")
    with subprocess.Popen(["sleep", "300"]) as stranger:
        assert until(lambda: pid_file.identify(stranger.pid).started)
        known = pid_file.identify(stranger.pid)
        assert pid_file.lives(known)
        assert not pid_file.is_master(known, path), "its command line names no socket of ours"
        before = pid_file.Owner(known.pid, "1")
        pid_file.end(before)
        assert not pid_file.wait(known, 0.05)
        pid_file.write(path, known)
        assert pid_file.read(path) == known
        pid_file.forget(path)
        pid_file.forget(path)
        assert pid_file.read(path) is None
        pid_file.end(known)
        assert not pid_file.lives(known)


@pytest.mark.parametrize("content", ["", "x", "12", "a b", "1 2 3", "\udcff"])
def test_a_note_that_is_none(base: Path, content: str) -> None:
    (base / "sock.pid").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert pid_file.read(str(base / "sock")) is None


# -- files beside a socket --------------------------------------------------------

PLANTS = {
    "link": lambda path, precious: path.symlink_to(precious),
    "dangling link": lambda path, precious: path.symlink_to(precious.parent / "new"),
    "hard link": lambda path, precious: os.link(precious, path),
    "fifo": lambda path, precious: os.mkfifo(path),
    "endless": lambda path, precious: os.truncate(path, 1 << 40) if path.touch() is None else None,
    "nested": lambda path, precious: path.write_text("[" * 50_000),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("plant", list(PLANTS))
def test_what_lies_in_the_place_of_a_file_is_replaced(base: Path, plant: str) -> None:
    directory = base / "r"
    precious = directory / "precious"
    precious.write_text("7 8")
    path = str(directory / "sock")
    for suffix in (".pid", ".json", ".wanted", ".log"):
        PLANTS[plant](Path(path + suffix), precious)
    assert pid_file.read(path) is None or plant == "hard link"
    assert masters.read(path) == {}
    assert len(login.read_log(path)) <= 1 << 15
    pid_file.write(path, pid_file.Owner(1, "2"))
    runtime_directory.write_file(path + ".json", "{}")
    runtime_directory.ask_for_session(path)
    login.remove_logs(path)
    assert pid_file.read(path) == (1, "2")
    ends = ("json", "pid", "wanted")
    assert sorted(os.listdir(directory)) == ["precious", *(f"sock.{end}" for end in ends)]
    assert all(Path(f"{path}.{end}").lstat().st_size < 100 for end in ends)
    assert precious.read_text() == "7 8"


def test_a_directory_in_the_place_of_a_file_is_named(base: Path) -> None:
    (base / "sock.pid").mkdir()
    with pytest.raises(ConfigurationError, match=r"sock\.pid cannot be removed: .*Remove it"):
        pid_file.forget(str(base / "sock"))

"""What a site asks for in its policy is kept: on the host, and by the connection."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openssh_jobs import Cluster, Connection, __version__, site_policy
from openssh_jobs.cli import main
from openssh_jobs.openssh import masters
from openssh_jobs.transport.session_limit import Patience
from tests.cli import program
from tests.helpers import until
from tests.lab.site import Host

Expect = Callable[..., None]
Make = Callable[..., Host]

pytest_plugins = ("tests.fixtures",)


@pytest.fixture
def policy(lab_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file on the host, which is this machine."""
    path = lab_directory / "openssh-jobs.toml"
    monkeypatch.setattr(site_policy, "HOST_FILE", str(path))
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def connection(sshd: Host) -> Iterator[Connection]:
    with Connection(sshd.alias, ssh_config=sshd.config) as made:
        yield made


def commands(connection: Connection) -> int:
    return connection.stats().commands


def test_the_policy_comes_with_the_first_query_and_is_kept_for_a_day(
    connection: Connection, policy: Path, tmp_path: Path
) -> None:
    policy.write_text('poll_floor = 77\nsessions = 2\nmessage = "hello"\n')
    journal = str(tmp_path / "journal")
    with Cluster(connection, scheduler="direct", journal=journal) as cluster:
        assert cluster.internal.client.policy.poll_floor is None, "nothing was sent yet"
        before = commands(connection)
        cluster.jobs()
        assert commands(connection) == before + 1, "no round trip of its own"
        found = cluster.internal.client.policy
        assert (found.poll_floor, found.sessions, found.message) == (77, 2, "hello")
    policy.write_text("poll_floor = 5\n")
    with Cluster(connection, scheduler="direct", journal=journal) as cluster:
        assert cluster.internal.client.policy.poll_floor == 77, "from the journal"
        name = cluster.host
        aged = time.time() - 25 * 3600
        cluster.journal.file.execute("UPDATE facts SET changed = ? WHERE host = ?", (aged, name))
    with Cluster(connection, scheduler="direct", journal=journal) as cluster:
        cluster.jobs()
        assert cluster.internal.client.policy.poll_floor == 5, "read again after a day"


@pytest.mark.parametrize("text", ["", None, "poll_floor = 'x'", "\0\1\2", "#" * 20000])
def test_no_policy_and_a_broken_one_change_nothing(
    connection: Connection, policy: Path, tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        policy.write_text(text)
    with Cluster(connection, scheduler="direct", journal=str(tmp_path / "j")) as cluster:
        cluster.jobs()
        assert cluster.internal.client.policy.as_dict() == {}
        assert len(cluster.internal.client.policy.problems) == (1 if text else 0)


def test_a_policy_that_cannot_be_read_is_not_taken_for_none(
    connection: Connection, policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy.write_text("poll_floor = 77\n")
    policy.chmod(0o000)
    with Cluster(connection, scheduler="direct", journal=str(tmp_path / "j")) as cluster:
        cluster.jobs()
        assert "cannot be read" in caplog.text
        policy.chmod(0o644)
        cluster.jobs()
        cluster.internal.client.ask("true")
        assert cluster.internal.client.policy.poll_floor == 77, "it was read again"


def test_sessions_are_limited(connection: Connection, policy: Path, tmp_path: Path) -> None:
    policy.write_text("sessions = 2\n")
    with Cluster(connection, scheduler="direct", journal=str(tmp_path / "j")) as cluster:
        cluster.jobs()
        running = [connection.popen("sleep 30") for _ in range(2)]
        try:
            with pytest.raises(TimeoutError):
                connection._sessions.slots.acquire(_no_patience(), lambda: None)
        finally:
            for process in running:
                process.kill()
                process.wait(timeout=30)


def _no_patience() -> Patience:
    return Patience(until=time.monotonic())


def test_an_old_master_takes_no_new_sessions_and_ends_after_those_it_has(
    make_sshd: Make,
    connect: Callable[..., Connection],
    expect_logins: Expect,
    cold: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    expect_logins(2)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    file = Path(site_policy.local_file())
    file.parent.mkdir()
    file.write_text("max_age = 3600\n")
    host = make_sshd()
    first = connect(host)
    long = first.popen("sleep 3; echo done")
    (path,) = [str(one) for one in cold.iterdir() if one.is_socket()]
    old = masters.facts(path, ours=True)
    assert old is not None
    assert old.persist == 600
    facts = json.loads(Path(path + ".json").read_text())
    facts["opened"] -= 3601
    Path(path + ".json").write_text(json.dumps(facts))
    second = connect(host)
    assert second.run("echo new").stdout == "new\n"
    now = second.check().master
    assert now != old.pid
    assert first.run("echo also").stdout == "also\n"
    assert first.check().master == now
    out, _ = long.communicate(timeout=30)
    assert out == "done\n", "what ran on the old master went on to its end"
    assert until(lambda: not Path(f"/proc/{old.pid}").exists(), 20)


def test_our_shells_are_recognisable_on_the_host(connection: Connection) -> None:
    connection.exists("/")
    name = f"openssh-jobs/{__version__}"
    running = connection.popen("sleep 30")
    try:
        listed = connection.run("ps -u $(id -u) -o args=").stdout.splitlines()
        shells = [line for line in listed if name in line]
        assert any(line == f"/bin/sh +vx -s {name}" for line in shells), "the control shell"
        assert any("sleep 30" in line for line in shells), "that of a command"
    finally:
        running.kill()
        running.wait(timeout=30)


def test_work_that_takes_long_is_nice(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connection.features.nice
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    seen = []
    plan = connection._commands.plan

    def planned(script: bytes, **more: object) -> object:
        seen.append(script)
        return plan(script, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(connection._commands, "plan", planned)
    there = f"nice{time.time_ns()}"
    connection.put(tree, there, method="tar", verify=True)
    connection.get(there, tmp_path / "back", method="tar")
    connection.rmtree(there)
    assert sum(b"nice tar" in script for script in seen) == 2


def test_doctor_shows_the_policy(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    file = Path(site_policy.local_file())
    file.parent.mkdir()
    file.write_text('sessions = 4\nagents = false\ncolour = 1\nmessage = "Be kind."\n')
    done = program("doctor", "-F", str(host.config), host.alias)
    assert "ok    the site sets sessions 4, agents false; Be kind." in done.out
    assert f"warn  {file}: 'colour' is not a setting of a site" in done.out


@pytest.mark.parametrize("what", ["a pipe", "no rights", "a directory"])
def test_doctor_says_what_cannot_be_read_and_waits_for_nobody(
    host: Host, policy: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "a pipe":
        os.mkfifo(policy)
    elif what == "no rights":
        policy.write_text("sessions = 4\n")
        policy.chmod(0)
    else:
        policy.mkdir()
    try:
        main(["doctor", "-F", str(host.config), host.alias])
    finally:
        if policy.is_dir():
            policy.rmdir()
    said = capsys.readouterr().out
    assert "was not over" not in said
    assert (f"warn  {policy} on {host.alias} cannot be read" in said) == (what != "a pipe")

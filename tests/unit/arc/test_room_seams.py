"""What ARC's own tests reach into: placeholders, names replaced in the module, foreign errors."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from openssh_jobs import arc, errors
from openssh_jobs.arc import SSHClient, client, exceptions, settings
from tests.helpers import master_of

SHIPPED: dict[str, dict[str, Any]] = {
    "server1": {"cluster_soft": "OGE", "address": "server1.host.edu", "un": "<username>",
                "key": "path_to_rsa_key", "max_simultaneous_jobs": 10},
    "server2": {"cluster_soft": "Slurm", "address": "server2.host.edu", "un": "<username>",
                "key": "path_to_rsa_key", "cpus": 24, "memory": 256},
    "local": {"cluster_soft": "HTCondor", "un": "<username>", "cpus": 48, "queues": {"": ""}},
}  # fmt: skip


INTERFACE = """
change_mode check_job_status check_running_jobs_ids close connect delete_job delete_jobs
download_file find_package list_available_nodes list_dir submit_job upload_file
read_remote_file get_last_modified_time delete_remote_check_files remove_remote_files remove_dir
"""


@pytest.fixture(autouse=True)
def as_shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ARC's settings before anybody has edited them."""
    saved = {name: dict(table) for name, table in settings.TABLES.items()}
    monkeypatch.setattr(settings, "_configured", False)
    arc.configure(servers=SHIPPED)
    yield
    for name, table in settings.TABLES.items():
        table.clear()
        table.update(saved[name])


def test_a_client_with_the_placeholder_is_made_and_fails_when_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleeps: list[float] = []
    monkeypatch.setattr(arc.time, "sleep", sleeps.append)
    ssh = SSHClient("server2")
    assert (ssh.connection_attempts, ssh.un, ssh.key) == (1440, "<username>", "path_to_rsa_key")
    with pytest.raises(arc.ServerError, match=r"server2.*'<username>'"):
        ssh.connect()
    with pytest.raises(arc.ServerError, match="'<username>'"), SSHClient("server2"):
        raise AssertionError("not reached")
    assert sleeps == [], "waiting does not give it a name"


def test_a_key_is_optional() -> None:
    arc.servers["server2"].pop("key")
    assert SSHClient("server2").key is None
    arc.servers["server2"]["key"] = ""
    assert SSHClient("server2").key is None


@pytest.mark.parametrize("how", ["mock", "monkeypatch"])
def test_names_replaced_in_the_module_are_replaced_where_they_are_used(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"mine": {"cluster_soft": "OGE", "address": "a", "un": "u"}}
    before = arc.servers
    listing = "582682 0.45451 a9654 me r 04/17/2019 16:22:14 long5@node93 48\n"
    if how == "mock":
        with mock.patch.object(arc, "servers", mine):
            assert SSHClient("mine").address == "a"
            assert arc.check_job_status_in_stdout(582682, listing, "mine") == "running"
            with pytest.raises(KeyError):
                arc.check_job_status_in_stdout(582682, listing, "server1")
    else:
        with monkeypatch.context() as patch:
            patch.setattr(arc, "servers", mine)
            patch.setattr(arc, "time", types.SimpleNamespace(sleep=None))
            assert SSHClient("mine").address == "a"
            assert vars(client)["time"] is arc.time
    assert arc.servers is settings.servers is before
    assert SSHClient("server1").address == "server1.host.edu"
    assert vars(client)["time"] is arc.time
    with mock.patch.object(arc.time, "sleep") as sleep:
        vars(client)["time"].sleep(1)
    sleep.assert_called_once_with(1)


def test_the_modules_servers_are_the_dictionary_that_a_client_reads() -> None:
    with mock.patch.dict(arc.servers, {"later": {"cluster_soft": "PBS", "address": "l"}}):
        assert SSHClient("later").address == "l"
    with pytest.raises(ValueError, match="later"):
        SSHClient("later")


class ForeignServerError(Exception):
    """ARC's ``ServerError`` before ``openssh_jobs.arc`` knew of it."""


@pytest.mark.parametrize(
    "error", [ForeignServerError("down"), OSError("no route"), RuntimeError("odd")]
)
def test_deleting_check_files_never_raises(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def fail(self: SSHClient) -> None:
        tries.append(self.connection_attempts)
        raise error

    monkeypatch.setattr(SSHClient, "connect", fail)
    arc.delete_check_files_on_servers({"server2": "runs/x", "no such": "y", "server1": "z"})
    assert tries == [1, 1]
    assert str(error) in caplog.text
    assert "no such" in caplog.text


@pytest.mark.parametrize(
    "path",
    ["runs/p", "/abs/p", "runs/a project $(touch injected.txt)", "it's", '"', "a\\b", "p*", "~/x"],
)
def test_the_path_itself_is_a_word_of_the_one_command_twice(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []

    def record(self: SSHClient, command: str, remote_path: str = "") -> tuple[list[str], list[str]]:
        sent.append((command, remote_path))
        return [], []

    monkeypatch.setattr(SSHClient, "_send_command_to_server", record)
    SSHClient("server2").delete_remote_check_files(path)
    SSHClient("server2").delete_remote_check_files("")
    ((command, remote_path),) = sent
    assert remote_path == ""
    assert shlex.split(command).count(path) == 2


@pytest.mark.parametrize("path", ["-rf", "!", "(x", "-delete"])
def test_a_path_that_find_would_take_for_its_own_is_a_path(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.chk", "b.log"):
        (tmp_path / path / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / path / "sub" / name).touch()

    def run(self: SSHClient, command: str, remote_path: str = "") -> tuple[list[str], list[str]]:
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True,
                              timeout=20, check=False)  # fmt: skip
        return done.stdout.splitlines(True), done.stderr.splitlines(True)

    monkeypatch.setattr(SSHClient, "_send_command_to_server", run)
    SSHClient("server2").delete_remote_check_files(path)
    assert [name for _, _, files in os.walk(tmp_path) for name in files] == ["b.log"]


def test_exceptions_are_the_same_objects_before_and_after_arc_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from openssh_jobs.arc import InputError, ServerError

    assert (InputError, ServerError) == (errors.InputError, errors.ServerError)
    theirs = types.ModuleType("arc.exceptions")
    for name in ("InputError", "ServerError", "SettingsError"):
        setattr(theirs, name, type(name, (Exception,), {}))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "arc.exceptions", theirs)
        SSHClient("server2")
        for ours in (InputError, ServerError, exceptions.SettingsError):
            with pytest.raises(getattr(theirs, ours.__name__), match="because"):
                raise ours("because", host="h")
        assert arc.ServerError is ServerError
    SSHClient("server2")
    assert not issubclass(ServerError, theirs.ServerError), "gone with ARC"


def test_what_not_checking_host_keys_meant_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    settings._host_key_notes.clear()
    arc.servers["lax"] = {"cluster_soft": "PBS", "address": "a", "strict_host_key_checking": False}
    arc.servers["strict"] = {**arc.servers["lax"], "strict_host_key_checking": True,
                             "ssh_options": {"ConnectTimeout": "3"}}  # fmt: skip
    caplog.set_level(logging.WARNING)
    targets: dict[str, Mapping[str, str]] = {}
    for server in ("lax", "lax", "strict"):
        arc.servers[server]["cpus"] = len(targets)  # not the shared connection again
        targets[server] = master_of(SSHClient(server)._connection).destination.ssh_options
    assert targets["lax"] == {}, "it is checked as the ssh configuration says"
    assert targets["strict"] == {"StrictHostKeyChecking": "yes", "ConnectTimeout": "3"}
    assert caplog.text.count("strict_host_key_checking is False") == 1


def test_a_cluster_that_is_not_supported_can_still_be_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arc.servers["odd"] = {"cluster_soft": "LoadLeveler", "address": "a"}
    monkeypatch.setattr(SSHClient, "_connect", lambda self: ("sftp", "ssh"))
    with SSHClient("odd") as ssh:
        with pytest.raises(ValueError, match="LoadLeveler"):
            ssh.check_running_jobs_ids()
        assert ssh._connection.host == "a"


def test_servers_whose_host_key_is_not_known_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, known = tmp_path / "config", tmp_path / "known_hosts"
    config.write_text(f"UserKnownHostsFile {known}\nHost alias\n    HostName real.test\n")
    config.chmod(0o600)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Xv2Cq6y0kYgTj5nYd0c7vZ1mN3pQ5rS7tU9wX1yZ2"
    known.write_text(f"real.test {key}\n[odd.test]:2222 {key}\n@revoked old.test {key}\n")
    common = {"ssh_config": str(config), "un": "me"}
    servers: dict[str, dict[str, Any]] = {
        "good": {**common, "address": "alias"},
        "port": {**common, "address": "odd.test", "port": 2222},
        "new": {**common, "address": "new.test"},
        "other port": {**common, "address": "odd.test", "port": 22},
        "revoked": {**common, "address": "old.test"},
        "bad": {**common, "address": "-oProxyCommand=x"},
        "by a command": {**common, "address": "c.test",
                         "ssh_options": {"KnownHostsCommand": "/bin/true"}},
        "here": {"cluster_soft": "local"},
        **SHIPPED,
    }  # fmt: skip
    missing = {"new": "new.test", "other port": "odd.test", "revoked": "old.test"}
    assert arc.check_servers_known_hosts(servers) == missing
    assert "new: the host key of new.test is not known here" in caplog.text
    assert "bad: whether its host key is known cannot be told" in caplog.text
    assert arc.check_servers_known_hosts() == {}, "the settings as shipped"
    good = {"good": servers["good"]}
    assert arc.check_servers_known_hosts(good, str(tmp_path / "none")) == {"good": "alias"}


def test_old_names_of_the_newest_interface_are_there() -> None:
    ssh = SSHClient(server="server2", connection_attempts=2)
    for name in INTERFACE.split():
        assert callable(getattr(ssh, name)), name

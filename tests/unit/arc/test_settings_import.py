"""ARC's settings file is read without being executed, and comes out as servers.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import arc
from openssh_jobs.arc import settings, settings_import
from openssh_jobs.arc.settings_import import read_settings, to_toml
from openssh_jobs.errors import InputError

# In the form of ARC's own file, with what people put into theirs.
SETTINGS = r'''
"""ARC's settings"""
import os
import string

from arc.settings.external_paths import find_rits_repo

open('/tmp/never', 'w')
servers = {
    'server1': {
        'cluster_soft': 'OGE',
        'address': 'server1.host.edu',
        'un': '<username>',
        'key': 'path_to_rsa_key',
        'max_simultaneous_jobs': 10,  # optional
    },
    "atlas two": {
        'cluster_soft': 'Slurm', 'address': 'atlas.ac.il', 'un': 'me',
        'key': os.path.expanduser('~/.ssh/id_rsa'),
        'path': '/storage/"group"', 'memory': 256, 'share': 0.5, 'gpu': False,
        'queues': {'': '', 'long': '72:00:00'}, 'excluded_queues': ('a', 'b'), 'nothing': None,
    },
    'pharos': {'cluster_soft': 'OGE', 'address': 'pharos.mit.edu', 'un': 'me',
               'key': '/home/me/.ssh/known_hosts', 'strict_host_key_checking': False},
    name: {'cluster_soft': 'PBS'},
    'local': {'cluster_soft': 'HTCondor', 'un': 'me', 'cpus': 48},
}
servers['server1']['un'] = 'alice'
servers['later'] = {'cluster_soft': 'PBS', 'address': 'later.edu', 'un': 'me'}
servers['nosuch']['un'] = 'x'
servers.update({'updated': {}})
if os.path.exists('/x'):
    servers['maybe'] = {}
global_ess_settings = {'gaussian': ['local', 'server2']}
check_status_command = {
    'OGE': 'export SGE_ROOT=/opt/sge; /opt/sge/bin/lx24-amd64/qstat -u $USER',
    'HTCondor': """condor_q -cons 'Member(Jobstatus,{1,2})' -af:j '{"0","P"}[JobStatus]'\t\x7f""",
    'Slurm': f'/usr/bin/squeue -u {name}',
}
submit_filenames: dict = {'OGE': 'submit.sh'}
delete_command = make_them()
'''


def test_the_tables_are_read_and_the_rest_is_named(tmp_path: Path) -> None:
    found = read_settings(SETTINGS.replace("/tmp/never", str(tmp_path / "never")))
    assert not (tmp_path / "never").exists(), "nothing of it is executed"
    assert found.tables["servers"] == {
        "server1": {"cluster_soft": "OGE", "address": "server1.host.edu", "un": "alice",
                    "key": "path_to_rsa_key", "max_simultaneous_jobs": 10},
        "atlas two": {"cluster_soft": "Slurm", "address": "atlas.ac.il", "un": "me",
                      "path": '/storage/"group"', "memory": 256, "share": 0.5, "gpu": False,
                      "queues": {"": "", "long": "72:00:00"}, "excluded_queues": ["a", "b"]},
        "pharos": {"cluster_soft": "OGE", "address": "pharos.mit.edu", "un": "me",
                   "strict_host_key_checking": False},
        "local": {"cluster_soft": "HTCondor", "un": "me", "cpus": 48},
        "later": {"cluster_soft": "PBS", "address": "later.edu", "un": "me"},
    }  # fmt: skip
    assert set(found.tables) == {"servers", "check_status_command", "submit_filenames"}
    assert set(found.tables["check_status_command"]) == {"OGE", "HTCondor"}
    notes = "\n".join([*found.left_out, *found.notes])
    for piece in (
        "servers['atlas two']['key'] is not a literal",
        "servers['atlas two']['nothing'] is not a literal",
        "a key of servers is not a literal",
        "servers['nosuch']['un'] is not a literal",
        "check_status_command['Slurm'] is not a literal",
        "delete_command is not a literal",
        "known_hosts",
        "pharos: host keys are checked",
    ):
        assert piece in notes
    assert notes.count("what this does with servers was not read") == 2
    assert "global_ess_settings" not in notes


def test_what_comes_out_is_toml_that_says_the_same() -> None:
    found = read_settings(SETTINGS)
    assert tomllib.loads(to_toml(found.tables)) == found.tables
    odd: dict[str, Any] = {"servers": {'a"b': {"x": [1, [True]], "y z": {}, "é\n": "\\"}, "e": {}}}
    assert tomllib.loads(to_toml(odd)) == odd
    assert to_toml({}) == ""


def test_the_file_is_what_the_client_then_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "servers.toml"
    config.write_text(to_toml(read_settings(SETTINGS).tables))
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(config))
    saved = {name: dict(table) for name, table in settings.TABLES.items()}
    monkeypatch.setattr(settings, "_configured", False)
    try:
        for table in settings.TABLES.values():
            table.clear()
        client = arc.SSHClient("later")
        assert (client.address, client.un, client.key) == ("later.edu", "me", None)
        assert arc.check_status_command["OGE"].startswith("export SGE_ROOT")
    finally:
        for name, table in settings.TABLES.items():
            table.clear()
            table.update(saved[name])


def test_the_placeholder_is_pointed_out() -> None:
    notes = read_settings("servers = {'a': {'un': '<username>'}}").notes
    assert notes == ["a: un is still '<username>': put your user name there"]


@pytest.mark.parametrize("text", ["servers = {", "\0", "(" * 5000, "servers = " + "-" * 100_000])
def test_what_is_no_python_is_said(text: str) -> None:
    with pytest.raises(InputError, match=r"my\.py is not Python"):
        read_settings(text, "my.py")


@pytest.mark.parametrize(
    "source",
    [
        "servers = {'a': {'un': 'J\xf6rg'}}".encode(),
        "\ufeffservers = {'a': {'un': 'J\xf6rg'}}".encode(),
        b"# -*- coding: latin-1 -*-\nservers = {'a': {'un': 'J\xf6rg'}}",
    ],
    ids=["UTF-8", "with a mark", "Latin-1"],
)
def test_a_file_is_read_in_its_encoding_as_python_reads_it(source: bytes) -> None:
    assert read_settings(source).tables == {"servers": {"a": {"un": "J\xf6rg"}}}


def test_only_tables_count() -> None:
    left_out = ["line 1: servers is not a literal: left out"]
    assert read_settings("servers = ['a']").left_out == left_out
    assert read_settings("servers = 2**9999").tables == {}
    assert read_settings("x = servers2 = 1") == settings_import.ImportedSettings()
    assert settings_import.TABLES is settings.TABLES


def test_text_that_toml_cannot_hold_is_left_out() -> None:
    found = read_settings(r"servers = {'a': {'path': '\ud800', 'un': 'é', 'big': 2**1, 'b': b'x'}}")
    assert found.tables == {"servers": {"a": {"un": "é"}}}
    assert len(found.left_out) == 3

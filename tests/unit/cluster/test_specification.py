"""What ``submit`` checks before anything is sent."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster.journal import Row
from openssh_jobs.cluster.specification import (
    AnyJob,
    Specification,
    check_token,
    job_ids,
    parameters_of_many,
)
from openssh_jobs.errors import InputError

ASKED: dict[str, Any] = dict.fromkeys(
    ("script", "script_file", "script_text", "directory", "upload", "name", "array", "after_ok",
     "after_any", "after_failed", "queue", "account", "time_limit", "nodes", "cpus", "memory",
     "gpus", "env")
)  # fmt: skip


def specification(**asked: Any) -> Specification:
    return Specification.of(**{**ASKED, "hold": False, "arguments": (), "options": (), **asked})


TEXT = {"script_text": "#!/bin/sh\ntrue\n"}


@pytest.mark.parametrize("token", ["a", "A.b-c_9", "0" * 64])
def test_tokens(token: str) -> None:
    assert check_token(token) == token


@pytest.mark.parametrize("token", ["", ".a", "-a", "a/b", "a b", "a\n", "é", "0" * 65, "..", None])
def test_what_is_no_token(token: Any) -> None:
    with pytest.raises(InputError, match="not a token"):
        check_token(token)


@pytest.mark.parametrize("name", ["owner", "attempt-1", "attempt-12.d", "result-3"])
def test_names_of_the_files_beside_a_script_are_taken(name: str) -> None:
    with pytest.raises(InputError, match="reserved"):
        specification(script=f"in/{name}")
    assert specification(script=f"in/{name}.sh").script_name == f"{name}.sh"


def test_ids_of_jobs_in_all_ways() -> None:
    class Handle:
        id = "9"

    assert job_ids("5") == job_ids(5) == job_ids(["5"]) == ("5",)
    assert job_ids(Handle()) == ("9",)
    several: list[AnyJob] = [Handle(), "12_4", 7]
    assert job_ids(iter(several)) == ("9", "12_4", "7")
    assert job_ids(None) == job_ids([]) == ()


@pytest.mark.parametrize(
    "bad", ["", " ", "-1", "*", "all", "1 2", "1,2", "$(id)", "1\n2", "1;rm -rf /", 1.5, True, b"5"]
)
def test_what_is_no_id(bad: Any) -> None:
    with pytest.raises(InputError):
        job_ids(bad)
    with pytest.raises(InputError):
        job_ids(["5", bad])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "exactly one"),
        ({"script": "a", **TEXT}, "exactly one"),
        ({"script": ""}, "not the path"),
        ({"script": "/"}, "not the path"),
        ({"script": "a\0b"}, "not the path"),
        ({"script_text": ""}, "script is empty"),
        ({"script_text": " \n\t"}, "script is empty"),
        ({"script_text": "a\0b"}, "zero bytes"),
        ({**TEXT, "options": "--hold"}, "list of words"),
        ({**TEXT, "options": [3]}, "option must be a text"),
        ({**TEXT, "arguments": "-v"}, "arguments must be a list of words"),
        ({**TEXT, "env": {"A-B": "x"}}, "not a valid name"),
        ({**TEXT, "env": {"A": 3}}, "must be text"),
        ({**TEXT, "env": {"A": "x\0"}}, "must be text"),
        ({**TEXT, "env": {"": "x"}}, "not a valid name"),
        ({**TEXT, "after_ok": "all"}, "not a job id"),
        ({**TEXT, "cpus": 0}, "positive"),
        ({**TEXT, "nodes": -1}, "positive"),
        ({**TEXT, "memory": True}, "number of bytes"),
        ({**TEXT, "time_limit": timedelta(0)}, "positive"),
        ({**TEXT, "queue": "a\nb"}, "control characters"),
        ({**TEXT, "name": ""}, "empty"),
        ({**TEXT, "directory": ""}, "empty"),
        ({**TEXT, "upload": "."}, "needs directory"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        specification(**asked)
    assert caught.value.sent == "no"


def test_local_files_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        specification(script_file=tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        specification(script_file=tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="empty"):
        specification(script_file=tmp_path / "empty")
    (tmp_path / "job.sh").write_bytes(b"#!/bin/sh\n\xff\n")
    made = specification(script_file=tmp_path / "job.sh")
    assert (made.script_name, made.content) == ("job.sh", b"#!/bin/sh\n\xff\n")


def test_an_upload_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        specification(**TEXT, upload=tmp_path / "none", directory="d")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        specification(**TEXT, upload=tmp_path / "file", directory="d")
    with pytest.raises(FileNotFoundError, match="no such script"):
        specification(script="run.sh", upload=tmp_path, directory="d")
    with pytest.raises(InputError, match="empty"):
        specification(script="file", upload=tmp_path, directory="d")
    assert specification(script="/bin/x", upload=tmp_path, directory="d").upload == str(tmp_path)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"script": "a/b c.sh"}, "b c.sh"),
        ({"script_text": "x", "name": "we/ird é$(x)"}, "we_ird____x_"),
        ({"script_text": "x", "name": "--.."}, "job"),
        ({"script_text": "x", "name": "n" * 300}, "n" * 100),
        ({"script_text": "x"}, "job"),
    ],
)
def test_the_name_of_the_script(asked: dict[str, Any], name: str) -> None:
    assert specification(**asked).script_name == name


def test_the_digest_differs_between_specifications(tmp_path: Path) -> None:
    def digest(**asked: Any) -> str:
        return specification(**asked).digest("slurm")

    assert digest(**TEXT, env={"A": "1", "B": "2"}) == digest(**TEXT, env={"B": "2", "A": "1"})
    script = tmp_path / "s"
    script.write_text("one")
    first = digest(script_file=script)
    script.write_text("two")
    different = [
        digest(**TEXT),
        digest(script_text="#!/bin/sh\nfalse\n"),
        digest(**TEXT, env={"A": "1"}),
        digest(**TEXT, env={"A": "2"}),
        digest(**TEXT, directory="d"),
        digest(**TEXT, cpus=2),
        digest(**TEXT, options=["-x"]),
        digest(**TEXT, after_ok=["1"]),
        digest(**TEXT, after_any=["1"]),
        specification(**TEXT).digest("direct"),
        digest(script="s"),
        digest(**TEXT, name=os.fsdecode(b"\xff")),
        first,
        digest(script_file=script),
    ]
    assert len(set(different)) == len(different)
    assert "secret" not in repr(Row(host="h", token="t", digest=digest(**TEXT, env={"A": "secret"}),
                                    scheduler="s", directory="d"))  # fmt: skip


# -- many ---------------------------------------------------------------------------------------


def test_what_is_common_and_what_each_gives() -> None:
    common = {"script_file": "a.sh", "env": {"A": "1", "B": "1"}, "cpus": 2}
    rows: list[Any] = [{"env": {"B": "2"}, "name": "x"}, "b.sh", {"script_text": "t", "cpus": 3}]
    found = parameters_of_many(rows, common)
    assert [one["env"] for one in found] == [{"A": "1", "B": "2"}, *[{"A": "1", "B": "1"}] * 2]
    assert [one["cpus"] for one in found] == [2, 2, 3]
    assert [(one["script_file"], one["script_text"]) for one in found] == [
        ("a.sh", None), ("b.sh", None), (None, "t"),
    ]  # fmt: skip


def test_the_scripts_of_a_directory_are_its_files_that_begin_as_scripts(tmp_path: Path) -> None:
    for name, text in (("b", "#!/bin/sh\n"), ("a", "#!/bin/sh\n"), ("data", "1\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
    (tmp_path / "sub").mkdir()
    found = parameters_of_many(tmp_path, {"directory": "d"})
    assert [(one["script"], one["upload"], one["directory"]) for one in found] == [
        ("a", str(tmp_path), "d"), ("b", str(tmp_path), "d"),
    ]  # fmt: skip

"""What is kept of a submission, and what is submitted from that once more."""

from __future__ import annotations

import hashlib
import inspect
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import submitted
from openssh_jobs.cluster.cluster import Cluster
from openssh_jobs.cluster.journal import Journal, Kept
from openssh_jobs.cluster.specification import Specification
from openssh_jobs.cluster.submitted import MOST_COMMAND, MOST_SCRIPT, specification_again
from openssh_jobs.errors import ConfigurationError, ConnectionLost, InputError, SubmitRejected

from .fakes import Bench, LocalHost

TEXT = "#!/bin/sh\ntrue\n"
# The parameters of Cluster.submit, none of them given.
NOTHING: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(Cluster.submit).parameters.items()
    if name not in ("self", "record_exit", "token", "again", "dry_run")
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    host = LocalHost(home)
    host.program("sbatch", 'echo "$@" >>"$HOME/calls"; echo 7\n')
    journal = Journal(tmp_path / "journal")
    yield Bench(host, journal, "slurm")
    journal.close()


def kept(bench: Bench, token: str = "t1") -> Kept:
    row = bench.journal.by_token("here", token)
    assert row is not None
    found = bench.journal.kept(row)
    assert found is not None
    return found


def again(bench: Bench, **given: Any) -> Specification:
    return specification_again(bench.journal, "here", "7", {**NOTHING, **given}, None)


# -- what is kept -------------------------------------------------------------------------------


def test_script_parameters_and_command_are_kept(bench: Bench) -> None:
    bench.submit(
        "t1", script_text=TEXT, directory="job", cpus=2, time_limit=timedelta(hours=2),
        options=["--comment", "x y"], after_ok=("3",),
    )  # fmt: skip
    found = kept(bench)
    assert found.script == TEXT.encode()
    assert found.script_digest == hashlib.sha256(TEXT.encode()).hexdigest()
    facts = json.loads(found.specification)
    assert {name: value for name, value in facts.items() if value} == {
        "cpus": 2,
        "time_limit": {"seconds": 7200.0},
        "options": ["--comment", "x y"],
        "after_ok": ["3"],
        "directory": "job",
        "script_name": "job",
    }
    assert "\nsbatch --parsable --time=0-02:00:00 " in found.command
    assert f"{bench.host.home}/job/.openssh_jobs/t1/job" in found.command
    assert (found.uploads, found.git_commit) == (None, None)


def test_of_a_long_command_the_begin_is_kept(bench: Bench) -> None:
    long = "--comment=" + "x" * MOST_COMMAND
    bench.submit("t1", script_text=TEXT, directory="job", options=[long])
    assert len(kept(bench).command) == MOST_COMMAND
    assert json.loads(kept(bench).specification)["options"] == [long]


def test_values_of_the_environment_are_nowhere_in_the_journal(bench: Bench) -> None:
    bench.submit("t1", script_text=TEXT, directory="job", env={"KEY": "hunter-2"})
    assert json.loads(kept(bench).specification)["env"] == ["KEY"]
    bench.journal.close()
    for path in Path(bench.journal.path).parent.glob("journal*"):
        assert b"hunter-2" not in path.read_bytes()


def test_a_script_of_the_host_is_read(bench: Bench) -> None:
    (bench.host.home / "job").mkdir()
    (bench.host.home / "job/run.sh").write_text(TEXT)
    bench.submit("t1", script="run.sh", directory="job")
    assert kept(bench).script == TEXT.encode()


def test_a_long_script_is_its_digest_and_size(bench: Bench, tmp_path: Path) -> None:
    long = TEXT.encode() + b"#" * MOST_SCRIPT
    bench.submit("t1", script_text=long.decode(), directory="job")
    found = kept(bench)
    assert (found.script, found.script_size) == (None, len(long))
    assert found.script_digest == hashlib.sha256(long).hexdigest()
    with pytest.raises(InputError, match=f"{len(long)} bytes, and is not kept"):
        again(bench)
    (bench.host.home / "job/run.sh").write_bytes(long)
    bench.submit("t2", script="run.sh", directory="job")
    assert (kept(bench, "t2").script, kept(bench, "t2").script_size) == (None, len(long))


def test_the_same_script_is_kept_once_and_goes_with_the_last_job(bench: Bench) -> None:
    for token in ("t1", "t2"):
        bench.submit(token, script_text=TEXT, directory=token)
    scripts = "SELECT count(*) FROM scripts"
    assert bench.journal.file.execute(scripts) == [(1,)]
    bench.journal.forget("here", "t1")
    assert kept(bench, "t2").script == TEXT.encode()
    bench.journal.forget("here", "t2")
    assert bench.journal.file.execute(scripts) == [(0,)]


def test_uploads_are_names_sizes_and_digests(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "inputs"
    (source / "sub").mkdir(parents=True)
    (source / "sub/a.inp").write_text("a")
    (source / "run.sh").write_text(TEXT)
    (source / "link").symlink_to("run.sh")
    bench.submit("t1", script="run.sh", upload=source, directory="job")
    found = kept(bench)
    assert found.script == TEXT.encode()
    facts = json.loads(found.uploads or "")
    assert (facts["count"], facts["bytes"]) == (3, 1 + len(TEXT) + len("run.sh"))
    assert ["sub/a.inp", 1, hashlib.sha256(b"a").hexdigest()] in facts["files"]


def test_of_many_uploads_there_is_their_number_and_one_digest(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitted, "MOST_UPLOADS", 3)
    source = tmp_path / "inputs"
    source.mkdir()
    for number in range(4):
        (source / str(number)).write_text("x")
    bench.submit("t1", script_text=TEXT, upload=source, directory="job")
    facts = json.loads(kept(bench).uploads or "")
    assert (facts["count"], "files" in facts, len(facts["digest"])) == (4, False, 64)
    assert again(bench).upload == str(source)
    (source / "0").write_text("y")
    with pytest.raises(InputError, match="has changed"):
        again(bench)


def test_the_commit_is_that_of_the_directory(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "inputs" / "deep"
    source.mkdir(parents=True)
    (source / "run.sh").write_text(TEXT)
    git = ["git", "-C", str(source.parent), "-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True, timeout=60)
    said = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    bench.submit("t1", script_file=source / "run.sh", directory="job")
    assert kept(bench).git_commit == said.stdout.strip()
    bench.submit("t2", script="run.sh", upload=source, directory="other")
    assert kept(bench, "t2").git_commit == said.stdout.strip()


def test_nothing_is_kept_of_what_was_not_submitted(bench: Bench) -> None:
    bench.host.program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    with pytest.raises(SubmitRejected):
        bench.submit("t1", script_text=TEXT, directory="job")
    for table in ("kept", "scripts", "events"):
        assert bench.journal.file.execute(f"SELECT count(*) FROM {table}") == [(0,)]


def test_it_is_kept_before_the_command_is_sent(bench: Bench) -> None:
    bench.host.failing["run_once"] = ConnectionLost("cut", sent="maybe")
    with pytest.raises(Exception, match="not known whether"):
        bench.submit("t1", script_text=TEXT, directory="job")
    assert kept(bench).script == TEXT.encode()


def test_a_journal_that_cannot_be_written_sends_nothing(bench: Bench) -> None:
    bench.journal.rows()
    bench.journal.file.execute("PRAGMA query_only=1")
    with pytest.raises(ConfigurationError, match="read-only"):
        bench.submit("t1", script_text=TEXT, directory="job")
    assert bench.host.used == []


# -- once more ----------------------------------------------------------------------------------


def test_it_is_submitted_as_it_was(bench: Bench, tmp_path: Path) -> None:
    local = tmp_path / "relax.sh"
    local.write_text(TEXT)
    bench.submit(
        "t1", script_file=local, directory="job", cpus=2, time_limit=timedelta(hours=2), hold=True,
        options=["-x"],
    )  # fmt: skip
    local.unlink()
    found = again(bench)
    assert (found.content, found.script_name) == (TEXT.encode(), "relax.sh")
    assert (found.directory, found.cpus, found.hold) == ("job", 2, True)
    assert (found.time_limit, found.options) == (timedelta(hours=2), ("-x",))
    other = again(bench, cpus=4, time_limit="8:00:00", directory="elsewhere", options=["-y"])
    assert (other.cpus, other.time_limit, other.directory) == (4, "8:00:00", "elsewhere")
    assert (other.options, other.hold) == (("-y",), True)


def test_a_script_of_the_host_is_submitted_as_it_was_then(bench: Bench) -> None:
    (bench.host.home / "job").mkdir()
    (bench.host.home / "job/run.sh").write_text(TEXT)
    bench.submit("t1", script="run.sh", directory="job")
    (bench.host.home / "job/run.sh").write_text("#!/bin/sh\nfalse\n")
    found = again(bench)
    assert (found.content, found.script, found.script_name) == (TEXT.encode(), None, "run.sh")


def test_the_environment_has_to_be_given(bench: Bench) -> None:
    env = {"KEY": "hunter-2", "OTHER": "x"}
    bench.submit("t1", script_text=TEXT, directory="job", env=env)
    with pytest.raises(InputError, match=r"had KEY in env, whose values are not kept.*--env"):
        again(bench, env={"OTHER": "y"})
    assert again(bench, env={"KEY": "a", "OTHER": "b", "MORE": "c"}).env["MORE"] == "c"


def test_an_upload_goes_again_while_it_is_the_same(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "inputs"
    source.mkdir()
    (source / "run.sh").write_text(TEXT)
    bench.submit("t1", script="run.sh", upload=source, directory="job")
    first, second = again(bench), again(bench, directory="given")
    assert (first.upload, first.script, second.directory) == (str(source), "run.sh", "given")
    assert first.directory is not None
    assert first.directory.startswith("job-again-")
    assert again(bench).directory != first.directory
    (source / "new.inp").write_text("x")
    with pytest.raises(InputError, match=r"has changed: new\.inp"):
        again(bench)
    assert again(bench, upload=str(source)).upload == str(source)
    (source / "new.inp").unlink()
    (source / "run.sh").unlink()
    source.rmdir()
    with pytest.raises(InputError, match=r"which is gone.*--upload"):
        again(bench)


def test_what_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(InputError, match="was not submitted from this machine"):
        again(bench)
    bench.submit("t1", script_text=TEXT, directory="job")
    with pytest.raises(InputError, match="script_text= must be left out"):
        again(bench, script_text=TEXT)
    bench.journal.file.execute("UPDATE kept SET specification = '{\"env\": [], "
                               "\"script_name\": \"x\", \"colour\": \"red\"}'")  # fmt: skip
    with pytest.raises(InputError, match="a later version of this package with colour"):
        again(bench)
    bench.journal.file.execute("UPDATE submissions SET digest = 'of an old version'")
    with pytest.raises(InputError, match="an older version"):
        again(bench)

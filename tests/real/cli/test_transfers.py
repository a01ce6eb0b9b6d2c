"""What put, get and fetch say before and after: lists, limits, deletions, what is kept."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.cli import on_terminal, program, started, without_colour
from tests.lab.site import Host


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that allow 1 kB."""
    settings = tmp_path / "servers.toml"
    settings.write_text("[servers.direct]\ntransfer_limit = 1e-6\n")
    settings.chmod(0o600)
    monkeypatch.setenv("OPENSSH_JOBS_CONFIG", str(settings))


def test_several_sources_and_patterns(sshd: Host, there: str, tree: Path, tmp_path: Path) -> None:
    way, remote = ("-F", str(sshd.config)), f"{sshd.alias}:{there}"
    files = [str(tree / "a.inp"), str(tree / "b.log"), str(tree / "inner")]
    assert program("put", *way, *files, f"{remote}/in to").code == 0
    there_now = sorted(os.listdir(sshd.home / there / "in to"))
    assert there_now == ["a.inp", "b.log", "inner"]
    into = tmp_path / "results"
    done = program("get", *way, f"{remote}/in to/*.[il]*", f"{remote}/in to/inner", str(into))
    assert (done.code, done.err) == (0, "")
    assert sorted(os.listdir(into)) == ["a.inp", "b.log", "inner"]
    none = program("get", *way, f"{remote}/in to/*.out", str(tmp_path / "no"))
    assert none.code == 1
    assert "in to/*.out" in none.sentence()
    assert not (tmp_path / "no").exists()
    other = program("get", *way, f"{remote}/x", "elsewhere:y", str(into))
    assert other.code == 2
    assert "different hosts" in other.sentence()


def test_a_name_with_the_signs_of_a_pattern_is_itself(
    sshd: Host, there: str, tmp_path: Path
) -> None:
    (sshd.home / there / "a[1]*;$(id)").write_text("x")
    remote = f"{sshd.alias}:{there}/a[1]*;$(id)"
    done = program("get", "-F", str(sshd.config), remote, str(tmp_path / "to") + "/")
    assert (done.code, done.err) == (0, "")
    assert os.listdir(tmp_path / "to") == ["a[1]*;$(id)"]


def test_a_dry_run_lists_and_changes_nothing(
    sshd: Host, there: str, tree: Path, tmp_path: Path
) -> None:
    way, remote = ("-F", str(sshd.config)), f"{sshd.alias}:{there}/t"
    first = program("put", *way, "--dry-run", str(tree), remote)
    assert first.code == 0
    assert [line.split()[-1].rpartition("/t/")[2] for line in first.out.splitlines()] == [
        *("a.inp", "b.log", "inner/c.inp"),
    ]
    assert not (sshd.home / there / "t").exists()
    program("put", *way, str(tree), remote)
    evil = "x\x1b[2Jy\rz"
    (sshd.home / there / "t" / evil).write_text("x")
    os.chown(sshd.home / there / "t" / evil, *_owner(sshd, there))
    again = program("put", *way, "-n", str(tree), remote)
    assert again.code == 1
    assert "--merge" in again.sentence()
    alone = program("put", *way, "--delete", str(tree), remote)
    assert alone.code == 2
    assert "--update" in alone.sentence()
    words = ("put", *way, "--update", "--delete", str(tree), remote)
    listed = program(*words, "-n")
    assert "\x1b" not in listed.out
    assert "\r" not in listed.out
    assert listed.out.startswith("delete ")
    assert program(*words, "-n", "--json").data["deletes"][0]["path"].endswith(evil)
    shown = without_colour(on_terminal(*words, "-n").out)
    assert "would copy 0 files (3 left out or there already), 0 B, and delete 1 file" in shown
    assert (sshd.home / there / "t" / evil).exists()
    done = program(*words)
    assert (done.code, done.out, done.err) == (0, listed.out, "")
    assert sorted(os.listdir(sshd.home / there / "t")) == ["a.inp", "b.log", "inner"]


def _owner(sshd: Host, there: str) -> tuple[int, int]:
    facts = (sshd.home / there).stat()
    return facts.st_uid, facts.st_gid


@pytest.mark.usefixtures("limited")
def test_a_program_gets_an_error_above_the_limit_and_one_option_allows_it(
    sshd: Host, there: str, tmp_path: Path
) -> None:
    assert sshd.alias == "direct"
    (tmp_path / "big").write_bytes(b"x" * 2500)
    (tmp_path / "small").write_bytes(b"x" * 900)
    way, remote = ("-F", str(sshd.config)), f"{sshd.alias}:{there}"
    assert program("put", *way, str(tmp_path / "small"), f"{remote}/small").code == 0
    done = program("put", *way, str(tmp_path / "big"), f"{remote}/big")
    assert done.code == 2
    assert "1 file, 2.5 kB is more than 1.0 kB" in done.sentence()
    assert "--all" in done.sentence()
    assert not (sshd.home / there / "big").exists()
    assert program("put", *way, "--all", str(tmp_path / "big"), f"{remote}/big").code == 0
    for words in (("get", *way, f"{remote}/big"), ("get", *way, f"{remote}/*")):
        refused = program(*words, str(tmp_path / "back"))
        assert refused.code == 2, words
        assert not (tmp_path / "back").exists()
    assert program("get", *way, "--all", f"{remote}/big", str(tmp_path / "back")).code == 0


def test_what_is_kept_after_ctrl_c_and_the_command_that_goes_on(
    sshd: Host, there: str, tmp_path: Path
) -> None:
    size = 400_000_000
    with open(sshd.home / there / "a big'one", "wb") as file:
        file.truncate(size)
    os.chown(sshd.home / there / "a big'one", *_owner(sshd, there))
    words = ["get", "-F", str(sshd.config), "--resume", f"{sshd.alias}:{there}/a big'one"]
    child = started(*words, str(tmp_path / "x"))
    assert child.stderr is not None
    with child:
        while not _has_begun(tmp_path):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        said = child.stderr.read().decode()
    assert " kept; `openssh-jobs get -F " in said
    assert f"--resume '{sshd.alias}:{there}/a big'\"'\"'one' {tmp_path}/x` goes on" in said
    assert not (tmp_path / "x").exists()


def _has_begun(directory: Path) -> bool:
    """Whether bytes have arrived; what is listed may have another name a moment later."""
    for path in directory.glob(".oj-*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size:
                return True
    return False

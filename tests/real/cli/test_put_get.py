"""``put`` and ``get``, and the line that shows how far they are."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from openssh_jobs.testing.sshd import sftp_server
from tests.cli import on_terminal, program, started, stop_master, without_colour
from tests.lab.site import Host


def test_a_file_there_and_back(sshd: Host, there: str, tmp_path: Path) -> None:
    source = tmp_path / "a name with blanks"
    source.write_bytes(bytes(range(256)))
    remote = f"{sshd.alias}:{there}/new/deep"
    done = program("put", "-F", str(sshd.config), str(source), remote)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (sshd.home / there / "new" / "deep").read_bytes() == bytes(range(256))
    done = program("get", "-F", str(sshd.config), remote, str(tmp_path / "back"))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "back").read_bytes() == bytes(range(256))


def test_into_a_directory_with_a_slash(
    sshd: Host, there: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = program("put", "-F", str(sshd.config), f"{tree}/", f"{sshd.alias}:{there}/")
    assert (done.code, done.err) == (0, "")
    assert (sshd.home / there / "basis" / "inner" / "c.inp").read_text() == "ccc"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = program("get", "-F", str(sshd.config), f"{sshd.alias}:{there}/basis/a.inp")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "here" / "a.inp").read_text() == "a"
    done = program("get", "-F", str(sshd.config), f"{sshd.alias}:{there}/basis", ".")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "here" / "basis" / "b.log").read_text() == "bb"


def test_only_what_changed_and_where_it_was_cut(
    sshd: Host, there: str, tree: Path, tmp_path: Path
) -> None:
    remote = f"{sshd.alias}:{there}/t"
    words = ("put", "-F", str(sshd.config), "--update", "--json", str(tree), remote)
    assert program(*words).data["files"] == 3
    (tree / "a.inp").write_text("changed")
    assert (lambda facts: (facts["files"], facts["skipped"]))(program(*words).data) == (1, 2)
    done = program(
        *("get", "-F", str(sshd.config), "--resume", "--verify"),
        *(f"{remote}/a.inp", str(tmp_path / "one")),
    )
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "one").read_text() == "changed"
    done = program("get", "-F", str(sshd.config), "--resume", remote, str(tmp_path / "two"))
    assert done.code != 0
    assert "single files" in done.sentence()


def test_patterns_and_data(sshd: Host, there: str, tree: Path) -> None:
    done = program(
        *("put", "-F", str(sshd.config), "--only", "*.inp", "--json"),
        *(str(tree), f"{sshd.alias}:{there}/t"),
    )
    assert done.code == 0
    facts = done.data
    assert facts.pop("elapsed") > 0
    assert facts == {
        "host": sshd.alias,
        "source": str(tree),
        "target": f"{sshd.alias}:{there}/t",
        "files": 2,
        "bytes": 4,
        "skipped": 1,
        "deleted": 0,
    }
    assert not (sshd.home / there / "t" / "b.log").exists()


def test_what_is_in_the_way(sshd: Host, there: str, tree: Path, tmp_path: Path) -> None:
    way, remote = ("-F", str(sshd.config)), f"{sshd.alias}:{there}/t"
    assert program("put", *way, str(tree), remote).code == 0
    again = program("put", *way, str(tree), remote)
    assert again.code == 1
    assert "File exists" in again.sentence()
    assert "Add --merge" in again.sentence()
    assert program("put", *way, "--merge", str(tree), remote).code == 0
    over = program("put", *way, str(tree / "a.inp"), remote)
    assert over.code == 1
    assert f"End the target with a slash to put it inside: '{there}/t/'" in over.sentence()
    here = program("get", *way, remote, str(tmp_path))
    assert here.code == 2
    assert "exists on this machine" in here.sentence()
    assert "--merge" in here.sentence()
    here = program("get", *way, f"{remote}/a.inp", str(tmp_path))
    assert here.code == 2
    assert "with a slash" in here.sentence()


def test_what_is_not_there(sshd: Host, there: str, tmp_path: Path) -> None:
    way = ("-F", str(sshd.config))
    done = program("put", *way, str(tmp_path / "nothing"), f"{sshd.alias}:{there}/x")
    assert done.code == 2
    assert "there is no" in done.sentence()
    done = program("get", *way, f"{sshd.alias}:{there}/nothing", str(tmp_path / "x"))
    assert done.code == 1
    assert f"{sshd.alias}: No such file or directory" in done.sentence()
    data = program("get", *way, "--json", f"{sshd.alias}:{there}/nothing", str(tmp_path / "x"))
    assert data.data["error"]["type"] == "RemoteFileNotFoundError"
    assert not (tmp_path / "x").exists()


def test_a_person_sees_a_line(sshd: Host, there: str, tree: Path) -> None:
    way, remote = ("-F", str(sshd.config)), f"{sshd.alias}:{there}/t"
    done = on_terminal("put", *way, str(tree), remote)
    assert done.code == 0
    (line,) = without_colour(done.out).splitlines()
    assert line.startswith(f"{tree} -> {remote}: 3 files, 6 B in ")
    assert on_terminal("put", *way, "-q", "--merge", str(tree), remote).out == ""


def test_a_slow_transfer_shows_how_far_it_is(
    make_sshd: Callable[..., Host], cold: Path, expect_logins: Callable[..., None], tmp_path: Path
) -> None:
    """The line comes after a second, tells a number, and is gone at the end."""
    expect_logins(1)
    server = sftp_server()
    assert server is not None
    host = make_sshd(sftp=False, config_extra=f"Subsystem sftp sleep 1.5; exec {server}")
    (tmp_path / "x").write_bytes(b"123")
    done = on_terminal("put", "-F", str(host.config), str(tmp_path / "x"), f"{host.alias}:y")
    quiet = on_terminal("put", "-q", "-F", str(host.config), str(tmp_path / "x"), "private:y")
    stop_master(host)
    assert (quiet.code, quiet.out) == (0, "")
    assert done.code == 0
    assert (host.home / "y").read_bytes() == b"123"
    *drawn, end, _ = without_colour(done.out).replace("\n", "\r").split("\r")
    assert f"to {host.alias}:y  1 file  3 B  1 s" in [line.rstrip() for line in drawn]
    assert drawn[-1].strip() == ""
    assert " -> private:y: 1 file, 3 B in " in end


def test_ctrl_c_leaves_what_was_there(sshd: Host, there: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    program(
        *("exec", "-F", str(sshd.config), sshd.alias),
        f"head -c 400000000 /dev/zero > {there}/big",
    )
    child = started("get", "-F", str(sshd.config), f"{sshd.alias}:{there}/big", str(target))
    assert child.stderr is not None
    assert child.stdout is not None
    with child:
        while not list(tmp_path.glob(".oj-*")):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        said = child.stderr.read().decode()
    again = f"`openssh-jobs get --resume -F {sshd.config} {sshd.alias}:{there}/big {target}`"
    assert said == (
        f"openssh-jobs: stopped; what was at {target} before is unchanged; "
        f"{again} would keep what arrives.\n"
    )
    assert target.read_text() == "old"
    assert list(tmp_path.glob(".oj-*")) == []

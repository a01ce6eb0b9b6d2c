"""Plans, several sources, ``delete``; and that an update after a plain transfer moves no bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import ConfigurationError, InputError
from openssh_jobs.transfer.plan import TransferPlan
from tests.lab.site import Host
from tests.real.transfer.straight import backend, route

pytest_plugins = ("tests.fixtures",)
__all__ = ["backend", "route"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A tree of ours: two files and a directory with a third."""
    top = tmp_path / "here"
    (top / "d").mkdir(parents=True)
    for name in ("a", "b", "d/c"):
        (top / name).write_text(name)
    return top


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def give_away(top: Path) -> None:
    """All below a directory to its owner: the tests may run as root, the user of the host not."""
    facts = top.stat()
    for path in top.rglob("*"):
        os.chown(path, facts.st_uid, facts.st_gid, follow_symlinks=False)


def inodes(top: Path) -> dict[str, int]:
    """What a file that was written again would change."""
    return {str(path): path.stat().st_ino for path in top.rglob("*") if path.is_file()}


def test_an_update_after_a_plain_put_or_get_moves_only_what_changed(
    connection: Connection, here: Path, there: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "d/c"):
        os.utime(here / name, (1_600_000_000, 1_600_000_000))
    connection.put(here, f"{there}/t")
    before = inodes(there / "t")
    done = connection.put(here, f"{there}/t", update=True)
    assert (done.files, done.bytes, done.skipped) == (0, 0, 3)
    assert inodes(there / "t") == before, "nothing was written at the server"
    assert (there / "t" / "a").stat().st_mtime == 1_600_000_000, "the next update compares times"
    (here / "b").write_text("B")
    assert connection.put(here, f"{there}/t", update=True).files == 1
    assert {name for name, inode in inodes(there / "t").items() if before[name] != inode} == {
        str(there / "t" / "b")
    }
    for name in ("a", "d/c"):
        os.utime(there / "t" / name, (1_500_000_000, 1_500_000_000))
    back = tmp_path / "back"
    connection.get(f"{there}/t", back)
    before = inodes(back)
    assert connection.get(f"{there}/t", back, update=True).files == 0
    assert inodes(back) == before
    assert (back / "a").stat().st_mtime == 1_500_000_000
    connection.put(here / "a", f"{there}/one")
    before = inodes(there)
    assert connection.put(here / "a", f"{there}/one", update=True).skipped == 1
    assert connection.get(f"{there}/one", back / "a", update=True).skipped == 1
    assert inodes(there) == before


def test_what_the_source_does_not_have_is_deleted_at_the_end_and_nothing_else(
    connection: Connection, here: Path, there: Path, tmp_path: Path
) -> None:
    connection.put(here, f"{there}/t")
    outside = there / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    top = there / "t"
    for name in ("old\nname", "-rf", "d/old", "gone/deep/x", ".openssh_jobs/token/f", "keep.log"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    (top / "link").symlink_to(outside)
    (top / "gone" / "way").symlink_to("../../outside")
    give_away(there)
    plan = connection.put(here, str(top), update=True, delete=True, dry_run=True, exclude=["*.log"])
    assert plan.plan is not None
    deleted = [one.path.removeprefix(f"{top}/") for one in plan.plan.deletes]
    assert sorted(deleted) == [
        *("-rf", "d/old", "gone", "gone/deep", "gone/deep/x", "gone/way", "link", "old\nname"),
    ]
    assert (top / "gone" / "deep" / "x").exists(), "a dry run changes nothing"
    with pytest.raises(ZeroDivisionError):
        connection.put(here, str(top), update=True, delete=True, approve=lambda plan: 1 / 0)
    assert (top / "link").is_symlink(), "not approved"
    done = connection.put(here, str(top), update=True, delete=True, exclude=["*.log"])
    assert done.deleted == 8
    assert names(top) == [
        *(".openssh_jobs", ".openssh_jobs/token", ".openssh_jobs/token/f"),
        *("a", "b", "d", "d/c", "keep.log"),
    ]
    assert names(outside) == ["kept"]
    back = tmp_path / "back"
    connection.get(str(top), back)
    (back / "new").mkdir()
    (back / "new" / "x").write_text("x")
    (back / "way").symlink_to(tmp_path)
    done = connection.get(str(top), back, update=True, delete=True)
    assert (done.files, done.deleted) == (0, 3)
    assert names(back) == names(top)


def test_what_changes_between_listing_and_deletion_is_not_followed(
    connection: Connection,
    here: Path,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory becomes a link to another one; a file appears in a directory that goes."""
    connection.put(here, f"{there}/t")
    outside = there / "outside"
    for name in ("x", "y"):
        for place in (outside / "deep", there / "t" / "gone" / "deep"):
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(name)
    give_away(there)

    def swap(_: TransferPlan) -> None:
        (there / "t" / "gone").rename(there / "was")
        (there / "t" / "gone").symlink_to(outside)

    with pytest.raises(NotADirectoryError):
        connection.put(here, f"{there}/t", update=True, delete=True, approve=swap)
    assert names(outside) == ["deep", "deep/x", "deep/y"]
    (there / "t" / "gone").unlink()
    (there / "t" / "new").mkdir()
    give_away(there)

    def fill(_: TransferPlan) -> None:
        (there / "t" / "new" / "late").write_text("late")

    done = connection.put(here, f"{there}/t", update=True, delete=True, approve=fill)
    assert done.deleted == 0
    assert (there / "t" / "new" / "late").exists()


def test_the_same_on_this_machine(
    connection: Connection, here: Path, there: Path, tmp_path: Path
) -> None:
    connection.put(here, f"{there}/t")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("x")
    (here / "gone").mkdir()
    (here / "gone" / "x").write_text("x")

    def swap(_: TransferPlan) -> None:
        (here / "gone").rename(tmp_path / "was")
        (here / "gone").symlink_to(outside)

    with pytest.raises(NotADirectoryError):
        connection.get(f"{there}/t", here, update=True, delete=True, approve=swap)
    assert names(outside) == ["x"]


def test_deletions_that_are_refused(
    connection: Connection, host: Host, here: Path, there: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    connection.put(here, f"{there}/t")
    with pytest.raises(ConfigurationError, match="update=True"):
        connection.put(here, f"{there}/t", delete=True)
    with pytest.raises(ConfigurationError, match="trees"):
        connection.put(here / "a", f"{there}/t/a", update=True, delete=True)
    with pytest.raises(InputError, match="source is empty"):
        connection.put(tmp_path / "empty", f"{there}/t", update=True, delete=True)
    with pytest.raises(PermissionError, match="home"):
        connection.put(here, "~", update=True, delete=True)
    (there / "home").symlink_to(host.home)
    with pytest.raises(PermissionError):
        connection.put(here, f"{there}/home", update=True, delete=True, exclude=[".*", "oj*"])
    assert names(there / "t") == ["a", "b", "d", "d/c"]


def test_several_sources_go_into_one_directory_or_none_does(
    connection: Connection, here: Path, there: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int, int, int]] = []

    def progress(done: int, total: int, files: int, of: int, name: str) -> None:
        seen.append((done, total, files, of))

    done = connection.put([here / "a", here / "d"], f"{there}/into", progress=progress)
    assert (done.files, done.bytes) == (2, 4)
    assert names(there / "into") == ["a", "d", "d/c"]
    assert {(total, of) for _, total, _, of in seen} == {(4, 2)}
    assert seen[-1] == (4, 4, 2, 2)
    found = connection.glob(f"{there}/into/*")
    plan = connection.get(found, tmp_path / "back", dry_run=True).plan
    assert plan is not None
    assert [one.path for one in plan.moves] == [f"{tmp_path}/back/a", f"{tmp_path}/back/d/c"]
    assert not (tmp_path / "back").exists()
    assert connection.get(found, tmp_path / "back").files == 2
    assert names(tmp_path / "back") == ["a", "d", "d/c"]
    with pytest.raises(InputError, match="two of the sources are called 'a'"):
        connection.get([f"{there}/into/a", f"{there}/../{there.name}/into/a"], tmp_path / "no")
    with pytest.raises(FileNotFoundError):
        connection.get([f"{there}/into/a", f"{there}/into/none"], tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("delete", [False, True])
def test_an_update_costs_no_more_round_trips(
    connection: Connection, here: Path, there: Path, delete: bool
) -> None:
    connection.put(here, f"{there}/t", update=True)
    before = connection.stats()
    connection.put(here, f"{there}/t", update=True, delete=delete)
    after = connection.stats()
    assert after.control_calls - before.control_calls == 1
    assert after.commands == before.commands

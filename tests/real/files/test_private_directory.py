"""Private directories on the host: another user cannot read, change, plant or have removed.

With two real users of the lab, and the shell text run by real shells.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.cluster.job_files import (
    remove_made_script,
    remove_private_script,
)
from openssh_jobs.commands import scripts
from openssh_jobs.files.private_directory import MADE, functions
from openssh_jobs.jobs import JobState, JobStatus
from openssh_jobs.schedulers.launcher.exit_record import (
    read_records,
    records_script,
    status_from_records,
)
from tests.lab import namespaces

(_, ALICE), (_, MALLORY) = namespaces.USERS
SHELLS = {"dash": ["/bin/dash"], "bash": ["/bin/bash", "--posix"], "busybox": ["busybox", "sh"]}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or namespaces.MARK not in os.environ, reason="two users need the lab"
)

PLACE = functions() + "".join(
    os.fsdecode(scripts.functions("cluster/job_files", name)) for name in ("oj_place", "oj_own")
)
Done = subprocess.CompletedProcess[str]


class Place:
    """A directory that two users reach, and the home of one of them; a shell of hers."""

    def __init__(self, base: Path, shell: list[str]) -> None:
        self.base = base
        self.shell = shell
        base.chmod(0o755)
        self.home = base / "home"
        self.home.mkdir()
        os.chown(self.home, ALICE, ALICE)
        self.shared = base / "shared"
        self.precious = self.home / "results"
        self.alice("mkdir -p run1 run1/.script; echo thesis >run1/thesis", cwd_made=self.precious)

    def make(self, mode: int, owner: int = 0) -> None:
        self.shared.mkdir()
        os.chown(self.shared, owner, owner)
        self.shared.chmod(mode)

    def run(
        self, script: str, user: int, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.shell, "-c", script],
            cwd="/",
            user=user,
            group=user,
            extra_groups=[],
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def alice(self, script: str, *, cwd_made: Path | None = None) -> str:
        before = f"mkdir -p {cwd_made} && cd {cwd_made} && " if cwd_made else ""
        return self.run(before + script, ALICE).stdout

    def mallory(self, script: str) -> None:
        self.run(f"cd {self.shared} && {script}", MALLORY)

    def place(self, directory: Path | None = None, token: str = "run1") -> tuple[int, str, str]:
        """(status, private directory, why it is not in the job's own)."""
        script = PLACE + (
            f"oj_d='{directory or self.shared}'; oj_place \"$oj_d\" && "
            f'oj_own "$oj_d" {token} c0ffee; oj_r=$?; '
            'printf "%s|%s" "$oj_private" "$oj_reason"; exit $oj_r'
        )
        done = self.run(script, ALICE, check=False)
        private, _, reason = done.stdout.partition("|")
        return done.returncode, private, reason

    def remove(self, directory: Path | None = None, token: str = "run1", call: str = "") -> int:
        script = os.fsdecode(remove_private_script(str(directory or self.shared), token, call))
        return self.run(script, ALICE, check=False).returncode

    def verdict(self, directory: Path | None = None, token: str = "run1") -> JobStatus | str:
        script = records_script({"7": (str(directory or self.shared), token)})
        found = read_records(self.run(script, ALICE).stdout)
        assert found is not None
        return status_from_records(found["7"], "12", "12", None)


@pytest.fixture(params=list(SHELLS))
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    base = Path(os.environ["TMPDIR"]) / f"private-{os.getpid()}-{request.param}"
    base.mkdir()
    yield Place(base, shell)
    shutil.rmtree(base)


def is_private(path: Path) -> bool:
    facts = path.lstat()
    return stat.S_ISDIR(facts.st_mode) and (facts.st_uid, facts.st_mode & 0o777) == (ALICE, 0o700)


def test_in_a_safe_directory_it_lies_in_there(place: Place) -> None:
    place.make(0o1777)
    assert place.place() == (0, f"{place.shared}/.openssh_jobs/run1", "")
    private = place.shared / ".openssh_jobs" / "run1"
    assert is_private(private)
    assert is_private(private.parent)
    assert (private / ".oj-mark").read_text() == f"openssh_jobs c0ffee\n{place.shared}\n."
    assert place.remove() == 0
    assert list(place.shared.iterdir()) == []


def test_the_same_token_again_is_seen(place: Place) -> None:
    place.make(0o1777)
    assert place.place()[0] == 0
    assert place.place()[0] == 3
    assert place.place(token="run2")[0] == 0


PLANTS: dict[str, str] = {
    "open directory": "mkdir -m 777 .openssh_jobs",
    "open directory with the token": "mkdir -m 777 -p .openssh_jobs/run1; chmod 777 .openssh_jobs",
    "file": "echo planted >.openssh_jobs",
    "fifo": "mkfifo -m 666 .openssh_jobs",
    "dangling link": "ln -s nowhere .openssh_jobs",
    "link to alice's": "ln -s ../home/results .openssh_jobs",
    "link to mallory's": "mkdir -m 777 m && ln -s m .openssh_jobs",
    "link to itself": "ln -s .openssh_jobs .openssh_jobs",
}


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o2777])
@pytest.mark.parametrize("plant", list(PLANTS))
def test_what_others_have_planted_is_not_used(place: Place, plant: str, mode: int) -> None:
    place.make(mode)
    place.mallory(PLANTS[plant])
    before = sorted(str(path) for path in place.shared.rglob("*"))
    status, private, reason = place.place()
    assert (status, private) == (0, f"{place.home}/.openssh_jobs/run1")
    assert str(place.shared) in reason
    assert is_private(Path(private))
    assert f"\n{place.shared}\n" in (Path(private) / ".oj-mark").read_text()
    assert sorted(str(path) for path in place.shared.rglob("*")) == before
    assert place.remove() == 0
    assert not Path(private).exists()
    assert (place.precious / "run1" / "thesis").read_text() == "thesis\n"
    assert sorted(str(path) for path in place.shared.rglob("*")) == before


def test_a_directory_of_another_user_is_not_safe_with_a_sticky_bit(place: Place) -> None:
    place.make(0o1777, owner=MALLORY)
    status, private, reason = place.place()
    assert (status, private) == (0, f"{place.home}/.openssh_jobs/run1")
    assert "others can change" in reason


@pytest.mark.parametrize("deep", ["a", "a/b/c"])
def test_what_lies_below_what_others_can_replace_is_not_safe(place: Place, deep: str) -> None:
    place.make(0o777)
    directory = place.shared / deep
    place.alice("true", cwd_made=directory)
    assert place.place(directory)[1] == f"{place.home}/.openssh_jobs/run1"


def test_a_link_of_others_on_the_way_is_not_followed_later(place: Place) -> None:
    """Where others can lead a path to another directory, the home directory is taken."""
    place.make(0o1777)
    run = place.home / "run"
    place.alice("true", cwd_made=run)
    place.mallory(f"ln -s {run} theirs")
    place.alice(f"ln -s {place.shared}/theirs {place.home}/mine; ln -s {run} {place.shared}/own")
    assert place.place(place.shared / "theirs", "t1")[1] == f"{place.home}/.openssh_jobs/t1"
    assert place.place(place.home / "mine", "t2")[1] == f"{place.home}/.openssh_jobs/t2"
    # Nobody can change this one: a site's path through links stays what it is.
    assert place.place(place.shared / "own", "t3")[1] == f"{place.shared}/own/.openssh_jobs/t3"


def test_without_any_private_place_nothing_is_made(place: Place) -> None:
    place.make(0o777)
    place.home.chmod(0o777)
    assert place.place()[0] == 1
    assert list(place.shared.iterdir()) == []
    place.home.chmod(0o755)
    (place.home / ".openssh_jobs").symlink_to(place.precious)
    assert place.place()[0] == 1
    assert sorted(path.name for path in place.precious.iterdir()) == ["run1"]


def test_a_group_without_other_members_is_safe(place: Place) -> None:
    """umask 002 and a group for each user, as on many systems."""
    directory = place.home / "run"
    place.alice("chmod 775 .", cwd_made=directory)
    assert place.place(directory)[1] == f"{directory}/.openssh_jobs/run1"
    os.chown(directory, ALICE, MALLORY)
    directory.chmod(0o775)
    assert place.place(directory, "run2")[1] == f"{place.home}/.openssh_jobs/run2"


def test_an_error_is_raised_and_is_no_reason_to_go_elsewhere(place: Place) -> None:
    place.make(0o755)
    script = PLACE + f"oj_place {place.shared} run1 c0ffee"
    done = place.run(script, ALICE, check=False)
    assert done.returncode == 2
    assert "ermission denied" in done.stderr
    assert not (place.home / ".openssh_jobs").exists()


# -- what is believed ---------------------------------------------------------------------------

RECORDS = (
    "mkdir -m 777 -p .openssh_jobs/run1/.script; echo 'exit 12 - 0 0 1700000000 .' "
    ">.openssh_jobs/run1/exit.12; echo 'start 12 - 0 n 1 1700000000 0 .' "
    ">.openssh_jobs/run1/start.12"
)


@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_planted_exit_record_is_not_believed(place: Place, mode: int) -> None:
    place.make(mode)
    place.mallory(RECORDS)
    verdict = place.verdict()
    assert isinstance(verdict, str), f"a failed job reads as {verdict}"
    assert "not believed" in verdict


def test_records_that_can_be_swapped_are_not_believed(place: Place) -> None:
    """What was ours alone when the job began lies in a directory that was opened since."""
    place.make(0o1777)
    assert place.place()[0] == 0
    place.alice(f"cd {place.shared} && {RECORDS.replace('-m 777', '-m 700')}")
    verdict = place.verdict()
    assert isinstance(verdict, JobStatus)
    assert verdict.state is JobState.COMPLETED
    place.shared.chmod(0o777)
    assert "not believed" in str(place.verdict())
    assert place.remove() == 1, "nor is anything removed there"
    assert (place.shared / ".openssh_jobs/run1/exit.12").exists()


def test_only_the_directory_that_is_recorded_counts_in_a_home(place: Place) -> None:
    place.make(0o777)
    assert place.place()[1] == f"{place.home}/.openssh_jobs/run1"
    place.alice(f"cd {place.home} && {RECORDS.replace('-m 777', '-m 700')}")
    assert isinstance(place.verdict(), JobStatus)
    other = place.base / "other"
    assert "gone" in str(place.verdict(other))
    assert place.remove(other) == 0
    assert (place.home / ".openssh_jobs/run1").exists()


# -- what is removed ----------------------------------------------------------------------------


def test_without_our_mark_nothing_is_removed(place: Place) -> None:
    directory = place.home / "job"
    place.alice("mkdir -m 700 -p .openssh_jobs/run1; echo mine >.openssh_jobs/run1/notes",
                cwd_made=directory)  # fmt: skip
    assert place.remove(directory) == 1
    place.alice(f"ln -s {place.precious}/run1/thesis {directory}/.openssh_jobs/run1/.oj-mark")
    assert place.remove(directory) == 1
    assert (directory / ".openssh_jobs/run1/notes").read_text() == "mine\n"


def test_what_is_mounted_there_is_not_removed(place: Place) -> None:
    directory = place.home / "a job"
    directory.mkdir()
    os.chown(directory, ALICE, ALICE)
    results = Path(place.place(directory)[1]) / "results"
    results.mkdir()
    os.chown(results, ALICE, ALICE)
    subprocess.run(["mount", "--bind", place.precious, results], check=True, timeout=10)
    try:
        assert place.remove(directory) == 4
        assert (place.precious / "run1" / "thesis").exists()
    finally:
        subprocess.run(["umount", results], check=True, timeout=10)
    assert place.remove(directory) == 0
    assert os.listdir(directory) == []


def test_another_calls_directory_is_not_removed(place: Place) -> None:
    place.make(0o1777)
    assert place.place()[0] == 0
    assert place.remove(call="another") == 1
    assert place.remove(call="c0ffee") == 0


def test_a_link_in_the_tokens_place_is_not_followed(place: Place) -> None:
    directory = place.home / "job"
    place.alice(f"mkdir -m 700 .openssh_jobs; ln -s {place.precious}/run1 .openssh_jobs/run1",
                cwd_made=directory)  # fmt: skip
    place.alice(f"printf 'openssh_jobs c\\n{directory}\\n.' >{place.precious}/run1/.oj-mark")
    assert place.remove(directory) == 1
    assert (place.precious / "run1" / "thesis").exists()


_PUT = "echo put $(ls -di . | sed 's/^ *//; s/ .*//')"
"""The mark of an upload: it names its directory by the number."""


@pytest.mark.parametrize("uploaded", [True, False])
def test_a_made_directory_goes_only_with_the_mark_of_its_call(place: Place, uploaded: bool) -> None:
    def undo(call: str = "c1") -> int:
        return place.run(os.fsdecode(remove_made_script(str(job), call)), ALICE).returncode

    job = place.home / "job"
    mark = f"{_PUT} >{MADE}c1" if uploaded else f": >{MADE}c1"
    place.alice(f"mkdir sub; {mark}; echo x >sub/x", cwd_made=job)
    undo("c2")
    assert (job / "sub/x").exists()
    undo()
    assert job.exists() is not uploaded, "what others have put there stays"
    place.alice("echo theirs >results", cwd_made=job)
    undo()
    assert (job / "results").read_text() == "theirs\n"


def test_what_a_mark_says_does_not_count_where_others_can_move_it(place: Place) -> None:
    place.make(0o777)
    place.alice(f"{_PUT} >{MADE}c1; chmod 777 .; echo x >x", cwd_made=place.shared / "job")
    done = place.run(os.fsdecode(remove_made_script(str(place.shared / "job"), "c1")), ALICE,
                     check=False)  # fmt: skip
    assert done.returncode == 1
    assert "others can change" in done.stderr
    assert (place.shared / "job" / "x").exists()


def test_odd_names_are_entered_and_removed(place: Place) -> None:
    for name in ("with blank", "new\nline", "end\n", "-r", "*", "a'b", "\\"):
        directory = place.home / name
        directory.mkdir()
        os.chown(directory, ALICE, ALICE)
        script = f"{PLACE}oj_d={shell_word(str(directory))}; "
        script += 'oj_place "$oj_d"; oj_own "$oj_d" t c; printf %s. "$oj_private"'
        assert place.run(script, ALICE).stdout == f"{directory}/.openssh_jobs/t."
        assert place.remove(directory, "t") == 0
        assert list(directory.iterdir()) == []


def shell_word(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_the_functions_say_nothing(place: Place) -> None:
    done = place.run(functions(), ALICE)
    assert (done.stdout, done.stderr) == ("", "")


def test_another_user_cannot_read_it(place: Place) -> None:
    place.make(0o1777)
    place.place()
    for name in ("", "/run1/.oj-mark"):
        assert place.run(f"ls {place.shared}/.openssh_jobs{name}", MALLORY, check=False).returncode

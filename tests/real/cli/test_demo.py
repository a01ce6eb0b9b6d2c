"""The demo: it works, its number is right, and it leaves nothing behind. Looked at from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssh_jobs.cli import molecule
from tests.cli import PROGRAM, Done, on_terminal, program, started, without_colour
from tests.lab import leaks, namespaces, parts
from tests.lab.site import Host

# Where a program of this kind could leave something, and nobody else is at work.
PLACES = ("/etc", "/run", "/var/log", "/var/mail", "/var/spool")
# What a read-only machine has to let through: devices, terminals and what the kernel tells.
READ_ONLY = """
mount --bind "$1" "$1"
while read -r _ where _; do
    case $where in
    "$1" | /proc* | /sys* | /dev | /dev/*) ;;
    *) mount -o remount,bind,ro "$where" || exit 99 ;;
    esac
done </proc/self/mounts
if touch /etc/probe /run/probe /tmp/probe 2>/dev/null; then exit 98; fi
export TMPDIR="$1"
shift
exec "$@"
"""


@pytest.fixture(autouse=True)
def _has_what_it_needs() -> None:
    parts.require("ssh", "sshd")


def files(*tops: str | Path) -> dict[str, tuple[int, int, int]]:
    """Every file below some directories: size, time of the last change, inode."""
    found = {}
    for top in tops:
        for directory, names, plain in os.walk(top):
            if directory.startswith(("/run/lab/s", "/run/lab/gridengine")):
                names.clear()  # the site's own logs go on
                continue
            for name in (*names, *plain):
                path = os.path.join(directory, name)
                try:
                    facts = os.lstat(path)
                except FileNotFoundError:
                    continue
                stamp = 0 if os.path.isdir(path) else facts.st_mtime_ns
                found[path] = (facts.st_size, stamp, facts.st_ino)
    return found


def processes() -> set[int]:
    """Every process that this one can see."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def left_running(before: set[int], patience: float = 5) -> list[str]:
    """Processes that were not there before, after those that are just ending have ended."""
    deadline = time.monotonic() + patience
    while True:
        new = []
        for pid in processes() - before:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if state not in "ZX":
                new.append(f"{pid} {words.decode(errors='replace')}")
        if not new or time.monotonic() > deadline:
            return new
        time.sleep(0.05)


@pytest.fixture
def short(lab_directory: Path) -> Iterator[Path]:
    """A TMPDIR of the test's own whose name leaves room for a socket's."""
    directory = lab_directory / "t"
    directory.mkdir(mode=0o700)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def nothing_left(short: Path) -> Iterator[Path]:
    """No process and no file more, or other, after the test than before; gives a TMPDIR.

    In the lab's namespaces that is every process there; elsewhere others are at work, too.
    """
    places: tuple[str | Path, ...] = (*PLACES, os.environ["HOME"])
    if not namespaces.inside():
        places = (short, os.environ["HOME"])
    seen, before, traces = files(*places), processes(), leaks.traces(Path.home())
    yield short
    if namespaces.inside():
        assert left_running(before) == []
    else:
        assert leaks.wait_for_processes(short) == []
    after = files(*places)
    changed = {path for path in seen.keys() | after.keys() if seen.get(path) != after.get(path)}
    assert changed == set()
    assert leaks.traces(Path.home()) == traces
    assert list(short.iterdir()) == []


def check_story(said: str) -> None:
    """What everybody who runs the demo gets to see."""
    assert f"{molecule.energy():.8f} hartree, the same" in said
    assert "Counted in the server's log: 1 login, for " in said
    assert said.rstrip().endswith("Left behind: nothing.")
    steps = [line for line in said.splitlines() if line.startswith("  atom ")]
    assert [line.split(":")[0] for line in steps] == [
        f"  atom {number} of {molecule.ATOMS}" for number in range(1, molecule.ATOMS + 1)
    ]


def test_the_demo_leaves_nothing_behind(nothing_left: Path) -> None:
    done = program("demo", TMPDIR=str(nothing_left), PYTHONDONTWRITEBYTECODE="1")
    assert (done.code, done.err) == (0, ""), done
    check_story(done.out)
    assert "running  [####" in done.out
    assert "job 1 completed, exit code 0" in done.out


def test_the_demo_on_a_terminal(nothing_left: Path) -> None:
    done = on_terminal("demo", TMPDIR=str(nothing_left), PYTHONDONTWRITEBYTECODE="1")
    assert done.code == 0
    drawn = without_colour(done.out).replace("\n", "\r").split("\r")
    check_story("\n".join(drawn))
    assert any(line.startswith("running  [") and " atoms  " in line for line in drawn)
    assert max(map(len, drawn)) <= 80


def test_the_demo_as_data(nothing_left: Path) -> None:
    done = program("demo", "--json", TMPDIR=str(nothing_left), PYTHONDONTWRITEBYTECODE="1")
    assert (done.code, done.err) == (0, "")
    facts = done.data
    assert facts["energy"] == pytest.approx(molecule.energy(), abs=1e-9)
    assert (facts["agrees"], facts["logins"], facts["left_behind"]) == (True, 1, [])
    assert (facts["state"], facts["exit_code"], facts["scheduler"]) == ("completed", 0, "direct")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_ended_in_the_middle_leaves_nothing(nothing_left: Path, number: int) -> None:
    child = started(
        "demo",
        env=os.environ | {"TMPDIR": str(nothing_left), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        while b"atom 3 of 9" not in child.stdout.readline():
            assert child.poll() is None
        child.send_signal(number)
        assert child.wait(30) == 128 + number
        child.stdout.read()
        said = child.stderr.read().decode()
    assert said == "openssh-jobs: stopped; all of the demo was removed.\n"


def test_a_long_tmpdir_does_not_matter(tmp_path: Path) -> None:
    """A Unix socket's name has to be short; the directory need not be."""
    deep = tmp_path / ("a" * 60) / "b c"
    deep.mkdir(parents=True)
    done = program("demo", "--json", TMPDIR=str(deep))
    assert (done.code, done.err) == (0, "")
    assert list(deep.iterdir()) == []


# -- on a host of the user's --------------------------------------------------------------------


def check_users_host(done: Done, host: Host, before: set[str]) -> None:
    assert (done.code, done.err) == (0, ""), done
    assert f"{molecule.energy():.8f} hartree, the same" in done.out
    assert f"$ openssh-jobs tail -F {host.config}" in done.out
    assert "Counted by this program: 0 logins, for " in done.out
    assert {path.name for path in host.home.iterdir()} - before <= {".openssh_jobs"}


def test_the_demo_on_a_host_with_slurm(sshd: Host, slurm: object, tmp_path: Path) -> None:
    before = {path.name for path in sshd.home.iterdir()}
    done = program(
        *("demo", "-F", str(sshd.config), "--host", sshd.alias, "--scheduler", "slurm"),
        XDG_STATE_HOME=str(tmp_path),
    )
    check_users_host(done, sshd, before)
    assert "scheduler slurm" in done.out
    assert program("list", XDG_STATE_HOME=str(tmp_path)).out == ""


def test_the_demo_on_a_host_without_a_scheduler(sshd: Host, tmp_path: Path) -> None:
    before = {path.name for path in sshd.home.iterdir()}
    way = ("demo", "-F", str(sshd.config), "--host", sshd.alias, "--scheduler", "direct")
    check_users_host(program(*way, XDG_STATE_HOME=str(tmp_path)), sshd, before)
    kept = program(*way, "--keep", "--json", XDG_STATE_HOME=str(tmp_path))
    assert kept.code == 0
    (directory,) = {path.name for path in sshd.home.iterdir()} - before - {".openssh_jobs"}
    assert (sshd.home / directory / molecule.RESULT).exists()
    program("exec", "-F", str(sshd.config), sshd.alias, "--", "rm", "-rf", directory)


def test_ctrl_c_on_a_users_host_cancels_and_removes(sshd: Host, tmp_path: Path) -> None:
    before = {path.name for path in sshd.home.iterdir()}
    child = started(
        *("demo", "-F", str(sshd.config), "--host", sshd.alias, "--scheduler", "direct"),
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        while b"atom 3 of 9" not in child.stdout.readline():
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        child.stdout.read()
        said = child.stderr.read().decode()
    assert "the job was cancelled and openssh-jobs-demo-" in said
    assert {path.name for path in sshd.home.iterdir()} - before <= {".openssh_jobs"}


# -- a machine that lacks something -------------------------------------------------------------


def test_the_demo_where_only_its_own_directory_can_be_written(short: Path) -> None:
    """Nobody can leave a file where no file can be made: the demo needs no such place."""
    parts.require_namespaces("a machine that cannot be written to")
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", READ_ONLY, "sh"),
            str(short),
            *PROGRAM,
            "demo",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    check_story(done.stdout)
    assert list(short.iterdir()) == []


def test_without_an_sshd_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    parts.require_namespaces("a machine without sshd")
    (tmp_path / "nothing").touch()
    hide = 'mount --bind "$1" "$(command -v sshd)" && shift && exec "$@"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"),
            str(tmp_path / "nothing"),
            *PROGRAM,
            "demo",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "openssh-jobs: there is no sshd on this machine. "
        "Install it: apt-get install openssh-server.\n"
    )


def test_the_tools_of_this_test_see_what_is_left(tmp_path: Path) -> None:
    before, seen = processes(), files(tmp_path)
    child = subprocess.Popen(["sleep", "60"], env={"HOME": str(tmp_path)})
    try:
        (tmp_path / "new").write_text("x")
        assert [line for line in left_running(before, 0) if line.startswith(str(child.pid))] != []
        assert files(tmp_path) != seen
    finally:
        child.kill()
        child.wait(10)

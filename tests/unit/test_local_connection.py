"""``LocalConnection``: the methods of a ``Connection`` on this machine, without ssh."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import openssh_jobs
from openssh_jobs import Connection, LocalConnection
from openssh_jobs.errors import (
    CommandFailed,
    CommandTimeout,
    ConfigurationError,
    RemoteOSError,
    TransferError,
)
from openssh_jobs.openssh import reaper
from openssh_jobs.transfer.options import Method
from tests.helpers import PYTHON, facts, hidden, make_tree, processes, until
from tests.lab import parts

_marks = itertools.count(310_000)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All programs but those that are called ``ssh``, ``sftp`` or ``scp``."""
    tools = tmp_path_factory.mktemp("tools")
    for directory in ("/bin", "/usr/bin"):
        for program in Path(directory).iterdir():
            place = tools / program.name
            if program.name not in ("ssh", "sftp", "scp") and not place.is_symlink():
                place.symlink_to(program)
    return tools


@pytest.fixture
def here(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalConnection]:
    """This machine; nothing that is called ``ssh`` or ``sftp`` can be found."""
    monkeypatch.setenv("PATH", str(tools))
    with LocalConnection() as connection:
        yield connection


@pytest.fixture
def mark() -> str:
    """Seconds for sleep(1) that no other run of the tests uses."""
    return f"{next(_marks)}.{os.getpid()}"


# -- commands -----------------------------------------------------------------------------------


# A parent that reads no status of orphans, as the first process of many containers.
CARELESS = """
import ctypes, sys
from openssh_jobs import LocalConnection
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
with LocalConnection() as here:
    for command in (f"echo begun; sleep {sys.argv[1]}; true", f"trap '' TERM; {sys.argv[2]}"):
        process = here.popen(command)
        process.stdout.readline()
        assert process.end(), command
        process.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_an_orphan_whose_status_is_not_read_has_ended(mark: str) -> None:
    more = f"echo begun; sleep {mark} & sleep {mark}; sleep {mark}"
    done = subprocess.run(
        [*PYTHON, CARELESS, mark, more], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert processes(mark) == []


def test_it_has_every_method_of_a_connection() -> None:
    theirs = {name for name in dir(Connection) if not name.startswith("_")}
    assert theirs <= {name for name in dir(LocalConnection) if not name.startswith("_")}
    assert openssh_jobs.LocalConnection is LocalConnection


def test_commands_have_this_programs_environment_and_directory(
    here: LocalConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FROM_HERE", "ä b")
    monkeypatch.setenv("LC_MESSAGES", "tlh")
    monkeypatch.chdir(tmp_path)
    done = here.run('echo "$FROM_HERE:$LC_MESSAGES:$OTHER"; pwd', env={"OTHER": "o"})
    assert done.stdout == f"ä b:tlh:o\n{tmp_path}\n"
    assert (done.host, done.returncode) == ("this machine", 0)
    assert here.run("pwd", cwd="/").stdout == "/\n"
    with pytest.raises(FileNotFoundError):
        here.run("true", cwd=str(tmp_path / "none"))


def test_relative_paths_follow_the_current_directory(
    here: LocalConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        here.write_text("file", name)
        assert here.read_text("file") == name
        assert here.listdir(".") == ["file"]
        assert here.realpath("file") == str(tmp_path / name / "file")
        here.put("file", "copy")
        assert (tmp_path / name / "copy").read_text() == name


def test_a_login_shell_reads_its_rc_files(
    here: LocalConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".profile").write_text("echo noise; FROM_PROFILE=yes; export FROM_PROFILE\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert here.run('echo "<$FROM_PROFILE>"').stdout == "<>\n"
    assert here.run('echo "<$FROM_PROFILE>"', login_shell=True).stdout == "<yes>\n"


def test_output_can_be_passed_on_and_not_kept(here: LocalConnection) -> None:
    lines: list[str] = []
    done = here.run("seq 3; echo e >&2", on_stdout=lines.append, keep=False)
    assert (lines, done.stdout, done.stderr) == (["1\n", "2\n", "3\n"], "", "e\n")


def test_statuses_and_failures(here: LocalConnection) -> None:
    assert here.run("exit 7").returncode == 7
    assert here.run(["no-such-command"]).returncode == 127
    with pytest.raises(CommandFailed, match="this machine"):
        here.run("exit 7", check=True)
    results = here.run_many(["echo a", "exit 2", "echo c"])
    assert [done.returncode for done in results] == [0, 2, 0]


def test_a_timeout_leaves_nothing_running(here: LocalConnection, mark: str) -> None:
    with pytest.raises(CommandTimeout, match="its processes were ended") as caught:
        here.run(f"sleep {mark} & sleep {mark}", timeout=0.3)
    assert caught.value.confirmed
    assert processes(mark) == []


def test_no_zombie_is_left_without_a_wait(here: LocalConnection, mark: str) -> None:
    parts.require_proc()
    process = here.popen(f"sleep {mark}")
    assert until(lambda: processes(mark))
    process.close()
    (pid,) = processes(mark)
    shell = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not _is_there(pid), patience=30), "the command is left"
    assert until(lambda: not _is_there(shell), patience=30), "its shell is left"


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False


INTERRUPTED = """\
import sys
from openssh_jobs import LocalConnection
c = LocalConnection()
print("up", flush=True)
try:
    c.run(f"sleep {sys.argv[1]}; sleep {sys.argv[1]}")
except KeyboardInterrupt:
    print("interrupted")
c.close()
"""


def test_ctrl_c_ends_the_command(mark: str) -> None:
    parts.require_proc()
    client = subprocess.Popen(
        [*PYTHON, INTERRUPTED, mark], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Its shell has the mark in its arguments before it starts the first sleep.
    assert until(lambda: [pid for pid in processes(mark) if _is_sleep(pid)])
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=20) == ("up\ninterrupted\n", "")
    assert until(lambda: not processes(mark))


def test_a_forked_child_goes_on_by_itself(here: LocalConnection) -> None:
    assert here.exists("/")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if here.exists("/") and here.run("echo child").stdout == "child\n" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert here.exists("/")
    assert here.run("echo parent").stdout == "parent\n"


def test_threads_share_it(here: LocalConnection) -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(here.run(f"echo {n}").stdout))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results, key=int) == [f"{n}\n" for n in range(20)]


def test_no_more_processes_at_a_time_than_asked_for(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/up; sleep 0.2; wc -l < {tmp_path}/up; sed -i 1d {tmp_path}/up"
    with LocalConnection(max_sessions=1) as one:
        assert [done.stdout.strip() for done in one.run_many([script] * 4)] == ["1"] * 4


# -- files --------------------------------------------------------------------------------------


def test_the_file_calls(here: LocalConnection, tmp_path: Path) -> None:
    place = tmp_path / "a b'c"
    here.makedirs(str(place / "deep"))
    here.write_bytes(str(place / "file"), b"\0\xff" * 100_000)
    assert here.read_bytes(str(place / "file")) == b"\0\xff" * 100_000
    assert here.stat(str(place / "file")).st_size == 200_000
    assert sorted(here.listdir(str(place))) == ["deep", "file"]
    here.chmod(str(place / "file"), 0o640)
    assert (place / "file").stat().st_mode & 0o777 == 0o640
    here.rename(str(place / "file"), str(place / "moved"))
    here.copy(str(place / "moved"), str(place / "copy"))
    assert here.glob(f"{tmp_path}/a*/m*d") == [str(place / "moved")]
    assert not here.exists(str(place / "file"))
    with pytest.raises(FileNotFoundError) as caught:
        here.read_bytes(str(place / "file"))
    assert isinstance(caught.value, RemoteOSError)
    assert "this machine" in str(caught.value)
    here.rmtree(str(place))
    assert not place.exists()


NAMES = ["plain", "a b", "ä€", "new\nline", "-n", "'", '"', "$HOME", "*"]


@pytest.mark.parametrize("method", ["auto", "tar", "rsync"])
@pytest.mark.parametrize("way", ["put", "get"])
def test_a_tree_arrives_whole(
    here: LocalConnection, tmp_path: Path, method: Method, way: str
) -> None:
    make_tree(tmp_path / "source", NAMES)
    move = getattr(here, way)
    move(str(tmp_path / "source"), str(tmp_path / "target"), method=method, preserve=True)
    assert facts(tmp_path / "target") == facts(tmp_path / "source")
    with pytest.raises(FileExistsError):
        move(str(tmp_path / "source"), str(tmp_path / "target"), method=method)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("way", ["put", "get"])
def test_updates_move_what_differs(here: LocalConnection, tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_tree(source, NAMES)
    move = getattr(here, way)
    move(str(source), str(target), update=True)
    (source / "plain").write_bytes(b"changed")
    moved = move(str(source), str(target), update=True)
    assert moved.files == 1
    assert facts(target) == facts(source)
    seconds = time.time() - 1000
    for top in (source, target):
        (top / "plain").write_bytes(b"same sz" if top is source else b"SAME SZ")
        os.utime(top / "plain", (seconds, seconds))
    assert move(str(source), str(target), update=True).files == 0
    assert move(str(source), str(target), update=True, verify=True).files == 1
    (target / "extra").write_bytes(b"stays")
    move(str(source), str(target), merge=True)
    assert (target / "extra").read_bytes() == b"stays"


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_file_arrives_whole_with_its_progress(
    here: LocalConnection, tmp_path: Path, way: str
) -> None:
    data = os.urandom(20_000_000)
    (tmp_path / "file").write_bytes(data)
    heard: list[tuple[int, int]] = []
    moved = getattr(here, way)(
        str(tmp_path / "file"),
        str(tmp_path / "new" / "place"),
        verify=True,
        progress=lambda done, total, *_: heard.append((done, total)),
    )
    assert (moved.files, moved.bytes) == (1, len(data))
    assert (tmp_path / "new" / "place").read_bytes() == data
    assert heard[-1] == (len(data), len(data))
    moved = getattr(here, way)(str(tmp_path / "file"), str(tmp_path / "again"), resume=True)
    assert (tmp_path / "again").read_bytes() == data
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("way", ["put", "get"])
def test_what_fails_leaves_nothing(here: LocalConnection, tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1_000_000))
    (tmp_path / "old").write_bytes(b"old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        getattr(here, way)(str(tmp_path / "file"), str(tmp_path / "old"), progress=stop)
    assert (tmp_path / "old").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        getattr(here, way)(str(tmp_path / "none"), str(tmp_path / "old"))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_directory_is_not_copied_into_itself(
    here: LocalConnection, tmp_path: Path, way: str
) -> None:
    make_tree(tmp_path / "source", ["file"])
    (tmp_path / "alias").symlink_to("source")
    before = facts(tmp_path / "source")
    for target in ("source", "source/inner", "alias/inner", "source/"):
        with pytest.raises(TransferError, match="into itself"):
            getattr(here, way)(str(tmp_path / "source"), f"{tmp_path}/{target}", merge=True)
    assert facts(tmp_path / "source") == before


@pytest.mark.parametrize("method", ["sftp", "scp"])
def test_methods_that_need_ssh_say_so(
    here: LocalConnection, tmp_path: Path, method: Method
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for way in (here.put, here.get):
        with pytest.raises(TransferError, match=r"there is no ssh|no working sftp"):
            way(str(tmp_path / "file"), str(tmp_path / "other"), method=method)
    assert not (tmp_path / "other").exists()
    assert hidden(tmp_path) == []


# -- what a connection has beside that ----------------------------------------------------------


def test_there_is_nothing_to_connect(here: LocalConnection) -> None:
    alive = here.check()
    assert alive
    assert (alive.master, alive.answered, alive.ours) == (None, True, False)
    here.reconnect()
    assert here.open() is here
    assert here.run("echo on").stdout == "on\n"
    stats = here.stats()
    assert (stats.logins, stats.commands, stats.sftp_processes) == (0, 1, 0)
    for forward in (here.forward_local, here.forward_remote):
        with pytest.raises(io.UnsupportedOperation):
            forward(80, 8080)
    assert (repr(here), here.host, here.name) == ("LocalConnection()", *["this machine"] * 2)
    here.close(stop_master=True)
    assert here.exists("/"), "closed objects open again, as connections do"


@pytest.mark.parametrize("wrong", [{"max_sessions": 0}, {"start_timeout": 0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LocalConnection(**wrong)


def test_what_was_held_ends_with_it(mark: str) -> None:
    with LocalConnection() as connection:
        connection.exists("/")
        held = connection._shell._session
        shell = held.worker
        assert shell is not None
        assert held in reaper._holders
    assert shell.session.wait(0)
    assert until(lambda: held not in reaper._holders)


def test_nothing_of_ssh_is_read(tmp_path: Path) -> None:
    """No configuration, no agent, no runtime directory: not even where they are broken."""
    code = (
        "from openssh_jobs import LocalConnection\n"
        "with LocalConnection() as c:\n"
        "    c.write_text('f', 'x'); c.put('f', 'g')\n"
        "    print(c.read_text('g') + c.run('id -u').stdout)"
    )
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_AUTH_SOCK": "/nonexistent",
        "OPENSSH_JOBS_RUNTIME_DIR": "/nonexistent/place", "XDG_STATE_HOME": "/nonexistent/state",
        "PYTHONPATH": os.pathsep.join(map(str, sys.path)),
    }  # fmt: skip
    done = subprocess.run(
        [*PYTHON, code], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"x{os.getuid()}\n\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["f", "g"]

"""What is submitted for a launcher: read by any shell, it runs the script as it was run itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.jobs import JobStatus
from openssh_jobs.schedulers.launcher.any_shell import (
    LAUNCH,
    LOOK,
    SCRIPT,
    LauncherFiles,
    launcher_files,
)
from openssh_jobs.schedulers.launcher.exit_record import (
    read_records,
    records_script,
    status_from_records,
)
from openssh_jobs.schedulers.launcher.launcher import (
    BODY,
    GRID_ENGINE_JOBS,
    PBS_JOBS,
    TORQUE_JOBS,
    Convention,
)
from tests.lab import parts

SHELLS = ("sh", "bash", "dash", "tcsh", "csh", "fish", "busybox")
OTHERS = ("zsh", "ksh93", "mksh", "bsd-csh")


def made(script: bytes, how: Convention = GRID_ENGINE_JOBS, **more: Any) -> LauncherFiles:
    files = launcher_files(script, how, directory="/d", **more)
    assert isinstance(files, LauncherFiles), files
    return files


def refused(script: bytes, how: Convention = GRID_ENGINE_JOBS, **more: Any) -> str:
    why = launcher_files(script, how, **{"directory": "/d", **more})
    assert isinstance(why, str)
    return why


# -- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "script", "size"),
    [
        (PBS_JOBS, b"#!/bin/sh\n#PBS -N x -J 0-8:2%1\n", 5),
        (PBS_JOBS, b"#PBS -J1-3\ntrue\n#PBS -J 1-9\n", 3),
        (TORQUE_JOBS, b"#PBS -t 1,3,5-6\n", 4),
        (GRID_ENGINE_JOBS, b"#!/bin/sh\ntrue\n#$ -t 1-4\n", 4),
        (PBS_JOBS, b"#!/bin/sh\n#PBS -N J\n", 0),
    ],
)
def test_the_size_of_an_array_is_known_by_its_directive(
    how: Convention, script: bytes, size: int
) -> None:
    """A job is not told it, and an array is over when so many members wrote how they ended."""
    assert f" oj_size={size}\n".encode() in made(script, how).launch
    assert b" oj_size=7\n" in made(script, how, members=7).launch


def test_what_is_submitted_is_two_lines_behind_the_directives() -> None:
    script = b"#!/bin/csh -f\n#$ -N x\n #$ -l a\necho\n#XY -l b\n#$ -l c \\\n"
    assert made(script).submitted.splitlines() == [
        b"#!/bin/sh -", b"#$ -N x", b"#XY -l b", b"#$ -l c \\", b"#",
        b"/bin/sh '/d/.script/look'", b"exec /bin/sh '/d/.script/launch'",
    ]  # fmt: skip


@pytest.mark.parametrize("how", [PBS_JOBS, TORQUE_JOBS])
def test_pbs_stops_at_the_first_command(how: Convention) -> None:
    for first in (b"#!/bin/bash\n", b"", b":\n"):
        script = first + b"#PBS -N x\n\n  # indented\n#PBS -l b\necho\n#PBS -l late\n"
        lines = made(script, how).submitted.splitlines()
        assert [line for line in lines if b"PBS" in line] == [b"#PBS -N x", b"#PBS -l b"]


def test_an_interpreter_that_is_no_shell() -> None:
    for name, code in (("/usr/bin/python3", b"os.execv"), ("/opt/perl5", b"exec {'/bin/sh'}")):
        for script, options in (
            (b"#$ -S %b\n#\xff\n#$ -N x\n" % name.encode(), ()),
            (b"#$ -S /bin/sh\n#$ -N x\n", ("-S", name)),
        ):
            text = made(script, options=options).submitted
            assert code in text
            assert text.startswith(b"#!%b\n" % name.encode())
            assert b"#$ -N x\n" in text
            assert b"\xff" not in text
    assert "no shell" in refused(b"#$ -l x -S '/usr/bin/R script'\n")
    assert "no shell" in refused(b"", options=("-S", "n1:/bin/sh,n2:/usr/bin/python3"))
    assert "no shell" in refused(b"#PBS -S /usr/bin/python3@n1,/bin/sh\n", PBS_JOBS)
    assert "ASCII" in refused(b"#$ -S /usr/bin/python3\n#$ -N \xc3\xa9\n")
    made(b"#XY -S /bin/R\n")
    assert "no shell" in refused(b"#XY -S /bin/R\n", options=("-C", "#XY"))
    made(b"#$ -S /bin/R\n", options=("-C", ""))
    made(b"#PBS -S /bin/tcsh@n1,/usr/local/bin/zsh\n", PBS_JOBS)
    made(b"", options=("-S", "n1:/bin/ksh93,/bin/bash-5.1"))


@pytest.mark.parametrize(
    ("script", "more", "why"),
    [
        (b"", {"directory": "/it's"}, "different things"),
        (b"", {"directory": "/a!b"}, "different things"),
        (b"", {"directory": "/a\\b"}, "different things"),
        (b"", {"directory": "/a\nb"}, "different things"),
        (b"", {"directory": "/a\udcff"}, "different things"),
        (b"", {"directory": "/" + "x" * 1000}, "different things"),
        (b"#!\n", {}, "names no program"),
        (b"#!/" + b"x" * 200, {}, "too long"),
        (b"", {"options": ("-b", "y")}, "program"),
    ],
)
def test_what_is_unpredictable_is_refused(script: bytes, more: dict[str, Any], why: str) -> None:
    assert why in refused(script, **more)


def test_dos_lines() -> None:
    assert "DOS" in refused(b"echo\r\n", PBS_JOBS)
    assert b"#$ -N x\r\n" in made(b"#$ -N x\r\necho\r\n").submitted, "Grid Engine takes them"


@given(st.binary(max_size=80), st.lists(st.sampled_from(("-S", "-C", "-b", "y", "#", "/bin/sh,"))))
def test_nothing_in_a_script_becomes_a_command(script: bytes, options: list[str]) -> None:
    files = launcher_files(script, GRID_ENGINE_JOBS, directory="/d", options=options)
    if isinstance(files, LauncherFiles):
        lines = files.submitted.split(b"\n")
        assert all(line.startswith(b"#") for line in lines[:-3])
        assert [line[:1] for line in lines[-3:-1]] == [b"/", b"e"]


# -- running it -------------------------------------------------------------------------------

LOOK_AT_ME = (
    "import os, sys; p = f'/proc/{sys.argv[1]}/'\n"
    "words = open(p + 'cmdline').read().split('\\0')[:-1]\n"
    "print([w if '/' not in w else os.path.basename(w) for w in words], os.readlink(p + 'exe'))\n"
    "print(sorted(e for e in open(p + 'environ').read().split('\\0') if e[:2] != '_='))\n"
)


class Node:
    """A directory of a submission, and the scheduler's copy of what was submitted elsewhere."""

    def __init__(self, top: Path, how: Convention, name: str = "TOKEN") -> None:
        parts.require_proc()
        self.how, self.private, self.spool = how, top / name, top / "spool" / "12.server.SC"
        for place in (self.private, self.private / BODY, self.spool.parent):
            place.mkdir(parents=True, exist_ok=True)
        self.look = top / "look.py"
        self.look.write_text(LOOK_AT_ME)
        self.see = f"{sys.executable} {self.look} $$"

    def put(self, script: str, *, wrapped: bool, without: tuple[str, ...] = ()) -> None:
        data = script.encode()
        if wrapped:
            files = launcher_files(data, self.how, directory=str(self.private))
            assert isinstance(files, LauncherFiles)
            for name, text in ((SCRIPT, data), (LOOK, files.look), (LAUNCH, files.launch)):
                for one in without:
                    text = text.replace(one.encode(), b"/nowhere/of/this")
                (self.private / name).write_bytes(text)
            data = files.submitted
        self.spool.write_bytes(data)
        self.spool.chmod(0o755)

    def run(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        environment = {
            "PATH": os.environ["PATH"], "PBS_JOBID": "12.server", "JOB_ID": "12", "a.b": "1\n2",
            "HOME": str(self.private.parent), "BASH_FUNC_f%%": "() {  eval $x\n}", "SHELL": argv[0],
            "SGE_TASK_ID": "undefined", "RESTARTED": "0", "PWD": str(self.private.parent),
        }  # fmt: skip
        done = subprocess.run(
            argv, env=environment, cwd=self.private.parent, capture_output=True, text=True,
            timeout=30, check=False, **options,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def verdict(self, number: str = "12") -> JobStatus | str:
        asked = subprocess.run(
            ["sh", "-c", records_script({"7": str(self.private)})],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        found = read_records(asked.stdout)
        assert found is not None
        return status_from_records(found["7"], number, number, None)


def there(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    return path


def ways(shell: str, spool: Path) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """How schedulers have a shell run a script: ``argv[0]`` is a name, or says "login"."""
    path = there(shell)
    name = "sh" if shell == "busybox" else shell
    found: dict[str, tuple[list[str], dict[str, Any]]] = {
        "as a file": ([name, str(spool)], {"executable": path}),
        "login": ([f"-{name}", str(spool)], {"executable": path}),
        "on stdin": ([f"-{name}"], {"executable": path, "on stdin": True}),
    }
    if shell != "fish":  # which knows no -s
        found["on stdin, said so"] = ([f"-{name}", "-s"], {"executable": path, "on stdin": True})
    return found


def without_warnings(text: str) -> str:
    """Of a csh that is a login shell; that of what was submitted says so as well."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("Warning: no a", "Thus no j")))


ODD = '$x "y" `z` *;&|<é> {a,b} #~%^'


def _marked(name: str) -> Any:
    """The shells that most nodes run scripts with; all others in the whole run."""
    return pytest.param(name, marks=[] if name in ("bash", "tcsh") else pytest.mark.long)


@pytest.mark.parametrize("shell", [*map(_marked, [*SHELLS, *filter(shutil.which, OTHERS)])])
def test_any_shell_reads_it_and_runs_the_script(shell: str, tmp_path: Path) -> None:
    node = Node(tmp_path, GRID_ENGINE_JOBS, ODD)
    pid = "$fish_pid" if shell == "fish" else "$$"
    script = f"#!/bin/false\n{sys.executable} {node.look} {pid} </dev/null\nexit 3\n"
    for way, (argv, options) in ways(shell, node.spool).items():
        said = []
        for wrapped in (False, True):
            node.put(script, wrapped=wrapped)
            given_file = options.get("on stdin", False)
            with open(node.spool if given_file else os.devnull, "rb") as stdin:
                code, out, _ = node.run(argv, executable=options["executable"], stdin=stdin)
            assert code == 3, way
            said.append(without_warnings(out))
        assert said[0] == said[1], way
        assert ("12.server.SC" in said[0]) is ("on stdin" not in way)
        assert "BASH_FUNC_f%%" in said[1]
        status = node.verdict()
        assert isinstance(status, JobStatus)
        assert status.exit_code == 3
        shutil.rmtree(node.private / BODY)
        Node(tmp_path, GRID_ENGINE_JOBS, ODD)


@pytest.mark.long
@pytest.mark.parametrize("own", ["bash", "busybox"])
def test_bin_sh_may_be_another(own: str, tmp_path: Path) -> None:
    """On most clusters it is bash."""
    node = Node(tmp_path, GRID_ENGINE_JOBS)
    (tmp_path / "sh").symlink_to(there(own))
    script = f"{node.see} </dev/null\nexit 3\n"
    for shell in ("bash", "tcsh"):
        for way, (argv, options) in ways(shell, node.spool).items():
            said = []
            for wrapped in (False, True):
                node.put(script, wrapped=wrapped)
                if wrapped:
                    for path in (node.spool, node.private / LAUNCH):
                        path.write_text(path.read_text().replace("/bin/sh", f"{tmp_path}/sh"))
                    assert f"exec {tmp_path}/sh" in node.spool.read_text()
                place = node.spool if "on stdin" in options else os.devnull
                with open(place, "rb") as stdin:
                    code, out, err = node.run(argv, executable=options["executable"], stdin=stdin)
                assert (code, err) == (3, ""), way
                said.append(without_warnings(out))
            assert said[0] == said[1], way
    assert isinstance(node.verdict(), JobStatus)


@pytest.mark.parametrize(
    "top", ["bash", *(pytest.param(name, marks=pytest.mark.long) for name in ("tcsh", "dash"))]
)
@pytest.mark.parametrize("how", [PBS_JOBS, TORQUE_JOBS])
@pytest.mark.parametrize("first", ["#!/bin/sh -e\n", f"#!{sys.executable} -u\n", "", "# csh\n"])
def test_a_login_shell_that_gets_the_name(
    top: str, how: Convention, first: str, tmp_path: Path
) -> None:
    """What PBS and Torque do by default: the user's shell reads the script's name on stdin."""
    path = there(top)
    node = Node(tmp_path, how)
    body = LOOK_AT_ME.replace("sys.argv[1]", "os.getpid()") + "sys.exit(4)\n"
    script = first + (body if "python" in first else f"{node.see}\nexit 4\n")
    said = []
    for wrapped in (False, True):
        node.put(script, wrapped=wrapped)
        code, out, err = node.run([f"-{top}"], executable=path, input=f"{node.spool}\n")
        assert (code, err) == (4, "")
        said.append(without_warnings(out))
    if top == "bash" and not first.startswith("#!"):
        # It forks and reads the file itself: what can be seen from outside is its own start.
        assert "/bash" in said[1]
        return
    if top == "dash" and not first.startswith("#!"):
        assert "/dash" in said[1]
        return
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "without", [(), ("/usr/bin/perl",), ("/usr/bin/perl", "[ -x /bin/bash ]"), ("/proc/$PPID",)]
)
def test_what_a_node_may_lack(without: tuple[str, ...], tmp_path: Path) -> None:
    node = Node(tmp_path, GRID_ENGINE_JOBS)
    (tmp_path / ".bash_profile").write_text("PATH=$PATH:/profile; export PATH\n")
    script = f"#!/bin/bash\n{node.see}\necho $0 $PATH; exit 3\n"
    said = []
    for wrapped in (False, True):
        node.put(script, wrapped=wrapped, without=without)
        code, out, err = node.run(["-bash", str(node.spool)], executable=there("bash"))
        assert (code, err) == (3, "")
        said.append(out.replace(str(node.spool.parent), "").replace(str(node.private / BODY), ""))
    if without == ("/proc/$PPID",):
        assert "'-bash'" not in said[1], "the first line is believed"
        assert "/bin/bash" in said[1]
        return
    if not without:
        assert said[0] == said[1]
    lines = said[1].splitlines()
    assert lines[0].endswith("/bash")
    assert "12.server.SC" in lines[0]
    assert lines[-1].split()[0] == "/12.server.SC"
    assert "/profile" in lines[-1], "a login shell"
    if "[ -x /bin/bash ]" not in without:
        assert lines[-1].count("/profile") == 1, "which read its files once, as far as it knows"
        assert "BASH_FUNC_f%%" in lines[1]
        assert "a.b=1" in lines[1]


@pytest.mark.parametrize(
    ("mode", "login", "begins", "name"),
    [
        ("posix_compliant", 1, "['-tcsh', 'body']", "tcsh"),
        ("posix_compliant", 0, "['tcsh', 'body']", "tcsh"),
        ("script_from_stdin", 0, "['tcsh', '-s']", "tcsh"),
        ("unix_behavior", 1, "['bash', 'body']", "bash"),
    ],
)
def test_where_nothing_can_be_written_grid_engine_s_own_word_counts(
    mode: str, login: int, begins: str, name: str, tmp_path: Path
) -> None:
    node = Node(tmp_path, GRID_ENGINE_JOBS)
    node.put(f"#!{there('bash')}\n{node.see} </dev/null\nexit 3\n", wrapped=True,
             without=("@PLACE@/seen", f"{node.private}/{BODY}/seen"))  # fmt: skip
    (tmp_path / "config").write_text(
        f"shell_path={there('tcsh')}\nshell_start_mode={mode}\nuse_login_shell={login}\n"
    )
    argv = ["env", f"SGE_JOB_SPOOL_DIR={tmp_path}", "bash", str(node.spool)]
    code, out, _ = node.run(argv)
    assert code == 3
    lines = without_warnings(out).splitlines()
    assert lines[0].startswith(begins)
    assert lines[0].endswith(f"/{name}")


def test_runs_are_counted_by_their_files(tmp_path: Path) -> None:
    node = Node(tmp_path, GRID_ENGINE_JOBS)
    for code in (99, 98, 0):
        node.put(f"exit {code}\n", wrapped=True)
        assert node.run(["sh", str(node.spool)])[0] == code
        status = node.verdict()
        assert isinstance(status, JobStatus)
        assert status.exit_code == code
    assert isinstance(status, JobStatus)
    assert status.restarts == 2
    # The end of a run that is not its last is none.
    (node.private / "start.12").unlink()
    (node.private / "exit.12.1").rename(node.private / "exit.12")
    node.put("kill -9 0\n", wrapped=True)
    node.run(["sh", str(node.spool)], start_new_session=True)
    assert not (node.private / "exit.12").exists()


def test_pbs_owner_and_members(tmp_path: Path) -> None:
    node = Node(tmp_path, PBS_JOBS)
    node.put("exit 5\n", wrapped=True)
    for index in ("3", "4"):
        argv = ["env", f"PBS_JOBID=12[{index}].server", f"PBS_ARRAY_INDEX={index}", "sh"]
        assert node.run([*argv, str(node.spool)])[0] == 5
    assert (node.private / "owner").read_text() == "12[].server\n"
    assert {one.name for one in node.private.glob("exit.*")} == {"exit.12_3", "exit.12_4"}
    assert list((node.private / BODY).glob("seen.*")) == []
    code, out, err = node.run(["env", "PBS_JOBID=13.server", "sh", str(node.spool)])
    assert (code, out) == (125, "")
    assert "job 12[].server does this work" in err

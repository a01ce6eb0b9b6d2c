"""``watch``: in a terminal of tmux, beside a real Slurm and a host that goes away."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.cluster.journal import Journal
from tests import screens
from tests.cli import PROGRAM, program, started
from tests.helpers import until
from tests.lab.interactive import MakeServer, config_of, password
from tests.lab.poll import counts, reset_counts
from tests.lab.site import Host
from tests.lab.slurm import SlurmLab
from tests.screens import Screen

pytestmark = pytest.mark.usefixtures("own_journal")
SIZES = [(80, 24), (120, 40), (60, 24)]
_OURS = re.compile("OPENSSH_JOBS_|XDG_|SSH_AUTH_SOCK|PYTHONPYCACHEPREFIX")


@contextlib.contextmanager
def terminal(columns: int = 110, rows: int = 24, **more: str) -> Iterator[Screen]:
    """A terminal with the directories of this test."""
    env = {key: value for key, value in os.environ.items() if _OURS.match(key)} | more
    state = Path(env.pop("XDG_STATE_HOME"))
    with screens.screen(columns, rows, state, **env) as screen:
        yield screen


@pytest.fixture
def way(sshd: Host, slurm: SlurmLab) -> list[str]:
    """The options for Slurm, and the host."""
    return ["-F", str(sshd.config), "--scheduler", "slurm", sshd.alias]


@pytest.fixture
def submit(sshd: Host, slurm: SlurmLab) -> Iterator[Callable[..., str]]:
    """Submits a job past this package; the id."""
    made: list[str] = []

    def submit(text: str, name: str, *options: str) -> str:
        where = ["--chdir", str(sshd.home), "--output", f"{sshd.home}/watched.out"]
        said = slurm.command("sbatch", "--parsable", *where, "-J", name, *options,
                             f"--wrap={text}", user=sshd.user)  # fmt: skip
        made.append(said.strip())
        return made[-1]

    yield submit
    slurm.command("scancel", *made, user=sshd.user, check=False)
    (sshd.home / "watched.out").unlink(missing_ok=True)


@pytest.mark.parametrize(("columns", "rows"), SIZES, ids=[f"{x}x{y}" for x, y in SIZES])
def test_the_screen(columns: int, rows: int, tmp_path: Path) -> None:
    """The captured screens in tests/data/screens: before any host has answered."""
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    config = tmp_path / "config"
    # It neither answers nor refuses within the test.
    config.write_text("Host *\n  ProxyCommand sleep 60\n")
    with terminal(columns, rows, NO_COLOR="1") as screen:
        screen.start("watch", "-F", str(config))
        shown = screen.shows("q quit")
        screen.press("q")
        screen.shows("over 0")
    path = screens.SCREENS / f"watch-{columns}x{rows}.txt"
    assert shown == path.read_text(), shown


def test_a_day_with_slurm(
    way: list[str], submit: Callable[..., str], sshd: Host, slurm: SlurmLab
) -> None:
    logins = sshd.logins()
    runs = submit("echo step one; exec sleep 300", "relax", "-t5")
    waits = submit("true", "freq", "--hold")
    with terminal() as screen:
        screen.run(*PROGRAM[-1:], "watch", *way)
        screen.shows(" running ")
        shown = screen.shows("[--------] 0:0")
        assert re.search(rf"{waits} +freq +held", shown), shown
        # Its last line, its whole output on the terminal, and back.
        screen.press("/", *"relax", "Enter")
        assert "freq" not in screen.shows(f"{runs}: step one")
        screen.press("t")
        assert "running" not in screen.shows("openssh-jobs tail -f")
        screen.shows("\nstep one\n")
        screen.press("C-c")
        screen.shows("Enter goes back")
        screen.press("Enter")
        screen.shows("Esc shows all")
        # The question before a job is cancelled.
        screen.press("Escape")
        screen.shows("/ filter")
        screen.press("/", *"freq", "Enter")
        screen.shows("Esc shows all")
        screen.press("c")
        screen.shows(f"Cancel {waits} (freq) on {sshd.alias}? y/n")
        screen.press("n")
        screen.shows("Esc shows all")
        assert waits in slurm.command("squeue", "-h", "-o", "%i").split()
        screen.press("c", "y")
        screen.shows(" cancelled ")
        assert waits not in slurm.command("squeue", "-h", "-o", "%i").split()
        # Ctrl-C leaves, too.
        screen.press("C-c")
        screen.shows("over 0")
    assert sshd.logins() == logins, "on the master that is open"


def test_five_of_them_ask_as_often_as_one(
    way: list[str], submit: Callable[..., str], slurm: SlurmLab, sshd: Host
) -> None:
    job = submit("exec sleep 300", "many", "-t5")
    assert program("list", *way).code == 0  # the interval begins
    with contextlib.ExitStack() as stack:
        windows = [stack.enter_context(terminal()) for _ in range(5)]
        reset_counts(slurm)
        began = time.monotonic()
        for screen in windows:
            screen.run(*PROGRAM[-1:], "watch", *way)
        for screen in windows:
            screen.shows(job)
        time.sleep(8)
        for screen in windows:
            screen.press("q")
            screen.shows("over 0")
        took, asked = time.monotonic() - began, counts(slurm)
    interval = 10.0
    queries = asked.get("REQUEST_JOB_USER_INFO", 0) + asked.get("REQUEST_JOB_INFO", 0)
    assert queries <= 2 * (took / interval + 1), (took, asked)


def test_a_lost_link_and_back(
    cold: Path, make_sshd: Any, expect_logins: Any, tmp_path: Path
) -> None:
    expect_logins(2)
    host = make_sshd()
    there = host.make_directory("runs")
    text = tmp_path / "job.sh"
    text.write_text("#!/bin/sh\necho works\nexec sleep 300\n")
    way = ["-F", str(host.config), "--scheduler", "direct", host.alias]
    done = program("submit", *way, str(there), "--script", str(text))
    assert done.code == 0, done
    job = done.out.strip()
    with terminal() as screen:
        screen.run(*PROGRAM[-1:], "watch", *way)
        screen.shows(": works")
        host.server.stop()
        shown = screen.shows("no answer since")
        assert re.search(rf"{job} .* running ", shown), shown
        host.server.start()
        deadline = time.monotonic() + 60
        while "no answer since" in screen.shows("/ filter"):
            assert time.monotonic() < deadline
            time.sleep(0.3)
        began = time.monotonic()
        screen.press("q")
        screen.shows("over 0")
        assert time.monotonic() - began < 5
    assert program("cancel", *way, job).code == 0
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def greeting(port: int) -> bytes:
    """What sshd says behind a forwarded port; nothing where there is no way."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as end,
    ):
        end.settimeout(5)
        return end.recv(4)
    return b""


def test_a_machine_that_slept(
    cold: Path, make_sshd: Any, expect_logins: Any, tmp_path: Path
) -> None:
    """All that is ours is stopped, the host ends the connection, and the job fails meanwhile."""
    expect_logins(2)  # by key: nobody has to answer
    host = make_sshd()
    there = host.make_directory("runs")
    text = tmp_path / "job.sh"
    text.write_text(f"#!/bin/sh\nuntil test -e {there}/go; do sleep 0.2; done\nexit 3\n")
    way = ["-F", str(host.config), "--scheduler", "direct", host.alias]
    done = program("submit", *way, str(there), "--script", str(text))
    assert done.code == 0, done
    job, pid = done.out.strip(), tmp_path / "pid"
    waits = started("wait", *way, job)
    forwards = started(
        "forward", "-F", str(host.config), host.alias, f"localhost:{host.server.port}"
    )
    assert forwards.stdout is not None
    port = int(forwards.stdout.readline().split()[0].rpartition(b":")[2])
    with terminal() as screen:
        words = shlex.join([sys.executable, PROGRAM[-1], "watch", *way])
        screen.run("sh", "-c", f"echo $$ >{pid}; exec {words}")
        screen.shows(" running ")
        assert greeting(port) == b"SSH-"
        master = Connection(host.alias, ssh_config=host.config).check().master
        assert master is not None
        ours = [int(pid.read_text()), waits.pid, forwards.pid, master]
        for one in ours:
            os.kill(one, signal.SIGSTOP)
        host.server.kill_sessions()
        (there / "go").touch()
        time.sleep(15)
        for one in ours[::-1]:
            os.kill(one, signal.SIGCONT)
        assert "exit code 3" in screen.shows(" failed ", patience=90)
        assert until(lambda: "no answer since" not in screen.shows("/ filter"), 90)
        screen.press("q")
        screen.shows("over 0")
    waits.communicate(timeout=90)
    assert waits.returncode == 1, "the job failed"
    assert until(lambda: greeting(port) == b"SSH-", 90)
    forwards.send_signal(signal.SIGINT)
    _, said = forwards.communicate(timeout=30)
    assert b"the connection was lost; forwarding again" in said
    Connection(host.alias, ssh_config=host.config).close(stop_master=True)


def test_a_second_factor_is_not_asked_for(cold: Path, asking: MakeServer) -> None:
    server = asking(steps=[password("x")])
    config = config_of(cold, server)
    with terminal() as screen:
        screen.run(*PROGRAM[-1:], "watch", "-F", config, server.alias)
        screen.shows(f"asks: `openssh-jobs login -F {config} {server.alias}` answers it.")
        screen.press("q")
        screen.shows("over 0")
    assert server.counts["right 1"] == server.counts["wrong 1"] == 0


@pytest.mark.parametrize("how", ["q", "TERM", "crash"])
@pytest.mark.parametrize("rich", [True, False], ids=["rich", "without rich"])
def test_the_terminal_is_as_before(how: str, rich: bool, tmp_path: Path) -> None:
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyCommand sleep 60\n")
    script = tmp_path / "watch.py"
    script.write_text(
        "import os, sys\n"
        f"if not {rich}: sys.modules['rich'] = None\n"
        "from openssh_jobs.cli import main, watch_view\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"if {how == 'crash'}: watch_view.counts = None\n"
        f"sys.exit(main(['watch', '-F', {str(config)!r}]))\n"
    )
    before, after = tmp_path / "before", tmp_path / "after"
    with terminal() as screen:
        screen.run("sh", "-c", f"echo here; stty -g >{before}; {sys.executable} {script}; "
                   f"code=$?; stty -g >{after}; exit $code")  # fmt: skip
        if how != "crash":
            assert "here" not in screen.shows("/ filter")
        if how == "TERM":
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        elif how == "q":
            screen.press("q")
        code = {"q": 0, "TERM": 128 + signal.SIGTERM, "crash": 5}[how]
        shown = screen.shows(f"over {code}")
        assert shown.startswith("here\n"), "the screen of before"
        assert "relax-7" not in shown
    assert after.read_text() == before.read_text()


def test_ctrl_z_and_another_size(tmp_path: Path) -> None:
    with contextlib.closing(Journal()) as journal:
        screens.fill(journal)
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyCommand sleep 60\n")
    with terminal(PS1="ready> ") as screen:
        screen.shell()
        screen.shows("ready>")
        screen.press(f"{sys.executable} -m tests.screens watch -F {config}", "Enter")
        assert "ready>" not in screen.shows("/ filter")
        screen.press("C-z")
        assert "relax-7" not in screen.shows("Stopped").replace("watch", "")
        screen.press("fg", "Enter")
        screen.shows("/ filter")
        screen.resize(60, 12)
        assert len(screen.shows("c cancel · / fil…").splitlines()) <= 12
        screen.press("q")
        screen.shows("ready>")


def test_without_a_terminal_it_is_refused() -> None:
    done = subprocess.run([*PROGRAM, "watch"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"`openssh-jobs list` prints the table once" in done.stderr

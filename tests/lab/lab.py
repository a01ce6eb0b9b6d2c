"""The lab by hand: ``scripts/lab up | run COMMAND... | capture NAME LINE | shell | status | down``.

``capture`` runs a line of sh on the login node and prints what it said as a record for tests/data.
As root: two machines with sshd, a bastion and a Slurm, in namespaces that end with ``down``.  As a
plain user: the same servers on loopback ports, without a Slurm.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.lab import namespaces, parts
from tests.lab.gridengine import GridEngineLab
from tests.lab.site import Site
from tests.lab.slurm import SlurmLab
from tests.paths import CHECKOUT

DIRECTORY = Path(tempfile.gettempdir(), f"oj-lab-{os.geteuid()}")
_STATE = DIRECTORY / "lab.json"


def main(arguments: list[str]) -> int:
    """One of the commands; returns the exit code."""
    command, *rest = arguments or ["help"]
    if command == "up" and not rest:
        return _up()
    if command == "down" and not rest:
        return _down()
    if command == "status" and not rest:
        return _status()
    if command == "shell" and not rest:
        return _run([os.environ.get("SHELL", "/bin/sh")])
    if command == "run" and rest:
        return _run(rest)
    if command == "capture" and len(rest) == 2:
        return _capture(*rest)
    if command == "serve" and not rest:
        return _serve()
    if command in ("poll", "soak"):
        from tests.lab import poll

        return poll.main(arguments)
    if command == "growth":
        from tests.lab import growth

        return growth.main(arguments)
    if command == "causes":
        from tests.lab import causes

        return causes.main(rest)
    print(
        "usage: scripts/lab up | run COMMAND... | capture NAME LINE | shell | status | down | "
        "poll | soak | once | growth | causes",
        file=sys.stderr,
    )
    return 2


# -- outside ------------------------------------------------------------------------------------


def _start_time(pid: int) -> str | None:
    """What tells this process from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _state() -> dict[str, Any] | None:
    try:
        if DIRECTORY.lstat().st_uid != os.geteuid():
            return None
        state: dict[str, Any] = json.loads(_STATE.read_text())
    except (OSError, ValueError):
        return None
    return state if _start_time(state["pid"]) == state["started"] else None


def _up() -> int:
    if _state() is not None:
        print("The lab is up already; scripts/lab status says where.")
        return 0
    for part in ("ssh", "sshd"):
        lacking = parts.missing(part)
        if lacking:
            print(f"The lab cannot start: {lacking}", file=sys.stderr)
            return 1
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(mode=0o755)
    command = [sys.executable, "-m", "tests.lab.lab", "serve"]
    why = namespaces.why_not()
    if why is None:
        command = namespaces.command_line(command)
    else:
        print(f"No Slurm here, no walls between the machines: that {why}.", file=sys.stderr)
    log = DIRECTORY / "log"
    with log.open("wb") as words:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=CHECKOUT,
            start_new_session=True,
            text=True,
        )
    assert server.stdout is not None
    said = server.stdout.readline()
    if not said:
        server.wait(30)
        print(f"The lab did not start:\n{log.read_text(errors='replace')}", file=sys.stderr)
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        return 1
    pid = _init_of(server.pid) if why is None else server.pid
    state = {"pid": pid, "started": _start_time(pid), "walls": why is None, **json.loads(said)}
    _STATE.write_text(json.dumps(state))
    # It goes on without us; there is nothing to wait for.
    server.returncode = 0
    return _status()


def _init_of(outer: int) -> int:
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return int(children[0])


def _status() -> int:
    state = _state()
    if state is None:
        print("The lab is down; scripts/lab up starts it.")
        return 1
    print(f"ssh config   {state['config']}")
    print("aliases      direct  the login node")
    print("             inner   the same node, through bastion; its key is in an agent only")
    print(f"user there   {state['user']}")
    print(f"scheduler    {state['scheduler']}")
    print(f"try          scripts/lab run ssh -F {state['config']} inner hostname")
    if state["scheduler"] == "slurm":
        print(f"             scripts/lab run ssh -F {state['config']} direct sbatch --wrap date")
    if state["gridengine"]:
        print(f"Grid Engine  is there, too; on the login node: {state['gridengine']}")
    print("or enter     scripts/lab shell")
    print("and then     scripts/lab down")
    return 0


def _within(state: dict[str, Any], command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line and environment with which a command runs among the lab's machines."""
    environment = {**os.environ, **state["environment"]}
    scripts = Path(sys.executable).parent
    environment["PATH"] = f"{scripts}:{environment.get('PATH', os.defpath)}"
    if state["walls"]:
        here = os.getcwd()
        enter = ["nsenter", f"--target={state['pid']}", "--mount", "--root", "--net", "--pid"]
        command = [*enter, f"--wd={here}", "--", *command]
    return command, environment


def _capture(name: str, line: str) -> int:
    state = _state()
    if state is None:
        print("The lab is down; scripts/lab up starts it.", file=sys.stderr)
        return 1
    answers = []
    of = name.partition("/")[0]
    about = {"slurm": "squeue --version", "sge": f"{state['gridengine']}; qstat -help | head -n 1"}
    for asked in (about.get(of, "uname -sr"), line):
        command, environment = _within(state, ["ssh", "-F", state["config"], "direct", asked])
        begun = time.monotonic()
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            env=environment,
            check=False,
        )
        answers.append((done, time.monotonic() - begun))
    (version, _), (done, seconds) = answers
    record = {
        "id": name,
        "scheduler": of,
        "version": os.fsdecode(version.stdout).strip(),
        "description": "",
        "command": line,
        "user": state["user"],
        "stdin": None,
        "returncode": done.returncode,
        "timed_out": False,
        "seconds": round(seconds, 3),
        "stdout": done.stdout.decode("utf-8", "surrogateescape"),
        "stderr": done.stderr.decode("utf-8", "surrogateescape"),
        "expected": {},
    }
    print(json.dumps(record))
    return 0


def _run(command: list[str]) -> int:
    state = _state()
    if state is None:
        print("The lab is down; scripts/lab up starts it.", file=sys.stderr)
        return 1
    command, environment = _within(state, command)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127


def _down() -> int:
    state = _state()
    if state is not None:
        pid = state["pid"]
        for number, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + patience
            if _start_time(pid) == state["started"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while _start_time(pid) == state["started"] and time.monotonic() < deadline:
                time.sleep(0.02)
    if DIRECTORY.exists() and DIRECTORY.lstat().st_uid == os.geteuid():
        shutil.rmtree(DIRECTORY)
    return 0


# -- inside -------------------------------------------------------------------------------------


def _serve() -> NoReturn:
    """Bring it up, say so in one line of JSON, and wait for the request to end."""
    walls = namespaces.inside()
    directory = namespaces.LAB if walls else DIRECTORY
    home = directory / "me"
    for path in (home, directory / "r"):
        path.mkdir(mode=0o700)
    site = Site(directory / "s")
    slurm = gridengine = None
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    try:
        site.start()
        if site.network is not None and parts.missing("slurm") is None:
            slurm = SlurmLab(directory / "slurm", site.network.login)
            slurm.start()
        if site.network is not None and parts.missing("gridengine") is None:
            gridengine = GridEngineLab(directory / "gridengine", site.network.login)
            gridengine.start()
        host = site.host("direct")
        environment = {
            "HOME": home,
            "XDG_CONFIG_HOME": home / ".config",
            "XDG_STATE_HOME": home / ".state",
            "XDG_CACHE_HOME": home / ".cache",
            "OPENSSH_JOBS_RUNTIME_DIR": directory / "r",
            "OPENSSH_JOBS_CONFIG": home / "servers.toml",
        }
        facts = {
            "config": str(site.config),
            "user": host.user,
            "scheduler": "slurm" if slurm else "none",
            "gridengine": gridengine.prologue if gridengine else None,
            "environment": {name: str(value) for name, value in environment.items()},
        }
        print(json.dumps(facts), flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        while not ended:
            signal.pause()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if gridengine is not None:
            gridengine.stop()
        if slurm is not None:
            slurm.stop()
        site.stop()
    raise SystemExit


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

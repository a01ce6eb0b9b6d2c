"""Namespaces of the lab's own: mounts, network and processes that end with the run.

``python -m tests.lab.namespaces COMMAND...`` (as root) runs a command where

* ``/etc`` is a copy-on-write layer, ``/run``, ``/var/log``, ``/var/spool/cron`` ... are empty,
  ``/sys/fs/cgroup`` is out of reach, and ``/run/lab`` holds everything the lab writes;
* the network is a loopback and nothing else;
* process 1 is ours, so that nothing that is started outlives it.

Nothing is left on the machine afterwards, because nothing was ever written to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

MARK = "OPENSSH_JOBS_LAB"
"""Set in the environment of everything that runs inside: the lab's directory."""

LAB = Path("/run/lab")
# What the daemons of the lab, or a login, would otherwise write to or find there.
_EMPTY = ("/var/log", "/var/spool/slurm", "/var/lib/slurm", "/var/lib/munge", "/var/mail")
_NOT_FOR_US = ("/sys/fs/cgroup",)
USERS = (("hpcalice", 7001), ("hpcbob", 7002))


def inside() -> bool:
    """Whether this process runs in the lab's own namespaces."""
    if os.environ.get(MARK) != str(LAB):
        return False
    # A variable can be set by anybody.  Process 1 is our own init only in there.
    try:
        words = Path("/proc/1/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(__file__) in words


def why_not() -> str | None:
    """Why the namespaces cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root (sudo scripts/test, sudo scripts/lab)"
    for tool in ("mount", "ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"needs {tool} (run: apt-get install util-linux iproute2)"
    tried = subprocess.run(
        [sys.executable, str(Path(__file__)), "--try"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if tried.returncode != 0:
        last = tried.stderr.strip().rpartition("\n")[2]
        return f"needs the right to make namespaces ({last})"
    return None


def command_line(command: list[str]) -> list[str]:
    """The command line that runs ``command`` in new namespaces."""
    return [sys.executable, str(Path(__file__)), *command]


def require_own(what: str) -> None:
    """Refuse, with a sentence, to start ``what`` anywhere but in the lab's own namespaces."""
    if not inside():
        raise RuntimeError(
            f"{what} is only ever started in the lab's own namespaces, "
            "never beside what this machine runs: use scripts/lab or scripts/test as root"
        )


# -- inside ---------------------------------------------------------------------------------------


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


NEW_MOUNTS, _NEW_PROCESSES, _NEW_NETWORK = 0x00020000, 0x20000000, 0x40000000


def leave(behind: int = NEW_MOUNTS | _NEW_PROCESSES | _NEW_NETWORK) -> None:
    """Leave the machine's mounts, network and (with the next fork) processes behind."""
    if _libc().unshare(behind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def _stop_sharing_mounts() -> None:
    """unshare() alone leaves mounts shared with where they came from."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=20)


def _mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


def _prepare() -> None:
    must = subprocess.run
    _stop_sharing_mounts()
    must(["mount", "-t", "proc", "proc", "/proc"], check=True, timeout=20)
    # The old /etc has to be at hand while the new one is made.
    must(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True, timeout=20)
    for name in ("sshd", "lock", "lab", "lab/etc", "lab/etc-work", "lab/tmp", "lab/home"):
        Path("/run", name).mkdir(mode=0o755)
    Path("/run/lab/tmp").chmod(0o1777)
    upper, work = LAB / "etc", LAB / "etc-work"
    layered = f"lowerdir=/etc,upperdir={upper},workdir={work}"
    if not _mount("-t", "overlay", "overlay", "-o", layered, "/etc"):
        # No overlay here (a container on one): a copy does the same, it is only slower.
        shutil.copytree("/etc", upper, symlinks=True, dirs_exist_ok=True)
        must(["mount", "--bind", str(upper), "/etc"], check=True, timeout=20)
    for name in (*_EMPTY, *_NOT_FOR_US):
        if Path(name).is_dir():
            must(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", name], check=True, timeout=20)
    must(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
    # With only 127.0.0.1 slurmctld finds no address for its own host name and never starts.
    must(["ip", "address", "add", "10.99.1.1/32", "dev", "lo"], check=True, timeout=20)
    _add_users()


def _add_users() -> None:
    """Users with keys only.  Written by hand: useradd also writes outside of /etc."""
    for name, number in USERS:
        home = LAB / "home" / name
        home.mkdir(mode=0o755)
        os.chown(home, number, number)
        lines = {
            "passwd": f"{name}:x:{number}:{number}::{home}:/bin/bash",
            "group": f"{name}:x:{number}:",
            # Not "!": sshd without PAM takes that for a locked account and refuses the key.
            "shadow": f"{name}:*:19700:0:99999:7:::",
        }
        for table, line in lines.items():
            with (Path("/etc") / table).open("a") as file:
                file.write(line + "\n")
    for stale in ("/etc/nologin",):
        with contextlib.suppress(FileNotFoundError):
            Path(stale).unlink()


def _die_with_parent() -> None:
    _libc().prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait_for(child: int) -> int:
    """Collect every orphan that becomes ours, hand on what ends us, and end as the child does."""

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    # A Ctrl-C at the terminal reaches the child by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _as_process_one(command: list[str]) -> int:
    """Process 1 of the new namespaces: when it ends, everything in them does."""
    _prepare()
    environment = {**os.environ, MARK: str(LAB), "TMPDIR": str(LAB / "tmp")}
    child = os.fork()
    if child == 0:
        _die_with_parent()
        try:
            os.execvpe(command[0], command, environment)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        finally:
            os._exit(127)
    return _wait_for(child)


def main(command: list[str]) -> int:
    """Run the command in new namespaces; returns its exit code.  ``--try`` only makes them."""
    leave()
    if command == ["--try"]:
        _stop_sharing_mounts()
        return 0
    # The very next process is the new process 1, and everything ends with it.
    child = os.fork()
    if child == 0:
        code = 125
        try:
            _die_with_parent()
            code = _as_process_one(command)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"The lab's namespaces could not be set up: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return _wait_for(child)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

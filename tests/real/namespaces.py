"""Namespaces of the lab's own: mounts, network and processes that end with the run.

``python -m tests.real.namespaces COMMAND...`` (as root) runs a command where

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
    for tool in ("unshare", "ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"needs {tool} (run: apt-get install util-linux iproute2)"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if tried.returncode != 0:
        return f"needs the right to make namespaces ({tried.stderr.strip()})"
    return None


def command_line(command: list[str]) -> list[str]:
    """The command line that runs ``command`` in new namespaces."""
    return [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        str(Path(__file__)),
        *command,
    ]


def require_own(what: str) -> None:
    """Refuse, with a sentence, to start ``what`` anywhere but in the lab's own namespaces."""
    if not inside():
        raise RuntimeError(
            f"{what} is only ever started in the lab's own namespaces, "
            "never beside what this machine runs: use scripts/lab or scripts/test as root"
        )


# -- inside ---------------------------------------------------------------------------------------


def _mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


def _prepare() -> None:
    must = subprocess.run
    must(["mount", "--make-rprivate", "/"], check=True, timeout=20)
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


def _reap_until(child: int) -> int:
    """Be process 1: collect every orphan, and end as the child does."""

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


def main(command: list[str]) -> int:
    """Set the namespaces up and run the command; returns its exit code."""
    if os.getpid() != 1:
        print("this is the inner half of the lab: use scripts/lab", file=sys.stderr)
        return 2
    _prepare()
    environment = dict(os.environ)
    environment[MARK] = str(LAB)
    environment["TMPDIR"] = str(LAB / "tmp")
    child = os.fork()
    if child == 0:
        try:
            # If process 1 dies of something we did not foresee, so do we: PR_SET_PDEATHSIG.
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            os.execvpe(command[0], command, environment)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        finally:
            os._exit(127)
    return _reap_until(child)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The real programs that tests need: there, or skipped with the command that installs them.

In CI (``CI=true``) a missing part is a failure: a suite that skips what matters proves nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from typing import NoReturn

import pytest

from tests.lab import namespaces
from tests.paths import CHECKOUT

# part: (programs, Debian packages).  scripts/test installs all of these packages.
PARTS = {
    "ssh": (("ssh", "sftp", "scp", "ssh-agent", "ssh-keygen"), ("openssh-client",)),
    "sshd": (("sshd",), ("openssh-server",)),
    "slurm": (("sbatch", "slurmctld", "slurmd", "munged"), ("slurm-wlm", "munge")),
    "accounting": (
        ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db"),
        ("slurmdbd", "mariadb-server-core", "mariadb-client-core"),
    ),
    "network": (("ip", "nsenter", "unshare"), ("iproute2", "util-linux")),
    "tcsh": (("tcsh",), ("tcsh",)),
    "fish": (("fish",), ("fish",)),
    "dash": (("dash",), ("dash",)),
    "zsh": (("zsh",), ("zsh",)),
    "mksh": (("mksh",), ("mksh",)),
    "yash": (("yash",), ("yash",)),
    "rsync": (("rsync",), ("rsync",)),
    "busybox": (("busybox",), ("busybox",)),
    "bsdtar": (("bsdtar",), ("libarchive-tools",)),
    "btrfs": (("mkfs.btrfs", "btrfs"), ("btrfs-progs",)),
    "procps": (("ps",), ("procps",)),
    "folding": (("mount.exfat-fuse", "mkfs.exfat"), ("exfat-fuse", "exfatprogs")),
}


# Parts that are files, where no program on PATH tells.
FILES = {
    "second factor": (
        "security/pam_google_authenticator.so",
        ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib"),
        "libpam-google-authenticator",
    ),
}

# Parts whose packages are not installed, but unpacked below .venv by scripts/test --install: they
# are at odds with other packages that somebody may have.
UNPACKED = CHECKOUT / ".venv" / "unpacked"
APART = {
    "gridengine": "usr/lib/gridengine/sge_qmaster",
    "torque": "usr/bin/qsub",
    "spooler": "usr/bin/tsp",
}


def in_ci() -> bool:
    """Whether a missing part is a failure."""
    return os.environ.get("CI", "").lower() in ("true", "1", "yes")


def missing(part: str) -> str | None:
    """What is missing of a part and how to get it, or None."""
    if part in APART:
        if (UNPACKED / part / APART[part]).exists():
            return None
        return f"no {part} here (run: scripts/test --install)"
    if part in FILES:
        name, places, package = FILES[part]
        if any(os.path.exists(os.path.join(place, name)) for place in places):
            return None
        return f"no {os.path.basename(name)} here (run: apt-get install {package})"
    programs, packages = PARTS[part]
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    absent = [program for program in programs if shutil.which(program, path=path) is None]
    if not absent:
        return None
    return f"no {', '.join(absent)} here (run: apt-get install {' '.join(packages)})"


def unavailable(reason: str) -> NoReturn:
    """Skip with the reason; in CI fail with it."""
    if in_ci():
        pytest.fail(f"CI has to have every real part: {reason}", pytrace=False)
    pytest.skip(reason)


def require(*parts: str) -> None:
    """Skip (in CI: fail) the test unless every part is installed."""
    for part in parts:
        reason = missing(part)
        if reason:
            unavailable(reason)


def require_proc() -> None:
    """Skip the test where there is no /proc, as on macOS."""
    if not os.path.exists("/proc/self/stat"):
        pytest.skip("this test looks into /proc")


def require_bash_account() -> None:
    """Skip the test where it logs in to this account, and whose shell is not bash."""
    shell = pwd.getpwuid(os.geteuid()).pw_shell
    if not namespaces.inside() and os.path.basename(shell) != "bash":
        pytest.skip(f"files of bash are read by bash, and this account has {shell}")


def require_remote_terminals() -> None:
    """Skip the test where sshd, without root, ends when a session asks for a terminal.

    It gives the terminal to the group ``tty``, which is for root to do unless the system did it.
    """
    if os.geteuid() == 0:
        return
    ours, theirs = os.openpty()
    try:
        has_group = os.fstat(theirs).st_gid == grp.getgrnam("tty").gr_gid
    except KeyError:
        return  # sshd leaves the group as it is
    finally:
        os.close(ours)
        os.close(theirs)
    if not has_group:
        pytest.skip("sshd without root gives no terminals here: /dev/pts is mounted without gid=")


def require_namespaces(what: str) -> None:
    """Skip (in CI: fail) the test unless it runs in the lab's own namespaces."""
    if not namespaces.inside():
        reason = namespaces.why_not() or "they were switched off with OPENSSH_JOBS_LAB=none"
        unavailable(f"{what} needs namespaces of its own: {reason}")

"""A private ``sshd`` on a loopback port: what the demo and the tests log in to.

It has its own host key, its own client key, its own log and its own ssh_config; it reads nothing
of ``/etc/ssh`` or ``~/.ssh``, and its logins live in a home directory of its own.  It needs no
root: started by a plain user it lets that same user in.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..errors import ConfigurationError
from ..openssh import process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence

# At LogLevel VERBOSE sshd also writes "Accepted key ..." lines; those are no logins.
_LOGIN = re.compile(r"^Accepted [a-z/-]+ for ", re.MULTILINE)
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
)
# sshd changes into the home that the password file names before anything of ours runs.  This
# stands in for the end of a login: the private home, then the shell with the command.
_LOGIN_SCRIPT = """\
cd "$HOME" || exit 1
unset OLDPWD
[ $# -gt 0 ] || set -- "$SHELL"
if [ "${SSH_ORIGINAL_COMMAND+set}" ]; then
    set -- "$@" -c "$SSH_ORIGINAL_COMMAND"
    unset SSH_ORIGINAL_COMMAND
fi
exec "$@"
"""
# Root's sshd insists on /run/sshd.  An empty /run of its own leaves the machine's as it is.
_OWN_RUN = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd"
# Without PAM sshd refuses an account whose password is locked (root's, where sudo is used).
_OWN_SHADOW = 'mount --bind "$0/shadow" /etc/shadow'


def find_program(name: str) -> str:
    """The path of a program, system directories included.  Raises ``ConfigurationError``."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        package = "openssh-server" if name == "sshd" else "openssh-client"
        raise ConfigurationError(
            f"there is no {name} on this machine", advice=f"Install it: apt-get install {package}"
        )
    return path


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nothing listened on a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def make_key(path: Path, comment: str) -> None:
    """An Ed25519 key without a passphrase at ``path`` and ``path.pub``."""
    made = process.run(
        [find_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path],
        timeout=30,
    )
    if made.returncode != 0:
        reason = made.stderr.decode(errors="replace").strip()
        raise ConfigurationError(f"ssh-keygen made no key at {path}: {reason}")


def client_block(
    alias: str,
    *,
    address: str,
    port: int,
    user: str,
    known_hosts: Path,
    identity: Path | None,
    extra: Iterable[str] = (),
) -> str:
    """The ssh_config block of one host; without ``identity`` only an agent can answer."""
    lines = [
        f"Host {alias}",
        f"HostName {address}",
        f"Port {port}",
        f"User {user}",
        f'UserKnownHostsFile "{known_hosts}"',
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "PreferredAuthentications publickey",
        "ConnectTimeout 20",
    ]
    if identity is None:
        lines.append("IdentityFile none")
    else:
        lines += [f'IdentityFile "{identity}"', "IdentitiesOnly yes", "IdentityAgent none"]
    return "\n    ".join([*lines, *extra]) + "\n"


class PrivateSshd:
    """One ``sshd`` with everything it needs in ``directory``, made if it is missing.

    ``user`` must be the caller unless the caller is root.  With ``private_home`` logins find HOME
    and all XDG directories in ``directory/home``; without it they get the user's real home.
    ``shell`` replaces the login shell (``("tcsh", "-f")``); it implies nothing about the home.
    ``enter`` is put before the command line of ``sshd`` (``nsenter ...``).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        alias: str = "private",
        user: str | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        private_home: bool = True,
        shell: Sequence[str] = (),
        sftp: bool = True,
        config_extra: str = "",
        identity: str | os.PathLike[str] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        self.directory = Path(directory).absolute()
        if set(str(self.directory)) & set('"%$\\\n'):
            raise ConfigurationError(f"sshd cannot live in a directory of this name: {directory!s}")
        self.alias = alias
        try:
            account = pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
        except KeyError as error:
            raise ConfigurationError(f"ssh needs a user with a name: {error.args[0]}") from error
        self.user, self.uid, self.gid = account.pw_name, account.pw_uid, account.pw_gid
        self.address = address
        self.port = port or 0
        self.private_home = private_home
        self.home = self.directory / "home" if private_home else Path(account.pw_dir)
        self.shell = tuple(shell)
        self.sftp = sftp
        self.config_extra = config_extra
        self.enter = tuple(enter)
        self.log = self.directory / "sshd.log"
        self.identity = Path(identity) if identity else self.directory / "client_key"
        self.known_hosts = self.directory / "known_hosts"
        self.config = self.directory / "ssh_config"
        self._server: subprocess.Popen[bytes] | None = None
        self._orphans: list[int] = []
        self._made_run_sshd = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- up and down --------------------------------------------------------------------------

    def start(self) -> None:
        """Write what is missing and start; returns when the port is listened on."""
        if self._server is not None:
            return
        self._write_files()
        fixed = self.port
        for attempt in range(5):
            self.port = fixed or free_port(self.address)
            self._write_sshd_config()
            if self._launch():
                break
            # Another program may have taken the port in between; a fixed one is not ours to change.
            if fixed or attempt == 4:
                raise ConfigurationError(f"sshd did not start: {self._last_words()}")
        self._write_client_files()

    def stop(self) -> None:
        """End the listener, its sessions and, with a private home, all they left running."""
        sessions = self.sessions()
        self._stop_listener()
        left = sessions
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [pid for pid in {*left, *self.remains()} if _signal(pid, number)]
            deadline = time.monotonic() + 3
            while left and time.monotonic() < deadline:
                left = [pid for pid in left if _alive(pid)]
                time.sleep(0.01)
        if self._made_run_sshd:
            with contextlib.suppress(OSError):
                Path("/run/sshd").rmdir()

    def restart(self) -> None:
        """Restart the listener on its port; connections that stand go on, as on a real host."""
        self._stop_listener()
        if not self._launch():
            raise ConfigurationError(f"sshd did not start again: {self._last_words()}")

    def _stop_listener(self) -> None:
        if self._server is None:
            return
        self._orphans = self.sessions()
        server, self._server = self._server, None
        # Only the listener, not its group: what the sessions do is their own affair.
        for number in (signal.SIGTERM, signal.SIGKILL):
            server.send_signal(number)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if server.poll() is not None:
                    return
                time.sleep(0.005)

    def _launch(self) -> bool:
        before = self.log.stat().st_size if self.log.exists() else 0
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "sshd.pid").unlink()
        sshd = [find_program("sshd"), "-D", "-f", str(self.directory / "sshd_config")]
        # A relative log path would lose the lines of every session: they run in another directory.
        argv = [*self.enter, *self._own_run(), *sshd, "-E", str(self.log)]
        with self._output().open("ab") as words:
            server = process.spawn(argv, stdout=words, stderr=words, cwd=self.directory)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and server.poll() is None:
            if self.log.exists() and "Server listening on " in self._log_since(before):
                self._server = server
                return True
            time.sleep(0.005)
        process.end(server)
        return False

    def _own_run(self) -> list[str]:
        """What root's sshd needs of /run and /etc, in a mount namespace of its own."""
        if os.geteuid() != 0:
            return []
        mounts = [] if Path("/run/sshd").is_dir() else [_OWN_RUN]
        if _is_locked(self.user):
            shadow = self.directory / "shadow"
            shadow.touch(mode=0o600)
            shadow.write_text(f"{self.user}:*:19000:0:99999:7:::\n")
            mounts.append(_OWN_SHADOW)
        if not mounts:
            return []
        script = " && ".join([*mounts, 'exec "$@"'])
        prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        prefix.append(str(self.directory))
        with contextlib.suppress(FileNotFoundError):
            if process.run([*prefix, "true"], timeout=10).returncode == 0:
                return prefix
        if _OWN_RUN in mounts:
            # No namespaces here (a container): the directory itself, and away with it at the end.
            os.makedirs("/run/sshd", 0o755)
            self._made_run_sshd = True
        return []

    # -- what it says -------------------------------------------------------------------------

    def logins(self) -> int:
        """How many logins this server has accepted since its log began."""
        return len(_LOGIN.findall(self.log_text()))

    def log_text(self) -> str:
        """The whole log so far."""
        return self._log_since(0)

    def sessions(self) -> list[int]:
        """Process ids of the server's connections, those of before a restart included."""
        family = list(self._orphans)
        if self._server is not None:
            family += _descendants(self._server.pid)
        return [pid for pid in family if _command_name(pid).startswith("sshd") and _alive(pid)]

    def kill_sessions(self, number: int = signal.SIGKILL) -> list[int]:
        """Signal every connection's processes; returns whom."""
        return [pid for pid in self.sessions() if _signal(pid, number)]

    def remains(self) -> list[int]:
        """Processes that a login left behind, known by the private home in their environment."""
        if not self.private_home:
            return []
        mark = f"HOME={self.home}".encode()
        return [pid for pid in _all_processes() if mark in _environment(pid) and _alive(pid)]

    @property
    def pid(self) -> int:
        """The listener's process id."""
        if self._server is None:
            raise ConfigurationError("this sshd is not running")
        return self._server.pid

    def _log_since(self, offset: int) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(offset)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _output(self) -> Path:
        return self.directory / "sshd.out"

    def _last_words(self) -> str:
        words = self._log_since(0) + self._output().read_text(errors="replace")
        return "; ".join(words.splitlines()[-3:]) or "it said nothing"

    # -- files --------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in (self.directory / "host_key", self.identity):
            # The public half is enough: the other may lie in an agent only.
            if not name.with_name(name.name + ".pub").exists():
                make_key(name, name.name)
        keys = self.directory / "authorized_keys"
        keys.write_text(self.identity.with_name(self.identity.name + ".pub").read_text())
        (self.directory / "login").write_text(_LOGIN_SCRIPT)
        if self.private_home:
            for name, _ in self._home_variables():
                name.mkdir(mode=0o700, parents=True, exist_ok=True)
                if os.geteuid() == 0:
                    os.chown(name, self.uid, self.gid)

    def _home_variables(self) -> list[tuple[Path, str]]:
        home = self.home
        return [
            (home, "HOME"),
            (home / ".config", "XDG_CONFIG_HOME"),
            (home / ".cache", "XDG_CACHE_HOME"),
            (home / ".state", "XDG_STATE_HOME"),
            (home / ".share", "XDG_DATA_HOME"),
            (home / ".run", "XDG_RUNTIME_DIR"),
            (home / ".tmp", "TMPDIR"),
        ]

    def _write_sshd_config(self) -> None:
        own = self.directory
        lines = [
            f"ListenAddress {self.address}",
            f"Port {self.port}",
            f'HostKey "{own}/host_key"',
            f'AuthorizedKeysFile "{own}/authorized_keys"',
            f'PidFile "{own}/sshd.pid"',
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
            "PermitRootLogin prohibit-password",
        ]
        # sshd takes the first value it meets, so what the caller wants comes before the defaults.
        text = self.config_extra.rstrip("\n") + "\n" + "\n".join(lines) + "\n"
        if self.private_home:
            pairs = (f'"{name}={path}"' for path, name in self._home_variables())
            text += f"SetEnv {' '.join(pairs)}\n"
        if (self.private_home or self.shell) and "ForceCommand" not in self.config_extra:
            words = " ".join(self.shell)
            text += f"ForceCommand exec /bin/sh '{own}/login' {words}\n"
        if self.sftp:
            found = [path for path in _SFTP_SERVERS if Path(path).exists()]
            if found:
                text += f"Subsystem sftp {found[0]}\n"
        (own / "sshd_config").write_text(text)

    def _write_client_files(self) -> None:
        key = (self.directory / "host_key.pub").read_text().split()
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        self.known_hosts.write_text(f"{name} {key[0]} {key[1]}\n")
        self.config.write_text(self.client_block())

    def client_block(self, *, extra: Iterable[str] = (), with_identity: bool = True) -> str:
        """The ssh_config block by which a client reaches this server under its alias."""
        return client_block(
            self.alias,
            address=self.address,
            port=self.port,
            user=self.user,
            known_hosts=self.known_hosts,
            identity=self.identity if with_identity else None,
            extra=extra,
        )


def _is_locked(user: str) -> bool:
    """Whether the password of an account is locked (shadow(5)); false where that is secret."""
    try:
        lines = Path("/etc/shadow").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:!") for line in lines)


# -- /proc: where there is none (macOS) nothing is found, and only the listener is ended ----------


def _all_processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _parent_and_state(pid: int) -> tuple[int, str]:
    try:
        # The name in parentheses may hold anything, even a parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, "X"
    return int(fields[1]), fields[0]


def _descendants(root: int) -> list[int]:
    parents = {pid: _parent_and_state(pid)[0] for pid in _all_processes()}
    family, todo = [], [root]
    while todo:
        parent = todo.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        family += children
        todo += children
    return family


def _alive(pid: int) -> bool:
    return _parent_and_state(pid)[1] not in "XZ"


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

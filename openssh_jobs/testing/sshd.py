"""``PrivateSshd``: a real ``sshd`` on a loopback port, for the demo and for tests."""

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

# At LogLevel VERBOSE sshd also writes "Accepted key ..." lines; these are not logins.
_LOGIN = re.compile(r"^Accepted [a-z/-]+ for ", re.MULTILINE)
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
)
# sshd first changes into the home directory of the password file.  This is the end of a login: it
# changes into the private home and starts the shell with the command.
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
# Root's sshd requires /run/sshd.  A /run of its own leaves that of the machine unchanged.
_OWN_RUN = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd"
# Without PAM sshd refuses an account whose password is locked (root's, where sudo is used).
_OWN_SHADOW = 'mount --bind "$0/shadow" /etc/shadow'


def find_program(name: str) -> str:
    """The path of a program, also in /usr/sbin and /sbin.  Raises ``ConfigurationError``."""
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


def sftp_server() -> str | None:
    """The path of OpenSSH's sftp-server; ``None`` if it is not installed."""
    return next((path for path in _SFTP_SERVERS if Path(path).exists()), None)


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
    """The ssh_config block of a host; without ``identity`` only keys of an agent are offered."""
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
    """A real ``sshd`` on a loopback port, with all its files in ``directory``.

    It has its own host key, client key, log and ssh_config, and reads nothing of ``/etc/ssh`` or
    ``~/.ssh``.  It needs openssh-server, but no root: a plain user can log in as that user::

        from openssh_jobs import Connection
        from openssh_jobs.testing import PrivateSshd

        def test_my_program(tmp_path):
            with PrivateSshd(tmp_path / "sshd") as server:
                host = Connection(server.alias, ssh_config=server.config)
                try:
                    assert host.run("echo ready").stdout == "ready\\n"
                    assert server.logins() == 1
                finally:
                    host.close(stop_master=True)

    ``directory`` is created if it is missing, and is not removed.  ``alias`` is the host's name in
    ``config``, a file for ``ssh -F``.  ``address`` and ``port`` are where it listens (``port`` is
    chosen if ``None``).  ``user`` must be the caller unless that is root.  With ``private_home``
    HOME and all XDG directories of a login are in ``home`` (``directory/home``); otherwise the
    user's real home is used.  ``shell`` replaces the login shell (``("tcsh", "-f")``).  There is
    sftp unless ``sftp=False`` or OpenSSH's sftp-server is missing.  ``config_extra`` are lines of
    sshd_config(5) that come first (the first value counts).  ``identity`` is a client key, created
    if ``None``.  ``enter`` is put before the command line of ``sshd`` (``nsenter ...``).

    Raises ``ConfigurationError`` if the directory's name is unusable, a program is missing or
    ``sshd`` does not start.
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
            raise ConfigurationError(
                f"the path of an sshd's directory must not contain \" % $ \\ or a newline; "
                f"{str(self.directory)!r} was given"
            )
        self.alias = alias
        try:
            account = pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
        except KeyError as error:
            raise ConfigurationError(
                f"the user must have an entry in passwd(5): {error.args[0]}"
            ) from error
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

    # -- start and stop --------------------------------------------------------------------------

    def start(self) -> None:
        """Create missing files and start, unless it runs; returns when ``sshd`` listens."""
        if self._server is not None:
            return
        self._write_files()
        fixed = self.port
        for attempt in range(5):
            self.port = fixed or free_port(self.address)
            self._write_sshd_config()
            if self._launch():
                break
            # Another program may have taken the port in between; only a port of ours may change.
            if fixed or attempt == 4:
                raise ConfigurationError(f"sshd did not start: {self._last_lines()}")
        self._write_client_files()

    def stop(self) -> None:
        """End the listener, its sessions and, with a private home, what they left running."""
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
        """Restart the listener on its port; open connections continue, as on a real host."""
        self._stop_listener()
        if not self._launch():
            raise ConfigurationError(f"sshd did not start again: {self._last_lines()}")

    def _stop_listener(self) -> None:
        if self._server is None:
            return
        self._orphans = self.sessions()
        server, self._server = self._server, None
        # Only the listener, not its process group: sessions continue.
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
        # An absolute log path: the processes of sessions run in another directory.
        argv = [*self.enter, *self._own_run(), *sshd, "-E", str(self.log)]
        with self._output().open("ab") as handle:
            server = process.spawn(argv, stdout=handle, stderr=handle, cwd=self.directory)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and server.poll() is None:
            if self.log.exists() and "Server listening on " in self._log_since(before):
                self._server = server
                return True
            time.sleep(0.005)
        process.end(server)
        return False

    def _own_run(self) -> list[str]:
        """The words that give root's sshd its own /run and /etc/shadow, in a mount namespace."""
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
            # No namespaces here (a container): make the directory itself, removed by stop.
            os.makedirs("/run/sshd", 0o755)
            self._made_run_sshd = True
        return []

    # -- observe -------------------------------------------------------------------------

    def logins(self) -> int:
        """Number of logins that this server accepted since its log was created."""
        return len(_LOGIN.findall(self.log_text()))

    def log_text(self) -> str:
        """The log so far; empty before the first start."""
        return self._log_since(0)

    def sessions(self) -> list[int]:
        """Process ids of the server's connections, also of those from before a restart."""
        family = list(self._orphans)
        if self._server is not None:
            family += _descendants(self._server.pid)
        return [pid for pid in family if _command_name(pid).startswith("sshd") and _alive(pid)]

    def kill_sessions(self, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to the processes of all connections; returns their process ids."""
        return [pid for pid in self.sessions() if _signal(pid, number)]

    def remains(self) -> list[int]:
        """Process ids that logins left behind: the private home is HOME in their environment."""
        if not self.private_home:
            return []
        mark = f"HOME={self.home}".encode()
        return [pid for pid in _all_processes() if mark in _environment(pid) and _alive(pid)]

    @property
    def pid(self) -> int:
        """The listener's process id.  Raises ``ConfigurationError`` if it does not run."""
        if self._server is None:
            raise ConfigurationError("this sshd does not run; call start() first")
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

    def _last_lines(self) -> str:
        text = self._log_since(0) + self._output().read_text(errors="replace")
        return "; ".join(text.splitlines()[-3:]) or "no output"

    # -- files --------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in (self.directory / "host_key", self.identity):
            # The public key is enough: the private one may be in an agent only.
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
        # sshd uses the first value, so the caller's lines come before the defaults.
        text = self.config_extra.rstrip("\n") + "\n" + "\n".join(lines) + "\n"
        if self.private_home:
            pairs = (f'"{name}={path}"' for path, name in self._home_variables())
            text += f"SetEnv {' '.join(pairs)}\n"
        if (self.private_home or self.shell) and "ForceCommand" not in self.config_extra:
            words = " ".join(self.shell)
            text += f"ForceCommand exec /bin/sh '{own}/login' {words}\n"
        server = sftp_server() if self.sftp else None
        if server is not None:
            text += f"Subsystem sftp {server}\n"
        (own / "sshd_config").write_text(text)

    def _write_client_files(self) -> None:
        key = (self.directory / "host_key.pub").read_text().split()
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        self.known_hosts.write_text(f"{name} {key[0]} {key[1]}\n")
        self.config.write_text(self.client_block())

    def client_block(self, *, extra: Iterable[str] = (), with_identity: bool = True) -> str:
        """The ssh_config block of this server, with ``extra`` lines; ``config`` is made of it."""
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
    """Whether an account's password is locked (shadow(5)); false if that cannot be read."""
    try:
        lines = Path("/etc/shadow").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:!") for line in lines)


# -- /proc: without it (macOS) nothing is found, and only the listener is ended -------------------


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
        # The name in parentheses may contain parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, "X"
    return int(fields[1]), fields[0]


def _descendants(root: int) -> list[int]:
    parents = {pid: _parent_and_state(pid)[0] for pid in _all_processes()}
    family, todo = [], [root]
    while todo:
        parent = todo.pop()
        children = [pid for pid, parent_of_it in parents.items() if parent_of_it == parent]
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

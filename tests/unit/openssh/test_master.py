"""``Master`` before there is a connection: what lies in the socket's place, and ssh that fails.

The ``ssh`` here is a program that answers ``-V`` and ``-G``, writes down its arguments and fails.
"""

from __future__ import annotations

import itertools
import os
import socket
import stat
from pathlib import Path

import pytest

from openssh_jobs.errors import (
    AuthenticationNeeded,
    ConfigurationError,
    ConnectError,
    MasterRequired,
    OpenSSHJobsError,
)
from openssh_jobs.openssh.destination import Destination
from openssh_jobs.openssh.master import Master, Policy

_SSH = """\
#!/bin/sh
case $1 in
-V) echo 'OpenSSH_9.6p1, fake' >&2; exit 0 ;;
-G) printf '%s\\n' 'hostname hpc.example.org' 'user anna' 'port 22'; exit 0 ;;
esac
printf '%s\\n' run "$@" >>'@argv'
while [ $# -gt 1 ]; do
    if [ "$1" = -E ]; then log=$2; fi
    shift
done
@end
"""
_REFUSES = 'echo "anna@hpc.example.org: Permission denied (publickey)." >>"$log"; exit 255'


class FakeSsh:
    """The program ``ssh`` that is first on PATH."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._argv = directory / "argv"
        self._program = directory / "ssh"
        self.ends(_REFUSES)

    def ends(self, text: str) -> None:
        """Set how a login ends: shell text, in which ``$log`` is the file for messages."""
        self._program.write_text(_SSH.replace("@argv", str(self._argv)).replace("@end", text))
        self._program.chmod(0o755)

    @property
    def logins(self) -> list[list[str]]:
        """The arguments of every login."""
        if not self._argv.exists():
            return []
        return [run.splitlines() for run in self._argv.read_text().split("run\n")[1:]]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return FakeSsh(tmp_path / "bin")


@pytest.fixture
def place(cold: Path, ssh: FakeSsh) -> Path:
    """Where the socket of the route belongs."""
    return cold / master().name


def master(policy: Policy = "own", **options: str) -> Master:
    return Master(Destination(host="hpc", ssh_options=options), policy=policy, connect_timeout=5)


def left(place: Path) -> set[str]:
    """What is in the socket directory, apart from the lock and the record of logins."""
    return {path.name.removeprefix(place.name) for path in place.parent.iterdir()} - {
        ".lock",
        ".dials",
    }


def stale(place: Path) -> None:
    """A socket whose master has ended without removing it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))


def after(argv: list[str], word: str) -> list[str]:
    """The values of an option."""
    return [value for option, value in itertools.pairwise(argv) if option == word]


# -- nothing, or something dead, in the socket's place ------------------------------------------


def test_no_socket_is_no_master(place: Path, ssh: FakeSsh) -> None:
    assert master().candidates() == []
    assert master().find() is None
    assert list(place.parent.iterdir()) == [], "finding creates nothing"
    assert ssh.logins == []


def test_a_stale_socket_is_no_master_and_is_replaced(place: Path, ssh: FakeSsh) -> None:
    stale(place)
    assert master().candidates() == [(str(place), True)]
    assert master().find() is None
    assert place.is_socket(), "only a login, under the lock, removes it"
    with pytest.raises(AuthenticationNeeded):
        master().ensure()
    assert not place.exists()
    assert len(ssh.logins) == 1


def test_a_file_in_the_place_of_the_socket_is_replaced(place: Path, ssh: FakeSsh) -> None:
    place.write_text("no socket")
    assert master().find() is None
    with pytest.raises(AuthenticationNeeded):
        master().ensure()
    assert not place.exists()
    assert len(ssh.logins) == 1


def test_a_directory_in_the_place_of_the_socket_is_an_error(place: Path, ssh: FakeSsh) -> None:
    place.mkdir()
    (place / "precious").touch()
    with pytest.raises(ConfigurationError, match="cannot be removed: Is a directory") as caught:
        master().ensure()
    assert str(place) in str(caught.value)
    assert (place / "precious").exists()
    assert ssh.logins == []


@pytest.mark.parametrize("policy", ["existing", "user"])
def test_other_policies_open_nothing(place: Path, ssh: FakeSsh, policy: Policy) -> None:
    stale(place)
    with pytest.raises(MasterRequired, match="there is no live master") as caught:
        master(policy).ensure()
    assert caught.value.sent == "no"
    assert place.is_socket()
    assert ssh.logins == []


def test_a_socket_directory_for_others_is_not_used(place: Path, ssh: FakeSsh) -> None:
    stale(place)
    place.parent.chmod(0o755)
    try:
        assert master().candidates() == []
        with pytest.raises(ConfigurationError, match="socket directory"):
            master().ensure()
    finally:
        place.parent.chmod(0o700)
    assert ssh.logins == []


# -- the login ----------------------------------------------------------------------------------


def test_what_a_login_is_given(place: Path, ssh: FakeSsh) -> None:
    with pytest.raises(AuthenticationNeeded):
        master(Compression="yes", ServerAliveInterval="20").ensure()
    (argv,) = ssh.logins
    assert argv[:4] == ["-M", "-N", "-f", "-T"]
    (path,) = after(argv, "-S")
    assert Path(path).parent == place.parent
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert argv[-2:] == ["--", "hpc"]
    options = after(argv, "-o")
    for guard in (
        "BatchMode=yes",
        "ControlPersist=600",
        "ClearAllForwardings=yes",
        "ExitOnForwardFailure=no",
        "RequestTTY=no",
        "RemoteCommand=none",
        "PermitLocalCommand=no",
        "UpdateHostKeys=no",
    ):
        assert guard in options
        # The first value of an option wins.
        assert options.index(guard) < options.index("Compression=yes")
    assert options.index("ServerAliveInterval=20") < options.index("ServerAliveInterval=15")
    assert "ConnectTimeout=5" in options


def test_a_failed_login_leaves_nothing_behind(place: Path, ssh: FakeSsh) -> None:
    with pytest.raises(AuthenticationNeeded) as caught:
        master().ensure()
    assert caught.value.host == "hpc"
    assert caught.value.sent == "no"
    assert "Permission denied" in caught.value.stderr
    assert left(place) <= {".log"}
    assert master().find() is None


def test_it_is_not_tried_again_at_once(place: Path, ssh: FakeSsh) -> None:
    for _ in range(2):
        with pytest.raises(OpenSSHJobsError):
            master().ensure()
    assert len(ssh.logins) == 1
    with pytest.raises(AuthenticationNeeded):
        master().ensure(override=True)
    assert len(ssh.logins) == 2


def test_ssh_that_leaves_no_master_behind(place: Path, ssh: FakeSsh) -> None:
    ssh.ends("exit 0")
    opener = master()
    with pytest.raises(ConnectError, match="logged in but left no master behind"):
        opener.ensure()
    assert opener.logins == 0
    assert left(place) <= {".log"}


def test_a_signal_that_ends_ssh(place: Path, ssh: FakeSsh) -> None:
    ssh.ends("kill -9 $$")
    with pytest.raises(ConnectError, match="signal 9 ended ssh before the login finished"):
        master().ensure()
    assert left(place) <= {".log"}

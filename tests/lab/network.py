"""Three machines on two cables: network and host-name namespaces, only inside the lab.

::

    client (where the tests run)          bastion                     login
        10.88.1.2  ---------------------  10.88.1.1
                                          10.88.2.1  ---------------  10.88.2.2
        10.88.3.1  ------------------------------------------------  10.88.3.2

The bastion forwards no packets: 10.88.2.2 can only be reached by a login on the bastion.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.lab import namespaces


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"


class Machine:
    """A machine: a host name and a network stack of its own, the files of everybody."""

    def __init__(self, name: str) -> None:
        namespaces.require_own(f"the machine {name}")
        self.name = name
        # A process holds the namespaces.  `ip netns add` would leave a file in /run/netns.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._holder.pid
        self._wait_for_namespace()
        self.enter = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--"]
        self.run("hostname", name)
        self.run("ip", "link", "set", "lo", "up")

    def _wait_for_namespace(self) -> None:
        deadline = time.monotonic() + 10
        comm = Path(f"/proc/{self.pid}/comm")
        while comm.read_text() != "sleep\n":
            assert time.monotonic() < deadline, f"no namespace for {self.name}"
            time.sleep(0.002)

    def run(self, *argv: str) -> None:
        """Run a command on this machine as root; it has to succeed."""
        _run(*self.enter, *argv)

    def output(self, *argv: str, user: str | None = None, check: bool = True) -> str:
        """The output of a command on this machine; ``check``: it has to succeed."""
        change = ["runuser", "-u", user, "--"] if user else []
        done = subprocess.run(
            [*self.enter, *change, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # names of jobs are any bytes
            timeout=60,
            check=False,
            cwd="/",
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}".strip()
        return done.stdout

    def processes(self) -> list[int]:
        """Everything that runs on this machine, but for the process that holds it."""
        mine = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid:
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{name}/ns/net").st_ino == mine:
                        found.append(int(name))
        return found

    def signal_all(self, number: int) -> None:
        """SIGSTOP hangs the whole machine, SIGCONT wakes it."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def swallow(self, address: str) -> None:
        """Drop silently all that this machine would send to an address."""
        self.run("ip", "route", "replace", "blackhole", f"{address}/32")

    def swallow_no_more(self, address: str) -> None:
        """Undo ``swallow``."""
        self.run("ip", "route", "delete", "blackhole", f"{address}/32")

    def stop(self) -> None:
        """End everything on the machine, then the machine."""
        self.signal_all(signal.SIGCONT)
        self.signal_all(signal.SIGKILL)
        self._holder.kill()
        self._holder.wait(10)


class Cable:
    """A veth pair from one machine (None: the client) to another."""

    def __init__(
        self, near: Machine | None, near_address: str, far: Machine, far_address: str, name: str
    ) -> None:
        self.near, self.far, self.name = near, far, name
        _run("ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
        _run("ip", "link", "set", f"{name}1", "netns", str(far.pid))
        if near is not None:
            _run("ip", "link", "set", f"{name}0", "netns", str(near.pid))
        self._near("address", "add", f"{near_address}/30", "dev", f"{name}0")
        self._near("link", "set", f"{name}0", "up")
        far.run("ip", "address", "add", f"{far_address}/30", "dev", f"{name}1")
        far.run("ip", "link", "set", f"{name}1", "up")

    def _near(self, *arguments: str) -> None:
        _run(*(self.near.enter if self.near else []), "ip", *arguments)

    def cut(self) -> None:
        """Take the cable out at the far end."""
        self.far.run("ip", "link", "set", f"{self.name}1", "down")

    def mend(self) -> None:
        """Put it back."""
        self.far.run("ip", "link", "set", f"{self.name}1", "up")

    def remove(self) -> None:
        """Both ends at once; a dying namespace takes its time, and the name has to be free."""
        self._near("link", "delete", f"{self.name}0")


class Network:
    """The machines and cables drawn above."""

    def __init__(self) -> None:
        self.bastion = Machine("bastion")
        self.login = Machine("login")
        self.outer_cable = Cable(None, "10.88.1.2", self.bastion, "10.88.1.1", "oja")
        self.inner_cable = Cable(self.bastion, "10.88.2.1", self.login, "10.88.2.2", "ojb")
        self.direct_cable = Cable(None, "10.88.3.1", self.login, "10.88.3.2", "ojc")

    def stop(self) -> None:
        """Take it all down."""
        for cable in (self.direct_cable, self.inner_cable, self.outer_cable):
            cable.remove()
        for machine in (self.login, self.bastion):
            machine.stop()

"""Who logged in, and who was meant to: every ``Accepted`` line has to have an owner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from openssh_jobs.testing.sshd import PrivateSshd


@dataclass(slots=True)
class Ledger:
    """Counts logins over all servers of a test session.

    A login through a bastion is one at the host and one at the bastion; only hosts are counted
    against what was meant, and the bastion has to have as many as the hosts behind it.
    """

    hosts: list[PrivateSshd] = field(default_factory=list)
    bastions: list[PrivateSshd] = field(default_factory=list)
    by_fixtures: int = 0
    by_tests: int = 0
    at_bastions: int = 0
    retired: int = 0
    retired_logins: int = 0

    def add(self, server: PrivateSshd, *, bastion: bool = False) -> None:
        """Count this server's logins from now on (it has none yet)."""
        (self.bastions if bastion else self.hosts).append(server)

    def retire(self, server: PrivateSshd) -> None:
        """The server is stopped: its count is final, its log is read no more."""
        self.hosts.remove(server)
        self.retired += 1
        self.retired_logins += server.logins()

    def counts(self) -> Counter[str]:
        """Logins so far: ``hosts`` and ``bastions``."""
        return Counter(
            hosts=self.retired_logins + sum(server.logins() for server in self.hosts),
            bastions=sum(server.logins() for server in self.bastions),
        )

    @property
    def meant(self) -> int:
        """Logins at hosts that fixtures and tests said they would make."""
        return self.by_fixtures + self.by_tests

    def report(self) -> tuple[str, bool]:
        """One line for the end of the run, and whether it adds up."""
        seen = self.counts()
        right = seen["hosts"] == self.meant and seen["bastions"] == self.at_bastions
        hosts = len(self.hosts) + self.retired
        text = (
            f"logins: {seen['hosts']} accepted by {hosts} hosts, {self.meant} meant "
            f"({self.by_fixtures} by shared fixtures, {self.by_tests} announced by tests); "
            f"on the way, {seen['bastions']} at bastions, {self.at_bastions} meant"
        )
        return text, right

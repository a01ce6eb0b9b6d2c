"""The findings of ``doctor`` about this machine: ssh, sockets, journal, keys, connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .findings import Finding, fail, ok, warn
from .output import count, span

if TYPE_CHECKING:
    from ..openssh.destination import Destination
    from ..openssh.identities import AgentAnswer, Certificate
    from ..openssh.master import Master
    from ..openssh.ssh_config import Resolved

_MANY_KEYS = 5
"""sshd's MaxAuthTries is 6 by default, and every key that is offered counts."""


def binary() -> Finding:
    """The ssh that is used."""
    from ..openssh import ssh_config

    version = ssh_config.ssh_version()
    return ok("openssh", f"{version.text} at {ssh_config.find('ssh')}")


def way(destination: Destination, master: Master) -> Finding:
    """How ssh resolves the host."""
    from ..openssh import jump_hosts, masters

    resolved = master.resolved
    text = f"{destination.host} → {masters.route_text(resolved)}"
    hops = jump_hosts.hops(destination, resolved)
    if hops:
        names = [f"{hop.name} ({masters.route_text(hop.resolved)})" for hop in hops]
        text += f", through {', then '.join(names)}"
    elif resolved.get("proxycommand"):
        text += ", through a ProxyCommand"
    if resolved.get("controlpath"):
        text += "; a master of your own on its ControlPath is used where it lives"
    return ok("configuration", text)


def directory() -> Finding:
    """The directory of the sockets of masters."""
    from ..openssh import runtime_directory

    path = runtime_directory.prepare_directory()
    used = len(os.fsencode(path)) + 1 + 12
    return ok(
        "sockets",
        f"socket directory {path}, private, {used} of {runtime_directory.MAX_SOCKET_BYTES} bytes",
    )


def journal() -> Iterator[Finding]:
    """The journal: whether it can be read, written, and is whole."""
    from ..cluster.journal import Journal

    journal = Journal()
    try:
        rows, problems = journal.check()
        text = f"journal {journal.path}: {count(rows, 'job')}, {journal.file.mode} mode"
    finally:
        journal.close()
    if problems:
        yield fail(
            "journal",
            f"{text}; integrity_check: {problems[0]}",
            "Move it away together with its -wal and -shm files; `sqlite3 FILE .recover` prints "
            "what can still be read.",
        )
    elif journal.file.locked_by_file:
        yield warn(
            "journal",
            f"{text}; this file system has no locks (ENOLCK), so a file beside it is the lock",
            "XDG_STATE_HOME can name a directory on a local file system.",
        )
    else:
        yield ok("journal", f"{text}, integrity_check ok")


def keys(master: Master) -> Iterator[Finding]:
    """The agent, key files and certificates for a host."""
    from ..openssh import identities

    resolved, now = master.resolved, datetime.now(UTC)
    agent = identities.ask_agent(resolved)
    certificates = identities.certificates(resolved, agent)
    for certificate in certificates:
        if certificate.expired(now):
            yield warn(
                "certificate",
                f"the certificate {certificate.where} expired on "
                f"{certificate.valid_until:%Y-%m-%d at %H:%M}",
                "Get a new certificate from your site.",
            )
    yield _agent(agent, certificates, now, only=resolved.get("identitiesonly") == "yes")
    held = agent.keys if agent else ()
    locked = [key.path for key in identities.key_files(resolved) if identities.is_locked(key, held)]
    if locked:
        yield warn(
            "keys",
            f"{', '.join(locked)} has a passphrase and is not in the agent",
            f"Type `ssh-add {locked[0]}`, or answer in `{master.destination.login_command()}`.",
        )


def _agent(
    agent: AgentAnswer | None, certificates: list[Certificate], now: datetime, *, only: bool
) -> Finding:
    if agent is None:
        return ok("agent", "no agent is used, only key files")
    if agent.trouble:
        return warn(
            "agent",
            f"the agent at {agent.socket}: {agent.trouble}",
            "Start one (`eval $(ssh-agent)`), or point SSH_AUTH_SOCK at it.",
        )
    text = f"agent: {count(len(agent.keys), 'key')}"
    ends = [item.valid_until for item in certificates if item.valid_until]
    ends = [end for end in ends if end > now]
    if ends:
        text += f"; certificate valid for another {span((min(ends) - now).total_seconds())}"
    if len(agent.keys) > _MANY_KEYS and not only:
        return warn(
            "agent",
            f"{text}; a server may refuse before the right one is offered",
            "Name the key with IdentityFile and IdentitiesOnly yes in your ssh configuration.",
        )
    return ok("agent", text)


def agents_keys(resolved: Resolved) -> Iterator[Finding]:
    """The agent alone."""
    from ..openssh import identities

    yield _agent(identities.ask_agent(resolved), [], datetime.now(UTC), only=True)


def connections() -> Iterator[Finding]:
    """The masters that are open, and those that do not answer."""
    from ..openssh import masters

    found = masters.every()
    for master in found:
        if master.trouble:
            yield warn(
                "connections",
                f"the connection to {master.host or master.route} does not answer: "
                f"{master.trouble}",
                f"Type `openssh-jobs logout {master.host}`.",
            )
    lives = [master for master in found if not master.trouble]
    names = ", ".join(master.host or master.route for master in lives)
    text = count(len(lives), "connection")
    yield ok("connections", f"{text} open: {names}" if lives else "no connection is open")

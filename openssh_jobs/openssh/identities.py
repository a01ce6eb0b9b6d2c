"""The user's agent, key files and certificates.  Contacts no host.

Runs ``ssh-add`` and ``ssh-keygen -L``; a key file is read only to see whether it has a passphrase
(PROTOCOL.key of OpenSSH), because ssh does not say so in batch mode.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import struct
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from . import known_hosts, process, ssh_config
from .login_record import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ssh_config import Resolved

_TIMEOUT = 10.0
SILENT = "does not answer"
"""The trouble of an agent that waits for something else; OpenSSH's serves one request at a time."""
_MAGIC = b"openssh-key-v1\0"
_VALID = re.compile(
    r"^\s*Valid:\s+(?:forever|(?:from|after) (?P<start>[\dT:-]+)(?: to (?P<end>[\dT:-]+))?"
    r"|before (?P<before>[\dT:-]+))",
    re.MULTILINE,
)
_BEGINS = re.compile(r"^(?P<name>\S.*):\s*$", re.MULTILINE)


class KeyFile(NamedTuple):
    """A private key on disk; ``encrypted`` is ``None`` if that is unknown."""

    path: str
    encrypted: bool | None
    public: bytes


class Certificate(NamedTuple):
    """A certificate: its file, and its period of validity (``None``: no limit)."""

    where: str
    valid_from: datetime | None
    valid_until: datetime | None

    def expired(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.valid_until is not None and self.valid_until <= now


class AgentAnswer(NamedTuple):
    """The agent's answer: ``keys`` are public key lines; ``trouble``: why there is no answer."""

    socket: str
    keys: tuple[str, ...]
    trouble: str


# --------------------------------------------------------------------------- files


def key_files(resolved: Resolved) -> list[KeyFile]:
    """The private keys that ssh would try and that exist."""
    found = []
    for name in resolved.values.get("identityfile", ()):
        path = os.path.expanduser(name)
        if name.lower() != "none" and os.path.isfile(path):
            found.append(read_key(path))
    return found


def read_key(path: str) -> KeyFile:
    """Read a private key file as far as it is not encrypted."""
    try:
        with open(path, "rb") as handle:
            data = handle.read(1 << 16)
    except OSError:
        return KeyFile(path, None, b"")
    public = _public_half(path)
    if b"BEGIN OPENSSH PRIVATE KEY" not in data:
        encrypted = b"ENCRYPTED" in data if b"PRIVATE KEY" in data else None
        return KeyFile(path, encrypted, public)
    body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----"))
    try:
        blob = base64.b64decode(body)
        if not blob.startswith(_MAGIC):
            return KeyFile(path, None, public)
        cipher, at = _string(blob, len(_MAGIC))
        for _ in range(2):  # the key derivation and its options
            _, at = _string(blob, at)
        inside, _ = _string(blob, at + 4)
    except (binascii.Error, struct.error, ValueError):
        return KeyFile(path, None, public)
    return KeyFile(path, cipher != b"none", inside)


def _string(blob: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", blob, at)
    return blob[at + 4 : at + 4 + length], at + 4 + length


def _public_half(path: str) -> bytes:
    try:
        with open(path + ".pub", "rb") as handle:
            return base64.b64decode(handle.read(1 << 16).split()[1])
    except (OSError, IndexError, binascii.Error):
        return b""


def is_locked(key: KeyFile, agent_keys: Iterable[str]) -> bool:
    """Whether a key needs its passphrase: it is encrypted, and the agent does not have it."""
    public = base64.b64encode(key.public).decode()
    return bool(key.encrypted) and all(public not in line.split(" ") for line in agent_keys)


# --------------------------------------------------------------------------- the agent


def agent_socket(resolved: Resolved) -> str | None:
    """The socket of the agent that ssh would use; ``None`` if it would use none."""
    named = (resolved.values.get("identityagent") or ("SSH_AUTH_SOCK",))[0]
    if named.lower() == "none":
        return None
    if named == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if named.startswith("$"):
        return os.environ.get(named.strip("${}")) or None
    return os.path.expanduser(named)


def ask_agent(resolved: Resolved) -> AgentAnswer | None:
    """The keys that the agent has now; ``None`` if ssh would use no agent."""
    path = agent_socket(resolved)
    if path is None:
        return None
    argv = [ssh_config.find("ssh-add"), "-L"]
    done = process.run(argv, timeout=_TIMEOUT, env={"SSH_AUTH_SOCK": path})
    if done.timed_out:
        return AgentAnswer(path, (), SILENT)
    listing = done.stdout.decode("utf-8", "replace")
    if done.returncode == 0:
        return AgentAnswer(path, tuple(line for line in listing.splitlines() if line), "")
    if done.returncode == 1 and b"no identities" in done.stdout:
        return AgentAnswer(path, (), "")
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    why = words[-1].removeprefix("Error connecting to agent: ") if words else ""
    return AgentAnswer(path, (), why or f"ssh-add ended with {done.returncode}")


def ask_agents(everybody: Iterable[Resolved]) -> dict[str | None, AgentAnswer]:
    """The answer of each agent that a login uses, by its socket; each is asked once."""
    by_socket = {agent_socket(resolved): resolved for resolved in everybody}
    answers = {path: ask_agent(resolved) for path, resolved in by_socket.items()}
    return {path: answer for path, answer in answers.items() if answer is not None}


# --------------------------------------------------------------------------- certificates


def certificates(resolved: Resolved, agent: AgentAnswer | None = None) -> list[Certificate]:
    """The certificates that ssh would offer, from files and from the agent."""
    paths = [os.path.expanduser(name) for name in resolved.values.get("certificatefile", ())]
    for name in resolved.values.get("identityfile", ()):
        paths.append(os.path.expanduser(name) + "-cert.pub")
    found = []
    for path in dict.fromkeys(paths):
        if os.path.isfile(path):
            found += _read_certificates(["-f", path], path, None)
    lines = [line for line in (agent.keys if agent else ()) if "-cert-v0" in line.split(" ")[0]]
    for line in lines:
        comment = line.split(" ", 2)[2] if line.count(" ") > 1 else "a certificate"
        where = f"{comment} in the agent"
        found += _read_certificates(["-f", "-"], where, line.encode() + b"\n")
    return found


def _read_certificates(words: list[str], where: str, data: bytes | None) -> list[Certificate]:
    argv = [ssh_config.find("ssh-keygen"), "-L", *words]
    done = process.run(argv, timeout=_TIMEOUT, input=data)
    return parse_certificates(done.stdout.decode("utf-8", "replace"), where)


def parse_certificates(text: str, where: str) -> list[Certificate]:
    """Read what ``ssh-keygen -L`` prints; its times are those of this machine's time zone."""
    found = []
    for match in _VALID.finditer(text):
        start = _moment(match["start"])
        end = _moment(match["end"] or match["before"])
        found.append(Certificate(where, start, end))
    return found


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone() if text else None


# --------------------------------------------------------------------------- what it amounts to


def fingerprint(*everybody: Resolved) -> Keys:
    """Changes when agent, key files, certificates, tickets or the configuration change.

    ``everybody``: the host, and the jump hosts before it.  Empty if an agent does not answer.
    """
    whole = hashlib.sha256()
    answers = ask_agents(everybody)
    if any(answer.trouble == SILENT for answer in answers.values()):
        return Keys("", "")
    for resolved in everybody:
        for keyword, values in sorted(resolved.values.items()):
            whole.update(repr((keyword, values)).encode("utf-8", "surrogateescape"))
        _count(whole, _what_counts(resolved))
        agent = answers.get(agent_socket(resolved))
        if agent is not None:
            # A passing trouble of the agent and its being empty are two things.
            whole.update(repr((sorted(agent.keys), agent.trouble)).encode())
    own = whole.hexdigest()[:16]
    for resolved in everybody:
        _count(whole, known_hosts.files(resolved))
    return Keys(own, whole.hexdigest()[:16])


def _count(whole: hashlib._Hash, paths: Iterable[str]) -> None:
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError:
            continue
        whole.update(repr((path, facts.st_mtime_ns, facts.st_size, facts.st_ino)).encode())


def _what_counts(resolved: Resolved) -> Iterable[str]:
    for name in resolved.values.get("identityfile", ()):
        path = os.path.expanduser(name)
        yield path
        yield path + "-cert.pub"
    for name in resolved.values.get("certificatefile", ()):
        yield os.path.expanduser(name)
    # A master of the user on the way, or one that is there again.
    yield os.path.expanduser(resolved.get("controlpath") or "")
    cache = os.environ.get("KRB5CCNAME", f"/tmp/krb5cc_{os.geteuid()}")  # noqa: S108 - only looked at
    yield cache.removeprefix("FILE:")


def hints(
    resolved: Resolved, now: datetime, *, refused: bool, not_signed: str
) -> tuple[list[str], str]:
    """Possible reasons for a failed login, and what a person has to do before the next one.

    ``refused``: no key was enough, and the server asked for nothing else; ``not_signed``: why the
    agent did not sign.  The second, with ``{login}`` for the command to log in, is empty if ssh had
    a key to offer.
    """
    agent = ask_agent(resolved)
    advice = [
        f"The certificate {item.where} expired on {item.valid_until:%Y-%m-%d at %H:%M}."
        for item in certificates(resolved, agent)
        if item.expired(now)
    ]
    held, files = agent.keys if agent else (), key_files(resolved)
    locked = [key.path for key in files if is_locked(key, held)]
    if locked:
        advice.append(f"The key {' and '.join(locked)} has a passphrase and is not in the agent.")
    needs = ""
    if agent is not None and (refused or agent.trouble):
        trouble, needs = _agent_trouble(resolved, agent, not_signed)
        advice.append(trouble)
    elif agent is None and refused and not files:
        advice.append(
            "There is no key to log in with: no agent, and no file that IdentityFile names."
        )
        needs = "Start an agent and `ssh-add` the key, or type `{login}` once."
    if locked and not (agent and agent.trouble):
        needs = "Type `{login}` once, or `ssh-add` that key."
    nothing = not held and len(locked) == len(files)
    return advice, needs if refused and (nothing or locked or not_signed) else ""


def _agent_trouble(resolved: Resolved, agent: AgentAnswer, not_signed: str) -> tuple[str, str]:
    """What is wrong with the agent, and what has to be done."""
    where = agent.socket
    if agent.trouble == SILENT:
        return (
            f"The agent at {where} does not answer; it may wait for a confirmation or a PIN.",
            "Type `{login}` and confirm.",
        )
    if agent.trouble:
        if (resolved.get("identityagent") or "SSH_AUTH_SOCK") != "SSH_AUTH_SOCK":
            return (
                f"The agent at {where}, named by IdentityAgent, cannot be used: {agent.trouble}.",
                "Start it, or type `{login}` once.",
            )
        return (
            f"SSH_AUTH_SOCK is stale: the agent at {where} cannot be used ({agent.trouble}), as "
            "in a tmux session that is older than the agent.",
            "Type `{login}` in a new shell: this program uses that connection, too.",
        )
    if not agent.keys:
        return (
            f"The agent at {where} has no keys (those of `ssh-add -t` are removed after their "
            "time).",
            "`ssh-add` the key, or type `{login}` once.",
        )
    if not_signed:
        return (
            f"The agent at {where} did not sign ({not_signed}): its key needs a confirmation "
            "(`ssh-add -c`) that was not given, or is not for this host (`ssh-add -h`).",
            "Type `{login}` and confirm.",
        )
    return (
        f"No key of the agent at {where} ({len(agent.keys)}) was accepted; one that `ssh-add -h` "
        "limits to other hosts is not offered.",
        "",
    )

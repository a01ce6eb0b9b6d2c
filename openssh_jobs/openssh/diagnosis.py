"""What ssh's words on stderr mean: text in, an error out.  Pure.

The first line that matches decides, read from the top, because a jump host's own trouble comes
before the outer ssh's complaint about the broken pipe to it.  The texts are those of OpenSSH 7.4
to 10.x; parts that strerror(3) gives differ between systems, so only their start is matched.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import (
    AuthenticationFailed,
    AuthenticationNeeded,
    ConfigurationError,
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    JumpHostFailed,
    OpenSSHJobsError,
    Throttled,
    TooManyKeys,
)


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    error: type[OpenSSHJobsError]
    says: str
    advice: str


def _rule(pattern: str, error: type[OpenSSHJobsError], says: str, advice: str = "") -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), error, says, advice)


_LOG_IN = "Type `{login}` once in a terminal to see what it asks."

_RULES = (
    _rule(
        r"command-line:? line \d+: (?P<what>.*)",
        ConfigurationError,
        "ssh does not accept an option: {what}",
    ),
    _rule(
        r"(?P<what>\S+: (?:line \d+: Bad configuration option|terminating, \d+ bad).*)",
        ConfigurationError,
        "ssh does not accept its configuration: {what}",
        "Mend that line of the ssh configuration.",
    ),
    _rule(
        r"(?P<what>(?:hostname|remote username) contains invalid characters)",
        ConfigurationError,
        "ssh refuses the name: {what}",
    ),
    _rule(
        r"Could not resolve hostname (?P<name>[^:]+)",
        HostUnreachable,
        "ssh does not know this host (could not resolve hostname {name})",
        "Hosts come from your ssh configuration and DNS; `ssh -G {host}` shows what it stands for.",
    ),
    _rule(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        HostKeyChanged,
        "the host's key is not the one in known_hosts",
        "Ask its administrators; if the change is right, remove the old key with `ssh-keygen -R`.",
    ),
    _rule(
        r"Host key for (?P<name>\S+) has changed",
        HostKeyChanged,
        "the key of {name} is not the one in known_hosts",
        "Ask its administrators; if the change is right, remove the old key with `ssh-keygen -R`.",
    ),
    _rule(
        r"No \S+ host key is known for (?P<name>\S+)",
        HostKeyUnknown,
        "the host key of {name} is not in known_hosts",
        "Type `{login}` once, compare the fingerprint and accept it.",
    ),
    _rule(
        r"Host key verification failed",
        HostKeyUnknown,
        "the host key could not be verified, and nobody was asked",
        "Type `{login}` once, compare the fingerprint and accept it.",
    ),
    _rule(
        r"Too many authentication failures",
        TooManyKeys,
        "the server ended the login after too many keys were offered",
        "Name the key with IdentityFile and IdentitiesOnly yes (or identity_file=).",
    ),
    _rule(
        r"(?P<who>\S+@\S+): Permission denied \((?P<methods>[^)]*)\)",
        AuthenticationFailed,
        "{who} was refused; the server takes: {methods}",
        _LOG_IN,
    ),
    _rule(
        r"^Permission denied(?:, please try again|\s*\((?P<methods>[^)]*)\))",
        AuthenticationFailed,
        "the login was refused",
        _LOG_IN,
    ),
    _rule(
        r"Not allowed at this time|Exceeded MaxStartups|penalt(?:y|ies)",
        Throttled,
        "the server drops new connections for now",
        "Wait some minutes before the next login.",
    ),
    _rule(
        r"connect to host (?P<name>\S+) port (?P<port>\d+): (?P<why>.*)",
        HostUnreachable,
        "{name} port {port} cannot be reached: {why}",
        "Is the host up, and is the network (VPN) right?",
    ),
    _rule(
        r"Connection timed out during banner exchange"
        r"|Connection to \S+ port \d+ timed out|Timeout, server \S+ not responding",
        HostUnreachable,
        "the host does not answer",
        "Is the host up, and is the network (VPN) right?",
    ),
    _rule(
        r"(?:stdio forwarding failed|open failed: .*|administratively prohibited.*)",
        JumpHostFailed,
        "the jump host does not forward to the host",
        "See `ssh -v {host}`.",
    ),
    _rule(
        r"unix_listener: path|ControlPath too long",
        ConfigurationError,
        "the path of the master's socket is too long",
        "Name a shorter directory in OPENSSH_JOBS_RUNTIME_DIR.",
    ),
    _rule(
        r"(?:kex|ssh)_exchange_identification: (?:read: )?Connection (?:closed|reset)",
        Throttled,
        "the server closed the connection before a word was said",
        "It may limit logins (MaxStartups, fail2ban): wait a little.",
    ),
    _rule(
        r"Connection (?:closed|reset) by|Broken pipe|closed by remote host",
        HostUnreachable,
        "the server closed the connection during the login",
        "See `ssh -v {host}`.",
    ),
)

_PROXY = re.compile(r"UNKNOWN port 65535|via proxy", re.IGNORECASE)
# Of a line no more is looked at: a server's banner can be as long as it likes.
_LONGEST = 2000
_INTERACTIVE = ("keyboard-interactive", "password")
_NOISE = re.compile(
    r"^(?:Warning: Permanently added|Pseudo-terminal will not be allocated|\*\* WARNING: "
    r"connection is not using a post-quantum|debug\d:)"
)


def connect_error(
    stderr: str,
    *,
    host: str,
    login: str,
    through_proxy: bool = False,
    attended: bool = False,
    jump: str = "",
) -> OpenSSHJobsError:
    """The error behind the words with which ssh failed to open a connection.

    ``login`` is the command a person would type, ``through_proxy`` says that the way leads over a
    ProxyJump or ProxyCommand, ``attended`` that somebody answered prompts.  ``jump`` is the
    command that goes no further than the jump host: with ControlPersist ssh throws away what the
    ssh to that one says.
    """
    lines = [
        line.strip()[:_LONGEST] for line in stderr.replace("\r", "\n").split("\n") if line.strip()
    ]
    for line in lines:
        for rule in _RULES:
            found = rule.pattern.search(line)
            if found:
                return _build(rule, found, lines, host, login, through_proxy, attended, jump)
    said = [line for line in lines if not _NOISE.match(line)]
    if through_proxy:
        return JumpHostFailed(
            "the jump host or proxy command ended without a connection",
            host=host,
            stderr=stderr,
            advice=f"Type `{jump or 'ssh -v ' + host}` to see why.",
        )
    reason = said[-1] if said else "ssh gave no reason"
    return ConnectError(
        f"no connection: {reason}", host=host, stderr=stderr, advice=f"See `ssh -v {host}`."
    )


def _build(
    rule: _Rule,
    found: re.Match[str],
    lines: list[str],
    host: str,
    login: str,
    through_proxy: bool,
    attended: bool,
    jump: str,
) -> OpenSSHJobsError:
    facts = {name: value or "" for name, value in found.groupdict().items()}
    facts.update(host=host, login=login)
    says = rule.says.format(**facts)
    advice = rule.advice.format(**facts) or None
    error = rule.error
    if error is AuthenticationFailed and not attended:
        methods = facts.get("methods", "")
        if any(name in methods for name in _INTERACTIVE):
            error = AuthenticationNeeded
            # The first words are those of the inner ssh, where there is one.
            over = any(_PROXY.search(line) for line in lines)
            who = f"the jump host ({facts.get('who', 'unnamed')})" if over else "it"
            says = f"{who} asks for a password or a code ({methods}) and nobody is here to answer"
            advice = f"Type `{login}` once, or open the master with a responder."
    broken_by_proxy = any(_PROXY.search(line) for line in lines)
    if broken_by_proxy and error in (HostUnreachable, Throttled):
        # Only the inner ssh names an address here; the outer one knows just a dead pipe.
        inner = "the way over the jump host broke: " if through_proxy else "the proxy failed: "
        if error is Throttled or not facts.get("name"):
            says = "it ended without a connection"
            advice = f"Type `{jump or 'ssh -v ' + host}` to see why."
        error, says = JumpHostFailed, inner + says
    return (
        error(says, host=host, advice=advice, stderr="\n".join(lines))
        if issubclass(error, ConnectError)
        else error(says, host=host, advice=advice)
    )

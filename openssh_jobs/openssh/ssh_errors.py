"""From the log of an ssh that failed to the error that it means.  Pure.

Only the log of ssh (``-E``) is read, never the stream with the server's banner.  The last message
of ssh gives the reason, so the last line decides; the lines before it count only if ssh explains
the reason in several lines (a changed host key, a disconnect).  Text of the server that ssh quotes
(the message of a disconnect, instructions of a question) never matches as a last line; a message
that ends with such text in any number of lines (methods, algorithms) is put into one.  The
patterns are for OpenSSH 7.4 to 10.x; texts of strerror(3) differ between systems, so they are only
quoted.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

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

if TYPE_CHECKING:
    from collections.abc import Sequence


class HopLog(NamedTuple):
    """What the ssh to one jump host wrote to its log.

    ``passed``: it has logged in.  ``command``: the command line that connects to this host only.
    """

    name: str
    text: str
    passed: bool
    command: str


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    error: type[OpenSSHJobsError]
    says: str
    advice: str


def _rule(pattern: str, error: type[OpenSSHJobsError], says: str, advice: str = "") -> _Rule:
    return _Rule(re.compile(pattern), error, says, advice)


_LOG_IN = "Type `{login}` once in a terminal to see what it asks."
_ACCEPT = "Type `{login}` once, compare the fingerprint and accept it."
_NETWORK = "Check that the host is up and that the network (VPN) works."
_LIMITS = "It may limit logins (MaxStartups, PerSourcePenalties, fail2ban): try again later."

# Whole lines that ssh writes when it fails.
_RULES = (
    _rule(
        r"Unable to negotiate with \S+ port \d+: (?P<why>no matching .*)",
        ConnectError,
        "ssh and the server have nothing in common: {why}",
        "See the algorithms in ssh_config(5) and `ssh -v {host}`.",
    ),
    _rule(
        r"command-line:? line \d+: (?P<what>.*)",
        ConfigurationError,
        "ssh does not accept an option: {what}",
    ),
    _rule(
        r"(?P<what>\S.*: (?:line \d+: Bad configuration option: .*"
        r"|terminating, \d+ bad configuration options))",
        ConfigurationError,
        "ssh does not accept its configuration: {what}",
        "Correct that line of the ssh configuration.",
    ),
    _rule(
        r"(?P<what>(?:hostname|remote username) contains invalid characters)",
        ConfigurationError,
        "ssh refuses the name: {what}",
    ),
    _rule(
        r"ssh: Could not resolve hostname (?P<name>[^:]+): .*",
        HostUnreachable,
        "ssh does not know this host (could not resolve hostname {name})",
        "Hosts come from your ssh configuration and DNS; `ssh -G {host}` shows what it stands for.",
    ),
    _rule(
        r"Host key for (?P<name>\S+) has changed and you have requested strict checking\.",
        HostKeyChanged,
        "the key of {name} is not the one in known_hosts",
    ),
    _rule(
        r"No \S+ host key is known for (?P<name>\S+) and you have requested strict checking\.",
        HostKeyUnknown,
        "the host key of {name} is not in known_hosts",
        _ACCEPT,
    ),
    _rule(
        r"Host key verification failed\.",
        HostKeyUnknown,
        "the host key could not be verified, and ssh was not allowed to ask",
        _ACCEPT,
    ),
    _rule(
        r"(?P<who>.+?@\S+): Permission denied \((?P<methods>.*?)(?:\)\.)?",
        AuthenticationFailed,
        "{who} was refused; the server takes: {methods}",
        _LOG_IN,
    ),
    _rule(
        r"Permission denied(?:, please try again| \((?P<methods>.*)\))\.",
        AuthenticationFailed,
        "the login was refused",
        _LOG_IN,
    ),
    _rule(
        r"ssh: connect to host (?P<name>\S+) port (?P<port>\d+): (?P<why>.*)",
        HostUnreachable,
        "{name} port {port} cannot be reached: {why}",
        _NETWORK,
    ),
    _rule(
        r"Connection timed out during banner exchange"
        r"|Connection to \S+ port \d+ timed out|Timeout, server \S+ not responding\.",
        HostUnreachable,
        "the host does not answer",
        _NETWORK,
    ),
    _rule(
        r"stdio forwarding failed|channel \d+: open failed: .*|Stdio forwarding request failed: .*",
        JumpHostFailed,
        "{hop} does not forward to {next}{why}",
        "{see}",
    ),
    _rule(
        r'unix_listener: path ".*" too long for Unix domain socket|ControlPath too long.*',
        ConfigurationError,
        "the path of the master's socket is too long",
        "Name a shorter directory in OPENSSH_JOBS_RUNTIME_DIR.",
    ),
    _rule(
        r"(?:kex|ssh)_exchange_identification: (?:read: )?Connection (?:closed|reset) by .*",
        Throttled,
        "the server closed the connection before it sent anything",
        _LIMITS,
    ),
    _rule(
        r"Connection (?:closed|reset) by \S+ port \d+",
        Throttled,
        "the server closed the connection during the login",
        _LIMITS + " Or this account is closed (maintenance, expired): `ssh -v {host}` shows why.",
    ),
    _rule(
        r"Connection to \S+ closed by remote host\.|client_loop: send disconnect: .*",
        HostUnreachable,
        "the server closed the connection during the login",
        "See `ssh -v {host}`.",
    ),
)

_DISCONNECT = re.compile(r"Received disconnect from \S+ port \d+:(?P<code>\d+): (?P<text>.*)")
_DISCONNECTED = re.compile(r"Disconnected from .* port \d+")
_NOT_OPENED = re.compile(r"channel \d+: open failed: (?P<why>.*)")
_PASSED = re.compile(r"^Authenticated to .*$", re.MULTILINE)
_NOT_SIGNED = re.compile(
    r"^sign_and_send_pubkey: signing failed for .* from agent: (?P<why>.*)$", re.MULTILINE
)
# RFC 4253: sshd sends these after too many failures, and with too many connections.
_PROTOCOL_ERROR, _TOO_MANY_CONNECTIONS = "2", "12"

_CHANGED = re.compile(r"Host key for (?P<name>\S+) has changed and you have requested strict .*")
_OFFENDING = re.compile(r"Offending (?P<type>\S+) key in (?P<file>.+):(?P<line>\d+)")
_FINGERPRINT = re.compile(r"(?P<key>(?:SHA256|MD5|SHA1|SHA512):\S+?)\.?")
_REVOKED = re.compile(r"The \S+ host key for (?P<name>\S+) is marked as revoked\.")
_PROXY = re.compile(r"Connection .*\bUNKNOWN port 65535\b.*")
_DEAD_PIPE = re.compile(
    _PROXY.pattern + r"|(?:kex|ssh)_exchange_identification: .*"
    r"|Connection timed out during banner exchange"
)
# Only the beginning of a line is read: text of a server may have any length.
_LONGEST = 2000
_MOST_LINES = 1000  # one message has 512 at most
_REASONS = 3
_INTERACTIVE = ("keyboard-interactive", "password")
_NOISE = re.compile(
    r"Warning: Permanently added |Pseudo-terminal will not be allocated|\*\* |debug\d: "
    r"|Authenticated to |Authenticated using |Transferred: |Bytes per second: |Killed by signal "
)
_UNSHARED = re.compile(r"ControlSocket .* already exists, disabling multiplexing", re.ASCII)
# ssh exits after these, so all that follows is the server's list in their last words.
_LAST_MESSAGE = re.compile(
    r"Unable to negotiate with \S+ port \d+: no matching |[^\s:]+@[^\s:]+: Permission denied \("
)
_PARTIAL = re.compile(r"^Authenticated (?:using .* )?with partial success\.$", re.MULTILINE)


def words_of(text: str) -> list[str]:
    """The relevant lines of a log, without warnings and debug output."""
    lines = (line.strip()[:_LONGEST] for line in text.replace("\r", "\n").split("\n"))
    return [line for line in lines if line and not _NOISE.match(line)][-_MOST_LINES:]


def _in_one_line(text: str) -> str:
    """The same lines, with the server's words in the last message of ssh put into its line."""
    lines = words_of(text)
    for number, line in enumerate(lines):
        if _LAST_MESSAGE.match(line):
            lines[number:] = [" ".join(lines[number:])]
            break
    return "\n".join(lines)


def is_unshared(log: str) -> bool:
    """Whether ssh continued without a master's socket (it exits with 0 then)."""
    after = _PASSED.split(log)[-1]
    return any(_UNSHARED.fullmatch(line) for line in words_of(after)[-_REASONS:])


def was_partial(log: str) -> bool:
    """Whether ssh logged that one of several factors was accepted."""
    return _PARTIAL.search(log.replace("\r", "")) is not None


def has_passed(log: str) -> bool:
    """Whether ssh logged that it has logged in."""
    return _PASSED.search(log) is not None


def not_signed(log: str) -> str:
    """Why the agent did not sign with a key that it has, in its own words; empty if it did."""
    found = _NOT_SIGNED.search(log.replace("\r", ""))
    return found["why"] if found else ""


def failed_hop(hops: Sequence[HopLog]) -> int | None:
    """Which jump host ended the login; ``None`` if no log says so.

    The ones behind it report a closed pipe, so the first with a reason counts.  After its login,
    and over a master of the user, ssh writes nothing unless the connection fails.
    """
    for number, hop in enumerate(hops):
        lines = words_of(_PASSED.split(hop.text)[-1])
        facts = dict.fromkeys(("host", "login", "hop", "next", "see", "why"), "")
        if lines and (not hop.passed or _judge(lines, facts, attended=False)):
            return number
    return None


def connect_error(
    said: str,
    *,
    host: str,
    login: str,
    through_proxy: bool = False,
    attended: bool = False,
    asked: bool = False,
    hops: Sequence[HopLog] = (),
) -> OpenSSHJobsError:
    """The error for an ssh that made no connection; ``said`` is its log.

    ``login`` is the command to log in by hand; ``through_proxy``: the route has a ProxyJump or
    ProxyCommand; ``attended``: a responder could answer prompts; ``asked``: there was one, so a
    server may have said something between the messages.  ``hops``: the logs of the jump hosts in
    the order in which they are connected; without them the lines before the message about the
    closed pipe count as such.
    """
    if not asked:
        said = _in_one_line(said)
        hops = [hop._replace(text=_in_one_line(hop.text)) for hop in hops]
    lines = words_of(said)
    facts = {"host": host, "login": login}
    whole = "\n".join([*(line for hop in hops for line in words_of(hop.text)), *lines])
    if lines and _PROXY.fullmatch(lines[-1]):
        number = failed_hop(hops)
        if number is not None:
            return _at_hop(hops, number, facts, whole, attended=attended)
        if not hops or not hops[-1].passed:
            return _at_proxy(lines, hops, facts, whole, attended=attended)
    found = _judge(lines, facts, attended)
    if found is not None:
        return _made(*found, host, whole)
    if through_proxy and not lines:
        return _at_proxy(lines, hops, facts, whole, attended=attended)
    reason = "; ".join(lines[-_REASONS:]) or "ssh gave no reason"
    return ConnectError(
        f"no connection: {reason}", host=host, stderr=whole, advice=f"See `ssh -v {host}`."
    )


_Verdict = tuple[type[OpenSSHJobsError], str, str]


def _judge(lines: list[str], facts: dict[str, str], attended: bool) -> _Verdict | None:
    """Error class, text and advice for the last messages of an ssh.

    ``facts`` names the jump host (``hop``) if the ssh is not that to the destination.
    """
    last = lines[-1] if lines else ""
    if _DISCONNECTED.fullmatch(last) or _DISCONNECT.fullmatch(last):
        return _disconnected(lines, facts, attended)
    for rule in _RULES:
        found = rule.pattern.fullmatch(last)
        if found is None:
            continue
        facts = facts | {name: value or "" for name, value in found.groupdict().items()}
        if rule.error is JumpHostFailed:
            facts = _forwarding(lines, facts)
        if rule.error in (HostKeyChanged, HostKeyUnknown):
            explained = _host_key(lines, facts)
            if explained is not None:
                return explained
        if rule.error is ConfigurationError and "terminating" in facts.get("what", ""):
            facts["what"] = next(
                (line for line in lines if ": line " in line or " line " in line), facts["what"]
            )
        before = lines[-2] if len(lines) > 1 else ""
        if rule.error is Throttled and _DEAD_PIPE.fullmatch(before):
            facts["says"] = "the server closed the connection before it sent anything"
        says = facts.get("says") or rule.says.format(**facts)
        if rule.error is AuthenticationFailed and not attended:
            methods = facts.get("methods", "")
            if any(name in methods for name in _INTERACTIVE):
                who = f"{facts['hop']} ({facts.get('who', 'unnamed')})" if "hop" in facts else "it"
                return (
                    AuthenticationNeeded,
                    f"{who} asks for a password or a code ({methods}) and there is no responder",
                    f"Type `{facts['login']}` once, or open the master with a responder.",
                )
        return rule.error, says, rule.advice.format(**facts)
    return None


def _forwarding(lines: list[str], facts: dict[str, str]) -> dict[str, str]:
    """The facts about a jump host that does not connect to the next host."""
    found = next(filter(None, map(_NOT_OPENED.fullmatch, lines[::-1])), None)
    usual = {"hop": "the jump host", "next": "the host", "see": f"See `ssh -v {facts['host']}`."}
    return usual | facts | {"why": f" ({found['why']})" if found else ""}


def _disconnected(lines: list[str], facts: dict[str, str], attended: bool) -> _Verdict:
    """The server ended the login with a message, which is quoted and decides little."""
    found = next(filter(None, map(_DISCONNECT.fullmatch, lines[::-1])), None)
    code, text = (found["code"], found["text"]) if found else ("", "")
    if code == _TOO_MANY_CONNECTIONS:
        return Throttled, f"the server takes no more connections: {text}", _LIMITS
    if code == _PROTOCOL_ERROR and text.startswith("Too many authentication failures"):
        if attended:
            return (
                AuthenticationFailed,
                "the server ended the login after too many failures",
                _LOG_IN.format(**facts),
            )
        return (
            TooManyKeys,
            "the server ended the login after too many keys were offered",
            "Name the key with IdentityFile and IdentitiesOnly yes (or identity_file=).",
        )
    why = f", saying: {text}" if text else ""
    return ConnectError, f"the server ended the login{why}", f"See `ssh -v {facts['host']}`."


def _host_key(lines: list[str], facts: dict[str, str]) -> _Verdict | None:
    """The explanation before ``Host key verification failed.``

    No server can write it: the key is checked before the server may send text.
    """

    def first(pattern: re.Pattern[str]) -> re.Match[str] | None:
        return next(filter(None, map(pattern.fullmatch, lines)), None)

    revoked, changed, offending = first(_REVOKED), first(_CHANGED), first(_OFFENDING)
    if revoked is not None:
        return (
            HostKeyChanged,
            f"the key of {revoked['name']} is marked as revoked",
            "Do not log in; ask its administrators.",
        )
    if changed is None:
        rule = next((rule for rule in _RULES if rule.error is HostKeyUnknown), None)
        unknown = first(rule.pattern) if rule else None
        if rule is None or unknown is None:
            return None
        said = facts | {"name": unknown["name"]}
        return HostKeyUnknown, rule.says.format(**said), rule.advice.format(**said)
    name, key = changed["name"], first(_FINGERPRINT)
    shown = f" ({offending['type']} {key['key']})" if offending and key else ""
    where = f" ({offending['file']} line {offending['line']})" if offending else ""
    words = ["ssh-keygen", "-R", name, *(["-f", offending["file"]] if offending else [])]
    return (
        HostKeyChanged,
        f"the key of {name}{shown} is not the one in known_hosts{where}",
        "Ask its administrators whether that key is theirs; if so, remove the old one with "
        f"`{shlex.join(words)}`.",
    )


def _at_hop(
    hops: Sequence[HopLog], number: int, facts: dict[str, str], whole: str, *, attended: bool
) -> OpenSSHJobsError:
    """The error for a login that a jump host ended: its name, the reason of its own ssh."""
    hop, behind = hops[number], hops[number + 1 :]
    to_see = f"Type `{hop.command}` to see why."
    name = f"the jump host {hop.name}"
    onward = behind[0].name if behind else facts["host"]
    lines = words_of(_PASSED.split(hop.text)[-1])
    found = _judge(lines, facts | {"hop": name, "next": onward, "see": to_see}, attended)
    if found is None:
        text = f"the connection through {name} failed: {'; '.join(lines[-_REASONS:])}"
        return JumpHostFailed(text, host=facts["host"], stderr=whole, advice=to_see)
    error, says, advice = found
    if error in (HostUnreachable, Throttled, ConnectError):
        says = says.replace("the host does not answer", "it does not answer")
        error, says = JumpHostFailed, f"the connection through {name} failed: {says}"
    elif error is not JumpHostFailed and not says.startswith(name):
        says = f"{name}: {says}"
    return _made(error, says, advice or to_see, facts["host"], whole)


def _at_proxy(
    lines: list[str],
    hops: Sequence[HopLog],
    facts: dict[str, str],
    whole: str,
    *,
    attended: bool,
) -> OpenSSHJobsError:
    """The error for a pipe that was closed; the lines before may be of the ssh behind it."""
    host = facts["host"]
    if hops:
        # Over a master of the user, for example, nothing is written.
        waiting = next((hop for hop in hops if not hop.passed), hops[-1])
        text = f"the connection through the jump host {waiting.name} ended before {host} answered"
        see = f"Type `{waiting.command}` to see why."
        if lines[-1:] and lines[-1].endswith("timed out"):
            text = f"the login at the jump host {waiting.name} did not finish in time"
        return JumpHostFailed(text, host=host, stderr=whole, advice=see)
    while lines and _DEAD_PIPE.fullmatch(lines[-1]):
        lines = lines[:-1]
    found = _judge(lines, facts | {"hop": "the jump host"}, attended) if lines else None
    see = f"Type `ssh -v {host}` to see why."
    if found is None:
        text = "the jump host or proxy command ended without a connection"
        return JumpHostFailed(text, host=host, stderr=whole, advice=see)
    error, says, advice = found
    if error in (HostUnreachable, Throttled, ConnectError):
        error, says = JumpHostFailed, f"the connection through the jump host failed: {says}"
    return _made(error, says, advice or see, host, whole)


def _made(
    error: type[OpenSSHJobsError], says: str, advice: str, host: str, whole: str
) -> OpenSSHJobsError:
    if issubclass(error, ConnectError):
        return error(says, host=host, advice=advice or None, stderr=whole)
    return error(says, host=host, advice=advice or None)

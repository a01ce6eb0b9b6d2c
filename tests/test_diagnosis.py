"""What ssh's words mean: real transcripts, and the table of what each failure looks like."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.errors import ConnectError, OpenSSHJobsError
from openssh_jobs.openssh.diagnosis import connect_error

CAPTURES = {
    one["id"].partition("/")[2]: one
    for one in map(
        json.loads, (Path(__file__).parent / "data" / "ssh.jsonl").read_text().splitlines()
    )
}
PROXY = (
    "kex_exchange_identification: Connection closed by remote host\r\n"
    "Connection closed by UNKNOWN port 65535\r\n"
)


def diagnose(said: str, *, through: bool = False, attended: bool = False) -> OpenSSHJobsError:
    return connect_error(
        said, host="hpc", login="ssh hpc", through_proxy=through, attended=attended
    )


@pytest.mark.parametrize(
    ("capture", "kind", "words"),
    [
        ("004-direct-unreachable", "HostUnreachable", "10.88.2.2 port 22 cannot be reached"),
        ("005-refused", "HostUnreachable", "10.88.1.1 port 99 cannot be reached: Connection refu"),
        ("006-jump-refused", "JumpHostFailed", "does not forward"),
        ("007-unknown-host", "HostUnreachable", "does not know this host"),
        ("009-hostkey-changed", "HostKeyChanged", "not the one in known_hosts"),
        ("010-hostkey-unknown", "HostKeyUnknown", "10.88.1.1 is not in known_hosts"),
        ("012-hostkey-ask", "HostKeyUnknown", "nobody was asked"),
        ("015-password-wrong", "AuthenticationFailed", "refused"),
        ("016-password-batch", "AuthenticationNeeded", "password"),
        ("021-2fa-batch", "AuthenticationNeeded", "keyboard-interactive"),
        ("030-cert-without", "AuthenticationFailed", "osjcert@10.88.2.2 was refused"),
        ("031-cert-expired", "AuthenticationFailed", "takes: publickey"),
        ("033-too-many-keys", "TooManyKeys", "too many keys"),
        ("077-invalid-user", "AuthenticationFailed", "osjnobody@10.88.2.2 was refused"),
        ("086-cert-expired-2", "AuthenticationFailed", "osjkey@10.88.1.1 was refused"),
        ("094-cut-sigstop-sshd", "HostUnreachable", "does not answer"),
        ("097-cut-kill-session", "HostUnreachable", "closed the connection"),
        ("099-maxstartups-bastion", "JumpHostFailed", "ended without a connection"),
    ],
)
def test_real_transcripts(capture: str, kind: str, words: str) -> None:
    said = CAPTURES[capture]["stderr"]
    attended = capture == "015-password-wrong"
    error = diagnose(said, through="99" in capture, attended=attended)
    assert type(error).__name__ == kind, str(error)
    assert words in str(error)
    assert isinstance(error, ConnectError)
    assert error.advice
    assert (error.host, error.sent) == ("hpc", "no")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ssh: connect to host h port 22: Operation timed out", "HostUnreachable"),
        ("ssh: connect to host h port 22: No route to host", "HostUnreachable"),
        ("Connection timed out during banner exchange\r\nConnection to 127.0.0.1 port 5 timed out",
         "HostUnreachable"),
        ("kex_exchange_identification: read: Connection reset by peer\r\n"
         "Connection reset by 127.0.0.1 port 22806", "Throttled"),
        ("ssh_exchange_identification: Connection closed by remote host", "Throttled"),
        ("Not allowed at this time\r\nConnection closed by 10.0.0.1 port 22", "Throttled"),
        ("Permission denied (publickey,password).", "AuthenticationNeeded"),
        ("Host key for [h]:22 has changed and you have requested strict checking.",
         "HostKeyChanged"),
        ("command-line: line 0: Bad configuration option: bogusoption", "ConfigurationError"),
        ("/x/.ssh/config: line 2: Bad configuration option: x\n"
         "/x/.ssh/config: terminating, 1 bad configuration options", "ConfigurationError"),
        ("hostname contains invalid characters", "ConfigurationError"),
        ("remote username contains invalid characters", "ConfigurationError"),
        ('unix_listener: path "/x/pppp.QdxZX9wtLfVXM810" too long for Unix domain socket',
         "ConfigurationError"),
        ("Warning: Identity file k not accessible: No such file or directory.\r\n"
         "a@h: Permission denied (publickey).", "AuthenticationFailed"),
        ("Warning: Permanently added '[h]:22' (ED25519) to the list of known hosts.\r\n"
         "a@h: Permission denied (publickey).", "AuthenticationFailed"),
        ("", "ConnectError"),
        ("something that nobody has seen yet", "ConnectError"),
    ],
)  # fmt: skip
def test_the_table(said: str, kind: str) -> None:
    error = diagnose(said)
    assert type(error).__name__ == kind, str(error)
    assert error.sent == "no"


def test_the_first_thing_that_went_wrong_is_what_is_told() -> None:
    inner = "ssh: connect to host gate port 9: Connection refused\r\n"
    error = diagnose(inner + PROXY, through=True)
    assert isinstance(error, errors.JumpHostFailed)
    assert "gate port 9 cannot be reached: Connection refused" in str(error)
    error = diagnose("a@gate: Permission denied (publickey).\r\n" + PROXY, through=True)
    assert isinstance(error, errors.AuthenticationFailed)
    assert "a@gate" in str(error)


def test_a_banner_is_no_error_of_its_own() -> None:
    banner = "Access by password only. Permission denied to all others.\n"
    error = diagnose(banner + "ssh: connect to host h port 22: Connection refused")
    assert isinstance(error, errors.HostUnreachable)


@given(st.text(max_size=300), st.booleans(), st.booleans())
def test_any_words_make_an_error_that_can_be_sent_on(
    said: str, through: bool, attended: bool
) -> None:
    error = diagnose(said, through=through, attended=attended)
    assert isinstance(error, OpenSSHJobsError)
    assert error.sent == "no"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


@given(st.lists(st.sampled_from([one["stderr"] for one in CAPTURES.values()]), max_size=3))
def test_pieces_of_real_words_in_any_order(pieces: list[str]) -> None:
    assert isinstance(diagnose("".join(pieces)), OpenSSHJobsError)

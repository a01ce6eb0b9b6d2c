"""What ssh's words mean: real transcripts, and the table of what each failure looks like."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import errors
from openssh_jobs.errors import ConnectError, OpenSSHJobsError
from openssh_jobs.openssh.ssh_errors import HopLog, connect_error, failed_hop, not_signed
from tests.paths import DATA

CAPTURES = {
    one["id"].partition("/")[2]: one
    for one in map(json.loads, (DATA / "ssh.jsonl").read_text().splitlines())
}
PROXY = (
    "kex_exchange_identification: Connection closed by remote host\r\n"
    "Connection closed by UNKNOWN port 65535\r\n"
)


def diagnose(
    said: str,
    *,
    through: bool = False,
    attended: bool = False,
    asked: bool = False,
    inner: str = "",
) -> OpenSSHJobsError:
    return connect_error(
        said,
        host="hpc",
        login="ssh hpc",
        through_proxy=through,
        attended=attended,
        asked=asked,
        hops=[HopLog("gate", inner, False, "ssh gate")] if inner else (),
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
        ("012-hostkey-ask", "HostKeyUnknown", "not allowed to ask"),
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
        ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\r\n"
         "Disconnected from 10.0.0.1 port 22", "TooManyKeys"),
        ("Received disconnect from ::1 port 22:12: Too many connections\r\n"
         "Disconnected from user a b ::1 port 22", "Throttled"),
        ("Received disconnect from ::1 port 22:14: penalties\r\nHost key verification failed.\r\n"
         "Disconnected from ::1 port 22", "ConnectError"),
        ("Unable to negotiate with ::1 port 22: no matching host key type found. Their offer: "
         "ssh-dss", "ConnectError"),
        ("The ED25519 host key for h is marked as revoked.\r\nThis could mean that a stolen key is"
         " being used to\r\nimpersonate this host.\r\nHost key verification failed.",
         "HostKeyChanged"),
        # What ssh quotes, or others say, is no line of ssh's own.
        ("Not allowed: Permission denied (publickey).", "ConnectError"),
        ("ssh: Permission denied (publickey). penalties", "ConnectError"),
        ("channel 2: Host key verification failed.", "ConnectError"),
        ("ssh gave up. Too many authentication failures", "ConnectError"),
        ("debug1: Remote: x\r\ndebug1: Host key verification failed.", "ConnectError"),
        ("", "ConnectError"),
        ("something that nobody has seen yet", "ConnectError"),
    ],
)  # fmt: skip
def test_the_table(said: str, kind: str) -> None:
    error = diagnose(said)
    assert type(error).__name__ == kind, str(error)
    assert error.sent == "no"


def test_the_first_error_is_the_one_reported() -> None:
    inner = "ssh: connect to host gate port 9: Connection refused\r\n"
    error = diagnose(inner + PROXY, through=True)
    assert isinstance(error, errors.JumpHostFailed)
    assert "gate port 9 cannot be reached: Connection refused" in str(error)
    error = diagnose("a@gate: Permission denied (publickey).\r\n" + PROXY, through=True)
    assert isinstance(error, errors.AuthenticationFailed)
    assert "a@gate" in str(error)


def test_the_log_of_the_jump_hosts_ssh_says_what_happened() -> None:
    error = diagnose(PROXY, through=True, inner="ssh: connect to host g port 9: No route to host")
    assert isinstance(error, errors.JumpHostFailed)
    assert "the connection through the jump host gate failed: g port 9 cannot be reached" in str(
        error
    )
    error = diagnose(PROXY, through=True, inner="a@g: Permission denied (password).")
    assert isinstance(error, errors.AuthenticationNeeded)
    assert "the jump host gate (a@g) asks" in str(error)
    # What the jump host's ssh noted before the target refused us is no reason.
    error = diagnose("a@h: Permission denied (publickey).", through=True, inner="Killed by signal")
    assert isinstance(error, errors.AuthenticationFailed)
    assert "a@h was refused" in str(error)


IN = 'Authenticated to 10.0.0.1 ([10.0.0.1]:22) using "publickey".\r\n'
FULL = "kex_exchange_identification: read: Connection reset by peer\r\n" + PROXY
NOT_FORWARDED = (
    "channel 0: open failed: connect failed: No route to host\r\nstdio forwarding failed"
)


def through(*logs: str) -> list[HopLog]:
    names = ("a", "b", "c")
    return [
        HopLog(name, log, "Authenticated to " in log, f"ssh {name}")
        for name, log in zip(names, logs, strict=False)
    ]


@pytest.mark.parametrize(
    ("logs", "kind", "words"),
    [
        (("ssh: connect to host g port 9: No route to host", PROXY, PROXY),
         "JumpHostFailed", "through the jump host a failed: g port 9 cannot be reached"),
        ((IN, PROXY, PROXY), "JumpHostFailed", "through the jump host b failed: the server closed"),
        ((IN, IN, FULL), "JumpHostFailed", "through the jump host c failed: the server closed"),
        ((IN + NOT_FORWARDED, PROXY, PROXY),
         "JumpHostFailed", "the jump host a does not forward to b (connect failed: No route"),
        ((IN, IN, IN + NOT_FORWARDED),
         "JumpHostFailed", "the jump host c does not forward to hpc (connect failed: No route"),
        ((IN, "u@b: Permission denied (publickey).", PROXY),
         "AuthenticationFailed", "the jump host b: u@b was refused"),
        ((IN, IN, "u@c: Permission denied (password)."),
         "AuthenticationNeeded", "the jump host c (u@c) asks for a password"),
        ((IN, "Host key verification failed.", PROXY),
         "HostKeyUnknown", "the jump host b: the host key could not be verified"),
        ((IN, IN, "Connection timed out during banner exchange\nConnection to UNKNOWN port 65535 "
          "timed out"), "JumpHostFailed", "through the jump host c failed: it does not answer"),
        ((IN, IN, "what ssh never said"),
         "JumpHostFailed", "through the jump host c failed: what ssh never said"),
        # All let it pass, so the host itself hung up.
        ((IN, IN, IN), "Throttled", "hpc: the server closed the connection before it sent"),
        # A master of the user writes nothing.
        (("", IN, IN), "Throttled", "hpc: the server closed the connection before it sent"),
        ((IN, IN, ""), "JumpHostFailed", "jump host c ended before hpc answered"),
    ],
)  # fmt: skip
def test_the_jump_host_that_failed_is_named(logs: tuple[str, ...], kind: str, words: str) -> None:
    error = connect_error(PROXY, host="hpc", login="l", through_proxy=True, hops=through(*logs))
    assert type(error).__name__ == kind
    assert words in str(error)
    assert error.sent == "no"


def test_a_jump_host_that_writes_nothing_until_the_time_is_over() -> None:
    late = "Connection timed out during banner exchange\nConnection to UNKNOWN port 65535 timed out"
    error = connect_error(late, host="hpc", login="l", hops=through(IN, ""))
    assert type(error) is errors.JumpHostFailed
    assert "the login at the jump host b did not finish in time" in str(error)
    assert "Type `ssh b` to see why." in str(error)


def test_what_a_jump_host_notes_after_its_login_is_no_failure() -> None:
    noted = IN + "Learned new hostkey: ED25519 SHA256:x\r\nTransferred: sent 1 byte\r\n"
    assert failed_hop(through(noted, IN)) is None
    assert failed_hop(through(noted, PROXY)) == 1


def test_an_agent_that_did_not_sign_is_noted_in_the_log() -> None:
    line = (
        'sign_and_send_pubkey: signing failed for ED25519 "k" from agent: agent refused operation'
    )
    assert not_signed(f"{line}\r\n{REFUSED}") == "agent refused operation"
    assert not_signed(f"motd {line}\r\n") == not_signed(REFUSED) == ""


def test_warnings_and_what_ssh_notes_of_its_work_are_no_reason() -> None:
    noise = (
        "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n"
        '** This session may be vulnerable to "store now, decrypt later" attacks.\r\n'
        "** The server may need to be upgraded. See https://openssh.com/pq.html\r\n"
        'Authenticated to h ([::1]:22) using "publickey".\r\n'
        "Transferred: sent 2100, received 2200 bytes, in 0.1 seconds\r\n"
    )
    assert "ssh gave no reason" in str(diagnose(noise))
    (refused,) = {str(diagnose(text)) for text in (REFUSED, noise + REFUSED, REFUSED + noise)}
    assert "was refused" in refused


def test_all_lines_of_an_unknown_reason_are_shown() -> None:
    text = "Bad packet length 1.\r\nssh_dispatch_run_fatal: Connection to ::1 port 22: incomplete"
    assert "Bad packet length 1.; ssh_dispatch_run_fatal: Connection" in str(diagnose(text))


def test_a_changed_key_names_file_line_fingerprint_and_command() -> None:
    error = diagnose(CAPTURES["009-hostkey-changed"]["stderr"])
    assert "/lab/ssh/client/known_hosts line 3" in str(error)
    assert "ED25519 SHA256:uiMcXJZ9YnAkAXe4noxKielHD7YuQlUiSPstSfSWk3c" in str(error)
    assert "`ssh-keygen -R 10.88.2.2 -f /lab/ssh/client/known_hosts`" in str(error)


REFUSED = "alice@h: Permission denied (publickey).\r\n"
FINAL = {
    name: one["stderr"]
    for name, one in CAPTURES.items()
    if one["returncode"] == 255 and one["stderr"] and "hostkey" not in name and "scp" not in name
}


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [line for one in CAPTURES.values() for line in one["stderr"].split("\n")]
            ),
            st.text(max_size=80),
        ),
        max_size=8,
    ),
    st.sampled_from(sorted(FINAL)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_no_text_of_a_banner_changes_the_diagnosis(
    banner: list[str], capture: str, end: str, attended: bool
) -> None:
    """Even where it stands in the same stream, and imitates ssh's own words."""
    said = FINAL[capture]
    through = "UNKNOWN port 65535" in said
    inner = said.removesuffix(PROXY) if through else ""
    right, lied = (
        diagnose(text, through=through, attended=attended, asked=True, inner=inner or "x")
        for text in (said, end.join([*banner, said]))
    )
    if type(right) is not ConnectError:
        assert (type(lied), str(lied)) == (type(right), str(right))


@given(
    st.lists(st.sampled_from([line for one in FINAL.values() for line in one.split("\n")])),
    st.booleans(),
)
def test_a_list_in_the_last_message_changes_no_diagnosis(lies: list[str], attended: bool) -> None:
    """ssh prints newlines of a server's lists of methods and algorithms as they are."""
    more = "\n".join(["publickey", *lies])
    error = diagnose(f"alice@h: Permission denied ({more}).\n", attended=attended)
    assert isinstance(error, errors.AuthenticationFailed | errors.AuthenticationNeeded)
    error = diagnose(
        "Unable to negotiate with ::1 port 22: no matching key exchange method found. "
        f"Their offer: {more}\n",
        attended=attended,
    )
    assert type(error) is ConnectError
    assert error.message.startswith("ssh and the server have nothing in common: no matching key")


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
    assert str(error) == errors.printable(str(error))


@given(st.lists(st.sampled_from([one["stderr"] for one in CAPTURES.values()]), max_size=3))
def test_pieces_of_real_words_in_any_order(pieces: list[str]) -> None:
    error = diagnose("".join(pieces))
    assert isinstance(error, OpenSSHJobsError)
    assert str(error) == errors.printable(str(error))


@given(st.text())
def test_printable_text_controls_no_terminal(text: str) -> None:
    shown = errors.printable(text)
    assert not set(shown) & set(map(chr, [*range(32), *range(127, 160)]))
    assert not set(shown) & set(
        "\u200b\u200d\u200e\u202a\u202e\u2066\u2069\u2028\ufeff\u034f\u3164"
    )
    shown.encode()
    assert errors.printable("a b é 日本 \xa0 ~") == "a b é 日本 \xa0 ~"


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectError("\x1b[2J", host="\u202e", advice="\x9b"),
        errors.CommandFailed("a\x07", host="h"),
        errors.remote_oserror(2, "/x\x1b", host="h", detail="\u2066"),
        errors.SubmitUnknown("\u200b", token="t"),
        errors.SchedulerError("x\ny", host="h"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_one_printable_line(error: OpenSSHJobsError) -> None:
    assert str(error) == errors.printable(str(error))
    assert "\\" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

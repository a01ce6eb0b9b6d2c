"""Command lines of ssh: read as the real ssh reads them, and what is refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.errors import ConfigurationError
from openssh_jobs.openssh import ssh_arguments
from openssh_jobs.openssh.ssh_arguments import SshCommandLine, read
from tests.helpers import examples


def plain(*words: str) -> SshCommandLine:
    """What was read, without the list of all words."""
    return replace(read(words), all_options=[])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("h", SshCommandLine("h")),
        ("-p22 -l a h ls -l", SshCommandLine("h", ["ls", "-l"], user="a", port=22)),
        ("h -p 22 -la ls -p 9", SshCommandLine("h", ["ls", "-p", "9"], user="a", port=22)),
        ("-Tqp22 h", SshCommandLine("h", port=22, session=["-T", "-q"])),
        ("-tt -n h", SshCommandLine("h", session=["-t", "-t", "-n"])),
        ("-s h sftp", SshCommandLine("h", ["sftp"], session=["-s"])),
        ("-- h -T", SshCommandLine("h", ["-T"])),
        ("-T h -- -q", SshCommandLine("h", ["-q"], session=["-T"])),
        ("h ls -- -q", SshCommandLine("h", ["ls", "--", "-q"])),
        ("h - -T", SshCommandLine("h", ["-", "-T"])),
        ("-l a -l b -oUser=c h", SshCommandLine("h", user="a")),
        ("-oPort=1 -p 2 h", SshCommandLine("h", port=1)),
        ("-4 -6 -C -x -a -k -c aes -m mac h", SshCommandLine("h")),
        ("-b 1.2.3.4 h", SshCommandLine("h", route_options={"BindAddress": "1.2.3.4"})),
        ("-V -O exit h", SshCommandLine(None, ["-O", "exit", "h"], answer="-V")),
        ("-Q cipher", SshCommandLine(answer="-Qcipher")),
        ("-G -i k h", SshCommandLine("h", prints_configuration=True, identity_file="k")),
        ("-oForwardAgent=no -oPermitLocalCommand=no h", SshCommandLine("h")),
    ],
)
def test_which_words_are_what(words: str, line: SshCommandLine) -> None:
    assert plain(*words.split()) == line


@pytest.mark.parametrize(
    "text", ["SendEnv=A B", "SendEnv A B", "SendEnv = A B", "  SendEnv\t=\tA B ", "SendEnv= A B"]
)
@pytest.mark.parametrize("glued", [True, False])
def test_a_key_has_four_forms(text: str, glued: bool) -> None:
    words = [f"-o{text}"] if glued else ["-o", text]
    assert read([*words, "h"]).session == ["-oSendEnv=A B"]


def test_keys_of_the_route_are_kept_and_the_first_counts() -> None:
    line = read(["-o", "hostname=a", "-oHostName=b", "-oStrictHostKeyChecking=no", "h"])
    assert line.route_options == {"hostname": "a", "StrictHostKeyChecking": "no"}
    with pytest.raises(ConfigurationError, match="can be given once"):
        read(["-oIdentityFile=a", "-oidentityfile=b", "h"])


REFUSED = (
    "-O exit|-Oexit|-M|-S x|-S none|-F x|-E x|-J x|-W a:1|-L 1:a:1|-R 1|-D 1|-w 0|-g|-N|-A|-K|-X|-Y"
    "|-P x|-TMq|-qvOexit|-l|-o|-z|-Tz|-9|-T-|--foo|--foo=x|-p 0|-p x|-p 99999|-p |-l \n|-i a -i b"
    "|-oControlPath=x|-ocontrolpath=none|-o CONTROLPATH x|-o ControlMaster = no|-oControlPersist=1"
    "|-oProxyCommand=x|-oProxyJump=none|-oProxyUseFdpass=no|-oLocalCommand=x"
    "|-oPermitLocalCommand=yes|-oKnownHostsCommand=x|-oLocalForward=1 a:1|-oForwardAgent=yes"
    "|-oForwardX11=yes|-oInclude=x|-oMatch=all|-oHost=x|-oTag=x|-oTunnel=yes|-oSessionType=none"
    '|-o"ControlPath"=x|-o|-o =|-oControlPath|-o SendEnv=a\nControlPath=x'
)


@pytest.mark.parametrize("text", REFUSED.split("|"))
@pytest.mark.parametrize("behind", [False, True])
def test_what_is_refused(text: str, behind: bool) -> None:
    option, blank, value = text.partition(" ")
    words = text.split(" ") if " -i " in text else [option, *([value] if blank else [])]
    with pytest.raises(ConfigurationError):
        read(["h", *words] if behind else words)
    assert read(["h", "command", *words]).command == ["command", *words]
    assert read(["--", "h", *words]).command == words


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("-O", "-O is refused: it could end the open connection"),
        ("-oProxycommand=x", "-o Proxycommand is refused: it would lead away"),
        ("-z", "there is no option -z of ssh"),
        ("--nothing=secret", "there is no option --nothing of ssh"),
        ("-p", "-p needs a value"),
    ],
)
def test_the_option_is_named(word: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read([word])
    assert caught.value.message.startswith(says)


def test_the_tables_are_those_of_this_ssh() -> None:
    """``-P`` has a value since 9.4, and none before; it is refused."""
    usage = subprocess.run(["ssh"], capture_output=True, text=True, timeout=20, check=False).stderr
    together = usage.split("[-", 1)[1].split("]", 1)[0]
    with_value = {part[0] for part in usage.split("[-")[2:]}
    assert set(together) <= ssh_arguments.WITHOUT_VALUE
    assert with_value - {"P"} == ssh_arguments.WITH_VALUE
    assert not ssh_arguments.WITHOUT_VALUE & ssh_arguments.WITH_VALUE


# -- against the real one -----------------------------------------------------------------------

_values = st.sampled_from(["1", "22", "65535", "7777"])
_names = st.sampled_from(["alice", "a-b", "p22", "T"])
_options = st.one_of(
    st.builds(lambda flags: [f"-{flags}"], st.text("TqCxank46t", min_size=1, max_size=4)),
    st.builds(lambda flags, n: [f"-{flags}p{n}"], st.text("TqCx", max_size=3), _values),
    st.builds(lambda flags, n: [f"-{flags}p", n], st.text("TqCx", max_size=3), _values),
    st.builds(lambda n: [f"-l{n}"], _names),
    st.builds(lambda n: ["-l", n], _names),
    st.builds(
        lambda key, between, n: ["-o", f"{key}{between}{n}"],
        st.sampled_from(["Port", "port", "PORT", " Port"]),
        st.sampled_from(["=", " ", " = ", "\t=", "= "]),
        _values,
    ),
    st.builds(lambda n: [f"-oUser={n}"], _names),
)
_rest = st.lists(
    st.sampled_from(["ls", "--", "-p", "99", "-l", "mallory", "-", "-Tp5"]), max_size=4
)


@examples(120)
@given(before=st.lists(_options, max_size=4), behind=st.lists(_options, max_size=3), rest=_rest)
def test_the_real_ssh_reads_the_same(
    before: list[list[str]], behind: list[list[str]], rest: list[str]
) -> None:
    """User and port, wherever they stand; a word too many or too few would change them."""
    words = [*chain(*before), "some.host", *chain(*behind), *rest]
    done = subprocess.run(
        ["ssh", "-F", "none", "-G", *words], capture_output=True, text=True, timeout=20, check=False
    )
    try:
        line = read(words)
    except ConfigurationError:
        assert done.returncode != 0
        return
    if done.returncode != 0:  # -l with the next --, which ``Destination`` refuses
        assert "username" in done.stderr, done.stderr
        return
    said = dict(row.split(" ", 1) for row in done.stdout.splitlines() if " " in row)
    assert (line.host, said["hostname"]) == ("some.host", "some.host")
    assert said["port"] == str(line.port or 22)
    if line.user is not None:
        assert said["user"] == line.user
    else:
        assert said["user"] not in ("mallory", "alice", "a-b", "p22", "T")
    # What is given to the real ssh afterwards is read the same way again.
    again = read([*line.all_options, "some.host", "--", *line.command])
    assert again == line

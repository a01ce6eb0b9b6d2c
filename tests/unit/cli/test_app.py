"""The frame of the command line, without a host: help, versions, wrong usage."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from openssh_jobs import __version__
from openssh_jobs.cli import app, main
from openssh_jobs.cli.output import Output
from tests.cli import PROGRAM, Done, program
from tests.paths import CHECKOUT, PACKAGE


def in_process(capsys: pytest.CaptureFixture[str], *words: str) -> Done:
    """What the command line says and returns here, without the start of a Python."""
    code = main(list(words))
    out, err = capsys.readouterr()
    return Done(code, out, err)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"openssh-jobs {__version__}\n"
    assert program("-V").out == f"openssh-jobs {__version__}\n"


def test_the_version_costs_no_imports() -> None:
    code = (
        "import sys; from openssh_jobs.cli import main; main(['--version']); "
        "print(sorted({'argparse', 'logging', 'pexpect', 'rich', 'sqlite3', 'subprocess'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[1:] == ["[]"]


@pytest.mark.parametrize("command", app.COMMANDS)
def test_every_command_teaches_by_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"  openssh-jobs {command} " in said.out or f"  openssh-jobs {command}\n" in said.out
    assert "exit codes:" in said.out
    assert "--json" in said.out or command == "ssh"
    assert max(map(len, said.out.splitlines())) <= 90
    for line in re.findall(r"^  (openssh-jobs .*?)(?:  .*)?$", said.out, re.MULTILINE):
        understood(line)


def understood(line: str) -> None:
    """An example has to be a command line that we take; raises what we would complain of."""
    program_name, *words = shlex.split(line, comments=True)
    assert program_name == "openssh-jobs"
    assert app.parse(words).command == words[0]


def test_the_readme_shows_what_works() -> None:
    readme = (CHECKOUT / "README.rst").read_text()
    lines = re.findall(r"^    \$ (openssh-jobs .*)$", readme, re.MULTILINE)
    shown = set()
    for line in lines:
        understood(line)
        shown.add(line.split()[1])
    assert len(shown) > 12


def test_the_help_lists_every_command_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    named = [name.strip() for line in lines[3:-2] for name in line[14:37].split("[")[0].split(",")]
    assert [name.split()[0] for name in named] == list(app.COMMANDS)
    titles = [line[:14].strip() for line in lines[3:-2] if line[0] != " "]
    assert titles == list(app.GROUPS)


def test_help_is_a_word_that_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for words, same in ((["help"], ["--help"]), (["help", "put"], ["put", "--help"])):
        assert main(words) == main(same) == 0
        said = capsys.readouterr().out
        assert said[: len(said) // 2] == said[len(said) // 2 :]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["h"], []),
        (["h", "ls", "-l", "x"], ["ls", "-l", "x"]),
        (["-nF", "config", "h", "ls", "--json"], ["ls", "--json"]),
        (["-Fconfig", "--timeout", "3", "--jump=a", "h", "--", "ls"], ["--", "ls"]),
        (["-s", "echo", "h"], []),
        (["--debug", "-o", "A=b", "h", "sh", "-c", "--"], ["sh", "-c", "--"]),
    ],
)
def test_what_follows_the_host_is_the_command(words: list[str], command: list[str]) -> None:
    args = app.parse(["exec", *words])
    assert (args.host, args.after_host) == ("h", command)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "openssh-jobs --help"),
        (["nope"], "there is no command 'nope'"),
        (["exce", "h"], "there is no command 'exce' (did you mean exec?)"),
        (["lst"], "there is no command 'lst' (did you mean list?)"),
        (
            ["tail", "h", "5", "--flow"],
            "openssh-jobs tail: there is no option --flow (did you mean --follow",
        ),
        (
            ["submit", "h", "d", "--mem=4G"],
            "no option --mem (it is --memory here; as the scheduler reads it, put it after --: ",
        ),
        (
            ["submit", "h", "d", "--partition", "x"],
            "it is --queue here; as the scheduler reads it, put it after --: `-- --partition x`). ",
        ),
        (["submit", "h", "d", "--stdout", "x"], "option --stdout (did you mean --stdout-path?). "),
        (
            ["submit", "h", "d", "--xyzzy=7", "8"],
            "no option --xyzzy; '8' is one argument too many. ",
        ),
        (["list", "--sort", "size"], "--sort must be one of 'trouble', "),
        (["list", "--sort", "size"], "'size' was given"),
        (["get", "h:x", "y", "--method", "ftp"], "method must be one of"),
        (
            ["fetch", "h", "5", "y", "--resume", "--method", "sftp"],
            "resume=True always uses a stream",
        ),
        (["exec"], "HOST"),
        (["exec", "--", "ls"], "HOST"),
        (["exec", "h", "-l", "x"], "-l stands behind HOST, where the command begins; options go"),
        (["exec", "h", "--"], "there is no command behind --"),
        (["exec", "h", "--json"], "--json stands behind HOST"),
        (["exec", "-n", "h"], "leave -n out"),
        (["exec", "-t", "h", "ls"], "-t needs a terminal on standard input"),
        (["exec", "-t", "--json", "h", "ls"], "cannot be combined with -t"),
        (["exec", "--prologue", "x", "h", "ls"], "allowed only with --job"),
        (["exec", "-s", "ls", "h", "--", "ls"], "either"),
        (["exec", "--timeout", "5m", "h", "ls"], "--timeout must be a number of seconds > 0"),
        (["exec", "-o", "Nothing", "h", "ls"], "KEY=VALUE"),
        (["exec", "-p", "x", "h", "ls"], "-p"),
        (["exec", "-nF"], "expected one argument"),
        (["help", "exce"], "there is no command 'exce' (did you mean exec?)"),
        (["help", "exec", "put"], "'put' is one argument too many"),
        (["masters"], "there is no command 'masters'"),
        (["put", "only-one"], "HOST:PATH"),
        (["put", "/etc/passwd", "no-colon"], "not HOST:PATH"),
        (["put", "/etc/passwd", "/a/b:c"], "not HOST:PATH"),
        (["put", "/etc/passwd", "ssh://h/x"], "URL"),
        (["get", "h:", "."], "no name of its own"),
        (["submit", "h", "d"], "--remote-script"),
        (["submit", "h", "d", "--script", "/"], "directory"),
        (["submit", "h", "d", "--script", "x", "--env", "A"], "KEY=VALUE"),
        (["cancel", "h"], "JOB"),
        (["tail", "h", "1", "-n", "-3"], "-n"),
        (["watch", "h"], "`openssh-jobs list` prints the table once"),
        (["tail", "h", "1", "-f", "--json"], "--json"),
        (["queues", "h", "--scheduler", "crystal-ball"], "crystal-ball"),
        (["demo", "-F", "/dev/null"], "--host"),
        (["demo", "--scheduler", "slurm"], "--host HOST --scheduler slurm"),
    ],
)
def test_wrong_use_is_one_sentence_and_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_process(capsys, *words)
    assert done.code == 2
    assert says in done.sentence()
    if not {"--json"} & set(words):
        assert done.out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a HOST"),
        (["-O", "exit", "h"], "openssh-jobs ssh: -O is refused: "),
        (["h", "-J", "x", "ls"], "openssh-jobs ssh: -J is refused: "),
        (["-z", "h"], "there is no option -z of ssh"),
        (["h", "--json", "ls"], "there is no option --json of ssh"),
        (["--foo", "h", "ls", "--json"], "there is no option --foo"),
        (["--ssh-config", "/no/such", "h"], "no ssh configuration file"),
        (["-p", "x", "h"], "the port must be"),
        (["-x@h", "h"], "there is no option -@ of ssh"),
        (["."], "this machine"),
        (["a b"], "the host name 'a b' contains ' '"),
    ],
)
def test_ssh_fails_with_the_code_of_ssh(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_process(capsys, "ssh", *words)
    assert (done.code, done.out) == (255, "")
    assert says in done.sentence()


def test_only_long_options_before_the_words_of_ssh_are_ours() -> None:
    words = ["--jump", "j", "--ssh-config=f", "-F", "x", "h", "ls", "--json", "--debug"]
    args = app.parse(["ssh", *words])
    assert (args.jump, args.ssh_config, args.after_host) == ("j", "f", words[3:])
    assert not args.debug
    assert app.parse(["ssh", "--", "h", "--jump", "x"]).after_host == ["--", "h", "--jump", "x"]


def test_the_program_ends_with_the_code_of_its_main() -> None:
    done = program("nope")
    assert (done.code, done.out) == (2, "")
    assert "there is no command 'nope'" in done.sentence()


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch /tmp/x", "a b", "a\nb", "h;id", "x@-oA", "", "-x@h"]
)
def test_a_host_that_is_none_is_refused_by_name(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exec", "--", "ls"]) == 2
    capsys.readouterr()
    done = in_process(capsys, "exec", "-n", f"--jump={host}", "h", "--", "ls")
    assert done.code == 2
    assert "host name" in done.sentence() or "user name" in done.sentence()


def test_sentences_do_not_obey_the_host() -> None:
    """What a host or a user names must not reach the terminal as it is."""
    done = program("put", "/etc/passwd", "h\x1b[31m;x")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\\x1b" in done.sentence()


def test_a_debug_log_does_not_obey_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    with app.logging_to(Output(debug=True)):
        logging.getLogger("openssh_jobs.test").debug("said %s", "\x1b]0;x\x07 \u202e\nsecond")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(r"said \x1b]0;x\x07 \u202e")
    assert second == "second"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_on_a_full_disk_is_one_sentence() -> None:
    line = f"{shlex.join(PROGRAM)} login --json >/dev/full"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False)
    (said,) = done.stderr.decode().splitlines()
    assert (done.returncode, "No space left on device" in said) == (1, True), said


# -- one file a command -------------------------------------------------------------------------


@pytest.mark.parametrize("command", app.COMMANDS)
def test_a_command_is_a_file_with_two_functions(command: str) -> None:
    module = app.load_command(command)
    assert list(inspect.signature(module.add_command).parameters) == ["subparsers", "summary"]
    assert list(inspect.signature(module.run).parameters) == ["args", "output"]


def test_every_file_with_a_command_is_in_the_list() -> None:
    files = (PACKAGE / "cli").glob("*.py")
    held = {path.stem for path in files if "\ndef add_command(subparsers: " in path.read_text()}
    assert held == set(app.COMMANDS)


def loaded_by(*words: str, state: str) -> set[str]:
    """The modules of the package that a fresh Python has loaded after a command line."""
    code = (
        f"import sys; from openssh_jobs.cli import main; main({list(words)!r}); "
        "print('\\n'.join(name for name in sys.modules if name.startswith('openssh_jobs.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"XDG_STATE_HOME": state},
    )
    names = (line for line in done.stdout.splitlines() if line.startswith("openssh_jobs."))
    return {name.removeprefix("openssh_jobs.") for name in names}


def test_the_help_loads_no_command(tmp_path: Path) -> None:
    loaded = loaded_by("--help", state=str(tmp_path))
    assert "cli.app" in loaded
    assert {name.split(".")[0] for name in loaded} == {
        "cli",
        "error_facts",
        "errors",
        "phrases",
        "printable",
        "version",
    }
    assert loaded.isdisjoint(f"cli.{command}" for command in app.COMMANDS)


def test_the_journal_is_shown_without_what_talks_to_hosts(tmp_path: Path) -> None:
    loaded = loaded_by("list", state=str(tmp_path))
    assert {"cli.list", "cluster.journal"} <= loaded
    assert loaded.isdisjoint(("cluster.cluster", "cluster.job", "cli.submit"))
    rooms = {name.split(".")[0] for name in loaded}
    assert rooms.isdisjoint(("connection", "schedulers", "transfer", "transport", "files"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-J", "relax", "h", "d"], "it is --name here, and --jump for a jump host; as the "),
        (["-J", "relax", "h", "d"], "put it after --: `-- -J relax`"),
        (["h", "d", "-p22"], "`-- -p 22`"),
        (["h", "d", "-o", "x"], "--ssh-option for an option of ssh"),
        (["h", "d", "--exclusive"], "for the scheduler, put it after --: `-- --exclusive`"),
        (["h", "d", "--nodelist=a b"], "`-- --nodelist 'a b'`"),
    ],
)
def test_words_of_the_scheduler_are_told_how_they_go(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--script", "x", *words]) == 2
    assert says in capsys.readouterr().err


def test_what_follows_the_dashes_is_not_ours() -> None:
    args = app.parse(["submit", "h", "d", "--script", "x", "--", "--json", "-J", "y", "--debug"])
    assert args.after_dashes == ["--json", "-J", "y", "--debug"]
    assert not args.json
    assert not args.debug
    assert app.parse(["--debug", "list", "--all"]).debug
    assert app.parse(["list", "--debug"]).debug


def test_a_misspelt_state_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--state", "running,faild"]) == 2
    assert "'faild' (did you mean failed?) was given" in capsys.readouterr().err


def test_a_signal_that_the_main_thread_missed_ends_the_program() -> None:
    """It blocks, and another thread has got the signal, as if that had come just before."""
    code = (
        "import signal, sys, threading, time\n"
        "from openssh_jobs.cli import main, tail\n"
        "def send():\n"
        "    time.sleep(0.3)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "def run(args, output):\n"
        "    threading.Thread(target=send, daemon=True).start()\n"
        "    threading.Event().wait()\n"
        "tail.run = run\n"
        "sys.exit(main(['tail', 'hpc', '1']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (143, "openssh-jobs: stopped.\n")

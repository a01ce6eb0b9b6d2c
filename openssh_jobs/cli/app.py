"""The command line as a whole: the list of commands, errors, signals, closed pipes, the log."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol

from . import exit_codes, options
from .exit_codes import ExitCode, UsageError
from .output import Output, error_data, error_sentence, one_line, printable

GROUPS: dict[str, dict[str, str]] = {
    "way in": {
        "doctor": "try every step of the way to a host",
        "login": "log in; without HOST: list what is open",
        "logout": "end the connection after what runs on it",
        "config": "show the settings and where each is from",
    },
    "run and copy": {
        "exec": "run a command on a host, or a shell",
        "put": "copy files and directories to a host",
        "get": "copy files and directories from a host",
        "forward": "reach a port behind a host until Ctrl-C",
    },
    "jobs": {
        "submit": "submit a batch job",
        "list": "list your jobs, as known or asked now",
        "watch": "the list of jobs, alive",
        "status": "show a card of a job: state, why, usage",
        "wait": "wait until jobs are over",
        "tail": "print the output of a job",
        "fetch": "copy a job's directory to this machine",
        "cancel": "cancel jobs",
        "hold": "keep pending jobs from starting",
        "release": "let held jobs start",
    },
    "upkeep": {
        "queues": "list the queues of a cluster, or nodes",
        "recover": "finish submissions that got no answer",
        "tidy": "remove what ended jobs left on a host",
        "demo": "run one job from submission to result",
    },
    "plumbing": {
        "ssh": "an ssh for rsync -e, GIT_SSH_COMMAND",
    },
}
"""The commands in the order of the help: ``cli/NAME.py`` holds the command NAME."""

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}

_FORMS = {
    "doctor": "[HOST]",
    "login": "[HOST]",
    "logout": "HOST",
    "config": "[HOST]",
    "exec": "HOST [COMMAND...]",
    "forward": "HOST PORT...",
    "submit": "HOST [DIRECTORY]",
    "watch": "[HOST...]",
    "status": "HOST [JOB...]",
    "wait": "HOST JOB...",
    "fetch": "HOST JOB...",
    "queues": "HOST",
    "recover": "[HOST [DIR]]",
    "tidy": "HOST",
    "demo": "",
    "ssh": "HOST [COMMAND...]",
}
"""What follows a command, in the help; those of ``_TOGETHER`` share a line."""
_TOGETHER = {
    ("put", "get"): "copy to a host, or from one",
    ("list", "watch"): "your jobs as a table, once or alive",
    ("tail", "fetch"): "print a job's output, or copy its files",
    ("cancel", "hold", "release"): "act on jobs: HOST JOB...",
}

_ENDS_AT_HOST = frozenset(("exec",))
"""Commands of which all words behind HOST are not ours; argparse would interpret them."""

_LONG_OPTIONS_ONLY = frozenset(("ssh",))
"""Commands with long options of ours, then words that are not ours."""

_FAILS_AS_SSH = frozenset(("ssh",))
"""Commands whose callers know the exit codes of ssh: theirs are those of the remote program."""

_PASS_WORDS_ON = frozenset(("submit",))
"""Commands with words after ``--`` that are not ours; argparse would interpret them."""

_CHECKS_ITSELF = frozenset(("config",))
"""Commands that report what is wrong in the settings themselves."""

_UNATTENDED_GRACE = 10.0
"""Seconds to end in order after a signal that does not come from the keyboard."""
_ONCE_MORE = 1.0
"""Seconds after which another Ctrl-C is meant; a terminal and a parent may both send the first."""
_MISSED_AFTER = 0.05
"""Seconds after which a signal that the main thread did not handle is repeated."""

_HELP = """\
usage: openssh-jobs COMMAND [options]      HOST is any name that ssh takes, or a
dot for this machine. All commands and programs share one login to each host.

{commands}

`openssh-jobs COMMAND --help` has options, examples and exit codes.
"""
_NAMES_AT, _TEXTS_AT = 14, 38


class CommandModule(Protocol):
    """What a module of a command holds."""

    @staticmethod
    def add_command(subparsers: Any, summary: str) -> None:
        """Add the parser of the command."""

    @staticmethod
    def run(args: argparse.Namespace, output: Output) -> int:
        """Run the command; returns the exit code."""


def load_command(name: str) -> CommandModule:
    """The module of a command, imported when it is needed."""
    module: Any = import_module(f".{name}", __package__)
    found: CommandModule = module
    return found


class _MainParser(options.Parser):
    """The parser of what stands before a command, with the help of them all."""

    def format_help(self) -> str:
        """The groups of commands, on one screen of 80x24."""
        return _HELP.format(commands="\n".join(_help_lines()))


def _help_lines() -> list[str]:
    lines = []
    with_others = {name: names for names in _TOGETHER for name in names}
    for group, commands in GROUPS.items():
        title = group
        for name, text in commands.items():
            names = with_others.get(name, (name,))
            if names[0] != name:
                continue
            if len(names) > 1:
                shown, text = ", ".join(names), _TOGETHER[names]
                shown = f"{shown} {_FORMS.get(names[-1], '')}"
            else:
                shown = f"{name} {_FORMS.get(name, '')}"
            lines.append(f"{title:<{_NAMES_AT}}{shown:<{_TEXTS_AT - _NAMES_AT}}{text}")
            title = ""
    return lines


def build_parser(command: str = "") -> options.Parser:
    """The parser of the command line; of the commands it has only ``command``."""
    parser = _MainParser(prog="openssh-jobs", usage="openssh-jobs COMMAND [options]")
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(
        metavar="COMMAND", dest="command", prog="openssh-jobs", parser_class=options.Parser
    )
    if command:
        load_command(command).add_command(subparsers, COMMANDS[command])
    parser.commands = subparsers.choices
    return parser


def parse(words: list[str]) -> argparse.Namespace:
    """The options of a command line.  Raises ``UsageError``, or ``SystemExit`` after a help."""
    command = _command(words)
    if command == "help":
        words = _asks_for_help(words[words.index("help") + 1 :])
        command = words[0] if len(words) > 1 else ""
    at = words.index(command) if command else 0
    if "--debug" in words[:at]:
        before = [word for word in words[:at] if word != "--debug"]
        words = [*before, command, "--debug", *words[at + 1 :]]
    after_dashes: list[str] | None = None
    if command in _PASS_WORDS_ON and "--" in words:
        at = words.index("--")
        words, after_dashes = words[:at], words[at + 1 :]
    if command and command not in COMMANDS:
        raise UsageError(_no_command(command))
    parser = build_parser(command)
    after_host: list[str] = []
    if command in _ENDS_AT_HOST | _LONG_OPTIONS_ONLY:
        own, its = words.index(command) + 1, parser.commands[command]
        find_end = its.end_of_first if command in _ENDS_AT_HOST else its.end_of_long
        end = own + find_end(words[own:])
        words, after_host = words[:end], words[end:]
    args, unknown = parser.parse_known_args(words)
    if unknown:
        refuse = parser.refuse if args.command is None else args.refuse
        refuse(unknown, words)
    if args.command is None:
        raise UsageError(
            "openssh-jobs: name a command, such as `openssh-jobs demo`; `openssh-jobs --help` "
            "lists them."
        )
    args.after_dashes, args.after_host = after_dashes, after_host
    args.command_line = words
    return args


def _asks_for_help(words: list[str]) -> list[str]:
    """``help`` and ``help COMMAND`` as the command lines that print it."""
    named = [word for word in words if not word.startswith("-")]
    if len(named) > 1:
        raise UsageError(
            f"openssh-jobs help: {named[1]!r} is one argument too many; "
            f"`openssh-jobs {named[0]} --help` explains a command."
        )
    return [*named, "--help"]


def _no_command(word: str) -> str:
    meant = options.did_you_mean(word, [*COMMANDS, "help"])
    return (
        f"openssh-jobs: there is no command {word!r}{meant}. "
        "`openssh-jobs --help` lists the commands."
    )


def run(words: list[str]) -> int:
    """Run one command line; returns the exit code."""
    code = _run_line(words)
    is_ours = ExitCode.OK < code < 128
    return ExitCode.SSH if is_ours and _command(words) in _FAILS_AS_SSH else code


def _command(words: list[str]) -> str:
    """The command of a command line: no option before it takes a value."""
    return next((word for word in words if not word.startswith("-")), "")


def _run_line(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A table must not fail on a terminal without a character of it.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    own = words[: words.index("--")] if "--" in words else words
    if _command(words) in _LONG_OPTIONS_ONLY:
        own = []  # what looks like ours may be the remote command's
    output = Output(json="--json" in own, debug="--debug" in own)
    try:
        args = parse(words)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    except UsageError as error:
        return _failed(error, output)
    except OSError as error:
        return not_written(error)
    output = Output(json=args.json, quiet=args.quiet, debug=args.debug)
    ending = _Ending(output)
    try:
        with logging_to(output), ending:
            code = _run(args, output, ending)
    except KeyboardInterrupt:  # at the very end
        code = ending.code
    if ending.number is not None:
        _flush()
    elif output.successor is not None:
        from ..openssh import process

        try:
            process.replace(output.successor)  # here, where signals are as they were before
        except OSError as error:
            return _failed(error, output, args)
    return code


def _run(args: argparse.Namespace, output: Output, ending: _Ending) -> int:
    try:
        if args.command not in _CHECKS_ITSELF:
            from .. import settings

            settings.check()
        code = int(args.run(args, output))
        sys.stdout.flush()
    except BaseException as error:
        if ending.number is not None or isinstance(error, KeyboardInterrupt):
            # Whatever was raised on the way out, the signal is the reason.
            options.end_commands()
            _report_interrupt(output)
            return ending.code
        if isinstance(error, BrokenPipeError):
            return not_written(error)
        if not isinstance(error, Exception):
            raise
        if output.debug:
            logging.getLogger("openssh_jobs.cli").debug("failed", exc_info=True)
        return _failed(error, output, args)
    return ending.code if ending.is_settled else code


def _flush() -> None:
    """Write what is left in the buffers, if there is still a reader."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop_output(stream)


def _drop_output(stream: Any) -> None:
    """Discard the buffer of stdout or stderr, and all that is written to it from now on."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _failed(error: BaseException, output: Output, args: argparse.Namespace | None = None) -> int:
    options.advise_host(error, args)
    try:
        if output.json:
            output.data(error_data(error))
        sys.stdout.flush()
    except OSError:  # a full disk; probably what failed before
        _drop_output(sys.stdout)
    with contextlib.suppress(OSError):  # a full disk, too
        output.note(error_sentence(error))
    _flush()
    return exit_codes.of_error(error)


def not_written(error: OSError) -> int:
    """The exit code where stdout cannot be written."""
    if isinstance(error, BrokenPipeError):
        _drop_output(sys.stdout)  # the reader has closed it
        return ExitCode.BROKEN_PIPE
    return _failed(error, Output())


# --------------------------------------------------------------------------- signals


def _report_interrupt(output: Output) -> None:
    said = output.if_interrupted
    said = said if isinstance(said, str) else said()
    what = f"; {said}" if said else ""
    try:
        output.note(f"openssh-jobs: stopped{what}.")
        sys.stderr.flush()
    except (OSError, ValueError):
        _drop_output(sys.stderr)  # the terminal is gone


class _Ending:
    """SIGINT, SIGTERM and SIGHUP end what is under way in order, within ``output.grace`` seconds.

    A signal that was ignored when the program began (nohup, a background job) stays ignored here.
    Python runs a handler when the main thread goes on, which does not hear of a signal that arrives
    just before it blocks: a thread sees all signals (``set_wakeup_fd``), and repeats such a one.
    Programs that this one starts get the default action: execve(2) resets signals with a handler.
    """

    def __init__(self, output: Output) -> None:
        self.number: int | None = None
        self._output = output
        self._before: dict[int, Any] = {}
        self._since = 0.0
        self._is_over = False
        self._stop_waiting = threading.Event()
        self._seen = -1

    @property
    def code(self) -> int:
        """The exit code by which a shell reports this signal."""
        return 128 + (signal.SIGINT if self.number is None else self.number)

    @property
    def is_settled(self) -> bool:
        """Whether the signal decides the exit code; Ctrl-C may be the normal end of a command."""
        return self.number not in (None, signal.SIGINT)

    def __enter__(self) -> _Ending:
        if threading.current_thread() is not threading.main_thread():
            return self
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # otherwise waitpid(2) finds no child
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            ignored = signal.getsignal(number) is signal.SIG_IGN
            handler = self._ignored if ignored else self._on_signal
            self._before[number] = signal.signal(number, handler)
        seen, self._seen = os.pipe()
        os.set_blocking(self._seen, False)
        signal.set_wakeup_fd(self._seen, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(seen,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._stop_waiting.set()
        if self._seen != -1:
            signal.set_wakeup_fd(-1)
            os.close(self._seen)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @staticmethod
    def _ignored(number: int, frame: Any) -> None:
        """Do nothing."""

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.number is not None:
            # It is ending already; who presses Ctrl-C once more does not want to wait for that.
            if number == signal.SIGINT and time.monotonic() - self._since > _ONCE_MORE:
                self._stop_waiting.set()
            return
        self._since = time.monotonic()
        self.number = number
        raise KeyboardInterrupt

    def _watch(self, seen: int) -> None:
        """Repeat what the main thread has missed; leave where it does not end in time."""
        while self.number is None:
            numbers = os.read(seen, 64)
            if not numbers:
                break
            time.sleep(_MISSED_AFTER)
            if self.number is None and signal.getsignal(numbers[-1]) == self._on_signal:
                signal.pthread_kill(threading.main_thread().ident or 0, numbers[-1])
        os.close(seen)
        if self.number is not None:
            least = 0.0 if self.number == signal.SIGINT else _UNATTENDED_GRACE
            self._stop_waiting.wait(max(self._output.grace, least))
            if not self._is_over:
                _report_interrupt(self._output)
                os._exit(self.code)


# --------------------------------------------------------------------------- logging


class _PlainFormatter(logging.Formatter):
    """A record as a sentence of the program."""

    def format(self, record: logging.LogRecord) -> str:
        return "openssh-jobs: " + one_line(record.getMessage())


class _DebugFormatter(logging.Formatter):
    """Lines of a log and of tracebacks; what a terminal would obey is escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


class _FirstOnly(logging.Filter):
    """Passes the first record only: a wait is reported once, not for every waiting session."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = False

    def filter(self, record: logging.LogRecord) -> bool:
        passed, self._passed = self._passed, True
        return not passed


@contextlib.contextmanager
def logging_to(output: Output) -> Iterator[None]:
    """Print the library's warnings as sentences on stderr, with ``--debug`` all that it logs.

    On a terminal it also says why nothing happens while all sessions are in use.
    """
    logger = logging.getLogger("openssh_jobs")
    waits, first_only = logging.getLogger("openssh_jobs.sessions.waits"), _FirstOnly()
    handler = logging.StreamHandler(sys.stderr)
    if not output.debug and not output.quiet and sys.stderr.isatty():
        waits.setLevel(logging.INFO)
        waits.addFilter(first_only)
    if output.debug:
        handler.setFormatter(_DebugFormatter())
    else:
        handler.setFormatter(_PlainFormatter())
    level = logger.level
    logger.setLevel(logging.DEBUG if output.debug else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        waits.removeFilter(first_only)
        waits.setLevel(logging.NOTSET)
        logger.setLevel(level)

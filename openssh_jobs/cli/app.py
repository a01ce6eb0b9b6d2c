"""The parser of the command line, and what becomes of errors, signals and closed pipes."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from . import demo, doctor, files, forward, login, machine, options, results, status, submit
from .output import Ui, one_line, printable

_UNATTENDED_PATIENCE = 10.0
"""Seconds to end in order after a signal that no person at the keyboard sent."""

_DESCRIPTION = """\
Commands, files and batch jobs on clusters, over the ssh you already have.

HOST is any name that ssh takes: an alias of your ssh configuration, user@host, or
ssh://user@host:port. The first command logs in; all later ones, of all programs, ride
that one connection until ten minutes after the last."""

_EPILOG = """\
examples:
  openssh-jobs demo                                   see it work, on this machine alone
  openssh-jobs doctor hpc                             does all of it work there?
  openssh-jobs login hpc                              where a password or a code is asked for
  openssh-jobs exec hpc -- squeue --me
  openssh-jobs put basis/ hpc:~/basis
  openssh-jobs submit hpc runs/relax-7 --upload --script relax.sh --time-limit 2:00:00
  openssh-jobs status hpc 4711
  openssh-jobs tail hpc 4711 -f
  openssh-jobs fetch hpc 4711 results --only '*.log'

`openssh-jobs COMMAND --help` explains a command.

"""


def build_parser() -> options.Parser:
    """The whole command line."""
    parser = options.Parser(
        prog="openssh-jobs",
        description=_DESCRIPTION,
        epilog=_EPILOG + options.EXIT_CODES,
        usage="openssh-jobs COMMAND [options]",
    )
    parser.add_argument("-V", "--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", prog="openssh-jobs"
    )
    for group in (files, submit, status, results, machine, login, forward, doctor, demo):
        group.add_commands(commands)
    return parser


def _parse(words: list[str]) -> argparse.Namespace:
    parser = build_parser()
    # What follows -- belongs to the remote command to the last word; argparse would take from it.
    rest: list[str] | None = None
    if words[:1] == ["exec"] and "--" in words:
        at = words.index("--")
        words, rest = words[:at], words[at + 1 :]
    args, strange = parser.parse_known_args(words)
    if strange:
        name = f"openssh-jobs {args.command}" if args.command else "openssh-jobs"
        said = " ".join(strange)
        raise options.WrongUse(f"{name}: unrecognized arguments: {said}. See `{name} --help`.")
    if args.command is None:
        raise options.WrongUse(
            "openssh-jobs: name a command, such as `openssh-jobs demo`; `openssh-jobs --help` "
            "lists them."
        )
    if args.command == "exec":
        if args.words:
            # Or `exec hpc ls -l x` would log in as the user x.
            raise options.WrongUse(
                "openssh-jobs exec: put -- before the command: "
                f"`openssh-jobs exec {shlex.quote(args.host)} -- ls -l`."
            )
        args.words = rest or []
    return args


def run(words: list[str]) -> int:
    """Run one command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A table must not fail on a terminal that has no such letter.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    ui = Ui(json="--json" in words, debug="--debug" in words)
    try:
        args = _parse(words)
    except SystemExit as done:  # --help
        try:
            sys.stdout.flush()
        except OSError as error:
            return _failed(error, ui)
        return int(done.code or 0)
    except options.WrongUse as error:
        return _failed(error, ui)
    ui.quiet = getattr(args, "quiet", False)
    ui.json = getattr(args, "json", False)
    ui.debug = getattr(args, "debug", False)
    ending = _Ending(ui)
    try:
        with _logging(ui), ending:
            code = _run(args, ui, ending)
    except KeyboardInterrupt:  # at the very end
        code = ending.code
    if ending.number is not None:
        _flush()
    return code


def _run(args: argparse.Namespace, ui: Ui, ending: _Ending) -> int:
    try:
        code = int(args.run(args, ui))
        sys.stdout.flush()
    except BaseException as error:
        if ending.number is not None or isinstance(error, KeyboardInterrupt):
            # Whatever was raised on the way out, this is why.
            options.end_commands()
            _interrupted(ui)
            return ending.code
        if isinstance(error, BrokenPipeError):
            _drop_output(sys.stdout)  # whoever read it has seen enough
            return options.BROKEN_PIPE
        if not isinstance(error, Exception):
            raise
        if ui.debug:
            logging.getLogger("openssh_jobs.cli").debug("failed", exc_info=True)
        return _failed(error, ui)
    return ending.code if ending.is_settled else code


def _flush() -> None:
    """Write what waits in the buffers, if anybody still reads it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop_output(stream)


def _drop_output(stream: Any) -> None:
    """Nothing more can be written to stdout or stderr, nor what waits in its buffer."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _failed(error: BaseException, ui: Ui) -> int:
    try:
        if ui.json:
            ui.data(options.as_data(error))
        sys.stdout.flush()
    except OSError:  # a full disk, most likely what failed before
        _drop_output(sys.stdout)
    ui.note(options.sentence(error))
    return options.exit_code(error)


# --------------------------------------------------------------------------- signals


def _interrupted(ui: Ui) -> None:
    what = f"; {ui.goes_on}" if ui.goes_on else ""
    try:
        ui.note(f"openssh-jobs: stopped{what}.")
        sys.stderr.flush()
    except (OSError, ValueError):
        _drop_output(sys.stderr)  # the terminal is gone


class _Ending:
    """SIGINT, SIGTERM and SIGHUP end what is under way in order, within ``ui.patience`` seconds.

    A signal that was ignored when the program began (nohup, a background job) stays ignored here,
    and is as usual in what the program starts: exec(2) resets what has a handler.
    """

    def __init__(self, ui: Ui) -> None:
        self.number: int | None = None
        self._ui = ui
        self._before: dict[int, Any] = {}
        self._watchdog: threading.Timer | None = None

    @property
    def code(self) -> int:
        """The exit code that a shell gives to what this signal ended."""
        return 128 + (signal.SIGINT if self.number is None else self.number)

    @property
    def is_settled(self) -> bool:
        """Whether the code of the command does not count: Ctrl-C may be how one is ended well."""
        return self.number not in (None, signal.SIGINT)

    def __enter__(self) -> _Ending:
        if threading.current_thread() is not threading.main_thread():
            return self
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else no child can be waited for
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            ignored = signal.getsignal(number) is signal.SIG_IGN
            handler = self._ignored if ignored else self._on_signal
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @staticmethod
    def _ignored(number: int, frame: Any) -> None:
        """Nothing happens."""

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.number is not None:
            return  # it is ending already, and soon
        self.number = number
        patience = self._ui.patience
        if number != signal.SIGINT:
            patience = max(patience, _UNATTENDED_PATIENCE)
        self._watchdog = threading.Timer(patience, self._leave)
        self._watchdog.daemon = True
        self._watchdog.start()
        raise KeyboardInterrupt

    def _leave(self) -> None:
        _interrupted(self._ui)
        os._exit(self.code)


# --------------------------------------------------------------------------- logging


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "openssh-jobs: " + one_line(record.getMessage())


class _Debug(logging.Formatter):
    """Lines of a log and of tracebacks, in which nothing that a host said is obeyed."""

    def __init__(self) -> None:
        super().__init__("%(relativeCreated)6d ms %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


class _Once(logging.Filter):
    """The first record alone: a wait is not told again for every session that waits."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = False

    def filter(self, record: logging.LogRecord) -> bool:
        passed, self._passed = self._passed, True
        return not passed


@contextlib.contextmanager
def _logging(ui: Ui) -> Iterator[None]:
    """Warnings of the library as sentences on stderr; with ``--debug`` all it logs.

    A person on a terminal also hears why nothing happens while all sessions are in use.
    """
    logger = logging.getLogger("openssh_jobs")
    waits, once = logging.getLogger("openssh_jobs.sessions.waits"), _Once()
    handler = logging.StreamHandler(sys.stderr)
    if not ui.debug and not ui.quiet and sys.stderr.isatty():
        waits.setLevel(logging.INFO)
        waits.addFilter(once)
    if ui.debug:
        handler.setFormatter(_Debug())
    else:
        handler.setFormatter(_Plain())
    level = logger.level
    logger.setLevel(logging.DEBUG if ui.debug else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        waits.removeFilter(once)
        waits.setLevel(logging.NOTSET)
        logger.setLevel(level)

"""``exec``: run a command on a host, or a shell, on its terminal or on the node of a job."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from ..openssh import terminal
from . import exit_codes, options
from .exit_codes import ExitCode, UsageError
from .output import Output, error_sentence

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ..cluster.cluster import Cluster
    from ..commands.remote_process import RemoteProcess
    from ..error_facts import ResultLike
    from ..host import Host

_CHUNK = 65536
_GRACE = 5.0
"""Seconds after a signal to end the ssh of a terminal and put the terminal back."""
# By the result of Connection.end_commands after an interrupt.
_WHAT_BECAME_OF_IT = {True: "was ended", None: "was not started", False: "may still run"}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``exec`` to the command line."""
    parser = options.add_command(
        subparsers,
        "exec",
        summary,
        run,
        usage="[options] HOST [COMMAND...]\n       openssh-jobs exec [options] -s TEXT HOST",
        examples="""\
  openssh-jobs exec hpc ls -l 'a file with blanks'
      all that follows HOST is the command; its words arrive unchanged
  openssh-jobs exec hpc 'cd runs && grep -c done *.log'
      a command of one word is a line of sh, as with ssh; so is -s TEXT
  openssh-jobs exec hpc
      a shell there
  openssh-jobs exec -t hpc vim runs/relax.sh
      on a terminal there, for programs that draw
  openssh-jobs exec -t --job 4711 hpc top
      on the node of job 4711, inside its allocation
  openssh-jobs exec --login-shell hpc 'module avail gaussian'
      under the login shell, which sets PATH and modules
  tar c basis | openssh-jobs exec hpc tar x
      standard input, output and error are passed on byte by byte
  openssh-jobs exec hpc -- "$program"
      after -- even one word is no line of sh""",
        codes=exit_codes.help_text(
            (
                ExitCode.USAGE,
                ExitCode.NO_CONNECTION,
                ExitCode.REFUSED,
                ExitCode.UNKNOWN,
                ExitCode.TIMED_OUT,
                ExitCode.INTERRUPTED,
            ),
            first="that of the remote command (128+N if signal N ended it; with -t 255), or",
        ),
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("-s", "--shell", metavar="TEXT", help="run this POSIX sh script")
    parser.add_argument(
        "-t", "--tty", action="store_true", help="on a terminal there, as ssh -t gives it"
    )
    parser.add_argument(
        "--login-shell", action="store_true", help="run it under the account's login shell"
    )
    parser.add_argument(
        "--timeout", type=options.seconds, metavar="SECONDS", help="end the command after this time"
    )
    parser.add_argument(
        "-n", "--no-stdin", action="store_true", help="do not read standard input (in loops)"
    )
    group = parser.add_argument_group("on the node of a job")
    group.add_argument("--job", metavar="JOB", help="a running job: run the command on its node")
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Run a remote command on our standard streams; returns its exit code."""
    command = _command(args)
    is_shell = command is None
    is_person = terminal.is_there()
    if is_shell and args.no_stdin:
        raise UsageError("openssh-jobs exec: a shell reads its commands: leave -n out.")
    if (is_shell or args.tty) and (output.json or args.timeout is not None):
        raise UsageError(
            "openssh-jobs exec: --json and --timeout need a COMMAND, and cannot be combined "
            "with -t."
        )
    if args.tty and not is_person:
        raise UsageError("openssh-jobs exec: -t needs a terminal on standard input.")
    what = "shell" if is_shell else "command"
    output.if_interrupted = f"the {what} on {args.host} {_WHAT_BECAME_OF_IT[None]}"
    with _host(args) as (host, jobs):
        output.if_interrupted = f"the {what} on {args.host} {_WHAT_BECAME_OF_IT[False]}"
        on_terminal = args.tty or (is_shell and is_person)
        if jobs is not None:
            command = jobs.job(args.job).on_node(command, tty=on_terminal)
        if is_shell or args.tty:
            output.grace = _GRACE
            output.if_interrupted = f"the {what} on {args.host} lost its terminal"
            code = host.interact(command, tty=on_terminal, login_shell=args.login_shell)
            return code if code >= 0 else 128 - code
        run_command = _run_as_data if output.json else _run_on_our_streams
        assert command is not None
        try:
            return run_command(host, command, args, output)
        except BaseException:
            ended = host.end_commands()
            output.if_interrupted = f"the command on {args.host} {_WHAT_BECAME_OF_IT[ended]}"
            raise


def _command(args: argparse.Namespace) -> str | list[str] | None:
    """What to run; ``None`` for a shell."""
    words: list[str] = args.after_host
    if args.shell is not None:
        if words:
            raise UsageError(
                "openssh-jobs exec: give either a command behind HOST or a script with -s. "
                "See `openssh-jobs exec --help`."
            )
        return str(args.shell)
    if not words:
        return None
    if words[0] == "--":
        if not words[1:]:
            raise UsageError("openssh-jobs exec: there is no command behind --.")
        return words[1:]
    if words[0].startswith("-"):
        raise UsageError(
            f"openssh-jobs exec: {words[0]} stands behind HOST, where the command begins; options "
            "go before HOST, and a command that begins with a dash behind --."
        )
    return words[0] if len(words) == 1 else words


@contextlib.contextmanager
def _host(args: argparse.Namespace) -> Iterator[tuple[Host, Cluster | None]]:
    """The host, opened; with ``--job`` also its jobs, whose scheduler's commands are found."""
    if args.job is None:
        if args.scheduler not in (None, "auto") or args.prologue:
            raise UsageError(
                "openssh-jobs exec: --scheduler and --prologue are allowed only with --job."
            )
        with options.connection(args) as host:
            yield host, None
        return
    args.login_shell = True
    with options.cluster(args) as cluster:
        yield cluster.connection, cluster


def _run_on_our_streams(
    host: Host, command: str | list[str], args: argparse.Namespace, output: Output
) -> int:
    process = host.popen(
        command,
        stdin=None if args.no_stdin else "pipe",
        text=False,
        login_shell=args.login_shell,
    )
    try:
        return _Streams(process, args.timeout).run()
    except BaseException as error:
        ended = process.returncode is not None or process.end()
        if isinstance(error, TimeoutError):
            what = "was ended" if ended else "may still run: its end could not be confirmed"
            output.note(f"{args.host}: the command ran longer than {args.timeout:g} s and {what}.")
            return ExitCode.TIMED_OUT
        raise
    finally:
        process.close()


def _run_as_data(
    host: Host, command: str | list[str], args: argparse.Namespace, output: Output
) -> int:
    from ..errors import CommandTimeout

    data = b""
    if not (args.no_stdin or sys.stdin is None or sys.stdin.isatty()):
        data = sys.stdin.buffer.read()
    timed_out = False
    done: ResultLike[str | bytes]
    try:
        done = host.run(
            command, input=data, timeout=args.timeout, login_shell=args.login_shell or None
        )
    except CommandTimeout as error:
        if error.result is None:
            raise
        output.note(error_sentence(error))
        done, timed_out = error.result, True
    output.data(
        {
            "host": host.host,
            "returncode": None if timed_out else done.returncode,
            "timed_out": timed_out,
            "stdout": done.stdout if isinstance(done.stdout, str) else _text(done.stdout),
            "stderr": done.stderr if isinstance(done.stderr, str) else _text(done.stderr),
            "elapsed": round(done.elapsed, 6),
        }
    )
    return ExitCode.TIMED_OUT if timed_out else int(done.returncode)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Streams:
    """Connects our three standard streams with those of a remote process."""

    def __init__(self, process: RemoteProcess[bytes], timeout: float | None) -> None:
        self._process = process
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(self) -> int:
        """Copy until both outputs end; returns the exit code.

        Raises ``TimeoutError`` at the deadline.
        """
        process = self._process
        if process.stdin is not None:
            # Never joined: it may wait for a line of the terminal that never comes.
            threading.Thread(target=self._send, args=(process.stdin,), daemon=True).start()
        outputs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        for source, target in outputs:
            threading.Thread(target=self._copy, args=(source, target), daemon=True).start()
        for _ in outputs:
            try:
                error = self._ended.get(timeout=self._seconds_left())
            except queue.Empty:
                raise TimeoutError from None
            if error is not None:
                raise error
        return process.wait()

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _copy(self, source: IO[bytes], target: Any) -> None:
        try:
            out = target.buffer
            while data := source.read1(_CHUNK):  # type: ignore[attr-defined]
                out.write(data)
                out.flush()
        except BaseException as error:  # noqa: BLE001 - raised again by run
            self._ended.put(error)
        else:
            self._ended.put(None)

    def _send(self, target: IO[bytes]) -> None:
        try:
            while data := os.read(0, _CHUNK):
                target.write(data)
                target.flush()
        except (OSError, ValueError):
            pass  # no stdin here, or the command reads no more
        try:
            target.close()
        except (OSError, ValueError):
            pass

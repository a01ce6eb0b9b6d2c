"""``exec``: run a command on a host."""

from __future__ import annotations

import os
import queue
import shlex
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from . import exit_codes, options
from .exit_codes import ExitCode, UsageError
from .output import Output, error_sentence

if TYPE_CHECKING:
    import argparse

    from ..commands.remote_process import RemoteProcess
    from ..error_facts import ResultLike
    from ..host import Host

_CHUNK = 65536
# By the result of Connection.end_commands after an interrupt.
_WHAT_BECAME_OF_IT = {True: "was ended", None: "was not started", False: "may still run"}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``exec`` to the command line."""
    parser = options.add_command(
        subparsers,
        "exec",
        summary,
        run,
        usage="[options] HOST -- WORD...\n       openssh-jobs exec [options] HOST -s TEXT",
        examples="""\
  openssh-jobs exec hpc -- ls -l 'a file with blanks'
      the words arrive unchanged; no shell expands them
  openssh-jobs exec hpc -s 'cd runs && grep -c done *.log'
      a POSIX sh script, whatever the login shell is
  openssh-jobs exec hpc --login-shell -s 'module avail gaussian'
      under the login shell, which sets PATH and modules
  tar c basis | openssh-jobs exec hpc -- tar x
      standard input, output and error are passed on byte by byte""",
        codes=exit_codes.help_text(
            (
                ExitCode.USAGE,
                ExitCode.NO_CONNECTION,
                ExitCode.UNKNOWN,
                ExitCode.TIMED_OUT,
                ExitCode.INTERRUPTED,
            ),
            first="that of the remote command (128+N if signal N ended it), or",
        ),
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("words", metavar="WORD", nargs="*", help="the command, after --")
    parser.add_argument("-s", "--shell", metavar="TEXT", help="run this POSIX sh script instead")
    parser.add_argument(
        "--login-shell", action="store_true", help="run it under the account's login shell"
    )
    parser.add_argument(
        "--timeout", type=options.seconds, metavar="SECONDS", help="end the command after this time"
    )
    parser.add_argument(
        "-n", "--no-stdin", action="store_true", help="do not read standard input (in loops)"
    )
    options.add_connection_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Run a remote command on our standard streams; returns its exit code."""
    if args.words:
        # Otherwise `exec hpc ls -l x` would log in as the user x.
        quoted = shlex.quote(args.host)
        raise UsageError(
            f"openssh-jobs exec: put -- before the command: `openssh-jobs exec {quoted} -- ls -l`."
        )
    words = args.after_dashes or []
    if (args.shell is None) == (not words):
        raise UsageError(
            "openssh-jobs exec: give either a command after -- or a script with -s. "
            "See `openssh-jobs exec --help`."
        )
    command = words if args.shell is None else args.shell
    output.if_interrupted = f"the command on {args.host} {_WHAT_BECAME_OF_IT[None]}"
    with options.connection(args) as host:
        output.if_interrupted = f"the command on {args.host} {_WHAT_BECAME_OF_IT[False]}"
        run_command = _run_as_data if output.json else _run_on_our_streams
        try:
            return run_command(host, command, args, output)
        except BaseException:
            ended = host.end_commands()
            output.if_interrupted = f"the command on {args.host} {_WHAT_BECAME_OF_IT[ended]}"
            raise


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

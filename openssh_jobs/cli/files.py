"""``exec``, ``put`` and ``get``: commands and files on a host."""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from . import options
from .output import count, size
from .progress import Progress

if TYPE_CHECKING:
    import argparse

    from ..commands.remote_process import RemoteProcess
    from ..transfer.transfer import TransferResult
    from .output import Ui

_CHUNK = 65536
# By what the library saw of an interrupted command: its end, that nothing was asked, neither.
_FATES = {True: "was ended", None: "was not started", False: "may still run"}
# [::1]:PATH and user@[::1]:PATH; brackets behind the first colon belong to the path.
_BRACKETED = re.compile(r"([^:\[\]/]*@)?\[([^\[\]/]+)\]:(.*)", re.DOTALL)


def add_commands(commands: Any) -> None:
    """Add ``exec``, ``put`` and ``get`` to the command line."""
    _add_exec(commands)
    _add_put(commands)
    _add_get(commands)


# --------------------------------------------------------------------------- exec


def _add_exec(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "exec",
        run_exec,
        "run a command on a host",
        usage="[options] HOST -- WORD...\n       openssh-jobs exec [options] HOST -s TEXT",
        examples="""\
  openssh-jobs exec hpc -- ls -l 'a file with blanks'
      the words arrive as they are; no shell looks at them
  openssh-jobs exec hpc -s 'cd runs && grep -c done *.log'
      a POSIX sh script, whatever the login shell is
  openssh-jobs exec hpc --login-shell -s 'module avail gaussian'
      under the login shell, where modules and PATH come from
  tar c basis | openssh-jobs exec hpc -- tar x
      standard input, output and errors are passed on byte by byte""",
        exit_codes="""\
exit codes:
  that of the remote command, 128+N after signal N; of our own:
  2 used wrongly, 3 no connection, 5 no status came, 124 --timeout, 130 Ctrl-C""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("words", metavar="WORD", nargs="*", help="the command, behind --")
    parser.add_argument("-s", "--shell", metavar="TEXT", help="a POSIX sh script instead")
    parser.add_argument(
        "--login-shell", action="store_true", help="run it under the user's own login shell"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end it after so long")
    parser.add_argument(
        "-n", "--no-stdin", action="store_true", help="do not read standard input (in loops)"
    )
    options.add_connection_options(parser)
    options.add_output_options(parser)


def run_exec(args: argparse.Namespace, ui: Ui) -> int:
    """Run a remote command with our streams; its exit code."""
    if (args.shell is None) == (not args.words):
        raise options.WrongUse(
            "openssh-jobs exec: give either a command behind -- or a script with -s. "
            "See `openssh-jobs exec --help`."
        )
    if args.timeout is not None and not args.timeout > 0:
        raise options.WrongUse("openssh-jobs exec: --timeout wants a number of seconds above 0.")
    command = args.words if args.shell is None else args.shell
    ui.goes_on = f"the command on {args.host} {_FATES[None]}"
    with options.connection(args) as host:
        ui.goes_on = f"the command on {args.host} {_FATES[False]}"
        try:
            return (_exec_as_data if ui.json else _exec_on_streams)(host, command, args, ui)
        except BaseException:
            fate = _FATES[host._commands.end_at_work()]
            ui.goes_on = f"the command on {args.host} {fate}"
            raise


def _exec_on_streams(host: Any, command: Any, args: argparse.Namespace, ui: Ui) -> int:
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
            where = "was ended" if ended else "may still run: its end could not be confirmed"
            ui.note(f"{args.host}: the command was not over after {args.timeout:g} s and {where}.")
            return options.TIMED_OUT
        raise
    finally:
        process.close()


def _exec_as_data(host: Any, command: Any, args: argparse.Namespace, ui: Ui) -> int:
    from ..errors import CommandTimeout

    data = b""
    if not (args.no_stdin or sys.stdin is None or sys.stdin.isatty()):
        data = sys.stdin.buffer.read()
    code = None
    try:
        done = host.run(
            command, input=data, timeout=args.timeout, login_shell=args.login_shell or None
        )
    except CommandTimeout as error:
        ui.note(options.sentence(error))
        done, code = error.result, options.TIMED_OUT
    ui.data(
        {
            "host": host.host,
            "returncode": done.returncode if code is None else None,
            "timed_out": code is not None,
            "stdout": done.stdout if isinstance(done.stdout, str) else _text(done.stdout),
            "stderr": done.stderr if isinstance(done.stderr, str) else _text(done.stderr),
            "elapsed": round(done.elapsed, 6),
        }
    )
    return int(done.returncode) if code is None else code


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Streams:
    """Our three streams on those of a remote process."""

    def __init__(self, process: RemoteProcess, timeout: float | None) -> None:
        self._process = process
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(self) -> int:
        """Until both outputs end; the exit code.  ``TimeoutError`` at the deadline."""
        process = self._process
        if process.stdin is not None:
            # Never joined: it may wait for a line of the terminal that nobody will type.
            threading.Thread(target=self._send, args=(process.stdin,), daemon=True).start()
        outputs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        for source, target in outputs:
            threading.Thread(target=self._copy, args=(source, target), daemon=True).start()
        for _ in outputs:
            try:
                error = self._ended.get(timeout=self._left())
            except queue.Empty:
                raise TimeoutError from None
            if error is not None:
                raise error
        return process.wait()

    def _left(self) -> float | None:
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


# --------------------------------------------------------------------------- put and get


def split_remote(text: str) -> tuple[str, str]:
    """``HOST:PATH`` as scp reads it; ``[::1]:PATH`` for an address with colons.

    An empty path is the home directory.
    """
    if text.startswith("ssh://"):
        raise options.WrongUse(
            f"{text!r} is a URL: write HOST:PATH, and the port as -p N.",
        )
    found = _BRACKETED.fullmatch(text)
    if found is not None:
        host, path = (found[1] or "") + found[2], found[3]
    else:
        host, colon, path = text.partition(":")
        if not (host and colon) or "/" in host or "[" in host:
            raise options.WrongUse(f"{text!r} is no HOST:PATH, such as hpc:runs/relax-7.")
    if path in ("", ".", "~"):
        return host, "~/"
    return host, path + "/" if path.rpartition("/")[2] in (".", "..") else path


def add_transfer_options(parser: Any) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--only", metavar="PATTERN", action="append", help="only names like this; again for more"
    )
    group.add_argument(
        "--exclude", metavar="PATTERN", action="append", help="no names like this; again for more"
    )
    group.add_argument("--merge", action="store_true", help="add to a directory that exists")
    group.add_argument(
        "--update",
        action="store_true",
        help="move only what differs in size or time, or with --verify in content",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="a single file: go on where the last try with --resume was cut",
    )
    group.add_argument("--preserve", action="store_true", help="keep modes to the bit, and times")
    group.add_argument("--verify", action="store_true", help="compare sha256 on both sides")
    group.add_argument(
        "--follow-symlinks", action="store_true", help="copy what links point to, not the links"
    )
    group.add_argument(
        "--method", default="auto", metavar="auto|sftp|tar|rsync|scp", help="how to move them"
    )


def _add_put(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "put",
        run_put,
        "copy a file or a directory to a host, whole or not at all",
        usage="[options] LOCAL HOST:PATH",
        examples="""\
  openssh-jobs put relax.sh hpc:runs/relax.sh
      relative to the home directory there; missing directories are made
  openssh-jobs put basis hpc:~/basis
      PATH is the directory's new name; one that exists is left alone without --merge
  openssh-jobs put basis hpc:/scratch/alice/
      a slash at the end: into that directory, as /scratch/alice/basis
  openssh-jobs put runs hpc:runs --only '*.inp' --merge
  openssh-jobs put runs hpc:runs --update
      again later: only what has changed since
  openssh-jobs put wavefunction.gbw hpc:scratch/ --resume --verify
      a large file over a bad line: the same command again goes on""",
    )
    parser.add_argument("local", metavar="LOCAL", help="a file or directory here")
    parser.add_argument("remote", metavar="HOST:PATH", help="its name there")
    add_transfer_options(parser)
    options.add_connection_options(parser)
    options.add_output_options(parser)


def _add_get(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "get",
        run_get,
        "copy a file or a directory of a host here, whole or not at all",
        usage="[options] HOST:PATH [LOCAL]",
        examples="""\
  openssh-jobs get hpc:runs/relax.log
      into this directory, under the same name
  openssh-jobs get hpc:runs results
      LOCAL is the new name; a directory that exists is left alone without --merge
  openssh-jobs get hpc:runs results/ --only '*.log'
      a slash at the end: into that directory, as results/runs""",
    )
    parser.add_argument("remote", metavar="HOST:PATH", help="a file or directory there")
    parser.add_argument("local", metavar="LOCAL", nargs="?", default=".", help="its name here")
    add_transfer_options(parser)
    options.add_connection_options(parser)
    options.add_output_options(parser)


def transfer_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of ``put`` and ``get`` as the library takes them."""
    from ..transfer.options import Options

    names = ("only", "exclude", "merge", "update", "resume", "preserve", "verify",
             "follow_symlinks", "method")  # fmt: skip
    found = {name: getattr(args, name) for name in names}
    Options(**found)  # refuses what does not fit before anybody logs in
    return found


def run_put(args: argparse.Namespace, ui: Ui) -> int:
    """Copy to the host."""
    args.host, path = split_remote(args.remote)
    ui.goes_on = f"what was at {args.remote} before is unchanged"
    if not args.local or not os.path.exists(args.local):
        raise options.WrongUse(f"there is no {args.local!r} here.")
    moving = transfer_options(args)
    with options.connection(args) as host, Progress(ui, f"to {args.remote}") as progress:
        try:
            moved = host.put(args.local, path, progress=progress, **moving)
        except OSError as error:
            raise with_hint(error, path) from error
    tell_transfer(ui, moved, args.local, args.remote, args.host)
    return options.WELL


def run_get(args: argparse.Namespace, ui: Ui) -> int:
    """Copy from the host."""
    args.host, path = split_remote(args.remote)
    local = args.local
    if os.path.basename(local) in (".", ".."):
        local += "/"
    nameless = path.rstrip("/").rpartition("/")[2] in ("~", "", ".", "..")
    if nameless and local.endswith("/"):
        raise options.WrongUse(f"{args.remote!r} has no name of its own: give LOCAL a name.")
    ui.goes_on = f"what was at {args.local} before is unchanged"
    moving = transfer_options(args)
    with options.connection(args) as host, Progress(ui, f"from {args.remote}") as progress:
        try:
            moved = host.get(path, local, progress=progress, **moving)
        except OSError as error:
            raise with_hint(error, args.local) from error
    tell_transfer(ui, moved, args.remote, args.local, args.host)
    return options.WELL


def with_hint(error: OSError, target: str) -> Exception:
    """The same failure with the option that would have helped."""
    from ..errors import RemoteOSError

    if isinstance(error, FileExistsError):
        hint = f"Add --merge to put the files into it, or name another target than {target!r}."
    elif isinstance(error, IsADirectoryError):
        hint = f"End the target with a slash to put it inside: {target.rstrip('/') + '/'!r}."
    else:
        return error
    if isinstance(error, RemoteOSError):
        error.advice = hint
        return error
    return options.WrongUse(f"{target!r} exists on this machine. {hint}")


def tell_transfer(ui: Ui, moved: TransferResult, source: str, target: str, host: str) -> None:
    if ui.json:
        ui.data(
            {
                "host": host,
                "source": source,
                "target": target,
                "files": moved.files,
                "bytes": moved.bytes,
                "skipped": moved.skipped,
                "elapsed": round(moved.elapsed, 6),
            }
        )
        return
    left_out = f" ({moved.skipped} left out or there already)" if moved.skipped else ""
    ui.say(
        f"{source} -> {target}: {count(moved.files, 'file')}{left_out}, {size(moved.bytes)} "
        f"in {moved.elapsed:.1f} s"
    )

"""What ``put``, ``get`` and ``fetch`` share: options, the question above the limit, the end."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from ..errors import OpenSSHJobsError
from . import pager
from .exit_codes import UsageError
from .output import count, printable, size, terminal_width, wrapped
from .progress import Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from ..transfer.options import TransferResult
    from ..transfer.plan import PlannedFile, TransferPlan
    from .output import Output

_OPTIONS = (
    *("only", "exclude", "merge", "update", "delete", "dry_run", "resume", "preserve", "verify"),
    *("follow_symlinks", "method"),
)
_GRACE = 10.0
"""Seconds after Ctrl-C for a slow host to remove what had arrived of a file."""
_SHOWN = 12
"""Deletions that a person is shown before the question; ``--dry-run`` lists all."""


def add_options(parser: argparse.ArgumentParser, *, all_help: str = "") -> None:
    """The options of ``put``, ``get`` and ``fetch``."""
    group = parser.add_argument_group("files")
    group.add_argument(
        "--only", metavar="PATTERN", action="append", help="only names like this; may be repeated"
    )
    group.add_argument(
        "--exclude", metavar="PATTERN", action="append", help="no names like this; may be repeated"
    )
    group.add_argument("--merge", action="store_true", help="add to a directory that exists")
    group.add_argument(
        "--update",
        action="store_true",
        help="copy only what differs in size, or in time and content; with --verify in content",
    )
    group.add_argument(
        "--delete",
        action="store_true",
        help="with --update: in the end delete in the target what the source does not have",
    )
    group.add_argument(
        "-n", "--dry-run", action="store_true", help="list what would be copied and deleted"
    )
    group.add_argument(
        "--all",
        action="store_true",
        help="do not ask, however much it is (transfer_limit in servers.toml)" + all_help,
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="a single file: continue where the last attempt with --resume was interrupted",
    )
    group.add_argument(
        "--preserve", action="store_true", help="keep times and the exact permissions"
    )
    group.add_argument("--verify", action="store_true", help="compare sha256 on both sides")
    group.add_argument(
        "--follow-symlinks", action="store_true", help="copy what links point to, not the links"
    )
    group.add_argument(
        "--method", default="auto", metavar="auto|sftp|tar|rsync|scp", help="how to copy"
    )


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments for ``put`` and ``get`` of the library, checked before any login."""
    from ..transfer.options import Options

    if args.delete and not args.update:
        raise UsageError("--delete deletes what the source does not have: it needs --update.")
    found = {name: getattr(args, name) for name in _OPTIONS}
    Options(**found)  # raises ConfigurationError
    return found


class Mover:
    """One ``put``, ``get`` or ``fetch``: progress, the question, and what is said at the end.

    ``what`` stands before the progress, ``source`` and ``target`` in the summary, ``place`` is the
    target without its host.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        output: Output,
        *,
        what: str,
        source: str,
        target: str,
        place: str | None = None,
    ) -> None:
        self._args = args
        self._output = output
        self._source, self._target, self._place = source, target, place or target
        self._progress = Progress(output, what)
        self._begun = False
        self._is_several = self._is_file = False
        self._deletes: list[PlannedFile] = []
        output.if_interrupted = self._if_interrupted
        output.grace = _GRACE

    def run(self, move: Callable[..., TransferResult], **more: Any) -> TransferResult:
        """Call ``put``, ``get`` or ``fetch`` of the library, and report what it did."""
        try:
            with self._progress:
                moved = move(
                    progress=self._progress, approve=self._approve, **arguments(self._args), **more
                )
        except OSError as error:
            self._explain_part(error)
            raise with_advice(error, self._place) from error
        except Exception as error:
            self._explain_part(error)
            raise
        self._report(moved)
        return moved

    # ------------------------------------------------------------------ before

    def _approve(self, plan: TransferPlan) -> None:
        """Ask, above the limit or where something is deleted; raises ``UsageError`` to prevent."""
        from ..settings import transfer_limit

        self._deletes = list(plan.deletes)
        self._is_several, self._is_file = len(plan.sources) > 1, plan.is_file
        with self._progress.paused():
            limit = transfer_limit(self._args.host)
            amount = f"{count(plan.files, 'file')}, {size(plan.bytes)}"
            is_large = plan.bytes > limit
            questions = []
            if is_large:
                questions.append(f"copy {amount} from {self._source} (more than {size(limit)})")
            elif self._args.all:
                self._output.note(f"{self._source}: {amount}.")
            if self._deletes:
                self._show_deletes()
                questions.append(f"delete {_counted(self._deletes)} in {self._target}")
            if not questions or self._args.all:
                pass
            elif self._asks:
                if not confirmed(f"{' and '.join(questions)}?"):
                    raise UsageError(f"nothing was changed at {self._target}.")
            elif is_large:
                raise UsageError(
                    f"{self._source}: {amount} is more than {size(limit)}, the limit without a "
                    "person to ask. --all copies it; transfer_limit in servers.toml changes it."
                )
        self._begun = True

    @property
    def _asks(self) -> bool:
        return not self._args.batch and is_person_there()

    def _show_deletes(self) -> None:
        if self._output.json or self._output.quiet:
            return
        most = _SHOWN if self._asks and not self._args.all else len(self._deletes)
        for one in self._deletes[:most]:
            self._output.line(_line("delete", one))
        if most < len(self._deletes):
            self._output.line(f"and {len(self._deletes) - most} more, which --dry-run lists")

    # ------------------------------------------------------------------ after

    def _report(self, moved: TransferResult) -> None:
        output, plan = self._output, moved.plan
        if output.json:
            output.data(self._data(moved))
            return
        left_out = f" ({moved.skipped} left out or there already)" if moved.skipped else ""
        amount = f"{count(moved.files, 'file')}{left_out}, {size(moved.bytes)}"
        if plan is not None:
            lines = [printable(_line("copy", one)) for one in plan.moves]
            lines += [printable(_line("delete", one)) for one in plan.deletes]
            also = f", and delete {_counted(list(plan.deletes))}" if moved.deleted else ""
            if output.on_terminal and not output.quiet:
                said = f"would copy {amount}{also}; nothing was changed"
                lines += wrapped(printable(said), terminal_width())
            pager.show(lines, output)
            return
        deleted = f", {moved.deleted} deleted" if moved.deleted else ""
        output.say(f"{self._source} -> {self._target}: {amount}{deleted} in {moved.elapsed:.1f} s")

    def _data(self, moved: TransferResult) -> dict[str, Any]:
        found: dict[str, Any] = {
            "host": self._args.host,
            "source": self._source,
            "target": self._target,
            "files": moved.files,
            "bytes": moved.bytes,
            "skipped": moved.skipped,
            "deleted": moved.deleted,
            "elapsed": round(moved.elapsed, 6),
        }
        if moved.plan is not None:
            found["dry_run"] = True
            found["copies"] = _records(moved.plan.moves)
            found["deletes"] = _records(moved.plan.deletes)
        elif self._deletes:
            found["deletes"] = _records(self._deletes)
        return found

    # ------------------------------------------------------------------ in the middle

    def _kept(self) -> str:
        known = self._progress.known
        if known is None or not known.done:
            return "what arrived is kept"
        return f"{size(known.done)} of {size(known.total)} are kept"

    def _explain_part(self, error: BaseException) -> None:
        """Say in an error what is kept, and the command that goes on."""
        if getattr(error, "kept_part", None) is not None and isinstance(error, OpenSSHJobsError):
            go_on = again(self._args, "--resume")
            error.advice = f"Nothing was replaced; {self._kept()}. Go on with: {go_on}"

    def _if_interrupted(self) -> str:
        known = self._progress.known
        unchanged = f"what was at {self._target} before is unchanged"
        if known is None or not self._begun:
            return unchanged
        if self._args.resume:
            return f"{unchanged}, {self._kept()}; {again(self._args)} goes on"
        if self._is_file:
            return f"{unchanged}; {again(self._args, '--resume')} would keep what arrives"
        if self._args.update or self._is_several:
            return f"what had arrived whole stays; {again(self._args, '--update')} copies the rest"
        return f"{unchanged}; {again(self._args)} begins again"


def again(args: argparse.Namespace, option: str = "") -> str:
    """The command line that was typed, with one more option, to be typed next."""
    words = list(args.command_line)
    if option and option not in words:
        words.insert(words.index(args.command) + 1, option)
    return f"`{shlex.join(['openssh-jobs', *words])}`"


def named(sources: Sequence[str]) -> str:
    """The sources of a transfer in a few words."""
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


def _counted(found: list[PlannedFile]) -> str:
    files = sum(one.kind != "d" for one in found)
    directories = len(found) - files
    named = [count(files, "file")] if files else []
    if directories:
        named.append("1 directory" if directories == 1 else f"{directories} directories")
    return " and ".join(named)


def _line(word: str, one: PlannedFile) -> str:
    amount = size(one.size) if one.kind == "f" else ""
    slash = "/" if one.kind == "d" else ""
    return f"{word:<6}  {amount:>8}  {one.path}{slash}"


def _records(found: Iterable[PlannedFile]) -> list[dict[str, Any]]:
    kinds = {"f": "file", "d": "directory", "l": "link", "o": "other"}
    return [{"path": one.path, "kind": kinds[one.kind], "size": one.size} for one in found]


def with_advice(error: OSError, target: str) -> Exception:
    """The same failure, with the option that avoids it."""
    from ..errors import RemoteOSError

    if isinstance(error, FileExistsError):
        advice = f"Add --merge to put the files into it, or name another target than {target!r}."
    elif isinstance(error, IsADirectoryError):
        advice = f"End the target with a slash to put it inside: {target.rstrip('/') + '/'!r}."
    else:
        return error
    if isinstance(error, RemoteOSError):
        error.advice = advice
        return error
    return UsageError(f"{target!r} exists on this machine. {advice}")


# --------------------------------------------------------------------------- the person


def is_person_there() -> bool:
    """Whether stdin and stderr are the terminal of this process, which is in the foreground."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def confirmed(question: str) -> bool:
    """Ask the person a question; no is what an empty line or the end of input means."""
    sys.stderr.write(printable(f"{question[0].upper()}{question[1:]} [y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

"""``submit``: submit a batch job."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import settings
from . import options
from .exit_codes import ExitCode, UsageError
from .output import Output, count, duration, size, terminal_width, wrapped
from .progress import Progress

if TYPE_CHECKING:
    import argparse

    from ..cluster.cluster import Cluster
    from ..cluster.job import Job
    from ..cluster.submission import DryRun

# Options whose names and values are those of Cluster.submit, and their help.
_TEXT_OPTIONS = (
    ("name", "name of the job"),
    ("queue", "queue (Slurm: partition)"),
    ("account", "account that pays"),
    ("time-limit", "HH:MM:SS or D-HH:MM:SS"),
    ("memory", "for each node, with a unit such as 8G (powers of 1024)"),
    ("nodes", "number of nodes"),
    ("gpus", "for each node"),
    ("array", "indices of an array, such as 1-20"),
    ("qos", "quality of service"),
    ("reservation", "name of a reservation"),
    ("constraint", "features that the nodes must have"),
    ("stdout-path", "file for the output, on the host"),
    ("stderr-path", "file for the errors, on the host"),
    ("mail", "address for a message when the job ends or fails"),
)
_SAME_AS_IN_SUBMIT = (
    *(name.replace("-", "_") for name, _ in _TEXT_OPTIONS),
    *("cpus", "hold", "token", "after_ok", "after_any", "after_failed"),
)
_OWN_NAMES = {
    "--dependency": "--after-ok, --after-any or --after-failed here",
    "-J": "--name here, and --jump for a jump host",
    "-p": "--queue here, and --port for a port",
    "-o": "--stdout-path here, and --ssh-option for an option of ssh",
    "-l": "--user for a login name",
    "-t": "--time-limit here",
    "-A": "--account here",
    "-N": "--nodes or --name here",
    "-c": "--cpus here",
}
"""What options of submit commands, and those of ssh that mean something else there, are here."""
_LONGEST_COMMAND = 20
"""Lines of a command that --dry-run prints for a person."""
_RECORD_EXIT: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``submit`` to the command line."""
    parser = options.add_command(
        subparsers,
        "submit",
        summary,
        run,
        usage="[options] HOST DIRECTORY --script FILE [-- WORD...]\n"
        "       openssh-jobs submit [options] HOST [DIRECTORY] --again JOB [-- WORD...]",
        examples="""\
  openssh-jobs submit hpc runs/relax-7 --upload --script relax.sh --time-limit 2:00:00
      copies runs/relax-7 of this machine to runs/relax-7 there, and submits its relax.sh
  openssh-jobs submit hpc runs/relax-7 --upload inputs --script relax.sh
      the same with the local directory inputs
  openssh-jobs submit hpc runs/freq --script freq.sh --after-ok 4711
      the local file freq.sh; runs/freq is made if it is missing
  openssh-jobs submit hpc runs/freq --remote-script ../relax-7/relax.sh
      a script on the host
  openssh-jobs submit hpc runs/t300 --script md.sh --argument 300 --argument=-v
      runs md.sh with two arguments
  openssh-jobs submit hpc --again 4711 --time-limit 8:00:00
      script and options of job 4711 by the journal of this machine, with more time
  openssh-jobs submit hpc runs/freq --script freq.sh -- --partition gpu -t 60
      what follows -- goes to the scheduler as it is: to sbatch 60 are minutes
  echo 'hostname; date' | openssh-jobs submit hpc runs/try --script -
  openssh-jobs submit hpc runs/freq --script freq.sh --cpus 4 --dry-run
      shows the command and the script, and submits nothing

In a pipe only the job's id is printed.""",
    )
    parser.other_name = _own_name
    parser.add_argument("host", metavar="HOST")
    parser.add_argument(
        "directory",
        metavar="DIRECTORY",
        nargs="?",
        help="on the host, relative to the home directory (with --again: that of JOB)",
    )
    _add_script_options(parser)
    _add_resource_options(parser)
    options.add_scheduler_options(parser, short=False)


def _own_name(option: str, value: str | None) -> str | None:
    """What an option of a submit command is called here, and how it is given unchanged."""
    from ..schedulers.slurm.words import SBATCH  # after a mistake only

    if not option.startswith("--") and len(option) > 2:
        option, value = option[:2], option[2:]
    shown = shlex.join([option] if value is None else [option, value])
    own = _OWN_NAMES.get(option)
    name = SBATCH.means.get(option) if own is None and option.startswith("--") else None
    if name is not None:
        own = f"--{name.replace('_', '-')} here"
    as_it_is = f"as the scheduler reads it, put it after --: `-- {shown}`"
    if own is not None:
        return f"it is {own}; {as_it_is}"
    known = option in SBATCH.values | SBATCH.flags | SBATCH.optional
    return f"for the scheduler, {as_it_is.partition(', ')[2]}" if known else None


def _add_script_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the script (one of the three is required), and files")
    group.add_argument(
        "--script", metavar="FILE", help="script: in the uploaded directory, or here; - for stdin"
    )
    group.add_argument(
        "--remote-script", metavar="PATH", help="script on the host, relative to DIRECTORY"
    )
    group.add_argument(
        "--again",
        metavar="JOB",
        help="a job submitted from this machine: its script and options, but for those given here",
    )
    group.add_argument(
        "--upload",
        metavar="LOCAL",
        nargs="?",
        const="",
        help="local directory that becomes DIRECTORY (without LOCAL: the one of the same path)",
    )


def _add_resource_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resources and order")
    for name, text in _TEXT_OPTIONS:
        group.add_argument(f"--{name}", metavar=name.upper(), help=text)
    group.add_argument("--cpus", type=options.whole_number, metavar="N", help="cores for each node")
    group.add_argument("--hold", action="store_true", help="do not start before it is released")
    for name, text in (("ok", "completed"), ("any", "ended"), ("failed", "failed")):
        group.add_argument(
            f"--after-{name}", metavar="JOB", action="append", help=f"start when JOB {text}"
        )
    group.add_argument(
        "--argument",
        metavar="WORD",
        action="append",
        default=[],
        help="an argument of the script; may be repeated",
    )
    group.add_argument(
        "--option",
        metavar="WORD",
        action="append",
        default=[],
        help="a word for the scheduler, unchanged; may be repeated (the same as after --)",
    )
    group.add_argument(
        "--env",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="environment variable of the job, kept private; may be repeated",
    )
    group.add_argument(
        "--token", metavar="TEXT", help="submitting with the same token again gives the same job"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="show the script and the command, and send nothing"
    )
    group.add_argument(
        "--record-exit",
        choices=tuple(_RECORD_EXIT),
        help="the job itself writes down how it ended (auto: if the host has no accounting)",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Submit one job."""
    if args.directory is None and (args.again is None or args.upload == ""):
        raise UsageError("openssh-jobs submit: name the job's DIRECTORY on the host.")
    if args.upload == "":
        args.upload = args.directory
    if args.upload is not None and not os.path.isdir(args.upload):
        raise UsageError(f"there is no directory {args.upload!r} on this machine to upload.")
    env = _environment(args)
    script = _which_script(args)
    status = options.advised_command(args, "status", args.host)
    if not args.dry_run:
        output.if_interrupted = f"if the job was submitted already, `{status}` lists it"
    with options.cluster(args) as cluster:
        what = f"{'asking' if args.dry_run else 'submitting to'} {args.host}"
        if args.upload is not None and not args.dry_run:
            what = f"uploading {args.upload}  {_contents(args.upload)}"
        with Progress(output, what):
            try:
                job = cluster.submit(
                    dry_run=args.dry_run,
                    directory=args.directory,
                    upload=args.upload,
                    arguments=args.argument,
                    options=[*args.option, *(args.after_dashes or ())],
                    env=env,
                    record_exit=_RECORD_EXIT.get(args.record_exit),
                    **script,
                    **{name: getattr(args, name) for name in _SAME_AS_IN_SUBMIT},
                )
            except Exception as error:
                _add_advice(error, args, cluster)
                raise
        if args.dry_run:
            _show(job, output)
        else:
            _report(job, args, output, cluster)
    return ExitCode.OK


def _environment(args: argparse.Namespace) -> dict[str, str]:
    env = {}
    for text in args.env:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"openssh-jobs submit: --env must be KEY=VALUE; {text!r} was given.")
        env[key] = value
    return env


def _which_script(args: argparse.Namespace) -> dict[str, Any]:
    """The script as ``Cluster.submit`` takes it; a local one must exist."""
    given = [text for text in (args.script, args.remote_script, args.again) if text is not None]
    if len(given) != 1:
        raise UsageError(
            "openssh-jobs submit: name the batch script with --script FILE (here) or "
            "--remote-script PATH (on the host), or a job with --again JOB."
        )
    if args.again is not None:
        return {"again": args.again}
    if args.remote_script is not None:
        return {"script": args.remote_script}
    if args.script == "-":
        return {"script_text": sys.stdin.read()}
    if args.upload is not None and os.path.isfile(os.path.join(args.upload, args.script)):
        return {"script": args.script}
    if os.path.isfile(args.script):
        return {"script_file": args.script}
    if os.path.isdir(args.script):
        raise UsageError(f"the script {args.script!r} is a directory.")
    where = "here" if args.upload is None else f"in {args.upload!r} or here"
    raise UsageError(
        f"there is no script {args.script!r} {where}; name one that lies on {args.host} with "
        "--remote-script."
    )


def _report(job: Job, args: argparse.Namespace, output: Output, cluster: Cluster) -> None:
    from ..cluster.host_jobs import Understood

    understood = job.understood or Understood(None, None)
    if output.json:
        output.data(
            {
                "host": args.host,
                "job_id": job.id,
                "name": job.name,
                "directory": job.directory,
                "token": job.token,
                "scheduler": cluster.scheduler,
                "queue": understood.queue,
                "time_limit": understood.time_limit,
            }
        )
    elif output.on_terminal and not output.quiet:
        queue = f", queue {understood.queue}" if understood.queue else ""
        limit = f", time limit {duration(understood.time_limit)}" if understood.time_limit else ""
        said = f"submitted {job.id} ({job.name}) to {args.host}{queue}{limit}"
        for line in wrapped(said, terminal_width()):
            output.line(line)
    else:
        output.line(job.id)


def _show(found: DryRun, output: Output) -> None:
    """What would be sent."""
    if output.json:
        output.data(asdict(found))
        return
    output.line(f"# on {found.host} ({found.scheduler}), in {found.directory}")
    if found.upload is not None:
        output.line(f"# which {found.upload} becomes")
    for name in found.env:
        output.line(f"# with {name} in its environment")
    command = found.command.splitlines()
    if len(command) > _LONGEST_COMMAND:  # direct has no program of its own: this is a part of ours
        command = [f"# by {len(command)} lines of shell, which --json prints"]
    for line in command:
        output.line(line.expandtabs())
    how = ", in a launcher that records its end" if found.record_exit else ""
    output.line(f"# the script {found.name}{how}:")
    for line in found.script.splitlines():
        output.line(line.expandtabs())


def _contents(directory: str) -> str:
    files = total = 0
    for top, _, names in os.walk(directory):
        files += len(names)
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                pass  # it has just been removed; the upload reports what matters
    return f"{count(files, 'file')}  {size(total)}"


def _add_advice(error: Exception, args: argparse.Namespace, cluster: Cluster) -> None:
    """Add what a user would ask next: which queues exist, how to add to a directory."""
    from ..cluster.journal_view import queue_names
    from ..errors import OpenSSHJobsError, RemoteOSError, SubmitRejected

    if isinstance(error, FileExistsError) and isinstance(error, RemoteOSError):
        error.advice = (
            "Name another DIRECTORY, or leave --upload out to use what is there "
            "(`openssh-jobs put --merge` adds files to it)."
        )
    elif isinstance(error, SubmitRejected) and error.advice is None:
        reason = error.message.lower()
        if "partition" in reason or "queue" in reason:
            try:
                names = [queue.name for queue in cluster.queues()]
            except OpenSSHJobsError:  # the refusal is what counts
                names = queue_names(cluster.journal, cluster.host)
            if names:
                scheduler = cluster.internal.client.scheduler()
                words = [*args.option, *(args.after_dashes or ())]
                asked = scheduler.understood(words).get("queue") or args.queue
                asked = asked or settings.value(cluster.connection.host, "queue") or ""
                close = options.close_names(asked, names)
                meant = f" Did you mean {close[0]}?" if close and asked not in names else ""
                error.advice = f"Queues there: {', '.join(names)}.{meant}"

"""``submit``: one batch job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import options
from .output import count, size
from .progress import Progress

if TYPE_CHECKING:
    import argparse

    from ..cluster.cluster import Cluster, Job
    from .output import Ui

_TAKEN_OVER = (
    "name",
    "array",
    "hold",
    "queue",
    "account",
    "time_limit",
    "nodes",
    "cpus",
    "memory",
    "gpus",
    "token",
)


_RECORD_EXIT: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}


def add_commands(commands: Any) -> None:
    """Add ``submit`` to the command line."""
    parser = options.add_command(
        commands,
        "submit",
        run_submit,
        "submit a batch job",
        usage="[options] HOST DIRECTORY --script FILE",
        examples="""\
  openssh-jobs submit hpc runs/relax-7 --upload --script relax.sh --time-limit 2:00:00
      copies runs/relax-7 of this machine to runs/relax-7 there, and submits its relax.sh
  openssh-jobs submit hpc runs/relax-7 --upload inputs --script relax.sh
      the same with the local directory inputs
  openssh-jobs submit hpc runs/freq --script freq.sh --after-ok 4711
      the local file freq.sh; runs/freq is made if it is missing
  openssh-jobs submit hpc runs/freq --remote-script ../relax-7/relax.sh
      a script that lies on the host
  echo 'hostname; date' | openssh-jobs submit hpc runs/try --script -

Where a program reads, only the job's id is printed.""",
    )
    parser.add_argument("host", metavar="HOST")
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="on the host, relative to the home directory"
    )
    group = parser.add_argument_group("what to run (one of the two is needed)")
    group.add_argument(
        "--script", metavar="FILE", help="script: in the uploaded directory, or here; - for stdin"
    )
    group.add_argument(
        "--remote-script", metavar="PATH", help="script on the host, relative to DIRECTORY"
    )
    group.add_argument(
        "--upload",
        metavar="LOCAL",
        nargs="?",
        const="",
        help="local directory that becomes DIRECTORY (without LOCAL: of the same path)",
    )
    group = parser.add_argument_group("resources and order")
    for name, what in (
        ("name", "name of the job"),
        ("queue", "queue (Slurm: partition)"),
        ("account", "account that pays"),
        ("time-limit", "as the scheduler writes it, such as 2:00:00"),
        ("memory", "for each node, as the scheduler writes it, such as 8G"),
        ("nodes", "number of nodes"),
        ("gpus", "for each node"),
        ("array", "indices of an array, such as 1-20"),
    ):
        group.add_argument(f"--{name}", metavar=name.upper(), help=what)
    group.add_argument("--cpus", type=int, metavar="N", help="cores for each node")
    group.add_argument("--hold", action="store_true", help="do not start before it is released")
    for name, what in (("ok", "went well"), ("any", "ended"), ("failed", "failed")):
        group.add_argument(
            f"--after-{name}", metavar="JOB", action="append", help=f"start when JOB {what}"
        )
    group.add_argument(
        "--option", metavar="WORD", action="append", default=[], help="goes to the scheduler as is"
    )
    group.add_argument(
        "--env", metavar="KEY=VALUE", action="append", default=[], help="for the job; kept private"
    )
    group.add_argument(
        "--token", metavar="TEXT", help="the same token again is the same job, not a second one"
    )
    group.add_argument(
        "--record-exit",
        choices=tuple(_RECORD_EXIT),
        help="the job writes down itself how it ended (auto: where the host keeps no accounting)",
    )
    options.add_scheduler_options(parser)


def _which_script(args: argparse.Namespace) -> dict[str, Any]:
    """The script as ``Cluster.submit`` takes it; checked here as far as it lies here."""
    if (args.script is None) == (args.remote_script is None):
        raise options.WrongUse(
            "openssh-jobs submit: name the batch script with --script FILE (here) or "
            "--remote-script PATH (on the host)."
        )
    if args.remote_script is not None:
        return {"script": args.remote_script}
    if args.script == "-":
        return {"script_text": sys.stdin.read()}
    if args.upload is not None and os.path.isfile(os.path.join(args.upload, args.script)):
        return {"script": args.script}
    if os.path.isfile(args.script):
        return {"script_file": args.script}
    if os.path.isdir(args.script):
        raise options.WrongUse(f"the script {args.script!r} is a directory.")
    where = "here" if args.upload is None else f"in {args.upload!r} nor here"
    raise options.WrongUse(
        f"there is no script {args.script!r} {where}; one that lies on {args.host} is named with "
        "--remote-script."
    )


def run_submit(args: argparse.Namespace, ui: Ui) -> int:
    """Submit one job."""
    if args.upload == "":
        args.upload = args.directory
    if args.upload is not None and not os.path.isdir(args.upload):
        raise options.WrongUse(f"there is no directory {args.upload!r} here to upload.")
    env = {}
    for text in args.env:
        key, separator, value = text.partition("=")
        if not separator:
            raise options.WrongUse(f"openssh-jobs submit: --env wants KEY=VALUE, not {text!r}.")
        env[key] = value
    wanted = {name: getattr(args, name) for name in _TAKEN_OVER} | _which_script(args)
    ui.goes_on = (
        f"if the job was submitted already, it is in `{options.again(args, 'status', args.host)}`"
    )
    with options.cluster(args) as cluster:
        what = f"submitting to {args.host}"
        if args.upload is not None:
            what = f"uploading {args.upload}  {_contents(args.upload)}"
        with Progress(ui, what):
            try:
                job = cluster.submit(
                    directory=args.directory,
                    upload=args.upload,
                    after_ok=args.after_ok,
                    after_any=args.after_any,
                    after_failed=args.after_failed,
                    options=args.option,
                    env=env,
                    record_exit=_RECORD_EXIT.get(args.record_exit),
                    **wanted,
                )
            except Exception as error:
                _say_more(error, args, cluster)
                raise
        _tell_submitted(job, args, ui, cluster)
    return options.WELL


def _tell_submitted(job: Job, args: argparse.Namespace, ui: Ui, cluster: Cluster) -> None:
    if ui.json:
        ui.data(
            {
                "host": args.host,
                "job_id": job.id,
                "name": job.name,
                "directory": job.directory,
                "token": job.token,
                "scheduler": cluster.scheduler,
            }
        )
    elif ui.on_terminal and not ui.quiet:
        queue = f", queue {args.queue}" if args.queue else ""
        ui.line(f"submitted {job.id} ({job.name}) to {args.host}{queue}")
    else:
        ui.line(job.id)


def _contents(directory: str) -> str:
    files = total = 0
    for top, _, names in os.walk(directory):
        files += len(names)
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                pass  # it has just gone; the upload will say what matters
    return f"{count(files, 'file')}  {size(total)}"


def _say_more(error: Exception, args: argparse.Namespace, cluster: Cluster) -> None:
    """What a user would ask next: which queues there are, how to add to a directory."""
    from ..errors import OpenSSHJobsError, RemoteOSError, SubmitRejected

    if isinstance(error, FileExistsError) and isinstance(error, RemoteOSError):
        error.advice = (
            "Name another DIRECTORY, or leave --upload out if what is there is to be used "
            "(`openssh-jobs put --merge` adds files to it)."
        )
    elif isinstance(error, SubmitRejected) and args.queue and error.advice is None:
        said = error.message.lower()
        if "partition" in said or "queue" in said:
            try:
                names = [queue.name for queue in cluster.queues()]
            except OpenSSHJobsError:
                return  # the refusal is what counts
            if names:
                error.advice = f"Queues there: {', '.join(names)}."

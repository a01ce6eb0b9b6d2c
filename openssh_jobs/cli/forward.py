"""``forward``: ports of a host or of a job's node on this machine, while the command runs."""

from __future__ import annotations

import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from . import options
from .exit_codes import ExitCode, UsageError
from .output import error_sentence

if TYPE_CHECKING:
    import argparse

    from ..cluster.cluster import Cluster
    from ..connection import Connection
    from ..transport.forwards import Forward
    from .output import Output

_ADDRESS = r"(?:\[[^\]\s]+\]|[^:\s\[\]]+(?:\[[0-9]+\])?)"
_SPEC = re.compile(
    rf"(?:(?P<bind>{_ADDRESS}|\*):(?=\d+:{_ADDRESS}:\d+\Z))?"
    rf"(?:(?P<listen>\d+):)?(?:(?P<host>{_ADDRESS}):)?(?P<port>\d+)\Z"
)


_JOB = re.compile(r"[0-9]+(?:[_.][0-9]+|\[[0-9]+\])?")
"""A job of any scheduler, an element of an array; no host has such a name, and no address."""
_RUNS = ("running", "completing")
_LOOK_EVERY = 2.0
"""Seconds between two looks at the forwards and the jobs; polls keep their own interval."""
_RETRY_EVERY, _SLOWEST_RETRY = 5.0, 60.0


class ForwardSpec(NamedTuple):
    """Listen on ``bind:listen`` (``None``: any free port) and lead to ``host:port``.

    ``job``: the host is the first node of this job.
    """

    bind: str
    listen: int | None
    host: str
    port: int
    job: str | None = None


def parse_spec(text: str, *, remote: bool = False) -> ForwardSpec:
    """``[[BIND:]PORT:][HOST|JOB:]PORT``, as with ``ssh -L`` or shorter.  Raises ``UsageError``.

    Two numbers are a job and a port of its node; with ``remote`` the port there and the one here.
    """
    found = _SPEC.match(text)
    if found is None or any(
        int(found[name] or 1) not in range(1, 65536)
        for name in ("listen", "port")
        if found["host"] or remote or name == "port"
    ):
        raise UsageError(
            "openssh-jobs forward: the ports must be 8888:node01:8888 (port here, host and port "
            "there), 8888:localhost:80, 8888, or 4711:8888 (a job and a port of its node); "
            f"{text!r} was given."
        )
    listen, host, port = found["listen"], found["host"], int(found["port"])
    job = None
    if not remote and host is None and listen is not None:
        job, listen = listen, None
    elif not remote and host is not None and _JOB.fullmatch(host):
        job, host = host, None
    if listen is None and (host is None or job is not None):
        listen = found["port"]  # the same number here
    return ForwardSpec(
        bind=(found["bind"] or "127.0.0.1").strip("[]"),
        listen=None if listen is None else int(listen),
        host=(host or "localhost").strip("[]"),
        port=port,
        job=job,
    )


def add_command(subparsers: Any, summary: str) -> None:
    """Add ``forward`` to the command line."""
    parser = options.add_command(
        subparsers,
        "forward",
        summary,
        run,
        usage="[options] HOST [JOB:]PORT ...",
        examples="""\
  openssh-jobs forward hpc 4711:8888
      a notebook on the node of job 4711, as port 8888 here: waits for the job to
      start, goes on after a lost connection, ends with the job
  openssh-jobs forward hpc 9000:4711:8888          the same as port 9000 here
  openssh-jobs forward hpc 8888                    port 8888 of the login node
  openssh-jobs forward hpc 8888:node01:8888        port 8888 of a node
  openssh-jobs forward hpc node01:8888             any free port here
  openssh-jobs forward hpc -R 9000:localhost:9000  a port there that leads here

The node must be reached from HOST: a notebook has to listen on its node's own
address (jupyter: --ip 0.0.0.0), not only on localhost.""",
    )
    parser.add_argument("host", metavar="HOST", help="any name that ssh takes")
    parser.add_argument(
        "specs",
        metavar="PORT:NODE:PORT",
        nargs="+",
        help="port here, and job or host and port as HOST sees them; without the first: a free "
        "one, for a job the same number",
    )
    parser.add_argument(
        "-R", "--remote", action="store_true", help="the other way: listen there, lead here"
    )
    options.add_scheduler_options(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Forward until Ctrl-C, or until the jobs are over; goes on after a lost connection."""
    specs = [parse_spec(text, remote=args.remote) for text in args.specs]
    options.require_ssh(args.host)
    ids = list(dict.fromkeys(spec.job for spec in specs if spec.job is not None))
    from ..connection import Connection

    with options.cluster(args) as cluster:
        connection = cluster.connection
        assert isinstance(connection, Connection)
        jobs = _Jobs(cluster, ids, args.host, output)
        if not jobs.started():
            return ExitCode.FAILED
        opened: list[Forward] = []
        with ExitStack() as stack:
            try:
                specs = [jobs.placed(spec) for spec in specs]
                opened = _open_all(connection, specs, args.remote, stack)
                _report(opened, args, output)
                while not jobs.are_over():
                    time.sleep(_LOOK_EVERY)
                    if not all(forward.alive for forward in opened):
                        # A port that was free at first stays the same.
                        specs = [_same_spec(forward, args.remote) for forward in opened]
                        stack.close()
                        opened = _open_again(connection, specs, args, stack, output)
            except KeyboardInterrupt:
                if not opened:
                    raise
            stack.close()
            if not output.quiet and not output.json:
                output.note(f"{args.host}: no longer forwarded.")
    return ExitCode.OK


class _Jobs:
    """The jobs to whose nodes ports lead; none, or all that were named."""

    def __init__(self, cluster: Cluster, ids: list[str], host: str, output: Output) -> None:
        self._jobs = {job_id: cluster.job(job_id) for job_id in ids}
        self._host = host
        self._output = output

    def started(self) -> bool:
        """Wait until all of them run; false if one of them is over."""
        said: dict[str, str] = {}
        for job_id, job in self._jobs.items():
            while (status := job.status()).state not in _RUNS:
                if status.is_final:
                    self._output.note(f"{self._host}: job {job_id} is over: {status.state}.")
                    return False
                text = f"{status.state}{f' ({status.reason})' if status.reason else ''}"
                if said.get(job_id) != text:
                    said[job_id] = text
                    self._output.note(f"{self._host}: job {job_id}: {text}; waiting for its start.")
                time.sleep(_LOOK_EVERY)
        return True

    def placed(self, spec: ForwardSpec) -> ForwardSpec:
        """Where the port of a job is; without nodes (scheduler ``direct``) the host itself."""
        if spec.job is None:
            return spec
        nodes = self._jobs[spec.job].status().nodes
        return spec._replace(host=nodes[0] if nodes else "localhost")

    def are_over(self) -> bool:
        """Whether all of them have ended, as far as the host can be asked."""
        over = [job for job in self._jobs.values() if job.status().is_final]
        if not over or len(over) < len(self._jobs):
            return False
        for job in over:
            self._output.note(f"{self._host}: job {job.id} is over: {job.last.state}.")
        return True


def _open_again(
    connection: Connection,
    specs: list[ForwardSpec],
    args: argparse.Namespace,
    stack: ExitStack,
    output: Output,
) -> list[Forward]:
    """Forward again as soon as the host can be reached, however long that takes."""
    from ..errors import ConnectError, ConnectionLost

    output.note(f"{args.host}: the connection was lost; forwarding again.")
    said, rest = "", _RETRY_EVERY
    while True:
        try:
            return _open_all(connection, specs, args.remote, stack)
        except (ConnectError, ConnectionLost) as error:
            stack.close()
            if (sentence := error_sentence(error)) != said:
                said = sentence
                output.note(f"{sentence} Trying again.")
        time.sleep(rest)
        rest = min(2 * rest, _SLOWEST_RETRY)


def _open_all(
    connection: Connection, specs: list[ForwardSpec], remote: bool, stack: ExitStack
) -> list[Forward]:
    opened = []
    for spec in specs:
        if remote:
            forward = connection.forward_remote(
                spec.listen or 0, spec.port, remote_host=spec.bind, local_host=spec.host
            )
        else:
            forward = connection.forward_local(
                spec.port, spec.listen, remote_host=spec.host, local_host=spec.bind
            )
        opened.append(stack.enter_context(forward))
    return opened


def _same_spec(forward: Forward, remote: bool) -> ForwardSpec:
    here = (forward.local_host, forward.local_port)
    there = (forward.remote_host, forward.remote_port)
    listen, lead = (there, here) if remote else (here, there)
    return ForwardSpec(listen[0], listen[1], lead[0], lead[1])


def _report(opened: list[Forward], args: argparse.Namespace, output: Output) -> None:
    if output.json:
        output.data(
            {
                "host": args.host,
                "forwards": [
                    {
                        "local_host": forward.local_host,
                        "local_port": forward.local_port,
                        "remote_host": forward.remote_host,
                        "remote_port": forward.remote_port,
                        "listens": "remote" if args.remote else "local",
                    }
                    for forward in opened
                ],
            }
        )
    else:
        for forward in opened:
            here = _address(forward.local_host, forward.local_port)
            there = _address(forward.remote_host, forward.remote_port)
            if args.remote:
                output.line(f"{there} on {args.host} leads to {here} here")
            else:
                output.line(f"{here} leads to {there} as {args.host} sees it")
        if not output.quiet:
            output.note("Ctrl-C ends it.")
    sys.stdout.flush()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

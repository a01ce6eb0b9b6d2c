"""A site's own listings: with their usual header, without, or as filters left them.  No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from datetime import tzinfo

from .. import parser
from ..errors import SchedulerError
from ..jobs import JobId, Node, Snapshot
from ..schedulers.answer import Answer
from ..schedulers.base import Scheduler
from ..schedulers.framing import read_frame
from ..schedulers.site_commands import Custom

SILENT_WHEN_EMPTY = ("sge", "pbs", "torque", "htcondor", "lsf", "direct")
"""Their listings of no jobs are empty."""
ID = re.compile(r"[0-9]+[\w.\[\]+-]*\Z")
# The usual headers: squeue(1) without options, Grid Engine's qstat(1), qstat(1) of PBS.
_HEADERS = {
    "slurm": "             JOBID PARTITION     NAME     USER ST       TIME  NODES "
    "NODELIST(REASON)\n",
    "sge": "job-ID  prior   name       user         state submit/start at     queue"
    "                          slots ja-task-ID\n" + "-" * 113 + "\n",
    "pbs": "Job id            Name             User              Time Use S Queue\n"
    "----------------  ---------------- ----------------  -------- - -----\n",
}
_HEADERS["torque"] = _HEADERS["pbs"]
_PBS_ROW = ("{0:<17} a1               me                00:00:01 {1} workq",
            re.compile(r"[BCEFHMQRSTUWX]\Z"))  # fmt: skip
# A row of that form, with the id and the state to fill in, and what is a state there.
_ROWS = {
    "slurm": (
        "{0:>18}    normal       a1       me {1:>2}       0:00      1 n1",
        re.compile(r"(BF|CA|CD|CF|CG|DL|F|NF|OOM|PD|PR|R|RD|RF|RH|RQ|RS|RV|SE|SI|SO|ST|S|TO)\Z"),
    ),
    "sge": (
        " {0:>6} 0.50000 a1         me           {1:<5} 01/01/2000 00:00:00 q@n1"
        "                              1",
        re.compile(r"(?=[A-Za-z]{1,5}\Z)(h?q?w|[RhE]*(qw|r|t|s|S|T|N)+|d[rts]|Eh?qw|e)\Z"),
    ),
    "pbs": _PBS_ROW,
    "torque": _PBS_ROW,
}


# A line of qstat -f: queue@node, kind, slots reserved/used/all, load, architecture, states.
_GRID_QUEUE = re.compile(
    r"^\S+@(\S+)[ \t]+[BIPCTN]+[ \t]+(?:([0-9]+)/)?([0-9]+)/([0-9]+)[ \t]+\S+[ \t]+\S+"
    r"[ \t]*(\S*)[ \t]*$",
    re.MULTILINE,
)


def listing_command(text: str) -> str:
    """The command that lists, without what a site sets up before it and the filters behind it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word in (";", "&&", "||"):
                words = []
            elif word == "|":
                break
            else:
                words.append(word)
    except ValueError:
        return text
    return shlex.join(words)


def read_listing(listing: str, scheduler: Scheduler, command: str | None) -> Snapshot:
    """By the command's own form, else by the usual header, else by the column of states.

    Raises ``SchedulerError`` for what none of them can read.
    """
    try:
        return parser.parse_status(listing, scheduler, command=command)
    except SchedulerError as error:
        if error.kind != "parse_error":
            raise
        for headed in (_with_header(listing, scheduler), _by_columns(listing, scheduler)):
            if headed is None:
                continue
            try:
                snapshot = parser.parse_status(headed, scheduler)
            except SchedulerError:
                continue
            odd = [line.split() for line in snapshot.unparsed if line.strip()]
            if snapshot.known and all(ID.match(words[0]) for words in odd):
                return snapshot
        raise


def _with_header(listing: str, scheduler: Scheduler) -> str | None:
    header = _HEADERS.get(scheduler.name)
    return None if header is None else header + listing


def _by_columns(listing: str, scheduler: Scheduler) -> str | None:
    """A listing of ids and states, rewritten in the usual form.

    ``None`` unless every line begins with an id and exactly one column holds states alone.
    """
    layout = _ROWS.get(scheduler.name)
    rows = [line.split() for line in listing.splitlines() if line.strip()]
    if layout is None or not all(ID.match(row[0]) for row in rows):
        return None
    template, states = layout
    width = min(map(len, rows))
    columns = [place for place in range(1, width) if all(states.match(row[place]) for row in rows)]
    if len(columns) != 1:
        return None
    lines = [template.format(words[0], words[columns[0]]) for words in rows]
    return _HEADERS[scheduler.name] + "\n".join(lines) + "\n"


def nodes_of_queues(listing: str) -> list[Node]:
    """The nodes in the lines of Grid Engine's ``qstat -f``."""
    nodes: dict[str, Node] = {}
    for name, reserved, used, slots, states in _GRID_QUEUE.findall(listing):
        taken = int(reserved or 0) + int(used)
        state = "down" if states else "idle" if taken == 0 else "mixed"
        if taken >= int(slots) and not states:
            state = "allocated"
        known = nodes.get(name)
        if known is None or _FREE.get(state, 0) > _FREE.get(str(known.state), 0):
            nodes[name] = Node(name=name, state=state)
    return list(nodes.values())


_FREE = {"idle": 2, "mixed": 1}


class ArcCommands(Custom):
    """A scheduler with a site's commands, as ARC's settings have them: filters behind them, too."""

    def parse_status(
        self,
        answer: Answer,
        *,
        requested: Iterable[str] | None = None,
        command: str | None = None,
        timezone: tzinfo | None = None,
    ) -> Snapshot:
        """As usual; a listing without header by its columns."""
        wanted = None if requested is None else list(requested)
        try:
            return super().parse_status(
                answer, requested=wanted, command=command, timezone=timezone
            )
        except SchedulerError as error:
            sections = read_frame(answer.stdout)
            if error.kind != "parse_error" or not sections or sections[0].name != "listing":
                raise
            if sections[0].returncode != 0:
                raise
            snapshot = read_listing(sections[0].text, self.base, None)
        if wanted is None:
            return snapshot
        return snapshot.select([str(JobId.parse(job_id)) for job_id in wanted], covered=True)

    def parse_nodes(self, answer: Answer) -> list[Node]:
        """As usual, and what ``qstat -f`` lists; nothing where a filter let nothing through."""
        if answer.returncode == 1 and not answer.stdout.strip() and not answer.stderr.strip():
            return []  # that is how grep says that no line is left
        try:
            return super().parse_nodes(answer)
        except SchedulerError:
            nodes = nodes_of_queues(answer.stdout) if self.base.name == "sge" else []
            if not nodes:
                raise
            return nodes

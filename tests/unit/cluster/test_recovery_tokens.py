"""A lost answer of qsub, condor_submit and bsub: their job is found, or submitted again once.

The host is this machine behind /bin/sh; its scheduler is some programs that print what those of
PBS, Torque, HTCondor and LSF print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.cluster import recovery
from openssh_jobs.cluster.journal import Journal, Row
from openssh_jobs.errors import SubmitUnknown
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.tokens import TokenAnswer
from tests.unit.cluster.fakes import Bench, LocalHost

SCRIPT = {"script_text": "#!/bin/sh\ntrue\n", "directory": "job"}
# Of each job, queue has a line with its number and what it is recognised by.
MAKE = 'n=$(($(wc -l <"$HOME/queue") + 7)); echo "$n $what" >>"$HOME/queue"\n'
EACH = 'while read -r n what; do\n{}\ndone <"$HOME/queue"\n'
NUMBERS = "sed 's/ .*//; s/$/.srv/' \"$HOME/queue\""
QSTAT_PBS = (
    "case $1 in -B) printf 'Server: srv\\n    job_history_enable = True\\n'; exit;; esac\n"
    + EACH.format('printf "Job Id: %s.srv%sSubmit_arguments=%s%s\\n" "$n" "$6" "$what" "${6}x=y"')
)
QSTAT_TORQUE = (
    "case $1 in -B) printf 'Server: srv\\n    keep_completed = 300\\n'; exit;;\n"
    "-Q) printf 'Queue: batch\\n'; exit;; esac\nprintf '<Data>'\n"
    + EACH.format(
        'printf "<Job><Job_Id>%s.srv</Job_Id><submit_args>%s</submit_args></Job>" "$n" "$what"'
    )
    + 'echo "</Data>"\n'
)
CONDOR_Q = (
    "case $* in *-totals*) echo '1 jobs; 0 completed'; exit;; esac\necho '['; comma=\n"
    + EACH.format(
        'case $3 in *"\\"$what\\""*) ;; *) continue;; esac\n'
        'printf "%s{\\"ClusterId\\": %s, \\"OpenSSHJobsToken\\": \\"%s\\"}" "$comma" "$n" "$what"\n'
        "comma=,"
    )
    + "echo ']'\n"
)
DESCRIBED = 'while [ "$1" != -Jd ]; do shift; done; what=$2\n'
TOKEN = 'for what; do case $what in +OpenSSHJobsToken*) break;; esac; done\n' \
    'what=${what#*\\"} what=${what%\\"}\n'  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A scheduler's programs.  ``says``: what the submit command prints of the job ``$n``."""

    submit: str
    parse: str
    says: str
    programs: dict[str, str]
    sources: tuple[str, ...]
    first: str
    carries: str = "{place}/job"


KINDS = {
    "pbs": Kind(
        "qsub", 'what="$*"\n', 'echo "$n.srv"', {"qstat": QSTAT_PBS, "qselect": NUMBERS},
        ("qstat", "qselect"), "7.srv",
    ),
    "torque": Kind(
        "qsub", 'what="$*"\n', 'echo "$n.srv"', {"qstat": QSTAT_TORQUE, "qselect": NUMBERS},
        ("qstat", "qselect"), "7.srv",
    ),
    "htcondor": Kind(
        "condor_submit", TOKEN, 'echo "1 job(s) submitted to cluster $n."',
        {"condor_q": CONDOR_Q, "condor_history": "echo '[ ]'"},
        ("condor_q", "condor_history"), "7", "{token}",
    ),
    "lsf": Kind(
        "bsub", DESCRIBED, 'echo "Job <$n> is submitted to queue <normal>."',
        {
            "lsid": "echo 'IBM Spectrum LSF Standard 10.1'",
            "bparams": "echo '    CLEAN_PERIOD = 3600'",
            "bjobs": "[ -s \"$HOME/queue\" ] || { echo 'No job found' >&2; exit 255; }\n"
            + EACH.format('echo "$n|$what"'),
        },
        ("bjobs",), "7", "openssh_jobs:{token}",
    ),
}  # fmt: skip


@dataclass
class Room:
    bench: Bench
    kind: Kind

    def programs(self, *, answers: bool = True) -> None:
        """All programs as they are where nothing fails, or with a submit command that is silent."""
        says = self.kind.says if answers else ":"
        self.bench.host.program(self.kind.submit, self.kind.parse + MAKE + says)
        for name, text in self.kind.programs.items():
            self.bench.host.program(name, text)

    def lost(self) -> Row:
        """A submission that made a job, and of which the host has no answer."""
        self.programs(answers=False)
        with pytest.raises(SubmitUnknown):
            self.bench.submit("t1", **SCRIPT)
        self.programs()
        (row,) = self.bench.journal.rows()
        return row

    def queue(self, *jobs: str) -> None:
        (self.bench.host.home / "queue").write_text("".join(f"{job}\n" for job in jobs))

    def carried(self, row: Row, token: str = "t1") -> str:
        place = str(row.place).replace("t1", token)
        return self.kind.carries.format(place=place, token=token)

    def finish(self) -> Any:
        (row,) = self.bench.journal.rows()
        return self.bench.recovery.finish([row])["t1"]


@pytest.fixture(params=KINDS)
def room(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(recovery, "_PAUSE", 0.01)
    scheduler = type(get(request.param))
    parse: Callable[..., TokenAnswer] = scheduler.parse_tokens

    def soon(self: Any, answer: Answer, requests: Sequence[SubmitRequest]) -> TokenAnswer:
        return replace(parse(self, answer, requests), settling=0.2)

    monkeypatch.setattr(scheduler, "parse_tokens", soon)
    journal = Journal(tmp_path / "journal")
    found = Room(Bench(LocalHost(home), journal, request.param), KINDS[request.param])
    found.queue()
    yield found
    journal.close()


def test_the_job_is_found_by_its_token(room: Room) -> None:
    room.lost()
    before = room.bench.host.jobs()
    assert room.finish().job_id == room.kind.first
    assert len(before) == 1
    assert room.bench.host.jobs() == before, "nothing was submitted again"


def test_without_a_job_it_is_submitted_again_once(room: Room) -> None:
    row = room.lost()
    (carried,) = room.bench.host.jobs()
    room.queue(f"3 {room.carried(row, 't12')}")
    outcome = room.finish()
    assert outcome.job_id == room.kind.first.replace("7", "8")
    assert room.bench.host.jobs() == [room.carried(row, "t12"), carried]
    assert room.bench.submit("t1", **SCRIPT).job_id == outcome.job_id
    assert len(room.bench.host.jobs()) == 2


def test_several_jobs_with_its_token_are_named(room: Room) -> None:
    row = room.lost()
    room.queue(f"8 {room.carried(row)}", f"9 {room.carried(row)}")
    error = room.finish()
    assert isinstance(error, SubmitUnknown)
    assert all(number in error.message for number in ("8", "9"))
    assert len(room.bench.host.jobs()) == 2


NO_ANSWERS = (
    "exit 1",
    "exit 0",
    "echo 'cannot connect to the server'; exit 0",
    "echo 'cannot connect to the server' >&2; exit 111",
    "echo 'Name   Id   User   Time Use S Queue'",
    "kill -9 $$",
)


@pytest.mark.parametrize(
    ("room", "text"),
    [
        # The short run has each kind and each text, the whole one all pairs.
        pytest.param(kind, text, marks=() if (i + j) % 5 == 0 else pytest.mark.long)
        for i, kind in enumerate(KINDS)
        for j, text in enumerate(NO_ANSWERS)
    ],
    indirect=["room"],
)
def test_a_source_that_does_not_answer_proves_nothing(room: Room, text: str) -> None:
    row = room.lost()
    for name in room.kind.sources:
        # The job is there, and this source does not show it.
        room.programs()
        if text == "exit 0" and name in ("qselect", "condor_history"):
            continue  # what they say of no job
        room.bench.host.program(name, text)
        error = room.finish()
        assert isinstance(error, SubmitUnknown), name
        assert len(room.bench.host.jobs()) == 1
    room.programs()
    assert room.finish().job_id == room.kind.first, "a later call goes on from there"
    assert row.token == "t1"


@pytest.mark.parametrize("room", ["lsf"], indirect=True)
def test_a_job_that_got_no_description_is_not_looked_for_by_it(room: Room) -> None:
    """lsid did not answer when it was submitted, and does now."""
    room.programs()
    room.bench.host.program("bsub", f"what=-\n{MAKE}:")
    room.bench.host.program("lsid", "exit 1")
    with pytest.raises(SubmitUnknown):
        room.bench.submit("t1", **SCRIPT)
    room.programs()
    error = room.finish()
    assert isinstance(error, SubmitUnknown)
    assert "may not show its job" in error.message
    assert len(room.bench.host.jobs()) == 1

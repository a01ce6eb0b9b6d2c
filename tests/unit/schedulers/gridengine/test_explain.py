"""What Grid Engine's answers add to a status, from texts and transcripts."""

from __future__ import annotations

import json

import pytest

from openssh_jobs import JobStatus
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.jobs.explanation import Explanation
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.gridengine.explain import explain_script, parse_explanations
from tests.paths import DATA

MARK = "abc123"
OTHER_HOST = '(-l arch=x) cannot run at host "a" because it offers only hl:arch=y'
FULL = 'queue instance "{}" dropped because it is full'


def explained(status: JobStatus, **sections: str) -> Explanation:
    text = f"OJ+{MARK}\n"
    for name, body in sections.items():
        text += f"OJ:{MARK} begin {name}\n{body}\nOJ:{MARK} end {name} 0\n"
    answer = Answer(f"{text}\nOJ-{MARK}\n", "", 0)
    return parse_explanations(answer, [status])[status.job_id]


def pending(number: str = "5") -> JobStatus:
    return JobStatus(number, "pending", raw_state="qw", source="queue")


def details(*lines: str, more: str = "", number: str = "5") -> str:
    said = ("\n" + " " * 28).join(lines)
    head = f"{MARK}>{number}\njob_number:                 {number}\n{more}"
    return f"{head}scheduling info:            {said}\n"


def transcript(name: str, number: str) -> str:
    lines = (DATA / "sge.jsonl").read_text().splitlines()
    found = {record["id"]: record for record in map(json.loads, lines)}
    return f"{MARK}>{number}\n{found[name]['stdout']}"


@pytest.mark.parametrize(
    ("record_id", "number", "cause"),
    [
        ("sge/092-qstat-j-dep", "20", Cause.DEPENDENCY),
        ("sge/094-qstat-j-later", "25", Cause.BEGIN_TIME),
        ("sge/096-qstat-j-off", "26", Cause.QUEUE_DOWN),
    ],
)
def test_transcripts(record_id: str, number: str, cause: Cause) -> None:
    assert explained(pending(number), details=transcript(record_id, number)).cause is cause


@pytest.mark.parametrize(
    ("lines", "more", "cause"),
    [
        ([FULL.format("all.q@a")], "", Cause.RESOURCES),
        (["Jobs can not run", "job dropped because of user limitations"], "", Cause.USER_LIMIT),
        (["cannot run because it exceeds limit \"alice/////\" in rule \"x/1\""], "", Cause.QUOTA),
        (['(-l gpu=1) cannot run at host "a" because it offers only hc:gpu=0.000000'], "",
         Cause.RESOURCES),
        # The queue is full, and its host could not run the job if it were free.
        ([FULL.format("all.q@a"), OTHER_HOST],
         "", Cause.REQUEST_UNSATISFIABLE),
        ([FULL.format("all.q@b"), OTHER_HOST],
         "", Cause.RESOURCES),
        # Another queue is full: the job does not ask for it.
        ([FULL.format("all.q@a"), 'queue instance "off.q@a" dropped because it is disabled'],
         "hard_queue_list:            off.q\n", Cause.QUEUE_DOWN),
        ([FULL.format("short.q@a")], "hard resource_list:         h_rt=7200\n",
         Cause.QUEUE_TIME_LIMIT),
        (["a message of a later version"], "", Cause.UNKNOWN),
    ],
)  # fmt: skip
def test_scheduling_info(lines: list[str], more: str, cause: Cause) -> None:
    limits = "qname short.q\nh_rt 0:10:0\n"
    found = explained(pending(), details=details(*lines, more=more), limits=limits)
    assert found.cause is cause


def test_reasons_that_are_turned_off_are_unknown_with_the_way_to_ask() -> None:
    off = "(Collecting of scheduler job information is turned off)"
    found = explained(pending(), details=details(off))
    assert found.cause is Cause.UNKNOWN
    assert "qalter -w p 5" in found.sentence


def test_who_holds_it() -> None:
    held = JobStatus("5", "held", raw_state="hqw")
    for kind, cause in (
        ("hu", Cause.HELD_BY_USER),
        ("ho", Cause.HELD_BY_ADMIN),
        ("hs", Cause.HELD_BY_SYSTEM),
    ):
        assert explained(held, holds=f"{MARK}>{kind}\n5\n").cause is cause
    assert explained(held, holds=f"{MARK}>hu\n6\n").cause is Cause.UNKNOWN


def test_usage_by_the_accounting() -> None:
    record = (
        "jobnumber 5\ntaskid undefined\nslots 2\nfailed 0\nexit_status 0\nru_wallclock 60s\n"
        "cpu 60.000s\nmaxvmem 1.500GB\ncategory -l h_rt=3600,h_vmem=2G\n"
    )
    status = JobStatus("5", "completed", raw_state="failed 0, exit_status 0")
    usage = explained(status, records=f"{MARK}>5\n{'=' * 62}\n{record}").usage
    assert usage is not None
    assert (usage.cpu_efficiency, usage.memory_asked) == (0.5, 4 * 1024**3)
    assert usage.memory == int(1.5 * 1024**3)


@pytest.mark.parametrize(
    ("wall", "cause"), [("30s", Cause.CPU_TIME_LIMIT), ("3600s", Cause.TIME_LIMIT)]
)
def test_cpu_time_is_another_limit(wall: str, cause: Cause) -> None:
    record = (
        f"jobnumber 5\ntaskid undefined\nslots 1\nru_wallclock {wall}\ncpu 10.2s\n"
        "category -l h_cpu=10,h_rt=3600\n"
    )
    status = JobStatus("5", "timeout", raw_state="failed 37, exit_status 137")
    assert explained(status, records=f"{MARK}>5\n{'=' * 62}\n{record}").cause is cause


def test_nothing_is_asked_about_jobs_that_run() -> None:
    assert explain_script([JobStatus("5", "running")]) is None

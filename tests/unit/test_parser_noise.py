"""The parser on noise, on cut answers and on long ones."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import parser
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import Snapshot
from openssh_jobs.schedulers import available, get
from openssh_jobs.schedulers.answer import Answer
from tests.helpers import examples
from tests.unit.test_parser import captures, status_of

_LIKELY = """JOBID STATE ST JobID State 1 12 123_4 123_[5-9%2] 88.0 COMPLETED PENDING R F PD CD (
    ) [ | {} {"jobs": [] } JobId= JobState=COMPLETED UserId=a(1) CLUSTER: ---- === 0:9 3:0 Submitted
    batch job OJ+ab OJ:ab begin end OJ-ab error: Job_Name job_state = <xml> <job_list> Your has
    been submitted PID STAT cluster n[1-3]"""
WORDS = st.sampled_from(_LIKELY.split())
NOISE = st.text(max_size=200) | st.lists(
    WORDS | st.sampled_from(["\n", " ", "   ", "|", "\t", "\x1f"]) | st.text(max_size=5),
    max_size=60,
).map("".join)


@examples(150)
@given(stdout=NOISE, stderr=NOISE, code=st.sampled_from([0, 0, 1, 255]), named=st.booleans())
def test_noise_is_an_answer_or_a_scheduler_error(
    stdout: str, stderr: str, code: int, named: bool
) -> None:
    for name in available():
        scheduler = name if named else None
        for call in (
            lambda s=scheduler: parser.parse_status(
                stdout, s, stderr=stderr, returncode=code, requested=["5"]
            ),
            lambda n=name: parser.parse_submit(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: parser.parse_cancel(
                stdout, n, stderr=stderr, returncode=code, requested=["5"]
            ),
            lambda n=name: parser.parse_nodes(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: parser.parse_queues(stdout, n, stderr=stderr, returncode=code),
            lambda n=name: get(n).parse_history(Answer(stdout, stderr, code), requested=["5"]),
            lambda n=name: get(n).parse_detail(Answer(stdout, stderr, code)),
        ):
            try:
                found = call()
            except (SchedulerError, InputError):
                continue
            if isinstance(found, Snapshot):
                for status in found.known.values():
                    status.as_dict()


@examples(150)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_no_final_state_comes_out_of_text_without_a_schedulers_words(text: str) -> None:
    for name in (*available(), None):
        try:
            snapshot = parser.parse_status(text, name)
        except (SchedulerError, InputError):
            continue
        assert not any(one.state.is_final for one in snapshot.known.values())


LISTED = [one for one in captures("slurm") if one["expected"] and one["returncode"] == 0]


@examples(100)
@given(st.data())
def test_a_cut_listing_never_makes_a_job_finished(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(LISTED))
    length = data.draw(st.integers(0, len(record["stdout"])))
    whole = {**record}
    cut = {**record, "stdout": record["stdout"][:length]}
    try:
        found = status_of(cut)
    except SchedulerError:
        return
    try:
        known = status_of(whole).known
    except SchedulerError:
        return
    for job_id, status in found.known.items():
        if status.state.is_final:
            assert job_id in known
            assert known[job_id].state.is_final


LONG = [
    *("a", "1", " ", "\n", "|", "[", "<", "JobId=1 ", "JobId=1\n", "Job Id: 1\n", "A=b ", "1 R\n"),
    *("JOBID ST\n", "1_[1,", "Submitted batch job 1 ", "error on job id ", " for job 1", "=" * 20),
    *("<job_list>", "<a b>", "<Data><Job>", "OJ+ab\n", "1.0 R ", "n[1-9],", "Job <1>, ", "gpu:"),
    *("{\n", '{"a":1}\n', "1_[1,...]\n", "<classads>\n", "[x] "),
    *("CLUSTER: a\n", "Unknown Job Id 1 ", "QOS", "No such file or directory "),
]


def _read(call: Callable[[str], object], text: str) -> None:
    try:
        found = call(text)
    except (SchedulerError, InputError):
        return
    if isinstance(found, Snapshot):
        assert not any(status.state.is_final for status in found.known.values())


def _seconds(call: Callable[[str], object], text: str, tries: int = 1) -> float:
    taken = []
    gc.disable()  # a collection of everything else that the run holds would be counted
    try:
        for _ in range(tries):
            began = time.thread_time()
            _read(call, text)
            taken.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(taken)


def grows_too_fast(call: Callable[[str], object], piece: str) -> str | None:
    """Whether eight times the text takes far more than eight times as long, and how long."""
    # Whole pieces, so that both end alike.
    short, long = (piece * (size // len(piece)) for size in (250, 2_000))
    for tries in (1, 5):  # again, if something else had the processor
        # The first call also fills caches: never only one of the short ones.
        before, after = _seconds(call, short, tries + 2), _seconds(call, long, tries)
        # Quadratic is 64 times.  Patterns for the texts of errors took up to 25 times as long,
        # and no more from 8,000 characters on: such texts are cut.
        if after < 32 * before + 0.0005:
            return None
    return f"{before:.4f} s for {len(short)} characters, {after:.4f} s for {len(long)}"


def _readers() -> Iterator[tuple[str, Callable[[str], object]]]:
    for name in (*available(), None):
        yield f"status of {name}", partial(parser.parse_status, scheduler=name, requested=["5"])
        if name:
            by_name: dict[str, Any] = {"scheduler": name}
            yield f"submit of {name}", partial(parser.parse_submit, **by_name)
            yield f"cancel of {name}", partial(parser.parse_cancel, **by_name, requested=["5"])
            yield f"nodes of {name}", partial(parser.parse_nodes, **by_name)
            yield f"queues of {name}", partial(parser.parse_queues, **by_name)
            yield f"refusal of {name}", partial(_refusal, name)


def _refusal(name: str, text: str) -> object:
    return parser.parse_submit("", name, stderr=text, returncode=1)


@pytest.mark.long
@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", LONG)
def test_very_long_nonsense_ends_in_time(piece: str) -> None:
    for _, call in _readers():
        _read(call, (piece * 200_000)[:200_000])


@pytest.mark.parametrize(
    "piece",
    [pytest.param(each, marks=pytest.mark.long if at % 5 else ()) for at, each in enumerate(LONG)],
)
def test_long_nonsense_takes_no_more_than_its_length(piece: str) -> None:
    slow = {what: grows_too_fast(call, piece) for what, call in _readers()}
    assert {what: why for what, why in slow.items() if why} == {}


@pytest.mark.parametrize("pattern", [r"\d*x", r"(1|2)*x"])
def test_what_is_quadratic_would_be_seen(pattern: str) -> None:
    # A short call that fills a cache looks slow: on a busy machine not every try sees it.
    tries = (grows_too_fast(re.compile(pattern).search, "1") for _ in range(5))
    assert any(seen is not None for seen in tries)


def test_nothing_but_a_line_end_ends_a_line() -> None:
    """A value may hold what else ends a line for Python; another job's end must not come of it."""
    for odd in "\x0b\x0c\x1c\x1d\x1e\x85\u2028":
        forged = odd.join(("x", "ClusterId = 9", "JobStatus = 4", "ExitCode = 0", "y"))
        text = f'ClusterId = 8\nProcId = 0\nJobStatus = 2\nArgs = "{forged}"\n'
        assert list(parser.parse_status(text, "htcondor").known) == ["8.0"]


@pytest.mark.parametrize("name", ["slurm", "openpbs", "sge"])
def test_the_line_ends_of_a_terminal_change_nothing(name: str) -> None:
    compared = 0
    for record in captures(name):
        if record["returncode"] or "\r" in record["stdout"]:
            continue
        pasted = {**record, "stdout": record["stdout"].replace("\n", "\r\n")}
        scheduler = {"openpbs": "pbs"}.get(name, name)
        try:
            known = status_of(record, scheduler).known
        except SchedulerError:
            continue
        assert status_of(pasted, scheduler).known == known
        compared += bool(known)
    assert compared > 20

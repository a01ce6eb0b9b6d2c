"""The parser on noise, on cut answers and on long ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openssh_jobs import parser
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.jobs import Snapshot
from openssh_jobs.schedulers import available, get
from openssh_jobs.schedulers.answer import Answer
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


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=300))
def test_no_final_state_comes_out_of_text_without_a_schedulers_words(text: str) -> None:
    for name in (*available(), None):
        try:
            snapshot = parser.parse_status(text, name)
        except (SchedulerError, InputError):
            continue
        assert not any(one.state.is_final for one in snapshot.known.values())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_cut_listing_never_makes_a_job_finished(data: st.DataObject) -> None:
    records = [one for one in captures("slurm") if one["expected"] and one["returncode"] == 0]
    record = data.draw(st.sampled_from(records))
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
    *("CLUSTER: a\n", "Unknown Job Id 1 ", "QOS", "No such file or directory "),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", LONG)
def test_long_nonsense_takes_no_more_than_its_length(piece: str) -> None:
    # Anything quadratic in here would run into the timeout, with hours to spare.
    text = (piece * 200_000)[:200_000]
    for name in (*available(), None):
        for call in (
            lambda n=name: parser.parse_status(text, n, requested=["5"]),
            lambda n=name: parser.parse_submit("", n or "slurm", stderr=text, returncode=1),
            lambda n=name: parser.parse_submit(text, n or "slurm"),
            lambda n=name: parser.parse_cancel(text, n or "slurm", requested=["5"]),
            lambda n=name: parser.parse_nodes(text, n or "slurm"),
            lambda n=name: parser.parse_queues(text, n or "slurm"),
        ):
            try:
                found = call()
            except (SchedulerError, InputError):
                continue
            if isinstance(found, Snapshot):
                assert not any(one.state.is_final for one in found.known.values())


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

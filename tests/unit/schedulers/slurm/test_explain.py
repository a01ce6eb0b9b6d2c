"""What Slurm's answers add to a status, from texts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from openssh_jobs import JobStatus
from openssh_jobs.jobs.cause import Cause
from openssh_jobs.jobs.explanation import Awaited, Explanation
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.fields import quote
from openssh_jobs.schedulers.slurm.explain import explain_script, parse_explanations

MARK = "abc123"


def frame(**sections: str) -> Answer:
    text = f"OJ+{MARK}\n"
    for name, body in sections.items():
        text += f"OJ:{MARK} begin {name}@\n{body}\nOJ:{MARK} end {name}@ 0\n"
    return Answer(f"{text}\nOJ-{MARK}\n", "", 0)


def explained(status: JobStatus, **sections: str) -> Explanation:
    return parse_explanations(frame(**sections), [status])[status.job_id]


def pending(reason: str, job_id: str = "12", **more: Any) -> JobStatus:
    facts = {"raw_state": "PENDING", "reason": reason, "source": "queue", **more}
    return JobStatus(job_id, "pending", **facts)


def waiting(
    job_id: str = "12",
    restarts: str = "0",
    start: str = "N/A",
    reason: str = "None",
    nodes: str = "",
    dependency: str = "(null)",
) -> str:
    return (
        f"{job_id:128}{restarts:12}{'4294901757':24}{start:40}{reason:200}{nodes:200}"
        f"{dependency:600}"
    )


def used(job_id: str, state: str, *, uid: str = "7001", code: str = "0:0", **more: str) -> str:
    values = {"cpus": "2", "asked": "32G", "rss": "", "cpu": "00:10", "reason": "", **more}
    cells = (job_id, state, code, uid, "60", "01:00:00", values["cpus"], "1", values["asked"],
             values["rss"], values["cpu"], f"cpu={values['cpus']},mem={values['asked']}", "",
             "2026-03-10T09:00:00", values["reason"])  # fmt: skip
    return "|".join(cells)


def test_a_dependency_names_the_jobs_and_their_time_left() -> None:
    found = explained(
        pending("Dependency"),
        waiting=waiting(dependency="afterok:4711(unfulfilled),afterany:9_*(unfulfilled)"),
        awaited=f"{'4711':128}{'RUNNING':32}{'1:48:00':24}",
    )
    assert found.cause is Cause.DEPENDENCY
    assert [job.job_id for job in found.awaited] == ["4711", "9"]
    assert found.awaited[0].left == timedelta(hours=1, minutes=48)
    assert found.awaited[1] == Awaited(job_id="9")


def test_nodes_that_are_up_are_kept_for_others() -> None:
    """Slurm calls nodes unavailable, too, that it keeps for jobs of higher priority."""
    reason = "ReqNodeNotAvail, UnavailableNodes:n[1-2]"
    row = waiting(reason=reason)
    assert explained(pending(reason), waiting=row, nodes="n1 mixed\nn2 idle").cause is (
        Cause.PRIORITY
    )
    for states in ("n1 mixed\nn2 down*", "n1 mixed", ""):
        found = explained(pending(reason), waiting=row, nodes=states)
        assert found.cause is Cause.NODES_UNAVAILABLE


def test_a_job_that_was_put_back_is_requeued_and_not_a_wish_of_its_owner() -> None:
    row = waiting(restarts="1", start="2026-03-10T12:00:00+0000")
    found = explained(pending("BeginTime"), waiting=row)
    assert (found.cause, found.restarts) == (Cause.REQUEUED, 1)
    assert found.begins is not None
    assert explained(pending("BeginTime"), waiting=waiting()).cause is Cause.BEGIN_TIME


def test_who_cancelled_it() -> None:
    status = JobStatus("12", "cancelled", raw_state="CANCELLED", source="queue")
    for state, uid, cause, by in (
        ("CANCELLED by 7001", "7001", Cause.CANCELLED_BY_USER, "alice"),
        ("CANCELLED by 0", "7001", Cause.CANCELLED_BY_ADMIN, "root"),
        ("CANCELLED", "7001", Cause.CANCELLED, None),
    ):
        found = explained(status, usage=used("12", state, uid=uid), users="0 root\n7001 alice")
        assert (found.cause, found.by) == (cause, by)
    never = used("12", "CANCELLED by 0", reason="DependencyNeverSatisfied")
    assert explained(status, usage=never).cause is Cause.DEPENDENCY_NEVER_SATISFIED


def test_usage_is_that_of_the_greediest_step() -> None:
    status = JobStatus("12", "completed", raw_state="COMPLETED")
    lines = [used("12", "COMPLETED"), used("12.batch", "COMPLETED", rss="1024K"),
             used("12.0", "COMPLETED", rss="2G")]  # fmt: skip
    usage = explained(status, usage="\n".join(lines)).usage
    assert usage is not None
    assert (usage.memory, usage.memory_asked, usage.cpus) == (2 * 1024**3, 32 * 1024**3, 2)
    assert usage.cpu_efficiency is not None
    assert 0.08 < usage.cpu_efficiency < 0.09


def test_a_kill_over_its_memory_is_out_of_memory_only_with_the_proof() -> None:
    status = JobStatus("12", "failed", raw_state="FAILED", signal=9)
    record = used("12", "FAILED", code="0:9", asked="100M")
    step = used("12.batch", "CANCELLED by 0", code="0:9", rss="727964K")
    assert explained(status, usage=f"{record}\n{step}").cause is Cause.OUT_OF_MEMORY
    small = used("12.batch", "CANCELLED by 0", code="0:9", rss="50M")
    assert explained(status, usage=f"{record}\n{small}").cause is Cause.SIGNAL


def test_an_element_is_compared_with_the_others() -> None:
    status = JobStatus("12_3", "out_of_memory", raw_state="OUT_OF_MEMORY")
    lines = [used("12_3", "OUT_OF_MEMORY"), used("12_3.batch", "OUT_OF_MEMORY", rss="31G")]
    for element, rss in (("12_1", "20G"), ("12_2", "21G")):
        lines += [used(element, "COMPLETED"), used(f"{element}.batch", "COMPLETED", rss=rss)]
    found = explained(status, usage="\n".join(lines))
    assert found.others is not None
    assert found.others.elements == 2
    assert "The other 2 used at most 21 GB." in found.sentence


def test_an_answer_without_a_part_adds_nothing() -> None:
    found = explained(pending("Priority"))
    assert (found.cause, found.ahead, found.usage) == (Cause.PRIORITY, None, None)
    odd = explained(pending("Priority"), waiting="?", awaited="?", ahead="12 x", users="?")
    assert odd.cause is Cause.PRIORITY


def test_one_script_for_all_and_every_name_is_quoted() -> None:
    queue = "a';id;'"
    script = explain_script(
        [
            pending("Priority", queue=queue),
            JobStatus("13_4", "completed"),
            pending("None", "14"),
        ]
    )
    assert script is not None
    assert f"oj_ahead {quote(queue)}\n" in script
    assert "oj_waiting 12,14" in script
    assert explain_script([]) is None

"""What Grid Engine's own words cannot be taken for: texts of a real 8.1.9, read without one."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openssh_jobs.cluster.tracker import Tracker
from openssh_jobs.errors import InputError
from openssh_jobs.jobs import JobState, JobStatus, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest

SGE = get("sge")


def frame(**parts: str) -> str:
    """An answer in parts, each of which ended well."""
    body = "".join(
        f"OJ:ab begin {name.replace('_', ' ')}\n{text}\nOJ:ab end {name.replace('_', ' ')} 0\n"
        for name, text in parts.items()
    )
    return f"OJ+ab\n{body}OJ-ab\n"


def listed(number: int, letters: str, tasks: str = "") -> str:
    running = letters[0] not in "qhE"
    return f"""\
    <job_list state="{"running" if running else "pending"}">
      <JB_job_number>{number}</JB_job_number>
      <JAT_prio>0.50000</JAT_prio>
      <JB_name>x</JB_name>
      <JB_owner>hpcalice</JB_owner>
      <state>{letters}</state>
      <JAT_start_time>2026-11-22T14:25:04</JAT_start_time>
      <queue_name>{"all.q@login" if running else ""}</queue_name>
      <slots>1</slots>
{f"      <tasks>{tasks}</tasks>" if tasks else ""}
    </job_list>"""


def listing(*rows: str) -> str:
    inner = "\n".join(rows)
    return (
        "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://x\">\n  <queue_info>\n"
        f"{inner}\n  </queue_info>\n  <job_info>\n  </job_info>\n</job_info>\n"
    )


def queue(name: str, letters: str, *rows: str) -> str:
    inner = "\n".join(rows)
    return (
        f"    <Queue-List>\n      <name>{name}</name>\n      <qtype>BI</qtype>\n"
        f"      <state>{letters}</state>\n{inner}\n    </Queue-List>\n"
    )


def record(number: int, failed: str, code: str, **more: str) -> str:
    said = {
        "qname": "all.q", "hostname": "login", "owner": "hpcalice", "jobname": "x",
        "jobnumber": str(number), "taskid": "undefined",
        "qsub_time": "Sun Nov 22 14:25:05 2026", "start_time": "Sun Nov 22 14:25:05 2026",
        "end_time": "Sun Nov 22 14:26:27 2026", "slots": "1", "failed": failed,
        "exit_status": code, "ru_wallclock": "81s", "ru_utime": "0.005s", "ru_stime": "0.005s",
        "ru_maxrss": "4.668KB", "ru_minflt": "513", "ru_nvcsw": "13", **more,
    }  # fmt: skip
    return "=" * 62 + "\n" + "".join(f"{key:<12} {value:<20}\n" for key, value in said.items())


NOTHING = {"ru_wallclock": "0s", "ru_utime": "0.000s", "ru_stime": "0.000s",
           "ru_maxrss": "0.000B", "ru_minflt": "0", "ru_nvcsw": "0"}  # fmt: skip


def accounted(*records: str) -> Snapshot:
    return SGE.parse_history(Answer(frame(qacct_15="".join(records))), requested=["15"])


# -- the accounting -----------------------------------------------------------------------------


def test_a_forced_deletion_is_no_success() -> None:
    """Written by the master alone: failed 0, exit status 0, and nothing measured."""
    forced = accounted(record(15, "0", "0", **NOTHING))["15"]
    assert (forced.state, forced.exit_code) == (JobState.CANCELLED, None)
    assert str(forced.reason).startswith("deleted by force")
    for measured in ({"ru_minflt": "1"}, {"ru_wallclock": "1s"}, {"ru_maxrss": "4.5KB"}):
        fine = accounted(record(15, "0", "0", **{**NOTHING, **measured}))["15"]
        assert (fine.state, fine.exit_code) == (JobState.COMPLETED, 0)
    # A version that does not print one of them cannot be judged by it.
    lines = record(15, "0", "0", **NOTHING).splitlines(keepends=True)
    without = "".join(line for line in lines if not line.startswith("ru_minflt"))
    assert accounted(without)["15"].state is JobState.COMPLETED


@pytest.mark.parametrize("failed", ["25  : rescheduling", "24  : migrating"])
def test_a_run_that_was_sent_back_is_no_end(failed: str) -> None:
    never = {"qsub_time": "Thu Jan  1 00:00:00 1970", "start_time": "-/-", "end_time": "-/-"}
    one = accounted(record(15, failed, "0", **{**NOTHING, **never}))["15"]
    assert (one.state, one.submitted, one.started, one.ended) == (JobState.PENDING,) + (None,) * 3
    two = accounted(record(15, failed, "99"), record(15, "0", "5"))
    assert (two["15"].state, two["15"].exit_code, two.tries) == (JobState.FAILED, 5, frozenset())


LIMIT = "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"
QUEUES = (
    "qname                 all.q\nh_rt                  0:1:0\nh_cpu                 INFINITY\n"
    "h_vmem                INFINITY\nqname                 short.q\nh_vmem                1G\n"
    "h_rt                  INFINITY,[login=0:0:1]\n"
)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"category": "-l h_rt=80"}, "timeout"),
        ({"category": "-q all.q -l h_rt=80,h_vmem=100M"}, "timeout"),
        (
            {"category": "-l h_vmem=100M", "maxvmem": "210.9MB", "ru_wallclock": "5s"},
            "out_of_memory",
        ),
        (
            {"category": "-l h_vmem=100M", "maxvmem": "1.2GB", "slots": "8", "ru_wallclock": "5s"},
            "out_of_memory",
        ),
        # The job took less than it may, so that it was the queue's limit of time.
        ({"category": "-l h_vmem=100M", "maxvmem": "700MB", "slots": "8"}, "timeout"),
        ({"category": "NONE", "maxvmem": "3.1MB"}, "timeout"),
        ({"category": "NONE", "qname": "short.q", "maxvmem": "1.1GB"}, "out_of_memory"),
        ({"category": "NONE", "qname": "short.q", "maxvmem": "0.1GB"}, "failed"),
        ({"category": "-l h_cpu=5", "qname": "other.q", "cpu": "6.5s"}, "timeout"),
        ({"category": "-l h_cpu=5", "qname": "other.q", "cpu": "0.1s"}, "failed"),
        ({"category": "-l h_rt=80,h_vmem=100M", "maxvmem": "210.922MB"}, "failed"),
        ({"failed": "37  : qmaster enforced h_rt limit", "category": "NONE"}, "timeout"),
    ],
)
def test_which_limit_it_was(said: dict[str, str], state: str) -> None:
    """One number for three limits: the figures of the record decide, or nobody."""
    text = record(15, said.pop("failed", LIMIT), "137  (Killed)", **{"cpu": "0.1s", **said})
    (one,) = SGE.parse_history(Answer(frame(qacct_15=text, limits=QUEUES))).known.values()
    assert (one.state, one.exit_code, one.signal) == (state, None, 9)
    if state == "failed":
        assert one.reason == "it ran into a limit: time, CPU time or memory"


def watched(*rows: str) -> Tracker:
    """A watch that saw the job in these listings, and then in none."""
    watch = Tracker(grace=600)
    watch.follow("15")
    for row in (*rows, ""):
        snapshot = SGE.parse_status(Answer(frame(qstat=listing(row))), requested=["15"])
        watch.take_answer(snapshot, datetime.now(UTC), time.monotonic())
    assert watch.gone(["15"]) == (["15"] if not watch.is_settled("15") else [])
    return watch


NOT_STARTED = record(15, "26  : opening input/output file", "0", start_time="-/-", end_time="-/-")


def test_the_record_of_a_failed_try_ends_no_job_that_is_tried_again() -> None:
    watch = watched(listed(15, "Eqw"), listed(15, "qw"), listed(15, "r"))
    found = accounted(NOT_STARTED)
    assert found.tries == {"15"}
    watch.take_history(found, ["15"])
    assert watch.status("15").state is JobState.UNKNOWN
    watch.take_history(accounted(NOT_STARTED, record(15, "0", "0")), ["15"])
    assert watch.status("15").state is JobState.COMPLETED


def test_a_failed_try_is_the_end_of_one_that_was_seen_no_more() -> None:
    watch = Tracker(grace=600)
    watch.add_known(JobStatus("15", JobState.PENDING, source="journal"))
    watch.take_answer(Snapshot(absent=("15",)), datetime.now(UTC), time.monotonic())
    watch.take_history(accounted(NOT_STARTED), ["15"])
    one = watch.status("15")
    assert (one.state, one.reason) == (JobState.FAILED, "opening input/output file")


def test_cancelled_while_it_waited_to_run_again() -> None:
    """Of the first run there is a record, of the second none will come."""
    for waiting, said in (
        ("Rq", record(15, "25  : rescheduling", "99")),
        ("qw", NOT_STARTED),
    ):
        watch = Tracker(grace=600)
        watch.follow("15")
        seen = SGE.parse_status(Answer(frame(qstat=listing(listed(15, waiting)))), requested=["15"])
        watch.take_answer(seen, datetime.now(UTC), time.monotonic())
        watch.cancel_accepted(["15"])
        watch.take_answer(Snapshot(absent=("15",)), datetime.now(UTC), time.monotonic())
        watch.take_history(accounted(said), ["15"])
        assert watch.status("15").state is JobState.CANCELLED


GONE = "OJ:ab begin left 15\nFollowing jobs do not exist: \n15\nOJ:ab end left 15 1\n"
LISTED = "OJ:ab begin left 15\n\nOJ:ab end left 15 0\n"
SILENT = "OJ:ab begin left 15\nerror: commlib error: got select error\nOJ:ab end left 15 1\n"


@pytest.mark.parametrize(
    ("codes", "left", "state"),
    [
        ("07", GONE, "failed"),
        ("07", LISTED, None),
        ("07", SILENT, None),
        ("07", "", None),
        # The record of a task that ended last comes late.
        ("00", GONE, None),
    ],
)
def test_an_array_has_failed_when_the_queue_has_no_task_of_it(
    codes: str, left: str, state: str | None
) -> None:
    """The accounting has only tasks that are over; others may run."""
    records = [record(15, "0", code, taskid=str(at)) for at, code in enumerate(codes, 1)]
    text = frame(qacct_15="".join(records)).replace("OJ-ab", f"{left}OJ-ab")
    found = SGE.parse_history(Answer(text), requested=["15", "15.2", "15.1-3:1"])
    assert found["15.2"].exit_code == int(codes[1])
    reported = {one: status.state for one, status in found.known.items() if one != "15.2"}
    assert reported == (dict.fromkeys(("15", "15.1-3:1"), state) if state else {})
    assert found.absent == (() if state else ("15", "15.1-3:1"))


def test_only_arrays_are_looked_for_in_the_queue() -> None:
    script = SGE.history_script(["15", "16.2"])
    assert script is not None
    assert "qstat -j 15 " in script
    assert "qstat -j 16 " not in script


@pytest.mark.parametrize("text", ["1,3,5", "0-9", "0", "1-3,5", "0-9%2"])
def test_arrays_that_grid_engine_would_refuse(text: str) -> None:
    with pytest.raises(InputError, match="Grid Engine takes no array") as caught:
        SGE.submit_script(SubmitRequest(script="x", array=text))
    assert "1-99%8" in str(caught.value.advice)


@pytest.mark.parametrize("text", ["5", "1-9", "2-10:2", "7-7"])
def test_arrays_that_grid_engine_takes(text: str) -> None:
    assert f" -t {text} " in SGE.submit_script(SubmitRequest(script="x", array=text))


def test_how_many_tasks_may_run_at_a_time() -> None:
    assert " -t 1-99:2 -tc 8 " in SGE.submit_script(SubmitRequest(script="x", array="1-99:2%8"))


def test_a_dependency_on_one_task_is_refused() -> None:
    """-hold_jid would wait for the whole array."""
    with pytest.raises(InputError, match=r"cannot wait for one task: 5\.3"):
        SGE.submit_script(SubmitRequest(script="x", after_any=("4", "5.3")))


# -- the queue ----------------------------------------------------------------------------------


def test_a_job_whose_host_is_silent_is_unknown() -> None:
    rows = [listed(14, "r"), listed(15, "dr"), listed(16, "s"), listed(17, "qw"), listed(18, "Rr")]
    silent = listing(queue("all.q@login", "au", listed(14, "r")), queue("all.q@other", "du"))
    reported = SGE.parse_status(Answer(frame(qstat=listing(*rows), silent=silent)))
    states = [reported[str(number)].state for number in range(14, 19)]
    assert states == ["unknown", "unknown", "unknown", "pending", "unknown"]
    assert (reported["14"].raw_state, reported["14"].nodes) == ("r", ("login",))
    assert (
        reported["14"].reason == "its host login does not answer; the queue still calls it running"
    )
    for other in (
        listing(),
        listing(queue("all.q@other", "u")),
        listing(queue("all.q@login", "a")),
    ):
        reported = SGE.parse_status(Answer(frame(qstat=listing(*rows), silent=other)))
        assert [reported["14"].state, reported["15"].state] == ["running", "completing"]


def test_the_reason_of_a_job_that_did_not_start() -> None:
    details = "=" * 62 + (
        "\njob_number:                 15\nowner:                      hpcalice\n"
        "error reason          1:      11/22/2026 14:22:25 [7001:155]: error: can't open output "
        'file "/no/such/dir/out": No such file or directory\n'
        "error reason          3:      Job 15.3 failed\n"
        "scheduling info:            Job is in error state\n"
    )
    rows = listing(listed(15, "Eqw", "1-2:1"), listed(15, "Eqw", "3"), listed(16, "Eqw"))
    reported = SGE.parse_status(Answer(frame(qstat=rows, reasons=f"ab>15\n{details}")))
    one = reported.known["15.1-2:1"]
    assert one.state is JobState.FAILED
    assert one.reason == 'can\'t open output file "/no/such/dir/out": No such file or directory'
    assert reported.known["15.3"].reason == "Job 15.3 failed"
    assert reported.known["16"].reason is None


@pytest.mark.parametrize(
    ("ids", "reported"),
    [
        (["15.1-3:1", "16", "15.4"], ["15", "16"]),
        ([str(number) for number in range(500)], ["15", "150", "16", "4"]),
        ([], ["15", "150", "16", "4"]),
    ],
)
def test_only_jobs_that_are_asked_about_are_asked_for_reasons(
    ids: list[str], reported: list[str], tmp_path: Path
) -> None:
    listing = "".join(
        f"<job_list>\n<JB_job_number>{number}</JB_job_number>\n<state>{state}</state>\n</job_list>\n"
        for number, state in ((4, "Eqw"), (15, "Eqw"), (150, "Eqw"), (16, "Eqw"), (17, "qw"))
    )
    qstat = tmp_path / "qstat"
    qstat.write_text(
        "#!/bin/sh\n"
        f"case $* in *-j*) echo \"$2\" >>{tmp_path}/asked ;; *) cat <<'E' ;; esac\n{listing}E\n"
    )
    qstat.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = SGE.status_script(ids)
    subprocess.run(["/bin/sh", "-c", script], env=env, check=True, timeout=30, capture_output=True)
    assert sorted((tmp_path / "asked").read_text().split()) == reported


# -- where the output goes ----------------------------------------------------------------------

HEAD = (
    "=" * 62 + "\njob_number:                 15\nowner:                      hpcalice\n"
    "sge_o_home:                 /home/hpcalice\njob_name:                   x\n"
)


@pytest.mark.parametrize(
    ("said", "stdout", "stderr"),
    [
        ("cwd: /w\n", "/w/x.o15", "/w/x.e15"),
        ("", "/home/hpcalice/x.o15", "/home/hpcalice/x.e15"),
        ("cwd: /w\nmerge: y\n", "/w/x.o15", "/w/x.o15"),
        ("cwd: /w\nmerge: y\nstderr_path_list: NONE:NONE:no\n", "/w/x.o15", "/w/x.o15"),
        ("cwd: /w\nstdout_path_list: NONE:NONE:out\n", "/w/out", "/w/x.e15"),
        ("cwd: /w\nstdout_path_list: NONE:NONE:/a:b\n", "/a:b", "/w/x.e15"),
        ("cwd: /w\nstdout_path_list: NONE:NONE:~/out\n", "/home/hpcalice/out", "/w/x.e15"),
        ("cwd: /w\nstdout_path_list: NONE:NONE:~bob/out\n", None, "/w/x.e15"),
        ("cwd: /w\nstdout_path_list: login:NONE:out\n", None, "/w/x.e15"),
        ("cwd: /w\nstdout_path_list: a:NONE:o,b:NONE:p\n", None, "/w/x.e15"),
        (
            "cwd: /w\n"
            "stdout_path_list: NONE:NONE:$HOME/$JOB_NAME.$JOB_IDy.$TASK_ID.$USER$SGE_ROOT\n",
            "/home/hpcalice/x.15y.0.hpcalice$SGE_ROOT",
            "/w/x.e15",
        ),
        (
            "cwd: /w\njob-array tasks: 1-4:1\nstdout_path_list: NONE:NONE:$TASK_ID.$HOSTNAME\n",
            "/w/$TASK_ID.$HOSTNAME",
            "/w/x.e15.$TASK_ID",
        ),
    ],
)
def test_paths(said: str, stdout: str | None, stderr: str | None) -> None:
    one = SGE.parse_detail(Answer(frame(qstat_j=HEAD + said)))
    assert (one.stdout_path, one.stderr_path) == (stdout, stderr)


def test_what_the_node_knew() -> None:
    path = "/w/$TASK_ID.$HOSTNAME"
    assert SGE.actual_path(path, "15.3", ("n1",)) == "/w/3.n1"
    assert SGE.actual_path(path, "15", ("n1",)) is None
    assert SGE.actual_path(path, "15.3-5:1", ("n1",)) is None
    assert SGE.actual_path(path, "15.3", None) is None
    assert SGE.actual_path("/w/x", "15", None) == "/w/x"

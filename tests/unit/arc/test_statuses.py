"""ARC's words: what a listing says of a job, the form of ids, and what a state is called."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from openssh_jobs import arc, errors, parser
from openssh_jobs.arc import settings
from openssh_jobs.arc.listings import ArcCommands
from openssh_jobs.arc.statuses import arc_id, arc_status
from openssh_jobs.jobs import JobStatus
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.framing import read_frame
from openssh_jobs.schedulers.site_commands import SiteCommands

SERVERS: dict[str, dict[str, Any]] = {
    "server1": {"cluster_soft": "OGE"},
    "server2": {"cluster_soft": "Slurm"},
    "condor": {"cluster_soft": "HTCondor"},
    "pbs": {"cluster_soft": "PBS"},
    "odd": {"cluster_soft": "LoadLeveler"},
    "local": {"cluster_soft": "OGE"},
}


@pytest.fixture(autouse=True)
def arcs_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arc, "servers", SERVERS)
    monkeypatch.setattr(settings, "_configured", True)


# -- listings -----------------------------------------------------------------------------------

OGE = """\
job-ID  prior   name       user         state submit/start at     queue              slots ja-task-ID
-----------------------------------------------------------------------------------------------------
 582682 0.45451 a9654      me           e     04/17/2019 16:22:14 long5@node93.clust    48
 588334 0.45451 pf1005a    me           r     05/07/2019 16:24:31 long3@node67.clust    48
 588345 0.00000 xq1340b    me           qw    05/08/2019 13:43:03                       48
 588346 0.45451 xq1340c    me           t     05/08/2019 13:43:03 long3@node69.clust    48
 588347 0.00000 held       me           hqw   05/08/2019 13:43:03                       48
 588348 0.00000 bad        me           Eqw   05/08/2019 13:43:03                       48
 588349 0.45451 going      me           dr    05/08/2019 13:43:03 long3@node69.clust    48
 588350 0.45451 waits      me           s     05/08/2019 13:43:03 long3@node69.clust    48
"""  # noqa: E501
SLURM = """\
             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)
          10990729    normal   a88 99       me  R      23:05      1 node12
          10990728    normal a1234567       me PD       0:00      1 (Priority)
            109901    normal      a12       me CF       0:05      1 node13
            109902    normal      a13       me  S       0:05      1 node13
            109903    normal      a14       me CG       0:05      1 node13
            109904    normal      a15       me TO       0:05      1 node13
            109905    normal      a16       me NF       0:05      1 node13
         109906_12    normal      a17       me  R       0:05      1 node13
"""
PBS = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
2016614.pbs01     a1               me                00:00:01 R workq
2016615.pbs01     a2               me                       0 H workq
2016616.pbs01     a3               me                       0 Q workq
2016617.pbs01     a4               me                00:00:01 E workq
"""
CONDOR = "11224.0 R 10 28672 a2 81980\n11225.0 P 10 28672 a10 81979\n"


@pytest.mark.parametrize(
    ("server", "listing", "job_id", "answer"),
    [
        *(("server1", OGE, one, "running") for one in (588334, 588345, 588346, 588347, 588349)),
        ("server1", OGE, 588350, "running"),
        ("server1", OGE, 582682, "errored"),
        ("server1", OGE, 588348, "errored"),
        ("server1", OGE, 5883, "done"),
        ("server1", OGE, 48, "done"),
        ("local", OGE, 588334, "running"),
        *(("server2", SLURM, one, "running") for one in (10990729, 10990728, 109901, 109902)),
        ("server2", SLURM, 109903, "running"),
        ("server2", SLURM, 109904, "done"),
        ("server2", SLURM, 109905, "errored"),
        ("server2", SLURM, "109906_12", "running"),
        ("server2", SLURM, "109906", "running"),
        ("server2", SLURM, 1099072, "done"),
        ("server2", SLURM, 5, "done"),
        ("server2", SLURM, 99, "done"),
        ("pbs", PBS, 2016614, "running"),
        ("pbs", PBS, "2016615.pbs01", "running"),
        ("pbs", PBS, 2016616, "running"),
        ("pbs", PBS, 2016617, "running"),
        ("pbs", PBS, 201661, "done"),
        ("condor", CONDOR, 11224, "running"),
        ("condor", CONDOR, "11225.0", "running"),
        ("condor", CONDOR, 1122, "done"),
        ("condor", "", 11224, "done"),
        ("server1", "", 5, "done"),
    ],
)
@pytest.mark.parametrize("as_list", [True, False])
def test_the_status_in_a_listing(
    server: str, listing: str, job_id: int | str, answer: str, as_list: bool
) -> None:
    """Substring matches; states that raised; columns that a name with a blank shifts."""
    text: str | list[str] = listing.splitlines(keepends=True) if as_list else listing
    assert arc.check_job_status_in_stdout(job_id, text, server) == answer
    assert arc.check_job_status_in_stdout(str(job_id), text, server) == answer


def test_a_listing_that_is_none_is_no_proof() -> None:
    with pytest.raises(KeyError):
        arc.check_job_status_in_stdout(1, SLURM, "nosuch")
    with pytest.raises(ValueError, match="Unknown cluster software"):
        arc.check_job_status_in_stdout(1, SLURM, "odd")
    for text in ("slurm_load_jobs error: Socket timed out on send/recv operation\n", "Welcome!\n"):
        with pytest.raises(errors.SchedulerError):
            arc.check_job_status_in_stdout(1, text, "server2")


def test_ids_have_one_form() -> None:
    """Right-justified ids; arrays; ``cluster.proc``; servers."""
    known = parser.parse_status(SLURM, "slurm").known
    assert [arc_id(one) for one in known][:2] == ["10990729", "10990728"]
    assert arc_id("109906_12") == arc_id("109906_[1-9%2]") == "109906"
    assert arc_id("11224.0") == "11224"
    assert arc_id("123.pbs01.cluster.org") == "123"
    assert arc_id("123[4].pbs01") == arc_id("123[].pbs01") == "123[]"
    assert arc_id("5;other") == "5;other"


@pytest.mark.parametrize(
    ("soft", "stdout", "job_id"),
    [
        ("Slurm", "Submitted batch job 17670585\n", "17670585"),
        ("Slurm", "Welcome to the cluster\nSubmitted batch job 17670585 on cluster x\n",
         "17670585;x"),
        ("HTCondor", "Submitting job(s).\n1 job(s) submitted to cluster 5263.\n", "5263"),
        ("OGE", 'Your job 42 ("a1") has been submitted\n', "42"),
        ("PBS", "2016614.pbs01\n", "2016614"),
    ],
)  # fmt: skip
def test_the_id_of_a_submission(soft: str, stdout: str, job_id: str) -> None:
    """A banner in the first line; another server's id; text instead of a number."""
    assert arc_id(parser.parse_submit(stdout, soft)) == job_id


@pytest.mark.parametrize("soft", ["Slurm", "HTCondor", "OGE", "PBS"])
def test_a_submission_without_an_id_is_an_error(soft: str) -> None:
    for stdout in ("", "Welcome\n"):
        with pytest.raises(errors.SchedulerError):
            parser.parse_submit(stdout, soft)


# -- statuses -----------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        *((JobStatus("1", state), "running") for state in
          ("new", "pending", "held", "running", "suspended", "completing", "unknown")),
        (JobStatus("1", "completed", exit_code=0), "done"),
        (JobStatus("1", "failed", exit_code=3), "done"),
        (JobStatus("1", "failed", signal=9), "done"),
        (JobStatus("1", "failed", started=NOW), "done"),
        (JobStatus("1", "timeout"), "done"),
        (JobStatus("1", "out_of_memory"), "done"),
        (JobStatus("1", "failed", raw_state="Eqw"), "errored: Eqw"),
        (JobStatus("1", "failed", reason="no such queue"), "errored: no such queue"),
        (JobStatus("1", "cancelled"), "errored: cancelled"),
        (JobStatus("1", "cancelled", nodes=("n7",)), "errored on node n7"),
        (JobStatus("1", "node_fail", nodes=("n7", "n8")), "errored on node n7"),
    ],
)  # fmt: skip
def test_states_in_arcs_words(status: JobStatus, words: str) -> None:
    """Absent from the queue was done, whatever had become of the job."""
    assert arc_status(status, over=False) == words
    if not status.is_final:
        assert arc_status(status, over=True) == "done"


# -- listings without header --------------------------------------------------------------------


def without_header(listing: str, lines: int) -> str:
    return "".join(listing.splitlines(keepends=True)[lines:])


@pytest.mark.parametrize(
    ("server", "command", "listing", "answers"),
    [
        ("server2", "squeue -h -u $USER", without_header(SLURM, 1),
         {"10990728": "running", "109905": "errored", "1099072": "done"}),
        ("server2", 'squeue -h -u $USER -o "%i %t"', "10 R\n11 PD\n12 NF\n",
         {"10": "running", "11": "running", "12": "errored", "1": "done"}),
        ("server2", 'export X=";"; squeue -h -o "%i|%T|%j" | grep a', "10|RUNNING|a 1\n",
         {"10": "running", "11": "done"}),
        ("server2", "squeue -u $USER | awk '{print $1, $5}' | tail -n +2", "10 R\n11 CA\n",
         {"10": "running", "11": "errored", "12": "done"}),
        ("server2", "squeue -h -u $USER", "", {"10": "done"}),
        ("server1", "qstat -u $USER | tail -n +3", without_header(OGE, 2),
         {"588334": "running", "588348": "errored", "5883": "done"}),
        ("server1", "qstat -u $USER", "", {"10": "done"}),
        ("pbs", "qstat -u $USER | grep $USER",
         "2016614.zeldo.local  u780444  workq  scan.pbs  75380  1  10  --  730:00:00 R  00:00:20\n"
         "2016616.zeldo.local  u780444  workq  scan.pbs     --  1  10  --  730:00:00 Q  --\n",
         {"2016614": "running", "2016616": "running", "201661": "done"}),
        ("condor", "condor_q -af:j Owner", "5231.0 R 10 7885 a20596 130\n",
         {"5231": "running", "523": "done"}),
    ],
)  # fmt: skip
def test_a_listing_without_header_is_read_by_the_commands_form_or_its_columns(
    server: str,
    command: str,
    listing: str,
    answers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arc, "check_status_command", {SERVERS[server]["cluster_soft"]: command})
    said = {one: arc.check_job_status_in_stdout(one, listing, server) for one in answers}
    assert said == answers


@pytest.mark.parametrize(
    ("server", "listing"),
    [
        ("server2", ""),  # squeue prints a header at least
        ("server2", "10 R PD\n"),  # which of them is the state?
        ("server2", "10 normal\n11 normal\n"),
        ("server2", "slurm_load_jobs error: Unable to contact slurm controller\n"),
        ("server1", "error: commlib error: got select error (Connection refused)\n"),
        ("pbs", "qstat: cannot connect to server pbs01 (errno=15010)\n"),
        ("condor", "Error: Extra Info: You probably saw this error because the condor_schedd\n"),
    ],
)
def test_what_cannot_be_read_is_said_and_is_not_done(server: str, listing: str) -> None:
    with pytest.raises(errors.SchedulerError):
        arc.check_job_status_in_stdout(10, listing, server)


def test_the_nodes_that_a_filter_left_of_a_listing() -> None:
    grid = ArcCommands(get("sge"), SiteCommands(nodes="qstat -f | grep long"))
    lines = (
        "long1@node01.cluster           BIP   0/0/8          -NA-     lx24-amd64    aAdu\n"
        "long1@node02.cluster           BIP   0/0/8          0.01     lx24-amd64    \n"
        "long1@node03.cluster           BIP   0/4/8          4.01     lx24-amd64    \n"
        "long1@node04.cluster           BIP   0/8/8          8.01     lx24-amd64    \n"
        "long2@node04.cluster           BIP   0/1/8          8.01     lx24-amd64    \n"
    )
    assert {node.name: node.state for node in grid.parse_nodes(Answer(lines))} == {
        "node01.cluster": "down", "node02.cluster": "idle", "node03.cluster": "mixed",
        "node04.cluster": "mixed",
    }  # fmt: skip
    assert grid.parse_nodes(Answer("", "", 1)) == []
    for answer in (Answer("", "error: commlib error", 1), Answer("", "", 127)):
        with pytest.raises(errors.SchedulerError):
            grid.parse_nodes(answer)


def test_a_framed_listing_without_header_is_read_too() -> None:
    site = ArcCommands(get("slurm"), SiteCommands(status="squeue -h -u $USER"))
    frame = "OJ+ab\nOJ:ab begin listing\n{}\nOJ:ab end listing 0\nOJ-ab\n"
    text = frame.format(without_header(SLURM, 1))
    assert read_frame(text), "the frame of this test is one"
    snapshot = site.parse_status(Answer(text), requested=["10990728", "7"])
    assert (list(snapshot.known), snapshot.absent) == (["10990728"], ("7",))
    assert "10990728" in site.parse_status(Answer(text)).known

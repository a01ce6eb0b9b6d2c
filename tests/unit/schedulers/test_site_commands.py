"""A scheduler behind a site's own commands: its words are kept, its listings not overrated."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openssh_jobs.errors import InputError, SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome, JobState, Snapshot
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.request import SubmitRequest
from openssh_jobs.schedulers.site_commands import Custom, SiteCommands

CONDOR = (
    "condor_q -cons 'Member(Jobstatus,{1,2})' -af:j "
    '\'{"0","P","R","X","C","H",">"}[JobStatus]\' RequestCpus RequestMemory JobName'
)
HEADER = "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"


class Site:
    """Programs of a site, played by scripts that print what a test wants."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def program(self, name: str, prints: str = "", *, code: int = 0, says: str = "") -> None:
        path = self.directory / name
        path.write_text(
            f'#!/bin/sh\nprintf \'%s\\n\' "$0" "$@" >>{self.directory}/calls\n'
            f"cat <<'END'\n{prints}END\ncat >&2 <<'END'\n{says}END\nexit {code}\n"
        )
        path.chmod(0o755)

    def run(self, script: str) -> tuple[str, str, int]:
        done = subprocess.run(
            ["/bin/sh", "-c", os.fsencode(script)],
            env={"PATH": f"{self.directory}:/usr/bin:/bin", "USER": "me"},
            capture_output=True, timeout=20, check=False, cwd=self.directory,
        )  # fmt: skip
        return os.fsdecode(done.stdout), os.fsdecode(done.stderr), done.returncode

    def status(self, custom: Custom, *ids: str) -> Snapshot:
        out, err, code = self.run(custom.status_script(ids))
        return custom.parse_status(Answer(out, err, code), requested=ids)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "bin")


def custom(soft: str, **commands: str) -> Custom:
    return Custom(get(soft), SiteCommands(**commands))


@pytest.mark.parametrize(
    ("soft", "command", "program", "prints", "known"),
    [
        ("Slurm", "squeue -u $USER", "squeue", HEADER, None),
        ("Slurm", "squeue -h -u $USER", "squeue", "", None),
        ("Slurm", "export A=1; squeue -u $USER", "squeue",
         HEADER + "          5     batch      a12       me PD       0:00      1 (Priority)\n",
         JobState.PENDING),
        ("OGE", "export SGE_ROOT=/x; qstat -u $USER", "qstat", "", None),
        ("PBS", "qstat -u $USER", "qstat", "", None),
        ("HTCondor", CONDOR, "condor_q", "", None),
        ("HTCondor", CONDOR, "condor_q", "5.0 R 10 28672 a2\n", JobState.RUNNING),
    ],
)  # fmt: skip
def test_a_listing_of_the_site_is_read(
    site: Site, soft: str, command: str, program: str, prints: str, known: JobState | None
) -> None:
    site.program(program, prints)
    found = site.status(custom(soft, status=command), "5", "55")
    assert found.absent == (("5", "55") if known is None else ("55",))
    assert [one.state for one in found.known.values()] == ([] if known is None else [known])
    assert "$USER" not in site.calls()


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("slurm_load_jobs error: Socket timed out on send/recv operation\n", 1),
        ("slurm_load_jobs error: Unable to contact slurm controller\n", 0),
        ("squeue: command not found\n", 127),
    ],
)
def test_a_listing_that_failed_is_an_error(site: Site, says: str, code: int) -> None:
    site.program("squeue", code=code, says=says)
    with pytest.raises(SchedulerError):
        site.status(custom("Slurm", status="squeue -u $USER"), "5")


def test_a_listing_that_was_cut_off_is_no_answer(site: Site) -> None:
    slurm = custom("Slurm", status="squeue -u $USER")
    site.program("squeue", HEADER)
    out, err, code = site.run(slurm.status_script(["5"]))
    for length in range(out.index("begin listing"), len(out) - 1):
        with pytest.raises(SchedulerError):
            slurm.parse_status(Answer(out[:length], err, code), requested=["5"])


def test_a_listing_that_ends_the_shell_ends_only_itself(site: Site) -> None:
    slurm = custom("Slurm", status="echo nothing here; exit 3")
    with pytest.raises(SchedulerError):
        site.status(slurm, "5")


def test_no_listing_of_the_site_is_the_schedulers_own() -> None:
    slurm = get("slurm")
    plain = custom("Slurm", submit="sbatch")
    assert plain.status_script(["5"]) == slurm.status_script(["5"])
    assert plain.history_script(["5"]) == slurm.history_script(["5"])
    assert (plain.name, plain.poll_floor, plain.directive) == ("slurm", 10, "#SBATCH")
    direct = custom("local", submit="x")
    assert direct.cleanup_script(["5"]) == get("direct").cleanup_script(["5"])


def test_submitting_by_the_sites_command(site: Site) -> None:
    site.program("sbatch", "Welcome\nSubmitted batch job 17\n")
    slurm = custom("Slurm", submit="export A=1; sbatch")
    request = SubmitRequest(script="/d/-it's $(x).sh", directory="/d", token="t")
    out, err, code = site.run(slurm.submit_script(request))
    assert slurm.parse_submit(Answer(out, err, code)) == "17"
    assert site.calls()[1:] == ["/d/-it's $(x).sh"]
    site.program("sbatch", code=1, says="sbatch: error: invalid partition specified: x\n")
    out, err, code = site.run(slurm.submit_script(request))
    with pytest.raises(SubmitRejected):
        slurm.parse_submit(Answer(out, err, code))
    with pytest.raises(SchedulerError, match="put it into the script") as caught:
        slurm.check_options(SubmitRequest(script="s", cpus=2))
    assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")


def test_cancelling_by_the_sites_command(site: Site) -> None:
    site.program("scancel")
    slurm = custom("Slurm", cancel="scancel")
    out, err, code = site.run(slurm.cancel_script(["5", "7_2"]))
    said = slurm.parse_cancel(Answer(out, err, code), requested=["5", "7_2"])
    assert set(said.values()) == {CancelOutcome.REQUESTED}
    assert site.calls()[1:] == ["5", "7_2"]
    for bad in ("", "*", "-u me", "5; id"):
        with pytest.raises(InputError):
            slurm.cancel_script([bad])
    site.program("scancel", code=8, says="scancel: error: Unable to contact slurm controller\n")
    out, err, code = site.run(slurm.cancel_script(["5"]))
    with pytest.raises(SchedulerError) as caught:
        slurm.parse_cancel(Answer(out, err, code), requested=["5"])
    assert caught.value.kind == "transient"


def test_nodes_by_the_sites_command(site: Site) -> None:
    site.program("sinfo", "HOSTNAMES STATE CPU_LOAD REASON\nn1 mix 0.1 none\nn2 down* N/A broken\n")
    slurm = custom("Slurm", nodes='sinfo -o "%n %t %O %E"')
    out, err, code = site.run(slurm.nodes_script())
    nodes = slurm.parse_nodes(Answer(out, err, code))
    assert [(node.name, node.state) for node in nodes] == [("n1", "mixed"), ("n2", "down")]
    assert site.calls()[1:] == ["-o", "%n %t %O %E"]

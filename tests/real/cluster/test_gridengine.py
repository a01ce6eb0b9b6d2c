"""A real Grid Engine over ssh: what is reported is what its own accounting says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from openssh_jobs import Cluster, JobState
from openssh_jobs.errors import ArrayOutput, InputError, SchedulerError, SubmitRejected
from openssh_jobs.jobs import CancelOutcome
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room
from tests.lab.site import Host


@pytest.fixture
def room(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        yield room


# -- submitting -----------------------------------------------------------------------------


def test_a_text_is_submitted_and_its_output_read(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("echo hello; echo oops >&2; pwd", name="hi|there")
    assert job.id.isdigit()
    status = job.wait(timeout=60)
    assert (status.state, job.exit_code, status.source) == ("completed", 0, "accounting")
    assert (job.name, status.name, job.directory) == ("hi|there", "hi|there", room.here)
    assert (status.user, status.nodes) == ("hpcalice", ("login",))
    assert list(job.tail()) == ["hello\n", f"{room.here}\n"]
    assert list(job.tail("stderr")) == ["oops\n"]
    assert gridengine.own_word(job.id) == ("0", "0")
    record = gridengine.accounting(job.id)[0]
    assert status.queue == record["qname"]
    for key, said in (("qsub_time", status.submitted), ("end_time", status.ended)):
        assert said is not None
        assert said.strftime("%a %b %e %H:%M:%S %Y") == record[key]


def test_a_local_file_and_an_uploaded_directory(room: Room, tmp_path: Path) -> None:
    script = tmp_path / "step.sh"
    script.write_text("#!/bin/sh\necho $REQNAME\n")
    job = room.cluster.submit(script_file=script, directory=room.here)
    assert job.wait(timeout=60).state is JobState.COMPLETED
    assert (job.name, list(job.tail())) == ("step.sh", ["step.sh\n"])
    source = tmp_path / "input"
    source.mkdir()
    (source / "run.sh").write_text("#!/bin/sh\ncat data > result\n")
    (source / "data").write_text("42\n")
    other = room.cluster.submit("run.sh", upload=source, directory=f"{room.here}/new/work")
    assert other.wait(timeout=60).state is JobState.COMPLETED
    other.fetch(tmp_path / "back")
    assert (tmp_path / "back" / "result").read_text() == "42\n"


def test_arguments_reach_the_script_as_they_are(room: Room) -> None:
    arguments = ["-v", "--", "a  b", "", "$HOME `id` 100%", "/etc/passwd", "it's", "*", "é"]
    job = room.submit('printf "%s\\0" "$@" >out', arguments=arguments)
    assert job.wait(timeout=60).exit_code == 0
    assert (room.path / "out").read_text().split("\0")[:-1] == arguments
    with pytest.raises(InputError, match="no argument of a script with a newline"):
        room.submit(arguments=["a\nb"])


@pytest.mark.parametrize("name", ["1st", "a b", "é", "a:b", "a@b", "a/b", "a\nb", "*"])
def test_a_name_that_it_does_not_take_makes_no_job(
    room: Room, gridengine: GridEngineLab, name: str
) -> None:
    with pytest.raises(SchedulerError):
        room.submit("sleep 300", name=name)
    assert gridengine.command("qstat", "-u", "*") == ""


def test_directives_and_parameters_arrive(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit(
        '#$ -q short.q\necho "$COLOUR"; sleep 300',
        time_limit=timedelta(minutes=2),
        memory="0.3GiB",
        mail="user@example.org",
        stdout_path="$JOB_ID.out",
        name="parameters",
        env={"COLOUR": "b'l ue"},
        options=["-v", "COLOUR"],
    )
    said = gridengine.command("qstat", "-j", job.id)
    assert "h_rt=120" in said
    assert f"h_vmem={-(-3 * 2**30 // 10)}" in said
    assert re.search(r"mail_list: +user@example.org", said)
    assert re.search(r"stdout_path_list: +NONE:NONE:\$JOB_ID.out", said)
    assert "short.q" in said
    assert "b'l ue" not in said, "everybody can read this"
    assert next(job.tail(follow=True)) == "b'l ue\n"


def test_a_queue_that_is_none_is_refused(room: Room) -> None:
    with pytest.raises(SubmitRejected) as caught:
        room.submit(queue="nowhere.q")
    assert caught.value.kind == "invalid_request"


def test_an_array_and_its_tasks(room: Room, gridengine: GridEngineLab) -> None:
    job = room.submit("exit $((SGE_TASK_ID == 2))", array="1-3")
    ids = [f"{job.id}.{number}" for number in (1, 2, 3)]
    states = room.cluster.wait(ids, timeout=60)
    assert [one.state for one in states] == ["completed", "failed", "completed"]
    assert [one.exit_code for one in states] == [0, 1, 0]
    assert [gridengine.own_word(one)[1] for one in ids] == ["0", "1", "0"]
    assert job.wait(timeout=60).state is JobState.FAILED


def test_how_many_jobs_ended_is_one_look_through_the_accounting(room: Room, tmp_path: Path) -> None:
    script = tmp_path / "end.sh"
    script.write_text("#!/bin/sh\nexit $(($1 + ${SGE_TASK_ID#undefined} + 0))\n")
    rows = [{"arguments": [str(n % 4)]} for n in range(28)] + [{"arguments": ["4"], "array": "1-2"}]
    jobs = room.cluster.submit_many(rows, script_file=script, directory=room.here)
    ids = [job.id for job in jobs]
    room.cluster.wait(jobs, timeout=110)
    client = room.cluster.internal.client
    asked = client.scheduler().history_script([*ids, "99999"])
    assert asked is not None
    found = client.scheduler().parse_history(client.ask(asked), requested=[*ids, "99999"])
    assert [found[job_id].exit_code for job_id in ids[:-1]] == [n % 4 for n in range(28)]
    assert (found[ids[-1]].state, found.absent) == ("failed", ("99999",))
    assert "qacct -j" not in asked


def test_hold_of_a_waiting_job(room: Room, gridengine: GridEngineLab) -> None:
    before = room.submit("sleep 300", queue="short.q")
    room.until_state(before, JobState.RUNNING)
    job = room.submit(queue="short.q")
    room.until_state(job, JobState.PENDING)
    assert job.hold() is CancelOutcome.REQUESTED
    room.until_state(job, JobState.HELD)
    assert gridengine.letters(job.id) == "hqw"


# -- where the output goes --------------------------------------------------------------------

# Directives of the script, the name of the file below the job's directory, and that of stderr.
OUTPUTS = {
    "plain": ("", "plain.o{id}", "plain.e{id}"),
    "file": ("#$ -o out.txt", "out.txt", "file.e{id}"),
    "named": ("#$ -N other\n#$ -o there -e there/", "there/other.o{id}", "there/other.e{id}"),
    "merged": ("#$ -j y -e nothing", "merged.o{id}", "merged.o{id}"),
    "both": ("#$ -o there -j y", "there/both.o{id}", "there/both.o{id}"),
    "words": (
        "#$ -o there/$JOB_NAME.$JOB_ID.$TASK_ID.$USER.$HOSTNAME$SGE_ROOT\n"
        "#$ -e :$HOME/{here}/e:$JOB_IDx",
        "there/words.{id}.0.hpcalice.login$SGE_ROOT",
        "e:{id}x",
    ),
    "home": ("#$ -o ~/{here}/tilde", "tilde", "home.e{id}"),
}  # fmt: skip


def test_output_is_found_when_no_scheduler_answers_any_more(
    room: Room, gridengine: GridEngineLab, tmp_path: Path
) -> None:
    room.host.make_directory(f"{room.path.name}/there")
    jobs = {
        name: room.submit(f"{head.replace('{here}', room.path.name)}\necho {name}; echo e >&2",
                          name=None if "-N" in head else name)
        for name, (head, _, _) in OUTPUTS.items()
    }  # fmt: skip
    array = room.submit("#$ -o there/$TASK_ID\necho $SGE_TASK_ID; echo e >&2", array="2-4:2")
    members = [f"{array.id}.2", f"{array.id}.4"]
    # Another program has nothing but the journal; this one has not asked for anything, either.
    room.cluster.wait([*jobs.values(), *members], timeout=60)
    with Cluster(
        room.host.alias,
        ssh_config=room.host.config,
        scheduler="sge",
        prologue=gridengine.prologue,
        poll_interval=0.2,
        journal=str(tmp_path / "journal"),
    ) as other:
        for name, (_, out, err) in OUTPUTS.items():
            for job in (jobs[name], other.job(jobs[name].id)):
                job.wait(timeout=30)
                both = sorted(["e\n", f"{name}\n"] if out == err else [f"{name}\n"])
                assert (room.path / out.format(id=job.id)).exists(), name
                assert sorted(job.tail()) == both, name
                assert "e\n" in list(job.tail("stderr")), name
                assert (room.path / err.format(id=job.id)).exists(), name
        assert jobs["file"].stdout_path == f"{room.here}/out.txt"
        for job_id, said in zip(members, ("2\n", "4\n"), strict=True):
            for job in (room.cluster.job(job_id), other.job(job_id)):
                assert (list(job.tail()), list(job.tail("stderr"))) == ([said], ["e\n"])
                assert job.directory == room.here
        with pytest.raises(ArrayOutput, match="whose elements have a stdout each") as caught:
            list(other.job(array.id).tail())
        assert list(caught.value.elements) == members


def test_output_at_an_unknown_path(room: Room, gridengine: GridEngineLab) -> None:
    """Submitted by hand, and over: what is left to say is where it usually lies."""
    script = room.make("hand.sh", "#!/bin/sh\n#$ -o elsewhere\nexit 6\n")
    said = gridengine.command("qsub", "-wd", room.here, f"{room.here}/{script}", user="hpcalice")
    job = room.cluster.job(int(said.split()[2]))
    status = job.wait(timeout=60)
    assert (status.state, status.exit_code) == (JobState.FAILED, 6)
    assert gridengine.own_word(job.id) == ("0", "6")
    with pytest.raises(FileNotFoundError, match=r"no longer tells where .* wrote") as caught:
        list(job.tail())
    assert caught.value.filename == f"hand.sh.o{job.id}"
    assert "-o" in str(getattr(caught.value, "advice", ""))


# -- the machine --------------------------------------------------------------------------------


def test_jobs_of_mine_and_of_all(
    room: Room, gridengine: GridEngineLab, sshd: Host, tmp_path: Path
) -> None:
    job = room.submit("true", hold=True)
    theirs = gridengine.command("qsub", "-h", "-terse", "-b", "y", "/bin/true", user="hpcbob")
    try:
        assert [one.job_id for one in room.cluster.jobs()] == [job.id]
        everybody = {one.job_id: one.user for one in room.cluster.jobs(all_users=True)}
        assert everybody == {job.id: "hpcalice", theirs.strip(): "hpcbob"}
        outcome = room.cluster.cancel(theirs.strip())
        assert outcome == {theirs.strip(): CancelOutcome.PERMISSION}
    finally:
        gridengine.command("qdel", theirs.strip())


def test_nodes_and_queues(room: Room) -> None:
    (node,) = room.cluster.nodes()
    assert (node.name, node.state, set(node.queues)) == ("login", "idle", {"all.q", "short.q"})
    queues = {one.name: one for one in room.cluster.queues()}
    assert (queues["all.q"].cpus, queues["short.q"].cpus) == (8, 1)
    assert queues["all.q"].state == "up"


def test_it_is_found(room: Room, gridengine: GridEngineLab, tmp_path: Path) -> None:
    # Slurm's programs are on the path of the lab's host whether it runs or not.
    tools = room.path / "tools"
    tools.mkdir()
    for name in ("sh", "id", "sed", "grep", "od", "tr", "cat", "uname", "date"):
        (tools / name).symlink_to(str(shutil.which(name)))
    prologue = f"{gridengine.prologue}\nPATH={gridengine.directory}/bin:{tools}; export PATH"
    with Cluster(
        room.host.alias,
        ssh_config=room.host.config,
        prologue=prologue,
        journal=str(tmp_path / "other"),
    ) as cluster:
        assert cluster.jobs() == []
        assert cluster.scheduler == "sge"

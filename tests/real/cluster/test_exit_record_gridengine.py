"""Launchers on a real Grid Engine: jobs that write down their end are the same jobs otherwise."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Cluster, Job, JobState, JobStatus
from openssh_jobs.errors import SchedulerError, SubmitUnknown
from openssh_jobs.files.private_directory import MARK
from tests.lab.gridengine import GridEngineLab, open_grid_room
from tests.lab.room import Room
from tests.lab.site import Host
from tests.lab.slurm import wait_until

# What the shells read when they start; each says so in the environment.
START_FILES = {
    ".profile": 'PATH="$PATH:/from/profile"; export PATH; SEEN="$SEEN profile"; export SEEN\n'
    "umask 027\n",
    ".bash_profile": 'SEEN="$SEEN bash_profile"; export SEEN\ndefined() { echo defined; }\n',
    ".cshrc": "if (! $?SEEN) setenv SEEN none\nsetenv SEEN cshrc,$SEEN\n",
    ".login": "setenv SEEN login,$SEEN\n",
}
# What a script sees of itself, or a child of it; the names of places are made the same.
LOOK = r"""
import json, os, re, resource, sys
me = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else os.getpid()
def read(name):
    with open(f"/proc/{me}/{name}", "rb") as f:
        return os.fsdecode(f.read())
def links(top):
    found = {}
    for name in os.listdir(top):
        try:
            found[name] = os.readlink(f"{top}/{name}")
        except FileNotFoundError:
            pass
    return found
facts = {
    "cmdline": read("cmdline").split("\0"),
    "exe": os.readlink(f"/proc/{me}/exe"),
    "cwd": os.readlink(f"/proc/{me}/cwd"),
    "fds": links(f"/proc/{me}/fd"),
    "status": [one for one in read("status").splitlines() if re.match("Sig(Ign|Blk)|Umask", one)],
    "limits": read("limits"),
    "begun with": sorted(read("environ").split("\0")),
    "environment": sorted(f"{k}={v}" for k, v in os.environ.items()),
    "arguments": sys.argv[1 + (me != os.getpid()):],
    "stdin": os.readlink("/proc/self/fd/0"),
}
print("FACTS " + json.dumps(facts))
"""


@pytest.fixture
def room(sshd: Host, gridengine: GridEngineLab, tmp_path: Path) -> Iterator[Room]:
    with open_grid_room(sshd, gridengine, tmp_path) as room:
        yield room


@pytest.fixture
def start_files(room: Room) -> Iterator[None]:
    kept = {}
    for name, text in START_FILES.items():
        path = room.host.home / name
        kept[path] = path.read_bytes() if path.exists() else None
        room.host.make(name, text.encode())
    yield
    for path, before in kept.items():
        path.unlink()
        if before is not None:
            room.host.make(path.name, before)


@contextlib.contextmanager
def attribute(lab: GridEngineLab, name: str, value: str, usual: str) -> Iterator[None]:
    """The queue short.q is another, and takes more jobs at once."""
    for words in ((name, value), ("slots", "4")):
        lab.command("qconf", "-mattr", "queue", *words, "short.q")
    try:
        yield
    finally:
        for words in ((name, usual), ("slots", "1")):
            lab.command("qconf", "-mattr", "queue", *words, "short.q")


def start_mode(lab: GridEngineLab, mode: str) -> contextlib.AbstractContextManager[None]:
    """The queue short.q starts scripts in another way."""
    return attribute(lab, "shell_start_mode", mode, "posix_compliant")


def submitted(room: Room, text: str, *, options: tuple[str, ...] = (), **asked: Any) -> list[Job]:
    """The same script twice: as it is, and with a launcher."""
    room.make("step", text)
    return [
        room.cluster.submit(
            "step", directory=room.here, options=options, record_exit=record_exit, **asked
        )
        for record_exit in (False, True)
    ]


def plain(job: Job, text: str) -> str:
    """Without what no two jobs have in common."""
    text = re.sub(rf"[^\s\"=]*/(?:job_scripts|\.script)/(?:{job.id}|body)\b", "SCRIPT", text)
    text = text.replace(str(job.token), "TOKEN")
    return re.sub(rf"(JOB_ID=|\.[oe]|/active_jobs/|/tmp/){job.id}\b", r"\1ID", text)


def facts(job: Job) -> tuple[list[str], dict[str, Any]]:
    lines = [plain(job, line) for line in job.tail()]
    found = [json.loads(line[6:]) for line in lines if line.startswith("FACTS ")]
    assert len(found) == 1, lines
    return [line for line in lines if not line.startswith("FACTS ")], found[0]


def same(bare: Job, wrapped: Job) -> None:
    """Two jobs saw the same and said the same, but for what start files said."""
    (said, one), (said_too, two) = facts(bare), facts(wrapped)
    differing = {key: (one[key], two[key]) for key in one if one[key] != two[key]}
    assert not differing
    # Of a csh that is a login shell: the stub's own says so, too.
    assert [line for line in said_too if line not in TCSH_SAYS] == [
        line for line in said if line not in TCSH_SAYS
    ]


TCSH_SAYS = (
    "Warning: no access to tty (Inappropriate ioctl for device).\n",
    "Thus no job control in this shell.\n",
)
ARGUMENTS = ("-v", "/etc/passwd", "a  b", "$HOME", "*", "it's")
SEE = "python3 see.py $$ $0"
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "the queue's shell": (f'#!/bin/csh\n{SEE} "flags $-" "$@"\nexit 3\n', ()),
    "no first line": (f"{SEE}\n#$ -l h_rt=100\nexit 3\n", ()),
    "bash": (f'{SEE} "$-" "$BASH" "$(defined)" "$BASH_SOURCE"\nexit 3\n', ("-S", "/bin/bash")),
    "bash, said inside": (f"#!/bin/sh\n:\n#$ -S /bin/bash\n{SEE}\nexit 3\n", ()),
    "csh": (f"{SEE} $argv:q\nexit 3\n", ("-S", "/bin/csh")),
    "tcsh, said inside": (f"#$ -S /usr/bin/tcsh\n{SEE}\nexit 3\n", ()),
    "python": (f"#$ -N py\n{LOOK}\nsys.exit(3)\n", ("-S", "/usr/bin/python3")),
    "perl": ("#$ -S /usr/bin/perl\n$n=$$;exec 'sh', '-c', 'python3 see.py $$ x; exit 3';\n", ()),
}
BY_FIRST_LINE = {
    "python": (f"#!/usr/bin/env python3\n{LOOK}\nsys.exit(3)\n", ()),
    "no first line": (f"{SEE}\nexit 3\n", ()),
    "an argument; -S does not count": (f'#!/bin/bash -e\n{SEE} "$-"\nexit 3\n', ("-S", "/bin/csh")),
    "-S for Python does not count": (f"#!/bin/sh\n{SEE}\nexit 3\n", ("-S", "/usr/bin/python3")),
}
ON_STDIN = {
    "sh": (f"#!/bin/csh\n{SEE} </dev/null\nexit 3\n", ()),
    "bash": (f"{SEE} </dev/null\nhead -n 1\necho no; exit 9\nexit 3\n", ("-S", "/bin/bash")),
    "csh": ("python3 see.py $$ </dev/null\nexit 3\n", ("-S", "/bin/csh")),
}


PROGRAMS = {
    "posix_compliant": {"-sh", "-bash", "-csh", "-tcsh", "python3", "sh"},
    "unix_behavior": {"python3", "/bin/sh", "/bin/bash"},
    "script_from_stdin": {"-sh", "-bash", "-csh"},
}


@pytest.mark.parametrize(
    ("mode", "cases"),
    [
        ("posix_compliant", CASES),
        ("unix_behavior", BY_FIRST_LINE),
        ("script_from_stdin", ON_STDIN),
    ],
)
def test_the_script_sees_the_same(
    room: Room,
    gridengine: GridEngineLab,
    start_files: None,
    mode: str,
    cases: dict[str, tuple[str, tuple[str, ...]]],
) -> None:
    room.make("see.py", LOOK)
    with start_mode(gridengine, mode):
        jobs = {
            name: submitted(room, text, options=options, queue="short.q", arguments=ARGUMENTS)
            for name, (text, options) in cases.items()
        }
        room.cluster.wait([job for pair in jobs.values() for job in pair], timeout=120)
    programs = {facts(pair[0])[1]["cmdline"][0] for pair in jobs.values()}
    assert programs == PROGRAMS[mode], "what Grid Engine runs a script with"
    for bare, wrapped in jobs.values():
        assert [bare.exit_code, wrapped.exit_code] == [3, 3]
        same(bare, wrapped)
        line = facts(wrapped)[1]["cmdline"]
        assert line[1:2] == ["-c"] or line[-1 - len(ARGUMENTS) :] == [*ARGUMENTS, ""]
        # Each start file was read once.  BSD's csh reads no .login for a script.
        found = facts(wrapped)[1]
        login = "" if found["exe"].endswith("/bsd-csh") else "login,"
        seen = [one for one in found["environment"] if one.startswith("SEEN=")]
        assert seen in (
            [], ["SEEN= profile"], ["SEEN= bash_profile"], [f"SEEN={login}cshrc,none"],
        )  # fmt: skip
        record, other = (gridengine.accounting(job.id)[-1] for job in (bare, wrapped))
        # What is left are its number, times and use of the machine.
        for key in ("qname", "owner", "jobname", "account", "priority", "slots", "failed",
                    "exit_status", "granted_pe", "project"):  # fmt: skip
            assert record[key] == other[key]
        assert list((room.path / f".openssh_jobs/{wrapped.token}").glob(".script/seen.*")) == []


def test_a_starter_and_a_directory_that_is_full(
    room: Room, gridengine: GridEngineLab, start_files: None
) -> None:
    room.make("see.py", LOOK)
    room.make("starter", '#!/bin/sh\nexec "$@"\n')
    (room.path / "starter").chmod(0o755)
    with attribute(gridengine, "starter_method", f"{room.here}/starter", "NONE"):
        pair = submitted(room, f"#!/bin/bash\n{SEE}\nexit 3\n", queue="short.q")
        room.cluster.wait(pair, timeout=60)
    same(*pair)
    assert facts(pair[1])[1]["cmdline"][0] == "/bin/bash"
    pair = submitted(room, f"#!/bin/sh\n{SEE}\nexit 3\n", options=("-S", "/bin/tcsh"), hold=True)
    private = room.path / f".openssh_jobs/{pair[1].token}"
    for place in (private, private / ".script"):
        place.chmod(0o500)
    for job in pair:
        job.release()
        assert job.wait(timeout=60).exit_code == 3, "nothing is lost but the record"
    one, two = (facts(job)[1] for job in pair)
    assert two["cmdline"][:2] == ["-tcsh", "SCRIPT"]
    assert one["exe"] == two["exe"]
    assert "SEEN=login,cshrc,login,cshrc,none" in two["environment"], "read twice, this time"
    attempt = ("claim.", "attempt-", "result-")
    names = {one.name for one in private.iterdir() if not one.name.startswith(attempt)}
    assert names == {"step", ".script", MARK}
    for place in (private, private / ".script"):
        place.chmod(0o700)


RICH = """\
#!/bin/sh
#$ -N named -l h_rt=100 -v A=b,C="d e"
# a remark, and two that are no directives
 #$ -l h_cpu=1
# $ -l s_rt=9
#XY -l h_fsize=3G
#$ -m be -M somebody@there -j y -p -5 -r y -notify
echo here
cat <<END
#$ -l h_vmem=2G -hold_jid 77
END
#$ -o out.$JOB_ID
# a remark that goes on for a csh \\
"""
# Numbers and times of the one submission.
_OWN = re.compile(r"^(?:job_number|exec_file|submission_time|script_file|job_scriptfile):.*", re.M)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"name": "other", "time_limit": "0:00:50", "options": ("-S", "/bin/bash", "-now", "n")},
        {"array": "1-5:2", "options": ("-C", "#XY")},
    ],
)
def test_the_queue_understands_the_same(
    room: Room, gridengine: GridEngineLab, asked: dict[str, Any]
) -> None:
    said = []
    for job in submitted(room, RICH, hold=True, **asked):
        text = gridengine.command("qstat", "-j", job.id)
        assert re.search(rf"^script_file: .*/\.openssh_jobs/{job.token}/step$", text, re.M)
        said.append(_OWN.sub("", text))
    assert said[0] == said[1]
    if "array" in asked:
        assert "h_fsize=3G" in said[1]
        assert "h_vmem" not in said[1]
    else:
        assert "h_vmem=2G" in said[1]
        assert "h_cpu" not in said[1]
        assert re.search(r"notify: +TRUE", said[1])
        assert re.search(r"env_list: .*A=b,C=d e", said[1])


# -- the end, by its exit record ------------------------------------------------------------------


@pytest.fixture
def forgetful(room: Room) -> Iterator[Cluster]:
    """The same cluster where neither queue nor accounting knows of any job."""
    for name, body in (
        ("qstat", "echo \"<?xml version='1.0'?><job_info><queue_info></queue_info>"
                  '<job_info></job_info></job_info>"'),
        ("qacct", 'echo "error: job id $2 not found"; exit 1'),
    ):  # fmt: skip
        room.program(name, body)
    with room.another(poll_interval=0.1, grace=0.5) as cluster:
        yield cluster


def seen_anew(room: Room, forgetful: Cluster, job: Job) -> JobStatus:
    room.cluster.journal.change(
        room.cluster.host, str(job.token), state="running", exit_code=None, reason=None
    )
    return forgetful.job(job.id).status()


AGAIN = """\
echo "run $RESTARTED"
case $RESTARTED in 0) exit 99 ;; *) exit 4 ;; esac
"""


def test_exit_codes_and_what_grid_engine_makes_of_them(
    room: Room, gridengine: GridEngineLab, forgetful: Cluster
) -> None:
    jobs = {code: submitted(room, f"exit {code}\n") for code in (0, 3, 100)}
    again = submitted(room, AGAIN, options=("-r", "y"))
    text = "case $RESTARTED in 0) sleep 300 ;; esac; exit 6\n"
    moved = submitted(room, text, options=("-r", "y"))
    array = submitted(room, "exit $((SGE_TASK_ID - 2))\n", array="2-6:2")
    by_script = submitted(room, "#$ -t 2-6:2\nexit $((SGE_TASK_ID - 2))\n")
    for job in moved:
        room.until_state(job, JobState.RUNNING)
        gridengine.command("qmod", "-rj", job.id)
    room.cluster.wait([*jobs[0], *jobs[3], *again, *moved, *array, *by_script], timeout=60)
    assert [job.exit_code for job in moved] == [6, 6]
    status = seen_anew(room, forgetful, moved[1])
    assert (status.exit_code, status.restarts, status.source) == (6, 1, "marker")
    for code in (0, 3):
        assert [job.exit_code for job in jobs[code]] == [code, code]
        assert jobs[code][1].last.source == "accounting", "which is asked first"
        status = seen_anew(room, forgetful, jobs[code][1])
        assert (status.exit_code, status.source) == (code, "marker")
        assert status.state is (JobState.FAILED if code else JobState.COMPLETED)
        assert status.nodes == ("login",)
    # 99 lets it run again, 100 keeps it in the queue in error.
    for job in again:
        ends = [(one["failed"][:2].strip(), one["exit_status"].split()[0])
                for one in gridengine.accounting(job.id)]  # fmt: skip
        assert ends == [("25", "99"), ("0", "4")]
        assert list(job.tail()) == ["run 0\n", "run 1\n"]
    status = seen_anew(room, forgetful, again[1])
    assert (status.exit_code, status.restarts) == (4, 1)
    for job in jobs[100]:
        room.until_state(job, JobState.FAILED)
        assert "Eqw" in gridengine.command("qstat", "-u", room.host.user)
    assert seen_anew(room, forgetful, jobs[100][1]).exit_code == 100
    members = forgetful.wait([f"{array[1].id}.{task}" for task in (2, 4, 6)], timeout=30)
    assert [(one.exit_code, one.source) for one in members] == [
        (0, "marker"), (2, "marker"), (4, "marker"),
    ]  # fmt: skip
    assert seen_anew(room, forgetful, array[1]).exit_code == 4
    assert seen_anew(room, forgetful, by_script[1]).exit_code == 4
    seen_anew(room, forgetful, jobs[3][0])
    (bare,) = forgetful.wait([jobs[3][0]], timeout=30)
    assert bare.state is JobState.UNKNOWN
    assert "submitted without a launcher" in str(bare.reason)


HEARS = """\
trap 'echo usr1' USR1; trap 'echo usr2' USR2; trap 'echo term; exit 7' TERM
echo ready
while :; do sleep 0.1; done
"""


def output(job: Job) -> list[str]:
    try:
        return list(job.tail())
    except FileNotFoundError:
        return []


def test_signals_arrive(room: Room, gridengine: GridEngineLab, forgetful: Cluster) -> None:
    suspended, deleted = (submitted(room, HEARS, options=("-notify",)) for _ in range(2))
    for job in (*suspended, *deleted):
        room.until(job, lambda job=job: output(job) == ["ready\n"], "the start")  # type: ignore[misc]
    user = room.host.user
    for command, jobs in (("qmod -sj", suspended), ("qdel", deleted)):
        gridengine.command(*command.split(), *(job.id for job in jobs), user=user)
    for job in deleted:
        assert job.wait(timeout=60).is_final
    for jobs, word in ((suspended, "usr1\n"), (deleted, "usr2\n")):
        for job in jobs:
            room.until(job, lambda job=job, word=word: word in output(job), word)  # type: ignore[misc]
            # Grid Engine sends it twice as often as not, with and without a launcher.
            said = output(job)
            assert said == ["ready\n", *[word] * (len(said) - 1)]
            # The second, if it is quick, may come twice where there is a launcher.
            assert len(said) <= (4 if job is jobs[1] else 3)
    assert "no exit was written" in str(seen_anew(room, forgetful, deleted[1]).reason), "of a kill"


def test_a_queue_that_ends_jobs_with_term(
    room: Room, gridengine: GridEngineLab, forgetful: Cluster
) -> None:
    with attribute(gridengine, "terminate_method", "SIGTERM", "NONE"):
        jobs = submitted(room, HEARS, queue="short.q")
        for job in jobs:
            room.until(job, lambda job=job: output(job) == ["ready\n"], "the start")  # type: ignore[misc]
        gridengine.command("qdel", *(job.id for job in jobs), user=room.host.user)
        for job in jobs:
            job.wait(timeout=60)
            assert [line for line in output(job) if line == "term\n"] == ["term\n"]
    one, two = (gridengine.accounting(job.id)[-1] for job in jobs)
    assert (one["failed"], one["exit_status"]) == (two["failed"], two["exit_status"])
    assert seen_anew(room, forgetful, jobs[1]).exit_code == 7


# -- what has none, and whose work it is -------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"options": ("-S", "/usr/bin/Rscript")}, "-S /usr/bin/Rscript names no shell"),
        ({"directory": "it's"}, "different things to different shells"),
    ],
)
def test_where_it_cannot_be_known_it_is_refused(
    room: Room, asked: dict[str, Any], why: str
) -> None:
    where = f"{room.here}/{asked.pop('directory', 'here')}"
    with pytest.raises(SchedulerError, match=why) as caught:
        room.cluster.submit(script_text="echo\n", directory=where, record_exit=True, **asked)
    assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
    assert not Path(where).exists()
    assert room.cluster.journal.rows() == []


def test_by_itself_no_job_gets_a_launcher_where_the_accounting_can_be_read(
    room: Room, gridengine: GridEngineLab, tmp_path: Path
) -> None:
    job = room.submit("true")
    assert not (room.path / f".openssh_jobs/{job.token}/.script").exists()
    room.cluster.wait([job], timeout=60)
    # Many sites keep it from their users, or on the master's own disk.
    accounting = gridengine.directory / "default/common/accounting"
    mode = accounting.stat().st_mode
    accounting.chmod(0o600)
    (tmp_path / "kept").mkdir()
    try:
        with open_grid_room(room.host, gridengine, tmp_path / "kept") as kept:
            job = kept.submit("exit 3")
            assert (kept.path / f".openssh_jobs/{job.token}/.script").exists()
            status = kept.cluster.wait([job], timeout=60)[0]
            assert (status.state, status.exit_code) == (JobState.FAILED, 3)
            assert status.source == "marker"
    finally:
        accounting.chmod(mode)


def test_the_job_itself_answers_for_a_lost_answer(room: Room, gridengine: GridEngineLab) -> None:
    """What qsub said never arrived: the same call finds the job by what it wrote itself."""
    real = gridengine.directory / "bin" / "qsub"
    room.make("bin/qsub", f'#!/bin/sh\n{real} "$@" >/dev/null\n')
    (room.path / "bin/qsub").chmod(0o755)
    with Cluster(
        room.host.alias, ssh_config=room.host.config, scheduler="sge", poll_interval=0.2,
        journal=room.cluster.journal.path,
        prologue=f"{gridengine.prologue}; PATH={room.here}/bin:$PATH; export PATH",
    ) as deaf:  # fmt: skip
        asked: dict[str, Any] = {
            "script_text": "sleep 1; exit 6\n",
            "directory": room.here,
            "token": "once",
        }
        with pytest.raises(SubmitUnknown):
            deaf.submit(**asked, record_exit=True)
        owner = room.path / ".openssh_jobs/once/owner"
        wait_until("the start", owner.exists)
        job = deaf.submit(**asked, record_exit=True)
        assert job.id == owner.read_text().strip()
        assert job.wait(timeout=60).exit_code == 6

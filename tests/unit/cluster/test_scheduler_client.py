"""Scripts of a scheduler, however long, on a host whose commands take 128 KiB an argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from openssh_jobs import LocalConnection
from openssh_jobs.cluster import attempt, scheduler_client
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.commands import limits
from openssh_jobs.errors import InvalidAnswer
from openssh_jobs.schedulers.answer import Answer
from openssh_jobs.schedulers.slurm.scheduler import Slurm

from .fakes import Bench, LocalHost

IDS = [str(1_000_000 + n) for n in range(12_000)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    journal = Journal(tmp_path / "journal")
    yield Bench(LocalHost(home), journal, "slurm")
    journal.close()


def test_the_history_of_ten_thousand_jobs_is_asked_for_in_one_round_trip(bench: Bench) -> None:
    row = "COMPLETED|0:0|u|p|a|1|n1|t|t|t|00:00:01|01:00:00|j"
    bench.host.program(
        "sacct",
        "echo asked >>asked\nfor word; do case $last in -j) jobs=$word ;; esac\n"
        "case $word in --delimiter=*) d=${word#--delimiter=} ;; esac; last=$word; done\n"
        'printf "%s\\n" "$jobs" | tr , "\\n" | '
        f"""awk -v d="$d" -v row='{row}' 'BEGIN {{ gsub("[|]", d, row) }} """
        "{ print $0 d $0 d row d }'",
    )
    # What compares each id with the whole answer needs ten times that.
    bench.client._prologue = b"ulimit -t 4"
    script = Slurm().history_script(IDS)
    assert len(script) > 128 * 1024
    answer = bench.client.ask(script)
    found = Slurm().parse_history(answer, requested=IDS)
    assert found.known.keys() == set(IDS)
    assert (bench.host.used, len((bench.host.home / "asked").read_text().split())) == (["run"], 2)


def test_a_query_compiles_no_expression(bench: Bench) -> None:
    """A mark is another one each time: compiling it took a millisecond of a query."""
    bench.client.ask("echo one")
    compiled: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(("_parser.py", "sre_parse.py")):
            compiled.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        answer = bench.client.ask("echo two")
    finally:
        sys.setprofile(before)
    assert (answer.stdout, compiled) == ("two\n", [])


@pytest.mark.parametrize("prologue", ["cat >/dev/null", "echo hello"])
def test_a_long_script_is_not_the_prologues(bench: Bench, prologue: str) -> None:
    bench.client._prologue = prologue.encode()
    answer = bench.client.ask("true " + "x" * 200_000 + '\necho "$#" here; cat\nexit 3')
    assert (answer.stdout.split()[-2:], answer.returncode) == (["1", "here"], 3)


def test_a_long_script_that_is_cut_off_is_not_run(bench: Bench) -> None:
    whole = bench.host._sh
    bench.host._sh = lambda script, data=b"": whole(script, data[:-1])  # type: ignore[method-assign]
    answer = bench.client.ask("echo ran\n" + "# x\n" * 60_000)
    assert (answer.stdout, answer.returncode) == ("", 125)


@pytest.mark.parametrize("awk", ["exit 1", None])
def test_where_awk_fails_more_is_asked_and_not_less(bench: Bench, awk: str | None) -> None:
    if awk is not None:
        bench.host.program("awk", awk)
    bench.host.program("sacct", "exit 0")
    bench.host.program("squeue", "exit 0")
    bench.host.program("scontrol", 'echo "$*" >>asked; echo "Invalid job id specified" >&2; exit 1')
    bench.client.ask(Slurm().history_script(["4711", "4712"]))
    asked = (bench.host.home / "asked").read_text()
    assert "show job 4711" in asked
    assert "show job 4712" in asked


def test_a_status_that_is_none_is_no_answer() -> None:
    digits = "9" * 5000
    answer = Answer(f"words\nOJ {digits}\nmore\nOJ 3\n", "", 0)
    (found,) = scheduler_client.split_answers(answer, "OJ", 1)
    assert found.returncode == 3
    cells = ["there", "", "1", "", "no", digits, "", "", digits, "", ".", "complete"]
    for number in (digits, "\u00b2"):
        cells[5] = cells[8] = number
        (trace,) = attempt.read_traces("\0".join([*cells, "mark", ""]).encode(), "mark")
        assert (trace.where, trace.number, trace.answer) == ("there", 0, None)


def test_a_scheduler_that_never_stops_talking_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its commands print is an answer like any other."""
    monkeypatch.setattr(limits, "LISTING", 1_000_000)
    monkeypatch.setattr(limits, "ANSWER", 1_000_000)
    connection = LocalConnection()
    journal = Journal(tmp_path / "journal")
    client = scheduler_client.SchedulerClient(
        connection, journal, "here", "slurm", login_shell=False, prologue=""
    )
    with connection:
        for script, once in (("yes", False), ("yes >&2", False), ("yes", True), ("yes >&2", True)):
            with pytest.raises(InvalidAnswer, match="more than 1000000 bytes came on std"):
                client.run_sh(script.encode(), 20, once=once)


def test_an_answer_that_is_cut_off_is_read_at_once() -> None:
    text = "x\n" * 500_000
    (found,) = scheduler_client.split_answers(Answer(text, "", 0), "OJ", 1)
    assert found.returncode == 1
    begun = "OJ begin 0\n" * 100_000
    assert attempt._sections(f"{begun}said\n\nOJ end 0 3\nOJ begin 1\n{text}", "OJ") == {
        0: (3, "said\n")
    }

"""The registry, the frames and the small readers that all schedulers share."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.errors import ConfigurationError, SchedulerError
from openssh_jobs.schedulers import available, detection_script, get, parse_detection
from openssh_jobs.schedulers.base import framed, read_frame, section
from openssh_jobs.schedulers.fields import (
    chunks,
    command_words,
    epoch,
    expand_array,
    expand_hosts,
    first_line,
    parse_duration,
    parse_size,
    parse_time,
    whole_number,
)
from tests.paths import CHECKOUT


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("OGE", "sge"),
        ("SGE", "sge"),
        ("Slurm", "slurm"),
        ("PBS", "pbs"),
        ("HTCondor", "htcondor"),
        ("local", "direct"),
        (" slurm ", "slurm"),
        ("Torque", "torque"),
        ("LSF", "lsf"),
    ],
)
def test_schedulers_answer_to_their_names(spelling: str, name: str) -> None:
    assert get(spelling).name == name
    assert get(spelling) is get(name)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="slurm"):
        get("cron")
    assert available()[-1] == "direct"  # a host with a scheduler can start a process too
    assert available()[0] == "slurm"  # whose qsub wrappers look like another's


THIRD = """
from openssh_jobs.schedulers.slurm import Slurm

class Flux(Slurm):
    name = "flux"
    aliases = ("fluxion",)
    probe = "command -v flux"
"""


def test_a_third_party_adds_one_with_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "flux_plugin.py").write_text(THIRD)
    info = tmp_path / "flux_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flux-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[openssh_jobs.schedulers]\nflux = flux_plugin:Flux\nbroken = flux_plugin:Nothing\n"
    )
    code = (
        "from openssh_jobs.schedulers import available, get\n"
        "assert 'flux' in available(), available()\n"
        "assert get('FLUX') is get('flux')\n"
        "assert 'flux_plugin' in __import__('sys').modules\n"
        "try:\n    get('broken')\nexcept Exception as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ConfigurationError\n", "")


def test_a_name_loads_only_its_own_file() -> None:
    code = (
        "import sys; from openssh_jobs.schedulers import get; get('sge')\n"
        "print(sorted(name for name in sys.modules if 'schedulers.' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "schedulers.gridengine" in done.stdout
    assert "schedulers.slurm" not in done.stdout


def run(shell: list[str], script: str) -> str:
    done = subprocess.run(
        [*shell, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


SHELLS = [["/bin/sh"], ["/bin/bash"]]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[-1])
def test_a_frame_has_its_parts_and_their_statuses(shell: list[str]) -> None:
    script = framed(
        section("one", "printf 'no newline'; (exit 3)"),
        section("two", "printf 'OJ:dead end two 0\\nOJ+1\\n'"),
        section("three", ":"),
    )
    out = run(shell, f"echo noise of a login; {script}")
    sections = read_frame(out)
    assert sections is not None
    assert [(one.name, one.text, one.returncode) for one in sections] == [
        ("one", "no newline", 3),
        ("two", "OJ:dead end two 0\nOJ+1\n", 0),
        ("three", "", 0),
    ]
    assert len({one.mark for one in sections}) == 1
    assert read_frame(run(shell, script)) != sections  # the mark is new each time
    begin = out.index("OJ+")
    for length in range(begin + 3, len(out) - 1):
        try:
            cut = read_frame(out[:length])
        except SchedulerError as error:
            kind = error.kind
        else:
            kind = "transport" if cut is None else ""
        assert kind == "transport", out[:length]


def test_this_host_is_looked_over() -> None:
    found = parse_detection(run(["/bin/sh"], detection_script()))
    assert "direct" in found
    assert found["direct"].split()[0] in ("Linux", "Darwin")
    with pytest.raises(SchedulerError):
        parse_detection("")


@given(st.text(max_size=300))
def test_any_text_is_a_frame_or_none_or_cut_off(text: str) -> None:
    for one in (text, f"OJ+ab\n{text}", f"OJ+ab\nOJ:ab begin x\n{text}\nOJ:ab end x 0\nOJ-ab\n"):
        try:
            read_frame(one)
        except SchedulerError as error:
            kind = error.kind
        else:
            kind = "transport"
        assert kind == "transport"


# --------------------------------------------------------------------------- small readers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:10", 10),
        ("1:02:03", 3723),
        ("1-02:03:04", 93784),
        ("2-12", 216000),
        ("90", 5400),
        ("4-04:00:00", 360000),
        ("00:00:05", 5),
        ("UNLIMITED", None),
        ("N/A", None),
        ("", None),
        (None, None),
        ("1:2:3:4:5", None),
        ("9" * 30, None),
        ("9999999-00:00:00", 863999913600),
    ],
)
def test_durations(text: str | None, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T06:48:44+0000", datetime(2026, 11, 22, 6, 48, 44, tzinfo=UTC)),
        ("2026-11-22T19:48:44+13:00", datetime(2026, 11, 22, 6, 48, 44, tzinfo=UTC)),
        ("1795330124", datetime(2026, 11, 22, 6, 48, 44, tzinfo=UTC)),
        ("2026-11-22T06:48:44", None),
        ("Sun Nov 22 06:48:44 2026", None),
        ("Unknown", None),
        ("0", None),
        ("", None),
    ],
)
def test_times_are_aware_or_nothing(text: str, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_times_without_an_offset_take_the_zone_they_are_given() -> None:
    zone = timezone(timedelta(hours=13))
    expected = datetime(2026, 11, 22, 6, 48, 44, tzinfo=UTC)
    for text in ("2026-11-22T19:48:44", "Sun Nov 22 19:48:44 2026", "11/22/2026 19:48:44"):
        assert parse_time(text, zone) == expected
    assert epoch(-1) is None
    assert epoch(10**30) is None
    assert epoch(True) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("2000M", 2000 * 2**20), ("1.5G", 3 * 2**29), ("64gb", 64 * 2**30), ("4488kb", 4488 * 1024),
     ("7", 7), ("x", None), ("", None), (None, None), ("4gb/4gb", None)],
)  # fmt: skip
def test_sizes(text: str | None, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ("n1",)),
        ("n[1-3],login", ("n1", "n2", "n3", "login")),
        ("n[08-10]", ("n08", "n09", "n10")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("n[1,3,5-6]-ib", ("n1-ib", "n3-ib", "n5-ib", "n6-ib")),
        ("(null)", None),
        ("", None),
        ("n[5-1]", None),
        ("n[1-999999999]", ("n[1-999999999]",)),
        ("n[1-60000],m[1-60000]", ("n[1-60000],m[1-60000]",)),
    ],
)
def test_lists_of_hosts(text: str, names: tuple[str, ...] | None) -> None:
    assert expand_hosts(text) == names


def test_lists_of_indices() -> None:
    assert expand_array("0-9:3,12%2") == [0, 3, 6, 9, 12]
    assert expand_array("1-7:3") == [1, 4, 7]
    for nonsense in ("", "zzz", "1-", "1--2", "0-99999999", "1,,2"):
        assert expand_array(nonsense) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("squeue -h -o '%i|%T'", ["squeue", "-h", "-o", "%i|%T"]),
        ("cd ~/x && /usr/bin/squeue --me | head", ["/usr/bin/squeue", "--me"]),
        ("sacct --delimiter=$'\\x1f' -n", ["sacct", "--delimiter=\x1f", "-n"]),
        ("echo 'unbalanced", []),
        ("ls", []),
        ("", []),
        (None, []),
    ],
)
def test_words_of_a_command(command: str | None, words: list[str]) -> None:
    assert command_words(command, ("squeue", "sacct")) == words


@given(st.text(max_size=60))
def test_no_text_breaks_a_small_reader(text: str) -> None:
    for read in (parse_duration, parse_time, parse_size, expand_hosts, whole_number, epoch):
        read(text)
    expand_array(text)
    assert "\n" not in first_line(text)
    command_words(text, ("squeue",))


def test_long_lists_go_in_pieces_that_fit_a_command_line() -> None:
    ids = [str(number) for number in range(100_000, 130_000)]
    batches = list(chunks(ids))
    assert [one for batch in batches for one in batch] == ids
    assert all(len(" ".join(batch)) < 64_000 for batch in batches)
    assert len(batches) == 5

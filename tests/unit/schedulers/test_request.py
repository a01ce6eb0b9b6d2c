"""The options of ``submit`` stand once: what takes them takes the same ones."""

from __future__ import annotations

import inspect
import re
import shlex
import typing
from dataclasses import MISSING, fields
from datetime import timedelta

import pytest

from openssh_jobs import Cluster
from openssh_jobs.cli import submit
from openssh_jobs.cli.options import Parser
from openssh_jobs.cluster.specification import Specification, SubmitOptions
from openssh_jobs.errors import InputError, SchedulerError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.request import JobOptions, SubmitRequest
from tests.paths import CHECKOUT

OPTIONS = {option.name: option for option in fields(JobOptions)}
# What the caller of submit gives beside them, and why it is none of the scheduler's options.
OF_THE_SUBMISSION = {
    "script", "script_file", "script_text", "directory", "upload",  # what is run, and where
    "env", "record_exit", "token", "again", "dry_run",
}  # fmt: skip
# Parameters of ``submit`` alone: they are not for one of many.
FOR_ONE = {"again", "dry_run"}
# Jobs and ids come in any form; a list of words is given as one.
ANY_FORM = {"after_ok", "after_any", "after_failed", "arguments", "options"}


def test_submit_has_each_option_with_its_type_and_default() -> None:
    parameters = inspect.signature(Cluster.submit).parameters
    assert set(parameters) - {"self"} == OF_THE_SUBMISSION | set(OPTIONS)
    for name, option in OPTIONS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        if name not in ANY_FORM:
            assert parameters[name].annotation == option.type, name
            assert parameters[name].default == option.default, name


def test_each_of_many_submissions_may_have_each_option() -> None:
    parameters = inspect.signature(Cluster.submit).parameters
    assert set(typing.get_type_hints(SubmitOptions)) == set(parameters) - {"self", *FOR_ONE}


def test_a_specification_and_a_request_have_each_option() -> None:
    for kind in (Specification, SubmitRequest):
        assert issubclass(kind, JobOptions)
        # None of them is defined again.
        assert not set(inspect.get_annotations(kind)) & set(OPTIONS)


def test_the_command_line_has_each_option() -> None:
    parser = Parser()
    submit.add_command(parser.add_subparsers(), "submits")
    known = vars(parser.parse_args(["submit", "hpc", "runs/a"]))
    lists = {"options": "option", "arguments": "argument"}
    spelled = {lists.get(name, name) for name in OPTIONS}
    assert spelled <= set(known)
    for name in spelled - {"option"}:
        assert not known[name], f"{name} has another default"


def test_each_option_has_a_default_and_a_check() -> None:
    assert all(option.default is not MISSING for option in OPTIONS.values())
    assert all("check" in option.metadata for option in OPTIONS.values())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": "a\0b"}, "name holds a zero byte"),
        ({"queue": "a\nb"}, "queue holds control characters"),
        ({"cpus": 0}, "cpus must be a positive number, not 0"),
        ({"gpus": True}, "gpus must be a positive number, not True"),
        ({"nodes": "\0"}, "nodes holds a zero byte"),
        ({"memory": "much"}, "memory must be a number of bytes from 1048576 on"),
        ({"time_limit": "3600"}, "time_limit='3600' may be 3600 seconds"),
        ({"after_any": ("*",)}, "job id"),
        ({"options": ("-x", 3)}, "an option must be a text"),
        ({"cpus": "4x"}, "cpus must be a positive number, not '4x'"),
        ({"cpus": 2.5}, "cpus must be a positive number, not 2.5"),
        ({"nodes": 1.5}, "nodes must be a positive number, not 1.5"),
        ({"gpus": ["1"]}, "gpus must be a positive number, not "),
        ({"hold": "no"}, "hold must be True or False, not 'no'"),
        ({"name": 5}, "name must be a text, not 5"),
        ({"queue": ["a"]}, "queue must be a text, not "),
        ({"array": 5}, "array must be a text, not 5"),
        ({"arguments": ("a", 3)}, "an argument must be a text"),
        ({"arguments": ("a\0",)}, "an argument must be a text"),
        ({"arguments": ("a" * 20_000,)}, "20001 bytes, more than 16384"),
        ({"array": "1-9", "max_array": 5}, "9"),
        ({"script": ""}, "the path of the script is empty"),
        ({"token": ""}, "token is empty"),
        ({"script": "x\0y"}, "script holds a zero byte"),
        ({"nodes": True}, "nodes must be a positive number, not True"),
        ({"nodes": "0"}, "nodes must be a positive number, not '0'"),
        ({"gpus": "-1"}, "gpus must be a positive number, not '-1'"),
        ({"time_limit": timedelta(0)}, "time_limit must be positive"),
        ({"after_ok": ("$(id)",)}, "job id"),
        ({"options": ("a\0",)}, "an option must be a text"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SubmitRequest(**{"script": "x", **wrong})  # type: ignore[arg-type]


def test_the_options_of_a_request_are_all_of_them() -> None:
    request = SubmitRequest(script="x", cpus=3, options=("-v",))
    assert request.job_options() == {
        **{name: option.default for name, option in OPTIONS.items()},
        "cpus": 3,
        "options": ("-v",),
    }


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (timedelta(minutes=1), 60),
        (timedelta(seconds=1.5), 2),
        ("1:00:00", 3600),
        ("00:00:01", 1),
        ("100:00:00", 360000),
        ("2-00:00:00", 172800),
        (" 1-02:03:04 ", 93784),
        (None, None),
    ],
)
def test_a_time_limit_has_one_meaning(value: timedelta | str | None, seconds: int | None) -> None:
    assert SubmitRequest(script="x", time_limit=value).seconds == seconds


@pytest.mark.parametrize(
    "text", ["0:30", "2:30", "2-12", "1-2:30", "1:60:00", "1h", "soon", "x:y:z"]
)
def test_a_time_that_schedulers_read_differently_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"time_limit must be a timedelta, HH:MM:SS or D-HH:MM:SS"):
        SubmitRequest(script="x", time_limit=text)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (2**20, 2**20),
        *((f"8{unit}", 8 * 2**30) for unit in ("G", "GB", "GiB", "g", "gb", "gib", " G")),
        ("2048K", 2**21),
        ("1.5g", 3 * 2**29),
        ("1.0000001M", 2**20 + 1),
        ("4T", 2**42),
        (None, None),
    ],
)
def test_memory_has_one_meaning(value: int | str | None, size: int | None) -> None:
    assert SubmitRequest(script="x", memory=value).memory_in(1) == size


@pytest.mark.parametrize(
    "value", [1, 8, "8", "8192", "500mw", "8 GBit", "8Gb/s", "1K", "9E", "8.G"]
)
def test_memory_without_a_known_unit_is_refused(value: int | str) -> None:
    with pytest.raises(InputError, match="memory must be"):
        SubmitRequest(script="x", memory=value)


# -- what each scheduler has --------------------------------------------------------------------

ASKED: dict[str, object] = {
    "name": "relax", "array": "1-3", "hold": True,
    "after_ok": ("7",), "after_any": ("7",), "after_failed": ("7",),
    "queue": "long", "account": "chem", "time_limit": "1:00:00", "nodes": 2,
    "cpus": 4, "memory": "3G", "gpus": 1, "qos": "high", "reservation": "res7",
    "constraint": "avx512", "stdout_path": "my.out", "stderr_path": "my.err",
    "mail": "a@example.org", "arguments": ("-v", "a b"), "options": ("--very-own",),
}  # fmt: skip
# Grid Engine takes these together with a parallel environment only.
BESIDE = {("sge", "cpus"): ("-pe", "smp", "4"), ("sge", "nodes"): ("-pe", "mpi", "2")}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["slurm", "sge", "pbs", "torque", "htcondor", "lsf", "direct"])
def test_an_option_reaches_the_scheduler_or_is_refused(name: str, option: str) -> None:
    scheduler = get(name)
    beside = BESIDE.get((name, option), ())
    plain = SubmitRequest(script="x", options=beside)
    request = SubmitRequest(**{"script": "x", "options": beside, option: ASKED[option]})  # type: ignore[arg-type]
    if option not in scheduler.capabilities:
        with pytest.raises(SchedulerError, match=f"does not support {option}") as caught:
            scheduler.check_options(request)
        assert (caught.value.kind, caught.value.sent) == ("unsupported", "no")
    else:
        scheduler.check_options(request)
    if option in scheduler.capabilities and not beside:
        assert scheduler.submit_script(request) != scheduler.submit_script(plain)


def test_the_page_says_what_each_has() -> None:
    page = (CHECKOUT / "docs" / "schedulers.rst").read_text()
    table = page[page.index("parameter         Slurm") :].split("\n\n")[0].splitlines()
    columns = [found.span() for found in re.finditer("=+", table[1])]
    rows = [[line[begin:end].strip() for begin, end in columns] for line in table[2:-1]]
    said = {row[0]: row[1:] for row in rows}
    heads = ("slurm", "sge", "pbs", "torque", "htcondor", "lsf", "direct")
    said |= dict.fromkeys(("after_ok", "after_failed"), said["after_ok, failed"])
    said |= dict.fromkeys(("cpus", "nodes"), said["cpus, nodes"])
    said |= dict.fromkeys(("stdout_path", "stderr_path"), said["std*_path"])
    for option in OPTIONS:
        for name, word in zip(heads, said[option], strict=True):
            has = option in get(name).capabilities
            assert has == (word in ("yes", "with -pe", option)), (option, name)


DEPENDENCIES = {
    "slurm": "--dependency=afterok:8:9_3,afterany:7,afternotok:9_[1-4]",
    "pbs": "depend=afterok:8:9[],afterany:7,afternotok:9[]",
    "torque": "depend=afterok:8:9[3],afterany:7,afternotokarray:9[]",
    "lsf": "'done(8) && done(9[3]) && ended(7) && exit(9)'",
}


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_fan_in_of_jobs_elements_and_arrays(name: str) -> None:
    element = {"slurm": "9_3", "pbs": "9[]"}.get(name, "9[3]")  # PBS waits for no element
    array = {"slurm": "9_[1-4%2]", "lsf": "9"}.get(name, "9[]")
    wish = SubmitRequest(
        script="x", after_ok=("8", element), after_any=("7",), after_failed=(array,)
    )
    assert DEPENDENCIES[name] in get(name).submit_script(wish)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slurm", "--array=1-99%8"), ("sge", "-t 1-99 -tc 8"), ("pbs", "1-99%8"),
        ("torque", "1-99%8"), ("lsf", "[1-99]%8"),
    ],
)  # fmt: skip
def test_how_many_elements_may_run_at_a_time(name: str, words: str) -> None:
    assert words in get(name).submit_script(SubmitRequest(script="x", array="1-99%8"))


def test_every_option_is_asked_for() -> None:
    assert set(ASKED) == set(OPTIONS)


# -- how schedulers say it ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slurm", "sge", "pbs", "torque", "htcondor", "lsf", "direct"])
def test_what_is_built_is_quoted(name: str) -> None:
    scheduler = get(name)
    evil = "$(touch pwned) 'x' \"y\"; `z`"
    request = SubmitRequest(
        script=f"-{evil}",
        name=evil,
        stdout_path=f"{evil}.out",
        options=(evil,) if name != "direct" else (),
    )
    script = scheduler.submit_script(request)
    if name != "direct":  # whose script is more than one line, and is run for real elsewhere
        # What sh makes of the words is what was meant.
        words = shlex.split(script, comments=False)
        assert f"./-{evil}" in words or f"<./-{evil}" in words
        assert evil in words
    for build in (scheduler.cancel_script, scheduler.status_script):
        for bad in ("$(id)", "5;6 7", "", "*", "-u alice", "5 6"):
            with pytest.raises(InputError):
                build([bad])
    with pytest.raises(InputError):
        scheduler.cancel_script([])


def test_time_limits_and_memory_in_each_ones_own_units() -> None:
    request = SubmitRequest(script="x", time_limit=timedelta(hours=30, seconds=1), memory=3 * 2**30)
    assert "--time=1-06:00:01 --mem=3145728K" in get("slurm").submit_script(request)
    assert "h_rt=108001" in get("sge").submit_script(request)
    assert "select=1:mem=3145728kb -l walltime=30:00:01" in get("pbs").submit_script(request)
    assert "mem=3145728kb,walltime=30:00:01" in get("torque").submit_script(request)
    assert "-W 1801 -M 3072MB" in get("lsf").submit_script(request)
    with pytest.raises(InputError):
        get("pbs").submit_script(SubmitRequest(script="x", time_limit="soon"))
    mail = SubmitRequest(script="x", mail="a@b", reservation=None)
    assert "--mail-user=a@b --mail-type=END,FAIL" in get("slurm").submit_script(mail)
    assert "-M a@b -m ea" in get("sge").submit_script(mail)
    assert "-M a@b -m ae" in get("pbs").submit_script(mail)
    assert "-u a@b" in get("lsf").submit_script(mail)

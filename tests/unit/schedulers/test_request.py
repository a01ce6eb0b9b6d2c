"""The options of ``submit`` stand once: what takes them takes the same ones."""

from __future__ import annotations

import argparse
import inspect
import shlex
from dataclasses import MISSING, fields
from datetime import timedelta

import pytest

from openssh_jobs import Cluster
from openssh_jobs.cli import submit
from openssh_jobs.cluster.specification import Specification
from openssh_jobs.errors import InputError
from openssh_jobs.schedulers import get
from openssh_jobs.schedulers.request import JobOptions, SubmitRequest

OPTIONS = {option.name: option for option in fields(JobOptions)}
# What the caller of submit gives beside them, and why it is none of the scheduler's options.
OF_THE_SUBMISSION = {
    "script", "script_file", "script_text", "directory", "upload",  # what is run, and where
    "env", "record_exit", "token",
}  # fmt: skip
# Jobs and ids come in any form; a list of words is given as one.
ANY_FORM = {"after_ok", "after_any", "after_failed", "options"}


def test_submit_has_each_option_with_its_type_and_default() -> None:
    parameters = inspect.signature(Cluster.submit).parameters
    assert set(parameters) - {"self"} == OF_THE_SUBMISSION | set(OPTIONS)
    for name, option in OPTIONS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        if name not in ANY_FORM:
            assert parameters[name].annotation == option.type, name
            assert parameters[name].default == option.default, name


def test_a_specification_and_a_request_have_each_option() -> None:
    for kind in (Specification, SubmitRequest):
        assert issubclass(kind, JobOptions)
        # None of them is defined again.
        assert not set(inspect.get_annotations(kind)) & set(OPTIONS)


def test_the_command_line_has_each_option() -> None:
    parser = argparse.ArgumentParser()
    submit.add_command(parser.add_subparsers(), "submits")
    known = vars(parser.parse_args(["submit", "hpc", "runs/a"]))
    spelled = {"option" if name == "options" else name for name in OPTIONS}
    assert spelled <= set(known)
    for name in spelled - {"option"}:
        assert not known[name], f"{name} has another default"


def test_each_option_has_a_default_and_all_but_hold_a_check() -> None:
    assert all(option.default is not MISSING for option in OPTIONS.values())
    assert [name for name, option in OPTIONS.items() if "check" not in option.metadata] == ["hold"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": "a\0b"}, "name holds a zero byte"),
        ({"queue": "a\nb"}, "queue holds control characters"),
        ({"cpus": 0}, "cpus must be a positive number, not 0"),
        ({"gpus": True}, "gpus must be a positive number, not True"),
        ({"nodes": "\0"}, "nodes holds a zero byte"),
        ({"memory": "much"}, "memory must be a positive number of bytes"),
        ({"time_limit": "3600"}, "time_limit='3600' may be 3600 seconds"),
        ({"after_any": ("*",)}, "job id"),
        ({"options": ("-x", 3)}, "an option must be a text"),
        ({"array": "1-9", "max_array": 5}, "9"),
        ({"script": ""}, "the path of the script is empty"),
        ({"token": ""}, "token is empty"),
        ({"script": "x\0y"}, "script holds a zero byte"),
        ({"nodes": True}, "nodes must be a positive number, not True"),
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


# -- how schedulers say it ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slurm", "sge", "pbs", "torque", "htcondor", "lsf", "direct"])
def test_what_is_built_is_quoted(name: str) -> None:
    scheduler = get(name)
    evil = "$(touch pwned) 'x' \"y\"; `z`"
    wish = SubmitRequest(
        script=f"-{evil}",
        name=evil,
        stdout_path=f"{evil}.out",
        options=(evil,) if name != "direct" else (),
    )
    script = scheduler.submit_script(wish)
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
    wish = SubmitRequest(script="x", time_limit=timedelta(hours=30, seconds=1), memory=3 * 2**30)
    assert "--time=1-06:00:01 --mem=3145728K" in get("slurm").submit_script(wish)
    assert "h_rt=108001" in get("sge").submit_script(wish)
    assert "select=1:mem=3145728kb -l walltime=30:00:01" in get("pbs").submit_script(wish)
    assert "mem=3145728kb,walltime=30:00:01" in get("torque").submit_script(wish)
    assert "-W 1801 -M 3072MB" in get("lsf").submit_script(wish)
    with pytest.raises(InputError):
        get("pbs").submit_script(SubmitRequest(script="x", time_limit="soon"))

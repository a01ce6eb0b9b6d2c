"""Exit codes: the one of each error, and the tables that list them."""

from __future__ import annotations

import pytest

from openssh_jobs import errors
from openssh_jobs.cli import exit_codes
from openssh_jobs.cli.exit_codes import ExitCode, UsageError
from openssh_jobs.cli.output import error_data, error_sentence
from tests.paths import CHECKOUT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (errors.ConfigurationError("x"), 2),
        (errors.InputError("x"), 2),
        (FileNotFoundError(2, "No such file or directory", "x"), 2),
        (OSError(28, "No space left on device", "x"), 1),
        (errors.remote_oserror(2, "x", host="h"), 1),
        (errors.remote_oserror(28, "x", host="h"), 1),
        (errors.TransferError("x"), 1),
        (errors.HostUnreachable("x"), 3),
        (errors.AuthenticationNeeded("x"), 3),
        (errors.ConnectionLost("x"), 3),
        (errors.SessionLimit("x"), 3),
        (errors.SubmitRejected("x", kind="invalid_request"), 4),
        (errors.SubmitLimit("x", kind="limit"), 4),
        (errors.SchedulerError("x", kind="permission"), 4),
        (errors.SchedulerError("x", kind="scheduler_missing"), 4),
        (errors.SchedulerError("x", kind="transient"), 5),
        (errors.SchedulerError("x", kind="parse_error"), 5),
        (errors.SubmitUnknown("x", token="t"), 5),
        (errors.SubmitUnknown("x", kind="permission"), 5),
        (errors.CommandFailed("x"), 5),
        (errors.CommandTimeout("x"), 5),
        (ZeroDivisionError("x"), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_codes.of_error(error) == code
    sentence = error_sentence(error)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert error_data(error)["error"]["exit_code"] == code


def test_the_help_lists_the_codes_with_their_meaning() -> None:
    assert exit_codes.help_text((ExitCode.OK, ExitCode.TIMED_OUT), first="this, or") == (
        "exit codes:\n  this, or\n  0   success\n  124 --timeout expired"
    )
    assert f"  4   {ExitCode.REFUSED.meaning}\n" in exit_codes.help_text()


def test_the_readme_lists_the_codes_with_their_meaning() -> None:
    lines = (CHECKOUT / "README.rst").read_text().splitlines()
    for code in ExitCode:
        if code not in (ExitCode.TIMED_OUT, ExitCode.BROKEN_PIPE, ExitCode.SSH):
            assert f"{code:<5}  {code.meaning}" in lines

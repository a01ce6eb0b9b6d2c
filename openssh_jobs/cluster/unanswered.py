"""The errors for submissions that have no answer, or none yet."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError, OpenSSHJobsError, SubmitUnknown
from ..files.private_directory import PRIVATE
from .journal import ASKED, FILES

if TYPE_CHECKING:
    from .journal import Row


def open_submission(row: Row) -> OpenSSHJobsError:
    """The error for a submission that has no answer yet, or was never sent."""
    if row.stage in (ASKED, FILES):
        return InputError(
            f"the submission with the token {row.token!r} has not been sent: there is no job",
            host=row.host,
            advice="Submit it again; the token may be used for it.",
        )
    return SubmitUnknown(
        "an earlier call with this token got no answer: its job may exist",
        token=row.token,
        kind="no_job_id",
        host=row.host,
        advice="recover() finds it or submits it; its script lies in "
        f"{row.place or posixpath.join(row.directory, PRIVATE, row.token)}.",
    )


def open_submissions(unknown: Sequence[SubmitUnknown], host: str) -> SubmitUnknown:
    """One error for all that stayed unknown; ``tokens`` names them."""
    first = unknown[0]
    message = first.message
    if len(unknown) > 1:
        message = f"of {len(unknown)} submissions it is not known whether their jobs exist; "
        message += f"of {first.token}: {first.message}"
    return SubmitUnknown(
        message,
        tokens=[error.token for error in unknown],
        kind=first.kind,
        host=host,
        advice=first.advice,
    )


def at_work(row: Row) -> SubmitUnknown:
    """The error for a submission that another process works on."""
    process = (row.caller or "").partition("-")[0]
    return SubmitUnknown(
        f"another call with this token is at work (process {process})",
        token=row.token,
        kind="no_job_id",
        host=row.host,
        advice="Wait for it, and call again: then its job, or its error, is known.",
    )

"""What is said of a job that has a launcher, and left no exit record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from openssh_jobs.cluster.attempt import Order
from openssh_jobs.cluster.exit_record import ExitRecords
from openssh_jobs.cluster.journal import Row
from openssh_jobs.schedulers.request import SubmitRequest


def said_of(request: str | None) -> Any:
    row = Row(
        host="h", token="t", digest="", scheduler="pbs", directory="/d", job_id="72.pbs1",
        request=request,
    )  # fmt: skip
    journal = SimpleNamespace(by_member=lambda host, job_id: row)
    files = SimpleNamespace(read_exit_records=lambda places: "at 0\nwrapped\n\ndone\n")
    client = SimpleNamespace(host="h", journal=journal)
    return ExitRecords(client, files).read(["72.pbs1"])["72.pbs1"]  # type: ignore[arg-type]


def test_what_a_job_that_never_started_was_to_wait_for() -> None:
    """PBS takes a job that waits for a forgotten one, and deletes it in the same second."""
    never = "no exit record was written: it never started"
    order = Order(request=SubmitRequest(script="x", after_ok=("67.pbs1",)))
    assert said_of(order.text()).startswith(f"{never}; it was to wait (after_ok=67.pbs1)")
    assert said_of(Order(request=SubmitRequest(script="x")).text()) == never
    assert said_of(None) == said_of("no order") == never

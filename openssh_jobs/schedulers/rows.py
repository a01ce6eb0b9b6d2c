"""What a reader has made of a listing so far.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..jobs import JobState, JobStatus

TWICE = "listed twice, with different states"


@dataclass(slots=True)
class Rows:
    """Jobs by id, and the text that is not a job."""

    known: dict[str, JobStatus] = field(default_factory=dict)
    unparsed: list[str] = field(default_factory=list)
    source: str = "queue"

    def add(self, status: JobStatus | None, text: str) -> None:
        """Add a job, or text (not blank) that is not a job."""
        if status is not None:
            self.known[status.job_id] = status
        elif text.strip():
            self.unparsed.append(text[:1000])

    def add_once(self, status: JobStatus | None, text: str) -> None:
        """The same for a listing that has each job once: one of two may be another job's text.

        The first counts; where the states differ, the job's state is unknown.
        """
        before = self.known.get(status.job_id) if status is not None else None
        if before is None or status is None:
            self.add(status, text)
        elif before.state is not status.state:
            self.known[status.job_id] = JobStatus(
                status.job_id, JobState.UNKNOWN, reason=TWICE, source=before.source
            )

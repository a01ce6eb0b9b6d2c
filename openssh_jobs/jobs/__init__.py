"""What a job is, without any host: ids, states, statuses, snapshots, nodes and queues.

Pure: nothing here talks to a host, reads a clock or opens a file.  All types are immutable, and
pickle and copy.
"""

from .job_id import JobId
from .machine import Node, Queue
from .snapshot import Snapshot
from .state import CancelOutcome, JobState
from .status import JobStatus

__all__ = ["CancelOutcome", "JobId", "JobState", "JobStatus", "Node", "Queue", "Snapshot"]

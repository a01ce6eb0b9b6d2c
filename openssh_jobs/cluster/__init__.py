"""``Cluster`` and ``Job``: batch jobs submitted, watched and ended through a host's scheduler."""

from .cluster import Cluster
from .job import Job

__all__ = ["Cluster", "Job"]

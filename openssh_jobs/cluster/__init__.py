"""``Cluster`` and ``Job``: batch jobs submitted, watched and ended through a host's scheduler.

The modules, each of which imports only from those above it:

========================  ========================================================================
``journal``               what was submitted from this machine, in SQLite
``specification``         the parameters of ``submit``, checked
``evidence``              what is known about one job, and which source wins
``tracker``               that of all jobs, and when the queue has to be queried
``learned``               what answers change in the journal
``query``                 one query of a host at a time, shared by its callers
``scheduler_client``      which scheduler a host has; runs its scripts there
``job_files``             a job's files on the host, by the functions of ``job_files.sh``
``submitted``             what the journal keeps of a submission, and submits again
``leftovers``             what submissions left on the host, listed and removed there
``tidy``                  which of that may go, and when
``exit_record``           whether a job's launcher writes one, and what it says
``shared_poll``           which process queries for all, by a lease in the journal
``history``               the queries of the history
``poller``                queries queue, history and exit records for the tracker
``waiting``               the wait for jobs, and which errors end it
``output``                what a job prints
``submission``            what is made of one specification
``submitter``             carries submissions to the host, once, many as one
``host_jobs``             what ``Cluster`` and ``Job`` share
``takeover``              jobs that another machine submitted
``job``, ``cluster``      the public classes
========================  ========================================================================

Imported when they are first used: a reader of the journal needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Cluster
    from .job import Job

__all__ = ["Cluster", "Job"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{name.lower()}", __name__), name)

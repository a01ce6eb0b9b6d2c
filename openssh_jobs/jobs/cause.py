"""``Cause``: why a job waits, or what ended it, by one code for all schedulers.  Pure."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a job waits, or what ended it, the same codes for all schedulers.

    ``UNKNOWN``: what the scheduler says does not settle it.
    """

    UNKNOWN = "unknown"
    # -- it waits for something that comes by itself
    NOT_CONSIDERED = "not_considered"
    STARTING = "starting"
    PRIORITY = "priority"
    RESOURCES = "resources"
    DEPENDENCY = "dependency"
    BEGIN_TIME = "begin_time"
    REQUEUED = "requeued"
    ARRAY_LIMIT = "array_limit"
    LICENSES = "licenses"
    RESERVATION = "reservation"
    MAINTENANCE = "maintenance"
    BURST_BUFFER = "burst_buffer"
    QUEUE_OVERLOADED = "queue_overloaded"
    CLEANING = "cleaning"
    # -- it waits for a person
    HELD_BY_USER = "held_by_user"
    HELD_BY_ADMIN = "held_by_admin"
    HELD_BY_SYSTEM = "held_by_system"
    HELD_AFTER_REQUEUE = "held_after_requeue"
    HELD_AFTER_LAUNCH_FAILURE = "held_after_launch_failure"
    ERROR_STATE = "error_state"
    DEPENDENCY_NEVER_SATISFIED = "dependency_never_satisfied"
    RESERVATION_DELETED = "reservation_deleted"
    # -- its queue or the nodes
    QUEUE_DOWN = "queue_down"
    QUEUE_INACTIVE = "queue_inactive"
    QUEUE_TIME_LIMIT = "queue_time_limit"
    QUEUE_NODE_LIMIT = "queue_node_limit"
    QUEUE_MEMORY_LIMIT = "queue_memory_limit"
    QUEUE_JOB_LIMIT = "queue_job_limit"
    QUEUE_LIMIT = "queue_limit"
    QUEUE_NOT_ALLOWED = "queue_not_allowed"
    NODES_UNAVAILABLE = "nodes_unavailable"
    CONSTRAINT = "constraint"
    REQUEST_UNSATISFIABLE = "request_unsatisfiable"
    # -- limits of a QOS, of an account, of a user, of the site
    QOS_JOB_LIMIT = "qos_job_limit"
    QOS_SUBMIT_LIMIT = "qos_submit_limit"
    QOS_CPU_LIMIT = "qos_cpu_limit"
    QOS_MEMORY_LIMIT = "qos_memory_limit"
    QOS_NODE_LIMIT = "qos_node_limit"
    QOS_GRES_LIMIT = "qos_gres_limit"
    QOS_TIME_LIMIT = "qos_time_limit"
    QOS_USAGE_LIMIT = "qos_usage_limit"
    QOS_LIMIT = "qos_limit"
    QOS_MINIMUM = "qos_minimum"
    QOS_NOT_ALLOWED = "qos_not_allowed"
    ACCOUNT_JOB_LIMIT = "account_job_limit"
    ACCOUNT_SUBMIT_LIMIT = "account_submit_limit"
    ACCOUNT_CPU_LIMIT = "account_cpu_limit"
    ACCOUNT_MEMORY_LIMIT = "account_memory_limit"
    ACCOUNT_NODE_LIMIT = "account_node_limit"
    ACCOUNT_GRES_LIMIT = "account_gres_limit"
    ACCOUNT_TIME_LIMIT = "account_time_limit"
    ACCOUNT_USAGE_LIMIT = "account_usage_limit"
    ACCOUNT_LIMIT = "account_limit"
    ACCOUNT_NOT_ALLOWED = "account_not_allowed"
    USER_LIMIT = "user_limit"
    QUOTA = "quota"
    # -- it goes on
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    # -- it is over
    COMPLETED = "completed"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CPU_TIME_LIMIT = "cpu_time_limit"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    CANCELLED_BY_USER = "cancelled_by_user"
    CANCELLED_BY_ADMIN = "cancelled_by_admin"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    BOOT_FAIL = "boot_fail"
    HOST_RESTARTED = "host_restarted"
    LAUNCH_FAILED = "launch_failed"
    NEVER_STARTED = "never_started"
    INACTIVE = "inactive"
    SYSTEM_FAILURE = "system_failure"


SENTENCES: dict[Cause, str] = {
    Cause.NOT_CONSIDERED: "the scheduler has not looked at it yet",
    Cause.STARTING: "it is being started",
    Cause.PRIORITY: "jobs of higher priority are ahead",
    Cause.RESOURCES: "what it asks for is in use",
    Cause.DEPENDENCY: "waits for another job",
    Cause.BEGIN_TIME: "it was asked to begin later",
    Cause.REQUEUED: "its run was ended and it was put back in the queue",
    Cause.ARRAY_LIMIT: "as many elements of its array run as may run at once",
    Cause.LICENSES: "the licenses that it asks for are in use",
    Cause.RESERVATION: "its reservation has not begun, or is full",
    Cause.MAINTENANCE: "it would run into a maintenance of its nodes; a shorter time limit may fit",
    Cause.BURST_BUFFER: "waits for its burst buffer",
    Cause.QUEUE_OVERLOADED: "the nodes of its queue are overloaded",
    Cause.CLEANING: "what is left of its last run is being cleaned up",
    Cause.HELD_BY_USER: "held by its owner",
    Cause.HELD_BY_ADMIN: "held by an administrator, who has to release it",
    Cause.HELD_BY_SYSTEM: "held by the scheduler",
    Cause.HELD_AFTER_REQUEUE: "put back in the queue and held there",
    Cause.HELD_AFTER_LAUNCH_FAILURE: "it could not be started, and is held since",
    Cause.ERROR_STATE: "in an error state, and not started until that is cleared",
    Cause.DEPENDENCY_NEVER_SATISFIED: "a job that it depends on did not end as required, so it "
    "can never start",
    Cause.RESERVATION_DELETED: "its reservation is gone",
    Cause.QUEUE_DOWN: "its queue starts no jobs now",
    Cause.QUEUE_INACTIVE: "its queue is closed: it takes and starts no jobs",
    Cause.QUEUE_TIME_LIMIT: "its time limit is over that of its queue, so it cannot start there",
    Cause.QUEUE_NODE_LIMIT: "it asks for more nodes than its queue allows or has",
    Cause.QUEUE_MEMORY_LIMIT: "it asks for more memory than its queue allows",
    Cause.QUEUE_JOB_LIMIT: "as many jobs of its queue run as may run at once",
    Cause.QUEUE_LIMIT: "it asks for what its queue does not have",
    Cause.QUEUE_NOT_ALLOWED: "its owner may not use this queue",
    Cause.NODES_UNAVAILABLE: "nodes that it needs are down, drained or reserved",
    Cause.CONSTRAINT: "no node has the features that it asks for now",
    Cause.REQUEST_UNSATISFIABLE: "nothing here can ever give what it asks for",
    Cause.QOS_NOT_ALLOWED: "its QOS is not allowed here",
    Cause.QOS_MINIMUM: "it asks for less than its QOS demands",
    Cause.ACCOUNT_NOT_ALLOWED: "its account is not allowed here",
    Cause.USER_LIMIT: "as many jobs of its owner run as may run at once",
    Cause.QUOTA: "a quota of the site is used up",
    Cause.RUNNING: "running",
    Cause.SUSPENDED: "suspended",
    Cause.COMPLETING: "its processes are being ended",
    Cause.COMPLETED: "ended well",
    Cause.EXIT_CODE: "its script failed",
    Cause.SIGNAL: "killed by a signal",
    Cause.OUT_OF_MEMORY: "it took more memory than it had asked for, and was killed",
    Cause.TIME_LIMIT: "its time limit was over",
    Cause.CPU_TIME_LIMIT: "its limit of CPU time was reached",
    Cause.DEADLINE: "it could not end before its deadline",
    Cause.CANCELLED: "cancelled; the scheduler does not say by whom",
    Cause.CANCELLED_BY_USER: "cancelled by its owner",
    Cause.CANCELLED_BY_ADMIN: "cancelled by an administrator",
    Cause.PREEMPTED: "a job of higher priority took its place",
    Cause.NODE_FAIL: "its node failed",
    Cause.BOOT_FAIL: "its node did not boot",
    Cause.HOST_RESTARTED: "the host was restarted while it ran",
    Cause.LAUNCH_FAILED: "its script could not be started",
    Cause.NEVER_STARTED: "it never started",
    Cause.INACTIVE: "it was ended because it did nothing",
    Cause.SYSTEM_FAILURE: "the scheduler or its node failed",
}
"""What each code means, as a part of a sentence; those of limits are made by ``limit_sentence``."""

_LIMITED = {
    "job": "as many jobs run",
    "submit": "as many jobs are submitted",
    "cpu": "as many cores are in use",
    "memory": "as much memory is in use",
    "node": "as many nodes are in use",
    "gres": "as many GPUs or other generic resources are in use",
    "time": "it asks for more time, or more is in use,",
    "usage": "as much compute time is used up or promised",
}


def cause_sentence(cause: Cause) -> str:
    """What a code means, as a part of a sentence; empty for ``UNKNOWN``."""
    known = SENTENCES.get(cause)
    if known is not None:
        return known
    whose, _, what = cause.value.partition("_")
    owner = {"qos": "its QOS", "account": "its account"}.get(whose)
    if owner is None:
        return ""
    said = _LIMITED.get(what.removesuffix("_limit"))
    if said is None:
        return f"a limit of {owner} is reached"
    return (
        f"{said} as {owner} allows"
        if what != "time_limit"
        else f"it asks for more time than {owner} allows"
    )

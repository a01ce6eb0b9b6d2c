"""A host without a scheduler: a job is a process group with a directory of its own.  Pure."""

from .scheduler import Direct

__all__ = ["Direct"]

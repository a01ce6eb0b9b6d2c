"""A host without a scheduler: a job is a process group with its own directory.  Pure."""

from .scheduler import Direct

__all__ = ["Direct"]

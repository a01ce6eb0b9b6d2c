"""``HTCondor`` is in scheduler.py, what its commands print in the files beside it.  Pure."""

from .scheduler import HTCondor

__all__ = ["HTCondor"]

"""The PBS family: OpenPBS and PBS Professional (scheduler.py) and Torque (torque.py).  Pure."""

from .scheduler import PBS

__all__ = ["PBS"]

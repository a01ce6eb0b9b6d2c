"""For tests of programs that use this package: ``PrivateSshd``, a real ``sshd`` to log in to."""

from __future__ import annotations

from .sshd import PrivateSshd

__all__ = ["PrivateSshd"]

"""Locks that raise an error instead of a deadlock when a call interrupts their holder.

A signal handler, a finalizer or a callback of ``weakref`` interrupts a call of its own thread.
Waiting there for a lock that the interrupted call holds would never end, and a reentrant lock
(``threading.RLock``) would let it take the answer that the interrupted call waits for.  So such a
call raises ``ConfigurationError`` before anything is sent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, ConnectError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_HOLD = 3600.0
_STEP = 0.5

# How many of these locks each thread holds or waits for.  One entry is only touched by its own
# thread, so nothing has to be locked here.
_inside: Counter[int] = Counter()


def interrupted(what: str, host: str | None = None) -> ConfigurationError:
    """The error for a call that interrupts another call of the same thread."""
    return ConfigurationError(
        f"{what} was called in the middle of another call of the same thread (from a signal "
        "handler, a finalizer or a callback), so nothing was sent",
        host=host,
        advice="Set a flag there and make the call afterwards, or make it in a thread.",
    )


def refuse_inside(what: str, host: str | None = None) -> None:
    """Raise ``ConfigurationError`` if this thread holds one of these locks.

    For calls that wait for another thread, which may need that lock.
    """
    if _inside[threading.get_ident()] > 0:
        raise interrupted(what, host)


class CallLock:
    """A lock for one call at a time.  Taking it twice in a thread is a ``ConfigurationError``.

    ``what`` names the call in that error; ``counts``: whether a query of the scheduler, in
    another thread, may need the lock.
    """

    def __init__(self, what: str, host: str | None = None, *, counts: bool = True) -> None:
        self._what = what
        self._host = host
        self._counts = int(counts)
        self._lock = threading.Lock()
        # Also threads that wait for the lock: a call that interrupts them cannot wait either.
        self._threads: set[int] = set()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds it or waits for it, in a call that may be interrupted."""
        return threading.get_ident() in self._threads

    def locked(self) -> bool:
        """Whether any thread holds it."""
        return self._lock.locked()

    def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it; false if another thread holds it (for all of ``timeout`` seconds)."""
        me = threading.get_ident()
        if me in self._threads:
            raise interrupted(self._what, self._host)
        # Entered before the lock is acquired: a signal may come between the two.
        self._threads.add(me)
        _inside[me] += self._counts
        taken = False
        try:
            taken = self._lock.acquire(blocking, timeout)
        finally:
            if not taken:
                self._left(me)
        return taken

    def release(self) -> None:
        """Release it."""
        self._lock.release()
        self._left(threading.get_ident())

    def _left(self, me: int) -> None:
        self._threads.discard(me)
        _inside[me] -= self._counts
        if _inside[me] <= 0:
            del _inside[me]

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class StateLock:
    """A reentrant lock around changes of state.

    It counts like the others: ``refuse_inside`` raises while the interrupted call holds it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        me = threading.get_ident()
        _inside[me] += 1
        try:
            self._lock.acquire()
        except BaseException:
            _inside[me] -= 1
            raise

    def keep(self, timeout: float) -> bool:
        """Acquire it and never release it: for the end of what it guards.

        False if another thread holds it for all of ``timeout`` seconds.
        """
        return self._lock.acquire(timeout=timeout)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        me = threading.get_ident()
        _inside[me] -= 1
        if _inside[me] <= 0:
            del _inside[me]


# --------------------------------------------------------------------------- lock files

_of_paths: dict[str, CallLock] = {}
# Until when (time.monotonic) the thread that holds a path may need it, by its own estimate.
_needed: dict[str, float] = {}
_guard = StateLock()
_handles: set[int] = set()


@contextlib.contextmanager
def locked(path: str, *, host: str, timeout: float, needs: float = 0.0) -> Iterator[None]:
    """Hold a lock file against all threads and processes.

    ``needs``: seconds for which the lock may be held.  Others wait ``timeout`` seconds, and at
    least as long as the holder needs.  Raises ``ConnectError`` if the lock cannot be acquired.
    flock(2) is per open file, so threads have a lock of their own.
    """
    began = time.monotonic()
    with _guard:
        mine = _of_paths.setdefault(path, CallLock("a login", host))
    while True:
        left = max(began + timeout, _needed.get(path, 0.0)) - time.monotonic()
        if mine.acquire(timeout=max(0.0, min(_STEP, left))):
            break
        if left <= 0:
            raise _not_had("another thread of this program", path, host, began)
    try:
        handle = _open(path, host)
        try:
            _lock_file(handle, path, host, began, timeout)
            _needed[path] = time.monotonic() + needs
            _say(handle, f"{os.getpid()} {time.time() + needs:.0f}\n")
            yield
        finally:
            if handle in _handles:  # a forked child has closed its copy already
                _handles.discard(handle)
                _say(handle, "")
                os.close(handle)
    finally:
        if _of_paths.get(path) is mine:
            mine.release()


def _open(path: str, host: str) -> int:
    try:
        # The holder writes into it, so it must not be another name of another file.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.fstat(handle).st_nlink > 1:
            os.close(handle)
            raise OSError(errno.EMLINK, "it has another name")
    except OSError as error:
        raise _unusable(path, host, error) from error
    _handles.add(handle)
    return handle


def _lock_file(handle: int, path: str, host: str, began: float, timeout: float) -> None:
    pause = 0.002
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise _unusable(path, host, error) from error
        if time.monotonic() >= began + timeout:
            pid, until = _holder(handle)
            if time.time() >= until:
                who = f"the process {pid}" if pid else "another process"
                raise _not_had(who, path, host, began)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _holder(handle: int) -> tuple[int, float]:
    """The pid that holds a lock file, and until when it needs it; zeros if they are unknown."""
    try:
        pid, until = os.pread(handle, 100, 0).split()
        return int(pid), min(float(until), time.time() + _LONGEST_HOLD)
    except (OSError, ValueError):
        return 0, 0.0


def _say(handle: int, text: str) -> None:
    # It is only information for those who wait: a full disk must not prevent the lock.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode("ascii"), 0)


def _not_had(who: str, path: str, host: str, began: float) -> ConnectError:
    return ConnectError(
        f"{who} has held the lock of this connection for {time.monotonic() - began:.0f} s and more",
        host=host,
        advice=f"See what it does, end it if it hangs, and call again (the lock is {path}).",
    )


def _unusable(path: str, host: str, error: OSError) -> ConnectError:
    return ConnectError(
        f"the lock of this connection cannot be used: {path}: {error.strerror or error}",
        host=host,
        advice="OPENSSH_JOBS_RUNTIME_DIR names another directory, on a local file system.",
    )


def _after_fork() -> None:
    global _of_paths, _guard
    # The owners of the other locks replace them.
    _inside.clear()
    _of_paths, _guard = {}, StateLock()
    _needed.clear()
    # A copy that stays open here would keep the lock after the parent has released it.
    for handle in _handles:
        with contextlib.suppress(OSError):
            os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_after_fork)

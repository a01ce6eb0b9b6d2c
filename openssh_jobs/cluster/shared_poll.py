"""``SharedPoll``: one query of a host for all processes of this user, by leases in the journal.

Whoever needs a query takes the lease of it, queries for the jobs of all processes and stores the
answer; the others read it there.  All times are ``time.monotonic()``, which the processes of a
machine share, so that a change of the wall clock moves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .. import logs
from ..errors import ConfigurationError, ConnectError, SchedulerError, printable
from ..openssh import pid_file
from ..schedulers.answer import Answer
from .journal_view import LARGEST_ANSWER, packed_answer, unpacked_answer
from .tracker import FIRST_LOOK, rest_after

if TYPE_CHECKING:
    import sqlite3

    from .journal import Journal
    from .scheduler_client import SchedulerClient

log = logs.logger("openssh_jobs.cluster")

T = TypeVar("T")

_EARLY_LOOKS = 4.0
"""Queries before their time that all processes may make together; one more each interval."""
_SHORTEST_LEASE, _LONGEST_LEASE = 2.0, 30.0
_LONGEST_RENEWAL = 300.0
_NOTED = 1.0
"""Seconds for which a process was stopped that count; a busy machine wakes threads late, too."""
_FOLLOWED = 240.0
"""Seconds for which the jobs of a process are queried for without a sign of it."""
_WITHOUT_JOURNAL = 60.0
_KEPT = 7 * 86400.0

_READ = (
    "SELECT stamp, began, ended, taken, failures, kind, message, budget, budget_at, holder, "
    "held_until, changed FROM polls WHERE query = ?"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last query of all processes.  ``error``: it got no answer.  ``covers``: ids in it.

    ``answer`` is ``None`` also where it is too large to be shared.
    """

    stamp: int
    began: float
    ended: float
    taken: datetime
    failures: int = 0
    error: SchedulerError | None = None
    covers: frozenset[str] = frozenset()
    answer: Answer | None = None

    def is_good(self, rest: float) -> bool:
        """Whether it is still good for a process that queries every ``rest`` seconds."""
        duration = self.ended - self.began
        return time.monotonic() < self.ended + rest_after(duration, rest, self.failures)


class Pause(NamedTuple):
    """No query now: another process makes it (``busy``), or it is too early for one."""

    seconds: float
    busy: bool = False


class _State(NamedTuple):
    """A row of ``polls``."""

    stamp: int = 0
    began: float | None = None
    ended: float | None = None
    taken: float = 0.0
    failures: int = 0
    kind: str | None = None
    message: str | None = None
    budget: float = _EARLY_LOOKS
    budget_at: float = 0.0
    holder: str | None = None
    held_until: float = 0.0
    changed: float = -1e9

    def is_believed(self, now: float) -> bool:
        """Whether a query ended, and not in the future."""
        if self.began is None or self.ended is None:
            return False
        return self.began <= self.ended <= now

    def busy(self, now: float) -> float:
        """Seconds for which a living process still holds the lease."""
        left = self.held_until - now
        if self.holder is None or not 0 < left <= _LONGEST_LEASE + 1:
            return 0.0
        return 0.0 if pid_file.ended(self.holder.partition("/")[0]) else left

    def tokens(self, now: float, interval: float) -> float:
        """How many early queries are left."""
        if interval <= 0 or self.budget_at > now:
            return _EARLY_LOOKS
        return min(_EARLY_LOOKS, self.budget + (now - self.budget_at) / interval)

    def too_early(self, now: float, interval: float) -> float:
        """Seconds until the next query is allowed."""
        if not self.is_believed(now):
            return 0.0
        began, ended = self.began or 0.0, self.ended or 0.0
        due = ended + rest_after(ended - began, interval, self.failures)
        if now >= due or self.failures:
            return max(0.0, due - now)
        first = ended + min(interval, FIRST_LOOK) - now
        lacking = (1.0 - self.tokens(now, interval)) * interval
        return min(due - now, max(0.0, first, lacking))


def _state(database: sqlite3.Connection, query: str) -> _State:
    row = database.execute(_READ, (query,)).fetchone()
    return _State() if row is None else _State(*row)


def withdraw(journal: Journal, host: str) -> None:
    """Take back the stored answers of a host: the journal has learned better than they say."""
    journal.file.execute("UPDATE polls SET answer = NULL WHERE host = ?", (host,))


class SharedPoll:
    """The queries of one host and scheduler, shared with the other processes of this user.

    ``name`` is that of a query (the queue, the history).  A journal that cannot be used is logged
    once, and this process queries by itself for a minute.
    """

    def __init__(self, client: SchedulerClient) -> None:
        self._client = client
        self._nonce = os.urandom(6).hex()
        self._route: tuple[object, str] | None = None
        self._registered: dict[tuple[str, str], tuple[tuple[str, ...], float]] = {}
        self._usable_at = 0.0
        self._was_logged = False

    # ------------------------------------------------------------------ names

    def _query(self, name: str) -> str:
        """The key of a query: two that might get different answers have different ones."""
        scheduler = self._client.scheduler()
        if self._route is None or self._route[0] is not scheduler:
            try:
                listing = scheduler.status_script(())
            except SchedulerError:
                listing = ""
            facts = (pid_file.clock(), self._client.identity(), scheduler.name, listing)
            text = "\0".join(facts).encode("utf-8", "surrogateescape")
            self._route = scheduler, hashlib.sha256(text).hexdigest()[:24]
        return f"{self._route[1]} {name}"

    def _me(self) -> str:
        return f"{pid_file.call()}/{self._nonce}"

    def _in_journal(self, work: Callable[[], T]) -> T | None:
        """The result of ``work``; ``None`` where the journal cannot be used."""
        import sqlite3

        if time.monotonic() < self._usable_at:
            return None
        try:
            return work()
        except (sqlite3.Error, OSError, ConfigurationError, ConnectError) as error:
            self._usable_at = time.monotonic() + _WITHOUT_JOURNAL
            level = logging.DEBUG if self._was_logged else logging.WARNING
            self._was_logged = True
            log.log(level, "%s: polls are not shared: %s", self._client.host, error)
            return None

    # ------------------------------------------------------------------ what others found out

    def has_news(self, seen: Mapping[str, int]) -> bool:
        """Whether a query ended since those that were seen (stamp by name).  Cheap."""
        if self._route is None or self._client.known is None:
            return False
        return bool(self._in_journal(lambda: self._stamps(seen) != dict(seen)))

    def _stamps(self, seen: Mapping[str, int]) -> dict[str, int]:
        stamps = dict(seen)
        for name in seen:
            found = self._client.journal.file.execute(
                "SELECT stamp FROM polls WHERE query = ?", (self._query(name),)
            )
            stamps[name] = int(found[0][0]) if found else 0
        return stamps

    def news(self, name: str, seen: int) -> Outcome | None:
        """The last query, if it is not the one of the stamp ``seen``."""
        return self._in_journal(lambda: self._news(name, seen))

    def _news(self, name: str, seen: int) -> Outcome | None:
        query = self._query(name)
        found = self._client.journal.file.execute(_READ + " AND stamp <> ?", (query, seen))
        if not found:
            return None
        row = _State(*found[0])
        if not row.is_believed(time.monotonic()):
            return None
        began, ended = row.began or 0.0, row.ended or 0.0
        taken = datetime.fromtimestamp(row.taken, UTC)
        if row.kind is not None:
            error = SchedulerError(row.message or "", kind=row.kind, host=self._client.host)
            return Outcome(row.stamp, began, ended, taken, row.failures, error)
        stored = self._client.journal.file.execute(
            "SELECT answer FROM polls WHERE query = ? AND stamp = ? AND length(answer) < ?",
            (query, row.stamp, LARGEST_ANSWER),
        )
        unpacked = unpacked_answer(stored[0][0]) if stored else None
        answer, covers = unpacked if unpacked is not None else (None, frozenset[str]())
        return Outcome(row.stamp, began, ended, taken, 0, None, covers, answer)

    def changed(self, name: str) -> float:
        """When a process of this user last changed jobs there, by ``note_change``."""
        row = self._in_journal(lambda: self._row(self._query(name)))
        return -1e9 if row is None else row.changed

    def _row(self, query: str) -> _State:
        found = self._client.journal.file.execute(_READ, (query,))
        return _State(*found[0]) if found else _State()

    def note_change(self, names: Iterable[str]) -> None:
        """Note that something was done to jobs: listings from before it are out of date."""
        if self._client.known is not None:
            self._in_journal(lambda: self._note_change(names))

    def _note_change(self, names: Iterable[str]) -> None:
        with self._client.journal.file.brief() as database:
            for name in names:
                database.execute(
                    "INSERT INTO polls (query, host, stamp, taken, changed) "
                    "VALUES (?, ?, 0, ?, ?) "
                    "ON CONFLICT (query) DO UPDATE SET changed = excluded.changed",
                    (self._query(name), self._client.host, time.time(), time.monotonic()),
                )

    # ------------------------------------------------------------------ the lease

    def take(
        self, name: str, ids: Iterable[str], *, interval: float, seen: int
    ) -> Lease | Pause | None:
        """The lease to query for ``ids`` and for what other processes follow, or a pause.

        ``interval``: the least seconds between two queries.  ``seen``: the stamp of the last
        query that this process knows; a pause of no time where there is a newer one.  ``None``:
        the journal cannot be used.
        """
        return self._in_journal(lambda: self._take(name, tuple(ids), interval, seen))

    def _take(self, name: str, ids: tuple[str, ...], interval: float, seen: int) -> Lease | Pause:
        query, now = self._query(name), time.monotonic()
        with self._client.journal.file.brief() as database:
            self._register(database, query, ids, now)
            row = _state(database, query)
            if row.stamp != seen and row.is_believed(now):
                return Pause(0.0)
            busy = row.busy(now)
            if busy:
                return Pause(busy, busy=True)
            pause = row.too_early(now, interval)
            if pause > 0:
                return Pause(pause)
            length = min(max(interval, _SHORTEST_LEASE), _LONGEST_LEASE)
            holder = f"{self._me()}-{os.urandom(6).hex()}"
            budget = max(0.0, row.tokens(now, interval) - 1.0)
            database.execute(
                "INSERT INTO polls "
                "(query, host, stamp, taken, budget, budget_at, holder, held_until) "
                "VALUES (?, ?, 0, ?, ?, ?, ?, ?) ON CONFLICT (query) DO UPDATE SET "
                "budget = excluded.budget, budget_at = excluded.budget_at, "
                "holder = excluded.holder, held_until = excluded.held_until",
                (query, self._client.host, time.time(), budget, now, holder, now + length),
            )
            followed = _followed(database, query, now)
        return Lease(self, query, holder, tuple(dict.fromkeys([*ids, *followed])), length)

    def _register(
        self, database: sqlite3.Connection, query: str, ids: tuple[str, ...], now: float
    ) -> None:
        known, until = self._registered.get((query, self._me()), ((), 0.0))
        if known == ids and now < until - _FOLLOWED / 2:
            return
        until = now + _FOLLOWED
        text = "\n".join(ids)
        if len(text) < LARGEST_ANSWER:
            database.execute(
                "INSERT OR REPLACE INTO polls_followed (query, follower, ids, until) "
                "VALUES (?, ?, ?, ?)",
                (query, self._me(), text, until),
            )
        self._registered[query, self._me()] = ids, until

    def follow(self, name: str, ids: Iterable[str]) -> None:
        """Have others query for these jobs, too; without any: no more for this process."""
        wanted = tuple(ids)
        if self._route is None or self._client.known is None:
            return
        query = self._query(name)
        known, until = self._registered.get((query, self._me()), ((), 0.0))
        is_young = time.monotonic() < until - _FOLLOWED / 2
        if (known == wanted and is_young) or not (known or wanted):
            return
        self._in_journal(lambda: self._follow(query, wanted))

    def _follow(self, query: str, ids: tuple[str, ...]) -> None:
        with self._client.journal.file.brief() as database:
            if ids:
                self._register(database, query, ids, time.monotonic())
                return
            database.execute(
                "DELETE FROM polls_followed WHERE query = ? AND follower = ?", (query, self._me())
            )
            self._registered.pop((query, self._me()), None)

    def update(self, query: str, holder: str, names: str, values: Iterable[object]) -> int | None:
        """Change the row of a query for the holder of its lease; returns the stamp.

        0 if another process has taken the lease, ``None`` where the journal cannot be used.
        """
        return self._in_journal(lambda: self._update(query, holder, names, tuple(values)))

    def _update(
        self, query: str, holder: str, names: str, values: tuple[object, ...]
    ) -> int | None:
        with self._client.journal.file.brief() as database:
            done = database.execute(
                f"UPDATE polls SET {names} WHERE query = ? AND holder = ?",  # noqa: S608
                (*values, query, holder),
            )
            old = time.time() - _KEPT
            database.execute("DELETE FROM polls WHERE taken < ? AND holder IS NULL", (old,))
            database.execute(
                "DELETE FROM polls_followed WHERE query NOT IN (SELECT query FROM polls)"
            )
            return _state(database, query).stamp if done.rowcount == 1 else 0


def _followed(database: sqlite3.Connection, query: str, now: float) -> Iterator[str]:
    """What living processes follow; the rows of others are removed."""
    for follower, ids, until in database.execute(
        "SELECT follower, ids, until FROM polls_followed WHERE query = ? AND length(ids) < ?",
        (query, LARGEST_ANSWER),
    ).fetchall():
        if not now < until <= now + _FOLLOWED or pid_file.ended(follower.partition("/")[0]):
            database.execute(
                "DELETE FROM polls_followed WHERE query = ? AND follower = ?", (query, follower)
            )
            continue
        yield from filter(None, ids.split("\n"))


class Lease:
    """The right to make one query; renewed while the query runs, so that it may take its time.

    A holder that was stopped loses it, and what it finds later does not replace a newer answer.
    """

    def __init__(
        self, shared: SharedPoll, query: str, holder: str, ids: tuple[str, ...], length: float
    ) -> None:
        self._shared = shared
        self._query, self._holder = query, holder
        self.ids = ids
        self._length = length
        self._over = threading.Event()
        self._looked, self._stopped = time.monotonic(), 0.0

    def __enter__(self) -> Lease:
        # At the end of the program no thread can start: then the lease just ends.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._renew, name="openssh-jobs-lease", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._over.is_set():
            self._end("holder = NULL", ())

    def _renew(self) -> None:
        last = time.monotonic() + _LONGEST_RENEWAL
        while not self._over.wait(self._length / 3) and time.monotonic() < last:
            self._look()
            until = time.monotonic() + self._length
            self._shared.update(self._query, self._holder, "held_until = ?", (until,))

    def _look(self) -> None:
        """Count the time for which this process did not run: who sleeps is woken much too late."""
        now = time.monotonic()
        self._stopped += max(0.0, now - self._looked - self._length / 3)
        self._looked = now

    def ended(self, began: float) -> float | None:
        """When the query would have ended if this process had not been stopped; ``None``: now."""
        self._look()
        return max(began, time.monotonic() - self._stopped) if self._stopped > _NOTED else None

    def _end(self, names: str, values: Iterable[object]) -> int | None:
        self._over.set()
        return self._shared.update(self._query, self._holder, names, values)

    def answered(
        self, answer: Answer, covers: Iterable[str], began: float, taken: datetime
    ) -> int | None:
        """Store the answer; returns its stamp.

        0 if it was not stored: another process had to make the query meanwhile.  ``None`` where
        the journal cannot be used.
        """
        return self._end(
            "holder = NULL, stamp = stamp + 1, failures = 0, kind = NULL, message = NULL, "
            "began = ?, ended = ?, taken = ?, answer = ?",
            (began, self._now_or_ended(began), taken.timestamp(), packed_answer(answer, covers)),
        )

    def failed(
        self, error: SchedulerError, began: float, taken: datetime, *, rests: bool
    ) -> int | None:
        """Store that there was no answer; returns the stamp of that.

        ``rests``: whether the next query comes later than usual for that.
        """
        return self._end(
            "holder = NULL, stamp = stamp + 1, failures = CASE WHEN ? THEN failures + 1 ELSE 0 "
            "END, kind = ?, message = ?, began = ?, ended = ?, taken = ?, answer = NULL",
            (
                rests,
                error.kind,
                printable(error.message)[:1000],  # SQLite takes no bytes that are not UTF-8
                began,
                self._now_or_ended(began),
                taken.timestamp(),
            ),
        )

    def _now_or_ended(self, began: float) -> float:
        ended = self.ended(began)
        return time.monotonic() if ended is None else ended

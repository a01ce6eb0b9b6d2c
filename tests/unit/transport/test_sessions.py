"""``Sessions``: how many are open, what is waited for, and what is tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from openssh_jobs.errors import (
    CommandNotStarted,
    ConfigurationError,
    ConnectionLost,
    Sent,
    SessionLimit,
)
from openssh_jobs.openssh import masters
from openssh_jobs.transport import session_limit, sessions
from openssh_jobs.transport.base import Link, ProtocolMismatch, Transport, TransportError
from openssh_jobs.transport.sessions import Sessions
from tests.helpers import until
from tests.unit.transport.fakes import (
    OPENED,
    FakeSession,
    FakeTransport,
    lost,
    refused,
    silent,
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait for a session takes minutes, should one of these tests fail."""
    monkeypatch.setattr(session_limit, "SLOT_TIMEOUT", 3.0)


class Opened:
    """An open session and its slot."""

    def __init__(
        self, opener: Sessions, *, again: bool = False, within: float | None = None
    ) -> None:
        def starter(link: Link) -> tuple[FakeSession, Link]:
            session = opener.open(link, b"true", (0, 1, 2))
            assert isinstance(session, FakeSession)
            return session, link

        last = None if within is None else time.monotonic() + within
        started, self.slot = opener.start(starter, what="true", again=again, until=last)
        self.session, self.link = started

    def keep(self) -> Opened:
        self.slot.kept()
        return self

    def end(self) -> None:
        self.session.end()
        self.slot.release()


def test_the_fake_has_the_methods_of_a_transport() -> None:
    transport: Transport = FakeTransport()
    assert transport.default_sessions > 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_no_limit(limit: int) -> None:
    with pytest.raises(ConfigurationError, match=f"max_sessions={limit} is less than 1"):
        Sessions(FakeTransport(), max_sessions=limit)


# -- the limit ----------------------------------------------------------------------------------


def test_the_limit_is_kept_without_a_request() -> None:
    transport = FakeTransport()
    opener = Sessions(transport, max_sessions=2)
    held = [Opened(opener).keep() for _ in range(2)]
    began = time.monotonic()
    with pytest.raises(SessionLimit, match="all sessions of this process are in use"):
        Opened(opener, within=0.1)
    assert 0.1 <= time.monotonic() - began < 2
    assert len(transport.requests) == 2, "the host was not asked for a third"
    assert opener.slots.used == 2
    for session in held:
        session.end()
    assert opener.slots.used == 0


def test_the_transport_names_the_usual_limit() -> None:
    transport = FakeTransport()
    transport.default_sessions = 3
    opener = Sessions(transport)
    held = [Opened(opener).keep() for _ in range(3)]
    with pytest.raises(SessionLimit):
        Opened(opener, within=0.0)
    for session in held:
        session.end()


def test_a_call_waits_for_a_session_to_end() -> None:
    transport = FakeTransport()
    opener = Sessions(transport, max_sessions=1)
    first, second = Opened(opener).keep(), list[Opened]()
    thread = threading.Thread(target=lambda: second.append(Opened(opener)))
    thread.start()
    time.sleep(0.1)
    assert second == []
    assert len(transport.requests) == 1
    first.end()
    thread.join(2)
    assert len(second) == 1
    second[0].end()
    assert opener.opened == 2


def test_a_refusal_that_interrupts_an_import_is_still_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler sees a part of a module that is being imported."""
    monkeypatch.delattr(masters, "session_limit")
    opener = Sessions(FakeTransport(), max_sessions=1)
    outer = Opened(opener)
    with pytest.raises(SessionLimit, match="by the calls that this one interrupts"):
        Opened(opener)
    outer.end()


def test_a_call_does_not_wait_for_the_one_that_it_interrupts() -> None:
    opener = Sessions(FakeTransport(), max_sessions=1)
    outer = Opened(opener)
    began = time.monotonic()
    with pytest.raises(SessionLimit, match="by the calls that this one interrupts"):
        Opened(opener)
    assert time.monotonic() - began < 1
    outer.end()


def test_a_full_process_reclaims_its_idle_sessions() -> None:
    opener = Sessions(FakeTransport(), max_sessions=1)
    idle = Opened(opener).keep()
    opener.on_reclaim(idle.end)
    Opened(opener, within=1).end()
    assert opener.slots.used == 0


def test_a_slot_is_released_once() -> None:
    opener = Sessions(FakeTransport(), max_sessions=1)
    session = Opened(opener)
    session.end()
    session.end()
    assert opener.slots.used == 0


def test_nothing_of_the_parent_is_left_after_a_fork() -> None:
    transport = FakeTransport()
    opener = Sessions(transport, max_sessions=1)
    theirs = Opened(opener)
    opener.reset()
    mine = Opened(opener, within=1)
    assert mine.link != theirs.link
    theirs.end()
    assert opener.slots.used == 1, "the slot of the parent counts nothing here"
    mine.end()


# -- refusals -----------------------------------------------------------------------------------


def test_a_refused_session_is_tried_again_over_the_same_link() -> None:
    transport = FakeTransport(refused(), refused(), OPENED)
    opener = Sessions(transport)
    Opened(opener).end()
    assert len(transport.requests) == 3
    assert len(transport.links) == 1
    assert opener.opened == 1
    assert transport.discarded == []


def test_refusals_have_an_end() -> None:
    transport = FakeTransport(granted=0)
    opener = Sessions(transport)
    with pytest.raises(SessionLimit, match=r"\(MaxSessions\) are in use") as caught:
        Opened(opener, within=0.2)
    assert caught.value.sent == "no"
    assert len(transport.requests) > 1
    assert opener.slots.used == 0


def test_a_refusal_lowers_the_limit_until_sessions_are_granted_again() -> None:
    transport = FakeTransport(granted=2)
    opener = Sessions(transport)
    first, second = Opened(opener).keep(), Opened(opener).keep()
    with pytest.raises(SessionLimit, match="MaxSessions"):
        Opened(opener, within=0.1)
    asked = len(transport.requests)
    with pytest.raises(SessionLimit, match="all sessions of this process"):
        Opened(opener, within=0.0)
    assert len(transport.requests) == asked, "the host is known to refuse it"
    transport.granted = 3
    second.end()
    for _ in range(16):
        Opened(opener).end()
    second = Opened(opener).keep()
    third = Opened(opener, within=0.0)
    assert transport.open_now == 3
    for session in (first, second, third):
        session.end()


def test_a_server_that_grants_one_session_is_narrow() -> None:
    transport = FakeTransport(granted=1)
    transport.always_wide = True
    opener = Sessions(transport)
    first = Opened(opener).keep()
    assert opener.slots.wide
    with pytest.raises(SessionLimit):
        Opened(opener, within=0.1)
    assert not opener.slots.wide
    first.end()


def test_two_sessions_at_a_time_show_a_wide_server() -> None:
    opener = Sessions(FakeTransport())
    first = Opened(opener).keep()
    assert not opener.slots.wide
    second = Opened(opener).keep()
    assert opener.slots.wide
    first.end()
    second.end()


def test_a_refusal_reclaims_idle_sessions() -> None:
    transport = FakeTransport(granted=1)
    opener = Sessions(transport)
    idle = Opened(opener).keep()
    opener.on_reclaim(idle.end)
    Opened(opener, within=1).end()
    assert transport.open_now == 0


def test_hanging_login_shells_are_the_cause_of_a_refusal() -> None:
    opener = Sessions(FakeTransport(refused()))
    opener.silent = CommandNotStarted("the login shell did not start", host="hpc")
    with pytest.raises(CommandNotStarted, match="the login shell did not start"):
        Opened(opener)
    assert opener.slots.used == 0


def test_a_refusal_asks_other_processes_for_a_session(tmp_path: Path) -> None:
    transport = FakeTransport(refused(), path=str(tmp_path / "socket"))
    opener = Sessions(transport)
    assert not opener.wanted_by_others()
    Opened(opener).end()
    assert (tmp_path / "socket.wanted").exists()
    assert opener.wanted_by_others()
    os.utime(tmp_path / "socket.wanted", (1, 1))
    assert not opener.wanted_by_others()


# -- the link -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [lost("maybe"), silent()], ids=["lost", "silent"])
def test_what_may_have_been_sent_is_not_sent_again(answer: TransportError) -> None:
    transport = FakeTransport(answer)
    opener = Sessions(transport)
    with pytest.raises(ConnectionLost) as caught:
        Opened(opener)
    assert caught.value.sent == "maybe"
    assert str(answer) in caught.value.message
    assert len(transport.requests) == 1
    assert opener.slots.used == 0


@pytest.mark.parametrize(("sent", "again"), [("no", False), ("no", True), ("maybe", True)])
def test_what_is_harmless_is_sent_again_over_a_new_link(sent: Sent, again: bool) -> None:
    transport = FakeTransport(lost(sent))
    opener = Sessions(transport)
    session = Opened(opener, again=again)
    assert len(transport.requests) == 2
    assert session.link == transport.links[1]
    session.end()


def test_it_is_sent_again_once() -> None:
    transport = FakeTransport(lost("no"), lost("no"))
    opener = Sessions(transport)
    with pytest.raises(ConnectionLost) as caught:
        Opened(opener, again=True)
    assert caught.value.sent == "no"
    assert len(transport.requests) == 2
    assert opener.slots.used == 0


@pytest.mark.parametrize("is_well", [True, False])
def test_a_silent_session_ends_the_link_only_if_the_host_is_silent(is_well: bool) -> None:
    transport = FakeTransport(silent())
    transport.is_well = is_well
    opener = Sessions(transport)
    Opened(opener, again=True).end()
    assert transport.discarded == ([] if is_well else [transport.links[0]])


def test_a_link_is_checked_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport()
    opener = Sessions(transport)
    first = opener.link()
    assert opener.link() is first
    assert transport.checked == 0
    monkeypatch.setattr(sessions, "PROBE_AFTER", 0.0)
    assert opener.link() is first
    assert transport.checked == 1
    transport.is_well = False
    second = opener.link()
    assert transport.discarded == [first]
    assert second is transport.links[1]


@pytest.mark.parametrize(("timeout", "said"), [(15.0, "has ended"), (0.0, "no answer")])
def test_an_ended_connection_is_not_called_a_silent_host(
    timeout: float, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transport = FakeTransport()
    opener = Sessions(transport)
    opener.link()
    monkeypatch.setattr(sessions, "PROBE_AFTER", 0.0)
    monkeypatch.setattr(sessions, "_PROBE_TIMEOUT", timeout)
    transport.is_well = False
    with caplog.at_level("INFO"):
        opener.link()
    assert said in caplog.text


def test_a_link_is_forgotten_only_by_those_who_mean_it() -> None:
    transport = FakeTransport()
    opener = Sessions(transport)
    first = opener.link()
    opener.forget(Link("/another", 1, False))
    assert opener.link() is first
    opener.forget(first)
    assert opener.link() is not first


def test_another_protocol_needs_another_transport() -> None:
    old, new = FakeTransport(ProtocolMismatch("version 5")), FakeTransport()
    opener = Sessions(old, fallback=lambda: new)
    Opened(opener).end()
    assert opener.transport is new
    assert (len(old.requests), len(new.requests)) == (1, 1)
    opener = Sessions(FakeTransport(ProtocolMismatch("version 5")))
    with pytest.raises(ConnectionLost, match="version 5"):
        Opened(opener)
    assert opener.slots.used == 0


def test_why_a_session_ended() -> None:
    transport = FakeTransport()
    opener = Sessions(transport)
    link, session = opener.link(), FakeSession()
    assert opener.failure(link, session, b"") is None
    assert isinstance(opener.failure(link, session, b"refused"), type(refused()))
    assert opener.failure(link, session, b"lost") is None, "the host answers over the link"
    transport.is_well = False
    assert isinstance(opener.failure(link, session, b"lost"), type(lost("maybe")))


# -- closing ------------------------------------------------------------------------------------


def test_the_reaper_looks_as_long_as_a_session_is_open() -> None:
    opener = Sessions(FakeTransport())
    session = Opened(opener)
    assert not opener.give_back(idle_for=0.0)
    session.end()
    assert opener.give_back(idle_for=0.0)


def test_a_stopped_master_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sessions would wait without end."""
    monkeypatch.setattr(sessions, "WATCH_INTERVAL", 0.0)
    transport = FakeTransport()
    with subprocess.Popen(["sleep", "60"]) as master:
        transport.pid = master.pid
        opener = Sessions(transport)
        session = Opened(opener)
        try:
            assert not opener.give_back(idle_for=0.0)
            assert transport.discarded == [], "it runs"
            master.send_signal(signal.SIGSTOP)
            assert until(lambda: opener.give_back(idle_for=0.0) or transport.discarded != [], 15)
            # Twice where the reaper's own thread looks at the same moment.
            assert set(transport.discarded) == {session.link}
        finally:
            master.kill()
            session.end()
    assert opener.link() != session.link


def test_an_error_of_the_starter_releases_its_slot() -> None:
    def starter(link: Link) -> None:
        raise KeyboardInterrupt

    opener = Sessions(FakeTransport())
    with pytest.raises(KeyboardInterrupt):
        opener.start(starter, what="true")
    assert opener.slots.used == 0

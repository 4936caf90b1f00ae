"""When the client checks the sessions of open connections, by a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from session_authority_client import (
    NearCache,
    SessionAuthorityError,
    SessionState,
    SessionStatus,
    Unavailable,
    Validation,
)
from session_authority_client._shared.open_sessions import MAX_NAMES, OpenSessions
from session_authority_client.types import Session
from session_authority_client.wire import session_authority_pb2 as pb

START = datetime(2026, 1, 1, tzinfo=UTC)
LAPTOP, PHONE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
HOUR = timedelta(hours=1)
AWAY = Unavailable("away", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
TOO_OLD = SessionAuthorityError("no such method", grpc.StatusCode.UNIMPLEMENTED)


class Scene:
    """Open sessions with a clock, and with or without a cache. The test plays the cache's watch."""

    def __init__(self, cached: bool) -> None:
        self.passed = 0.0

        def wall() -> float:
            return START.timestamp() + self.passed

        self.cache = NearCache(clock=lambda: self.passed, wall_clock=wall) if cached else None
        self.open = OpenSessions(
            self.cache, lambda: None, clock=lambda: self.passed, wall_clock=wall
        )
        self.ended: list[str] = []

    def watch(self, *events: pb.Event, proves: bool = True) -> None:
        """Delivers a message of the watch."""
        assert self.cache is not None
        message = pb.WatchEventsResponse(events=events)
        if proves:
            message.read_uptime.FromNanoseconds(int(self.passed * 1e9))
        self.cache.tell(message)
        self.open.tell(message)

    def begin(self) -> None:
        """Begins a watch, which is then live."""
        assert self.cache is not None
        self.cache.begin()
        self.watch()

    def lose(self) -> None:
        """Breaks the watch."""
        assert self.cache is not None
        left = self.cache.seconds_left()
        self.cache.lost()
        self.open.lost(left)

    def listen(self, session: Session, name: str = "") -> Callable[[], None]:
        return self.open.listen(session, lambda: self.ended.append(name or session.session_id))

    def ask(self, answer: Any = None) -> list[str]:
        """Checks the sessions that are due. Returns their IDs."""
        asked = self.open.take_due()
        if asked is None:
            return []
        if isinstance(answer, SessionAuthorityError):
            self.open.unanswered(asked, answer)
        else:
            given = active() if answer is None else answer
            self.open.answered(asked, [given] * len(asked.sessions))
        return [opened.name.session_id for opened in asked.sessions]

    def wait(self) -> float:
        """Moves the clock until a check is due. Returns by how many seconds."""
        seconds = self.open.seconds_until_due()
        assert seconds is not None
        self.passed += seconds
        return seconds


def session(number: int = 1, user: str = "ada", device: str = LAPTOP) -> Session:
    return Session(
        user, device, f"{number:032x}", 1, {}, (), START, START + HOUR,
        START + 24 * HOUR, START + 48 * HOUR,
    )  # fmt: skip


def active(expires: timedelta = 24 * HOUR, ends: timedelta = 48 * HOUR) -> SessionState:
    return SessionState(SessionStatus.ACTIVE, START + expires, START + ends)


def ended(status: SessionStatus = SessionStatus.NO_SESSION) -> SessionState:
    return SessionState(status, None, None)


def event(kind: pb.EventType, user: str = "ada", about: str = "", device: str = "") -> pb.Event:
    made = pb.Event(type=kind, user_id=user, session_id=about)
    made.device.device_id = device
    return made


@pytest.fixture
def polls() -> Scene:
    return Scene(cached=False)


@pytest.fixture
def watched() -> Scene:
    scene = Scene(cached=True)
    scene.begin()
    return scene


ONE = session().session_id


def test_without_a_cache_a_session_is_checked_once_a_minute(polls: Scene):
    for name in ("a", "b", "c"):
        polls.listen(session(), name)
    assert polls.ask() == [ONE]
    for _ in range(5):
        assert 60 <= polls.wait() <= 61
        assert polls.ask() == [ONE]
    polls.wait()
    polls.ask(ended())
    assert polls.ended == ["a", "b", "c"]
    assert polls.open.seconds_until_due() is None


def test_many_sessions_are_checked_together(polls: Scene):
    for number in range(MAX_NAMES + 7):
        polls.listen(session(number))
    assert [len(polls.ask()), len(polls.ask()), len(polls.ask())] == [MAX_NAMES, 7, 0]


def test_sessions_that_are_due_about_the_same_time_are_checked_together(polls: Scene):
    for number in range(100):
        polls.listen(session(number))
        assert len(polls.ask()) == 1
        polls.passed += 0.01
    rounds = 0
    while polls.passed < 120:
        polls.wait()
        rounds += bool(polls.ask())
    assert rounds <= 4


@pytest.mark.parametrize("error", [AWAY, SessionAuthorityError("?", grpc.StatusCode.UNKNOWN)])
def test_a_failed_check_ends_no_session_and_is_soon_repeated(polls: Scene, error: Any):
    polls.listen(session())
    for _ in range(20):
        assert polls.ask(error) == [ONE]
        assert 0 < polls.wait() <= 5
    assert polls.ended == []
    polls.ask(ended())
    assert polls.ended == [ONE]


def test_an_item_without_an_answer_ends_no_session(polls: Scene):
    polls.listen(session(1))
    polls.listen(session(2, "bob"))
    asked = polls.open.take_due()
    assert asked
    polls.open.answered(asked, [AWAY, ended()])
    assert polls.ended == [session(2).session_id]
    assert polls.wait() <= 5
    assert polls.ask() == [ONE]


def test_a_session_that_an_answer_leaves_out_is_checked_again(polls: Scene):
    polls.listen(session(1))
    polls.listen(session(2))
    asked = polls.open.take_due()
    assert asked
    polls.open.answered(asked, [active()])
    assert polls.wait() <= 5
    assert polls.ask(ended()) == [session(2).session_id]


def test_a_service_without_the_method_is_called_once_a_minute(polls: Scene):
    polls.listen(session())
    polls.ask(TOO_OLD)
    assert polls.wait() == 60


def test_a_session_ends_at_its_absolute_end_even_during_an_outage(polls: Scene):
    polls.listen(session())
    polls.passed = timedelta(hours=47, minutes=59).total_seconds()
    polls.ask(AWAY)
    assert polls.ended == []
    polls.passed = timedelta(hours=48).total_seconds()
    polls.ask(AWAY)
    assert polls.ended == [ONE]


def test_with_a_live_watch_a_session_is_checked_only_once(watched: Scene):
    watched.listen(session())
    assert watched.ask() == [ONE]
    for _ in range(100):
        watched.passed += 10
        watched.watch()
        assert watched.ask() == []


def test_a_session_that_the_cache_knows_is_not_checked(watched: Scene):
    assert watched.cache is not None
    ticket = watched.cache.ticket()
    assert ticket
    found = Validation(True, SessionStatus.ACTIVE, LAPTOP, False, session(), False, 0)
    assert watched.cache.store(ticket, "token", LAPTOP, found)
    watched.listen(session())
    watched.listen(session(2))
    assert watched.ask() == [session(2).session_id]


@pytest.mark.parametrize("kind", [pb.EVENT_TYPE_DEVICE_REVOKED, pb.EVENT_TYPE_DEVICE_EVICTED])
def test_an_event_that_names_the_session_ends_it_without_a_check(watched: Scene, kind: Any):
    watched.listen(session(1))
    watched.listen(session(2))
    watched.ask()
    watched.watch(event(kind, about=ONE))
    assert watched.ended == [ONE]
    assert watched.ask() == []


ASKS = [
    event(pb.EVENT_TYPE_ALL_REVOKED),
    event(pb.EVENT_TYPE_SESSION_REPLAYED, about=ONE),
    event(pb.EVENT_TYPE_DEVICE_SIGNED_IN, about="f" * 32, device=LAPTOP),
    event(pb.EVENT_TYPE_DEVICE_REVOKED),
    event(99),  # type: ignore[arg-type]
    event(99, user=""),  # type: ignore[arg-type]
]
PASSES = [
    event(pb.EVENT_TYPE_ALL_REVOKED, user="bob"),
    event(pb.EVENT_TYPE_DEVICE_REVOKED, about="f" * 32),
    event(pb.EVENT_TYPE_DEVICE_SIGNED_IN, about=ONE, device=LAPTOP),
    event(pb.EVENT_TYPE_DEVICE_SIGNED_IN, about="f" * 32, device=PHONE),
    event(pb.EVENT_TYPE_ENDED_TOKEN_PRESENTED, about=ONE),
    event(pb.EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED, about=ONE),
    event(pb.EVENT_TYPE_SIGNING_KEY_REVOKED, user=""),
]


@pytest.mark.parametrize("told", ASKS, ids=str)
def test_an_event_that_may_have_ended_the_session_causes_a_check(watched: Scene, told: pb.Event):
    watched.listen(session())
    watched.ask()
    watched.watch(told)
    assert watched.ended == []
    assert watched.ask() == [ONE]
    assert watched.ask() == [], "a live session is not checked again"


@pytest.mark.parametrize("told", PASSES, ids=str)
def test_an_event_that_cannot_have_ended_the_session_causes_no_check(
    watched: Scene, told: pb.Event
):
    watched.listen(session())
    watched.ask()
    watched.watch(told)
    assert watched.ask() == []
    assert watched.ended == []


def test_an_event_during_a_check_causes_another_check(watched: Scene):
    watched.listen(session())
    asked = watched.open.take_due()
    assert asked
    watched.watch(event(pb.EVENT_TYPE_ALL_REVOKED))
    watched.open.answered(asked, [active()])
    assert watched.ask(ended()) == [ONE]
    assert watched.ended == [ONE]


def test_a_break_of_the_watch_ends_no_session_and_causes_checks(watched: Scene):
    watched.listen(session())
    watched.ask()
    watched.lose()
    assert watched.ended == []
    assert watched.wait() <= 1
    assert watched.ask() == [ONE]
    assert 15 <= watched.wait() <= 16, "without a watch, checks go on"
    watched.begin()
    assert watched.ask() == [ONE], "a watch has no earlier events"
    watched.passed += 10
    watched.watch()
    assert watched.ask() == []


def test_a_break_after_a_long_silence_causes_a_check_at_once(watched: Scene):
    watched.listen(session())
    watched.ask()
    watched.passed += 15
    watched.lose()
    assert watched.wait() == 0
    assert watched.ask(ended()) == [ONE]
    assert watched.ended == [ONE]


def test_a_session_is_checked_at_its_idle_end_which_may_have_moved(watched: Scene):
    watched.listen(session())
    watched.ask(active(expires=HOUR))
    for _ in range(6):
        watched.passed += 599
        watched.watch()
        assert watched.ask() == []
    watched.passed = HOUR.total_seconds()
    watched.watch()
    assert watched.ask(active(expires=2 * HOUR)) == [ONE]
    watched.passed = 2 * HOUR.total_seconds()
    assert watched.ask(ended(SessionStatus.SESSION_EXPIRED)) == [ONE]
    assert watched.ended == [ONE]


def test_a_wrong_clock_causes_at_most_one_check_a_second(watched: Scene):
    watched.listen(session())
    watched.passed = 25 * HOUR.total_seconds()
    watched.begin()
    for _ in range(5):
        assert watched.ask(active(expires=24 * HOUR)) == [ONE]
        assert watched.wait() == 1


def test_a_session_without_connections_is_soon_forgotten(polls: Scene):
    stop = polls.listen(session())
    polls.ask()
    stop()
    stop()
    assert polls.wait() <= 61
    assert polls.ask() == []
    assert polls.open.is_empty
    assert polls.ended == []


def test_a_session_whose_connections_come_back_is_not_checked_again(polls: Scene):
    polls.listen(session())()
    polls.listen(session())
    assert polls.ask() == [ONE]
    for _ in range(100):
        polls.listen(session())()
        assert polls.ask() == []


def test_a_listener_that_fails_does_not_affect_the_others(
    polls: Scene, caplog: pytest.LogCaptureFixture
):
    def fail() -> None:
        raise LookupError("a fault")

    polls.open.listen(session(), fail)
    polls.listen(session())
    polls.ask(ended())
    assert polls.ended == [ONE]
    assert "a fault" in caplog.text


def test_many_breaks_of_the_watch_leave_no_planned_checks_behind(watched: Scene):
    for number in range(10):
        watched.listen(session(number))
    for _ in range(100):
        watched.lose()
        watched.wait()
        while watched.ask():
            pass
        watched.begin()
    assert len(watched.open._due) < 200

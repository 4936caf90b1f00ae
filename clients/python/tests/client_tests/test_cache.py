"""The rules of the near cache, each without waiting: the clocks are the test's."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from session_authority_client.cache import NearCache, Ticket
from session_authority_client.types import Session, SessionStatus, Validation
from session_authority_client.wire import session_authority_pb2 as pb

NOON = 1_800_000_000.0
DEVICE = "6f1c2f0e-5d53-4c0b-8f43-0c1d2e3f4a5b"


def answer(
    user: str = "ada", *, token_life: float = 3600, session_life: float = 86400, at: float = NOON
) -> Validation:
    def end(seconds: float) -> datetime:
        return datetime.fromtimestamp(at + seconds, UTC)

    session = Session(
        user_id=user,
        device_id=DEVICE,
        session_id="0" * 32,
        generation=1,
        claims={},
        auth_methods=(),
        sign_in_time=end(0),
        token_expire_time=end(token_life),
        expire_time=end(session_life),
    )
    return Validation(True, SessionStatus.ACTIVE, DEVICE, False, session, False, 0)


class Stage:
    """A cache whose clocks stand still, and what its watch says. The server's clock is an hour
    ahead.
    """

    def __init__(self, **settings: object) -> None:
        self.now = 100.0
        self.wall = NOON
        self.cache = NearCache(clock=lambda: self.now, wall_clock=lambda: self.wall, **settings)  # type: ignore[arg-type]

    def watch(self) -> None:
        """Begins, and is told so."""
        self.cache.begin()
        self.prove()

    def prove(self, *events: pb.Event, age: float = 0) -> None:
        """A message that everything was told, so many seconds ago."""
        message = pb.WatchEventsResponse(events=events)
        message.read_time.FromNanoseconds(int((NOON + 3600 + self.now - age) * 1e9))
        self.cache.tell(message)

    def tell(self, kind: int, user: str = "") -> None:
        """An event, without a proof."""
        self.cache.tell(pb.WatchEventsResponse(events=[pb.Event(type=kind, user_id=user)]))  # type: ignore[arg-type]

    def ticket(self) -> Ticket:
        ticket = self.cache.ticket()
        assert ticket is not None
        return ticket

    def keep(self, token: str = "t", user: str = "ada", **more: float) -> bool:
        """Stores an answer to what is asked now."""
        return self.cache.store(self.ticket(), token, DEVICE, answer(user, at=self.wall, **more))

    def has(self, token: str = "t") -> bool:
        return self.cache.get(token, DEVICE) is not None

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.watch()
    return made


def test_an_answer_is_kept_for_its_token_from_its_device(stage: Stage) -> None:
    assert stage.keep()
    assert stage.cache.get("t", DEVICE) == answer()
    assert stage.cache.get("t", "another") is None
    assert stage.cache.get("u", DEVICE) is None


def test_nothing_is_asked_or_given_before_a_watch_has_begun() -> None:
    stage = Stage()
    assert stage.cache.ticket() is None
    stage.cache.begin()
    stage.tell(pb.EVENT_TYPE_DEVICE_SIGNED_IN, "bob")  # is no proof
    assert stage.cache.ticket() is None
    stage.prove()
    assert stage.cache.live


def test_it_gives_nothing_once_the_last_proof_is_too_old(stage: Stage) -> None:
    stage.keep()
    stage.pass_by(14.9)
    assert stage.has()
    stage.pass_by(0.1)
    assert not stage.has()
    assert stage.cache.ticket() is None
    assert stage.cache.seconds_left() == pytest.approx(0)


def test_a_proof_prolongs_it(stage: Stage) -> None:
    stage.keep()
    stage.pass_by(10)
    stage.prove()
    stage.pass_by(14.9)
    assert stage.has()


def test_an_event_proves_nothing(stage: Stage) -> None:
    stage.keep()
    stage.pass_by(10)
    stage.tell(pb.EVENT_TYPE_DEVICE_SIGNED_IN, "bob")
    stage.pass_by(5)
    assert not stage.has()


def test_a_proof_that_was_long_on_its_way_is_as_old_as_what_it_proves(stage: Stage) -> None:
    stage.keep()
    stage.pass_by(12)
    stage.prove(age=8)
    assert stage.cache.seconds_left() == pytest.approx(7)


def test_a_server_whose_clock_jumps_ahead_proves_no_future(stage: Stage) -> None:
    stage.pass_by(10)
    stage.prove(age=-3600)
    assert stage.cache.seconds_left() == pytest.approx(15)


def test_a_server_whose_clock_jumps_back_proves_nothing(stage: Stage) -> None:
    stage.pass_by(10)
    stage.prove(age=3600)
    assert stage.cache.seconds_left() == pytest.approx(5)
    assert stage.cache.live  # what was proved before is still so


def test_it_gives_nothing_older_than_max_age_counted_from_the_request() -> None:
    stage = Stage(max_age=timedelta(seconds=20))
    stage.watch()
    ticket = stage.ticket()
    stage.pass_by(8)
    stage.prove()
    assert stage.cache.store(ticket, "t", DEVICE, answer())
    stage.pass_by(11.9)
    assert stage.has()
    stage.pass_by(0.1)
    assert not stage.has()


@pytest.mark.parametrize("life", [{"token_life": 5}, {"session_life": 5}], ids=["token", "session"])
@pytest.mark.parametrize("clock", ["both", "now", "wall"])
def test_it_gives_nothing_past_an_end_by_either_clock(
    stage: Stage, life: dict[str, float], clock: str
) -> None:
    stage.keep(**life)  # type: ignore[arg-type]
    stage.now += 4.9 * (clock != "wall")
    stage.wall += 4.9 * (clock != "now")
    assert stage.has()
    stage.now += 0.1 * (clock != "wall")
    stage.wall += 0.1 * (clock != "now")
    assert not stage.has()


@pytest.mark.parametrize(
    "refused",
    [
        Validation(False, SessionStatus.NO_SESSION, DEVICE, False, None, False, 0),
        replace(answer(), active=False),
        replace(answer(), renew_recommended=True),
    ],
    ids=["refusal", "inactive", "renewal recommended"],
)
def test_it_keeps_no_refusal_and_nothing_that_should_be_renewed(
    stage: Stage, refused: Validation
) -> None:
    stage.keep()
    assert not stage.cache.store(stage.ticket(), "t", DEVICE, refused)
    assert not stage.has()  # nor what it had before


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
def test_any_event_of_a_user_drops_what_is_known_of_them(stage: Stage, kind: int) -> None:
    stage.keep("t"), stage.keep("u"), stage.keep("v", "bob")
    stage.tell(kind, "ada")
    assert [stage.has(token) for token in "tuv"] == [False, False, True]


def test_what_is_asked_soon_after_a_key_was_revoked_is_not_kept() -> None:
    """Only the first server that finds it tells; another may not have looked yet."""
    stage = Stage()
    stage.watch()
    stage.tell(pb.EVENT_TYPE_SIGNING_KEY_REVOKED)
    stage.pass_by(14)
    stage.prove()
    early = stage.ticket()
    stage.cache.lost()
    stage.watch()
    assert not stage.keep()
    stage.pass_by(1)
    assert not stage.cache.store(early, "t", DEVICE, answer())
    assert stage.keep()


@pytest.mark.parametrize(
    ("kind", "user"),
    [
        (pb.EVENT_TYPE_SIGNING_KEY_REVOKED, ""),
        (0, ""),
        (0, "ada"),
        (99, "ada"),
        (pb.EVENT_TYPE_ALL_REVOKED, ""),
    ],
    ids=["key", "unknown", "unknown of a user", "of a newer version", "of nobody"],
)
def test_an_event_for_everybody_empties_it_and_what_is_on_its_way(
    stage: Stage, kind: int, user: str
) -> None:
    stage.keep("t"), stage.keep("v", "bob")
    ticket = stage.ticket()
    stage.tell(kind, user)
    assert not stage.has("t")
    assert not stage.has("v")
    assert not stage.cache.store(ticket, "w", DEVICE, answer("carl"))
    stage.pass_by(15)
    stage.prove()
    assert stage.keep("w", "carl")  # it goes on


def test_an_answer_is_not_kept_if_an_event_of_its_user_came_meanwhile(stage: Stage) -> None:
    ticket = stage.ticket()
    stage.tell(pb.EVENT_TYPE_DEVICE_REVOKED, "ada")
    assert not stage.cache.store(ticket, "t", DEVICE, answer())
    assert stage.cache.store(ticket, "v", DEVICE, answer("bob"))
    assert stage.keep()


def test_an_answer_is_not_kept_across_watches(stage: Stage) -> None:
    ticket = stage.ticket()
    stage.cache.lost()
    stage.watch()
    assert not stage.cache.store(ticket, "t", DEVICE, answer())


def test_a_lost_watch_empties_it(stage: Stage) -> None:
    stage.keep()
    stage.cache.lost()
    assert not stage.cache.live
    stage.watch()
    assert not stage.has()


def test_the_least_recently_used_makes_room() -> None:
    stage = Stage(max_entries=2)
    stage.watch()
    stage.keep("t"), stage.keep("u")
    assert stage.has("t")
    stage.keep("v")
    assert [stage.has(token) for token in "tuv"] == [True, False, True]


def test_what_nobody_asks_for_dries_up(stage: Stage) -> None:
    for number in range(10):
        stage.keep(f"old {number}", f"user {number}")
    for _ in range(6):
        stage.pass_by(10)
        stage.prove()
    for number in range(10):
        stage.keep(f"new {number}", f"user {number}")
    assert stage.cache.stats().entries == 10


def test_forgetting_a_user_covers_what_is_on_its_way(stage: Stage) -> None:
    stage.keep()
    ticket = stage.ticket()
    stage.cache.forget_user("ada")
    assert not stage.has()
    assert not stage.cache.store(ticket, "t", DEVICE, answer())


def test_users_leave_no_trace(stage: Stage) -> None:
    for number in range(50):
        stage.keep(f"token {number}", f"user {number}")
        if number % 2:
            stage.tell(pb.EVENT_TYPE_ALL_REVOKED, f"user {number}")
        else:
            stage.cache.discard(f"token {number}", DEVICE)
    assert not stage.cache._entries
    assert not stage.cache._of_user


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_starts_with_nothing(stage: Stage) -> None:
    stage.keep()
    with stage.cache._lock:  # whoever holds it is not there any more
        child = os.fork()
        if child == 0:
            empty = (
                stage.cache.stats().entries == 0
                and not stage.has()
                and stage.cache.ticket() is None
            )
            os._exit(0 if empty else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stage.has()


def test_it_belongs_to_one_client() -> None:
    cache = NearCache()
    cache.take()
    with pytest.raises(ValueError, match="another client"):
        cache.take()


@pytest.mark.parametrize(
    "settings",
    [
        {"max_entries": 0},
        {"max_age": timedelta(0)},
        {"max_silence": timedelta(0)},
        {"max_silence": timedelta(seconds=16)},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="max_"):
        NearCache(**settings)  # type: ignore[arg-type]


def test_it_counts(stage: Stage) -> None:
    stage.keep()
    assert [stage.has(token) for token in "ttx"] == [True, True, False]
    stage.cache.lost()
    stats = stage.cache.stats()
    assert (stats.live, stats.entries, stats.hits, stats.misses, stats.emptied) == (
        False,
        0,
        2,
        1,
        1,
    )


def test_it_shows_no_token(stage: Stage) -> None:
    stage.keep("secret")
    shown: Sequence[object] = [stage.cache, stage.cache.stats(), stage.ticket()]
    assert "secret" not in repr(shown)


def test_hits_of_other_threads_disturb_nobody_who_keeps():
    """A hit takes no lock: it may move an entry in the moment in which another thread looks for the
    oldest.
    """
    cache = NearCache(max_entries=3)
    keys = [(f"t{number}", "d") for number in range(3)]
    entries = cache._entries
    for key in keys:
        entries[key] = None  # type: ignore[assignment]
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            for key in keys:
                entries.move_to_end(key)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(20_000):
            assert cache._oldest() in keys
    finally:
        stop.set()
        mover.join()
        sys.setswitchinterval(before)

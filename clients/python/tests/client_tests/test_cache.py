"""The rules of the near cache, each without waiting: the clocks are the test's."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

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


class Harness:
    """A cache whose clocks stand still, and what its watch says. The server runs for a day longer
    than this machine, and its wall clock is an hour ahead.
    """

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.wall = NOON
        self.server_wall = NOON + 3600 - self.now  # when the server began to run
        clocks: Any = {"clock": lambda: self.now, "wall_clock": lambda: self.wall}
        self.cache = NearCache(**clocks, **settings)

    def watch(self) -> None:
        """Begins, and is told so."""
        self.cache.begin()
        self.prove()

    def prove(self, *events: pb.Event, age: float = 0, tells_uptime: bool = True) -> None:
        """A message that everything was told, so many seconds ago."""
        read = self.now - age
        message = pb.WatchEventsResponse(events=events)
        message.read_time.FromNanoseconds(int((self.server_wall + read) * 1e9))
        if tells_uptime:
            message.read_uptime.FromNanoseconds(int((86400 + read) * 1e9))
        self.cache.tell(message)

    def tell(self, kind: int, user: str = "") -> None:
        """An event, without a proof."""
        event = pb.Event(user_id=user)
        event.type = kind  # type: ignore[assignment]
        self.cache.tell(pb.WatchEventsResponse(events=[event]))

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
def harness() -> Harness:
    made = Harness()
    made.watch()
    return made


def test_an_answer_is_kept_for_its_token_from_its_device(harness: Harness) -> None:
    assert harness.keep()
    assert harness.cache.get("t", DEVICE) == answer()
    assert harness.cache.get("t", "another") is None
    assert harness.cache.get("u", DEVICE) is None


def test_a_device_id_that_is_padded_takes_no_memory(harness: Harness) -> None:
    """The service trims it: any user could fill the cache with spellings of 64 KiB."""
    for padding in range(1_000, 1_100):
        device = DEVICE + " " * padding
        assert not harness.cache.store(harness.ticket(), "t", device, answer())
    assert harness.cache.stats().entries == 0
    spelled = f" urn:uuid:{DEVICE.upper()}\n"
    assert harness.cache.store(harness.ticket(), "t", spelled, answer())


def test_nothing_is_asked_or_given_before_a_watch_has_begun() -> None:
    harness = Harness()
    assert harness.cache.ticket() is None
    harness.cache.begin()
    harness.tell(pb.EVENT_TYPE_DEVICE_SIGNED_IN, "bob")  # is no proof
    assert harness.cache.ticket() is None
    harness.prove()
    assert harness.cache.live


def test_it_gives_nothing_once_the_last_proof_is_too_old(harness: Harness) -> None:
    harness.keep()
    harness.pass_by(14.9)
    assert harness.has()
    harness.pass_by(0.1)
    assert not harness.has()
    assert harness.cache.ticket() is None
    assert harness.cache.seconds_left() == pytest.approx(0)


def test_a_proof_prolongs_it(harness: Harness) -> None:
    harness.keep()
    harness.pass_by(10)
    harness.prove()
    harness.pass_by(14.9)
    assert harness.has()


def test_an_event_proves_nothing(harness: Harness) -> None:
    harness.keep()
    harness.pass_by(10)
    harness.tell(pb.EVENT_TYPE_DEVICE_SIGNED_IN, "bob")
    harness.pass_by(5)
    assert not harness.has()


def test_a_proof_that_was_long_on_its_way_is_as_old_as_what_it_proves(harness: Harness) -> None:
    harness.keep()
    harness.pass_by(12)
    harness.prove(age=8)
    assert harness.cache.seconds_left() == pytest.approx(7)


STEPS = [3600, -3600, 4, -4]


@pytest.mark.parametrize("step", STEPS)
def test_the_servers_wall_clock_does_not_matter(step: float) -> None:
    harness = Harness()
    harness.server_wall += step
    harness.watch()
    harness.pass_by(12)
    harness.prove(age=8)
    assert harness.cache.seconds_left() == pytest.approx(7)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("late", [0, 4, 8])
def test_a_proof_is_as_old_as_it_is_after_the_wall_clock_was_set(
    harness: Harness, step: float, late: float
) -> None:
    harness.keep()
    harness.pass_by(10)
    harness.server_wall += step
    for _ in range(3):
        harness.prove(age=late)
        assert harness.cache.live
        assert harness.cache.seconds_left() == pytest.approx(15 - late)
        harness.pass_by(10)
    harness.pass_by(5 - late)
    assert not harness.has()


@pytest.mark.parametrize("step", [3600, 4])
def test_where_only_the_wall_clock_is_told_a_watch_whose_clock_runs_ahead_is_forgotten(
    step: float,
) -> None:
    harness = Harness()
    harness.cache.begin()
    harness.prove(tells_uptime=False)
    ticket = harness.ticket()
    assert harness.keep()
    harness.pass_by(10)
    harness.server_wall += step
    harness.prove(tells_uptime=False)
    assert not harness.cache.live
    assert not harness.has()
    assert harness.cache.seconds_left() == 0
    harness.prove(tells_uptime=False)
    assert not harness.cache.live, "only another watch counts"
    harness.cache.begin()
    harness.prove(tells_uptime=False)
    assert harness.cache.live
    assert not harness.cache.store(ticket, "t", DEVICE, answer(at=harness.wall))


def test_where_only_the_wall_clock_is_told_one_that_is_set_back_proves_nothing() -> None:
    harness = Harness()
    harness.cache.begin()
    harness.prove(tells_uptime=False)
    harness.pass_by(10)
    harness.server_wall -= 3600
    harness.prove(tells_uptime=False)
    assert harness.cache.seconds_left() == pytest.approx(5)
    assert harness.cache.live  # what was proved before is still so


def test_a_machine_whose_clock_stood_still_forgets_the_watch(harness: Harness) -> None:
    harness.keep()
    harness.prove(age=-1.9)
    assert harness.has()
    assert harness.cache.seconds_left() == pytest.approx(15), "no proof is of the future"
    harness.prove(age=-2.1)
    assert not harness.has()


def test_it_gives_nothing_older_than_max_age_counted_from_the_request() -> None:
    harness = Harness(max_age=timedelta(seconds=20))
    harness.watch()
    ticket = harness.ticket()
    harness.pass_by(8)
    harness.prove()
    assert harness.cache.store(ticket, "t", DEVICE, answer())
    harness.pass_by(11.9)
    assert harness.has()
    harness.pass_by(0.1)
    assert not harness.has()


@pytest.mark.parametrize("life", [{"token_life": 5}, {"session_life": 5}], ids=["token", "session"])
@pytest.mark.parametrize("clock", ["both", "now", "wall"])
def test_it_gives_nothing_past_an_end_by_either_clock(
    harness: Harness, life: dict[str, float], clock: str
) -> None:
    harness.keep(**life)  # type: ignore[arg-type]
    harness.now += 4.9 * (clock != "wall")
    harness.wall += 4.9 * (clock != "now")
    assert harness.has()
    harness.now += 0.1 * (clock != "wall")
    harness.wall += 0.1 * (clock != "now")
    assert not harness.has()


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
    harness: Harness, refused: Validation
) -> None:
    harness.keep()
    assert not harness.cache.store(harness.ticket(), "t", DEVICE, refused)
    assert not harness.has()  # nor what it had before


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 8, 9])
def test_any_event_of_a_user_drops_what_is_known_of_them(harness: Harness, kind: int) -> None:
    harness.keep("t"), harness.keep("u"), harness.keep("v", "bob")
    harness.tell(kind, "ada")
    assert [harness.has(token) for token in "tuv"] == [False, False, True]


def test_what_is_asked_soon_after_a_key_was_revoked_is_not_kept() -> None:
    """Only the first server that finds it tells; another may not have looked yet."""
    harness = Harness()
    harness.watch()
    harness.tell(pb.EVENT_TYPE_SIGNING_KEY_REVOKED)
    harness.pass_by(14)
    harness.prove()
    early = harness.ticket()
    harness.cache.lost()
    harness.watch()
    assert not harness.keep()
    harness.pass_by(1)
    assert not harness.cache.store(early, "t", DEVICE, answer())
    assert harness.keep()


def test_what_is_asked_soon_after_the_primary_was_replaced_is_not_kept(harness: Harness) -> None:
    """One server found it, and the watch ended; another may still read the primary that was."""
    harness.keep()
    harness.cache.lost(history_gone=True)
    harness.watch()
    early = harness.ticket()
    assert not harness.keep()
    harness.pass_by(14)
    harness.prove()
    assert not harness.keep()
    harness.pass_by(1)
    assert not harness.cache.store(early, "t", DEVICE, answer())
    assert harness.keep()


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
    harness: Harness, kind: int, user: str
) -> None:
    harness.keep("t"), harness.keep("v", "bob")
    ticket = harness.ticket()
    harness.tell(kind, user)
    assert not harness.has("t")
    assert not harness.has("v")
    assert not harness.cache.store(ticket, "w", DEVICE, answer("carl"))
    harness.pass_by(15)
    harness.prove()
    assert harness.keep("w", "carl")  # it goes on


def test_an_answer_is_not_kept_if_an_event_of_its_user_came_meanwhile(harness: Harness) -> None:
    ticket = harness.ticket()
    harness.tell(pb.EVENT_TYPE_DEVICE_REVOKED, "ada")
    assert not harness.cache.store(ticket, "t", DEVICE, answer())
    assert harness.cache.store(ticket, "v", DEVICE, answer("bob"))
    assert harness.keep()


def test_an_answer_is_not_kept_across_watches(harness: Harness) -> None:
    ticket = harness.ticket()
    harness.cache.lost()
    harness.watch()
    assert not harness.cache.store(ticket, "t", DEVICE, answer())


def test_a_lost_watch_empties_it(harness: Harness) -> None:
    harness.keep()
    harness.cache.lost()
    assert not harness.cache.live
    harness.watch()
    assert not harness.has()


def test_the_least_recently_used_makes_room() -> None:
    harness = Harness(max_entries=2)
    harness.watch()
    harness.keep("t"), harness.keep("u")
    assert harness.has("t")
    harness.keep("v")
    assert [harness.has(token) for token in "tuv"] == [True, False, True]


def test_what_nobody_asks_for_dries_up(harness: Harness) -> None:
    for number in range(10):
        harness.keep(f"old {number}", f"user {number}")
    for _ in range(6):
        harness.pass_by(10)
        harness.prove()
    for number in range(10):
        harness.keep(f"new {number}", f"user {number}")
    assert harness.cache.stats().entries == 10


def test_forgetting_a_user_covers_what_is_on_its_way(harness: Harness) -> None:
    harness.keep()
    ticket = harness.ticket()
    harness.cache.forget_user("ada")
    assert not harness.has()
    assert not harness.cache.store(ticket, "t", DEVICE, answer())


def test_users_leave_no_trace(harness: Harness) -> None:
    for number in range(50):
        harness.keep(f"token {number}", f"user {number}")
        if number % 2:
            harness.tell(pb.EVENT_TYPE_ALL_REVOKED, f"user {number}")
        else:
            harness.cache.discard(f"token {number}", DEVICE)
    assert not harness.cache._entries
    assert not harness.cache._of_user


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_starts_with_nothing(harness: Harness) -> None:
    harness.keep()
    with harness.cache._lock:  # whoever holds it is not there any more
        child = os.fork()
        if child == 0:
            empty = (
                harness.cache.stats().entries == 0
                and not harness.has()
                and harness.cache.ticket() is None
            )
            os._exit(0 if empty else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert harness.has()


def test_it_belongs_to_one_client() -> None:
    cache = NearCache()
    cache.claim()
    with pytest.raises(ValueError, match="another client"):
        cache.claim()


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


def test_it_counts(harness: Harness) -> None:
    harness.keep()
    assert [harness.has(token) for token in "ttx"] == [True, True, False]
    harness.cache.lost()
    stats = harness.cache.stats()
    assert (stats.live, stats.entries, stats.hits, stats.misses, stats.emptied) == (
        False,
        0,
        2,
        1,
        1,
    )


def test_it_shows_no_token(harness: Harness) -> None:
    harness.keep("secret")
    shown: Sequence[object] = [harness.cache, harness.cache.stats(), harness.ticket()]
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

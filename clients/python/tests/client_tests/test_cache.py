"""The near cache within its process: threads, forks, settings and counts. The shared cases of
`cache` test its rules.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from session_authority_client.cache import NearCache, Ticket
from session_authority_client.types import Session, SessionStatus, Validation
from session_authority_client.wire import session_authority_pb2 as pb

NOON = 1_800_000_000.0
DEVICE = "6f1c2f0e-5d53-4c0b-8f43-0c1d2e3f4a5b"


class Harness:
    """A cache whose clocks stand still, and whose watch is live."""

    def __init__(self) -> None:
        self.cache = NearCache(clock=lambda: 100.0, wall_clock=lambda: NOON)
        self.cache.begin()
        self.cache.tell(pb.WatchEventsResponse(read_uptime={"seconds": 86400}))

    def tell(self, kind: int, user: str = "") -> None:
        """Passes one event without a proof to the cache."""
        event = pb.Event(user_id=user)
        event.type = kind  # type: ignore[assignment]
        self.cache.tell(pb.WatchEventsResponse(events=[event]))

    def ticket(self) -> Ticket:
        ticket = self.cache.ticket()
        assert ticket is not None
        return ticket

    def keep(self, token: str = "t", user: str = "ada") -> bool:
        """Stores an active answer with a new ticket. Returns True if it was stored."""
        end = datetime.fromtimestamp(NOON + 3600, UTC)
        session = Session(user, DEVICE, "0" * 32, 1, {}, (), end, end, end)
        answer = Validation(True, SessionStatus.ACTIVE, DEVICE, False, session, False, 0)
        return self.cache.store(self.ticket(), token, DEVICE, answer)

    def has(self, token: str = "t") -> bool:
        return self.cache.get(token, DEVICE) is not None


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_dropped_entry_leaves_no_trace_of_its_user(harness: Harness) -> None:
    for number in range(50):
        harness.keep(f"token {number}", f"user {number}")
        if number % 2:
            harness.tell(pb.EVENT_TYPE_ALL_REVOKED, f"user {number}")
        else:
            harness.cache.discard(f"token {number}", DEVICE)
    assert not harness.cache._entries
    assert not harness.cache._of_user


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_starts_with_an_empty_cache(harness: Harness) -> None:
    harness.keep()
    with harness.cache._lock:  # the thread that holds the lock does not exist in the child
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


def test_a_cache_belongs_to_one_client() -> None:
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
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="max_"):
        NearCache(**settings)  # type: ignore[arg-type]


def test_a_cache_counts_its_hits_misses_and_losses(harness: Harness) -> None:
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


def test_a_cache_shows_no_token(harness: Harness) -> None:
    harness.keep("secret")
    shown: Sequence[object] = [harness.cache, harness.cache.stats(), harness.ticket()]
    assert "secret" not in repr(shown)


def test_hits_of_other_threads_do_not_disturb_a_thread_that_stores_an_entry():
    """A hit takes no lock, so it may move an entry while another thread looks for the oldest
    entry.
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

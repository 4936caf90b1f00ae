"""No message is larger than a client accepts, however large its events are; and each cursor leads
to exactly the events that follow.
"""

from __future__ import annotations

import pytest

from session_authority.domain.events import EventFilter, EventType
from session_authority.events.recent import Batch, RecentBatches, Wanted, WrittenEvent
from session_authority.store.records import Commit
from tests.events.harness import ALL, USERS, Scene, Watcher
from tests.store.samples import event

MESSAGE_BYTES = 1024 * 1024
# A cursor and a read time, at most.
SPARE_BYTES = 5000
EVENT_BYTES = 18_000  # A browser with the longest client hints has such events.
ONE_USER, MANY_USERS = ["ada"], USERS
FEW = EventFilter(user_ids=frozenset({"ada", "bob"}))


async def _happen(scene: Scene, users: list[str], count: int) -> list[tuple[str, str]]:
    """Writes large events, this many for each user in one commit."""
    happened = []
    for user in users:
        reasons = [f"{number} ".ljust(EVENT_BYTES, "x") for number in range(count)]
        events = tuple(event(user, reason=reason) for reason in reasons)
        await scene.store.commit(Commit(user, scene.clock(), events=events))
        happened += [(user, reason) for reason in reasons]
    return happened


def _selected(happened: list[tuple[str, str]], only: EventFilter) -> list[tuple[str, str]]:
    return [(user, what) for user, what in happened if only is ALL or user in only.user_ids]


async def _resumes_exactly(scene: Scene, watcher: Watcher, only: EventFilter) -> None:
    """Checks that a watch from each cursor gets the events of the later messages."""
    another = scene.another_feed()
    for number, message in enumerate(watcher.messages):
        rest = [e for later in watcher.messages[number + 1 :] for e in later.events]
        again = await scene.watch(message.cursor, only, feed=another).started()
        await again.told(*rest)
        await again.stop()


def _largest(watcher: Watcher) -> int:
    return max(len(message.raw) for message in watcher.messages)


@pytest.mark.parametrize("only", [ALL, FEW], ids=["all", "few"])
@pytest.mark.parametrize("users", [ONE_USER, MANY_USERS], ids=["one-user", "many-users"])
async def test_a_slow_watcher_gets_small_messages(
    scene: Scene, users: list[str], only: EventFilter
):
    quick = await scene.watch().started()
    slow = (await scene.watch(only=only).started()).hold()
    happened = await _happen(scene, users, 280 // len(users))
    await quick.told(*happened)
    slow.free()
    await slow.told(*_selected(happened, only))
    for watcher in (quick, slow):
        assert _largest(watcher) <= MESSAGE_BYTES + SPARE_BYTES
    assert scene.expired() == 0
    await _resumes_exactly(scene, slow, only)


@pytest.mark.parametrize("only", [ALL, FEW], ids=["all", "few"])
@pytest.mark.parametrize("users", [ONE_USER, MANY_USERS], ids=["one-user", "many-users"])
async def test_catching_up_sends_small_messages(scene: Scene, users: list[str], only: EventFilter):
    first = await scene.watch().started()
    await first.stop()
    happened = await _happen(scene, users, 280 // len(users))
    late = await scene.watch(first.cursor, only).started()
    await late.told(*_selected(happened, only))
    assert _largest(late) <= MESSAGE_BYTES + SPARE_BYTES
    await _resumes_exactly(scene, late, only)


@pytest.mark.parametrize("size", [1000, MESSAGE_BYTES // 2, MESSAGE_BYTES, 2 * MESSAGE_BYTES])
def test_batches_are_joined_only_while_they_fit(size: int):
    """A batch that is too large by itself is a message of its own."""
    recent = RecentBatches()
    for _ in range(3):
        written = WrittenEvent(EventType.DEVICE_SIGNED_IN, "ada", bytes(size))
        recent.add(Batch((written,), b"cursor"))
    start, lengths = recent.first, []
    while start < recent.end:
        message, start = recent.message_from(start, Wanted(ALL, frozenset()))
        lengths.append(len(message))
    most = max(1, MESSAGE_BYTES // (size + len(b"cursor")))
    whole, rest = divmod(3, most)
    expected = [most * size + len(b"cursor")] * whole + [rest * size + len(b"cursor")] * bool(rest)
    assert lengths == expected

"""The state of deliveries, on each real backend. fakeredis is left out: its scripts get replies of
XREADGROUP that no real server gives.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.clients import Client
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.moments import from_ms
from session_authority.store import (
    Backlog,
    Backlogs,
    Deliveries,
    KeyNames,
    RedisClient,
    SessionStore,
    connect,
)
from session_authority.store.deliveries import (
    Attempts,
    DeadLetter,
    DeliveryState,
    GroupGone,
    LeaseLost,
    TakenEvent,
)
from session_authority.store.key_names import partition
from session_authority.store.records import Commit
from tests.store.samples import NOW, SECOND, event
from tests.support.backends import PATIENT, Backend
from tests.support.ports import free_port

USER = "ada"
HERE = partition(USER)
ONE, OTHER = "relay-1", "relay-2"
MAILER, AUDIT = "mailer", "audit"


@dataclass(frozen=True)
class Post:
    """Deliveries, and a store to write events with."""

    deliveries: Deliveries
    store: SessionStore
    admin: RedisClient
    keys: KeyNames

    async def happen(self, *reasons: str) -> None:
        """Writes one event of the user for each reason."""
        for reason in reasons:
            await self.store.commit(Commit(USER, NOW, events=(event(USER, reason=reason),)))

    async def take(
        self, count: int = 10, relay: str = ONE, endpoint: str = MAILER
    ) -> Sequence[TakenEvent]:
        """Takes the new events."""
        return await self.deliveries.take(HERE, endpoint, relay, count)

    async def dead(self, endpoint: str = MAILER, event_id: str | None = None) -> list[DeadLetter]:
        """The dead letters."""
        return [letter async for letter in self.deliveries.dead_letters(endpoint, event_id)]

    async def unsettled(self, relay: str = ONE) -> Sequence[TakenEvent]:
        """The events that were taken before, and not settled."""
        return await self.deliveries.unsettled(HERE, MAILER, relay)


@pytest.fixture(params=["cluster", "redis", "valkey"])
async def post(
    request: pytest.FixtureRequest, backends: Callable[[str], Backend], prefix: str
) -> AsyncIterator[Post]:
    backend, keys = backends(request.param), KeyNames(prefix)
    store, deliveries = SessionStore(backend.connect(), keys), Deliveries(backend.connect(), keys)
    async with aclosing(backend.admin()) as admin:
        yield Post(deliveries, store, admin, keys)
    await deliveries.close()
    await store.close()


@pytest.fixture
async def leased(post: Post) -> Post:
    """The first relay has the lease, and no event was written since."""
    await post.happen("before")
    assert await post.deliveries.lease(HERE, MAILER, ONE)
    await post.deliveries.start_group(HERE, MAILER, None)
    return post


def reasons(events: Sequence[TakenEvent]) -> list[str]:
    return ["" if taken.event is None else taken.event.reason for taken in events]


async def test_a_taken_event_is_held_as_the_bytes_of_the_log(leased: Post) -> None:
    """A parsed event needs several times as much memory."""
    count = 100
    await leased.happen(*map(str, range(count)))
    tracemalloc.start()
    held = await leased.take(count)
    assert reasons(held) == list(map(str, range(count)))
    before_bytes, _ = tracemalloc.get_traced_memory()
    raw_bytes = sum(len(taken.raw) for taken in held)
    del held
    after_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert before_bytes - after_bytes < raw_bytes + count * 512


async def test_relays_count_each_other(post: Post) -> None:
    assert [await post.deliveries.enlist(MAILER, relay) for relay in (ONE, OTHER, ONE)] == [1, 2, 2]
    await post.deliveries.leave(MAILER, OTHER)
    assert await post.deliveries.enlist(MAILER, ONE) == 1


async def test_a_silent_relay_is_no_longer_counted(post: Post) -> None:
    await post.admin.execute_command("ZADD", post.keys.relays(MAILER), 1, "long gone")
    assert await post.deliveries.enlist(MAILER, ONE) == 1


async def test_one_relay_at_a_time_has_a_lease(leased: Post) -> None:
    assert not await leased.deliveries.lease(HERE, MAILER, OTHER)
    assert await leased.deliveries.lease(HERE, MAILER, ONE), "the holder may ask again"
    assert await leased.deliveries.lease(HERE, AUDIT, OTHER), "each endpoint has leases of its own"
    assert await leased.deliveries.lease((HERE + 1) % 64, MAILER, OTHER)
    await leased.deliveries.release(HERE, MAILER, OTHER)
    assert not await leased.deliveries.lease(HERE, MAILER, OTHER), "only the holder gives it back"
    await leased.deliveries.release(HERE, MAILER, ONE)
    assert await leased.deliveries.lease(HERE, MAILER, OTHER)


async def test_a_lease_runs_out_unless_it_is_used(leased: Post) -> None:
    key = leased.keys.lease(HERE, MAILER)
    assert 0 < await leased.admin.execute_command("PTTL", key) <= 10_000
    await leased.admin.execute_command("PEXPIRE", key, 500)
    assert await leased.take(0) == []
    assert await leased.admin.execute_command("PTTL", key) > 500
    await leased.admin.execute_command("PEXPIRE", key, 500)
    assert await leased.unsettled() == []
    assert await leased.admin.execute_command("PTTL", key) > 500


async def test_a_relay_without_the_lease_takes_nothing(leased: Post) -> None:
    await leased.happen("a")
    with pytest.raises(LeaseLost):
        await leased.take(relay=OTHER)
    with pytest.raises(LeaseLost):
        await leased.unsettled(relay=OTHER)
    with pytest.raises(LeaseLost):
        await leased.deliveries.take((HERE + 1) % 64, MAILER, ONE, 1)
    assert reasons(await leased.take()) == ["a"]


async def test_events_since_the_first_lease_are_taken_once_and_in_order(leased: Post) -> None:
    await leased.happen("a", "b", "c")
    assert reasons(await leased.take(2)) == ["a", "b"]
    assert await leased.take(0) == []
    assert reasons(await leased.take(2)) == ["c"]
    assert await leased.take(2) == []


async def test_each_endpoint_gets_all_events(leased: Post) -> None:
    assert await leased.deliveries.lease(HERE, AUDIT, ONE)
    await leased.deliveries.start_group(HERE, AUDIT, None)
    await leased.happen("a")
    assert reasons(await leased.take()) == reasons(await leased.take(endpoint=AUDIT)) == ["a"]


async def test_events_that_a_dead_relay_took_go_to_the_next_relay(leased: Post) -> None:
    await leased.happen("a", "b", "c")
    a, _, c = await leased.take()
    await leased.deliveries.settle(HERE, MAILER, [a.entry])
    await leased.deliveries.note_failure(HERE, MAILER, c.entry, Attempts(3, NOW))
    await leased.admin.execute_command("DEL", leased.keys.lease(HERE, MAILER))
    await leased.happen("d")
    assert await leased.deliveries.lease(HERE, MAILER, OTHER)
    again = await leased.unsettled(OTHER)
    assert reasons(again) == ["b", "c"]
    assert [taken.attempts for taken in again] == [None, Attempts(3, NOW)]
    assert again[1].event_id == c.event_id
    assert reasons(await leased.take(relay=OTHER)) == ["d"]


async def test_many_unsettled_events_are_all_found(leased: Post) -> None:
    await leased.happen(*(str(number) for number in range(250)))
    assert len(await leased.take(250)) == 250
    found = await leased.unsettled()
    assert reasons(found) == [str(number) for number in range(250)]
    under_way = {taken.entry for taken in found[:240]}
    others = await leased.deliveries.unsettled(HERE, MAILER, ONE, but=under_way)
    assert others == found[240:]


async def test_a_settled_event_is_forgotten(leased: Post) -> None:
    await leased.happen("a", "b")
    a, b = await leased.take()
    await leased.deliveries.note_failure(HERE, MAILER, a.entry, Attempts(1, NOW))
    await leased.deliveries.settle(HERE, MAILER, [a.entry, b.entry])
    await leased.deliveries.settle(HERE, MAILER, [a.entry])
    assert await leased.unsettled() == []
    assert not await leased.admin.execute_command("EXISTS", leased.keys.attempts(HERE, MAILER))
    assert await leased.dead(MAILER) == []


async def test_many_dead_letters_are_read_in_pages(leased: Post) -> None:
    await leased.happen(*(str(number) for number in range(250)))
    for taken in await leased.take(250):
        await leased.deliveries.put_aside(HERE, MAILER, taken, 1, "timeout", NOW)
    assert [letter.event.reason for letter in await leased.dead() if letter.event] == list(
        map(str, range(250))
    )


async def test_an_event_that_is_put_aside_is_one_dead_letter(leased: Post) -> None:
    await leased.happen("a", "b")
    a, b = await leased.take()
    await leased.deliveries.note_failure(HERE, MAILER, a.entry, Attempts(7, NOW))
    for _ in range(2):
        await leased.deliveries.put_aside(HERE, MAILER, a, 8, "status 500", NOW + SECOND)
    assert reasons(await leased.unsettled()) == ["b"]
    [letter] = await leased.dead(MAILER)
    assert (letter.event_id, letter.event, letter.attempts) == (a.event_id, a.event, 8)
    assert (letter.reason, letter.given_up_at, letter.partition) == (
        "status 500",
        NOW + SECOND,
        HERE,
    )
    assert await leased.dead(AUDIT) == []
    await leased.deliveries.put_aside(HERE, MAILER, b, 1, "timeout", NOW)
    assert [letter.reason for letter in await leased.dead(MAILER)] == ["status 500", "timeout"]
    assert [letter.reason for letter in await leased.dead(MAILER, b.event_id)] == ["timeout"]
    assert await leased.dead(MAILER, "evt_nothing") == []
    assert await leased.deliveries.drop(MAILER, letter)
    assert not await leased.deliveries.drop(MAILER, letter)
    assert [letter.reason for letter in await leased.dead(MAILER)] == ["timeout"]


async def test_a_trimmed_or_unreadable_event_is_taken_without_content(
    leased: Post,
) -> None:
    stream = leased.keys.stream(HERE)
    await leased.admin.execute_command("XADD", stream, "*", "event", b"\xff\xff")
    await leased.happen("a")
    nonsense, trimmed = await leased.take()
    assert nonsense.event is None
    await leased.admin.execute_command("XTRIM", stream, "MAXLEN", 0)
    again = await leased.unsettled()
    assert [(taken.event_id, taken.event) for taken in again] == [
        (nonsense.event_id, None),
        (trimmed.event_id, None),
    ]
    await leased.deliveries.put_aside(HERE, MAILER, again[1], 0, "trimmed", NOW)
    [letter] = await leased.dead(MAILER)
    assert letter.event is None


async def test_a_lost_group_is_reported_and_restarted_after_the_last_event(leased: Post) -> None:
    await leased.happen("a", "b", "c")
    a, *_ = await leased.take(2)
    await leased.admin.execute_command("XGROUP", "DESTROY", leased.keys.stream(HERE), MAILER)
    with pytest.raises(GroupGone):
        await leased.take()
    with pytest.raises(GroupGone):
        await leased.unsettled()
    for _ in range(2):  # A group that exists already is no error.
        await leased.deliveries.start_group(HERE, MAILER, a.entry)
    assert reasons(await leased.take()) == ["b", "c"]


async def test_the_state_of_an_endpoint_is_counted(leased: Post) -> None:
    assert await leased.deliveries.state(AUDIT) == DeliveryState(0, 0, 0, 0, 0)
    await leased.happen("a", "b", "c")
    first, _ = await leased.take(2)
    await leased.deliveries.put_aside(HERE, MAILER, first, 1, "timeout", NOW)
    await leased.deliveries.lease((HERE + 1) % 64, MAILER, OTHER)
    assert await leased.deliveries.state(MAILER) == DeliveryState(
        waiting=1, taken=1, dead=1, relays=2, partitions=2
    )


async def test_without_a_store_deliveries_are_unavailable() -> None:
    deliveries = Deliveries(connect(f"redis://127.0.0.1:{free_port()}", PATIENT), KeyNames())
    for ask in (
        deliveries.enlist(MAILER, ONE),
        deliveries.lease(0, MAILER, ONE),
        deliveries.take(0, MAILER, ONE, 1),
        deliveries.state(MAILER),
        Backlogs(deliveries).look([MAILER]),
        anext(deliveries.dead_letters(MAILER)),
    ):
        with pytest.raises(StoreUnavailable):
            await ask
    await deliveries.close()


@pytest.mark.parametrize(
    ("detail", "shown"), [(AddressDetail.NETWORK, "203.0.113.0/24"), (AddressDetail.NONE, "")]
)
async def test_older_events_are_delivered_with_addresses_as_coarse_as_new_ones(
    valkey_backend: Backend, prefix: str, detail: AddressDetail, shown: str
) -> None:
    keys = KeyNames(prefix)
    store = SessionStore(valkey_backend.connect(), keys)
    deliveries = Deliveries(valkey_backend.connect(), keys, addresses=detail)
    assert await deliveries.lease(HERE, MAILER, ONE)
    await deliveries.start_group(HERE, MAILER, None)
    whole = replace(event(USER), client=Client(ip_address="203.0.113.7"))
    await store.commit(Commit(USER, NOW, events=(whole,)))
    taken = await deliveries.take(HERE, MAILER, ONE, 1)
    assert [each.event and each.event.client.ip_address for each in taken] == [shown]
    [left] = await deliveries.unsettled(HERE, MAILER, ONE)
    assert left.event == taken[0].event
    await deliveries.put_aside(HERE, MAILER, left, 1, "timeout", NOW)
    whole_again = Deliveries(valkey_backend.connect(), keys)
    [letter] = [each async for each in whole_again.dead_letters(MAILER)]
    assert letter.event is not None
    assert letter.event.client.ip_address == shown
    await whole_again.close()
    await deliveries.close()
    await store.close()


async def test_the_backlog_of_an_endpoint_is_counted(leased: Post) -> None:
    backlogs, nothing = Backlogs(leased.deliveries), Backlog(0, None, 0)
    assert await backlogs.look([MAILER, AUDIT]) == {MAILER: nothing, AUDIT: nothing}
    await leased.happen("a", "b", "c", "d", "e")
    a, b = await leased.take(2)
    await leased.deliveries.put_aside(HERE, MAILER, a, 1, "timeout", NOW)
    behind = Backlog(events=4, oldest_at=from_ms(b.entry[0]), dead_letters=1)
    assert await backlogs.look([MAILER, AUDIT]) == {MAILER: behind, AUDIT: nothing}
    assert await leased.unsettled() == [b], "a look changes nothing"
    await leased.deliveries.settle(HERE, MAILER, [b.entry])
    [c] = await leased.take(1)
    await leased.deliveries.settle(HERE, MAILER, [c.entry])
    stream = leased.keys.stream(HERE)
    last = await leased.admin.execute_command("XREVRANGE", stream, "+", "-", "COUNT", 2)
    (e, _), (d, _) = last
    # After this deletion, Redis no longer knows the number of events, so the service counts them.
    await leased.admin.execute_command("XDEL", stream, d)
    found = (await backlogs.look([MAILER]))[MAILER]
    assert (found.events, found.oldest_at) == (1, from_ms(int(e.split(b"-")[0])))

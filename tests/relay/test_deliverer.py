"""The relay against a real store, with endpoints that do as a test says; and the whole command at
the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import Event, EventType
from session_authority.relay import deliverer
from session_authority.relay.deliverer import Pace, Relay
from session_authority.relay.endpoints import Endpoint
from session_authority.relay.webhooks import Delivered, Refused
from session_authority.runtime.metrics import Metrics
from session_authority.store import Deliveries, EventLog, KeyNames, Limits, SessionStore, connect
from session_authority.store.deliveries import Attempts, DeadLetter
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.records import Commit
from tests.support.backends import Backend, ValkeyServer, valkey_server
from tests.support.clock import Clock
from tests.support.proxy import Proxy

PATIENCE = 20.0
NOW = datetime.fromisoformat("2026-01-01T00:00:00Z")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAST = Pace(first_delay=timedelta(milliseconds=1), longest_delay=timedelta(milliseconds=20))
SLOW = Pace(first_delay=timedelta(hours=1), longest_delay=timedelta(hours=1))
BAD = Refused("status 500")
# Whether a loaded machine answers in time is not what is asked here.
PATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=10))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays count each other and look around often."""
    monkeypatch.setattr(deliverer, "_ROUND_SECONDS", 0.1)
    monkeypatch.setattr(deliverer, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(deliverer, "_STORE_PAUSE_SECONDS", 0.05)


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits until it is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - a condition has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE:g} s for {what}")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """The same, for what must be asked for. A store that does not answer yet is no answer."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    if await condition():
                        return
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE:g} s for {what}")


class Mailbox:
    """An endpoint: refuses what `refuses` says, by the event's reason, as often as it says; hangs
    while `hangs`.
    """

    def __init__(self, name: str = "mailer", **more: object) -> None:
        self.endpoint = replace(Endpoint(name, "https://mailer.example/", (b"s" * 32,)), **more)  # type: ignore[arg-type]
        self.refuses: Counter[str] = Counter()
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.attempts: list[str] = []
        self.arrived: list[str] = []
        self.by_id: defaultdict[str, set[str]] = defaultdict(set)
        self.at_once = self.most_at_once = 0
        self.closed = False

    async def send(self, event_id: str, body: bytes, now: datetime) -> Delivered | Refused:
        """Takes or refuses an event; its reason stands for it."""
        reason = body.decode().partition('"reason":"')[2].partition('"')[0]
        self.attempts.append(reason)
        self.by_id[reason].add(event_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.hangs.wait()
        finally:
            self.at_once -= 1
        if self.refuses[reason] > 0 or self.refuses["*"] > 0:
            self.refuses[reason if self.refuses[reason] > 0 else "*"] -= 1
            return BAD
        self.arrived.append(reason)
        return Delivered()

    async def close(self) -> None:
        """Notes it."""
        self.closed = True


async def _all_held(deliveries: Deliveries, box: Mailbox) -> bool:
    return (await deliveries.state(box.endpoint.name)).partitions == PARTITIONS


class Town:
    """A store, and relays that come and go."""

    def __init__(self, url: str, prefix: str) -> None:
        self.keys, self._url = KeyNames(prefix), url
        self.client = connect(url, PATIENT)
        self.store = SessionStore(self.client, self.keys)
        self.clock = Clock(NOW)
        self.metrics = Metrics()

    async def happen(
        self, user: str, *reasons: str, kind: EventType = EventType.DEVICE_REVOKED
    ) -> None:
        """Something happens to a user, once for each reason."""
        for reason in reasons:
            event = Event(kind, self.clock.now, user, "tests", reason=reason)
            await self.store.commit(Commit(user, NOW, events=(event,)))

    @asynccontextmanager
    async def relay(
        self, *boxes: Mailbox, pace: Pace = FAST, name: str = "relay-1", whole: bool = True
    ) -> AsyncIterator[asyncio.Event]:
        """A relay that has begun: if `whole`, all partitions are held, by it or another. Setting
        what is given stops it.
        """
        client = connect(self._url, PATIENT)
        deliveries = Deliveries(client, self.keys)
        relay = Relay(
            name,
            deliveries,
            EventLog(client, self.keys),
            [(box.endpoint, box) for box in boxes],
            source="tests",
            clock=self.clock,
            metrics=self.metrics,
            pace=pace,
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(relay.run(stop))
        try:
            for box in boxes if whole else ():
                await until(lambda box=box: _all_held(deliveries, box), "all partitions to be held")  # type: ignore[misc]
            yield stop
        finally:
            stop.set()
            await asyncio.wait_for(running, PATIENCE)
            await deliveries.close()

    async def holders(self, endpoint: str = "mailer") -> Counter[str]:
        """How many leases each relay has."""
        found = [
            await self.client.execute_command("GET", self.keys.lease(n, endpoint))
            for n in range(PARTITIONS)
        ]
        return Counter(holder.decode() for holder in found if holder)

    async def are_held(self, expected: dict[str, int]) -> bool:
        """Each relay holds so many."""
        return await self.holders() == expected

    async def are_dead(self, count: int) -> bool:
        """So many were put aside."""
        return len(await self.dead()) == count

    async def dead(self) -> Sequence[DeadLetter]:
        """What was put aside."""
        return [
            letter async for letter in Deliveries(self.client, self.keys).dead_letters("mailer")
        ]

    async def all_settled(self) -> bool:
        """Nothing is under way."""
        return not (await Deliveries(self.client, self.keys).state("mailer")).taken

    def counted(self, outcome: str, endpoint: str = "mailer") -> float:
        """What the metrics say."""
        labels = {"endpoint": endpoint, "outcome": outcome}
        return (
            self.metrics.registry.get_sample_value("session_authority_deliveries_total", labels)
            or 0.0
        )


@pytest.fixture
async def town(valkey_backend: Backend, prefix: str) -> AsyncIterator[Town]:
    town = Town(valkey_backend.url, prefix)
    yield town
    await town.store.close()


@pytest.fixture
def box() -> Mailbox:
    return Mailbox()


async def test_what_happens_is_delivered_and_settled(town: Town, box: Mailbox) -> None:
    async with town.relay(box):
        for user in ("ada", "ben", "cleo"):
            await town.happen(user, *(f"{user}-{number}" for number in range(20)))
        await eventually(lambda: len(box.arrived) == 60, "all to arrive")
        for user in ("ada", "ben", "cleo"):
            assert [r for r in box.arrived if r.startswith(user)] == [
                f"{user}-{number}" for number in range(20)
            ]
    state = await Deliveries(town.client, town.keys).state("mailer")
    assert (state.waiting, state.taken, state.dead, state.relays) == (0, 0, 0, 0)
    assert box.closed
    assert town.counted("delivered") == 60


async def test_an_endpoint_with_a_filter_gets_only_what_passes(town: Town) -> None:
    box = Mailbox(types=frozenset({EventType.SESSION_REPLAYED}))
    async with town.relay(box):
        await town.happen("ada", "a")
        await town.happen("ada", "b", kind=EventType.SESSION_REPLAYED)
        await town.happen("ada", "c")
        await town.happen("ada", "d", kind=EventType.SESSION_REPLAYED)
        await eventually(lambda: box.arrived == ["b", "d"], "what passes")
        await until(town.all_settled, "the others to be settled")
    assert box.attempts == ["b", "d"]


async def test_a_failure_is_tried_again_with_the_same_id_and_keeps_the_order(
    town: Town, box: Mailbox
) -> None:
    box.refuses["a"] = 5
    async with town.relay(box):
        await town.happen("ada", "a", "b")
        await eventually(lambda: box.arrived == ["a", "b"], "both")
    assert box.attempts == ["a"] * 6 + ["b"]
    assert len(box.by_id["a"]) == 1
    assert town.counted("failed") == 5
    assert not await town.client.execute_command(
        "EXISTS", town.keys.attempts(partition("ada"), "mailer")
    )


async def test_one_users_trouble_is_no_others(town: Town, box: Mailbox) -> None:
    """Not even of one in the same partition."""
    neighbour = next(f"n{i}" for i in range(10_000) if partition(f"n{i}") == partition("ada"))
    box.refuses["poison"] = 10**9
    async with town.relay(box):
        await town.happen("ada", "poison", "behind")
        await town.happen(neighbour, "a", "b")
        await eventually(
            lambda: box.arrived == ["a", "b"] and box.attempts.count("poison") > 5,
            "the neighbour's",
        )
    assert "behind" not in box.attempts


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_one_endpoints_trouble_is_no_others(town: Town, trouble: str) -> None:
    bad, good = Mailbox("bad"), Mailbox("good")
    if trouble == "hangs":
        bad.hangs.clear()
    bad.refuses["*"] = 10**9
    async with town.relay(bad, good):
        for number in range(50):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(good.arrived) == 50, "the good one to get all")
        assert bad.arrived == []
        bad.hangs.set()


async def test_only_so_many_are_sent_at_once(town: Town) -> None:
    box = Mailbox(max_in_flight=3)
    box.hangs.clear()
    async with town.relay(box):
        for number in range(40):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 3, "as many as may be")
        box.hangs.set()
        await eventually(lambda: len(box.arrived) == 40, "all")
    assert box.most_at_once == 3


async def test_more_than_the_window_waits_in_the_log(
    town: Town, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "_WINDOW", 5)
    box.hangs.clear()
    async with town.relay(box):
        await town.happen("ada", *map(str, range(30)))
        await eventually(lambda: box.at_once == 1, "the first")
        state = await Deliveries(town.client, town.keys).state("mailer")
        assert (state.taken, state.waiting) == (5, 25)
        box.hangs.set()
        await eventually(lambda: len(box.arrived) == 30, "all")
    assert box.arrived == list(map(str, range(30)))


async def test_one_users_trouble_is_no_others_however_much_it_is(town: Town, box: Mailbox) -> None:
    """Much more than the window holds, in the same partition; and all of it has the same day."""
    neighbour = next(f"n{i}" for i in range(10_000) if partition(f"n{i}") == partition("ada"))
    box.refuses["poison"] = 10**9
    async with town.relay(box):
        await town.happen("ada", *["poison"] * 300)
        await town.happen(neighbour, "a", "b")
        await eventually(lambda: box.arrived == ["a", "b"], "the neighbour's")
        town.clock.advance(DAY)
        await until(lambda: town.are_dead(300), "all of them to be given up")


async def test_relays_for_different_endpoints_don_t_count_on_each_other(town: Town) -> None:
    one, other = Mailbox("one"), Mailbox("other")
    async with town.relay(one), town.relay(other, name="relay-2"):
        for number in range(100):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(one.arrived) == len(other.arrived) == 100, "each to get all")


async def test_all_partitions_are_begun_with_the_first_relay(town: Town, box: Mailbox) -> None:
    """Also those that it does not come to deliver."""
    stream, name = town.keys.stream(partition("ada")), "mailer"
    await town.client.execute_command(
        "SET", town.keys.lease(partition("ada"), name), "another relay", "PX", 600_000
    )
    async with town.relay(box):
        groups = await town.client.execute_command("XINFO", "GROUPS", stream)
        assert len(groups) == 1


@pytest.mark.parametrize("when", ["lease", "start_group"])
async def test_a_partition_that_is_away_keeps_no_other_back(
    town: Town, box: Mailbox, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    away = partition("ada")
    sound = getattr(Deliveries, when)

    async def fails(self: Deliveries, number: int, *rest: Any) -> Any:
        if number == away and not back.is_set():
            raise StoreUnavailable
        return await sound(self, number, *rest)

    back = asyncio.Event()
    monkeypatch.setattr(Deliveries, when, fails)
    other = next(f"n{i}" for i in range(10_000) if partition(f"n{i}") != away)
    async with town.relay(box, whole=False):
        await until(lambda: town.are_held({"relay-1": 63}), "all others to be held")
        await town.happen(other, "a")
        await eventually(lambda: box.arrived == ["a"], "what can be delivered")
        back.set()
        await until(lambda: town.are_held({"relay-1": 64}), "the last one")


# --- giving up ------------------------------------------------------------------------------------


async def test_after_a_day_an_event_is_put_aside_and_the_next_one_is_sent(
    town: Town, box: Mailbox
) -> None:
    box.refuses["poison"] = 10**9
    async with town.relay(box):
        await town.happen("ada", "poison", "next")
        await eventually(lambda: box.attempts.count("poison") >= 3, "some attempts")
        town.clock.advance(DAY - timedelta(seconds=1))
        tried = len(box.attempts)
        await eventually(lambda: len(box.attempts) > tried + 2, "more attempts")
        assert box.arrived == []
        town.clock.advance(timedelta(seconds=1))
        await eventually(lambda: box.arrived == ["next"], "the next one")
    [letter] = await town.dead()
    assert letter.event is not None
    assert (letter.event.reason, letter.reason, letter.given_up) == (
        "poison",
        "status 500",
        town.clock.now,
    )
    assert letter.attempts == box.attempts.count("poison")
    assert town.counted("given_up") == 1


async def test_what_piled_up_behind_a_long_outage_is_given_up_as_it_gets_old(
    town: Town, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each window would wait for a day of its own, and the log forgets."""
    monkeypatch.setattr(deliverer, "_WINDOW", 1)
    box.refuses["*"] = 10**9
    async with town.relay(box):
        await town.happen("ada", *(f"old-{number}" for number in range(5)))
        await eventually(lambda: len(box.attempts) >= 3, "some attempts")
        town.clock.advance(DAY)
        await town.happen("ada", "young")
        await eventually(lambda: box.attempts.count("young") >= 3, "the young one")
    assert [letter.event.reason for letter in await town.dead() if letter.event] == [
        f"old-{number}" for number in range(5)
    ]


async def test_what_is_old_because_no_relay_ran_gets_its_day(town: Town, box: Mailbox) -> None:
    async with town.relay(box):
        pass
    await town.happen("ada", "old")
    town.clock.advance(3 * DAY)
    box.refuses["old"] = 20
    async with town.relay(box):
        await eventually(lambda: box.arrived == ["old"], "it after all")


async def test_an_event_that_makes_no_sense_is_put_aside(town: Town, box: Mailbox) -> None:
    async with town.relay(box):
        stream = town.keys.stream(partition("ada"))
        await town.client.execute_command("XADD", stream, "*", "event", b"\xff\xff")
        await town.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the one after it")
        await until(town.dead, "it to be put aside")


# --- relays that come and go ----------------------------------------------------------------------


async def test_relays_share_the_work_and_take_over_from_each_other(
    town: Town, box: Mailbox
) -> None:
    other = Mailbox()
    async with town.relay(box) as stop_one:
        assert await town.holders() == {"relay-1": 64}
        async with town.relay(other, name="relay-2"):
            await until(lambda: town.are_held({"relay-1": 32, "relay-2": 32}), "half of them each")
            for number in range(200):
                await town.happen(f"u{number}", f"{number}")
            await eventually(lambda: len(box.arrived) + len(other.arrived) == 200, "all")
            assert box.arrived
            assert other.arrived
            stop_one.set()
            await until(lambda: town.are_held({"relay-2": 64}), "the other to hold all")
            before = len(other.arrived)
            for number in range(100):
                await town.happen(f"u{number}", f"again-{number}")
            await eventually(lambda: len(other.arrived) == before + 100, "all of them at the other")


async def test_a_stopped_relay_finishes_what_it_sends_and_leaves_the_rest(town: Town) -> None:
    box, heir = Mailbox(max_in_flight=2), Mailbox()
    box.hangs.clear()
    async with town.relay(box) as stop:
        for number in range(20):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 2, "two on their way")
        stop.set()
        box.hangs.set()
    assert 2 <= len(box.arrived) < 20  # a few more may have begun before it knew
    async with town.relay(heir):
        await eventually(lambda: len(box.arrived) + len(heir.arrived) == 20, "the rest")
    assert not set(box.arrived) & set(heir.arrived)


async def test_who_has_lost_the_lease_sends_no_more(town: Town, box: Mailbox) -> None:
    box.refuses["a"] = 10**9
    here = partition("ada")
    async with town.relay(box):
        await town.happen("ada", "a")
        await eventually(lambda: box.attempts.count("a") > 2, "attempts")
        with structlog.testing.capture_logs() as logged:
            await town.client.execute_command("SET", town.keys.lease(here, "mailer"), "usurper")
            await eventually(
                lambda: any(entry["event"] == "lease_lost" for entry in logged), "it to notice"
            )
        tried = len(box.attempts)
        await town.happen("ada", "b")
        await town.happen(
            next(f"o{i}" for i in range(1000) if partition(f"o{i}") != here), "elsewhere"
        )
        await eventually(lambda: "elsewhere" in box.arrived, "the others to go on")
        assert box.attempts[tried:] == ["elsewhere"]
        assert (await town.holders())["usurper"] == 1, "the lease of another is not given back"


async def test_failures_are_remembered_by_the_next_relay(town: Town, box: Mailbox) -> None:
    box.refuses["a"] = 10**9
    async with town.relay(box):
        await town.happen("ada", "a")
        await eventually(lambda: len(box.attempts) >= 3, "attempts")
    town.clock.advance(DAY)
    async with town.relay(box):
        await until(town.dead, "it to be put aside")
    [letter] = await town.dead()
    assert letter.attempts == len(box.attempts)


async def test_a_group_that_is_gone_is_made_anew_and_goes_on(
    town: Town, box: Mailbox, valkey_backend: Backend
) -> None:
    async with town.relay(box):
        await town.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the first")
        async with valkey_backend.admin() as admin:
            await admin.execute_command(
                "XGROUP", "DESTROY", town.keys.stream(partition("ada")), "mailer"
            )
        await town.happen("ada", "b", "c")
        await eventually(lambda: box.arrived == ["a", "b", "c"], "the others, and none twice")


# --- a store in trouble ---------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> object:
    with valkey_server(
        tmp_path_factory.mktemp("victim"), appendonly="yes", appendfsync="always"
    ) as server:
        yield server


async def test_a_store_that_is_killed_and_comes_back_loses_nothing(
    victim: ValkeyServer, box: Mailbox
) -> None:
    town = Town(victim.url, "t")
    async with town.relay(box):
        box.hangs.clear()
        for number in range(20):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 16, "some on their way")
        victim.kill()
        box.hangs.set()
        await eventually(lambda: len(box.attempts) >= 16, "them to arrive, with nobody to tell")
        victim.start()
        await until(town.store.server_times, "the store to answer")
        for number in range(20, 40):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: set(box.arrived) == set(map(str, range(40))), "all")
    assert all(len(ids) == 1 for ids in box.by_id.values())
    await town.store.close()


async def test_events_whose_reply_was_lost_are_found_again(
    valkey_backend: Backend, prefix: str, box: Mailbox
) -> None:
    """The store counts them as taken, so nobody would be handed them a second time."""
    lost: list[bytes] = []

    async def lose(reply: bytes) -> None:
        if b"marked" in reply and len(lost) < 3:
            lost.append(reply)
            raise ConnectionError

    async with Proxy(valkey_backend.url) as wire:
        town, behind = Town(valkey_backend.url, prefix), Town(wire.url, prefix)
        wire.on_reply = lose
        async with behind.relay(box):
            await town.happen("ada", "a", "marked", "b")
            await eventually(lambda: len(box.arrived) == 3, "all of them")
        assert box.arrived == ["a", "marked", "b"]
        assert len(lost) == 3
        for one in (town, behind):
            await one.store.close()


async def test_after_a_store_that_forgot_everything_what_happens_then_is_delivered(
    town: Town, box: Mailbox, valkey_backend: Backend
) -> None:
    async with town.relay(box):
        await town.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the first")
        async with valkey_backend.admin() as admin:
            for key in await admin.execute_command(
                "KEYS", f"{town.keys.stream(0).partition(':')[0]}:*"
            ):
                await admin.execute_command("DEL", key)
        for number in range(100):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(box.arrived) == 101, "all that came after")


# --- how long to wait -----------------------------------------------------------------------------


def test_pauses_double_up_to_a_limit_and_vary() -> None:
    pace = Pace()
    for failures in range(1, 200):
        ceiling = min(2 ** (failures - 1), 900)
        delays = [pace.delay(failures, None) for _ in range(20)]
        assert all(ceiling / 2 <= delay <= ceiling for delay in delays)
        assert len(set(delays)) > 10
    assert pace.delay(1, timedelta(minutes=7)) == 420


async def test_an_endpoint_that_recovers_gets_at_once_what_waited_for_it(
    town: Town, box: Mailbox
) -> None:
    box.refuses["*"] = 8
    async with town.relay(box, pace=SLOW):
        for number in range(8):
            await town.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(box.attempts) == 8, "all to fail")
        await town.happen("ada", "the one that gets through")
        await eventually(lambda: len(box.arrived) == 9, "the others, long before an hour is over")


async def test_attempts_of_long_ago_are_known_from_the_store(town: Town, box: Mailbox) -> None:
    """What another relay noted counts for the day."""
    async with town.relay(box, pace=SLOW):
        box.refuses["a"] = 1
        await town.happen("ada", "a")
        await eventually(lambda: len(box.attempts) == 1, "the attempt")
        deliveries, here = Deliveries(town.client, town.keys), partition("ada")
        noted = town.keys.attempts(here, "mailer")
        await until(lambda: town.client.execute_command("EXISTS", noted), "it to be noted")
        [taken] = await deliveries.unsettled(here, "mailer", "relay-1")
        assert taken.attempts == Attempts(1, NOW)

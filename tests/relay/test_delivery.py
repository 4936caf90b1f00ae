"""Events are delivered in order, each until it arrives, whatever endpoints and the store do."""

from __future__ import annotations

import pytest

from session_authority.domain.events import EventType
from session_authority.relay import window
from session_authority.store import Deliveries
from session_authority.store.key_names import partition
from tests.relay.harness import DAY, Mailbox, RelayHarness, eventually, until
from tests.support.backends import Backend, ValkeyServer, valkey_server
from tests.support.proxy import Proxy


async def test_an_event_is_delivered_and_settled(harness: RelayHarness, box: Mailbox) -> None:
    async with harness.relay(box):
        for user in ("ada", "ben", "cleo"):
            await harness.happen(user, *(f"{user}-{number}" for number in range(20)))
        await eventually(lambda: len(box.arrived) == 60, "all to arrive")
        for user in ("ada", "ben", "cleo"):
            assert [r for r in box.arrived if r.startswith(user)] == [
                f"{user}-{number}" for number in range(20)
            ]
    state = await Deliveries(harness.client, harness.keys).state("mailer")
    assert (state.waiting, state.taken, state.dead, state.relays) == (0, 0, 0, 0)
    assert box.closed
    assert harness.counted("delivered") == 60


async def test_an_endpoint_with_a_filter_gets_only_the_events_that_pass(
    harness: RelayHarness,
) -> None:
    box = Mailbox(types=frozenset({EventType.SESSION_REPLAYED}))
    async with harness.relay(box):
        await harness.happen("ada", "a")
        await harness.happen("ada", "b", kind=EventType.SESSION_REPLAYED)
        await harness.happen("ada", "c")
        await harness.happen("ada", "d", kind=EventType.SESSION_REPLAYED)
        await eventually(lambda: box.arrived == ["b", "d"], "the events that pass the filter")
        await until(harness.all_settled, "the others to be settled")
    assert box.attempts == ["b", "d"]


async def test_a_failed_delivery_is_repeated_with_the_same_id_and_in_order(
    harness: RelayHarness, box: Mailbox
) -> None:
    box.refuses["a"] = 5
    async with harness.relay(box):
        await harness.happen("ada", "a", "b")
        await eventually(lambda: box.arrived == ["a", "b"], "both")
    assert box.attempts == ["a"] * 6 + ["b"]
    assert len(box.by_id["a"]) == 1
    assert harness.counted("failed") == 5
    assert not await harness.client.execute_command(
        "EXISTS", harness.keys.attempts(partition("ada"), "mailer")
    )


async def test_the_failures_of_one_user_s_events_delay_no_other_user(
    harness: RelayHarness, box: Mailbox
) -> None:
    """Not even a user in the same partition."""
    neighbour = next(f"n{i}" for i in range(10_000) if partition(f"n{i}") == partition("ada"))
    box.refuses["poison"] = 10**9
    async with harness.relay(box):
        await harness.happen("ada", "poison", "behind")
        await harness.happen(neighbour, "a", "b")
        await eventually(
            lambda: box.arrived == ["a", "b"] and box.attempts.count("poison") > 5,
            "the neighbour's events",
        )
    assert "behind" not in box.attempts


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_the_failures_of_one_endpoint_delay_no_other_endpoint(
    harness: RelayHarness, trouble: str
) -> None:
    bad, good = Mailbox("bad"), Mailbox("good")
    if trouble == "hangs":
        bad.hangs.clear()
    bad.refuses["*"] = 10**9
    async with harness.relay(bad, good):
        for number in range(50):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(good.arrived) == 50, "the good one to get all")
        assert bad.arrived == []
        bad.hangs.set()


async def test_the_number_of_concurrent_deliveries_is_limited(harness: RelayHarness) -> None:
    box = Mailbox(max_in_flight=3)
    box.hangs.clear()
    async with harness.relay(box):
        for number in range(40):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 3, "as many deliveries as are allowed")
        box.hangs.set()
        await eventually(lambda: len(box.arrived) == 40, "all")
    assert box.most_at_once == 3


async def test_events_beyond_the_window_wait_in_the_log(
    harness: RelayHarness, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "_MAX_EVENTS", 5)
    box.hangs.clear()
    async with harness.relay(box):
        await harness.happen("ada", *map(str, range(30)))
        await eventually(lambda: box.at_once == 1, "the first")
        state = await Deliveries(harness.client, harness.keys).state("mailer")
        assert (state.taken, state.waiting) == (5, 25)
        box.hangs.set()
        await eventually(lambda: len(box.arrived) == 30, "all")
    assert box.arrived == list(map(str, range(30)))


async def test_any_number_of_failures_of_one_user_delays_no_other_user(
    harness: RelayHarness, box: Mailbox
) -> None:
    """Many more events than the window holds, in the same partition. The relay gives up all of them
    after one day.
    """
    neighbour = next(f"n{i}" for i in range(10_000) if partition(f"n{i}") == partition("ada"))
    box.refuses["poison"] = 10**9
    async with harness.relay(box):
        await harness.happen("ada", *["poison"] * 300)
        await harness.happen(neighbour, "a", "b")
        await eventually(lambda: box.arrived == ["a", "b"], "the neighbour's events")
        harness.clock.advance(DAY)
        await until(lambda: harness.are_dead(300), "all of them to be given up")


async def test_a_lost_group_is_made_again_and_goes_on(
    harness: RelayHarness, box: Mailbox, valkey_backend: Backend
) -> None:
    async with harness.relay(box):
        await harness.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the first")
        async with valkey_backend.admin() as admin:
            await admin.execute_command(
                "XGROUP", "DESTROY", harness.keys.stream(partition("ada")), "mailer"
            )
        await harness.happen("ada", "b", "c")
        await eventually(lambda: box.arrived == ["a", "b", "c"], "the others, and none twice")


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> object:
    with valkey_server(
        tmp_path_factory.mktemp("victim"), appendonly="yes", appendfsync="always"
    ) as server:
        yield server


async def test_a_store_that_is_killed_and_returns_loses_no_event(
    victim: ValkeyServer, box: Mailbox
) -> None:
    harness = RelayHarness(victim.url, "t")
    async with harness.relay(box):
        box.hangs.clear()
        for number in range(20):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 16, "some on their way")
        victim.kill()
        box.hangs.set()
        await eventually(
            lambda: len(box.attempts) >= 16, "the deliveries to end while the store is down"
        )
        victim.start()
        await until(harness.store.server_times, "the store to answer")
        for number in range(20, 40):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: set(box.arrived) == set(map(str, range(40))), "all")
    assert all(len(ids) == 1 for ids in box.by_id.values())
    await harness.store.close()


async def test_events_whose_reply_was_lost_are_found_again(
    valkey_backend: Backend, prefix: str, box: Mailbox
) -> None:
    """The store counts these events as taken, so no relay would get them a second time."""
    lost: list[bytes] = []

    async def lose(reply: bytes) -> None:
        if b"marked" in reply and len(lost) < 3:
            lost.append(reply)
            raise ConnectionError

    async with Proxy(valkey_backend.url) as wire:
        harness, behind = RelayHarness(valkey_backend.url, prefix), RelayHarness(wire.url, prefix)
        wire.on_reply = lose
        async with behind.relay(box):
            await harness.happen("ada", "a", "marked", "b")
            await eventually(lambda: len(box.arrived) == 3, "all of them")
        assert box.arrived == ["a", "marked", "b"]
        assert len(lost) == 3
        for one in (harness, behind):
            await one.store.close()


async def test_after_a_store_that_lost_its_data_new_events_are_delivered(
    harness: RelayHarness, box: Mailbox, valkey_backend: Backend
) -> None:
    async with harness.relay(box):
        await harness.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the first")
        async with valkey_backend.admin() as admin:
            for key in await admin.execute_command(
                "KEYS", f"{harness.keys.stream(0).partition(':')[0]}:*"
            ):
                await admin.execute_command("DEL", key)
        for number in range(100):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(box.arrived) == 101, "all that came after")

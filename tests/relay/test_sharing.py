"""Relays share the partitions of an endpoint, and take over from each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import Deliveries
from session_authority.store.key_names import partition
from tests.relay.harness import DAY, Mailbox, RelayHarness, eventually, until


async def test_relays_for_different_endpoints_do_not_count_each_other(
    harness: RelayHarness,
) -> None:
    one, other = Mailbox("one"), Mailbox("other")
    async with harness.relay(one), harness.relay(other, name="relay-2"):
        for number in range(100):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(one.arrived) == len(other.arrived) == 100, "each to get all")


async def test_the_first_relay_starts_the_groups_of_all_partitions(
    harness: RelayHarness, box: Mailbox
) -> None:
    """This includes the partitions that it does not deliver yet."""
    stream, name = harness.keys.stream(partition("ada")), "mailer"
    await harness.client.execute_command(
        "SET", harness.keys.lease(partition("ada"), name), "another relay", "PX", 600_000
    )
    async with harness.relay(box):
        groups = await harness.client.execute_command("XINFO", "GROUPS", stream)
        assert len(groups) == 1


@pytest.mark.parametrize("when", ["lease", "start_group"])
async def test_an_unreachable_partition_delays_no_other(
    harness: RelayHarness, box: Mailbox, monkeypatch: pytest.MonkeyPatch, when: str
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
    async with harness.relay(box, whole=False):
        await until(lambda: harness.are_held({"relay-1": 63}), "all others to be held")
        await harness.happen(other, "a")
        await eventually(lambda: box.arrived == ["a"], "what can be delivered")
        back.set()
        await until(lambda: harness.are_held({"relay-1": 64}), "the last one")


async def test_relays_share_the_work_and_take_over_from_each_other(
    harness: RelayHarness, box: Mailbox
) -> None:
    other = Mailbox()
    async with harness.relay(box) as stop_one:
        assert await harness.holders() == {"relay-1": 64}
        async with harness.relay(other, name="relay-2"):
            await until(
                lambda: harness.are_held({"relay-1": 32, "relay-2": 32}), "half of them each"
            )
            for number in range(200):
                await harness.happen(f"u{number}", f"{number}")
            await eventually(lambda: len(box.arrived) + len(other.arrived) == 200, "all")
            assert box.arrived
            assert other.arrived
            stop_one.set()
            await until(lambda: harness.are_held({"relay-2": 64}), "the other to hold all")
            before = len(other.arrived)
            for number in range(100):
                await harness.happen(f"u{number}", f"again-{number}")
            await eventually(lambda: len(other.arrived) == before + 100, "all of them at the other")


async def test_a_stopped_relay_finishes_its_deliveries_and_leaves_the_rest(
    harness: RelayHarness,
) -> None:
    box, heir = Mailbox(max_in_flight=2), Mailbox()
    box.hangs.clear()
    async with harness.relay(box) as stop:
        for number in range(20):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: box.at_once == 2, "two on their way")
        stop.set()
        box.hangs.set()
    assert 2 <= len(box.arrived) < 20  # A few more may have started before the relay knew.
    async with harness.relay(heir):
        await eventually(lambda: len(box.arrived) + len(heir.arrived) == 20, "the rest")
    assert not set(box.arrived) & set(heir.arrived)


async def test_a_relay_that_lost_its_lease_sends_no_more(
    harness: RelayHarness, box: Mailbox
) -> None:
    box.refuses["a"] = 10**9
    here = partition("ada")
    async with harness.relay(box):
        await harness.happen("ada", "a")
        await eventually(lambda: box.attempts.count("a") > 2, "attempts")
        with structlog.testing.capture_logs() as logged:
            await harness.client.execute_command(
                "SET", harness.keys.lease(here, "mailer"), "usurper"
            )
            await eventually(
                lambda: any(entry["event"] == "lease_lost" for entry in logged),
                "the relay to notice",
            )
        tried = len(box.attempts)
        await harness.happen("ada", "b")
        await harness.happen(
            next(f"o{i}" for i in range(1000) if partition(f"o{i}") != here), "elsewhere"
        )
        await eventually(lambda: "elsewhere" in box.arrived, "the others to go on")
        assert box.attempts[tried:] == ["elsewhere"]
        assert (await harness.holders())["usurper"] == 1, "the lease of another is not given back"


async def test_failures_are_remembered_by_the_next_relay(
    harness: RelayHarness, box: Mailbox
) -> None:
    box.refuses["a"] = 10**9
    async with harness.relay(box):
        await harness.happen("ada", "a")
        await eventually(lambda: len(box.attempts) >= 3, "attempts")
    harness.clock.advance(DAY)
    async with harness.relay(box):
        await until(harness.dead, "the event to be put aside")
    [letter] = await harness.dead()
    assert letter.attempts == len(box.attempts)

"""When a delivery is repeated, and when an event is given up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.relay import window
from session_authority.relay.pacing import Pace
from session_authority.relay.sharing import ROUND_JITTER
from session_authority.store import Deliveries
from session_authority.store.deliveries import LEASE_TIME, Attempts
from session_authority.store.key_names import partition
from tests.relay.harness import DAY, NOW, SLOW, Mailbox, RelayHarness, eventually, until


def test_a_dead_relay_is_replaced_within_ten_seconds():
    """Once its lease has expired, the next round of another relay acquires it."""
    for_the_store = timedelta(milliseconds=500)
    rounds = Pace().round_interval * (1 + ROUND_JITTER)
    assert LEASE_TIME + rounds + for_the_store <= timedelta(seconds=10)
    # A live relay keeps its leases although one round is late.
    assert 2 * Pace().look_interval < LEASE_TIME


async def test_after_a_day_an_event_is_put_aside_and_the_next_one_is_sent(
    harness: RelayHarness, box: Mailbox
) -> None:
    box.refuses["poison"] = 10**9
    async with harness.relay(box):
        await harness.happen("ada", "poison", "next")
        await eventually(lambda: box.attempts.count("poison") >= 3, "some attempts")
        harness.clock.advance(DAY - timedelta(seconds=1))
        tried = len(box.attempts)
        await eventually(lambda: len(box.attempts) > tried + 2, "more attempts")
        assert box.arrived == []
        harness.clock.advance(timedelta(seconds=1))
        await eventually(lambda: box.arrived == ["next"], "the next one")
    [letter] = await harness.dead()
    assert letter.event is not None
    assert (letter.event.reason, letter.reason, letter.given_up_at) == (
        "poison",
        "status 500",
        harness.clock.now,
    )
    assert letter.attempts == box.attempts.count("poison")
    assert harness.counted("given_up") == 1


async def test_events_behind_a_long_outage_are_given_up_at_their_age(
    harness: RelayHarness, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each window would wait for a day of its own, and the log would trim the events."""
    monkeypatch.setattr(window, "_MAX_EVENTS", 1)
    box.refuses["*"] = 10**9
    async with harness.relay(box):
        await harness.happen("ada", *(f"old-{number}" for number in range(5)))
        await eventually(lambda: len(box.attempts) >= 3, "some attempts")
        harness.clock.advance(DAY)
        await harness.happen("ada", "young")
        await eventually(lambda: box.attempts.count("young") >= 3, "the young one")
    assert [letter.event.reason for letter in await harness.dead() if letter.event] == [
        f"old-{number}" for number in range(5)
    ]


async def test_events_that_are_old_because_no_relay_ran_get_a_whole_day(
    harness: RelayHarness, box: Mailbox
) -> None:
    async with harness.relay(box):
        pass
    await harness.happen("ada", "old")
    harness.clock.advance(3 * DAY)
    box.refuses["old"] = 20
    async with harness.relay(box):
        await eventually(lambda: box.arrived == ["old"], "the event to arrive after all")


async def test_an_unreadable_event_is_put_aside(harness: RelayHarness, box: Mailbox) -> None:
    async with harness.relay(box):
        stream = harness.keys.stream(partition("ada"))
        await harness.client.execute_command("XADD", stream, "*", "event", b"\xff\xff")
        await harness.happen("ada", "a")
        await eventually(lambda: box.arrived == ["a"], "the one after it")
        await until(harness.dead, "the event to be put aside")


def test_pauses_double_up_to_a_limit_and_vary() -> None:
    pace = Pace()
    for failures in range(1, 200):
        ceiling = min(2 ** (failures - 1), 900)
        delays = [pace.delay_seconds(failures, None) for _ in range(20)]
        assert all(ceiling / 2 <= delay <= ceiling for delay in delays)
        assert len(set(delays)) > 10
    assert pace.delay_seconds(1, timedelta(minutes=7)) == 420


async def test_an_endpoint_that_recovers_gets_its_waiting_events_at_once(
    harness: RelayHarness, box: Mailbox
) -> None:
    box.refuses["*"] = 8
    async with harness.relay(box, pace=SLOW):
        for number in range(8):
            await harness.happen(f"u{number}", f"{number}")
        await eventually(lambda: len(box.attempts) == 8, "all to fail")
        await harness.happen("ada", "the one that gets through")
        await eventually(lambda: len(box.arrived) == 9, "the others, long before an hour is over")


async def test_the_time_of_earlier_attempts_is_read_from_the_store(
    harness: RelayHarness, box: Mailbox
) -> None:
    """So the attempts of an earlier relay count too: an event is given up after a day."""
    async with harness.relay(box, pace=SLOW):
        box.refuses["a"] = 1
        await harness.happen("ada", "a")
        await eventually(lambda: len(box.attempts) == 1, "the attempt")
        deliveries, here = Deliveries(harness.client, harness.keys), partition("ada")
        noted = harness.keys.attempts(here, "mailer")
        await until(
            lambda: harness.client.execute_command("EXISTS", noted), "the attempt to be noted"
        )
        [taken] = await deliveries.unsettled(here, "mailer", "relay-1")
        assert taken.attempts == Attempts(1, NOW)

"""A commit takes place completely or not at all, on every kind of store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from session_authority.domain.events import EventType
from session_authority.domain.session_limits import (
    DEVICE_MEMORY,
    MAX_SESSION_TTL,
    QUIET_EVENT_INTERVAL,
)
from session_authority.domain.sessions import StoredClaims
from session_authority.store import session_store as store_module
from session_authority.store.key_names import partition
from session_authority.store.records import AlreadyDone, Changed, Commit, Committed
from tests.store.samples import (
    DAY,
    NOW,
    REQUEST,
    SECOND,
    Room,
    claims,
    device,
    event,
    issued,
    key,
    removal_of,
    session,
    stored_claims,
    stored_device,
    stored_session,
)

QUIET = EventType.ENDED_TOKEN_PRESENTED

# A stream is trimmed by whole nodes, which have 100 entries by default.
STREAM_NODE = 100


# ----- commits: all or nothing

Conditions = Callable[[Room], dict[str, Any]]

HOLDS: dict[str, Conditions] = {
    "no condition": lambda _: {},
    "session is the same": lambda _: {"if_sessions": {key(1): stored_session(1)}},
    "sessions are the same": lambda _: {
        "if_sessions": {key(1): stored_session(1), key(2): stored_session(2)}
    },
    "session is absent": lambda _: {"if_sessions": {key(3): None}},
    "device is the same": lambda _: {"if_devices": {key(1): stored_device(1)}},
    "device is absent": lambda _: {"if_devices": {key(3): None}},
    "claims are the same": lambda _: {"if_claims": {key(1): stored_claims(1)}},
    "claims are absent": lambda _: {"if_claims": {key(3): None}},
    "count is the same": lambda _: {"if_session_count": 2},
    "once key is new": lambda room: {"once": room.store.once_for_session("ada", b"s" * 16, QUIET)},
    "all at once": lambda room: {
        "if_sessions": {key(1): stored_session(1), key(3): None},
        "if_devices": {key(2): stored_device(2), key(3): None},
        "if_session_count": 2,
        "once": room.store.once_for_request("ada", REQUEST, issued()),
    },
}

FAILS: dict[str, Conditions] = {
    "session changed": lambda _: {"if_sessions": {key(1): stored_session(1, generation=2)}},
    "session is there": lambda _: {"if_sessions": {key(1): None}},
    "session is gone": lambda _: {"if_sessions": {key(3): stored_session(3)}},
    "last of several sessions changed": lambda _: {
        "if_sessions": {
            key(3): None,
            key(1): stored_session(1),
            key(2): stored_session(2, holder=7),
        }
    },
    "device changed": lambda _: {"if_devices": {key(1): stored_device(1, display_name="Mine")}},
    "device is there": lambda _: {"if_devices": {key(1): None}},
    "device is gone": lambda _: {"if_devices": {key(3): stored_device(3)}},
    "claims changed": lambda _: {"if_claims": {key(1): stored_claims(1, claims={})}},
    "claims are there": lambda _: {"if_claims": {key(1): None}},
    "claims are gone": lambda _: {"if_claims": {key(3): stored_claims(3)}},
    "sessions fit, a device does not": lambda _: {
        "if_sessions": {key(1): stored_session(1)},
        "if_devices": {key(1): None},
    },
    "more sessions": lambda _: {"if_session_count": 1},
    "fewer sessions": lambda _: {"if_session_count": 3},
    "no sessions expected": lambda _: {"if_session_count": 0},
}

# One commit with all kinds of changes.
CHANGES: dict[str, Any] = {
    "set_sessions": {
        key(1): session(1, generation=9, ttl=90 * DAY),
        key(2): None,
        key(3): session(3),
    },
    "set_devices": {key(1): device(1, display_name="Mine"), key(2): None, key(3): device(3)},
    "set_claims": {key(1): claims(1, claims={}), key(3): claims(3)},
    "events": (event("ada", 1), event("ada", 3)),
}


@pytest.mark.parametrize("conditions", HOLDS.values(), ids=HOLDS.keys())
async def test_a_commit_takes_place_if_all_records_are_unchanged(
    room: Room, conditions: Conditions
) -> None:
    await room.put("ada", 1, 2)
    result = await room.store.commit(Commit("ada", NOW, **conditions(room), **CHANGES))
    assert result == Committed(removal_of(session(2)))
    # The claims of a session are removed with it.
    assert await room.claims("ada") == {key(1): claims(1, claims={}), key(3): claims(3)}
    state = await room.store.user("ada")
    assert state.session_records() == {
        key(1): session(1, generation=9, ttl=90 * DAY),
        key(3): session(3),
    }
    assert state.device_records() == {key(1): device(1, display_name="Mine"), key(3): device(3)}
    assert [UUID(bytes=e.device_id).int for e in await room.events("ada")] == [1, 3]


@pytest.mark.parametrize("clear", [False, True], ids=["", "clearing"])
@pytest.mark.parametrize("conditions", FAILS.values(), ids=FAILS.keys())
async def test_a_commit_changes_nothing_if_any_record_has_changed(
    room: Room, conditions: Conditions, clear: bool
) -> None:
    await room.put("ada", 1, 2)
    before = await room.contents("ada")
    ttls = [await room.ttl(name) for name in (room.keys.sessions("ada"), room.keys.devices("ada"))]
    once = room.store.once_for_request("ada", REQUEST, issued())
    commit = Commit(
        "ada", NOW, clear_sessions=clear, **{"once": once, **conditions(room)}, **CHANGES
    )
    assert await room.store.commit(commit) == Changed()
    assert await room.contents("ada") == before
    assert await room.run("EXISTS", once.key) == 0
    for name, ttl in zip((room.keys.sessions("ada"), room.keys.devices("ada")), ttls, strict=True):
        now = await room.ttl(name)
        assert now is not None
        assert ttl is not None
        assert now <= ttl


@pytest.mark.parametrize("clear", [False, True], ids=["", "clearing"])
async def test_a_repeated_commit_changes_nothing(room: Room, clear: bool) -> None:
    await room.put("ada", 1, 2)
    once = room.store.once_for_request("ada", REQUEST, issued(1))
    assert await room.store.commit(Commit("ada", NOW, once=once)) == Committed()
    before, remembered = await room.contents("ada"), await room.ttl(once.key)
    again = room.store.once_for_request("ada", REQUEST, issued(2))
    result = await room.store.commit(
        Commit("ada", NOW, once=again, clear_sessions=clear, **CHANGES)
    )
    assert result == AlreadyDone()
    assert await room.contents("ada") == before
    assert (await room.store.user("ada", REQUEST)).issued == issued(1)
    still = await room.ttl(once.key)
    assert still is not None
    assert remembered is not None
    assert still <= remembered


async def test_a_repeated_commit_is_reported_as_done_and_not_as_changed(room: Room) -> None:
    """A caller's retry of a sign-in always finds its own session "changed". The caller must learn
    that the sign-in was done.
    """
    once = room.store.once_for_request("ada", REQUEST, issued())
    await room.store.commit(Commit("ada", NOW, once=once, set_sessions={key(1): session(1)}))
    retry = Commit("ada", NOW, once=once, if_sessions={key(1): None}, if_session_count=0)
    assert await room.store.commit(retry) == AlreadyDone()


async def test_a_quiet_event_is_written_once_an_hour_for_each_session_and_kind(room: Room) -> None:
    for number, kind, result in (
        (1, QUIET, Committed()),
        (1, QUIET, AlreadyDone()),
        (2, QUIET, Committed()),
        (1, EventType.SESSION_REPLAYED, Committed()),
    ):
        once = room.store.once_for_session("ada", session(number).session_id, kind)
        quiet = event("ada", number, kind=kind)
        assert await room.store.commit(Commit("ada", NOW, once=once, events=(quiet,))) == result
    assert [UUID(bytes=e.device_id).int for e in await room.events("ada")] == [1, 2, 1]
    ttl = await room.ttl(room.store.once_for_session("ada", session(1).session_id, QUIET).key)
    assert ttl is not None
    assert QUIET_EVENT_INTERVAL - 60 * SECOND < ttl <= QUIET_EVENT_INTERVAL


async def test_the_same_bytes_written_again_are_no_change(room: Room) -> None:
    await room.put("ada", 1)
    read = await room.store.session("ada", key(1))
    same = Commit("ada", NOW, if_sessions={key(1): read}, set_sessions={key(1): session(1)})
    assert await room.store.commit(same) == Committed()
    assert await room.store.session("ada", key(1)) == read


@pytest.mark.parametrize("expected", [None, 1], ids=["absent", "present"])
async def test_of_many_commits_on_one_record_exactly_one_wins(
    room: Room, expected: int | None
) -> None:
    if expected:
        await room.put("ada", 1)
    read = await room.store.session("ada", key(1))
    commits = [
        Commit(
            "ada",
            NOW,
            if_sessions={key(1): read},
            set_sessions={key(1): session(1, generation=10 + number)},
            events=(event("ada", 10 + number),),
        )
        for number in range(50)
    ]
    results = await asyncio.gather(*map(room.store.commit, commits))
    winners = [number for number, result in enumerate(results) if isinstance(result, Committed)]
    assert len(winners) == 1
    assert results.count(Changed()) == 49
    after = await room.store.session("ada", key(1))
    assert after is not None
    assert after.record.generation == 10 + winners[0]
    assert [UUID(bytes=e.device_id).int for e in await room.events("ada")] == [10 + winners[0]]


# ----- removals


async def test_removed_sessions_are_returned(room: Room) -> None:
    await room.put("ada", 1, 2, 3)
    result = await room.store.commit(
        Commit("ada", NOW, set_sessions={key(1): None, key(3): None, key(4): None})
    )
    assert isinstance(result, Committed)
    assert sorted(result.removed.raws) == sorted(removal_of(session(1), session(3)).raws)
    assert (await room.store.user("ada")).session_records() == {key(2): session(2)}
    assert await room.claims("ada") == {key(2): claims(2)}


async def test_a_new_session_replaces_the_claims_of_the_old_one(room: Room) -> None:
    await room.put("ada", 1, 2)
    commit = Commit("ada", NOW, set_sessions={key(1): session(3)}, set_claims={key(1): None})
    assert await room.store.commit(commit) == Committed()
    assert await room.claims("ada") == {key(2): claims(2)}


async def test_only_a_marked_record_has_claims_and_only_its_own(room: Room) -> None:
    await room.put("ada", 1)
    said = stored_session(1, stored_claims=StoredClaims.NEWER)
    other = stored_session(2, stored_claims=StoredClaims.NEWER)
    found = [
        await room.store.claims_of("ada", key(number), record)
        for number, record in ((1, said), (1, None), (1, stored_session(1)), (1, other), (2, other))
    ]
    assert found == [stored_claims(1), None, None, None, None]


async def test_removing_the_last_field_removes_the_key(room: Room) -> None:
    await room.put("ada", 1)
    await room.store.commit(
        Commit("ada", NOW, set_sessions={key(1): None}, set_devices={key(1): None})
    )
    assert await room.run("EXISTS", room.keys.sessions("ada")) == 0
    assert await room.run("EXISTS", room.keys.devices("ada")) == 0
    assert await room.run("EXISTS", room.keys.claims("ada")) == 0


async def test_clearing_removes_all_sessions_and_no_device(room: Room) -> None:
    await room.put("ada", 1, 2, 3)
    commit = Commit(
        "ada",
        NOW,
        if_sessions={key(2): stored_session(2)},
        clear_sessions=True,
        events=(event("ada"),),
    )
    result = await room.store.commit(commit)
    assert isinstance(result, Committed)
    assert sorted(result.removed.raws) == sorted(removal_of(*map(session, (1, 2, 3))).raws)
    state = await room.store.user("ada")
    assert (state.sessions, await room.claims("ada")) == ({}, {})
    assert set(state.devices) == {key(1), key(2), key(3)}
    assert len(await room.events("ada")) == 1


async def test_clearing_happens_before_the_writes(room: Room) -> None:
    await room.put("ada", 1, 2)
    commit = Commit(
        "ada", NOW, clear_sessions=True, set_sessions={key(1): session(5), key(2): None}
    )
    result = await room.store.commit(commit)
    assert isinstance(result, Committed)
    assert sorted(result.removed.raws) == sorted(removal_of(session(1), session(2)).raws)
    assert (await room.store.user("ada")).session_records() == {key(1): session(5)}
    assert await room.ttl(room.keys.sessions("ada")) is not None


async def test_clearing_an_empty_user_succeeds(room: Room) -> None:
    assert await room.store.commit(Commit("ada", NOW, clear_sessions=True)) == Committed()


# ----- times to live


def hashes_of(user_id: str, room: Room) -> tuple[str, ...]:
    keys = room.keys
    return keys.sessions(user_id), keys.devices(user_id), keys.claims(user_id)


async def test_the_time_to_live_is_set_and_covers_the_longest_session(room: Room) -> None:
    await room.store.commit(
        Commit(
            "ada", NOW, set_sessions={key(1): session(1, ttl=DAY), key(2): session(2, ttl=3 * DAY)}
        )
    )
    ttl = await room.ttl(room.keys.sessions("ada"))
    assert ttl is not None
    assert 3 * DAY - 60 * SECOND < ttl <= 3 * DAY


async def test_the_time_to_live_only_grows(room: Room) -> None:
    await room.put("ada", 1, ttl=200 * DAY)
    await room.store.commit(
        Commit(
            "ada", NOW, set_sessions={key(2): session(2, ttl=DAY)}, set_devices={key(2): device(2)}
        )
    )
    for name in hashes_of("ada", room):
        ttl = await room.ttl(name)
        assert ttl is not None
        assert ttl > 199 * DAY
    await room.put("ada", 3, ttl=300 * DAY)
    for name in hashes_of("ada", room):
        ttl = await room.ttl(name)
        assert ttl is not None
        assert ttl > 299 * DAY


async def test_a_lost_time_to_live_is_set_again(room: Room) -> None:
    await room.put("ada", 1)
    for name in hashes_of("ada", room):
        await room.run("PERSIST", name)
        assert await room.ttl(name) is None
    await room.put("ada", 2)
    for name in hashes_of("ada", room):
        assert await room.ttl(name) is not None


@pytest.mark.parametrize(
    "ttl", [DAY, 30 * DAY, MAX_SESSION_TTL], ids=lambda ttl: f"{ttl.days} days"
)
async def test_devices_are_remembered_at_least_as_long_as_their_sessions(
    room: Room, ttl: timedelta
) -> None:
    await room.put("ada", 1, ttl=ttl)
    sessions, devices = (
        await room.ttl(room.keys.sessions("ada")),
        await room.ttl(room.keys.devices("ada")),
    )
    assert sessions is not None
    assert devices is not None
    assert ttl - 60 * SECOND < sessions <= ttl
    longest = max(ttl, DEVICE_MEMORY)
    assert longest - 60 * SECOND < devices <= longest


async def test_a_removal_does_not_change_the_time_to_live(room: Room) -> None:
    await room.put("ada", 1, 2, ttl=30 * DAY)
    await room.store.commit(
        Commit("ada", NOW, set_sessions={key(1): None}, set_devices={key(1): None})
    )
    assert await room.ttl(room.keys.sessions("ada")) not in (None, timedelta(milliseconds=-2))
    assert await room.ttl(room.keys.devices("ada")) not in (None, timedelta(milliseconds=-2))


async def test_a_session_that_has_already_ended_does_no_harm(room: Room) -> None:
    """The clock of the process that decided may be ahead. The record that it writes must neither
    vanish at once nor live for ever.
    """
    await room.put("ada", 1)
    late = session(2, ttl=-DAY)
    assert await room.store.commit(Commit("ada", NOW, set_sessions={key(2): late})) == Committed()
    assert await room.ttl(room.keys.sessions("ada")) is not None


# ----- events


async def test_events_are_appended_in_order_and_completely(room: Room) -> None:
    events = tuple(event("ada", n, reason=f"r{n}") for n in range(1, 6))
    await room.store.commit(Commit("ada", NOW, events=events))
    told = await room.events("ada")
    assert [e.reason for e in told] == ["r1", "r2", "r3", "r4", "r5"]
    assert {e.user_id for e in told} == {"ada"}


async def test_old_events_are_dropped(room: Room) -> None:
    many = Commit("ada", NOW, events=tuple(event("ada", n) for n in range(500)))
    one = replace(many, events=(event("ada"),))
    await room.store.commit(many)
    await room.store.commit(one)
    assert len(await room.events("ada")) == 501
    room.store.event_memory = -DAY  # All entries are older.
    await room.store.commit(one)
    assert len(await room.events("ada")) <= STREAM_NODE


async def test_old_events_are_dropped_by_a_revocation(room: Room) -> None:
    await room.put("ada", 1)
    many = tuple(event("ada", n) for n in range(500))
    await room.store.commit(Commit("ada", NOW, events=many))
    room.store.event_memory = -DAY
    await room.store.revoke_all("ada", except_key=None, forget=False, event=event("ada"))
    assert len(await room.events("ada")) <= STREAM_NODE


async def test_too_many_events_are_dropped(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_EVENTS_PER_PARTITION", 200)
    await room.put("ada", 1)
    await room.store.commit(Commit("ada", NOW, events=tuple(event("ada", n) for n in range(500))))
    assert 200 <= len(await room.events("ada")) <= 200 + STREAM_NODE
    await room.store.commit(Commit("ada", NOW, events=tuple(event("ada", n) for n in range(200))))
    await room.store.revoke_device("ada", key(1), forget=False, event=event("ada", reason="last"))
    told = await room.events("ada")
    assert 200 <= len(told) <= 200 + STREAM_NODE
    assert told[-1].reason == "last"


async def test_a_wake_up_names_the_partition(room: Room) -> None:
    """The test also shows that a commit without changes wakes nobody: the first message belongs to
    the first event.
    """
    await room.put("ada", 1, 2)
    await room.put("bob", 1)
    assert partition("ada") != partition("bob")
    await room.admin.initialize()
    async with room.admin.pubsub() as listener:
        await listener.subscribe(room.keys.wake_channel)
        assert (await listener.get_message(timeout=10.0))["type"] == "subscribe"
        nothing = Commit("ada", NOW, if_session_count=7, events=(event("ada"),))
        assert await room.store.commit(nothing) == Changed()
        await room.store.commit(Commit("ada", NOW, set_sessions={key(1): session(1, generation=2)}))
        await room.store.revoke_device("ada", key(9), forget=True, event=event("ada"))
        await room.store.revoke_all("eve", except_key=None, forget=True, event=event("eve"))
        await room.store.revoke_all("bob", except_key=None, forget=True, event=event("bob"))
        # Wait for this message before the next event: messages that two nodes of a cluster publish
        # have no order.
        told = [await listener.get_message(timeout=10.0)]
        await room.store.commit(Commit("ada", NOW, events=(event("ada"), event("ada"))))
        await room.store.revoke_device("ada", key(1), forget=False, event=event("ada"))
        told += [await listener.get_message(timeout=10.0) for _ in range(2)]
    assert [m["data"] for m in told] == [str(partition(u)).encode() for u in ("bob", "ada", "ada")]

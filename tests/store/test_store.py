"""What every kind of store must do, by the same cases for all of them: reads and users."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from session_authority.domain.session_limits import REQUEST_MEMORY
from session_authority.store import session_store as store_module
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.records import Commit, Committed
from tests.store.samples import (
    NOW,
    REQUEST,
    SECOND,
    Room,
    device,
    event,
    issued,
    key,
    removal_of,
    session,
    stored_device,
    stored_session,
    user_of_each_partition,
)

ODD_USERS = [
    "{",
    "}{",
    "{12}",
    "a{b}c{d}",
    "u:v:w",
    "sa:{12}:s:ada",
    "Zoë",
    "用户-1",
    "🦆",
    "x" * 128,
    "*",
    "\\",
]


# ----- reads


async def test_an_unknown_user_has_no_sessions(room: Room) -> None:
    assert await room.store.session("ada", key(1)) is None
    assert await room.store.device("ada", key(1)) is None
    assert await room.store.session_and_device("ada", key(1)) == (None, None)
    state = await room.store.user("ada", REQUEST)
    assert (state.sessions, state.devices, state.issued) == ({}, {}, None)
    assert await room.store.user_at("ada", key(1), REQUEST) == state


async def test_a_commit_is_read_back(room: Room) -> None:
    await room.put("ada", 1, 2)
    assert await room.store.session("ada", key(1)) == stored_session(1)
    assert await room.store.device("ada", key(2)) == stored_device(2)
    assert await room.store.session_and_device("ada", key(2)) == (
        stored_session(2),
        stored_device(2),
    )
    state = await room.store.user("ada")
    assert state.sessions == {key(1): stored_session(1), key(2): stored_session(2)}
    assert state.devices == {key(1): stored_device(1), key(2): stored_device(2)}
    assert state.session_records() == {key(1): session(1), key(2): session(2)}
    assert state.device_records() == {key(1): device(1), key(2): device(2)}


async def test_one_device_is_read_with_a_few_others(room: Room) -> None:
    await room.put("ada", *range(1, 4))
    state = await room.store.user_at("ada", key(2))
    assert state == await room.store.user("ada")
    for there, number in ((True, 20), (False, 99)):
        await room.put("ada", *range(4, 31))
        state = await room.store.user_at("ada", key(number))
        assert ((key(number) in state.sessions), (key(number) in state.devices)) == (there, there)
        assert len(state.sessions) in {4, 5} if there else {4}
        assert (state.session_count(), len(state.devices) + state.unread_devices) == (30, 30)
        whole = await room.store.user("ada")
        assert state.sessions.items() <= whole.sessions.items()
        assert state.devices.items() <= whole.devices.items()


async def test_other_devices_are_drawn_at_random(room: Room) -> None:
    await room.put("ada", *range(1, 10))
    drawn: set[bytes] = set()
    for _ in range(500):
        drawn |= (await room.store.user_at("ada", key(1))).sessions.keys()
    assert drawn == set(map(key, range(1, 10)))


async def test_another_device_of_a_known_user_is_absent(room: Room) -> None:
    await room.put("ada", 1)
    assert await room.store.session_and_device("ada", key(2)) == (None, None)


async def test_a_repeated_read_returns_what_is_stored_now(room: Room) -> None:
    question = room.store.question("ada", key(1))
    assert await room.store.ask(question) is None
    for number in (1, 2):
        await room.store.commit(Commit("ada", NOW, set_sessions={key(1): session(number)}))
        stored = await room.store.session("ada", key(1))
        assert stored is not None
        assert await room.store.ask(question) == stored.raw
    await room.store.revoke_all("ada", except_key=None, forget=False, event=event("ada"))
    assert await room.store.ask(question) is None


async def test_many_reads_are_answered_in_their_order(room: Room) -> None:
    users = user_of_each_partition()
    await asyncio.gather(*(room.put(user, number) for number, user in enumerate(users, 1)))
    numbered = [*enumerate(users, 1)] * 5  # More than one batch holds.
    questions = [room.store.question(user, key(number)) for number, user in numbered]
    questions.append(room.store.question("nobody", key(1)))
    raws = await room.store.ask_many(questions)
    assert raws == [stored_session(number).raw for number, _ in numbered] + [None]
    assert await room.store.ask_many([]) == []


async def test_a_read_of_a_key_of_another_type_finds_no_session(room: Room) -> None:
    await room.run("SET", room.keys.sessions("ada"), "something")
    question = room.store.question("ada", key(1))
    assert await room.store.ask(question) is None
    assert await room.store.ask_many([question]) == [None]


async def test_a_device_outlives_its_session(room: Room) -> None:
    await room.put("ada", 1)
    await room.store.commit(Commit("ada", NOW, set_sessions={key(1): None}))
    assert await room.store.session_and_device("ada", key(1)) == (None, stored_device(1))


async def test_a_request_is_remembered(room: Room) -> None:
    once = room.store.once_for_request("ada", REQUEST, issued())
    assert await room.store.commit(Commit("ada", NOW, once=once)) == Committed()
    assert (await room.store.user("ada", REQUEST)).issued == issued()
    assert (await room.store.user_at("ada", key(1), REQUEST)).issued == issued()
    assert (await room.store.user("ada")).issued is None
    assert (await room.store.user("ada", UUID(int=5))).issued is None
    assert (await room.store.user("eve", REQUEST)).issued is None
    ttl = await room.ttl(once.key)
    assert ttl is not None
    assert REQUEST_MEMORY - 60 * SECOND < ttl <= REQUEST_MEMORY


# ----- users


@pytest.mark.parametrize("user_id", ODD_USERS, ids=repr)
async def test_any_text_can_be_a_user_id(room: Room, user_id: str) -> None:
    once = room.store.once_for_request(user_id, REQUEST, issued())
    commit = Commit(
        user_id,
        NOW,
        if_session_count=0,
        once=once,
        set_sessions={key(1): session(1)},
        set_devices={key(1): device(1)},
        events=(event(user_id),),
    )
    assert await room.store.commit(commit) == Committed()
    state = await room.store.user(user_id, REQUEST)
    assert (state.session_records(), state.issued) == ({key(1): session(1)}, issued())
    assert [e.user_id for e in await room.events(user_id)] == [user_id]
    assert await room.store.revoke_all(
        user_id, except_key=None, forget=True, event=event(user_id)
    ) == removal_of(session(1))
    assert (await room.store.user(user_id)).sessions == {}


async def test_users_of_all_partitions_are_separate(room: Room) -> None:
    users = user_of_each_partition()
    await asyncio.gather(*(room.put(user, number) for number, user in enumerate(users, 1)))
    states = await asyncio.gather(*map(room.store.user, users))
    for number, state in enumerate(states, 1):
        assert state.session_records() == {key(number): session(number)}
        assert state.device_records() == {key(number): device(number)}
    gone = users[::2]
    await asyncio.gather(
        *(
            room.store.revoke_all(u, except_key=None, forget=False, event=event(u, reason=u))
            for u in gone
        )
    )
    for number, user in enumerate(users, 1):
        assert (await room.store.session(user, key(number)) is None) == (user in gone)
        assert [e.reason for e in await room.events(user)] == ([user] if user in gone else [])


async def test_users_of_one_partition_are_separate(room: Room) -> None:
    """They share an event stream, a slot, and the beginnings of key names."""
    alike = [f"ada{n}" for n in range(2000)]
    users = [u for u in alike if partition(u) == partition("ada0")][:5]
    assert len(users) == 5
    for number, user in enumerate(users, 1):
        await room.put(user, number)
    await room.store.revoke_all(users[0], except_key=None, forget=True, event=event(users[0]))
    await room.store.commit(Commit(users[1], NOW, clear_sessions=True))
    for number, user in enumerate(users[2:], 3):
        assert (await room.store.user(user)).session_records() == {key(number): session(number)}


async def test_concurrent_reads_and_writes_find_their_own_records(room: Room) -> None:
    users = [f"user-{n}" for n in range(150)]

    async def life(number: int, user: str) -> None:
        await room.put(user, number)
        assert await room.store.session(user, key(number)) == stored_session(number)
        changed = session(number, generation=number + 1)
        read = await room.store.session(user, key(number))
        commit = Commit(
            user, NOW, if_sessions={key(number): read}, set_sessions={key(number): changed}
        )
        assert await room.store.commit(commit) == Committed()
        state = await room.store.user(user)
        assert state.session_records() == {key(number): changed}
        assert await room.store.revoke_device(
            user, key(number), forget=True, event=event(user)
        ) == removal_of(changed)
        assert await room.store.session_and_device(user, key(number)) == (None, None)

    await asyncio.gather(*(life(n, user) for n, user in enumerate(users, 1)))


async def test_two_stores_see_each_other_s_writes_at_once(room: Room, backend: Any) -> None:
    other = store_module.SessionStore(backend.connect(), room.keys)
    try:
        for number in range(1, 21):
            await room.put("ada", number)
            assert await other.session("ada", key(number)) == stored_session(number)
            await other.revoke_device("ada", key(number), forget=False, event=event("ada"))
            assert await room.store.session("ada", key(number)) is None
    finally:
        await other.close()


# ----- the server


async def test_every_primary_reports_its_time(room: Room) -> None:
    times = await room.store.server_times()
    assert times
    for time in times:
        assert abs(time - datetime.now(UTC)) < 60 * SECOND


async def test_the_check_for_sign_ins_writes_nothing(room: Room) -> None:
    await room.store.prove_writable()
    for probe in (room.keys.probe, *map(room.keys.probe_in, range(PARTITIONS))):
        assert await room.run("EXISTS", probe) == 0

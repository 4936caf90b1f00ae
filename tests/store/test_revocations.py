"""A revocation ends sessions whatever their state, on every kind of store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.store.records import Commit
from tests.store.samples import NOW, Room, claims, event, key, removal_of, session

# ----- revocations


async def test_revoke_device_ends_one_session(room: Room) -> None:
    await room.put("ada", 1, 2)
    removed = await room.store.revoke_device(
        "ada", key(1), forget=False, event=event("ada", 1, reason="lost")
    )
    assert removed == removal_of(session(1))
    state = await room.store.user("ada")
    assert set(state.sessions) == set(await room.claims("ada")) == {key(2)}
    assert set(state.devices) == {key(1), key(2)}
    assert [e.reason for e in await room.events("ada")] == ["lost"]


async def test_revoke_device_compares_no_record(room: Room) -> None:
    """The session is removed, whatever changed between its sign-in and the revocation."""
    await room.put("ada", 1)
    await room.store.commit(Commit("ada", NOW, set_sessions={key(1): session(77, generation=5)}))
    removed = await room.store.revoke_device("ada", key(1), forget=False, event=event("ada"))
    assert removed == removal_of(session(77, generation=5))


async def test_revoke_device_forgets_the_device_if_requested(room: Room) -> None:
    await room.put("ada", 1, 2)
    await room.store.revoke_device("ada", key(1), forget=True, event=event("ada"))
    state = await room.store.user("ada")
    assert set(state.sessions) == set(state.devices) == {key(2)}


async def test_revoke_device_writes_no_event_if_there_was_no_session(room: Room) -> None:
    await room.put("ada", 1, 2)
    await room.store.commit(Commit("ada", NOW, set_sessions={key(1): None}))
    for number in (1, 3):
        assert (
            await room.store.revoke_device("ada", key(number), forget=True, event=event("ada"))
            == removal_of()
        )
    assert (
        await room.store.revoke_device("eve", key(1), forget=True, event=event("eve"))
        == removal_of()
    )
    assert await room.events("ada") == []
    assert await room.events("eve") == []
    # Forgotten, with a session or without.
    assert set((await room.store.user("ada")).devices) == {key(2)}


async def test_revoke_all_ends_all_sessions(room: Room) -> None:
    await room.put("ada", 1, 2, 3)
    removed = await room.store.revoke_all(
        "ada", except_key=None, forget=False, event=event("ada", reason="breach")
    )
    assert sorted(removed.raws) == sorted(removal_of(*map(session, (1, 2, 3))).raws)
    state = await room.store.user("ada")
    assert (state.sessions, await room.claims("ada")) == ({}, {})
    assert set(state.devices) == {key(1), key(2), key(3)}
    assert [e.reason for e in await room.events("ada")] == ["breach"]


async def test_revoke_all_can_spare_one_device(room: Room) -> None:
    await room.put("ada", 1, 2, 3)
    removed = await room.store.revoke_all(
        "ada", except_key=key(2), forget=False, event=event("ada")
    )
    assert sorted(removed.raws) == sorted(removal_of(*map(session, (1, 3))).raws)
    state = await room.store.user("ada")
    assert state.session_records() == {key(2): session(2)}
    assert await room.claims("ada") == {key(2): claims(2)}
    assert len(state.devices) == 3
    assert len(await room.events("ada")) == 1


@pytest.mark.parametrize("spared", [None, 2, 9])
async def test_revoke_all_forgets_the_devices_but_the_spared_one(
    room: Room, spared: int | None
) -> None:
    await room.put("ada", 1, 2, 3)
    except_key = None if spared is None else key(spared)
    await room.store.revoke_all("ada", except_key=except_key, forget=True, event=event("ada"))
    state = await room.store.user("ada")
    assert set(state.sessions) == set(state.devices) == ({key(2)} if spared == 2 else set())


async def test_revoke_all_writes_no_event_if_only_the_spared_one_was_signed_in(room: Room) -> None:
    await room.put("ada", 1)
    assert (
        await room.store.revoke_all("ada", except_key=key(1), forget=True, event=event("ada"))
        == removal_of()
    )
    assert (
        await room.store.revoke_all("eve", except_key=None, forget=True, event=event("eve"))
        == removal_of()
    )
    assert await room.events("ada") == []
    assert await room.events("eve") == []
    assert (await room.store.user("ada")).session_records() == {key(1): session(1)}


async def test_a_thousand_devices_are_revoked_in_one_step(room: Room) -> None:
    numbers = range(1, 1001)
    await room.put("ada", *numbers)
    removed = await room.store.revoke_all("ada", except_key=None, forget=True, event=event("ada"))
    assert sorted(removed.raws) == sorted(removal_of(*map(session, numbers)).raws)
    state = await room.store.user("ada")
    assert (state.sessions, state.devices) == ({}, {})
    assert len(await room.events("ada")) == 1


async def test_many_sessions_of_different_lengths_are_returned_one_by_one(room: Room) -> None:
    await room.put("ada", *range(1, 10))
    lengths = session(1), session(2, idle_timeout=timedelta(hours=1))
    changes = {key(number): record for number, record in enumerate(lengths, 1)}
    await room.store.commit(Commit("ada", NOW, set_sessions=changes))
    removed = await room.store.revoke_all("ada", except_key=None, forget=True, event=event("ada"))
    expected = removal_of(*lengths, *map(session, range(3, 10)))
    assert sorted(removed.raws) == sorted(expected.raws)

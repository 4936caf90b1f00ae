"""A record that can't be read affects no other record, on every kind of store: the others are read,
a commit replaces it, a revocation removes it, and operators learn of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import pytest

from session_authority.domain.events import EventType
from session_authority.runtime.metrics import Metrics
from session_authority.store import KeyNames, SessionStore, record_reader
from session_authority.store.codec import encode_device, encode_issued, encode_session
from session_authority.store.record_reader import user_hash
from session_authority.store.records import (
    AlreadyDone,
    Changed,
    Commit,
    Committed,
    RecordKind,
    Unreadable,
)
from session_authority.store.removed_sessions import readable
from tests.store.samples import (
    NOW,
    REQUEST,
    Room,
    device,
    event,
    issued,
    key,
    removal_of,
    session,
    stored_device,
    stored_session,
)
from tests.support.backends import Backend

RUBBISH = b"rubbish"
OTHER_TYPES = {
    "string": ("SET", "text"),
    "list": ("RPUSH", "a"),
    "set": ("SADD", "a"),
    "zset": ("ZADD", "1", "a"),
    "stream": ("XADD", "*", "a", "b"),
}


async def put_other_type(room: Room, name: str, kind: str) -> None:
    """Replaces a key by a key of another type."""
    command, *words = OTHER_TYPES[kind]
    await room.run("DEL", name)
    await room.run(command, name, *words)


def sign_in(number: int, **more: Any) -> Commit:
    """The commit of a sign-in on a device."""
    return Commit(
        "ada",
        NOW,
        set_sessions={key(number): session(number)},
        set_devices={key(number): device(number)},
        events=(event("ada", number),),
        **more,
    )


# ----- a record among others


async def test_a_record_that_cant_be_read_affects_no_other(room: Room) -> None:
    await room.put("ada", 1, 2)
    for name in (room.keys.sessions("ada"), room.keys.devices("ada")):
        await room.run("HSET", name, key(1), RUBBISH)
    assert await room.store.session_and_device("ada", key(1)) == (None, None)
    assert await room.store.session_and_device("ada", key(2)) == (
        stored_session(2),
        stored_device(2),
    )
    state = await room.store.user("ada")
    assert (set(state.sessions), set(state.devices)) == ({key(2)}, {key(2)})
    assert [state.unreadable_sessions[key(1)].raw, state.unreadable_devices[key(1)].raw] == [
        RUBBISH,
        RUBBISH,
    ]
    assert state.session_count() == 2
    assert await room.store.user_at("ada", key(1)) == state


async def test_a_record_of_another_device_cant_be_read(room: Room) -> None:
    await room.put("ada", 1)
    await room.run("HSET", room.keys.devices("ada"), key(1), encode_device(device(2)))
    await room.run("HSET", room.keys.devices("ada"), "odd", encode_device(device(3)))
    await room.run("HSET", room.keys.sessions("ada"), "odd", encode_session(session(3)))
    state = await room.store.user("ada")
    assert (set(state.sessions), set(state.devices)) == ({key(1)}, set())
    assert set(state.unreadable_sessions) == {b"odd"}
    assert set(state.unreadable_devices) == {key(1), b"odd"}


async def test_a_commit_replaces_an_unreadable_record_that_has_not_changed(room: Room) -> None:
    await room.put("ada", 1, 2)
    names = (room.keys.sessions("ada"), room.keys.devices("ada"))
    for name in names:
        await room.run("HSET", name, key(1), RUBBISH)
    state = await room.store.user("ada")
    commit = sign_in(
        1,
        if_sessions={key(1): state.session_at(key(1))},
        if_devices={key(1): state.device_at(key(1))},
        if_session_count=state.session_count(),
    )
    for name in names:
        await room.run("HSET", name, key(1), b"other rubbish")
        assert await room.store.commit(commit) == Changed()
        await room.run("HSET", name, key(1), RUBBISH)
    assert await room.store.commit(commit) == Committed()
    assert set((await room.store.user("ada")).sessions) == {key(1), key(2)}
    assert len(await room.events("ada")) == 1


async def test_an_unreadable_record_is_revoked(room: Room) -> None:
    for spared in (None, key(2)):
        await room.put("ada", 1, 2)
        await room.run("HSET", room.keys.sessions("ada"), key(1), RUBBISH)
        removed = await room.store.revoke_all(
            "ada", except_key=spared, forget=False, event=event("ada")
        )
        assert list(readable(removed)) == ([session(2)] if spared is None else [])
        state = await room.store.user("ada")
        assert (set(state.sessions), state.unreadable_sessions) == (
            set() if spared is None else {spared},
            {},
        )
    await room.run("HSET", room.keys.sessions("ada"), key(1), RUBBISH)
    await room.store.revoke_device("ada", key(1), forget=True, event=event("ada"))
    assert set((await room.store.user("ada")).sessions) == {key(2)}
    assert len(await room.events("ada")) == 3


# --- the record of a `request_id` -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rubbish", "empty", *OTHER_TYPES])
async def test_the_unreadable_record_of_a_request_is_replaced(room: Room, kind: str) -> None:
    name = room.keys.request("ada", REQUEST)
    raw = {"rubbish": RUBBISH, "empty": b""}.get(kind)
    if raw is not None:
        await room.run("SET", name, raw)
    else:
        await put_other_type(room, name, kind)
    state = await room.store.user("ada", REQUEST)
    if kind == "string":
        raw = b"text"
    assert (state.issued, state.unreadable_issued and state.unreadable_issued.raw) == (
        None,
        raw or b"",
    )
    once = room.store.once_for_request("ada", REQUEST, issued(), state.unreadable_issued)
    assert await room.store.commit(sign_in(1, once=once)) == Committed()
    assert await room.run("GET", name) == encode_issued(issued())
    assert await room.store.commit(sign_in(1, once=once)) == AlreadyDone()
    assert len(await room.events("ada")) == 1


# ----- keys of another type

HEALING: dict[str, Callable[[Room], Any]] = {
    "revoke_all": lambda room: room.store.revoke_all(
        "ada", except_key=None, forget=False, event=event("ada")
    ),
    "revoke_all but one": lambda room: room.store.revoke_all(
        "ada", except_key=key(9), forget=True, event=event("ada")
    ),
    "revoke_device": lambda room: room.store.revoke_device(
        "ada", key(1), forget=True, event=event("ada")
    ),
    "commit": lambda room: room.store.commit(
        sign_in(1, if_session_count=0, if_sessions={key(1): None}, if_devices={key(1): None})
    ),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
@pytest.mark.parametrize("healing", HEALING)
async def test_keys_of_another_type_are_replaced(room: Room, kind: str, healing: str) -> None:
    for name in (room.keys.sessions("ada"), room.keys.devices("ada")):
        await put_other_type(room, name, kind)
    await put_other_type(room, room.keys.events("ada"), "list" if kind == "stream" else kind)
    assert await room.store.session_and_device("ada", key(1)) == (None, None)
    state = await room.store.user("ada")
    assert (state.sessions, state.devices, state.session_count()) == ({}, {}, 0)
    assert state.other_types == {RecordKind.SESSION, RecordKind.DEVICE}
    assert await room.store.user_at("ada", key(1)) == state
    await HEALING[healing](room)
    there = set() if healing.startswith("revoke") else {key(1)}
    state = await room.store.user("ada")
    assert (set(state.sessions), set(state.devices)) == (there, there)
    assert state.other_types == frozenset()
    assert len(await room.events("ada")) == 1


async def test_devices_of_another_type_are_replaced_when_all_are_revoked(room: Room) -> None:
    await room.put("ada", 1)
    await put_other_type(room, room.keys.devices("ada"), "set")
    assert await HEALING["revoke_all"](room) == removal_of(session(1))
    assert (await room.store.user("ada")).other_types == frozenset()


# --- how operators learn of it --------------------------------------------------------------------


@pytest.fixture
async def watched(
    valkey_backend: Backend, prefix: str
) -> AsyncIterator[tuple[SessionStore, Metrics]]:
    metrics = Metrics()
    store = SessionStore(valkey_backend.connect(), KeyNames(prefix), metrics=metrics)
    yield store, metrics
    await store.close()


async def test_operators_learn_of_an_unreadable_record_once_a_minute(
    valkey_room: Room,
    watched: tuple[SessionStore, Metrics],
    logged: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (store, metrics), room, seconds = watched, valkey_room, [1000.0]
    monkeypatch.setattr(record_reader, "monotonic", lambda: seconds[0])
    await room.put("ada@example.com", 1)
    name = room.keys.sessions("ada@example.com")
    await room.run("HSET", name, key(1), RUBBISH)
    for later in (0, 1, 59, 60, 61):
        seconds[0] = 1000 + later
        assert await store.session("ada@example.com", key(1)) is None
    await put_other_type(room, name, "set")
    seconds[0] = 1121
    assert await store.session("ada@example.com", key(1)) is None
    first, second, third = logged
    assert first == {
        "event": "record_unreadable",
        "log_level": "error",
        "kind": "session",
        "user_hash": user_hash("ada@example.com"),
        "device_key": key(1).hex(),
        "reason": "a session record of 7 bytes is damaged, or is none",
        "left_out": 0,
    }
    assert (second["left_out"], third["left_out"]) == (2, 1)
    assert third["reason"] == "the key holds another type"
    assert "ada@" not in str(logged)
    assert counted(metrics) == {"session": 6.0, "device": 0.0, "claims": 0.0, "request": 0.0}


async def test_each_kind_is_zero_before_its_first_record(
    watched: tuple[SessionStore, Metrics],
) -> None:
    """Otherwise Prometheus would see no increase at the first record, and no alert would fire."""
    _, metrics = watched
    assert counted(metrics) == dict.fromkeys(RecordKind, 0.0)


def counted(metrics: Metrics) -> dict[str, float]:
    """How many unreadable records were counted, by kind."""
    return {
        sample.labels["kind"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "session_authority_unreadable_records_total"
    }


async def test_each_kind_is_counted(
    valkey_room: Room, watched: tuple[SessionStore, Metrics]
) -> None:
    (store, metrics), room = watched, valkey_room
    await room.run("HSET", room.keys.sessions("ada"), key(1), RUBBISH)
    await room.run("HSET", room.keys.devices("ada"), key(1), RUBBISH, key(2), RUBBISH)
    await room.run("SET", room.keys.request("ada", REQUEST), RUBBISH)
    state = await store.user("ada", REQUEST)
    assert isinstance(state.unreadable_issued, Unreadable)
    assert counted(metrics) == {"session": 1.0, "device": 2.0, "claims": 0.0, "request": 1.0}


async def test_the_once_key_of_a_quiet_event_is_replaced_if_it_has_another_type(room: Room) -> None:
    kind = EventType.ENDED_TOKEN_PRESENTED
    once = room.store.once_for_session("ada", session(1).session_id, kind)
    await put_other_type(room, once.key, "list")
    commit = Commit("ada", NOW, once=once, events=(event("ada"),))
    assert await room.store.commit(commit) == Committed()
    assert await room.store.commit(commit) == AlreadyDone()

"""Reads that are repeated: the bytes of a session's record, as they are now."""

from __future__ import annotations

import asyncio

import pytest

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import KeyNames, SessionStore, connect
from session_authority.store.records import Commit
from tests.store.samples import NOW, Room, key, session, stored_session
from tests.support.backends import PATIENT
from tests.support.ports import free_port


async def test_a_read_returns_the_bytes_that_are_stored_now(room: Room) -> None:
    question = room.store.question("ada", key(1))
    assert await room.store.ask(question) is None
    await room.put("ada", 1)
    assert await room.store.ask(question) == stored_session(1).raw
    changed = session(1, generation=2)
    await room.store.commit(Commit("ada", NOW, set_sessions={key(1): changed}))
    assert await room.store.ask(question) == (await room.run("HGET", *names(room, "ada", 1)))
    await room.store.commit(Commit("ada", NOW, set_sessions={key(1): None}))
    assert await room.store.ask(question) is None


def names(room: Room, user_id: str, number: int) -> tuple[str, bytes]:
    return room.keys.sessions(user_id), key(number)


async def test_each_of_many_reads_has_its_own_answer(room: Room) -> None:
    users = [f"user-{number}" for number in range(1, 301)]  # More than go out together.
    await asyncio.gather(*(room.put(user, n) for n, user in enumerate(users, 1) if n % 3))
    questions = [room.store.question(user, key(n)) for n, user in enumerate(users, 1)]
    answers = await room.store.ask_many([*questions, questions[0]])
    expected = [stored_session(n).raw if n % 3 else None for n in range(1, 301)]
    assert answers == [*expected, expected[0]]
    assert await room.store.ask_many([]) == []


async def test_a_key_of_another_type_has_no_record(room: Room) -> None:
    await room.put("ada", 1)
    await room.run("SET", room.keys.sessions("eve"), "of another type")
    questions = [room.store.question(user, key(1)) for user in ("ada", "eve")]
    assert await room.store.ask_many(questions) == [stored_session(1).raw, None]
    assert await room.store.ask(questions[1]) is None


async def test_an_unreachable_store_has_no_answer() -> None:
    away = SessionStore(connect(f"redis://127.0.0.1:{free_port()}/0", PATIENT), KeyNames("away"))
    question = away.question("ada", key(1))
    with pytest.raises(StoreUnavailable):
        await away.ask(question)
    answers = await away.ask_many([question] * 3)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    await away.close()


async def test_a_caller_that_gives_up_disturbs_no_other(valkey_room: Room) -> None:
    await valkey_room.put("ada", 1)
    question = valkey_room.store.question("ada", key(1))
    impatient = asyncio.ensure_future(valkey_room.store.ask_many([question] * 100))
    patient = asyncio.ensure_future(valkey_room.store.ask_many([question] * 100))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == [stored_session(1).raw] * 100
    assert impatient.cancelled()

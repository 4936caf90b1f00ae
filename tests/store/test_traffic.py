"""The exchanges with Redis are counted, on every kind of Redis."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import redis_errors, traffic_of
from session_authority.store.driver.error_counts import note_error
from tests.store.samples import Room, key
from tests.support.proxy import Proxy

USERS = [f"user-{number}" for number in range(40)]


async def test_reads_and_commands_are_counted(room: Room):
    traffic = traffic_of(room.store._client)
    await room.put("ada", 1)
    assert sum(traffic.commands.counts) >= 1
    assert traffic.commands.seconds > 0
    before = traffic.batch_sizes.seconds
    questions = [room.store.question(user, key(1)) for user in USERS]
    assert await room.store.ask_many(questions) == [None] * len(USERS)
    if not sum(traffic.reads.counts):
        assert "fake" in type(room.store._client).__module__, "only fakeredis has no read lines"
        return
    assert traffic.batch_sizes.seconds - before == len(USERS), "`seconds` has the sum of the sizes"
    assert sum(traffic.reads.counts) == sum(traffic.batch_sizes.counts) >= 1
    assert traffic.reads.seconds > 0
    assert traffic.waiting() == 0


async def test_exchanges_that_fail_are_counted_by_their_kind(impatient: Room, proxy: Proxy):
    traffic = traffic_of(impatient.store._client)
    before = dict(redis_errors)
    nothing = asyncio.Event()

    async def hang(_: bytes) -> None:
        await nothing.wait()

    proxy.on_reply = hang
    with pytest.raises(StoreUnavailable):
        await impatient.store.session("ada", key(1))
    assert redis_errors["timeout",] == before["timeout",] + 1
    assert traffic.waiting() == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AuthenticationError("WRONGPASS"), "authentication"),
        (NoPermissionError("NOPERM"), "no_permission"),
        (ReadOnlyError("READONLY"), "not_primary"),
        (TimedOut(), "timeout"),
        (Disconnected(), "disconnected"),
        (ConnectionResetError(), "disconnected"),
        (ResponseError("ERR what"), "refused"),
        (ValueError(), "other"),
    ],
)
def test_errors_have_kinds(error: Exception, kind: str):
    before = redis_errors[kind,]
    note_error(error)
    assert redis_errors[kind,] == before + 1

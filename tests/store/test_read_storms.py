"""Many callers at once, through wires that stall, cut and send unrequested replies: each reply
reaches its own caller.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from datetime import timedelta
from random import Random

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import Limits, SessionStore
from session_authority.store.records import Commit
from tests.store.conftest import RoomBehind
from tests.store.samples import NOW, Room, key, session, store_at
from tests.support.backends import PATIENT, ValkeyServer
from tests.support.budget import budget
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

USERS = 300
IMPATIENT = Limits(PATIENT.connect_timeout, reply_timeout=timedelta(milliseconds=300))


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Storm:
    """Reads of all kinds on one store. Counts the outcomes, and fails when a reply reaches another
    read.
    """

    def __init__(self, store: SessionStore, chance: Random) -> None:
        self._store = store
        self._chance = chance
        self._kept = [store.question(f"user-{n}", key(n)) for n in range(1, USERS + 1)]
        self.raw: dict[int, bytes] = {}
        self.outcomes: Counter[str] = Counter()

    async def is_calm(self) -> bool:
        """Returns whether every read is answered. Notes which bytes belong to which user; they
        never change.
        """
        found = await self._store.ask_many(self._kept)
        if any(isinstance(raw, Exception) for raw in found):
            return False
        raw = {number: raw for number, raw in enumerate(found, 1) if isinstance(raw, bytes)}
        assert len(set(raw.values())) == USERS
        assert self.raw in ({}, raw)
        self.raw = raw
        return True

    async def calms(self) -> None:
        await eventually(self.is_calm, "all to be answered")

    async def one(self, number: int) -> None:
        """One caller."""
        await turns(self._chance.randrange(300))
        user, kind = f"user-{number}", self._chance.randrange(4)
        try:
            if kind == 0:
                assert await self._store.ask(self._kept[number - 1]) == self.raw[number]
            elif kind == 1:
                some = self._chance.sample(range(1, USERS + 1), self._chance.randrange(1, 12))
                for other, raw in zip(
                    some,
                    await self._store.ask_many([self._kept[n - 1] for n in some]),
                    strict=True,
                ):
                    assert isinstance(raw, StoreUnavailable) or raw == self.raw[other]
                    self.outcomes["late" if isinstance(raw, StoreUnavailable) else "right"] += 1
            elif kind == 2:
                found = await self._store.session(user, key(number))
                assert found is not None
                assert found.record == session(number)
            else:
                state = await self._store.user(user)
                assert state.session_records() == {key(number): session(number)}
                assert await self._store.session(user, key(number + 1)) is None
        except StoreUnavailable:
            self.outcomes["unavailable"] += 1
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
            raise
        else:
            self.outcomes["right"] += 1

    async def rage(self, callers: int) -> None:
        """Runs this many callers, a third of whom give up at any moment."""
        tasks = [
            asyncio.create_task(self.one(self._chance.randrange(1, USERS + 1)))
            for _ in range(callers)
        ]
        for task in self._chance.sample(tasks, callers // 3):
            await turns(self._chance.randrange(3))
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result


async def filled(room: Room) -> Room:
    await asyncio.gather(*(room.put(f"user-{n}", n) for n in range(1, USERS + 1)))
    return room


async def test_no_answer_reaches_another_users_question(
    proxy: Proxy, prefix: str, room_behind: RoomBehind
) -> None:
    """The server's answers arrive at any time, and in pieces."""
    chance = Random(11)

    async def delay(_: bytes) -> None:
        await turns(chance.randrange(40))

    room = await filled(await room_behind(proxy, prefix))
    proxy.on_reply = delay
    storm = Storm(room.store, chance)
    await storm.calms()
    for _ in range(budget(2)):
        await storm.rage(1000)
    assert storm.outcomes["unavailable"] == storm.outcomes["late"] == 0
    assert storm.outcomes["right"] >= budget(2) * 600  # Most reads were sent.


async def test_no_answer_reaches_another_users_question_when_wires_break(
    proxy: Proxy, prefix: str, room_behind: RoomBehind
) -> None:
    """Connections are cut with replies on the way, replies arrive after their time-out, other parts
    of the process doubt the primary, and the server sends unrequested replies in between.
    """
    chance = Random(13)
    await filled(await room_behind(proxy, prefix))
    store = (await room_behind(proxy, prefix, IMPATIENT)).store
    storm = Storm(store, chance)
    await storm.calms()
    released = asyncio.Event()

    async def harm(_: bytes) -> None:
        luck = chance.random()
        if luck < 0.01:
            raise ConnectionError
        if luck < 0.012:
            await released.wait()  # Far too late.
        await turns(chance.randrange(10))

    async def doubt() -> None:
        while True:
            await turns(chance.randrange(2000))
            await store._reads.hang_up()

    rages = 0
    while rages < budget(2) or not storm.outcomes["unavailable"]:  # Until the wires did harm.
        rages += 1
        proxy.on_reply = harm
        doubting = asyncio.create_task(doubt())
        await storm.rage(1000)
        doubting.cancel()
        proxy.on_reply = lambda _: asyncio.sleep(0)
        released.set()
        released.clear()
        await storm.calms()
        proxy.say(b"$5\r\nwrong\r\n")
        await storm.calms()
    assert storm.outcomes["right"] >= rages * 500


async def test_no_answer_of_a_hung_server_reaches_another_users_question(
    victim: ValkeyServer, prefix: str
) -> None:
    """The server hangs again and again, and then answers all commands that it received."""
    chance = Random(17)
    store = store_at(victim.url, prefix, IMPATIENT)
    for number in range(1, USERS + 1):
        await store.commit(
            Commit(f"user-{number}", NOW, set_sessions={key(number): session(number)})
        )
    storm = Storm(store, chance)
    await storm.calms()
    for _ in range(budget(2)):
        before = storm.outcomes["unavailable"]
        raging = asyncio.create_task(storm.rage(1000))
        await turns(50)
        os.kill(victim.process_id, signal.SIGSTOP)
        try:
            await eventually(lambda n=before: storm.outcomes["unavailable"] > n, "a time-out")  # type: ignore[misc]
        finally:
            os.kill(victim.process_id, signal.SIGCONT)
        await raging
        await storm.calms()
    await store.close()

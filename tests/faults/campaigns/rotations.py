"""Renewals with requests in flight: tabs that renew at once, clients that cancel calls, lose
replies, and are killed and return with an older token. Each new generation is a trial.

Only a limited number of clients have requests under way at the same time. So a busy machine only
makes the campaign slower. With more clients, calls might get no answer in time although no client
cancelled them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from uuid import UUID

from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.campaigns.rounds import (
    AT_ONCE,
    UNTIL_RENEWED_SECONDS,
    Round,
    answered,
    round_on,
    side_by_side,
)
from tests.faults.recorder import Answered, Held, unless_cancelled
from tests.faults.stage import standalone

_CLIENTS = 1_000
_GENERATIONS = 8  # The renewals of each client in a round, after its sign-in.
_GIVEN_UP, _LOST, _KILLED = 0.05, 0.05, 0.04
_LONGEST_SECONDS = 0.05  # The longest time until a call is cancelled.


class Client:
    """A browser with several tabs and one cookie jar, where the token that arrived last wins."""

    def __init__(self, this_round: Round, user: str, random: Random) -> None:
        self.user = user
        self.generations = 0
        self._servers = this_round.servers
        self._random = random
        self._device = self._identifier()
        self._jar: Held | None = None

    async def sign_in(self) -> None:
        """Signs in."""
        request, server = self._identifier(), self._random.choice(self._servers)
        given = await answered(lambda: server.sign_in(self.user, self._device, request))
        self._jar = given.held

    async def renew(self) -> None:
        """Lets all tabs send a request at once; one or two of them renew. Counts the new
        generation, if there is one.
        """
        before = self._jar
        assert before is not None
        random = self._random
        server = random.choice
        asks = [lambda: server(self._servers).validate(before)] * random.randrange(3)
        asks += [lambda: server(self._servers).renew(before)] * random.randint(1, 2)
        random.shuffle(asks)
        await asyncio.gather(*(self._maybe_lost(ask) for ask in asks))
        await self._settle(before)

    async def _maybe_lost(self, ask: Callable[[], Awaitable[Answered]]) -> None:
        await asyncio.sleep(self._random.uniform(0, 0.02))
        chance = self._random.random()
        if chance < _GIVEN_UP:
            await unless_cancelled(ask(), self._random.uniform(0, _LONGEST_SECONDS))
            return
        given = await ask()
        if given.held is not None and chance > _GIVEN_UP + _LOST:
            self._jar = given.held

    async def _settle(self, before: Held) -> None:
        """Uses the newest token, or the token that a killed client still has."""
        newest = self._jar
        assert newest is not None
        server = self._random.choice(self._servers)
        if newest is before or self._random.random() < _KILLED:
            self._jar = before
            given = await answered(lambda: server.renew(before))
            if given.held is not None:
                self._jar = newest = given.held
        self.generations += newest.token.generation > before.token.generation
        await answered(lambda: server.validate(newest))

    def _identifier(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


async def _round(clients: list[Client], seconds: float) -> None:
    """Each client renews as soon as its token is old enough and it is the client's turn. The
    clients are spread over time.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def live(number: int, client: Client) -> None:
        await asyncio.sleep(seconds * number / len(clients))
        async with turn:
            await client.sign_in()
        for _ in range(_GENERATIONS):
            await asyncio.sleep(UNTIL_RENEWED_SECONDS)
            async with turn:
                await client.renew()

    await side_by_side((live(*each) for each in enumerate(clients)), at_once=len(clients))


async def rotations(folder: Path, order: Order, tally: Tally) -> None:
    """Makes renewals until there are `order.trials` new generations, or until the time is over."""
    random, number = Random(f"{order.seed} rotations"), 0
    async with standalone(folder, wire=None, TOKEN_TTL="2h") as stage:
        while most := order.left(tally, _CLIENTS * _GENERATIONS):
            count = -(-most // _GENERATIONS)
            users = [f"tabs-{order.seed}-{number + each}" for each in range(count)]
            number += count
            async with round_on(stage) as this_round:
                clients = [Client(this_round, user, Random(random.random())) for user in users]
                await _round(clients, UNTIL_RENEWED_SECONDS)
                tally.judge(await this_round.history(users))
            tally.trials += sum(client.generations for client in clients)
            tally.hold(not this_round.events("SESSION_REPLAYED"), "an alarm about honest clients")

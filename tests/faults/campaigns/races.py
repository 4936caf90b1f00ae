"""Short histories of one user: sign-ins, renewals and revocations that race each other over several
server processes. The answers must be those of calls that are made one after the other, in some
order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.campaigns.rounds import (
    UNTIL_RENEWED_SECONDS,
    Round,
    answered,
    round_on,
    side_by_side,
)
from tests.faults.history import Call, Role
from tests.faults.linearizable import is_linearizable
from tests.faults.recorder import Answered, Held, Server
from tests.faults.stage import standalone

_ROUND = 500
_SERVERS = 3
_DEVICES = 2
_RACERS = 6
_SPREAD_SECONDS = 0.004


class Trial:
    """One user, and the calls that race each other."""

    def __init__(self, this_round: Round, user: str, random: Random) -> None:
        self.user = user
        self._servers = this_round.servers
        self._random = random
        self._devices = [self._identifier() for _ in range(_DEVICES)]
        self._held: list[Held] = []

    async def prepare(self) -> None:
        """Signs in on some devices."""
        for device in self._devices[: self._random.randrange(_DEVICES + 1)]:
            sign_in = partial(self._server().sign_in, self.user, device, self._identifier())
            self._keep(await answered(sign_in))

    async def make(self) -> None:
        """Lets the calls race, and checks the history."""
        random = self._random
        await asyncio.gather(*(self._race() for _ in range(_RACERS)))
        servers = random.sample(self._servers, 2)
        looks = [self._look(server, held) for server in servers for held in self._held]
        await asyncio.gather(*looks, *(server.list_devices(self.user) for server in servers))

    async def _race(self) -> None:
        await asyncio.sleep(self._random.uniform(0, _SPREAD_SECONDS))
        self._keep(await self._one())

    def _one(self) -> Awaitable[Answered]:
        random, server = self._random, self._server()
        device, chance = random.choice(self._devices), random.random()
        if chance < 0.25 or not self._held:
            return server.sign_in(self.user, device, self._identifier())
        if chance < 0.4:
            return server.renew(random.choice(self._held))
        if chance < 0.55:
            return server.validate(random.choice(self._held), Role.ONLOOKER)
        if chance < 0.6:
            return server.list_devices(self.user)
        if chance < 0.75:
            return server.revoke_device(self.user, device)
        return server.revoke_all(self.user, device if chance > 0.9 else "")

    def _look(self, server: Server, held: Held) -> Awaitable[Answered]:
        return server.validate(held, Role.ONLOOKER)

    def _server(self) -> Server:
        return self._random.choice(self._servers)

    def _keep(self, answer: Answered) -> None:
        if answer.held is not None:
            self._held.append(answer.held)

    def _identifier(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


async def races(folder: Path, order: Order, tally: Tally) -> None:
    """Makes the history of another user in each trial."""
    random = Random(f"{order.seed} races")
    async with standalone(folder, _SERVERS, wire=None, TOKEN_TTL="2h") as stage:
        number = 0
        while most := order.left(tally, _ROUND):
            users = [f"race-{order.seed}-{number + each}" for each in range(most)]
            number += most
            async with round_on(stage) as this_round:
                trials = [Trial(this_round, user, Random(random.random())) for user in users]
                await side_by_side(trial.prepare() for trial in trials)
                await asyncio.sleep(UNTIL_RENEWED_SECONDS)
                await side_by_side((trial.make() for trial in trials), at_once=8)
                history = await this_round.history(users)
            tally.judge(history)
            for user, part in history.by_user().items():
                told = {event.call: event.session for event in part.log if event.call is not None}
                found = is_linearizable(part.calls, told)
                tally.hold(found, f"no order explains {user}: {_shown(part.calls)}")
            tally.trials += most


def _shown(calls: list[Call]) -> str:
    return "; ".join(
        f"{call.kind.value} {call.started:.4f}-{call.ended:.4f} {call.outcome}" for call in calls
    )

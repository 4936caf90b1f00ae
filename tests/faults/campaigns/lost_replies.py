"""Replies that are lost after the store has carried a change out; then the caller retries.

The change must have been made once: one session, one event, one generation, and the answer to the
retry reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from tests.faults.campaigns.campaign import Order, Run, Tally
from tests.faults.campaigns.lossy_wire import LossyWire
from tests.faults.campaigns.rounds import (
    UNTIL_RENEWED_SECONDS,
    Round,
    answered,
    round_on,
    side_by_side,
)
from tests.faults.history import Call, Role
from tests.faults.recorder import DEADLINE, Answered, Held, Server
from tests.faults.stage import standalone

_ROUND = 250
_EVENTS = {
    "issue": "DEVICE_SIGNED_IN",
    "renew": "SESSION_REPLAYED",
    "revoke": "DEVICE_REVOKED",
    "update": "SESSION_UPDATED",
}
Ask = Callable[[Server], Awaitable[Answered | None]]


class Trial:
    """One user on one device, and one change whose first reply is lost."""

    def __init__(self, this_round: Round, user: str, random: Random) -> None:
        self.user = user
        self.calls: list[Call] = []
        """The first call, whose reply was lost, and the retry that was answered."""
        self._round = this_round
        self._random = random
        self._first, self._other = random.sample(range(len(this_round.servers)), 2)
        self._device = str(UUID(int=random.getrandbits(128), version=4))
        self._held: Held | None = None
        self._request = str(UUID(int=random.getrandbits(128), version=4))

    async def sign_in(self) -> None:
        """Makes the session that is changed later."""
        request = str(UUID(int=self._random.getrandbits(128), version=4))
        server = self._round.servers[self._first]
        given = await answered(lambda: server.sign_in(self.user, self._device, request))
        self._held = given.held

    async def change(self, kind: str, tally: Tally) -> None:
        """Makes the change, loses the reply, retries, and checks the result."""
        ask = {"issue": self._issue, "renew": self._renew, "revoke": self._revoke}.get(kind)
        wire = self._round.stage.wires[self._first]
        assert isinstance(wire, LossyWire)
        wire.lose_reply_about(self.user, silently=self._random.random() < 0.2)
        servers = self._round.servers
        if ask is None:
            is_right = await self._update(tally)
        else:
            self.calls.append((await ask(servers[self._first])).call)
            again = await answered(partial(ask, servers[self._other]))
            self.calls.append(again.call)
            is_right = await self._looks_right(kind, again)
        wire.spare(self.user)
        tally.hold(is_right, f"{kind}: {self.user}: wrong after the retry: {self.calls}")
        if self.user in wire.lost:
            tally.trials += 1

    async def _issue(self, server: Server) -> Answered:
        return await server.sign_in(self.user, self._device, self._request)

    async def _renew(self, server: Server) -> Answered:
        assert self._held is not None
        return await server.renew(self._held)

    async def _revoke(self, server: Server) -> Answered:
        return await server.revoke_device(self.user, self._device)

    async def _looks_right(self, kind: str, again: Answered) -> bool:
        server = self._round.servers[self._other]
        held = again.held or self._held
        assert held is not None
        looked = await answered(lambda: server.validate(held, Role.ONLOOKER))
        if kind == "revoke":
            return looked.call.outcome == "NO_SESSION"
        newest = 2 if kind == "renew" else 1
        listed = (await answered(lambda: server.list_devices(self.user))).call.listed
        return (
            looked.call.outcome == "ACTIVE"
            and again.call.given is not None
            and again.call.given.generation == newest
            and [session for _, session in listed] == [held.token.session]
        )

    async def _update(self, tally: Tally) -> bool:
        assert self._held is not None
        claims = {"plan": self._request}
        update = pb.UpdateSessionRequest(user_id=self.user, device_id=self._device, claims=claims)
        # The next token has the new claims.
        renew = pb.RenewSessionRequest(access_token=self._held.text, device_id=self._device)
        servers = self._round.servers
        updated = await self._answer(servers[self._first], servers[self._other], update, tally)
        renewed = await self._answer(servers[self._other], servers[self._other], renew, tally)
        return bool(updated.updated_sessions == 1 and dict(renewed.session.claims) == claims)

    async def _answer(self, first: Server, other: Server, request: object, tally: Tally) -> Any:
        """The answer of the first server, or of the other server once the first has failed."""
        name = type(request).__name__.removesuffix("Request")
        server = first
        while True:
            tally.calls += 1
            try:
                return await getattr(server.stub, name)(request, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                tally.hold(code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), f"{name}: {code}")
                tally.counts["without an answer"] += 1
            server = other
            await asyncio.sleep(0.05)


async def _round(this_round: Round, kind: str, trials: list[Trial], tally: Tally) -> None:
    if kind != "issue":
        await side_by_side(trial.sign_in() for trial in trials)
    if kind == "renew":
        await asyncio.sleep(UNTIL_RENEWED_SECONDS)
    await side_by_side(trial.change(kind, tally) for trial in trials)
    tally.judge(await this_round.history(trial.user for trial in trials))
    events = this_round.events(_EVENTS[kind])
    for trial in trials:
        told = sum(event.user == trial.user for event in events)
        expected = 0 if kind == "renew" else 1
        tally.hold(told == expected, f"{kind}: {trial.user}: {told} {_EVENTS[kind]} events")


def losing_replies_to(kind: str) -> Run:
    """The campaign of one kind of change. A trial counts if the wire has lost its reply."""

    async def run(folder: Path, order: Order, tally: Tally) -> None:
        random = Random(f"{order.seed} {kind}")
        async with standalone(folder, wire=LossyWire, TOKEN_TTL="2h") as stage:
            number = 0
            while most := order.left(tally, _ROUND):
                users = [f"{kind}-{order.seed}-{number + each}" for each in range(most)]
                number += most
                async with round_on(stage) as this_round:
                    trials = [Trial(this_round, user, Random(random.random())) for user in users]
                    await _round(this_round, kind, trials, tally)

    return run

"""Calls that are cancelled by the thousand, over connections that are cut and delayed: every answer
that arrives belongs to the call's own user.

Each answer is a trial; in a batch, the answer to each item. Calls validate the tokens of users. An
answer that names another user, device or session is a violation, and so is a refusal: no user signs
out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.campaigns.rounds import Round, answered, round_on, side_by_side
from tests.faults.clients import running
from tests.faults.recorder import DEADLINE, Server
from tests.faults.stage import Stage, standalone

_USERS = 400
_ROUND = 50_000
_BATCH = 250
_CALLERS = 12
_BATCHES_OF_CALLS = 0.5  # The share of calls that are batches. The others validate one token.
_CANCELLED = 0.4
_LONGEST_SECONDS = 0.03  # The longest time until a call is cancelled.
_MAY_FAIL = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Asked:
    """A token's user, and the request that validates it."""

    user: str
    device: str
    session: str
    request: pb.ValidateSessionRequest


class Storm:
    """Callers that validate the tokens of all users, and cancel many of their calls."""

    def __init__(self, this_round: Round, asked: list[Asked], random: Random, tally: Tally) -> None:
        self._servers = this_round.servers
        self._asked = asked
        self._random = random
        self._tally = tally

    async def blow(self, trials: int) -> None:
        """Makes calls until this many answers have arrived."""
        enough = self._tally.trials + trials

        async def ask() -> None:
            while self._tally.trials < enough:
                await self._maybe_given_up(self._ask(self._random.choice(self._servers)))

        async with asyncio.TaskGroup() as callers:
            for _ in range(_CALLERS):
                callers.create_task(ask())

    async def _maybe_given_up(self, call: Awaitable[None]) -> None:
        if self._random.random() > _CANCELLED:
            await call
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(0, _LONGEST_SECONDS)):
                await call
                return
        self._tally.counts["calls given up"] += 1

    async def _ask(self, server: Server) -> None:
        try:
            if self._random.random() < _BATCHES_OF_CALLS:
                await self._ask_many(server)
            else:
                one = self._random.choice(self._asked)
                answer = await server.stub.ValidateSession(one.request, timeout=DEADLINE)
                self._judge(one, answer)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            self._tally.counts["calls that failed"] += 1
            self._tally.hold(code in _MAY_FAIL, f"{code}: {error.details()}")
            await asyncio.sleep(0.01)

    async def _ask_many(self, server: Server) -> None:
        many = self._random.choices(self._asked, k=_BATCH)
        request = pb.BatchValidateSessionsRequest(requests=[one.request for one in many])
        results = (await server.stub.BatchValidateSessions(request, timeout=DEADLINE)).results
        self._tally.hold(len(results) == len(many), f"{len(results)} results for {len(many)}")
        for one, result in zip(many, results, strict=False):
            if result.HasField("error"):
                self._tally.counts["items that failed"] += 1
                code = _CODES[result.error.code]
                self._tally.hold(code in _MAY_FAIL, f"an item failed: {result.error}")
            else:
                self._judge(one, result.response)

    def _judge(self, one: Asked, answer: pb.ValidateSessionResponse) -> None:
        self._tally.trials += 1
        self._tally.calls += 1
        named = answer.session
        found = (answer.active, named.user_id, named.device_id, named.session_id)
        if found != (True, one.user, one.device, one.session):
            self._tally.violate(f"{found} for {one.user}, {one.device}, {one.session}")


async def _sign_in_all(this_round: Round, seed: int, random: Random) -> list[Asked]:
    asked: list[Asked] = []

    async def sign_in(user: str) -> None:
        device, request = (str(UUID(int=random.getrandbits(128), version=4)) for _ in range(2))
        server = this_round.servers[0]
        held = (await answered(lambda: server.sign_in(user, device, request))).held
        assert held is not None
        question = pb.ValidateSessionRequest(
            access_token=held.text, device_id=device, observe_only=random.random() < 0.5
        )
        asked.append(Asked(user, device, held.token.session, question))

    await side_by_side(sign_in(f"storm-{seed}-{number}") for number in range(_USERS))
    return asked


async def _dirty(stage: Stage, random: Random) -> None:
    """Cuts and delays connections to the store, for ever, so that replies are left on them."""

    async def late(_: bytes) -> None:
        if random.random() < 0.05:
            await asyncio.sleep(random.uniform(0, 0.05))

    for wire in stage.wires:
        wire.on_reply = late
    while True:
        await asyncio.sleep(random.uniform(2, 6))
        await random.choice(stage.wires).cut()


async def cancel_storm(folder: Path, order: Order, tally: Tally) -> None:
    """Makes calls until `order.trials` answers have arrived, or until the time is over."""
    random = Random(f"{order.seed} storm")
    async with standalone(folder, TOKEN_TTL="2h") as stage, round_on(stage) as this_round:
        asked = await _sign_in_all(this_round, order.seed, random)
        storm = Storm(this_round, asked, random, tally)
        with running(_dirty(stage, random)):
            while most := order.left(tally, _ROUND):
                await storm.blow(most)

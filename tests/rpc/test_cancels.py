"""Calls that are cancelled at any moment, or have too short deadlines, harm no other call.

`make cancels` makes 100,000 of them with each acceptor.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import PATIENCE, Stage, StageWith, refusal_of
from tests.support.backends import Backend
from tests.support.waiting import eventually

CALLS = int(os.environ.get("CANCEL_CALLS", "2000"))
SEED = int(os.environ.get("CANCEL_SEED", "1"))
USERS = 12
CALLERS = 48
# How a cancelled call or a call with a short deadline may fail. On a busy machine, other calls may
# fail in the same ways.
SOUND_ENDS = {
    (grpc.StatusCode.CANCELLED, ""),
    (grpc.StatusCode.DEADLINE_EXCEEDED, ""),
    (grpc.StatusCode.UNAVAILABLE, "DEADLINE_TOO_SHORT"),
    (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    (grpc.StatusCode.UNAVAILABLE, "NOT_READY"),
}


class Crowd:
    """Callers that validate the sessions of a few users, which end and begin in between."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self.stage = stage
        self.chance = chance
        self.sessions: dict[str, pb.IssueDeviceResponse] = {}
        self.ended: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.left = CALLS

    async def run(self) -> None:
        for number in range(USERS):
            await self._sign_in(f"user-{number}")
        await asyncio.gather(*(self._call_again_and_again() for _ in range(CALLERS)))

    async def _sign_in(self, user_id: str) -> None:
        self.sessions[user_id] = await self._surely("IssueDevice", pb.IssueDeviceRequest, user_id)

    async def _surely(self, method: str, request: Any, user_id: str) -> Any:
        """The answer to a call that is repeated until it is answered: on a busy machine a deadline
        may be too short now and then.
        """
        async with asyncio.timeout(10 * PATIENCE):
            while True:
                try:
                    return await self.stage.call(method, request(user_id=user_id))
                except grpc.aio.AioRpcError as error:
                    refusal = refusal_of(error)
                    assert (refusal.code, refusal.reason) in SOUND_ENDS, refusal

    async def _call_again_and_again(self) -> None:
        while self.left > 0:
            self.left -= 1
            if self.chance.random() < 0.01:
                await self._end_session(self.chance.choice(list(self.sessions)))
            else:
                await self._call()

    async def _end_session(self, user_id: str) -> None:
        token = self.sessions[user_id].access_token
        await self._surely("RevokeAll", pb.RevokeAllRequest, user_id)
        self.ended.add(token)  # The answer is here: from now on the session must not be good.
        self.outcomes["revoked"] += 1
        await self._sign_in(user_id)

    async def _call(self) -> None:
        chosen = self.chance.sample(sorted(self.sessions), self.chance.randrange(1, 5))
        asked = [(user_id, self.sessions[user_id]) for user_id in chosen]
        method = self.chance.choice(["ValidateSession", "RenewSession", "BatchValidateSessions"])
        if method != "BatchValidateSessions":
            del asked[1:]
        ended = [issued.access_token in self.ended for _, issued in asked]
        within = self.chance.choice([PATIENCE, PATIENCE, self.chance.uniform(0.0001, 0.08)])
        call = self.stage.start(method, request_for(method, [one for _, one in asked]), within)
        if self.chance.random() < 0.4:
            await self._give_up(call)
        try:
            async with asyncio.timeout(2 * PATIENCE):
                answer = await call
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            assert (refusal.code, refusal.reason) in SOUND_ENDS, refusal
            self.outcomes[refusal.code.name] += 1
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            self.outcomes["given up"] += 1
        else:
            self._judge(method, answer, asked, ended)
            self.outcomes["answered"] += 1

    async def _give_up(self, call: Any) -> None:
        for _ in range(self.chance.randrange(20)):
            await asyncio.sleep(0)
        if self.chance.random() < 0.3:
            await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.02)
        call.cancel()

    def _judge(
        self,
        method: str,
        answer: Any,
        asked: list[tuple[str, pb.IssueDeviceResponse]],
        ended: list[bool],
    ) -> None:
        answers = (
            [result.response for result in answer.results]
            if method == "BatchValidateSessions"
            else [answer]
        )
        assert len(answers) == len(asked)
        for (user_id, issued), was_ended, one in zip(asked, ended, answers, strict=True):
            active = one.status == pb.SESSION_STATUS_ACTIVE
            assert not (active and was_ended), "the session had ended before"
            if active:
                assert (one.session.user_id, one.session.session_id) == (
                    user_id,
                    issued.device.session_id,
                )
                self.outcomes["active"] += 1


def request_for(method: str, issued: list[pb.IssueDeviceResponse]) -> Any:
    asked = [
        {"access_token": one.access_token, "device_id": one.device.device_id} for one in issued
    ]
    if method == "RenewSession":
        return pb.RenewSessionRequest(**asked[0])  # type: ignore[arg-type]
    if method == "ValidateSession":
        return pb.ValidateSessionRequest(**asked[0])  # type: ignore[arg-type]
    return pb.BatchValidateSessionsRequest(
        requests=[pb.ValidateSessionRequest(**one) for one in asked]  # type: ignore[arg-type]
    )


async def test_no_cancelled_call_harms_another(stage_with: StageWith, valkey_backend: Backend):
    stage = await stage_with(valkey_backend)
    crowd = Crowd(stage, random.Random(SEED))
    await crowd.run()
    print(dict(crowd.outcomes))
    assert {"answered", "active", "revoked", "given up"} <= crowd.outcomes.keys()
    guard = stage.server._guards[0]
    await asyncio.wait_for(guard.idle(), PATIENCE)
    load, peers = guard._load, guard.peers
    await eventually(
        lambda: (load.calls, load.share.held, load.arriving) == (0, 0, {}), "the load to be gone"
    )
    await eventually(
        lambda: not peers._unsent and not any(peer.calls for peer in peers._peers.values()),
        "the answers to be sent",
    )
    for user_id, issued in crowd.sessions.items():
        answer = await stage.validate(issued)
        assert (answer.active, answer.session.user_id) == (True, user_id)
    assert not crowd.ended & {issued.access_token for issued in crowd.sessions.values()}

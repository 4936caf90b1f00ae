"""The policy file takes a caller's rights away and gives them back, while that caller and another
caller call two servers.

Once a server has refused the caller, the server refuses every call of that caller until the right
is given back. Once the server has answered this caller again, it goes on answering. Other callers
notice nothing. Each change is a trial.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import uuid4

import grpc

from session_authority.access.callers import add_token, new_token
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.recorder import DEADLINE, now
from tests.faults.stage import standalone

_FLIPPED, _STEADY = "flipped", "steady"
_ROLES = '["issuer", "validator", "manager"]'
_TABLE = "[callers.{name}]\nroles = {roles}\n"
_NO_ANSWER = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
_DENIED = "PERMISSION_DENIED"
_CALLS = 25  # Calls of each caller at each server, after a change is in force.
_PATIENCE_SECONDS = 30.0  # The longest wait until a change is in force.


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller of one server."""

    name: str
    token: str
    stub: pb_grpc.SessionAuthorityServiceStub

    async def code(self, request: pb.ListDevicesRequest, tally: Tally) -> str:
        """The code of a call's outcome."""
        tally.calls += 1
        metadata = (("authorization", f"Bearer {self.token}"),)
        try:
            await self.stub.ListDevices(request, timeout=DEADLINE, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def _write_policy(path: Path, *, denied: bool) -> None:
    """Replaces the file as a whole."""
    roles = {_STEADY: _ROLES, _FLIPPED: '["watcher"]' if denied else _ROLES}
    new = path.with_suffix(".new")
    new.write_text("".join(_TABLE.format(name=name, roles=given) for name, given in roles.items()))
    new.replace(path)


async def _calls(callers: list[Caller], expected: str, tally: Tally, what: str) -> None:
    request = pb.ListDevicesRequest(user_id=f"somebody-{uuid4()}")
    found = await asyncio.gather(*(one.code(request, tally) for one in callers * _CALLS))
    wrong = sorted({code for code in found if code not in (expected, *_NO_ANSWER)})
    tally.hold(not wrong, f"{wrong} where {expected} is right: {what}")


async def _is_in_force(caller: Caller, expected: str, tally: Tally) -> bool:
    """Waits until a server answers by the new policy."""
    until = now() + _PATIENCE_SECONDS
    while now() < until:
        if await caller.code(pb.ListDevicesRequest(user_id="somebody"), tally) == expected:
            return True
        await asyncio.sleep(0.02)
    return False


async def policy_flips(folder: Path, order: Order, tally: Tally) -> None:
    """Changes the policy `order.trials` times, or until the time is over."""
    random = Random(f"{order.seed} flips")
    policy, tokens = folder / "access.toml", folder / "caller-tokens"
    _write_policy(policy, denied=False)
    secret = {name: new_token() for name in (_FLIPPED, _STEADY)}
    for name, token in secret.items():
        add_token(tokens, name, token, datetime.now(UTC))
    async with standalone(
        folder,
        ACCESS_POLICY=str(policy),
        CALLER_TOKENS=str(tokens),
        ALLOW_UNSAFE="volatile-store,short-grace,exposed-secrets",
    ) as stage:
        channels = [grpc.aio.insecure_channel(server.address) for server in stage.servers]
        stubs = [pb_grpc.SessionAuthorityServiceStub(channel) for channel in channels]
        flipped = [Caller(_FLIPPED, secret[_FLIPPED], stub) for stub in stubs]
        steady = [Caller(_STEADY, secret[_STEADY], stub) for stub in stubs]
        denied = False
        while order.left(tally, 1):
            denied = not denied
            _write_policy(policy, denied=denied)
            expected = _DENIED if denied else "OK"
            for caller in flipped:
                in_force = await _is_in_force(caller, expected, tally)
                tally.hold(in_force, f"no {expected} in {_PATIENCE_SECONDS:g} s after a change")
            await _calls(flipped, expected, tally, f"denied: {denied}")
            await _calls(steady, "OK", tally, "a caller whose rights are as they were")
            await asyncio.sleep(random.uniform(0, 0.5))
            tally.trials += 1
        for channel in channels:
            await channel.close()

"""Forged tokens, sent to a whole server in the name of a live user: none is good, and none changes
anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.message import Message

from session_authority.rpc.unary import MAX_MESSAGE_BYTES
from session_authority.tokens import KeySource
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import START, Stage, StageWith
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tests.tokens.forger import Victim, ring
from tests.tokens.forgeries import KINDS, forgeries, over, twins
from tests.tokens.harness import save

METHODS: dict[str, Callable[..., Message]] = {
    "ValidateSession": pb.ValidateSessionRequest,
    "RenewSession": pb.RenewSessionRequest,
}


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> KeySource:
    """The key ring that the forgeries are made against."""
    return KeySource(save(tmp_path_factory.mktemp("keys"), *ring(START)))


@pytest.fixture
async def stage(stage_with: StageWith, backends: Callable[[str], Backend]) -> Stage:
    """A server on the bundled Valkey."""
    running: Stage = await stage_with(backends("valkey"))
    return running


@pytest.fixture
async def devices(stage: Stage) -> list[pb.IssueDeviceResponse]:
    """The sign-ins of one user on three devices. All sessions were used."""
    signed_in = [await stage.sign_in("ada") for _ in range(3)]
    for device in signed_in:
        assert (await stage.validate(device)).active

    async def told() -> bool:
        return any(key.endswith(b":k:revoked") for key in await stage.dump())

    await eventually(told, "the event of the revoked key, which no forgery causes")
    return signed_in


def body(method: str, token: str, device_id: str) -> bytes:
    """A request with any text as its token, also with text that no protobuf message would
    accept.
    """
    request = METHODS[method](device_id=device_id)
    field = request.DESCRIPTOR.fields_by_name["access_token"].number << 3 | 2
    data = token.encode(errors="surrogatepass")
    size, digits = len(data), bytearray()
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field, *digits, size]) + data + request.SerializeToString()


async def answer(stage: Stage, method: str, token: str, device_id: str) -> str:
    """What the server answers: the statuses of sessions, or the code with which it refuses the
    message.
    """
    try:
        status = (await stage.call(method, body(method, token, device_id))).status
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return pb.SessionStatus.Name(status).removeprefix("SESSION_STATUS_")


def expected(method: str, token: str, device_id: str) -> str:
    """What the server must answer to a forgery."""
    if len(body(method, token, device_id)) > MAX_MESSAGE_BYTES:
        return "RESOURCE_EXHAUSTED"
    return (
        "INVALID_ARGUMENT"
        if any("\ud800" <= letter <= "\udfff" for letter in token)
        else "TOKEN_INVALID"
    )


@pytest.mark.parametrize("method", METHODS)
async def test_no_forgery_is_good_and_none_changes_anything(
    stage: Stage, devices: list[pb.IssueDeviceResponse], method: str
):
    victim, device_id = Victim.of(devices[0].access_token), devices[0].device.device_id
    before = await stage.dump()
    presented: Counter[str] = Counter()
    for kind, name, text in forgeries(victim):
        assert await answer(stage, method, text, device_id) == expected(method, text, device_id), (
            kind,
            name,
        )
        presented[kind] += 1
    assert presented.keys() == KINDS.keys()

    assert await stage.dump() == before  # No session is gone, and no event was written.
    for device in devices:
        assert (await stage.validate(device)).active


async def test_an_old_token_has_ended_and_changes_nothing(
    stage: Stage, devices: list[pb.IssueDeviceResponse]
):
    """A renewal of it may still succeed: a renewal depends on the session, not on the token's
    age.
    """
    victim, device_id = Victim.of(devices[0].access_token), devices[0].device.device_id
    before = await stage.dump()
    for name, text in over(victim):
        assert await answer(stage, "ValidateSession", text, device_id) == "TOKEN_EXPIRED", name
    assert await stage.dump() == before
    for name, text in over(victim):
        assert await answer(stage, "RenewSession", text, device_id) == "ACTIVE", name
    for device in devices:
        assert (await stage.validate(device)).active


async def test_another_encoding_of_a_real_token_is_the_same_token(
    stage: Stage, devices: list[pb.IssueDeviceResponse]
):
    """The other encoding is no second copy: two encodings of one signature are no sign of theft."""
    victim, device_id = Victim.of(devices[0].access_token), devices[0].device.device_id
    stage.clock.advance(stage.authority.limits.alarm_after)
    # With this use, the session gets its holder: a token with another copy would be a replay.
    assert (await stage.validate(devices[0])).active
    for method in METHODS:
        for name, text in twins(victim):
            assert await answer(stage, method, text, device_id) == "ACTIVE", name
    for device in devices:
        assert (await stage.validate(device)).active

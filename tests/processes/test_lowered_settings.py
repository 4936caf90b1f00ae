"""A setting that an operator lowers applies to sessions that are open already."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.harness import PATIENCE, House, Serve
from tests.support.backends import Backend
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)
SHORT: dict[str, Any] = {
    "token_ttl": 2 * SECOND,
    "session_ttl": 2 * SECOND,
    "alarm_after": SECOND,
    "durable_after": 0 * SECOND,
    "grace": 0 * SECOND,
    "touch_interval": 0 * SECOND,
}


async def test_a_lower_session_ttl_ends_open_sessions(serve: Serve, valkey_backend: Backend):
    before = await serve(valkey_backend.url)
    issued = await before.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)

    after = await serve(valkey_backend.url, **SHORT)
    devices = await after.stub.ListDevices(pb.ListDevicesRequest(user_id="ada"), timeout=PATIENCE)
    for device in devices.devices:  # No device if the machine was busy for two seconds.
        assert ends(device) == starts(device) + 2 * SECOND

    async def is_over() -> bool:
        return await status(after, issued) == pb.SESSION_STATUS_SESSION_EXPIRED

    await eventually(is_over, "the session's end", PATIENCE)
    devices = await after.stub.ListDevices(pb.ListDevicesRequest(user_id="ada"), timeout=PATIENCE)
    assert not devices.devices


def starts(device: pb.Device) -> Any:
    return device.sign_in_time.ToDatetime(UTC)


def ends(device: pb.Device) -> Any:
    return device.expire_time.ToDatetime(UTC)


async def status(house: House, issued: pb.IssueDeviceResponse) -> int:
    request = pb.ValidateSessionRequest(
        access_token=issued.access_token, device_id=issued.device.device_id
    )
    answer: pb.ValidateSessionResponse = await house.stub.ValidateSession(request, timeout=PATIENCE)
    return answer.status

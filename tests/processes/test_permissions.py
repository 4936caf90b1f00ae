"""A running server whose Redis user loses a permission: health names the permission, and every call
is done completely or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import redis

from session_authority.store import KeyNames
from session_authority.store.acl import acl_rules
from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.harness import NOT_SERVING, PATIENCE, SERVING, Serve
from tests.support.backends import Backend

PASSWORD = "hunter2"


@pytest.fixture(params=["redis", "valkey"])
def one(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    return backends(request.param)


@pytest.fixture
def admin(one: Backend, prefix: str) -> Iterator[redis.Redis]:
    """The administrator, who has made a user for the service."""
    with redis.Redis.from_url(one.admin_url) as client:
        client.execute_command("ACL", "SETUSER", prefix, *acl_rules(prefix), f">{PASSWORD}")
        yield client
        client.execute_command("ACL", "DELUSER", prefix)


async def answered(call: Any) -> bool:
    """True if a call was answered, False if the service said that it is unavailable."""
    refusal: grpc.aio.AioRpcError | None = None
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code() is grpc.StatusCode.UNAVAILABLE
        assert PASSWORD not in str(refusal.details())
    return refusal is None


@pytest.mark.parametrize("command", ["XADD", "PUBLISH", "HSET", "PEXPIRE", "EVALSHA", "DEL"])
async def test_a_missing_permission_is_named_and_no_call_is_half_done(
    one: Backend,
    admin: redis.Redis,
    prefix: str,
    serve: Serve,
    logged: list[dict[str, Any]],
    command: str,
) -> None:
    house, keys = await serve(one.url_as(prefix, PASSWORD)), KeyNames(prefix)
    await house.becomes(SERVING)
    await house.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)

    def of(user_id: str) -> tuple[int, int, int]:
        """The number of sessions, devices and events."""
        names = keys.sessions(user_id), keys.devices(user_id)
        sessions, devices = (int(admin.hlen(name)) for name in names)
        return sessions, devices, int(admin.xlen(keys.events(user_id)))

    before_ada, before_eve = of("ada"), of("eve")
    admin.execute_command("ACL", "SETUSER", prefix, f"-{command}")
    await house.becomes(NOT_SERVING)
    [told] = [entry for entry in logged if entry["event"] == "not_serving"]
    assert told["reason"] == f"the store refuses its user {command}: see redis-acl"
    assert PASSWORD not in str(logged)

    sign_in = pb.IssueDeviceRequest(user_id="eve")
    done = await answered(house.stub.IssueDevice(sign_in, timeout=PATIENCE))
    assert of("eve") == ((1, 1, before_eve[2] + 1) if done else before_eve)
    revocation = pb.RevokeAllRequest(user_id="ada", reason="lost")
    done = await answered(house.stub.RevokeAll(revocation, timeout=PATIENCE))
    assert of("ada") == ((0, 1, before_ada[2] + 1) if done else before_ada)
    assert done or command != "PUBLISH"

    admin.execute_command("ACL", "SETUSER", prefix, f"+{command}")
    await house.becomes(SERVING)

"""Redis is restored from a snapshot: which sessions come back with it, and how an operator ends
them.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from session_authority.v1 import session_authority_pb2 as pb
from tests.cli.harness import call
from tests.processes.harness import PATIENCE, House, house
from tests.support.backends import valkey_server
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)
FAST: dict[str, Any] = {"grace": 0 * SECOND, "durable_after": 0 * SECOND, "alarm_after": SECOND}


async def sign_in(home: House, user: str, device_id: str = "") -> pb.IssueDeviceResponse:
    request = pb.IssueDeviceRequest(user_id=user, device_id=device_id)
    answer: pb.IssueDeviceResponse = await home.stub.IssueDevice(request, timeout=PATIENCE)
    return answer


async def renewed(home: House, issued: pb.IssueDeviceResponse) -> str:
    """Returns the next token of a session, once the token of the sign-in is old enough."""
    request = pb.RenewSessionRequest(
        access_token=issued.access_token, device_id=issued.device.device_id
    )
    found: list[str] = []

    async def rotated() -> bool:
        answer = await home.stub.RenewSession(request, timeout=PATIENCE)
        found.append(answer.access_token)
        return bool(answer.rotated)

    await eventually(rotated, "the session to be renewed", PATIENCE)
    return found[-1]


async def status(home: House, issued: pb.IssueDeviceResponse, token: str = "") -> str:
    """The status of a token: the sign-in's token, or the given one."""
    request = pb.ValidateSessionRequest(
        access_token=token or issued.access_token, device_id=issued.device.device_id
    )
    answer = await home.stub.ValidateSession(request, timeout=PATIENCE)
    return pb.SessionStatus.Name(answer.status).removeprefix("SESSION_STATUS_")


async def event_types(home: House, *, until: int) -> set[int]:
    """The types of all events up to the first event of one type."""
    found = set()
    watch = home.stub.WatchEvents(
        pb.WatchEventsRequest(start_time={"seconds": 1}), timeout=PATIENCE
    )
    async for batch in watch:
        found |= {event.type for event in batch.events}
        if until in found:
            break
    watch.cancel()
    return found


async def test_a_snapshot_brings_back_revoked_sessions_until_the_restore_is_declared(
    tmp_path: Path, keys: Path
):
    folder, snapshot = tmp_path / "valkey", tmp_path / "snapshot.rdb"
    with valkey_server(folder, appendonly="no") as valkey:
        async with house(valkey.url, keys, "sa", False, **FAST) as home:
            revoked, kept = await sign_in(home, "ada"), await sign_in(home, "bob")
            admin = Redis.from_url(valkey.admin_url)
            await admin.execute_command("SAVE")
            shutil.copy(folder / "dump.rdb", snapshot)
            await admin.aclose()
            revoke = pb.RevokeAllRequest(user_id="ada")
            assert (await home.stub.RevokeAll(revoke, timeout=PATIENCE)).revoked_devices == 1
            assert await status(home, revoked) == "NO_SESSION"
            newer = await renewed(home, kept)
            assert await status(home, kept, newer) == "ACTIVE"
            late = await sign_in(home, "carol")

        valkey.kill()
        shutil.copy(snapshot, folder / "dump.rdb")
        valkey.start()

        async with house(valkey.url, keys, "sa", False, **FAST) as home:
            assert await status(home, revoked) == "ACTIVE", "the revoked session came back"
            assert await status(home, kept, newer) == "ACTIVE", (
                "the token is newer than the record: no alarm"
            )
            assert await status(home, late) == "NO_SESSION"

            declared = call("restored", "--dir", keys)
            assert declared.exit_code == 0, declared.stderr

            async def void() -> bool:
                found = {await status(home, revoked), await status(home, kept, newer)}
                return found == {"TOKEN_INVALID"}

            await eventually(void, "the tokens to be void", PATIENCE)
            assert await status(home, late) == "TOKEN_INVALID"
            for issued, token in ((revoked, revoked.access_token), (kept, newer)):
                request = pb.RenewSessionRequest(
                    access_token=token, device_id=issued.device.device_id
                )
                answer = await home.stub.RenewSession(request, timeout=PATIENCE)
                assert answer.status == pb.SESSION_STATUS_TOKEN_INVALID

            again = await sign_in(home, "bob", kept.device.device_id)
            assert not again.new_device
            assert await status(home, again) == "ACTIVE"
            assert await status(home, kept, newer) == "TOKEN_INVALID"
            told = await event_types(home, until=pb.EVENT_TYPE_SIGNING_KEY_REVOKED)
            assert pb.EVENT_TYPE_SIGNING_KEY_REVOKED in told
            alarms = {pb.EVENT_TYPE_SESSION_REPLAYED, pb.EVENT_TYPE_ENDED_TOKEN_PRESENTED}
            assert told.isdisjoint(alarms)

"""Every method of both kinds of client, against a real development server. Two tests use a fake
service instead.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, answers
from session_authority_client import EventType, FormFactor, SessionStatus
from session_authority_client.wire import errors_pb2
from session_authority_client.wire import session_authority_pb2 as wire

PHONE = sa.ClientInfo(
    ip_address="203.0.113.7",
    user_agent=(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
        " Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
    ),
    app_version="4.2",
)
LAPTOP = sa.ClientInfo("2001:db8::7", "curl/8.5.0", "Ada's laptop", "1")
REASON = "password_changed"


@pytest.fixture
async def authority(connect: Connect, address: str) -> AsyncIterator[Any]:
    async with connect(address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def user() -> str:
    return f"u-{uuid4()}"


def near(moment: datetime, wanted: datetime) -> bool:
    return moment.tzinfo is UTC and abs(moment - wanted) < timedelta(minutes=1)


async def test_a_sign_in_returns_the_device(authority: Any, user: str):
    now = datetime.now(UTC)
    issued = await authority.issue_device(
        user, client=PHONE, auth_methods=["pwd"], session_ttl=timedelta(hours=2)
    )
    assert (issued.device_id_assigned, issued.new_device, issued.evicted_devices) == (
        True,
        True,
        (),
    )
    assert issued.access_token.count(".") == 2
    assert near(issued.token_expire_time, now + timedelta(hours=1))
    device = issued.device
    assert str(UUID(device.device_id)) == device.device_id
    assert (device.operating_system, device.browser) == ("iOS 17", "Safari 17")
    assert (device.form_factor, device.last_client) == (FormFactor.PHONE, PHONE)
    assert (device.current, device.signed_in) == (False, True)
    assert len(device.session_id) == 32
    for moment in (device.create_time, device.sign_in_time, device.last_seen_time):
        assert near(moment, now)
    assert near(device.expire_time, now + timedelta(hours=2))
    assert device.absolute_expire_time == device.expire_time

    again = await authority.issue_device(user, device_id=device.device_id, client=LAPTOP)
    assert (again.device_id_assigned, again.new_device) == (False, False)
    assert again.device.device_id == device.device_id
    assert again.device.session_id != device.session_id
    assert again.device.display_name == "Ada's laptop"


async def test_a_third_device_evicts_the_first(authority: Any, user: str):
    first, second, third = [await authority.issue_device(user) for _ in range(3)]
    assert (first.evicted_devices, second.evicted_devices) == ((), ())
    (evicted,) = third.evicted_devices
    assert (evicted.device_id, evicted.signed_in) == (first.device.device_id, False)
    found = await authority.validate_session(first.access_token, first.device.device_id)
    assert found.status is SessionStatus.NO_SESSION


async def test_a_request_id_signs_in_only_once(authority: Any, user: str):
    request_id = str(uuid4())
    first, again = [await authority.issue_device(user, request_id=request_id) for _ in range(2)]
    assert again.device.session_id == first.device.session_id
    with pytest.raises(sa.RequestIdReused):
        await authority.issue_device(user, request_id=request_id, auth_methods=["otp"])
    await authority.revoke_all(user)
    with pytest.raises(sa.RequestIdSpent):
        await authority.issue_device(user, request_id=request_id)
    fresh = await authority.issue_device(user)
    assert fresh.device.session_id != first.device.session_id


async def test_a_request_that_breaks_rules_is_refused_with_each_field(authority: Any, user: str):
    with pytest.raises(sa.InvalidRequest) as caught:
        await authority.issue_device(f"{user}\n", auth_methods=["one time"])
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"user_id", "auth_methods[0]"}
    assert all(violation.description for violation in caught.value.violations)
    assert caught.value.reason == "INVALID_REQUEST"


async def test_a_validation_returns_the_session(authority: Any, user: str):
    issued = await authority.issue_device(user, claims={"plan": "pro"}, auth_methods=["pwd", "otp"])
    found = await authority.validate_session(
        issued.access_token, issued.device.device_id, client=PHONE
    )
    assert found
    assert (found.active, found.status) == (True, SessionStatus.ACTIVE)
    assert (found.device_id, found.device_id_assigned) == (issued.device.device_id, False)
    assert (found.renew_recommended, found.revoked_devices) == (False, 0)
    session = found.session
    assert (session.user_id, session.device_id) == (user, issued.device.device_id)
    assert (session.session_id, session.generation) == (issued.device.session_id, 1)
    assert (dict(session.claims), session.auth_methods) == ({"plan": "pro"}, ("pwd", "otp"))
    with pytest.raises(TypeError):
        session.claims["plan"] = "free"
    assert session.sign_in_time == issued.device.sign_in_time.replace(microsecond=0), (
        "a token has whole seconds"
    )
    assert near(session.token_expire_time, issued.token_expire_time)
    assert session.expire_time > session.token_expire_time
    assert near(session.absolute_expire_time, datetime.now(UTC) + timedelta(days=30))


@pytest.mark.parametrize(
    ("token", "device_id", "status"),
    [
        ("", "theirs", SessionStatus.TOKEN_MISSING),
        ("a.b.c", "theirs", SessionStatus.TOKEN_INVALID),
        ("theirs", "", SessionStatus.NO_SESSION),
        ("theirs", "no UUID", SessionStatus.NO_SESSION),
    ],
)
async def test_a_bad_token_or_device_id_gets_an_answer_and_not_an_exception(
    authority: Any, user: str, token: str, device_id: str, status: SessionStatus
):
    issued = await authority.issue_device(user)
    theirs = issued.device.device_id
    found = await authority.validate_session(
        issued.access_token if token == "theirs" else token,
        theirs if device_id == "theirs" else device_id,
    )
    assert not found
    assert (found.active, found.status, found.session) == (False, status, None)
    assert found.device_id_assigned == (device_id != "theirs")
    assert (found.device_id == theirs) == (device_id == "theirs")


async def test_observe_only_changes_nothing(authority: Any, user: str):
    issued = await authority.issue_device(user)
    elsewhere = str(uuid4())
    for _ in range(2):
        seen = await authority.validate_session(issued.access_token, elsewhere, observe_only=True)
        assert (seen.status, seen.revoked_devices) == (SessionStatus.REPLAYED, 0)
    assert await authority.validate_session(issued.access_token, issued.device.device_id)


async def test_the_answers_of_a_batch_are_in_the_order_of_its_requests(authority: Any, user: str):
    mine, hers = await authority.issue_device(user), await authority.issue_device(f"{user}-2")
    found = await authority.validate_sessions(
        [
            (mine.access_token, mine.device.device_id),
            ("", mine.device.device_id),
            (hers.access_token, hers.device.device_id),
        ]
    )
    assert [item.status for item in found] == [
        SessionStatus.ACTIVE,
        SessionStatus.TOKEN_MISSING,
        SessionStatus.ACTIVE,
    ]
    assert [item.session and item.session.user_id for item in found] == [user, None, f"{user}-2"]
    with pytest.raises(sa.InvalidRequest):
        await authority.validate_sessions([("", "")] * 501)


async def test_an_error_in_a_batch_stands_at_the_position_of_its_request(
    connect: Connect, fake: Fake
):
    answer = wire.BatchValidateSessionsResponse()
    answer.results.add().response.status = wire.SESSION_STATUS_NO_SESSION
    broken = answer.results.add().error
    broken.code, broken.message, broken.reason = 3, "no", errors_pb2.ERROR_REASON_INVALID_REQUEST
    broken.field_violations.add(field="device_id", description="is no text")
    fake.acts.append(answers(answer))
    async with connect(fake.address, timeout=PATIENCE) as client:
        first, second = await client.validate_sessions([("t", "d"), ("t", "d")])
    assert first.status is SessionStatus.NO_SESSION
    assert type(second) is sa.InvalidRequest
    assert second.violations == (sa.FieldViolation("device_id", "is no text"),)


async def test_a_token_is_renewed_and_the_old_token_becomes_a_replay(authority: Any, user: str):
    async def too_young() -> Any:
        """Returns a renewal within the first second, which issues no new token. Returns None if a
        busy machine was too slow for that.
        """
        fresh = await authority.issue_device(f"{user}-2")
        renewal = await authority.renew_session(fresh.access_token, fresh.device.device_id)
        return None if renewal.rotated else renewal

    young = await until(too_young)
    assert young
    assert (young.status, young.active, young.session.generation) == (SessionStatus.ACTIVE, True, 1)
    assert (young.rotated, young.access_token, young.token_expire_time) == (False, None, None)

    issued = await authority.issue_device(user)
    other = await authority.issue_device(user)
    device_id = issued.device.device_id

    async def renewed() -> Any:
        renewal = await authority.renew_session(issued.access_token, device_id, client=PHONE)
        return renewal if renewal.rotated else None

    renewal = await until(renewed)
    assert (renewal.session.user_id, renewal.session.generation, renewal.revoked_devices) == (
        user,
        2,
        0,
    )
    assert renewal.access_token.count(".") == 2
    assert near(renewal.token_expire_time, datetime.now(UTC) + timedelta(hours=1))
    old = await authority.validate_session(issued.access_token, device_id)
    assert (old.active, old.renew_recommended) == (True, True), "the reply may have been lost"
    assert (
        await authority.validate_session(renewal.access_token, device_id)
    ).session.generation == 2

    async def replayed() -> Any:
        found = await authority.validate_session(issued.access_token, device_id)
        return found if found.status is SessionStatus.REPLAYED else None

    found = await until(replayed)
    assert (found.active, found.revoked_devices) == (False, 2)
    gone = await authority.renew_session(other.access_token, other.device.device_id)
    assert not gone
    assert (gone.status, gone.session, gone.access_token) == (SessionStatus.NO_SESSION, None, None)

    events = await events_of(authority, user)
    (replay,) = [event for event in events if event.type is EventType.SESSION_REPLAYED]
    assert (replay.replay_cause, replay.replay_action) == (
        sa.ReplayCause.SUPERSEDED_TOKEN,
        sa.ReplayAction.REVOKE_ALL,
    )
    assert (replay.device_id, replay.session_id) == (device_id, issued.device.session_id)


async def test_the_devices_of_a_user_are_listed_page_by_page(authority: Any, user: str):
    first, second = (
        await authority.issue_device(user, client=LAPTOP),
        await authority.issue_device(user, client=PHONE),
    )
    page = await authority.list_devices(user, current_device_id=first.device.device_id, page_size=1)
    assert (len(page.devices), page.total_size) == (1, 2)
    rest = await authority.list_devices(
        user, current_device_id=first.device.device_id, page_size=1, page_token=page.next_page_token
    )
    assert rest.next_page_token == ""
    assert [device.device_id for device in (*page.devices, *rest.devices)] == [
        second.device.device_id,
        first.device.device_id,
    ]
    assert [device.current for device in (*page.devices, *rest.devices)] == [False, True]

    await authority.revoke_device(user, first.device.device_id)
    assert [device.last_client async for device in authority.devices(user)] == [PHONE]
    everywhere = [device async for device in authority.devices(user, include_signed_out=True)]
    assert {device.device_id: device.signed_in for device in everywhere} == {
        first.device.device_id: False,
        second.device.device_id: True,
    }
    (out,) = [device for device in everywhere if not device.signed_in]
    assert (out.session_id, out.expire_time, out.absolute_expire_time) == ("", None, None)


async def test_the_list_of_all_devices_reads_all_pages(connect: Connect, fake: Fake):
    pages = [wire.ListDevicesResponse(next_page_token=token) for token in ("p2", "p3", "")]
    for number, page in enumerate(pages):
        page.devices.add(device_id=f"d{number}")
    fake.acts.extend(map(answers, pages))
    async with connect(fake.address, timeout=PATIENCE) as client:
        found = [device.device_id async for device in client.devices("ada", current_device_id="d1")]
    assert found == ["d0", "d1", "d2"]
    assert [request.page_token for request in fake.requests()] == ["", "p2", "p3"]
    assert {(request.user_id, request.current_device_id) for request in fake.requests()} == {
        ("ada", "d1")
    }


async def test_a_device_is_renamed(authority: Any, user: str):
    issued = await authority.issue_device(user)
    device = await authority.update_device(
        user, issued.device.device_id, display_name="Sami's phone"
    )
    assert (device.device_id, device.display_name) == (issued.device.device_id, "Sami's phone")
    with pytest.raises(sa.DeviceNotFound):
        await authority.update_device(user, str(uuid4()), display_name="nobody's")


async def test_claims_are_changed(authority: Any, user: str):
    issued = await authority.issue_device(user, claims={"email": "old@example.org"})
    await authority.issue_device(user)
    token, device_id = issued.access_token, issued.device.device_id
    assert await authority.update_session(user, {"email": "new@example.org"}) == 2
    assert await authority.update_session(user, {"name": "Ada"}, device_id=device_id) == 1
    assert (await authority.validate_session(token, device_id)).renew_recommended
    renewal = await authority.renew_session(token, device_id)
    assert renewal.session.claims == {"name": "Ada"}
    found = await authority.validate_session(renewal.access_token, device_id)
    assert found.session.claims == {"name": "Ada"}
    with pytest.raises(sa.SessionNotFound):
        await authority.update_session(user, {}, device_id=str(uuid4()))
    with pytest.raises(sa.InvalidRequest) as refused:
        await authority.update_session(user, {"sub": "eve"})
    assert [violation.field for violation in refused.value.violations] == ["claims.sub"]


async def test_a_user_is_signed_out_on_one_device(authority: Any, user: str):
    issued = await authority.issue_device(user)
    device_id = issued.device.device_id
    assert await authority.revoke_device(user, device_id, reason=REASON) is True
    assert await authority.revoke_device(user, device_id, forget=True) is False
    assert not await authority.validate_session(issued.access_token, device_id)
    assert [device async for device in authority.devices(user, include_signed_out=True)] == []
    assert (await authority.issue_device(user, device_id=device_id)).new_device
    (event,) = await events_of(authority, user, types=[EventType.DEVICE_REVOKED])
    assert (event.reason, event.device_id) == (REASON, device_id)


async def test_a_user_is_signed_out_on_all_other_devices(authority: Any, user: str):
    first, second = await authority.issue_device(user), await authority.issue_device(user)
    assert (
        await authority.revoke_all(user, except_device_id=first.device.device_id, reason=REASON)
        == 1
    )
    assert await authority.validate_session(first.access_token, first.device.device_id)
    assert not await authority.validate_session(second.access_token, second.device.device_id)
    assert await authority.revoke_all(user) == 1
    assert await authority.revoke_all(user) == 0
    assert not await authority.validate_session(first.access_token, first.device.device_id)


async def test_the_signing_keys_include_the_key_of_a_token(authority: Any, user: str):
    issued = await authority.issue_device(user)
    header = issued.access_token.partition(".")[0]
    kid = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    keys = await authority.get_signing_keys()
    (key,) = [key for key in keys.keys if key.key_id == kid]
    assert (key.algorithm, json.loads(key.jwk_json)["kid"]) == ("EdDSA", kid)
    assert kid in {jwk["kid"] for jwk in json.loads(keys.jwks_json)["keys"]}


async def test_a_watch_resumes_at_its_cursor(authority: Any, user: str):
    watch = aiter(authority.watch_events(user_ids=[user]))
    first = await anext(watch)
    assert (first.events, bool(first.cursor)) == ((), True)
    assert near(first.read_time, datetime.now(UTC))
    issued = await authority.issue_device(user, client=PHONE)
    event = (await with_events(watch)).events[0]
    assert (event.type, event.user_id, event.new_device) == (EventType.DEVICE_SIGNED_IN, user, True)
    assert (event.device_id, event.session_id) == (
        issued.device.device_id,
        issued.device.session_id,
    )
    assert (event.client, event.browser, event.form_factor) == (
        PHONE,
        "Safari 17",
        FormFactor.PHONE,
    )
    assert event.create_time == issued.device.sign_in_time
    await watch.aclose()

    await authority.revoke_all(user, reason=REASON)
    await authority.issue_device(user)
    again = authority.watch_events(
        cursor=first.cursor, user_ids=[user], types=[EventType.ALL_REVOKED]
    )
    (event,) = (await with_events(aiter(again))).events
    assert (event.type, event.reason, event.device_id) == (EventType.ALL_REVOKED, REASON, "")
    with pytest.raises(sa.InvalidRequest):
        await anext(aiter(authority.watch_events(cursor="nonsense")))


async def with_events(watch: Any) -> sa.EventBatch:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not (batch := await anext(watch)).events:
            pass
    found: sa.EventBatch = batch
    return found


async def events_of(authority: Any, user: str, types: Any = ()) -> list[sa.Event]:
    """Returns the events of a user in the last hour."""
    since = datetime.now(UTC) - timedelta(hours=1)
    watch = aiter(authority.watch_events(since=since, user_ids=[user], types=types))
    batch = await with_events(watch)
    await watch.aclose()
    return list(batch.events)


async def until(ask: Any) -> Any:
    """Waits until `ask` returns something other than None. Returns it."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while (found := await ask()) is None:  # noqa: ASYNC110 - a condition has no event
            await asyncio.sleep(0.05)
    return found


async def test_sessions_are_checked_by_their_names(authority: Any, user: str):
    issued = await authority.issue_device(user)
    device = issued.device
    mine = sa.SessionName(user, device.device_id, device.session_id)
    another = sa.SessionName(user, device.device_id, "0" * 32)
    nobody = sa.SessionName(f"{user}-2", device.device_id, device.session_id)
    found = await authority.check_sessions([mine, another, nobody])
    assert [state.status for state in found] == [
        SessionStatus.ACTIVE,
        SessionStatus.SESSION_ENDED,
        SessionStatus.NO_SESSION,
    ]
    assert [bool(state) for state in found] == [True, False, False]
    assert found[0].absolute_expire_time == device.absolute_expire_time
    assert found[1].expire_time is None
    await authority.revoke_device(user, device.device_id)
    (gone,) = await authority.check_sessions([mine])
    assert gone.status is SessionStatus.NO_SESSION
    (broken,) = await authority.check_sessions([sa.SessionName(user, "laptop", "x")])
    assert type(broken) is sa.InvalidRequest
    with pytest.raises(TypeError):
        await authority.check_sessions([("ada", "d", "s")])

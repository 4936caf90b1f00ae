"""The fake service, called by the client: an app's tests must see what production does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import uuid4

import pytest

from session_authority_client import (
    ClientInfo,
    CursorExpired,
    DeviceLimitReached,
    DeviceNotFound,
    Durability,
    EventType,
    InvalidRequest,
    NotReplicated,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthority,
    SessionName,
    SessionState,
    SessionStatus,
    Unavailable,
)
from session_authority_client._shared.transport import SERVICE
from session_authority_client.testing import FakeAuthority
from session_authority_client.wire import session_authority_pb2 as pb

PATIENCE = timedelta(seconds=20)


@pytest.fixture
def client(authority: FakeAuthority) -> Iterator[SessionAuthority]:
    with authority.client(timeout=PATIENCE) as client:
        yield client


def sign_in(client: SessionAuthority, user_id: str = "ada", **more: Any) -> tuple[str, str]:
    issued = client.issue_device(user_id, **more)
    return issued.access_token, issued.device.device_id


def test_the_fake_has_every_method_of_the_contract(authority: FakeAuthority):
    contract = pb.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]]
    assert set(authority._service.handlers()) == {method.name for method in contract.methods}


def test_a_sign_in_is_active_until_it_is_revoked(
    authority: FakeAuthority, client: SessionAuthority
):
    issued = client.issue_device("ada", claims={"email": "a@example.org"}, auth_methods=["pwd"])
    assert issued.device_id_assigned
    assert issued.new_device
    found = client.validate_session(issued.access_token, issued.device.device_id)
    assert found
    assert found.session is not None
    assert (found.session.user_id, dict(found.session.claims)) == (
        "ada",
        {"email": "a@example.org"},
    )
    assert found.session.auth_methods == ("pwd",)
    assert not found.renew_recommended
    assert client.revoke_device("ada", issued.device.device_id)
    assert (
        client.validate_session(issued.access_token, issued.device.device_id).status
        is SessionStatus.NO_SESSION
    )
    assert authority.calls["ValidateSession"] == 2


def test_a_repeated_request_id_signs_in_once(client: SessionAuthority):
    request_id = str(uuid4())
    first, second = (client.issue_device("ada", request_id=request_id) for _ in range(2))
    assert first == second


def test_a_missing_or_invalid_token_or_device_is_reported(client: SessionAuthority):
    token, device = sign_in(client)
    assert client.validate_session("", device).status is SessionStatus.TOKEN_MISSING
    assert client.validate_session("nonsense", device).status is SessionStatus.TOKEN_INVALID
    lost = client.validate_session(token, "")
    assert (lost.status, lost.device_id_assigned) == (SessionStatus.NO_SESSION, True)


def test_an_expired_token_is_renewed_once_and_retries_get_copies(
    authority: FakeAuthority, client: SessionAuthority
):
    token, device = sign_in(client)
    assert client.renew_session(token, device).access_token is None  # too young
    authority.expire_tokens()
    assert client.validate_session(token, device).status is SessionStatus.TOKEN_EXPIRED
    renewals = [client.renew_session(token, device) for _ in range(3)]
    assert all(renewal.access_token for renewal in renewals)
    assert {renewal.session.generation for renewal in renewals if renewal.session} == {2}
    assert authority.rotations == 1
    authority.pass_time(timedelta(minutes=3))
    assert client.validate_session(renewals[2].access_token or "", device)
    late = client.renew_session(token, device)
    assert (late.active, late.access_token) == (True, None)


def test_an_aged_token_is_active_and_its_renewal_is_recommended(
    authority: FakeAuthority, client: SessionAuthority
):
    token, device = sign_in(client)
    authority.age_tokens()
    assert client.validate_session(token, device).renew_recommended
    assert client.renew_session(token, device).rotated


def test_a_token_that_is_two_generations_old_is_a_replay(
    authority: FakeAuthority, client: SessionAuthority
):
    first, device = sign_in(client)
    token = first
    for _ in range(2):
        authority.age_tokens()
        token = client.renew_session(token, device).access_token or ""
        assert client.validate_session(token, device)
    replayed = client.validate_session(first, device)
    assert (replayed.status, replayed.revoked_devices) == (SessionStatus.REPLAYED, 1)
    assert client.validate_session(token, device).status is SessionStatus.NO_SESSION


def test_a_test_can_turn_tokens_into_replays(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    sign_in(client)
    authority.replay_tokens()
    assert client.validate_session(token, device).revoked_devices == 2
    assert client.validate_session(token, str(uuid4())).status is SessionStatus.NO_SESSION


def test_a_token_on_another_device_is_a_replay(client: SessionAuthority):
    token, _ = sign_in(client)
    assert client.validate_session(token, str(uuid4())).status is SessionStatus.REPLAYED


def test_a_session_expires_if_it_is_not_used(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    authority.pass_time(timedelta(days=30))
    assert list(client.devices("ada")) == []
    assert client.renew_session(token, device).status is SessionStatus.SESSION_EXPIRED
    assert not client.revoke_device("ada", device)
    assert client.renew_session(token, device).status is SessionStatus.NO_SESSION


def test_each_method_gives_the_end_of_a_session_by_the_same_clock(
    authority: FakeAuthority, client: SessionAuthority
):
    given = sign_in(client)
    authority.pass_time(timedelta(hours=1))
    session = client.validate_session(*given).session
    assert session is not None
    name = SessionName(session.user_id, session.device_id, session.session_id)
    [state] = client.check_sessions([name])
    assert isinstance(state, SessionState)
    assert state.expire_time == session.expire_time
    assert state.absolute_expire_time == session.absolute_expire_time


def test_observing_a_replay_changes_nothing(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    authority.replay_tokens()
    assert (
        client.validate_session(token, device, observe_only=True).status is SessionStatus.REPLAYED
    )
    assert [found.signed_in for found in client.devices("ada")] == [True]


def test_several_sessions_are_validated_in_one_call(client: SessionAuthority):
    pair = sign_in(client)
    good, bad = client.validate_sessions([pair, ("nonsense", pair[1])])
    assert good
    assert not bad


def test_devices_are_listed_named_and_forgotten(client: SessionAuthority):
    for number in range(3):
        client.issue_device("ada", client=ClientInfo(display_name=f"Phone {number}"))
    _, here = sign_in(client)
    assert [d.current for d in client.devices("ada", current_device_id=here)] == [
        True,
        False,
        False,
        False,
    ]
    page = client.list_devices("ada", page_size=3)
    assert (page.total_size, len(page.devices)) == (4, 3)
    assert [
        d.display_name for d in client.list_devices("ada", page_token=page.next_page_token).devices
    ] == ["Phone 0"]
    assert client.update_device("ada", here, display_name="Mine").display_name == "Mine"
    assert client.revoke_all("ada", except_device_id=here) == 3
    assert [device.display_name for device in client.devices("ada")] == ["Mine"]
    assert len(list(client.devices("ada", include_signed_out=True))) == 4
    assert client.revoke_all("ada", forget=True) == 1
    assert list(client.devices("ada", include_signed_out=True)) == []
    assert not client.revoke_device("ada", here)


def test_the_fake_raises_the_errors_of_the_service(
    authority: FakeAuthority, client: SessionAuthority
):
    with pytest.raises(DeviceNotFound):
        client.update_device("ada", str(uuid4()), display_name="x")
    request_id = str(uuid4())
    token, device = sign_in(client, request_id=request_id)
    with pytest.raises(RequestIdReused):
        sign_in(client, "bob", request_id=request_id)
    authority.pass_time(timedelta(minutes=3))
    assert client.validate_session(token, device)
    with pytest.raises(RequestIdSpent):
        sign_in(client, request_id=request_id)
    assert client.get_signing_keys().keys == ()


def test_a_sign_in_retried_from_another_network_is_the_same(client: SessionAuthority):
    request_id = str(uuid4())
    first, again = [
        client.issue_device("ada", request_id=request_id, client=ClientInfo(ip_address=address))
        for address in ("203.0.113.7", "2001:db8::7")
    ]
    assert again.device.session_id == first.device.session_id


def test_a_test_can_limit_the_devices_of_a_user(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    with authority.device_limit(1):
        with pytest.raises(DeviceLimitReached):
            sign_in(client)
        sign_in(client, "bob")
        token, _ = sign_in(client, device_id=device)  # a sign-in on the same device adds no device
        client.revoke_device("ada", device)
        sign_in(client)
    sign_in(client)
    assert client.validate_session(token, device).status is SessionStatus.NO_SESSION


def test_a_test_can_sign_users_in_and_out(authority: FakeAuthority, client: SessionAuthority):
    headers = authority.sign_in("ada", claims={"plan": "pro"}, auth_methods=["pwd"])
    token, device = headers["Authorization"].removeprefix("Bearer "), headers["X-Device-Id"]
    found = client.validate_session(token, device)
    assert found.session is not None
    assert (found.session.user_id, found.session.claims, found.session.auth_methods) == (
        "ada",
        {"plan": "pro"},
        ("pwd",),
    )
    assert authority.sign_in("ada") != headers
    assert authority.sign_out("ada") == 2
    assert client.validate_session(token, device).status is SessionStatus.NO_SESSION
    with pytest.raises(InvalidRequest):
        authority.sign_in("a ")


def test_sign_ins_can_be_as_old_as_a_test_wants(authority: FakeAuthority, client: SessionAuthority):
    """The age counts by the clock of the app, which no test moves."""
    old, passed = timedelta(days=2), timedelta(minutes=10)
    headers = authority.sign_in("ada", age=old)
    token, device = headers["Authorization"].removeprefix("Bearer "), headers["X-Device-Id"]
    before = client.validate_session(token, device).session
    assert before is not None
    assert abs(datetime.now(UTC) - old - before.sign_in_time) < PATIENCE
    authority.pass_time(passed)
    after = client.validate_session(token, device).session
    assert after is not None
    assert before.sign_in_time - after.sign_in_time == passed
    assert before.token_expire_time - after.token_expire_time == passed
    assert before.expire_time - after.expire_time == passed
    (listed,) = client.devices("ada")
    assert (listed.sign_in_time, listed.create_time) == (after.sign_in_time, after.sign_in_time)
    fresh = client.issue_device("ada", device_id=device).device.sign_in_time
    assert fresh is not None
    assert abs(datetime.now(UTC) - fresh) < PATIENCE


def test_a_reset_forgets_everything(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    watch: Any = client.watch_events()
    next(watch)
    authority.pass_time(timedelta(hours=2))
    authority.reset()
    assert authority.calls == {}
    with pytest.raises(CursorExpired):
        deque(islice(watch, 10), 0)  # messages without events may come first
    assert client.validate_session(token, device).status is SessionStatus.TOKEN_INVALID
    assert client.issue_device("ada").token_expire_time < datetime.now(UTC) + timedelta(minutes=61)
    assert len(list(client.devices("ada"))) == 1


def test_the_fake_can_be_unavailable_or_slow(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    with authority.unavailable(), pytest.raises(Unavailable) as away:
        client.validate_session(token, device)
    assert (away.value.reason, away.value.retry_after) == (
        "STORE_UNAVAILABLE",
        timedelta(seconds=1),
    )
    with authority.slow(timedelta(seconds=1)), pytest.raises(Unavailable):
        client.validate_session(token, device, timeout=timedelta(milliseconds=50))
    assert client.validate_session(token, device)


def test_the_fake_can_restart_at_the_same_address(
    authority: FakeAuthority, client: SessionAuthority
):
    token, device = sign_in(client)
    address = authority.address
    authority.stop()
    with pytest.raises(Unavailable):
        client.validate_session(token, device, timeout=timedelta(milliseconds=200))
    authority.start()
    assert authority.address == address
    with authority.client(timeout=PATIENCE) as another:
        assert another.validate_session(token, device)


def test_a_watch_reports_events_and_resumes_at_a_cursor(client: SessionAuthority):
    watch: Any = client.watch_events()
    start = next(watch).cursor
    _, device = sign_in(client)
    client.revoke_device("ada", device, reason="lost")
    first = next(watch).events[0]
    watch.close()
    assert (first.type, first.device_id) == (EventType.DEVICE_SIGNED_IN, device)
    resumed: Any = client.watch_events(
        cursor=start, types=[EventType.DEVICE_REVOKED], user_ids=["ada"]
    )
    next(resumed)
    assert [event.reason for event in next(resumed).events] == ["lost"]
    assert next(resumed).read_time is not None
    resumed.close()
    with pytest.raises(CursorExpired):
        next(client.watch_events(cursor="nonsense"))


@pytest.mark.parametrize("user_id", ["", "a b ", "a\n", "a" * 256, "\u3164", "a\u034f", "\u0301"])
@pytest.mark.parametrize("name", ["Mine", "  Mine ", "a" * 101, "a\n\0b", "👩\u200d🚀"])
def test_the_fake_checks_names_as_the_service_does(
    client: SessionAuthority, address: str, user_id: str, name: str
):
    with SessionAuthority(address, timeout=PATIENCE) as service:
        mine, theirs = names_tried(client, user_id, name), names_tried(service, user_id, name)
    assert mine == theirs


def names_tried(client: SessionAuthority, user_id: str, name: str) -> Sequence[object]:
    """The results of calls with good and bad names: the names that are stored, or the rules that
    they break.
    """
    user = str(uuid4())
    _, device = sign_in(client, user)
    told: list[object] = []
    with pytest.raises(InvalidRequest) as refused:
        client.issue_device(user_id)
    told.append((str(refused.value), refused.value.violations))
    for known, where in (
        (user_id, device),
        (user, "nonsense"),
        (user_id, "nonsense"),
        (user, device),
    ):
        try:
            told.append(client.update_device(known, where, display_name=name).display_name)
        except InvalidRequest as error:
            told.append((str(error), error.violations))
    for method in (client.revoke_all, client.list_devices):
        with pytest.raises(InvalidRequest) as refused:
            method(user_id)
        told.append(refused.value.violations)
    return told


async def test_the_fake_has_a_client_for_asyncio(authority: FakeAuthority):
    async with authority.async_client(timeout=PATIENCE) as client:
        issued = await client.issue_device("ada")
        assert await client.validate_session(issued.access_token, issued.device.device_id)


def test_a_change_reports_whether_replicas_have_it(
    authority: FakeAuthority, client: SessionAuthority
):
    assert client.issue_device("ada").durability is Durability.LOCAL
    with authority.replicas():
        assert client.issue_device("ada", require_replicated=True).durability is (
            Durability.REPLICATED
        )
    request_id = str(uuid4())
    with authority.replicas(confirm=False), pytest.raises(NotReplicated) as refused:
        client.issue_device("bob", request_id=request_id, require_replicated=True)
    assert refused.value.reason == "NOT_REPLICATED"
    assert client.list_devices("bob").total_size == 1
    with authority.replicas():
        client.issue_device("bob", request_id=request_id, require_replicated=True)
        assert client.list_devices("bob").total_size == 1
        assert client.revoke_all("bob", require_replicated=True) == 1


def test_a_change_that_requires_replicas_is_refused_if_the_service_waits_for_none(
    client: SessionAuthority,
):
    with pytest.raises(InvalidRequest) as refused:
        client.revoke_device("ada", str(uuid4()), require_replicated=True)
    [violation] = refused.value.violations
    assert (violation.field, violation.description) == (
        "require_replicated",
        "this service waits for no replicas (its setting REPLICAS_ACK is 0)",
    )

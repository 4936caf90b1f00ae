"""The double of the service, through the client: an app's tests must see what production does."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_authority.domain.policy import Policy
from session_authority.processes.options import Mode
from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from session_authority_client import (
    AsyncSessionAuthority,
    ClientInfo,
    CursorExpired,
    DeviceLimitReached,
    DeviceNotFound,
    EventType,
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthority,
    SessionStatus,
    Unavailable,
)
from session_authority_client.testing import FakeAuthority
from session_authority_client.transport import SERVICE
from session_authority_client.wire import session_authority_pb2 as pb
from tests.rpc.harness import START, Stage
from tests.support.backends import fake_redis

PATIENCE = timedelta(seconds=20)


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def client(authority: FakeAuthority) -> Iterator[SessionAuthority]:
    with authority.client(timeout=PATIENCE) as client:
        yield client


def sign_in(client: SessionAuthority, user_id: str = "ada", **more: Any) -> tuple[str, str]:
    issued = client.issue_device(user_id, **more)
    return issued.access_token, issued.device.device_id


def test_it_has_every_method_of_the_contract(authority: FakeAuthority):
    contract = pb.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]]
    assert set(authority._handlers()) == {method.name for method in contract.methods}


def test_a_sign_in_is_good_until_it_is_revoked(authority: FakeAuthority, client: SessionAuthority):
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


def test_what_is_no_token_is_told(client: SessionAuthority):
    token, device = sign_in(client)
    assert client.validate_session("", device).status is SessionStatus.TOKEN_MISSING
    assert client.validate_session("nonsense", device).status is SessionStatus.TOKEN_INVALID
    lost = client.validate_session(token, "")
    assert (lost.status, lost.device_id_assigned) == (SessionStatus.NO_SESSION, True)


def test_an_expired_token_renews_and_its_retries_get_copies(
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
    assert client.validate_session(renewals[2].access_token or "", device)
    late = client.renew_session(token, device)
    assert (late.active, late.access_token) == (True, None)


def test_aged_tokens_are_good_and_better_renewed(
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


def test_replays_can_be_had_at_will(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    sign_in(client)
    authority.replay_tokens()
    assert client.validate_session(token, device).revoked_devices == 2
    assert client.validate_session(token, str(uuid4())).status is SessionStatus.NO_SESSION


def test_a_token_that_left_its_device_is_a_replay(client: SessionAuthority):
    token, _ = sign_in(client)
    assert client.validate_session(token, str(uuid4())).status is SessionStatus.REPLAYED


def test_sessions_end(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    authority.pass_time(timedelta(days=30))
    assert list(client.devices("ada")) == []
    assert client.renew_session(token, device).status is SessionStatus.SESSION_EXPIRED
    assert not client.revoke_device("ada", device)
    assert client.renew_session(token, device).status is SessionStatus.NO_SESSION


def test_observing_changes_nothing(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    authority.replay_tokens()
    assert (
        client.validate_session(token, device, observe_only=True).status is SessionStatus.REPLAYED
    )
    assert [found.signed_in for found in client.devices("ada")] == [True]


def test_many_are_judged_at_once(client: SessionAuthority):
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


def test_errors_are_those_of_the_service(client: SessionAuthority):
    with pytest.raises(DeviceNotFound):
        client.update_device("ada", str(uuid4()), display_name="x")
    request_id = str(uuid4())
    token, device = sign_in(client, request_id=request_id)
    with pytest.raises(RequestIdReused):
        sign_in(client, "bob", request_id=request_id)
    assert client.validate_session(token, device)
    with pytest.raises(RequestIdSpent):
        sign_in(client, request_id=request_id)
    assert client.get_signing_keys().keys == ()


def test_it_can_have_a_limit(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    with authority.device_limit(1):
        with pytest.raises(DeviceLimitReached):
            sign_in(client)
        sign_in(client, "bob")
        token, _ = sign_in(client, device_id=device)  # that is no other device
        client.revoke_device("ada", device)
        sign_in(client)
    sign_in(client)
    assert client.validate_session(token, device).status is SessionStatus.NO_SESSION


def test_it_signs_in_for_tests_and_out_as_from_elsewhere(
    authority: FakeAuthority, client: SessionAuthority
):
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
        authority.sign_in("a b")


def test_it_can_forget_everything(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    watch: Any = client.watch_events()
    next(watch)
    authority.pass_time(timedelta(hours=2))
    authority.reset()
    assert authority.calls == {}
    with pytest.raises(CursorExpired):
        deque(islice(watch, 10), 0)  # proofs of life may be on their way
    assert client.validate_session(token, device).status is SessionStatus.TOKEN_INVALID
    assert client.issue_device("ada").token_expire_time < datetime.now(UTC) + timedelta(minutes=61)
    assert len(list(client.devices("ada"))) == 1


def test_it_can_be_away_and_slow(authority: FakeAuthority, client: SessionAuthority):
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


def test_it_can_restart_where_it_was(authority: FakeAuthority, client: SessionAuthority):
    token, device = sign_in(client)
    address = authority.address
    authority.stop()
    with pytest.raises(Unavailable):
        client.validate_session(token, device, timeout=timedelta(milliseconds=200))
    authority.start()
    assert authority.address == address
    with authority.client(timeout=PATIENCE) as another:
        assert another.validate_session(token, device)


def test_what_happens_is_told(client: SessionAuthority):
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


# --- beside the service itself --------------------------------------------------------------------


@dataclass
class World:
    """An authority whose time a test makes pass."""

    client: AsyncSessionAuthority
    passes: Callable[[timedelta], None]
    settled: Callable[[], Awaitable[None]]

    async def signs_in(self, device: str = "", **more: Any) -> tuple[str, str]:
        """A token, and its device."""
        issued = await self.client.issue_device("ada", device_id=device, **more)
        return issued.access_token, issued.device.device_id

    async def finds(self, token: str, device: str) -> str:
        """The verdict, in short."""
        found = await self.client.validate_session(token, device)
        await self.settled()
        more = [f"revoked {found.revoked_devices}"] if found.revoked_devices else []
        return " ".join([found.status.name, *(["renew"] if found.renew_recommended else []), *more])

    async def renews(self, token: str, device: str) -> str:
        """The next token. Empty if there is none."""
        renewal = await self.client.renew_session(token, device)
        await self.settled()
        assert renewal.active == (renewal.session is not None)
        return renewal.access_token or ""

    async def goes_on(self, token: str, device: str) -> str:
        """The next token, after the old one has been in use for long enough."""
        assert "ACTIVE" in await self.finds(token, device)
        self.passes(6 * MINUTE)
        successor = await self.renews(token, device)
        assert successor
        return successor


Row = Callable[[World], Awaitable[Sequence[str]]]
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ROWS: dict[Row, Sequence[str]] = {}


def row(*verdicts: str) -> Callable[[Row], Row]:
    """Something that leads to these verdicts."""

    def add(history: Row) -> Row:
        ROWS[history] = verdicts
        return history

    return add


@row("TOKEN_MISSING", "TOKEN_INVALID")
async def no_token(world: World) -> Sequence[str]:
    _, device = await world.signs_in()
    return [await world.finds(token, device) for token in ("", "nonsense")]


@row("ACTIVE", "ACTIVE renew", "ACTIVE renew", "TOKEN_EXPIRED")
async def a_token_ages(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    found = [await world.finds(token, device)]
    for step in (31 * MINUTE, 29 * MINUTE, MINUTE):  # a leeway of 30 seconds
        world.passes(step)
        found.append(await world.finds(token, device))
    return found


@row("NO_SESSION", "NO_SESSION", "NO_SESSION")
async def nothing_there(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    found = [await world.finds(token, sent) for sent in ("", "nonsense")]
    await world.client.revoke_device("ada", device)
    return [*found, await world.finds(token, device)]


@row("SESSION_EXPIRED")
async def its_absolute_end(world: World) -> Sequence[str]:
    token, device = await world.signs_in(session_ttl=5 * MINUTE)
    world.passes(5 * MINUTE)
    return [await world.finds(token, device)]


@row("REPLAYED revoked 2", "NO_SESSION")
async def a_live_token_left_its_device(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    _, other = await world.signs_in()
    return [await world.finds(token, other), await world.finds(token, device)]


@row("WRONG_DEVICE", "SUPERSEDED", "ACTIVE")
async def a_dead_token_left_its_device(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    current, _ = await world.signs_in(device)
    found = [await world.finds(token, str(uuid4())), await world.finds(token, device)]
    return [*found, await world.finds(current, device)]


@row(
    "ACTIVE renew",
    "ACTIVE",
    "ACTIVE renew",
    "SUPERSEDED",
    "SUPERSEDED",
    "ACTIVE",
    "REPLAYED revoked 1",
)
async def a_token_is_superseded_once_the_next_is_seen(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    token = await world.goes_on(old, device)
    found = [await world.finds(old, device), await world.finds(token, device)]
    for step in (29 * SECOND, SECOND, 4 * MINUTE):
        world.passes(step)
        found.append(await world.finds(old, device))
    found.append(await world.finds(token, device))
    world.passes(31 * SECOND)
    return [*found, await world.finds(old, device)]


@row("ACTIVE", "REPLAYED revoked 1")
async def two_generations_ago(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    token = await world.goes_on(await world.goes_on(old, device), device)
    return [await world.finds(token, device), await world.finds(old, device)]


@row("ACTIVE", "ACTIVE", "ACTIVE", "REPLAYED revoked 1")
async def two_hold_one_generation(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    other = await world.renews(old, device)
    found = [await world.finds(one, device), await world.finds(other, device)]
    world.passes(5 * MINUTE)
    return [*found, await world.finds(one, device), await world.finds(other, device)]


@row("ACTIVE", "ACTIVE")
async def a_copy_that_was_late(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    world.passes(6 * MINUTE)
    other = await world.renews(old, device)
    return [await world.finds(other, device), await world.finds(one, device)]


@row("REPLAYED revoked 1")
async def another_copy_of_the_one_that_moved_on(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    one, other = await world.goes_on(old, device), await world.renews(old, device)
    await world.goes_on(one, device)
    return [await world.finds(other, device)]


@row("renewed", "not renewed", "renewed again", "not renewed", "ACTIVE")
async def what_renewing_brings(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    assert not await world.renews(old, device)  # too young
    one = await world.goes_on(old, device)
    told = ["renewed", "renewed" if await world.renews(one, device) else "not renewed"]
    # Presented for renewal, it was seen: the old one gets no more copies.
    again = await world.renews(await world.goes_on(one, device), device)
    assert not again
    await world.client.revoke_all("ada")
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    world.passes(31 * SECOND)
    one = await world.renews(old, device)
    told.append("renewed again" if one else "")
    verdict = await world.finds(one, device)
    return [*told, "not renewed" if not await world.renews(old, device) else "", verdict]


@row("SUPERSEDED", "ACTIVE", "SUPERSEDED", "REPLAYED revoked 1")
async def the_session_that_this_one_replaced(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    world.passes(6 * MINUTE)
    token, _ = await world.signs_in(device)
    found = [await world.finds(old, device), await world.finds(token, device)]
    world.passes(4 * MINUTE)
    found.append(await world.finds(old, device))
    world.passes(MINUTE)
    return [*found, await world.finds(old, device)]


@row("SUPERSEDED", "SUPERSEDED")
async def a_token_that_crossed_the_sign_in(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    world.passes(4 * MINUTE)
    token, _ = await world.signs_in(device)
    await world.finds(token, device)
    found = [await world.finds(old, device)]
    world.passes(20 * MINUTE)
    return [*found, await world.finds(old, device)]


@row("SESSION_ENDED", "ACTIVE")
async def any_other_session(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    await world.client.revoke_device("ada", device)
    token, _ = await world.signs_in(device)
    return [await world.finds(old, device), await world.finds(token, device)]


@pytest.fixture(params=["double", "service"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:

        async def at(address: str) -> AsyncSessionAuthority:
            return await stack.enter_async_context(AsyncSessionAuthority(address, timeout=PATIENCE))

        if request.param == "double":
            fake = stack.enter_context(FakeAuthority())
            yield World(await at(fake.address), fake.pass_time, _at_once)
        else:
            key = generate(Algorithm.EDDSA, START)
            add_key(tmp_path / "keys", key)
            promote(tmp_path / "keys", key.kid, START - timedelta(days=1))
            keys = KeySource(tmp_path / "keys")
            store = stack.enter_context(fake_redis(tmp_path))
            stage = Stage(store, "t", keys, Policy(), Mode(reflection=False))
            await stack.enter_async_context(stage.open())
            yield World(await at(str(stage.address)), stage.clock.advance, stage.authority.settled)


async def _at_once() -> None:
    pass


@pytest.mark.parametrize("history", ROWS, ids=lambda history: history.__name__)
async def test_it_judges_as_the_service_does(world: World, history: Row):
    assert await history(world) == list(ROWS[history])


def test_every_verdict_is_compared():
    told = {verdict.partition(" ")[0] for verdicts in ROWS.values() for verdict in verdicts}
    assert told >= {status.name for status in SessionStatus} - {"UNSPECIFIED"}


@pytest.mark.parametrize("user_id", ["", "a b", "a\n", "a" * 129, "a\u200b"])
@pytest.mark.parametrize("name", ["Mine", "  Mine ", "a" * 101, "a\n\0b", "👩\u200d🚀"])
def test_it_minds_names_as_the_service_does(
    client: SessionAuthority, address: str, user_id: str, name: str
):
    with SessionAuthority(address, timeout=PATIENCE) as service:
        mine, theirs = names_tried(client, user_id, name), names_tried(service, user_id, name)
    assert mine == theirs


def names_tried(client: SessionAuthority, user_id: str, name: str) -> Sequence[object]:
    """What becomes of names, good and bad ones: what they are from then on, or which rules they
    break.
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


async def test_asyncio_has_a_client_too(authority: FakeAuthority):
    async with authority.async_client(timeout=PATIENCE) as client:
        issued = await client.issue_device("ada")
        assert await client.validate_session(issued.access_token, issued.device.device_id)

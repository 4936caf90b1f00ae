"""The fake gives the verdicts of the service: both live through the same histories."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.processes.options import Mode
from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from session_authority_client import (
    AsyncSessionAuthority,
    ClientInfo,
    Place,
    SessionNotFound,
    SessionStatus,
)
from session_authority_client.testing import FakeAuthority
from tests.rpc.harness import START, Stage
from tests.support.backends import fake_redis

PATIENCE = timedelta(seconds=20)


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

    async def finds(self, token: str, device: str, **asked: Any) -> str:
        """The verdict, in short."""
        found = await self.client.validate_session(token, device, **asked)
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
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
ROWS: dict[Row, Sequence[str]] = {}
LISTS: dict[Row, Sequence[str]] = {}


def row(*verdicts: str, among: dict[Row, Sequence[str]] = ROWS) -> Callable[[Row], Row]:
    """Something that leads to these verdicts."""

    def add(history: Row) -> Row:
        among[history] = verdicts
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


@row("ACTIVE", "ACTIVE", "ACTIVE", "NO_SESSION")
async def a_device_id_in_other_spellings(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    bare = device.replace("-", "")
    spelled = (f"{{{device.upper()}}}", f" URN:UUID:{device}", bare, "0" * 32)
    return [await world.finds(token, each) for each in spelled]


@row("ACTIVE", "ACTIVE", "SESSION_EXPIRED")
async def an_idle_end_of_its_own(world: World) -> Sequence[str]:
    token, device = await world.signs_in(idle_timeout=10 * MINUTE)
    found = []
    for step in (9 * MINUTE, 9 * MINUTE, 10 * MINUTE):
        world.passes(step)
        found.append(await world.finds(token, device))
    return found


@row("ACTIVE", "ACTIVE", "SESSION_EXPIRED")
async def a_page_that_asks_by_itself_does_not_count(world: World) -> Sequence[str]:
    token, device = await world.signs_in(idle_timeout=10 * MINUTE)
    found = []
    for step in (4 * MINUTE, 5 * MINUTE, MINUTE):
        world.passes(step)
        found.append(await world.finds(token, device, passive=True))
    return found


@row("ACTIVE", "renewed", "SESSION_EXPIRED")
async def a_renewal_of_such_a_page_does_not_count(world: World) -> Sequence[str]:
    token, device = await world.signs_in(idle_timeout=10 * MINUTE)
    world.passes(6 * MINUTE)
    found = [await world.finds(token, device, passive=True)]
    renewal = await world.client.renew_session(token, device, passive=True)
    found.append("renewed" if renewal.access_token else "")
    world.passes(4 * MINUTE)
    return [*found, await world.finds(renewal.access_token or "", device)]


@row("REPLAYED revoked 1")
async def a_replay_by_such_a_page_is_one(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    await world.goes_on(await world.goes_on(old, device), device)
    return [await world.finds(old, device, passive=True)]


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
    found = [await world.finds(old, device)]
    world.passes(3 * MINUTE)
    found.append(await world.finds(token, device))
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
    # Presented too early for the next one.
    again = await world.renews(await world.goes_on(one, device), device)
    assert not again
    await world.client.revoke_all("ada")
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    world.passes(31 * SECOND)
    one = await world.renews(old, device)
    told.append("renewed again" if one else "")
    world.passes(3 * MINUTE)
    verdict = await world.finds(one, device)
    return [*told, "not renewed" if not await world.renews(old, device) else "", verdict]


@row("SUPERSEDED", "ACTIVE", "SUPERSEDED", "REPLAYED revoked 1")
async def the_session_that_this_one_replaced(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    world.passes(6 * MINUTE)
    token, _ = await world.signs_in(device)
    world.passes(3 * MINUTE)
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
    world.passes(3 * MINUTE)
    await world.finds(token, device)
    found = [await world.finds(old, device)]
    world.passes(20 * MINUTE)
    return [*found, await world.finds(old, device)]


@row("ACTIVE", "ACTIVE renew", "renewed again")
async def a_store_that_went_back(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    token = await world.goes_on(old, device)
    world.passes(3 * MINUTE - SECOND)
    found = [await world.finds(token, device)]
    world.passes(10 * MINUTE)
    found.append(await world.finds(old, device))
    return [*found, "renewed again" if await world.renews(old, device) else ""]


@row("WRONG_DEVICE", "WRONG_DEVICE", "ACTIVE")
async def a_device_id_that_was_assigned(world: World) -> Sequence[str]:
    token, device = await world.signs_in()
    assigned = [(await world.client.validate_session(sent, "")).device_id for sent in (token, "")]
    found = [await world.finds(token, one) for one in assigned]
    return [*found, await world.finds(token, device)]


@row("WRONG_DEVICE", "ACTIVE")
async def one_of_a_replaced_session_left_its_device(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    world.passes(6 * MINUTE)
    token, _ = await world.signs_in(device)
    world.passes(3 * MINUTE)
    await world.finds(token, device)
    world.passes(5 * MINUTE)
    return [await world.finds(old, str(uuid4())), await world.finds(token, device)]


@row("SESSION_ENDED", "ACTIVE")
async def any_other_session(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    await world.client.revoke_device("ada", device)
    token, _ = await world.signs_in(device)
    return [await world.finds(old, device), await world.finds(token, device)]


async def _renewed(world: World, token: str, device: str) -> tuple[str, str]:
    """The token after a renewal, and what its session's e-mail address is, with the generation."""
    renewal = await world.client.renew_session(token, device)
    assert renewal.session is not None
    said = f"{renewal.session.claims.get('email', 'none')} {renewal.session.generation}"
    return renewal.access_token or token, said


OLD, NEW = {"email": "old", "name": "Ada"}, {"email": "new"}


@row("ACTIVE", "ACTIVE renew", "new 1", "ACTIVE renew", "new 1", "ACTIVE", "ACTIVE", "new 2")
async def claims_that_change(world: World) -> Sequence[str]:
    old, device = await world.signs_in(claims=OLD)
    found = [await world.finds(old, device)]
    assert await world.client.update_session("ada", NEW) == 1
    found.append(await world.finds(old, device))
    token = old
    for _ in range(2):  # the second renewal proves that the first one arrived
        token, told = await _renewed(world, token, device)
        found += [told, await world.finds(token, device)]
    found.append(await world.finds(old, device))  # it is the same token
    world.passes(5 * MINUTE)
    return [*found, (await _renewed(world, old, device))[1]]


@row("new 2", "ACTIVE renew", "new 2", "new 2", "ACTIVE")
async def claims_that_change_between_two_generations(world: World) -> Sequence[str]:
    old, device = await world.signs_in(claims=OLD)
    token = await world.goes_on(old, device)
    await world.client.update_session("ada", NEW)
    newer, told = await _renewed(world, token, device)
    found = [told, await world.finds(old, device)]
    copy, told = await _renewed(world, old, device)
    found.append(told)
    assert len({old, token, newer, copy}) == 4
    found.append((await _renewed(world, copy, device))[1])
    world.passes(3 * MINUTE)
    return [*found, await world.finds(newer, device)]


@row("2", "1", "2", "SESSION_NOT_FOUND", "0", "SESSION_UPDATED ada", "SESSION_UPDATED ada here")
async def whose_claims_change(world: World) -> Sequence[str]:
    _, here = await world.signs_in(claims=NEW)
    token, there = await world.signs_in(claims=OLD)
    change = world.client.update_session
    since = (await anext(world.client.watch_events())).cursor
    counts = [await change("ada", OLD), await change("ada", NEW, device_id=here)]
    for _ in range(2):  # nothing is told of what changes nothing
        await change("ada", NEW, device_id=here)
    counts.append(await change("ada", OLD, device_id=there))
    assert (await world.client.renew_session(token, there)).access_token is None
    found = [str(count) for count in counts[:2]]
    found.append(str(await change("ada", OLD)))
    with pytest.raises(SessionNotFound) as refused:
        await change("ada", OLD, device_id=str(uuid4()))
    found += [refused.value.reason, str(await change("bob", OLD))]
    async for batch in world.client.watch_events(cursor=since):
        for event in batch.events[:2]:
            place = ["here"] if event.device_id == here else []
            found.append(" ".join([event.type.name, event.user_id, *place]))
        if batch.events:
            return found
    raise AssertionError("the watch ended")


@row("REPLAYED revoked 1")
async def a_token_with_newer_claims_is_no_copy_of_its_own(world: World) -> Sequence[str]:
    old, device = await world.signs_in(claims=OLD)
    one = await world.goes_on(old, device)
    other = await world.renews(old, device)
    await world.client.update_session("ada", NEW)
    newer, _ = await _renewed(world, one, device)
    world.passes(5 * MINUTE)
    assert await world.finds(newer, device) == "ACTIVE renew"
    assert await world.finds(one, device) == "ACTIVE renew"
    return [await world.finds(other, device)]


@row("none 1")
async def all_claims_are_replaced(world: World) -> Sequence[str]:
    token, device = await world.signs_in(claims=OLD)
    await world.client.update_session("ada", {})
    return [(await _renewed(world, token, device))[1]]


@row("new 1")
async def a_sign_in_that_is_repeated_has_the_newer_claims(world: World) -> Sequence[str]:
    request_id = str(uuid4())
    await world.signs_in(claims=OLD, request_id=request_id)
    await world.client.update_session("ada", NEW)
    token, device = await world.signs_in(claims=OLD, request_id=request_id)
    return [(await _renewed(world, token, device))[1]]


# With the alarm raised by renewals only.
FORGIVING: dict[Row, Sequence[str]] = {}


@row("SUPERSEDED renew", "ACTIVE", "REPLAYED", "NO_SESSION", among=FORGIVING)
async def a_queued_upload_is_forgiven_until_it_renews(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    token = await world.goes_on(await world.goes_on(old, device), device)
    found = [await world.finds(old, device), await world.finds(token, device)]
    renewal = await world.client.renew_session(old, device)
    return [*found, renewal.status.name, await world.finds(token, device)]


@row("ACTIVE", "ACTIVE", "renewed", "SUPERSEDED renew", among=FORGIVING)
async def only_a_renewal_settles_which_copy_is_in_use(world: World) -> Sequence[str]:
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    other = await world.renews(old, device)
    world.passes(5 * MINUTE)
    found = [await world.finds(one, device), await world.finds(other, device)]
    renewed = await world.renews(other, device)
    return [*found, "renewed" if renewed else "", await world.finds(one, device)]


@row("REPLAYED revoked 1", among=FORGIVING)
async def a_token_on_another_device_is_not_forgiven(world: World) -> Sequence[str]:
    token, _ = await world.signs_in()
    return [await world.finds(token, str(uuid4()))]


@pytest.fixture(params=["double", "service"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, ReplayAlarm.PRESENTED) as world:
        yield world


@pytest.fixture(params=["double", "service"])
async def forgiving(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, ReplayAlarm.RENEWED) as world:
        yield world


@asynccontextmanager
async def open_world(kind: str, folder: Path, alarm: ReplayAlarm) -> AsyncIterator[World]:
    """A world of the double, or of the service."""
    async with AsyncExitStack() as stack:

        async def at(address: str) -> AsyncSessionAuthority:
            return await stack.enter_async_context(AsyncSessionAuthority(address, timeout=PATIENCE))

        if kind == "double":
            fake = stack.enter_context(FakeAuthority(replay_alarm=alarm.value))
            yield World(await at(fake.address), fake.pass_time, _at_once)
        else:
            key = generate(Algorithm.EDDSA, START)
            add_key(folder / "keys", key)
            promote(folder / "keys", key.kid, START - timedelta(days=1))
            keys = KeySource(folder / "keys")
            store = stack.enter_context(fake_redis(folder))
            limits = SessionLimits(replay_alarm=alarm)
            stage = Stage(store, "t", keys, limits, Mode(reflection=False))
            await stack.enter_async_context(stage.open())
            yield World(await at(str(stage.address)), stage.clock.advance, stage.authority.settled)


@row("pwd otp -", "- SUPERSEDED_TOKEN", "hwk SUPERSEDED_TOKEN", "hwk -", among=LISTS)
async def what_a_list_says_of_sign_in_and_alarm(world: World) -> Sequence[str]:
    old, device = await world.signs_in(auth_methods=["pwd", "otp"])
    found = [await _listed(world)]
    token = await world.goes_on(old, device)
    world.passes(3 * MINUTE)
    await world.finds(token, device)
    world.passes(5 * MINUTE)
    assert await world.finds(old, device) == "REPLAYED revoked 1"
    found.append(await _listed(world))
    world.passes(27 * DAY)
    await world.signs_in(device, auth_methods=["hwk"])
    found.append(await _listed(world))
    world.passes(DAY + SECOND)
    return [*found, await _listed(world)]


@row(
    "second copy SECOND_COPY",
    "left device LEFT_DEVICE",
    "replaced session REPLACED_SESSION",
    among=LISTS,
)
async def what_a_list_says_of_the_cause_of_an_alarm(world: World) -> Sequence[str]:
    found = []
    for cause, history in (
        ("second copy", _second_copy),
        ("left device", _left_device),
        ("replaced session", _replaced_session),
    ):
        await history(world)
        found.append(f"{cause} {(await _listed(world)).rpartition(' ')[2]}")
        await world.client.revoke_all("ada", forget=True)
    return found


async def _second_copy(world: World) -> None:
    old, device = await world.signs_in()
    one = await world.goes_on(old, device)
    other = await world.renews(old, device)
    world.passes(5 * MINUTE)
    await world.finds(one, device)
    assert await world.finds(other, device) == "REPLAYED revoked 1"


async def _left_device(world: World) -> None:
    token, _ = await world.signs_in()
    assert await world.finds(token, str(uuid4())) == "REPLAYED revoked 1"


async def _replaced_session(world: World) -> None:
    old, device = await world.signs_in()
    world.passes(6 * MINUTE)
    token, _ = await world.signs_in(device)
    world.passes(3 * MINUTE)
    await world.finds(token, device)
    world.passes(5 * MINUTE)
    assert await world.finds(old, device) == "REPLAYED revoked 1"


@row("Rome IT Rome IT", "Rome IT Rome IT", among=LISTS)
async def what_a_list_says_of_the_place_that_the_app_named(world: World) -> Sequence[str]:
    place = Place("Rome", "IT")
    issued = await world.client.issue_device("ada", client=ClientInfo(place=place))
    [device] = (await world.client.list_devices("ada")).devices
    return [
        f"{d.city} {d.country_code} {d.last_client.place.city} {d.last_client.place.country_code}"
        for d in (issued.device, device)
        if d.last_client.place is not None
    ]


async def _listed(world: World) -> str:
    """How the one device was signed in, and its last alarm."""
    [device] = (await world.client.list_devices("ada", include_signed_out=True)).devices
    alarm = "-" if device.last_alarm is None else device.last_alarm.replay_cause.name
    return " ".join([*(device.auth_methods or "-"), alarm])


async def _at_once() -> None:
    pass


@pytest.mark.parametrize("history", ROWS, ids=lambda history: history.__name__)
async def test_it_judges_as_the_service_does(world: World, history: Row):
    assert await history(world) == list(ROWS[history])


@pytest.mark.parametrize("history", FORGIVING, ids=lambda history: history.__name__)
async def test_it_forgives_as_the_service_does(forgiving: World, history: Row):
    assert await history(forgiving) == list(FORGIVING[history])


@pytest.mark.parametrize("history", LISTS, ids=lambda history: history.__name__)
async def test_it_lists_as_the_service_does(world: World, history: Row):
    assert await history(world) == list(LISTS[history])


def test_every_verdict_is_compared():
    told = {verdict.partition(" ")[0] for verdicts in ROWS.values() for verdict in verdicts}
    assert told >= {status.name for status in SessionStatus} - {"UNSPECIFIED"}

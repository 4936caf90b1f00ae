"""The fake gives the verdicts of the service: both live through the same histories. Those of
`verdicts.json` are played by the fakes of all languages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from client_tests.vectors import Case, cases_of, each
from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.processes.options import Mode
from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from session_authority_client import (
    AsyncSessionAuthority,
    ClientInfo,
    Place,
    ReplayCause,
    Session,
    SessionNotFound,
    SessionStatus,
)
from session_authority_client.testing import FakeAuthority
from tests.rpc.harness import START, Stage
from tests.support.backends import fake_redis

PATIENCE = timedelta(seconds=20)
EACH_WORLD = pytest.mark.parametrize("kind", ["double", "service"])


@dataclass
class World:
    """An authority whose clock a test can move."""

    client: AsyncSessionAuthority
    passes: Callable[[timedelta], None]
    settled: Callable[[], Awaitable[None]]

    async def signs_in(self, device: str = "", **more: Any) -> tuple[str, str]:
        """Signs in. Returns the token and the device ID."""
        issued = await self.client.issue_device("ada", device_id=device, **more)
        return issued.access_token, issued.device.device_id

    async def finds(self, token: str, device: str, **asked: Any) -> str:
        """Validates a token. Returns the verdict in short."""
        found = await self.client.validate_session(token, device, **asked)
        await self.settled()
        more = [f"revoked {found.revoked_devices}"] if found.revoked_devices else []
        return " ".join([found.status.name, *(["renew"] if found.renew_recommended else []), *more])

    async def renews(self, token: str, device: str) -> str:
        """Renews a session. Returns the next token, or an empty text if there is none."""
        renewal = await self.client.renew_session(token, device)
        await self.settled()
        assert renewal.active == (renewal.session is not None)
        return renewal.access_token or ""

    async def goes_on(self, token: str, device: str) -> str:
        """Uses a token for long enough, and then renews it. Returns the next token."""
        assert "ACTIVE" in await self.finds(token, device)
        self.passes(6 * MINUTE)
        successor = await self.renews(token, device)
        assert successor
        return successor


@dataclass
class Player:
    """Plays a history of `verdicts.json`, and remembers what came of it."""

    world: World
    results: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _assigned: dict[str, str] = field(default_factory=dict)

    async def play(self, step: Mapping[str, Any]) -> None:
        """Takes one step."""
        more = dict(step)
        do = getattr(self, f"_{more.pop('do')}")
        await do(**more)
        await self.world.settled()

    async def _wait(self, *, seconds: int) -> None:
        self.world.passes(timedelta(seconds=seconds))

    async def _sign_in(self, *, user_id: str, **more: Any) -> None:
        name = more.pop("as")
        for limit in ("session_ttl", "idle_timeout"):
            if f"{limit}_seconds" in more:
                more[limit] = timedelta(seconds=more.pop(f"{limit}_seconds"))
        issued = await self.world.client.issue_device(user_id, **more)
        self._tokens[name] = issued.access_token

    async def _validate(self, **asked: Any) -> None:
        name = asked.pop("as")
        found = await self.world.client.validate_session(*self._presented(asked), **asked)
        self._assigned[name] = found.device_id
        self.results[name] = {
            "status": found.status.name,
            "renew_recommended": found.renew_recommended,
            "revoked_devices": found.revoked_devices,
            "device_id_assigned": found.device_id_assigned,
            "session": _told(found.session),
        }

    async def _renew(self, **asked: Any) -> None:
        name = asked.pop("as")
        renewal = await self.world.client.renew_session(*self._presented(asked), **asked)
        assert renewal.rotated == (renewal.access_token is not None)
        self._tokens[name] = renewal.access_token or ""
        self.results[name] = {
            "status": renewal.status.name,
            "rotated": renewal.rotated,
            "revoked_devices": renewal.revoked_devices,
            "session": _told(renewal.session),
        }

    def _presented(self, asked: dict[str, Any]) -> tuple[str, str]:
        """The token and the device ID, which are taken out of the other arguments."""
        text, device = asked.pop("token_text", None), asked.pop("device_id", None)
        token = self._tokens[asked.pop("token")] if text is None else text
        return token, self._assigned[asked.pop("device_id_of")] if device is None else device

    async def _revoke_device(self, *, user_id: str, device_id: str) -> None:
        assert await self.world.client.revoke_device(user_id, device_id)

    async def _revoke_all(self, *, user_id: str, except_device_id: str = "") -> None:
        await self.world.client.revoke_all(user_id, except_device_id=except_device_id)

    async def _update_session(
        self, *, user_id: str, claims: Mapping[str, str], device_id: str = ""
    ) -> None:
        await self.world.client.update_session(user_id, claims, device_id=device_id)

    async def _list_devices(self, *, user_id: str, **more: str) -> None:
        page = await self.world.client.list_devices(user_id, include_signed_out=True)
        self.results[more["as"]] = {
            "devices": {
                device.device_id: {
                    "signed_in": device.signed_in,
                    "auth_methods": list(device.auth_methods),
                    "replay_cause": device.last_alarm and device.last_alarm.replay_cause.name,
                }
                for device in page.devices
            }
        }


def _told(session: Session | None) -> Mapping[str, Any] | None:
    if session is None:
        return None
    return {"generation": session.generation, "claims": dict(session.claims)}


Row = Callable[[World], Awaitable[Sequence[str]]]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SECOND = timedelta(seconds=1)
ROWS: dict[Row, Sequence[str]] = {}


def row(*told: str) -> Callable[[Row], Row]:
    """Registers a history, and the results that it must have."""

    def add(history: Row) -> Row:
        ROWS[history] = told
        return history

    return add


OLD, NEW = {"email": "old", "name": "Ada"}, {"email": "new"}


@row("2", "1", "2", "SESSION_NOT_FOUND", "0", "SESSION_UPDATED ada", "SESSION_UPDATED ada here")
async def whose_claims_change(world: World) -> Sequence[str]:
    _, here = await world.signs_in(claims=NEW)
    token, there = await world.signs_in(claims=OLD)
    change = world.client.update_session
    since = (await anext(world.client.watch_events())).cursor
    counts = [await change("ada", OLD), await change("ada", NEW, device_id=here)]
    for _ in range(2):  # a change that changes nothing sends no event
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


@row("new 1")
async def a_sign_in_that_is_repeated_has_the_newer_claims(world: World) -> Sequence[str]:
    request_id = str(uuid4())
    await world.signs_in(claims=OLD, request_id=request_id)
    await world.client.update_session("ada", NEW)
    token, device = await world.signs_in(claims=OLD, request_id=request_id)
    session = (await world.client.renew_session(token, device)).session
    assert session is not None
    return [f"{session.claims['email']} {session.generation}"]


@row("pwd otp -", "- SUPERSEDED_TOKEN", "hwk SUPERSEDED_TOKEN", "hwk -")
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


@row("Rome IT Rome IT", "Rome IT Rome IT")
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
    """The sign-in methods of the one device, and its last alarm."""
    [device] = (await world.client.list_devices("ada", include_signed_out=True)).devices
    alarm = "-" if device.last_alarm is None else device.last_alarm.replay_cause.name
    return " ".join([*(device.auth_methods or "-"), alarm])


async def _at_once() -> None:
    pass


@asynccontextmanager
async def open_world(kind: str, folder: Path, alarm: ReplayAlarm) -> AsyncIterator[World]:
    """A world of the fake, or of the real service."""
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


@EACH_WORLD
@each("verdicts")
async def test_the_fake_judges_as_the_service_does(case: Case, kind: str, tmp_path: Path):
    alarm = ReplayAlarm(case.settings["replay_alarm"])
    async with open_world(kind, tmp_path, alarm) as world:
        player = Player(world)
        for step in case.given["steps"]:
            await player.play(step)
        assert player.results == case.expected["results"]


@EACH_WORLD
@pytest.mark.parametrize("history", ROWS, ids=lambda history: history.__name__)
async def test_the_fake_answers_as_the_service_does(kind: str, history: Row, tmp_path: Path):
    async with open_world(kind, tmp_path, ReplayAlarm.PRESENTED) as world:
        assert await history(world) == list(ROWS[history])


def test_every_status_and_every_cause_is_among_the_verdicts():
    told = [result for case in cases_of("verdicts") for result in case.expected["results"].values()]
    statuses = {result["status"] for result in told if "status" in result}
    assert statuses == {status.name for status in SessionStatus} - {"UNSPECIFIED"}
    devices = [device for result in told for device in result.get("devices", {}).values()]
    causes = {device["replay_cause"] for device in devices} - {None}
    assert causes == {cause.name for cause in ReplayCause} - {"UNSPECIFIED"}

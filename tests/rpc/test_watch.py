"""Watching over the wire: what each event tells, and what becomes of a watch when either end has
enough of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from session_authority.domain.events import Event, EventType
from session_authority.domain.policy import ReplayAction
from session_authority.events import feed as feed_module
from session_authority.events.messages import timestamp
from session_authority.store import Limits, connect
from session_authority.store.records import Commit
from session_authority.tokens import (
    Algorithm,
    KeySource,
    add_key,
    generate,
    promote,
    retire,
    revoke,
)
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import (
    DAY,
    HOUR,
    LAPTOP_AGENT,
    MINUTE,
    PATIENCE,
    SECOND,
    START,
    Refusal,
    Stage,
    StageWith,
    refusal_of,
)
from tests.support.backends import Backend
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

PHONE, LAPTOP, TABLET = (str(UUID(int=0xD000 + number, version=4)) for number in range(3))
PHONE_CLIENT = pb.ClientInfo(ip_address="192.0.2.7", display_name="Pixel 8", app_version="4.12.0")
LAPTOP_CLIENT = pb.ClientInfo(ip_address="198.51.100.9", user_agent=LAPTOP_AGENT)
EXPIRED = Refusal(
    grpc.StatusCode.OUT_OF_RANGE,
    "events may be missed from here on; drop what you cache and watch again without a cursor",
    "CURSOR_EXPIRED",
    "session-authority",
)
WATCH = "/session_authority.v1.SessionAuthorityService/WatchEvents"
LEFT_OPEN = 100 * PATIENCE  # seconds; no watch of these tests ends by its deadline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the keys are: one that signs."""
    key = generate(Algorithm.EDDSA, START)
    add_key(tmp_path / "keyring", key)
    promote(tmp_path / "keyring", key.kid, START - DAY)
    return tmp_path / "keyring"


@pytest.fixture
def source(folder: Path) -> KeySource:
    """These keys."""
    return KeySource(folder)


@pytest.fixture
async def stage_with(stage_with: StageWith) -> AsyncIterator[StageWith]:
    """Runs servers, and ends all watches before they stop: else each of them would wait for a
    second.
    """
    yield stage_with
    for call in _open:
        call.cancel()
    _open.clear()


@pytest.fixture(params=["cluster", "fakeredis", "valkey"])
async def stage(
    request: pytest.FixtureRequest, backends: Callable[[str], Backend], stage_with: StageWith
) -> Stage:
    """A server on each kind of store."""
    running: Stage = await stage_with(backends(request.param))
    return running


@pytest.fixture
async def valkey_stage(stage_with: StageWith, valkey_backend: Backend) -> Stage:
    """A server on the bundled Valkey."""
    running: Stage = await stage_with(valkey_backend)
    return running


_open: list[Any] = []


class Watch:
    """A watch under way, and what it was told."""

    def __init__(self, stage: Stage, **request: Any) -> None:
        self.call = stage.watch(pb.WatchEventsRequest(**request), within=LEFT_OPEN)
        _open.append(self.call)
        self.events: list[pb.Event] = []
        self.cursor = ""

    async def read(self) -> pb.WatchEventsResponse:
        """The next message."""
        message: Any = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert message is not grpc.aio.EOF
        assert message.cursor
        self.events += message.events
        self.cursor = message.cursor
        answer: pb.WatchEventsResponse = message
        return answer

    async def started(self) -> Watch:
        """Reads the first message."""
        assert not (await self.read()).events
        return self

    async def next(self, count: int = 1) -> list[pb.Event]:
        """The next events."""
        told = len(self.events)
        async with asyncio.timeout(PATIENCE):  # heartbeats would keep it waiting for ever
            while len(self.events) < told + count:
                await self.read()
        assert len(self.events) == told + count
        return self.events[told:]

    async def refused(self) -> Refusal:
        """What ends it, whatever it is told before."""
        try:
            while True:
                await self.read()
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)


def told(event: pb.Event) -> dict[str, Any]:
    """All that an event says; what it leaves empty is not there. Its ID is checked here."""
    said = MessageToDict(event, preserving_proto_field_name=True)
    event_id = said.pop("event_id")
    assert event_id.isascii()
    assert event_id.isprintable()
    assert "." not in event_id
    assert len(event_id) <= 64
    said["create_time"] = datetime.fromisoformat(said["create_time"])
    return dict(said)


def watchers(stage: Stage) -> int:
    """How many watch, as its metrics tell."""
    value = stage.metrics.registry.get_sample_value("session_authority_watchers")
    assert value is not None
    return int(value)


@contextmanager
def nothing_left(stage: Stage) -> Iterator[None]:
    """What runs before and after is the same."""
    before = reading_tasks()
    yield
    assert stage.feed._reader is None
    assert reading_tasks() == before


def reading_tasks() -> int:
    """How many tasks of feeds there are."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return sum("Feed." in name or "EventLog." in name or "PubSub" in name for name in names)


# --- what is told ---------------------------------------------------------------------------------


async def test_the_first_message_comes_at_once_and_events_follow(stage: Stage):
    before = await stage.sign_in("ada")
    watch = await Watch(stage).started()
    one = await stage.sign_in("ada")
    [event] = await watch.next()
    assert (event.device.device_id, event.session_id) == (
        one.device.device_id,
        one.device.session_id,
    )
    assert before.device.session_id != event.session_id
    two = await stage.sign_in("bob")
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="bob"))
    events = await watch.next(2)
    assert [(e.user_id, e.type) for e in events] == [
        ("bob", pb.EVENT_TYPE_DEVICE_SIGNED_IN),
        ("bob", pb.EVENT_TYPE_ALL_REVOKED),
    ]
    assert events[0].session_id == two.device.session_id
    assert len({event.event_id for event in watch.events}) == 3


async def test_a_sign_in_is_told_with_all_that_a_mail_needs(valkey_stage: Stage):
    watch = await Watch(valkey_stage).started()
    first = await valkey_stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    valkey_stage.clock.advance(MINUTE)
    second = await valkey_stage.sign_in("ada", LAPTOP, client=LAPTOP_CLIENT)
    await valkey_stage.call("RevokeDevice", pb.RevokeDeviceRequest(user_id="ada", device_id=LAPTOP))
    await valkey_stage.sign_in("ada", LAPTOP, client=PHONE_CLIENT)
    phone = {
        "info": {"ip_address": "192.0.2.7", "display_name": "Pixel 8", "app_version": "4.12.0"}
    }
    laptop = {
        "info": {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT},
        "operating_system": "Windows",
        "browser": "Chrome 140",
        "form_factor": "FORM_FACTOR_DESKTOP",
    }
    one, two, _, again = map(told, await watch.next(4))
    assert one == {
        "type": "EVENT_TYPE_DEVICE_SIGNED_IN",
        "create_time": START,
        "user_id": "ada",
        "device": {"device_id": PHONE, "display_name": "Pixel 8", "last_client": phone},
        "client": phone,
        "session_id": first.device.session_id,
        "actor": "anonymous",
        "new_device": True,
        "first_device": True,
    }
    assert two == {
        "type": "EVENT_TYPE_DEVICE_SIGNED_IN",
        "create_time": START + MINUTE,
        "user_id": "ada",
        "device": {
            "device_id": LAPTOP,
            "display_name": second.device.display_name,
            "last_client": laptop,
        },
        "client": laptop,
        "session_id": second.device.session_id,
        "actor": "anonymous",
        "new_device": True,
    }
    assert "new_device" not in again


def shown(issued: pb.IssueDeviceResponse) -> dict[str, Any]:
    """What an event tells of the device of a sign-in."""
    looks = MessageToDict(issued.device, preserving_proto_field_name=True)
    client: dict[str, Any] = {"info": looks["last_client"]}
    client |= {
        name: looks[name]
        for name in ("operating_system", "browser", "form_factor")
        if name in looks
    }
    return {
        "device_id": looks["device_id"],
        "display_name": looks["display_name"],
        "last_client": client,
    }


@pytest.mark.parametrize("action", ReplayAction, ids=lambda action: action.value)
async def test_a_replay_is_told_with_its_cause_and_both_clients(
    stage_with: StageWith, valkey_backend: Backend, action: ReplayAction
):
    stage = await stage_with(valkey_backend, replay_action=action)
    signed_in = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    await stage.validate(signed_in)
    watch = await Watch(stage, types=[pb.EVENT_TYPE_SESSION_REPLAYED]).started()
    stage.clock.advance(MINUTE)
    answer = await stage.validate(signed_in, device_id=LAPTOP, client=LAPTOP_CLIENT)
    assert answer.status == pb.SESSION_STATUS_REPLAYED
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SESSION_REPLAYED",
        "create_time": START + MINUTE,
        "user_id": "ada",
        "device": shown(signed_in),
        "client": {
            "info": {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT},
            "operating_system": "Windows",
            "browser": "Chrome 140",
            "form_factor": "FORM_FACTOR_DESKTOP",
        },
        "session_id": signed_in.device.session_id,
        "actor": "anonymous",
        "replay_cause": "REPLAY_CAUSE_LEFT_DEVICE",
        "replay_action": f"REPLAY_ACTION_{action.name}",
    }


async def test_other_causes_of_a_replay(valkey_stage: Stage):
    stage = valkey_stage
    watch = await Watch(stage, types=[pb.EVENT_TYPE_SESSION_REPLAYED]).started()
    # An old generation.
    old = await stage.sign_in("ada", PHONE)
    stage.clock.advance(10 * MINUTE)
    renewed = await stage.call(
        "RenewSession", pb.RenewSessionRequest(access_token=old.access_token, device_id=PHONE)
    )
    assert renewed.rotated
    newest = pb.ValidateSessionRequest(access_token=renewed.access_token, device_id=PHONE)
    assert (await stage.call("ValidateSession", newest)).active
    await stage.authority.settled()
    stage.clock.advance(10 * MINUTE)
    assert (await stage.validate(old)).status == pb.SESSION_STATUS_REPLAYED
    # A session that was signed in over.
    before = await stage.sign_in("bob", PHONE)
    stage.clock.advance(10 * MINUTE)
    after = await stage.sign_in("bob", PHONE)
    assert (await stage.validate(after)).active
    stage.clock.advance(10 * MINUTE)
    assert (await stage.validate(before)).status == pb.SESSION_STATUS_REPLAYED
    assert [(event.user_id, event.replay_cause) for event in await watch.next(2)] == [
        ("ada", pb.REPLAY_CAUSE_SUPERSEDED_TOKEN),
        ("bob", pb.REPLAY_CAUSE_REPLACED_SESSION),
    ]


async def test_the_end_of_sessions_is_told(stage_with: StageWith, valkey_backend: Backend):
    stage = await stage_with(valkey_backend, max_devices=2)
    types = set(pb.EventType.values()) - {pb.EVENT_TYPE_UNSPECIFIED, pb.EVENT_TYPE_DEVICE_SIGNED_IN}
    watch = await Watch(stage, types=types).started()

    async def next_told() -> dict[str, Any]:
        [event] = await watch.next()
        return told(event)

    common = {"create_time": START, "user_id": "ada", "actor": "anonymous"}
    phone = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    request = pb.RevokeDeviceRequest(user_id="ada", device_id=PHONE, reason="lost it")
    assert (await stage.call("RevokeDevice", request)).revoked
    assert await next_told() == common | {
        "type": "EVENT_TYPE_DEVICE_REVOKED",
        "device": shown(phone),
        "session_id": phone.device.session_id,
        "reason": "lost it",
    }

    again = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    assert (
        await stage.validate(phone, client=LAPTOP_CLIENT)
    ).status == pb.SESSION_STATUS_SESSION_ENDED
    ended = await next_told()
    assert ended.pop("client")["info"] == {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT}
    assert ended == common | {
        "type": "EVENT_TYPE_ENDED_TOKEN_PRESENTED",
        "device": shown(again),
        "session_id": phone.device.session_id,
    }

    stage.clock.advance(SECOND)
    common["create_time"] = START + SECOND
    await stage.sign_in("ada", LAPTOP)
    await stage.sign_in("ada", TABLET)
    assert await next_told() == common | {
        "type": "EVENT_TYPE_DEVICE_EVICTED",
        "device": shown(again),
        "session_id": again.device.session_id,
    }

    request_all = pb.RevokeAllRequest(user_id="ada", except_device_id=TABLET, reason="new password")
    assert (await stage.call("RevokeAll", request_all)).revoked_devices == 1
    assert await next_told() == common | {
        "type": "EVENT_TYPE_ALL_REVOKED",
        "except_device_id": TABLET,
        "reason": "new password",
    }


async def test_a_revoked_key_is_told_of_once_however_many_servers_find_it(
    stage_with: StageWith, valkey_backend: Backend, folder: Path, source: KeySource
):
    old = source.current.signing.kid
    stages = [await stage_with(valkey_backend) for _ in range(3)]
    watch = await Watch(
        stages[0], user_ids=["somebody"], types=[pb.EVENT_TYPE_SIGNING_KEY_REVOKED]
    ).started()
    key = generate(Algorithm.EDDSA, START)
    add_key(folder, key)
    promote(folder, key.kid, START)
    revoke(folder, old, START)
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SIGNING_KEY_REVOKED",
        "create_time": START,
        "key_id": old,
    }
    await eventually(
        lambda: all(stage.authority._keys.told_revoked == {old} for stage in stages),
        "all servers to know",
    )
    another = await stage_with(valkey_backend)  # and one that is started later
    await eventually(lambda: another.authority._keys.told_revoked == {old}, "it to know too")
    found = [value for key, value in (await stages[0].dump()).items() if key.endswith(b":e")]
    assert [len(entries) for entries in found] == [1]


async def test_a_key_that_is_removed_early_counts_as_revoked(
    stage_with: StageWith, valkey_backend: Backend, folder: Path, source: KeySource
):
    """Also if it was revoked before, and nobody saw it."""
    early, seen, published = (generate(Algorithm.EDDSA, START) for _ in range(3))
    for key in (early, seen, published):
        add_key(folder, key)
    stages = [await stage_with(valkey_backend) for _ in range(2)]
    watch = await Watch(stages[0], types=[pb.EVENT_TYPE_SIGNING_KEY_REVOKED]).started()
    for key in (early, seen):
        promote(folder, key.kid, START)
    over = source.current.signing.kid  # its tokens have ended, with `now` as below

    def all_know_who_signs(kid: str) -> bool:
        return all(s.tokens._known.signing.kid == kid for s in stages)

    await eventually(lambda: all_know_who_signs(seen.kid), "the promotions to be seen")

    revoke(folder, early.kid, START)
    for key in (early, published):
        retire(folder, key.kid, START, DAY, force=True)
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SIGNING_KEY_REVOKED",
        "create_time": START,
        "key_id": early.kid,
    }
    await eventually(
        lambda: all(s.authority._keys.told_vanished == {early.kid} for s in stages),
        "all servers to know",
    )

    stages[0].clock.advance(30 * DAY)
    stages[1].clock.advance(30 * DAY)
    retire(folder, over, START + 30 * DAY, DAY)
    add_key(folder, early)
    await eventually(
        lambda: all(not s.authority._keys.told_vanished for s in stages), "it to be back"
    )
    promote(folder, early.kid, START + 30 * DAY)
    await eventually(lambda: all_know_who_signs(early.kid), "the promotion to be seen")
    revoke(folder, seen.kid, START + 30 * DAY)
    [event] = await watch.next()
    assert event.key_id == seen.kid
    revoke(folder, early.kid, START + 30 * DAY, replace=True)
    [event] = await watch.next()
    assert event.key_id == early.kid, (
        "that it was told of as removed does not keep it from being told of as revoked"
    )
    await eventually(
        lambda: all(len(s.authority._keys.told_revoked) == 2 for s in stages), "all servers to know"
    )
    found = [value for key, value in (await stages[0].dump()).items() if key.endswith(b":e")]
    assert [len(entries) for entries in found] == [3]


# --- where to go on -------------------------------------------------------------------------------


async def test_a_cursor_leads_on_at_another_server(
    stage_with: StageWith, stage: Stage, backends: Any, request: Any
):
    watch = await Watch(stage).started()
    await stage.sign_in("ada")
    [first] = await watch.next()
    watch.call.cancel()
    await stage.sign_in("bob")
    other = await stage_with(backends(request.node.callspec.params["stage"]))
    resumed = Watch(other, cursor=watch.cursor)
    await stage.sign_in("cyd")
    assert {event.user_id for event in await resumed.next(2)} == {"bob", "cyd"}
    everything = Watch(other, start_time=START - DAY)
    events = await everything.next(3)
    assert {event.user_id for event in events} == {"ada", "bob", "cyd"}
    assert first.event_id in {event.event_id for event in events}, (
        "an event has the same ID whenever it is told"
    )


async def test_a_cursor_that_is_too_old_is_told_so(stage: Stage):
    watch = await Watch(stage).started()
    stage.clock.advance(7 * DAY - HOUR + SECOND)
    assert await Watch(stage, cursor=watch.cursor).refused() == EXPIRED
    assert stage.counted("WatchEvents") == {"OUT_OF_RANGE": 1}
    await Watch(stage).started()


async def test_heartbeats_come_with_a_cursor_each(stage: Stage):
    stage.feed._poll_seconds = stage.feed._heartbeat_seconds = 0.01
    watch = await Watch(stage, user_ids=["nobody"]).started()
    before = watch.cursor
    for _ in range(3):
        stage.clock.advance(HOUR)
        while watch.cursor == before:
            assert not (await watch.read()).events
        before = watch.cursor


# --- clients that don't read ----------------------------------------------------------------------


def deaf_channel(stage: Stage) -> Any:
    """A connection of its own, with little room for what is not read."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    return grpc.aio.insecure_channel(str(stage.address), options)


async def read_all(call: Any) -> None:
    """Reads until there is nothing more; a watch that is ended raises."""
    while await asyncio.wait_for(call.read(), PATIENCE) is not grpc.aio.EOF:
        pass


async def happen(stage: Stage, user_id: str, number: int) -> None:
    """Something of a thousand bytes."""
    event = Event(
        EventType.DEVICE_REVOKED, START, user_id, "tests", reason=f"{number:05} {'x' * 1000}"
    )
    await stage.store.commit(Commit(user_id, START, events=(event,)))


async def test_a_client_that_never_reads_is_sent_away_and_disturbs_nobody(
    valkey_stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed_module, "MEMORY_EVENTS", 200)
    stage = valkey_stage
    async with deaf_channel(stage) as channel:
        deaf: Any = channel.unary_stream(WATCH)(b"", timeout=LEFT_OPEN)
        await eventually(lambda: watchers(stage) == 1, "it to watch")
        good = await Watch(stage).started()
        number = 0
        async with asyncio.timeout(2 * PATIENCE):
            while watchers(stage) == 2 or stage.counted("WatchEvents") == {}:
                await asyncio.gather(*(happen(stage, "ada", number + i) for i in range(50)))
                number += 50
                await good.next(50)
                assert stage.feed._held_events <= 200
                assert number < 20_000, "in the end it is sent away"
        assert stage.counted("WatchEvents") == {"OUT_OF_RANGE": 1}
        assert sorted(event.reason[:5] for event in good.events) == [
            f"{i:05}" for i in range(number)
        ]
        # If it reads at last, it learns that it missed something.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(deaf)
        assert refusal_of(caught.value) == EXPIRED


async def test_a_client_that_never_reads_its_history_takes_no_more_than_a_page(valkey_stage: Stage):
    stage = valkey_stage
    await asyncio.gather(*(happen(stage, "ada", number) for number in range(2000)))
    written: list[int] = []
    write = stage.feed._messages.event
    stage.feed._messages.event = lambda recorded: written.append(1) or write(recorded)  # type: ignore[method-assign,func-returns-value]
    async with deaf_channel(stage) as channel:
        deaf: Any = channel.unary_stream(WATCH)(
            pb.WatchEventsRequest(start_time=timestamp(START - DAY)).SerializeToString(),
            timeout=LEFT_OPEN,
        )
        await eventually(lambda: len(written) >= 256, "its first page")
        good = await Watch(stage).started()
        for number in range(20):
            await happen(stage, "bob", number)
            assert [event.user_id for event in await good.next()] == ["bob"]
        assert len(written) < 1500, "what it does not take is not even read"
        deaf.cancel()
        await eventually(lambda: watchers(stage) == 1, "it to be gone")


# --- ends -----------------------------------------------------------------------------------------


async def test_a_cancelled_watch_leaves_nothing_behind(valkey_stage: Stage):
    stage = valkey_stage
    channel = f"{stage.prefix}:wake"

    async def listening() -> int:
        async with stage.backend.admin() as admin:
            [_, number] = await admin.execute_command("PUBSUB", "NUMSUB", channel)
        return int(number)

    with nothing_left(stage):
        for round_ in range(3):
            watches = [await Watch(stage).started() for _ in range(5)]
            while await listening() != 1:  # noqa: ASYNC110 - bounded by the test's own patience
                await asyncio.sleep(0.005)
            for watch in watches[1:]:
                watch.call.cancel()
            await eventually(lambda: watchers(stage) == 1, "the others to be gone")
            await stage.sign_in("ada")
            await watches[0].next()
            watches[0].call.cancel()
            await eventually(lambda: watchers(stage) == 0, "the last to be gone")
            await eventually(
                lambda: stage.feed._reader is None and not reading_tasks(), "the reader to end"
            )
            while await listening() != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await eventually(
                lambda n=round_: stage.counted("WatchEvents") == {"CANCELLED": 5 * (n + 1)},  # type: ignore[misc]
                "each to be counted",
            )


async def test_watches_cancelled_at_any_moment_leave_nothing_behind(valkey_stage: Stage):
    stage = valkey_stage
    cursor = (await Watch(stage).started()).cursor
    await stage.sign_in("ada")
    for number in range(80):
        request = pb.WatchEventsRequest(cursor=cursor if number % 2 else "")
        call = stage.watch(request, within=LEFT_OPEN)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 3:
            await asyncio.sleep(0.0005 * (number % 10))
        call.cancel()
    await eventually(lambda: watchers(stage) == 1, "all but the first to be gone")
    await stage.sign_in("bob")
    assert {event.user_id for event in await Watch(stage, cursor=cursor).next(2)} == {"ada", "bob"}


async def test_a_server_that_stops_ends_its_watches_in_order(valkey_stage: Stage):
    """Though they would never end by themselves, and it would give others much more time."""
    stage = valkey_stage
    with nothing_left(stage):
        watches = [await Watch(stage).started() for _ in range(20)]
        await stage.sign_in("ada")
        for watch in watches:
            await watch.next()
        ends = [asyncio.ensure_future(watch.refused()) for watch in watches]
        await asyncio.wait_for(stage.server.stop(timedelta(seconds=10 * PATIENCE)), PATIENCE)
        for end in ends:
            refusal = await asyncio.wait_for(end, PATIENCE)
            assert refusal.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert watchers(stage) == 0, "the store may be closed now"


async def test_a_watch_with_a_deadline_ends_by_it(stage: Stage):
    call = stage.watch(pb.WatchEventsRequest(), within=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: watchers(stage) == 0, "it to be gone")


# --- what it costs nobody -------------------------------------------------------------------------


async def test_without_a_watcher_validations_cost_what_they_did(
    stage_with: StageWith, valkey_backend: Backend
):
    async with Proxy(valkey_backend.url) as wire:
        patient = Limits(timedelta(seconds=10), timedelta(seconds=10))
        stage = await stage_with(Backend("wired", wire.url, lambda: connect(wire.url, patient)))
        signed_in = await stage.sign_in("ada")
        assert (await stage.validate(signed_in)).active  # and its marks are written
        wire.commands.clear()
        for _ in range(25):
            assert (await stage.validate(signed_in)).active
        wire.commands.pop("TIME", None)  # the probe's
        assert wire.commands == {"HGET": 25}
        assert stage.feed._reader is None
        assert not reading_tasks()
        # Nor with one that has gone.
        watch = await Watch(stage).started()
        watch.call.cancel()
        await eventually(
            lambda: stage.feed._reader is None and not reading_tasks(), "the reader to end"
        )
        wire.commands.clear()
        for _ in range(25):
            assert (await stage.validate(signed_in)).active
        wire.commands.pop("TIME", None)
        assert wire.commands == {"HGET": 25}
        await stage.server.stop(timedelta(0))
        await stage.store.close()

"""Excess load is refused at once, and costs other callers nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from session_authority.access import AccessSource
from session_authority.processes import grpc_server
from session_authority.processes.options import ListenOptions
from session_authority.rpc import Capacity
from session_authority.rpc.unary import _BATCH_BYTES_PER_CALL
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc import frames
from tests.rpc.access.harness import ANSWERED, House, visiting
from tests.rpc.frames import Frame, line_to
from tests.rpc.harness import PATIENCE, Refusal, Stage, StageWith, refusal_of
from tests.support.waiting import eventually

OVERLOADED = Refusal(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many calls are under way; try again",
    "OVERLOADED",
    "session-authority",
    retry_after=timedelta(milliseconds=100),
)
LIST = pb.ListDevicesRequest(user_id="ada")
CHECK = "/grpc.health.v1.Health/Check"


class Held:
    """Use cases that wait until the test releases them."""

    def __init__(self, stage: Stage) -> None:
        self.entered = 0
        self._go = asyncio.Event()
        for name in ("list_devices", "validate_session"):
            setattr(stage.authority, name, self._holding(getattr(stage.authority, name)))

    def _holding(self, sound: Any) -> Any:
        async def hold(*given: Any, **more: Any) -> Any:
            self.entered += 1
            await self._go.wait()
            return await sound(*given, **more)

        return hold

    async def have(self, count: int) -> None:
        """Waits until this many calls are held."""
        await eventually(lambda: self.entered == count, f"{count} calls to be held")

    def let_go(self) -> None:
        """Releases all of them."""
        self._go.set()


def batch_of(weight: int, items: int = 1) -> pb.BatchValidateSessionsRequest:
    """A batch that weighs as much as this many calls."""
    request = pb.BatchValidateSessionsRequest(
        requests=[pb.ValidateSessionRequest() for _ in range(items)]
    )
    request.requests[0].access_token = "x" * (
        weight * _BATCH_BYTES_PER_CALL - len(request.SerializeToString()) - 6
    )
    assert len(request.SerializeToString()) // _BATCH_BYTES_PER_CALL in (weight, weight - 1)
    while len(request.SerializeToString()) < weight * _BATCH_BYTES_PER_CALL:
        request.requests[0].access_token += "x"
    return request


async def with_capacity(stage_with: StageWith, **capacity: int) -> Stage:
    # The client must not queue calls itself: gRPC's core (1.83 to 1.85.3 at least) now and then
    # loses a call that is cancelled while it waits for a free stream. The call never ends, and the
    # shutdown of gRPC then waits for ever.
    stage: Stage = await stage_with(
        doors=ListenOptions(capacity=Capacity(per_connection=1000, **capacity))
    )
    return stage


# --- calls ----------------------------------------------------------------------------------------


async def test_one_call_too_many_is_refused_at_once_and_then_all_go_on(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=3)
    held = Held(stage)
    calls = [stage.start("ListDevices", LIST) for _ in range(3)]
    await held.have(3)
    for method in ("ListDevices", "GetSigningKeys", "IssueDevice"):
        assert await stage.refused(method, pb.IssueDeviceRequest(user_id="ada")) == OVERLOADED
    assert held.entered == 3
    answer = health_pb2.HealthCheckResponse.FromString(
        await stage.call(CHECK, health_pb2.HealthCheckRequest())
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    async with visiting(stage.address) as visitor:
        assert await visitor.outcome("/grpc.health.v1.Health/List") == ANSWERED
    assert stage.counted("ListDevices") == {"RESOURCE_EXHAUSTED": 1}
    held.let_go()
    assert [answer.total_size for answer in await asyncio.gather(*calls)] == [0, 0, 0]
    await stage.call("ListDevices", LIST)


async def test_health_checks_do_not_count_towards_the_limit(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=1)
    async with visiting(stage.address) as visitor:
        for path in (CHECK, "/grpc.health.v1.Health/List"):
            assert (
                await asyncio.gather(*(visitor.outcome(path) for _ in range(20))) == [ANSWERED] * 20
            )


async def test_a_caller_that_gives_up_makes_room(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=1)
    held = Held(stage)
    call = stage.start("ListDevices", LIST)
    await held.have(1)
    assert await stage.refused("ListDevices", LIST) == OVERLOADED
    call.cancel()
    await stage.server._guards[0].idle()
    held.let_go()
    await stage.call("ListDevices", LIST)


async def test_a_batch_weighs_as_much_as_its_sessions(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=10)
    held = Held(stage)
    calls = [stage.start("BatchValidateSessions", batch_of(8))]
    await held.have(1)
    assert await stage.refused("BatchValidateSessions", batch_of(3)) == OVERLOADED
    calls += [stage.start("BatchValidateSessions", batch_of(1)), stage.start("ListDevices", LIST)]
    await held.have(3)
    assert await stage.refused("ListDevices", LIST) == OVERLOADED
    held.let_go()
    await asyncio.gather(*calls)
    assert stage.server._guards[0]._load.share.held == 0


async def test_an_empty_batch_weighs_as_much_as_a_call(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=1)
    held = Held(stage)
    call = stage.start("ListDevices", LIST)
    await held.have(1)
    assert await stage.refused("BatchValidateSessions", b"") == OVERLOADED
    held.let_go()
    await call


async def test_a_batch_heavier_than_the_limit_passes_alone(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=2)
    held = Held(stage)
    heavy = stage.start("BatchValidateSessions", batch_of(50))
    await held.have(1)
    assert await stage.refused("ListDevices", LIST) == OVERLOADED
    held.let_go()
    assert len((await heavy).results) == 1


async def test_a_batch_heavier_than_the_limit_is_refused_beside_other_calls(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=2)
    held = Held(stage)
    call = stage.start("ListDevices", LIST)
    await held.have(1)
    assert await stage.refused("BatchValidateSessions", batch_of(50)) == OVERLOADED
    held.let_go()
    await call


async def test_a_shutdown_waits_only_for_callers_that_were_admitted(stage_with: StageWith):
    stage = await with_capacity(stage_with, calls=1)
    held = Held(stage)
    call = stage.start("ListDevices", LIST)
    await held.have(1)
    await stage.refused("ListDevices", LIST)
    assert not stage.server._guards[0]._load.none.is_set(), (
        "the call that is under way still counts"
    )
    held.let_go()
    await call
    await asyncio.wait_for(stage.server._guards[0].idle(), PATIENCE)


# --- streams --------------------------------------------------------------------------------------


def watch(stage: Stage, path: str = "/grpc.health.v1.Health/Watch") -> Any:
    return stage.channel.unary_stream(path)(b"", timeout=PATIENCE)


async def test_streams_of_each_method_have_their_own_limit(stage_with: StageWith):
    stage = await with_capacity(stage_with, streams=2)
    streams = [stage.watch(pb.WatchEventsRequest()) for _ in range(2)]
    for stream in streams:
        await stream.read()
    assert await stage.refused("WatchEvents", pb.WatchEventsRequest()) == OVERLOADED
    others = [watch(stage) for _ in range(2)]
    for stream in others:
        await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch(stage).read()
    assert refusal_of(caught.value) == OVERLOADED
    await stage.call("ListDevices", LIST)
    assert stage.counted("WatchEvents") == {"RESOURCE_EXHAUSTED": 1}
    streams.pop().cancel()
    path = "/session_authority.v1.SessionAuthorityService/WatchEvents"
    await eventually(
        lambda: len(stage.server._guards[0]._streams._streams[path]) == 1, "the stream to end"
    )
    again = stage.watch(pb.WatchEventsRequest())
    await again.read()
    for stream in (again, *streams, *others):
        stream.cancel()


@pytest.mark.parametrize(("streams", "small"), [(3, 0), (4, 0), (7, 3)])
async def test_a_watch_with_a_large_request_counts_as_several(
    stage_with: StageWith, streams: int, small: int
):
    """The watch keeps its request as long as it lasts. A watch that is heavier than the limit is
    admitted alone.
    """
    stage = await with_capacity(stage_with, streams=streams)
    users = [f"{number:03}".ljust(255, "x") for number in range(1000)]  # 252 KiB, so 4 units
    large = pb.WatchEventsRequest(user_ids=users)
    others = [stage.watch(pb.WatchEventsRequest()) for _ in range(small)]
    for stream in others:
        await stream.read()
    shares = stage.server._guards[0]._streams._shares
    for _ in range(2):
        heavy = stage.watch(large)
        await heavy.read()
        assert await stage.refused("WatchEvents", pb.WatchEventsRequest()) == OVERLOADED
        heavy.cancel()
        await eventually(
            lambda: [share.held for share in shares.values()] == [small], "the watch to end"
        )
    for stream in others:
        stream.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_a_call_leaves_nothing_behind_however_it_ends(stage_with: StageWith, seed: int):
    chance = random.Random(seed)
    stage = await with_capacity(stage_with, calls=6, streams=3)
    sound = stage.authority.list_devices

    async def any_way(*given: Any, **more: Any) -> Any:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            raise chance.choice([RuntimeError(), TimeoutError(), ValueError()])
        return await sound(*given, **more)

    stage.authority.list_devices = any_way  # type: ignore[method-assign]

    async def one() -> None:
        kind = chance.randrange(5)
        if kind == 0:
            call = stage.start("BatchValidateSessions", batch_of(chance.randrange(1, 9)))
        elif kind == 1:
            call = stage.watch(chance.choice([b"", b"\xff"]))
        elif kind == 2:
            call = stage.start("ListDevices", b"\xff\xff")
        else:
            call = stage.start("ListDevices", LIST, within=chance.choice([0.001, PATIENCE]))
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        if kind == 1 or chance.random() < 0.3:
            call.cancel()
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await (call.read() if kind == 1 else call)

    await asyncio.gather(*(one() for _ in range(150)))
    # A cancelled call may still be on its way. A later call on the same connection is answered
    # after it has arrived.
    await stage.call(CHECK, health_pb2.HealthCheckRequest())
    guard = stage.server._guards[0]
    await asyncio.wait_for(guard.idle(), PATIENCE)
    await eventually(lambda: not any(guard._streams._streams.values()), "the streams to end")
    await eventually(
        lambda: (guard._load.share.held, guard._load.calls) == (0, 0), "the load to be gone"
    )
    stage.authority.list_devices = sound  # type: ignore[method-assign]
    await asyncio.gather(*(stage.call("ListDevices", LIST) for _ in range(6)))


# --- connections ----------------------------------------------------------------------------------


@contextmanager
def option(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> Iterator[None]:
    """Gives servers that are created inside the block another value of a gRPC option."""
    sound = grpc_server.server_options

    def options(capacity: Capacity, *, share_port: bool) -> list[tuple[str, int]]:
        given = dict(sound(capacity, share_port=share_port))
        assert name in given
        return list({**given, name: value}.items())

    with monkeypatch.context() as patch:
        patch.setattr(grpc_server, "server_options", options)
        yield


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_that_says_nothing_is_closed(
    stage_with: StageWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
):
    house = House(tmp_path)
    with option(monkeypatch, "grpc.server_handshake_timeout_ms", 100):
        stage = await stage_with(doors=house.doors(tls=tls))
    async with line_to(stage.address) as line, asyncio.timeout(PATIENCE):
        async for _ in line.frames():  # The server may send something first.
            pass
    shows: dict[str, Any] = (
        {"trust": house.ca.pem, "pair": house.pairs["auditor"]}
        if tls
        else {"token": house.tokens["ops"]}
    )
    async with visiting(stage.address, **shows) as visitor:
        assert await visitor.outcome("ListDevices") == ANSWERED


async def first(line: frames.Line, kind: int) -> Frame:
    """Returns the first frame of a kind that arrives."""
    async with asyncio.timeout(PATIENCE):
        async for frame in line.frames():
            if frame.kind == kind:
                return frame
    raise AssertionError("the other side hung up")


@pytest.fixture
async def line(stage: Stage) -> AsyncIterator[frames.Line]:
    """A connection whose handshake is complete."""
    async with line_to(stage.address) as line:
        line.send_bytes(frames.PREFACE)
        line.send(Frame(frames.SETTINGS))
        yield line


async def test_a_connection_has_a_limit_of_calls_at_once(line: frames.Line):
    settings = await first(line, frames.SETTINGS)
    assert settings.settings()[frames.MAX_CONCURRENT_STREAMS] == 1000


async def test_a_flood_of_pings_ends_the_connection(stage: Stage, line: frames.Line):
    await first(line, frames.SETTINGS)
    line.send(*[Frame(frames.PING, payload=bytes(8))] * 6)
    assert (await first(line, frames.GOAWAY)).error_code() == frames.ENHANCE_YOUR_CALM
    await stage.call("ListDevices", LIST)


@pytest.mark.parametrize("size", [17_000, 60_000, 500_000])
async def test_metadata_that_is_too_long_is_refused(stage: Stage, size: int):
    call = stage.start("ListDevices", LIST, metadata=[("x-long", "a" * size)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(stage.counted("ListDevices")) <= {"CANCELLED"}, "its request was never read"
    await stage.call("ListDevices", LIST)


async def test_a_client_within_the_limit_of_its_connection_is_never_refused(
    stage_with: StageWith,
):
    """Calls that are just ending, which gRPC still counts, must not count against the next call."""
    stage = await stage_with(doors=ListenOptions(capacity=Capacity(per_connection=4)))

    async def caller() -> None:
        for _ in range(60):
            await stage.call("ListDevices", LIST)

    await asyncio.gather(*(caller() for _ in range(16)))


# --- strangers ------------------------------------------------------------------------------------


async def test_a_stranger_s_request_is_not_read(stage_with: StageWith, tmp_path: Path):
    """A caller without access is refused before its request has arrived. No caller can make the
    process hold a request that never ends.
    """
    policy = tmp_path / "access.toml"
    policy.write_text('[callers.login]\nroles = ["operator"]\n')
    stage = await stage_with(doors=ListenOptions(access=AccessSource(policy, None)))
    for method in ("BatchValidateSessions", "WatchEvents"):
        call: Any = stage.channel.stream_stream(
            f"/session_authority.v1.SessionAuthorityService/{method}"
        )(timeout=PATIENCE)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, "though nothing was sent"


async def test_a_caller_that_never_sends_its_request_loses_its_place(
    stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("session_authority.rpc.unary._MAX_CALL_SECONDS", 0.05)
    stage = await stage_with()
    for method in ("ListDevices", "WatchEvents"):
        call: Any = stage.channel.stream_stream(
            f"/session_authority.v1.SessionAuthorityService/{method}"
        )(timeout=PATIENCE)
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert stage.server._guards[0]._load.calls == 0

"""Faults inside the service stay inside: a caller learns what to do about a fault, and nothing
else.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import session_authority
from session_authority.access import Access, Caller
from session_authority.domain.errors import StoreUnavailable
from session_authority.rpc import Authorizer, Capacity, Guard
from session_authority.runtime.metrics import Metrics
from session_authority.store import Limits, connect
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import METHODS, PATIENCE, SERVICE, Refusal, Stage, StageWith, refusal_of
from tests.rpc.requests import GOOD
from tests.support.backends import Backend, ValkeyServer, valkey_server
from tests.support.ports import free_port
from tests.support.waiting import eventually

SECRET = "hunter2"
USE_CASES = {
    "IssueDevice": "issue_device",
    "RenewSession": "renew_session",
    "UpdateSession": "update_session",
    "ValidateSession": "validate_session",
    "ListDevices": "list_devices",
    "UpdateDevice": "update_device",
    "RevokeDevice": "revoke_device",
    "RevokeAll": "revoke_all",
    "GetSigningKeys": "signing_keys",
    "WatchEvents": "watch",
}
WATCH = "/grpc.health.v1.Health/Watch"
AWAY = Refusal(
    grpc.StatusCode.UNAVAILABLE,
    "the session store does not answer; try again",
    "STORE_UNAVAILABLE",
    "session-authority",
    retry_after=timedelta(milliseconds=500),
)
# Requests of calls that need the store, made from the answer to a sign-in.
NEEDY: dict[str, Callable[[pb.IssueDeviceResponse], Any]] = {
    "IssueDevice": lambda _: pb.IssueDeviceRequest(user_id="ada"),
    "RenewSession": lambda s: pb.RenewSessionRequest(
        access_token=s.access_token, device_id=s.device.device_id
    ),
    "ValidateSession": lambda s: pb.ValidateSessionRequest(
        access_token=s.access_token, device_id=s.device.device_id
    ),
    "UpdateSession": lambda _: pb.UpdateSessionRequest(user_id="ada", claims={"name": "Ada"}),
    "ListDevices": lambda _: pb.ListDevicesRequest(user_id="ada"),
    "UpdateDevice": lambda s: pb.UpdateDeviceRequest(user_id="ada", device_id=s.device.device_id),
    "RevokeDevice": lambda s: pb.RevokeDeviceRequest(user_id="ada", device_id=s.device.device_id),
    "RevokeAll": lambda _: pb.RevokeAllRequest(user_id="ada"),
}


def fails_with(stage: Stage, method: str, error: BaseException) -> None:
    """Makes the use case behind a method fail."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    owner: object = stage.feed if method == "WatchEvents" else stage.authority
    setattr(owner, USE_CASES[method], fail)


# --- exceptions -----------------------------------------------------------------------------------


def test_every_method_is_tried():
    assert set(USE_CASES) | {"BatchValidateSessions", "CheckSessions"} == set(METHODS)
    needless = {"BatchValidateSessions", "CheckSessions", "GetSigningKeys", "WatchEvents"}
    assert set(NEEDY) | needless == set(METHODS)


@pytest.mark.parametrize("method", USE_CASES)
async def test_a_fault_shows_its_text_to_neither_caller_nor_log(
    stage: Stage, logged: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], method: str
):
    fails_with(stage, method, RuntimeError(f"redis://:{SECRET}@store:6379 said no"))
    refusal = await stage.refused(method, GOOD[method]())
    [(name, error_id)] = refusal.metadata
    assert refusal == Refusal(
        grpc.StatusCode.INTERNAL,
        "internal error",
        "INTERNAL",
        "session-authority",
        metadata=((name, error_id),),
    )
    assert name == "error_id"
    [entry] = [entry for entry in logged if entry.get("error_id") == error_id]
    assert (entry["event"], entry["method"], entry["error"]) == (
        "internal_error",
        method,
        "builtins.RuntimeError",
    )
    assert entry["log_level"] == "error"
    assert entry["trace"][-1].endswith(" fail"), "the frames lead to where it happened"
    assert SECRET not in str(logged) + str(refusal) + "".join(capfd.readouterr())
    assert stage.counted(method) == {"INTERNAL": 1}


async def test_two_faults_have_two_ids(stage: Stage):
    fails_with(stage, "RevokeAll", RuntimeError())
    first, second = [await stage.refused("RevokeAll", GOOD["RevokeAll"]()) for _ in range(2)]
    assert first.metadata != second.metadata


@pytest.mark.parametrize(
    "error", [TimeoutError(f"{SECRET}"), StoreUnavailable()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("method", USE_CASES)
async def test_a_store_that_takes_too_long_is_unavailable(
    stage: Stage, method: str, error: Exception
):
    fails_with(stage, method, error)
    assert await stage.refused(method, GOOD[method]()) == AWAY
    assert stage.counted(method) == {"UNAVAILABLE": 1}


async def test_the_password_in_an_unreachable_store_s_address_is_not_shown(
    stage_with: StageWith, logged: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
):
    url = f"redis://admin:{SECRET}@127.0.0.1:{free_port()}/0"
    stage = await stage_with(Backend("nowhere", url, lambda: connect(url, Limits())))
    for method in [name for name in NEEDY if name not in ("RenewSession", "ValidateSession")]:
        assert await stage.refused(method, GOOD[method]()) == AWAY
    assert logged
    assert SECRET not in str(logged) + "".join(capfd.readouterr())


async def test_a_wrong_password_of_the_store_is_not_shown(
    stage_with: StageWith,
    valkey_backend: Backend,
    logged: list[dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
):
    url = valkey_backend.url_as("nobody", SECRET)
    stage = await stage_with(Backend("refusing", url, lambda: connect(url, Limits())))
    assert await stage.refused("RevokeAll", GOOD["RevokeAll"]()) == AWAY
    assert logged
    assert SECRET not in str(logged) + "".join(capfd.readouterr())


# --- deadlines ------------------------------------------------------------------------------------


async def test_a_deadline_that_is_too_short_is_refused_with_its_reason(stage: Stage):
    """The answer races the client's own clock, so the test repeats the call until one answer
    arrives in time.
    """
    called = []
    sound = stage.authority.revoke_all

    async def revoke_all(*args: Any, **more: Any) -> int:
        called.append(args)
        return await sound(*args, **more)

    stage.authority.revoke_all = revoke_all  # type: ignore[method-assign]
    await stage.call("RevokeAll", GOOD["RevokeAll"]())
    async with asyncio.timeout(PATIENCE):
        while True:
            del called[:]
            refusal = await stage.refused("RevokeAll", GOOD["RevokeAll"](), within=0.007)
            if refusal.code is grpc.StatusCode.UNAVAILABLE:
                break
            assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (refusal.reason, refusal.domain) == ("DEADLINE_TOO_SHORT", "session-authority")
    assert refusal.retry_after == timedelta(0)
    assert not called, "nothing was done"


@pytest.mark.parametrize("method", NEEDY)
async def test_the_answer_comes_before_the_deadline(stage: Stage, method: str):
    """This holds for whatever delays the use case. On a busy machine the client's clock may win now
    and then, but not always.
    """

    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    setattr(stage.authority, USE_CASES[method], hang)
    async with asyncio.timeout(PATIENCE):
        while (refusal := await stage.refused(method, GOOD[method](), within=0.3)) != AWAY:
            assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(stage.server._guards[0].idle(), PATIENCE)


# --- cancellation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NEEDY)
async def test_a_cancelled_call_ends_and_leaves_nothing_behind(stage: Stage, method: str):
    entered, ended = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    sound = getattr(stage.authority, USE_CASES[method])
    setattr(stage.authority, USE_CASES[method], hang)
    call = stage.start(method, GOOD[method]())
    await asyncio.wait_for(entered.wait(), PATIENCE)
    call.cancel()
    await asyncio.wait_for(ended.wait(), PATIENCE)
    await asyncio.wait_for(stage.server._guards[0].idle(), PATIENCE)
    assert stage.counted(method) == {"CANCELLED": 1}
    setattr(stage.authority, USE_CASES[method], sound)
    await stage.sign_in("ada")


@pytest.mark.parametrize("method", ["ValidateSession", "ListDevices"])
async def test_a_caller_that_cancels_before_its_request_arrives_sent_no_bad_request(
    stage: Stage, method: str
):
    """The server sees the same end of the stream from a caller that cancels and from a caller that
    sends nothing.
    """
    arriving = stage.server._guards[0]._load.arriving
    ask = stage.channel.stream_unary(f"/{SERVICE.full_name}/{method}")
    for number in range(1, 6):
        call = ask(nothing_yet(), timeout=PATIENCE)
        await eventually(lambda: bool(arriving), "the call to arrive")
        call.cancel()
        await eventually(lambda n=number: sum(stage.counted(method).values()) == n, "the end")  # type: ignore[misc]
    assert stage.counted(method) == {"CANCELLED": 5}


async def nothing_yet() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_calls_cancelled_at_any_moment_do_everything_or_nothing(
    stage_with: StageWith, valkey_backend: Backend
):
    """A cancelled sign-in was carried out completely or not at all, and the connections still
    work.
    """
    stage = await stage_with(valkey_backend)
    for number in range(120):
        call = stage.start("IssueDevice", pb.IssueDeviceRequest(user_id=f"user-{number}"))
        for _ in range(number % 12):
            await asyncio.sleep(0)
        if number % 3:
            await asyncio.sleep(0.0003 * (number % 10))
        call.cancel()
    # The last calls may still be on their way. A later call on the same connection is answered
    # after they have arrived.
    await stage.call("GetSigningKeys", pb.GetSigningKeysRequest())
    await asyncio.wait_for(stage.server._guards[0].idle(), PATIENCE)
    await eventually(lambda: not stage.store._writes._shield._tasks, "what was sent to be answered")
    whole = 0
    for number in range(120):
        listed = await stage.call("ListDevices", pb.ListDevicesRequest(user_id=f"user-{number}"))
        everything = pb.ListDevicesRequest(user_id=f"user-{number}", include_signed_out=True)
        assert (await stage.call("ListDevices", everything)).total_size == listed.total_size <= 1
        whole += listed.total_size
        revoked = await stage.call("RevokeAll", pb.RevokeAllRequest(user_id=f"user-{number}"))
        assert revoked.revoked_devices == listed.total_size
    signed_in = await stage.sign_in("ada")
    assert (await stage.validate(signed_in)).session.user_id == "ada"


def _handlers() -> Iterator[tuple[str, ast.ExceptHandler]]:
    package = Path(session_authority.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                yield f"{path.relative_to(package)}:{node.lineno}", node


def test_nothing_swallows_a_cancellation():
    catching = {"CancelledError", "BaseException"}
    seen = 0
    for where, handler in _handlers():
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(handler.type or ast.Name("BaseException"))
            if isinstance(node, (ast.Attribute, ast.Name))
        }
        if names & catching:
            seen += 1
            assert isinstance(handler.body[-1], ast.Raise), where
            assert handler.body[-1].exc is None, where
    assert seen >= 2


# --- streams --------------------------------------------------------------------------------------


async def test_health_can_be_watched_through_the_guard(stage: Stage):
    watch = stage.channel.unary_stream(
        WATCH, response_deserializer=health_pb2.HealthCheckResponse.FromString
    )
    answers = watch(b"", timeout=PATIENCE)
    assert (await answers.read()).status == health_pb2.HealthCheckResponse.SERVING
    answers.cancel()


async def test_a_stream_that_starts_with_a_malformed_request_is_refused(stage: Stage):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.channel.unary_stream(WATCH)(b"\xff\xff", timeout=PATIENCE).read()
    assert refusal_of(caught.value).reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (RuntimeError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL"),
        (StoreUnavailable(), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_fault_in_a_stream_shows_its_text_to_nobody(
    logged: list[dict[str, Any]], error: Exception, code: grpc.StatusCode, reason: str
):
    closed = []

    async def generate(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"1"
            raise error
        finally:
            closed.append("generate")

    async def write(_request: bytes, context: Any) -> None:
        await context.write(b"1")
        raise error

    handlers = {"Generate": generate, "Write": write}
    access = Access(anyone=Caller("ada", frozenset(f"/test.Streams/{name}" for name in handlers)))
    server = grpc.aio.server(
        interceptors=[Guard(Metrics(), Authorizer(lambda: access), Capacity())]
    )
    server.add_registered_method_handlers(
        "test.Streams",
        {n: grpc.unary_stream_rpc_method_handler(h, bytes, bytes) for n, h in handlers.items()},
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "test.Streams",
                {
                    n: grpc.unary_stream_rpc_method_handler(h, bytes, bytes)
                    for n, h in handlers.items()
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in handlers:
            stream: Any = channel.unary_stream(f"/test.Streams/{name}")
            answers = stream(b"", timeout=PATIENCE)
            assert await answers.read() == b"1"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answers.read()
            refusal = refusal_of(caught.value)
            assert (refusal.code, refusal.reason) == (code, reason)
            assert SECRET not in str(caught.value) + str(logged)
    assert closed == ["generate"]
    await server.stop(0)


# --- a store that is unreachable ------------------------------------------------------------------


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that a test may kill."""
    with valkey_server(tmp_path) as server:
        yield server


@pytest.fixture
async def mortal(stage_with: StageWith, own_valkey: ValkeyServer) -> Stage:
    """A server on the Valkey of `own_valkey`."""
    stage: Stage = await stage_with(
        Backend("mortal", own_valkey.url, lambda: connect(own_valkey.url, Limits()))
    )
    return stage


async def test_a_killed_store_gives_no_verdict(mortal: Stage, own_valkey: ValkeyServer):
    signed_in = await mortal.sign_in("ada")
    assert (await mortal.validate(signed_in)).active
    own_valkey.kill()
    calls = [(method, request(signed_in)) for method, request in NEEDY.items()] * 3
    assert await asyncio.gather(
        *(mortal.refused(method, request) for method, request in calls)
    ) == [AWAY] * len(calls)
    batch = pb.BatchValidateSessionsRequest(requests=[NEEDY["ValidateSession"](signed_in)] * 3)
    for result in (await mortal.call("BatchValidateSessions", batch)).results:
        assert result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert not result.HasField("response")
    # Calls that need no store are still answered.
    missing = await mortal.call(
        "ValidateSession", pb.ValidateSessionRequest(device_id=signed_in.device.device_id)
    )
    assert missing.status == pb.SESSION_STATUS_TOKEN_MISSING


async def test_a_hung_store_gives_no_verdict_before_the_deadline(
    mortal: Stage, own_valkey: ValkeyServer
):
    signed_in = {user_id: await mortal.sign_in(user_id) for user_id in ("ada", "bob")}
    process_id = own_valkey.process_id
    os.kill(process_id, signal.SIGSTOP)
    try:
        refused: Awaitable[list[Refusal]] = asyncio.gather(
            *(
                mortal.refused(m, request(signed_in["ada"]))
                for m, request in NEEDY.items()
                if not m.startswith("Revoke")
            )
        )
        assert set(await refused) == {AWAY}
        async with asyncio.timeout(PATIENCE):
            validate = NEEDY["ValidateSession"](signed_in["bob"])
            while (
                refusal := await mortal.refused("ValidateSession", validate, within=0.3)
            ) != AWAY:
                assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        os.kill(process_id, signal.SIGCONT)
    # Late replies are on their way. No reply may answer another request.
    for _ in range(20):
        for user_id, issued in signed_in.items():
            answer = await mortal.validate(issued)
            assert (answer.active, answer.session.user_id) == (True, user_id)

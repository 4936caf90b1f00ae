"""A stream that is ended while an answer is being written: its caller always learns the reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from session_authority.access import Access, Caller
from session_authority.domain.errors import CursorExpired
from session_authority.processes import health_service
from session_authority.rpc import Authorizer, Capacity, Guard
from session_authority.runtime.metrics import Metrics
from tests.rpc.harness import PATIENCE, Stage, code_named, refusal_of
from tests.support.waiting import eventually

# More than a client accepts before it reads.
LARGE = b"x" * 300_000
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
METHODS = ("Generate", "Write", "WriteInTime")


def path_of(method: str) -> str:
    """The full name of a method."""
    return f"/test.Streams/{method}"


class Streams:
    """Streams behind a guard that all send the same answers, and ways to end them."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._access = Access(anyone=Caller("ada", frozenset(map(path_of, METHODS))))
        self._metrics = Metrics()
        self.guard = Guard(self._metrics, Authorizer(lambda: self._access), Capacity())
        self.writing_last = asyncio.Event()
        self.sent_away = asyncio.Event()

    async def generate(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        """Answers, as a generator."""
        for answer in self._answers:
            if answer is self._answers[-1]:
                self.writing_last.set()
            yield answer

    async def write(self, _request: bytes, context: Any) -> None:
        """Answers, as a handler that writes by itself."""
        async for answer in self.generate(_request, context):
            await context.write(answer)

    async def write_in_time(self, request: bytes, context: Any) -> None:
        """Answers, as a handler that interrupts itself."""
        writing = asyncio.ensure_future(self.write(request, context))
        away = asyncio.ensure_future(self.sent_away.wait())
        await asyncio.wait([writing, away], return_when=asyncio.FIRST_COMPLETED)
        writing.cancel()
        await asyncio.wait([writing])
        raise CursorExpired

    def ended(self) -> dict[str, int]:
        """How many streams ended with each code, by the metrics."""
        _, family, *_ = self._metrics.calls.collect()
        return {
            code_named(sample.labels["grpc_code"]): int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        }

    def allow_nobody(self) -> None:
        """Takes the access away from every caller, as a policy that is read again does."""
        self._access = Access(anyone=Caller("ada", frozenset()))
        self.guard.recheck_streams()


@asynccontextmanager
async def serving(streams: Streams) -> AsyncIterator[Any]:
    """Runs a server of these streams. Its client accepts at most 64 KiB of a stream before it
    reads.
    """
    behaviors = (streams.generate, streams.write, streams.write_in_time)
    handlers = {
        name: grpc.unary_stream_rpc_method_handler(behavior, bytes, bytes)
        for name, behavior in zip(METHODS, behaviors, strict=True)
    }
    server = grpc.aio.server(interceptors=[streams.guard])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Streams", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield channel
    await server.stop(0)


async def read_all(call: Any) -> None:
    """Reads a stream to its end. Raises the error with which the stream ended."""
    async with asyncio.timeout(PATIENCE):
        while await call.read() is not grpc.aio.EOF:
            pass


async def reason_of(call: Any) -> str:
    """Reads a stream to its end. Returns why it ended."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    return refusal_of(caught.value).reason


ENDS: list[Any] = [
    pytest.param("Generate", lambda s: s.guard.end_streams(), "STOPPING", id="stop"),
    pytest.param("Write", lambda s: s.guard.end_streams(), "STOPPING", id="stop-writer"),
    pytest.param("Write", Streams.allow_nobody, "CALLER_NOT_ALLOWED", id="new-access"),
    pytest.param("WriteInTime", lambda s: s.sent_away.set(), "CURSOR_EXPIRED", id="sent-away"),
]


@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "under-way"])
@pytest.mark.parametrize("answers", [[LARGE], [b"1", LARGE]], ids=["first", "later"])
@pytest.mark.parametrize(("method", "end", "reason"), ENDS)
async def test_a_caller_learns_of_an_end_in_the_middle_of_an_answer(
    method: str, end: Callable[[Streams], None], reason: str, answers: list[bytes], at_once: bool
):
    streams = Streams(answers)
    async with serving(streams) as channel:
        call = channel.unary_stream(path_of(method))(b"", timeout=100 * PATIENCE)
        await streams.writing_last.wait()
        if not at_once:
            await call.initial_metadata()
        end(streams)
        await eventually(
            lambda: not streams.guard.is_streaming, "the place of the stream to be free"
        )
        assert await reason_of(call) == reason


async def test_a_watcher_of_health_learns_that_it_did_not_read_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health_service, "MAX_ANSWER_SECONDS", 0)
    call: Any = stage.channel.unary_stream(HEALTH_WATCH)(b"", timeout=100 * PATIENCE)
    assert await reason_of(call) == "DEADLINE_TOO_SHORT"


@pytest.mark.parametrize("answers", [[LARGE], [b"1", LARGE]], ids=["first", "later"])
async def test_a_caller_that_goes_in_the_middle_of_an_answer_is_no_fault(
    caplog: pytest.LogCaptureFixture, logged: list[dict[str, Any]], answers: list[bytes]
):
    streams = Streams(answers)
    async with serving(streams) as channel:
        for number in range(20):
            streams.writing_last.clear()
            call = channel.unary_stream(path_of("Write"))(b"", timeout=100 * PATIENCE)
            await streams.writing_last.wait()
            if number % 2:
                await call.initial_metadata()
            call.cancel()
            await eventually(lambda: not streams.guard.is_streaming, "the stream to be gone")
    assert streams.ended() == {"CANCELLED": 20}
    assert (caplog.messages, logged) == ([], [])

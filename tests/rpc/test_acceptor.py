"""Standing tasks accept calls as grpc.aio does, or are not used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from session_authority.processes.grpc_server import STANDING_METHODS, acceptor_that_works
from session_authority.rpc import acceptor, acceptor_check, long_calls
from session_authority.rpc.acceptor import (
    MAX_WAITING_TASKS,
    MIN_WAITING_TASKS,
    standing_server,
)
from session_authority.runtime.settings import Acceptor
from tests.processes.harness import add_signing_key, house
from tests.rpc.harness import METHODS, PATIENCE, Stage
from tests.rpc.requests import GOOD
from tests.support.backends import Backend
from tests.support.waiting import eventually

PATH = "/test.Calls/Answer"
MANY = 2 * MAX_WAITING_TASKS


class Calls:
    """A method that standing tasks answer, and its calls."""

    def __init__(self) -> None:
        self.behavior: Callable[[bytes], Awaitable[Any]] = self.echo
        self.entered = 0
        self.left = 0
        self.sent = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.contexts: list[Any] = []
        self.faults: list[Exception] = []
        self.go = asyncio.Event()

    async def echo(self, text: bytes) -> bytes:
        return text

    async def hold(self, text: bytes) -> bytes:
        await self.go.wait()
        return text

    async def answer(self, context: Any) -> Any:
        self.entered += 1
        self.contexts.append(context)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            return await self.behavior(await context.read())
        finally:
            self.tasks.discard(task)
            self.left += 1

    def note_sent(self, _: object) -> None:
        self.sent += 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self.server, self.core = standing_server(
            (), [("grpc.max_concurrent_streams", 10_000)], self.faults.append
        )
        self.core.answer(PATH, self.answer, self.note_sent)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            self.channel: Any = channel
            try:
                yield
            finally:
                self.go.set()
                await self.server.stop(PATIENCE)

    def call(self, text: bytes) -> Any:
        return self.channel.unary_unary(PATH)(text, timeout=PATIENCE)

    async def have_entered(self, count: int) -> None:
        await eventually(lambda: self.entered == count, f"{count} calls to be under way")

    @property
    def waiting(self) -> int:
        """The tasks that wait for a call."""
        return len(self.core._methods[PATH.encode()]._tasks) - len(self.tasks)

    async def still_answer(self) -> None:
        """Checks that other calls are answered, each with its own answer."""
        self.behavior = self.echo
        texts = [str(number).encode() for number in range(MANY)]
        assert await asyncio.gather(*map(self.call, texts)) == texts


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    found = Calls()
    async with found.open():
        yield found


async def test_no_call_waits_for_a_task(calls: Calls):
    """However many calls are under way, no call waits for another."""
    calls.behavior = calls.hold
    held = [calls.call(str(number).encode()) for number in range(MANY)]
    await calls.have_entered(MANY)
    assert calls.waiting >= MIN_WAITING_TASKS
    calls.go.set()
    assert await asyncio.gather(*held) == [str(number).encode() for number in range(MANY)]


async def test_after_a_burst_only_a_few_tasks_go_on_waiting(calls: Calls):
    calls.behavior = calls.hold
    held = [calls.call(b"") for _ in range(MANY)]
    await calls.have_entered(MANY)
    calls.go.set()
    await asyncio.gather(*held)
    await eventually(lambda: calls.waiting <= MAX_WAITING_TASKS, "tasks to end")
    assert calls.waiting >= MIN_WAITING_TASKS
    await calls.still_answer()


async def test_a_call_whose_caller_gives_up_is_cancelled(calls: Calls):
    calls.behavior = calls.hold
    held = [calls.call(b"") for _ in range(MANY)]
    await calls.have_entered(MANY)
    for call in held:
        call.cancel()
    await eventually(lambda: calls.left == calls.sent == MANY, "the calls to be cancelled")
    assert not calls.go.is_set()
    await calls.still_answer()


async def test_a_handler_that_goes_on_after_its_caller_gave_up_sends_no_answer(calls: Calls):
    async def go_on(text: bytes) -> bytes:
        try:
            await calls.go.wait()
        except asyncio.CancelledError:
            return b"another's"
        return text

    calls.behavior = go_on
    held = [calls.call(b"") for _ in range(MANY)]
    await calls.have_entered(MANY)
    for call in held:
        call.cancel()
    await eventually(lambda: calls.left == calls.sent == MANY, "the calls to be cancelled")
    await calls.still_answer()
    assert not calls.faults


async def test_a_client_that_does_not_end_its_request_is_answered(calls: Calls):
    call: Any = calls.channel.stream_stream(PATH)(timeout=PATIENCE)
    await call.write(b"one")
    assert await call.read() == b"one"
    assert await call.read() is grpc.aio.EOF
    await eventually(lambda: calls.sent == 1, "the call to end")
    assert await call.code() is grpc.StatusCode.OK


async def test_a_task_that_another_task_cancels_ends(calls: Calls):
    calls.behavior = calls.hold
    held = calls.call(b"")
    await calls.have_entered(1)
    [task] = calls.tasks
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
    with pytest.raises(grpc.aio.AioRpcError):
        await held
    await calls.still_answer()


async def test_an_answer_that_fails_ends_only_its_own_call(calls: Calls):
    error = RuntimeError("hunter2")

    async def fail(_: bytes) -> bytes:
        raise error

    calls.behavior = fail
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calls.call(b"")
    assert "hunter2" not in str(caught.value)
    assert calls.faults == [error]
    await eventually(lambda: calls.sent == 1, "the call to end")
    await calls.still_answer()


async def test_a_fault_in_counting_ends_no_server(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    def lose_count(_: object) -> None:
        raise KeyError

    method = calls.core._methods[PATH.encode()]
    with monkeypatch.context() as patch:
        patch.setattr(method, "_sent", lose_count)
        assert await calls.call(b"one") == b"one"
        await eventually(lambda: calls.faults, "the fault to be told of")
    await calls.still_answer()


async def test_the_end_lets_calls_finish_and_accepts_no_others(calls: Calls):
    calls.behavior = calls.hold
    held = calls.call(b"late")
    await calls.have_entered(1)
    stopping = asyncio.ensure_future(calls.server.stop(PATIENCE))
    await eventually(lambda: not calls.core.is_running(), "the end to begin")
    assert not stopping.done()
    calls.go.set()
    assert await held == b"late"
    await asyncio.wait_for(stopping, PATIENCE)
    assert not calls.core._methods[PATH.encode()]._tasks
    assert calls.entered == 1


async def test_calls_that_outlast_the_end_are_cancelled(calls: Calls):
    calls.behavior = calls.hold
    held = [calls.call(b"") for _ in range(MIN_WAITING_TASKS)]
    await calls.have_entered(MIN_WAITING_TASKS)
    await asyncio.wait_for(calls.server.stop(0), PATIENCE)
    await eventually(lambda: calls.left == calls.sent == MIN_WAITING_TASKS, "the calls to end")
    for call in held:
        assert await call.code() is not grpc.StatusCode.OK
    await eventually(lambda: not calls.core._methods[PATH.encode()]._tasks, "the tasks to end")


# --- a different grpc -----------------------------------------------------------------------------


def _break_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    send = acceptor._Call.send

    async def send_others(call: Any, answer: Any) -> None:
        await send(call, b"another's" if isinstance(answer, bytes) else answer)

    monkeypatch.setattr(acceptor._Call, "send", send_others)


def _break_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_calls.LongCalls, "add", lambda *_: None)
    monkeypatch.setattr(acceptor_check, "_CHECK_SECONDS", 0.5)


def _break_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cygrpc, "SendStatusFromServerOperation")


def _break_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "session_authority.rpc.acceptor_check", None)


BREAKS = [_break_answers, _break_watch, _break_names, _break_import]


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda break_it: break_it.__name__)
async def test_a_grpc_that_behaves_differently_keeps_its_own_acceptor(
    monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]], break_it: Any
):
    break_it(monkeypatch)
    assert await acceptor_that_works(Acceptor.STANDING) is Acceptor.STOCK
    assert [entry["event"] for entry in logged] == ["standing_acceptor_unfit"]


async def test_the_installed_grpc_behaves_as_required(logged: list[dict[str, Any]]):
    assert await acceptor_that_works(Acceptor.STANDING) is Acceptor.STANDING
    assert not logged


def is_standing(server: Any) -> bool:
    return isinstance(server._server._server, acceptor.StandingServer)


@pytest.mark.parametrize(
    ("acceptor_set", "fit", "standing"),
    [("standing", True, True), ("standing", False, False), ("stock", True, False)],
)
async def test_a_server_uses_the_acceptor_of_the_setting(
    valkey_backend: Backend,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    acceptor_set: str,
    fit: bool,
    standing: bool,
):
    if not fit:
        _break_answers(monkeypatch)
    add_signing_key(tmp_path)
    async with house(valkey_backend.url, tmp_path, prefix, False, acceptor=acceptor_set) as one:
        server = one.server
        assert is_standing(server) is standing
        value = server._metrics.registry.get_sample_value("session_authority_standing_acceptor")
        assert value == int(standing)


async def test_standing_tasks_answer_the_busiest_methods(stage: Stage):
    core: Any = stage.server._server._server  # type: ignore[attr-defined]
    names = {path.decode().rpartition("/")[2] for path in core._methods}
    assert names == STANDING_METHODS
    assert names <= METHODS.keys()
    for name in names:
        await stage.call(name, GOOD[name]())
        assert stage.counted(name) == {"OK": 1}


# --- calls that take long -------------------------------------------------------------------------


async def test_a_call_that_takes_two_intervals_is_watched(calls: Calls):
    """The server notices within 20 ms that a caller gives up."""
    assert 2 * long_calls.INTERVAL_SECONDS <= 0.02
    calls.behavior = calls.hold
    held = calls.call(b"")
    await calls.have_entered(1)
    [context] = calls.contexts
    watch = calls.core.long_calls
    await eventually(lambda: context._closing is not None, "the call to be watched")
    assert not watch._young | watch._old
    calls.go.set()
    assert await held == b""


async def test_a_call_that_ends_within_an_interval_is_not_watched(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(long_calls, "INTERVAL_SECONDS", PATIENCE)
    assert await calls.call(b"") == b""
    [context] = calls.contexts
    assert context._closing is None
    assert not calls.core.long_calls._young | calls.core.long_calls._old

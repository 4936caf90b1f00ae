"""Accepts the calls of some methods with standing tasks, which answer one call after the other.

Without standing tasks, grpc.aio starts three tasks for each call, and accepts the next call only
after several iterations of the event loop. So without standing tasks, calls that arrive together
are answered one by one. Standing tasks already wait when calls arrive, and gRPC's core gives each
call to a waiting task at once. To answer the call, the task needs only two more exchanges with the
core: one for the request, and one for the whole answer. grpc.aio does all other work of the server.

Only this module and the module `wakeups` use private names of grpc. This module does not depend on
the rules of the service. The module `acceptor_check` tests if a release of grpc has what this
module needs. If a private name is missing from the release, even the import of this module may
fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from session_authority.rpc import wakeups
from session_authority.rpc.long_calls import LongCalls
from session_authority.rpc.replies import Reply

# The limits of the number of tasks that wait for calls of one method. When a task accepts a call
# and fewer tasks than the minimum still wait, the task starts another task. So a call does not have
# to wait until a running call ends. When a task has answered a call and the maximum of tasks is
# already waiting, the task ends.
MIN_WAITING_TASKS, MAX_WAITING_TASKS = 16, 128
_NO_FLAGS = 0

Answer = Callable[[Any], Awaitable[bytes | Reply | grpc.Status]]
"""A function that answers the call with the given context. The function returns the serialized
answer, or the status with which the call fails.
"""


class StandingServer(cygrpc.AioServer):  # type: ignore[misc]
    """The server core of grpc.aio, with standing tasks for some methods.

    `on_fault` is called with each unexpected error that occurs while a standing task answers a
    call.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, Any]],
        on_fault: Callable[[Exception], None],
    ) -> None:
        wakeups.install()
        self.loop = cygrpc.get_working_loop()
        super().__init__(self.loop, None, (), list(interceptors), tuple(options), None)
        self.on_fault = on_fault
        # Only long calls are watched. A watch notices if the caller of the call gives up. A watch
        # of every call would cost a third of the time that an answer takes.
        self.long_calls: LongCalls[_Call] = LongCalls(_Call.watch)
        self.is_stopped = False
        self._methods: dict[bytes, _Method] = {}

    def answer(self, path: str, answer: Answer, sent: Callable[[Any], None]) -> None:
        """Lets standing tasks answer the calls of a unary method. Must be called before the server
        starts.

        Args:
            path: The path of the method, such as `/package.Service/Method`.
            answer: Answers a call.
            sent: Is called once for each call of `answer`, with the same context, after the answer
                was sent or could not be sent. For example, an answer can't be sent if the caller
                has given up.
        """
        name = path.encode()
        self._methods[name] = _Method(self, name, answer, sent)
        self.add_registered_method_handlers({path: None})

    def _make_request_call_future(self, name: bytes | None) -> Any:
        """Returns a future that grpc.aio awaits before it accepts a call of this method.

        If standing tasks answer the method, the future does not complete before the server stops,
        so grpc.aio gets no calls of the method.
        """
        method = None if name is None else self._methods.get(name)
        if method is None:
            return super()._make_request_call_future(name)
        return self.loop.create_task(method.run())

    async def shutdown(self, grace: float | None) -> None:
        """Stops the server as grpc.aio does, and then sets `is_stopped`."""
        await super().shutdown(grace)
        self.is_stopped = True


class _Method:
    """One method, and the standing tasks that answer its calls."""

    def __init__(
        self, server: StandingServer, name: bytes, answer: Answer, sent: Callable[[Any], None]
    ) -> None:
        self._server = server
        self._name = name
        self._answer = answer
        self._sent = sent
        self._loop = server.loop
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def run(self) -> NoReturn:
        """Starts standing tasks, and waits until the server stops.

        When the server stops, raises `_RequestCallError`, because grpc.aio expects this error from
        a wait for a call.
        """
        while self._waiting < MIN_WAITING_TASKS:
            self._start_task()
        await self._over
        raise cygrpc._RequestCallError  # noqa: SLF001

    def _start_task(self) -> None:
        self._waiting += 1
        task = self._loop.create_task(self._answer_calls())
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._over.done():
            self._over.set_exception(error)  # this error ends the server

    async def _answer_calls(self) -> None:
        server, name, loop = self._server, self._name, self._loop
        task = asyncio.current_task(loop)
        assert task is not None
        while server.is_running():
            try:
                state = await server._request_registered_call(name)  # noqa: SLF001
            except cygrpc._RequestCallError:  # noqa: SLF001
                continue  # the server stops, or the call has ended already
            self._waiting -= 1
            if self._waiting < MIN_WAITING_TASKS:
                self._start_task()
            call = _Call(state, None, None, loop)
            call.begin(state, loop, task)
            await self._answer_call(call)
            if call.given_up or self._waiting >= MAX_WAITING_TASKS:
                return
            del call, state  # a waiting task keeps no part of its last call
            self._waiting += 1
        if not self._over.done():
            self._over.set_result(None)

    async def _answer_call(self, call: _Call) -> None:
        """Answers one call.

        If the caller gives up, the task that runs this method is cancelled and ends. The cancelled
        task is not replaced, because enough other tasks already wait for calls.
        """
        server = self._server
        server.long_calls.add(call)
        try:
            try:
                try:
                    answer = await self._answer(call)
                finally:
                    call.answered = True
                    server.long_calls.discard(call)
                if not server.is_stopped:
                    await call.send(answer)
            finally:
                self._sent(call)
        except (cygrpc.ExecuteBatchError, grpc.aio.AbortError):
            pass  # the caller has gone, or the handler aborted the call
        except Exception as error:  # noqa: BLE001
            # gRPC's core ends the call when no object refers to the call any more.
            server.on_fault(error)


class _Call(cygrpc._ServicerContext):  # type: ignore[misc]  # noqa: SLF001
    """The gRPC context of a call that a standing task answers. Also holds the state of the call."""

    __slots__ = ("_closing", "_loop", "_state", "_task", "answered", "given_up")

    def begin(self, state: Any, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        """Stores the task that answers the call, and the state that gRPC has for the call."""
        self._state = state
        self._loop = loop
        self._task = task
        self._closing: asyncio.Task[None] | None = None
        self.answered = self.given_up = False

    def watch(self) -> None:
        """Starts to watch the call. If the caller gives up, the task that answers the call is
        cancelled.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._closed())

    async def _closed(self) -> None:
        close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        await cygrpc.execute_batch(self._state, (close,), self._loop)
        if close.cancelled() and not self.answered:
            self.given_up = True
            self._task.cancel()

    def send(self, answer: bytes | Reply | grpc.Status) -> Awaitable[None]:
        """Returns an awaitable that sends the answer, or the status with which the call fails.

        The awaitable completes when the answer is sent.
        """
        initial = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
        operations: tuple[Any, ...]
        if isinstance(answer, bytes):
            operations = (
                initial,
                cygrpc.SendMessageOperation(answer, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation((), 0, "", _NO_FLAGS),
            )
        elif isinstance(answer, Reply):
            operations = (
                initial,
                cygrpc.SendMessageOperation(answer.message, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(answer.trailing_metadata, 0, "", _NO_FLAGS),
            )
        else:
            status = cygrpc.SendStatusFromServerOperation(
                answer.trailing_metadata, answer.code.value[0], answer.details, _NO_FLAGS
            )
            operations = (initial, status)
        if self._closing is None:  # gRPC needs this operation for each call
            operations += (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
        sending: Awaitable[None] = cygrpc.execute_batch(self._state, operations, self._loop)
        return sending


def standing_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: Sequence[tuple[str, Any]],
    on_fault: Callable[[Exception], None],
) -> tuple[grpc.aio.Server, StandingServer]:
    """Returns a server of grpc.aio, and the core of this server. The method `answer` of the core
    lets standing tasks answer a method of the service.
    """
    core = StandingServer(interceptors, options, on_fault)
    server = _server.Server.__new__(_server.Server)
    server._loop, server._server = core.loop, core  # noqa: SLF001
    return cast(grpc.aio.Server, server), core

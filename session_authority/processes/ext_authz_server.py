"""Runs the gRPC server that answers the authorization requests of Envoy. Standing tasks answer
these requests if standing tasks work with the installed release of grpc.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import grpc
import structlog

from session_authority.gateway.configuration import GrpcTable
from session_authority.gateway.ext_authz.check import METHOD, SERVICE, Checks
from session_authority.processes.grpc_server import acceptor_that_works, server_options
from session_authority.processes.listening import (
    CannotListen,
    bind,
    refuse_taken,
    refuse_taken_socket,
)
from session_authority.rpc import Capacity
from session_authority.runtime import logs
from session_authority.runtime.settings import Acceptor

_log = structlog.get_logger(__name__)

# An Envoy has few connections to the gateway. Over these few connections, Envoy sends the
# authorization requests for all requests that it is handling. So one connection may have many calls
# at once.
_CAPACITY = Capacity(per_connection=10_000)


class _Failure(NamedTuple):
    """The gRPC status of a call that fails."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str], ...] = ()


_NO_ANSWER = _Failure(grpc.StatusCode.UNAVAILABLE, "the session authority gives no answer")
_FAULT = _Failure(grpc.StatusCode.INTERNAL, "internal error")


class ExtAuthzServer:
    """Answers the authorization requests of Envoy over gRPC, from `start` to `stop`."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._server: grpc.aio.Server | None = None
        self._socket: Path | None = None

    async def start(self, table: GrpcTable, acceptor: Acceptor = Acceptor.STANDING) -> list[str]:
        """Listens at the addresses of the table. Returns the addresses as texts, with the bound
        port. Raises CannotListen if the server can't listen at an address.
        """
        options = server_options(_CAPACITY, share_port=False)
        if await acceptor_that_works(acceptor) is Acceptor.STANDING:
            self._server = self._standing_server(options)
        else:
            self._server = self._stock_server(options)
        try:
            listening = self._listen(self._server, table)
        except CannotListen:
            await self._server.stop(None)
            raise
        await self._server.start()
        if self._socket is not None:
            # A proxy usually runs as another user than the gateway. So the socket's group may also
            # use the socket.
            self._socket.chmod(0o660)
        return listening

    async def stop(self, grace_seconds: float) -> None:
        """Stops the server and removes its unix socket. Calls that are under way may finish within
        `grace_seconds`.
        """
        if self._server is not None:
            await self._server.stop(grace_seconds)
        if self._socket is not None:
            with suppress(OSError):
                self._socket.unlink(missing_ok=True)

    def _listen(self, server: grpc.aio.Server, table: GrpcTable) -> list[str]:
        listening = []
        if table.listen is not None:
            refuse_taken(table.listen)
            listening.append(str(bind(server, table.listen, None)))
        if (path := table.unix_socket) is not None:
            refuse_taken_socket(path)
            try:
                server.add_insecure_port(f"unix:{path}")
            except RuntimeError:
                raise CannotListen(f"can't listen on {path}") from None
            self._socket = path
            listening.append(str(path))
        return listening

    def _stock_server(self, options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
        server = grpc.aio.server(options=options)
        methods: dict[str, Any] = {METHOD: grpc.unary_unary_rpc_method_handler(self._check)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        return server

    def _standing_server(self, options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
        from session_authority.rpc.acceptor import standing_server

        server, core = standing_server((), options, _tell)
        core.answer(f"/{SERVICE}/{METHOD}", self._answer, _nothing)
        return server

    async def _answer(self, context: Any) -> bytes | grpc.Status:
        """Answers a call of Envoy in a standing task."""
        message = await context.read()
        reply = await self._reply(message if isinstance(message, bytes) else b"", context)
        return cast(bytes | grpc.Status, reply)

    async def _check(self, message: bytes, context: Any) -> bytes:
        reply = await self._reply(message, context)
        if isinstance(reply, _Failure):
            await context.abort(reply.code, reply.details)
        assert isinstance(reply, bytes)
        return reply

    async def _reply(self, message: bytes, context: Any) -> bytes | _Failure:
        try:
            reply = await self._checks.reply(message, context.time_remaining())
        except Exception as error:  # noqa: BLE001 - else gRPC would send the error to Envoy
            _tell(error)
            return _FAULT
        return _NO_ANSWER if reply is None else reply


def _tell(error: Exception) -> None:
    _log.error("check_failed", **logs.fault(error))


def _nothing(_: Any) -> None:
    """Does nothing. The acceptor calls this function when the answer to a call is sent, or when
    Envoy no longer waits for the answer.
    """

"""An empty unary RPC with the same server options as the service.

It runs on grpc.aio's own server, or on the standing tasks that accept the service's busiest calls,
but without the service's guard.

Run as a process: `python -m benchmarks.floors.empty_rpc PORT [standing]`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import grpc

from session_authority.processes.grpc_server import server_options
from session_authority.rpc import Capacity

SERVICE, METHOD = "benchmarks.Floor", "Empty"
STANDING_ACCEPTOR = "session_authority.rpc.acceptor"


async def _empty(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    del request, context
    return b""


async def _answer(context: Any) -> bytes:
    await context.read()
    return b""


def _stock_server(options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
    server = grpc.aio.server(options=options)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(_empty)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    return server


def _standing_server(options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
    # Not every version of the service has this module.
    acceptor = importlib.import_module(STANDING_ACCEPTOR)
    server: grpc.aio.Server
    server, core = acceptor.standing_server((), options, _raise)
    core.answer(f"/{SERVICE}/{METHOD}", _answer, lambda _: None)
    return server


def _raise(error: Exception) -> None:
    raise error


async def serve(port: int, *, standing: bool) -> None:
    """Serves until the process is stopped."""
    options = server_options(Capacity(), share_port=False)
    server = _standing_server(options) if standing else _stock_server(options)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), standing=sys.argv[2:] == ["standing"]))

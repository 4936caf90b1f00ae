"""An empty unary RPC on grpc.aio's own server, with the options of the service's server.

Run as a process: `python -m benchmarks.floors.empty_rpc PORT`.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from session_authority.processes.grpc_server import server_options
from session_authority.rpc import Capacity

SERVICE, METHOD = "benchmarks.Floor", "Empty"


async def _empty(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    del request, context
    return b""


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    server = grpc.aio.server(options=server_options(Capacity(), share_port=False))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(_empty)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

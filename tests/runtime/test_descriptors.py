"""The connections of this process, by the names that the kernel and gRPC give them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from session_authority.runtime import descriptors
from session_authority.runtime.descriptors import Connection
from tests.support.waiting import eventually

PATIENCE = 20.0


@pytest.mark.parametrize(
    ("listen", "connect"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1"), ("[::]", "[::1]")],
)
async def test_a_peer_has_the_name_that_grpc_gives_it(listen: str, connect: str):
    seen = []

    async def answer(_: bytes, context: Any) -> bytes:
        seen.append(context.peer())
        return b""

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Service", {"Call": handler})]
    )
    port = server.add_insecure_port(f"{listen}:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{connect}:{port}") as channel:
            call: Any = channel.unary_unary("/test.Service/Call")
            await call(b"", timeout=PATIENCE)
            assert [c.peer for c in descriptors.connections({port}) if c.peer in seen] == seen
            [(connection, number)] = descriptors.connections({port}).items()
            assert not descriptors.hang_up(Connection(port, "another"), number)
            assert descriptors.hang_up(connection, number)
            await eventually(
                lambda: not descriptors.connections({port}), "the connection to be closed"
            )
    finally:
        await server.stop(None)


def test_other_ports_have_their_own_connections():
    assert descriptors.connections({1}) == {}

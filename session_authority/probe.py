"""Asks a running server after its health, over gRPC as any other caller."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.config import Listen

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server that listens everywhere is found


def reachable(listen: Listen) -> Listen:
    """Where a server that listens there can be called from this machine."""
    return Listen(_EVERYWHERE.get(listen.host, listen.host), listen.port)


def channel_to(address: Listen) -> grpc.Channel:
    """A plaintext channel, straight to the server: a proxy for the web has no business here."""
    return grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)])


def health(address: Listen, timeout_seconds: float) -> str:
    """`SERVING`, `NOT_SERVING`, or why there is no answer."""
    with channel_to(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no method
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

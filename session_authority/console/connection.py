"""Connects to a running server over gRPC, as any other caller does. The functions of this package
make all their calls with the channels of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.console.connection_faults import why_unreachable
from session_authority.runtime.addresses import Listen
from session_authority.runtime.text import printable

# Each key means all addresses of a machine. A server that listens at the key is called at the
# value.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


@dataclass(frozen=True, slots=True)
class Target:
    """A server to call, and the credentials for the calls. All fields of the type bytes contain
    PEM.

    If `tls` is True, the connection is encrypted. The server's certificate must be signed by `ca`,
    or by a CA that gRPC trusts if `ca` is None. The certificate must be for `server_name`, or for
    the address if `server_name` is None.
    """

    address: Listen
    tls: bool = False
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    server_name: str | None = None

    def __str__(self) -> str:
        return str(self.address)

    def reachable(self) -> Target:
        """Returns the same server, with an address that this machine can call. Only the address of
        a server that listens at all addresses is changed.
        """
        host = _EVERYWHERE.get(self.address.host, self.address.host)
        return replace(self, address=Listen(host, self.address.port))


def channel_to(target: Target) -> grpc.Channel:
    """Makes a channel to the server. The channel does not use the web proxy that environment
    variables may name.
    """
    # Each channel gets its own connection. By default, channels to one address share a connection.
    options: list[tuple[str, Any]] = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if target.server_name is not None:
        options.append(("grpc.ssl_target_name_override", target.server_name))
    if target.tls:
        credentials = grpc.ssl_channel_credentials(target.ca, target.key, target.certificate)
        channel = grpc.secure_channel(str(target.address), credentials, options)
    else:
        channel = grpc.insecure_channel(str(target.address), options)
    return (
        channel
        if target.token is None
        else grpc.intercept_channel(channel, _BearerToken(target.token))
    )


class _Details(grpc.ClientCallDetails):
    """The details of a call, with one more entry in the metadata."""

    def __init__(self, details: grpc.ClientCallDetails, name: str, value: str) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), (name, value))
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _BearerToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds a bearer token to each call (RFC 6750 §2.1). gRPC's own call credentials can't be used,
    because they work only over TLS.
    """

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        return continuation(_Details(client_call_details, "authorization", self._value), request)

    def intercept_unary_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        return continuation(_Details(client_call_details, "authorization", self._value), request)


def failure_of(target: Target, error: grpc.RpcError) -> str:
    """Returns the reason why a call failed: the status code, and a text."""
    code, details = error.code(), printable(error.details() or "")
    if code is grpc.StatusCode.UNAVAILABLE:
        details = why_unreachable(
            target.address, details, tls=target.tls, with_certificate=target.certificate is not None
        )
    return f"{code.name}: {details}"


def health(target: Target, timeout_seconds: float, service: str = "") -> str:
    """Returns the health of a service, or of the whole server if `service` is empty. The result is
    a status such as `SERVING` or `NOT_SERVING`, or the reason why there is no answer. If the
    connection fails, this function does not try again.
    """
    with channel_to(target) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # the types of this stub name no method
            answer = stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds
            )
        except grpc.RpcError as error:
            return f"no answer ({failure_of(target, error)})"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

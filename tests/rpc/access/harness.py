"""Servers with real TLS and an access policy, and callers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from session_authority.access import AccessSource, add_token, new_token
from session_authority.processes.options import ListenOptions, Ports
from session_authority.rpc import Capacity
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.tls import TlsFiles, TlsSource
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import ANYWHERE, PATIENCE, SERVICE, Refusal, refusal_of
from tests.rpc.requests import GOOD
from tests.support.ca import CA, Pair

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
SERVICES: list[Any] = [SERVICE, HEALTH, REFLECTION]
METHODS: dict[str, Any] = {
    f"/{s.full_name}/{method.name}": method for s in SERVICES for method in s.methods
}
ANSWERED = Refusal(grpc.StatusCode.OK, "")
UNKNOWN = Refusal(
    grpc.StatusCode.UNAUTHENTICATED,
    "the call brings no certificate and no bearer token of a known caller",
    "CALLER_UNKNOWN",
    "session-authority",
)
SPIFFE = "spiffe://example.org/"
POLICY = f"""
[callers.login]
roles = ["issuer"]
certificates = ["{SPIFFE}login"]

[callers.gateway]
roles = ["validator"]
certificates = ["{SPIFFE}gateway", "gateway.internal"]

[callers.account]
roles = ["manager"]

[callers.notifier]
roles = ["watcher"]
certificates = ["{SPIFFE}notifier"]

[callers.ops]
roles = ["operator"]

[callers.auditor]
rpcs = ["ListDevices"]
certificates = ["auditor.internal"]
"""
PUBLIC = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
# The methods that each caller of the policy may call besides those in PUBLIC.
MAY_CALL = {
    "login": {"IssueDevice", "RenewSession", "UpdateSession", "GetSigningKeys"},
    "gateway": {"ValidateSession", "BatchValidateSessions", "CheckSessions", "GetSigningKeys"},
    "account": {"ListDevices", "UpdateDevice", "RevokeDevice", "RevokeAll"},
    "notifier": {"WatchEvents"},
    "ops": {
        "IssueDevice",
        "RenewSession",
        "UpdateSession",
        "ValidateSession",
        "BatchValidateSessions",
        "CheckSessions",
        "GetSigningKeys",
        "ListDevices",
        "UpdateDevice",
        "RevokeDevice",
        "RevokeAll",
        "WatchEvents",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    },
    "auditor": {"ListDevices"},
}
ALL_PORTS = Ports(ANYWHERE, bearer=ANYWHERE, health=ANYWHERE)
Enter = Callable[..., Any]


def path_of(name: str) -> str:
    """The path of a method of the service. A path of another service is returned unchanged."""
    return name if name.startswith("/") else f"/{SERVICE.full_name}/{name}"


def not_allowed(path: str) -> Refusal:
    """The error for a caller without the right: it names the RPC, and no other caller."""
    what = f"the caller may not call {path.rpartition('/')[2]}"
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED, what, "CALLER_NOT_ALLOWED", "session-authority"
    )


def body_of(path: str) -> bytes:
    """A valid request."""
    if path.startswith(f"/{SERVICE.full_name}/"):
        request: Message = GOOD[path.rpartition("/")[2]]()
    elif path.startswith(f"/{REFLECTION.full_name}/"):
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
    else:
        request = health_pb2.HealthCheckRequest()
    return request.SerializeToString()


class Visitor:
    """A connection of its own, and the token that each call sends, if any."""

    def __init__(self, channel: Any, token: str | None) -> None:
        self.channel = channel
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    async def call(self, name: str, request: Message | None = None) -> Any:
        """Calls a unary method of the service."""
        answer = getattr(pb, METHODS[path_of(name)].output_type.name).FromString
        call = self.channel.unary_unary(path_of(name), response_deserializer=answer)
        body = body_of(path_of(name)) if request is None else request.SerializeToString()
        return await call(body, timeout=PATIENCE, metadata=self._metadata)

    def watch(self, name: str = "WatchEvents", request: Message | None = None) -> Any:
        """Starts a stream with one request."""
        call = self.channel.unary_stream(path_of(name))
        body = body_of(path_of(name)) if request is None else request.SerializeToString()
        return call(body, timeout=PATIENCE, metadata=self._metadata)

    async def outcome(
        self, name: str, metadata: Sequence[tuple[str, Any]] | None = None
    ) -> Refusal:
        """The outcome of a call with a valid request. Of a stream, the outcome of its first
        message.
        """
        path = path_of(name)
        method = METHODS.get(path)
        more = {"timeout": PATIENCE, "metadata": self._metadata if metadata is None else metadata}
        try:
            if method is not None and method.client_streaming:
                stream = self.channel.stream_stream(path)(iter([body_of(path)]), **more)
                answer = await stream.read()
                stream.cancel()
            elif method is not None and method.server_streaming:
                stream = self.channel.unary_stream(path)(body_of(path), **more)
                answer = await stream.read()
                stream.cancel()
            else:
                answer = await self.channel.unary_unary(path)(
                    body_of(path) if method else b"", **more
                )
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        assert answer is not grpc.aio.EOF
        return ANSWERED


@asynccontextmanager
async def visiting(
    address: Listen | None,
    *,
    trust: bytes | None = None,
    pair: Pair | None = None,
    token: str | None = None,
) -> AsyncIterator[Visitor]:
    """A visitor. With `trust`, the connection uses TLS."""
    # Without the first option, all channels of a process with the same credentials share a
    # connection.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    assert address is not None
    if trust is None:
        channel = grpc.aio.insecure_channel(str(address), options)
    else:
        shown = (pair.key.read_bytes(), pair.certificate.read_bytes()) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(trust, *shown)
        channel = grpc.aio.secure_channel(str(address), credentials, options)
    async with channel:
        yield Visitor(channel, token)


class House:
    """The files of a server with TLS and a policy, and the files of its callers."""

    def __init__(self, folder: Path) -> None:
        self.ca = CA(folder)
        self.server = self.ca.sign(addresses=["127.0.0.1"], common_name="session-authority")
        self.policy = folder / "access.toml"
        self.policy.write_text(POLICY)
        self.token_file = folder / "tokens"
        self.tokens = {name: new_token() for name in ("account", "ops")}
        for name, token in self.tokens.items():
            add_token(self.token_file, name, token, datetime.now(UTC))
        self.pairs = {
            "login": self.ca.sign(uris=[f"{SPIFFE}login"]),
            "gateway": self.ca.sign(hosts=["gateway.internal"]),
            "notifier": self.ca.sign(uris=[f"{SPIFFE}notifier"], hosts=["pod-7.internal"]),
            "auditor": self.ca.sign(hosts=["auditor.internal"]),
        }

    def doors(self, *, tls: bool = True, mutual: bool = True, **more: Any) -> ListenOptions:
        """The options of the ports of a server with these files."""
        files = TlsFiles(self.server.certificate, self.server.key, self.ca.file if mutual else None)
        source = TlsSource(files, now) if tls else None
        more.setdefault("capacity", Capacity())
        return ListenOptions(access=AccessSource(self.policy, self.token_file), tls=source, **more)

    def rewrite(self, old: str, new: str) -> None:
        """Changes the policy."""
        text = self.policy.read_text()
        assert old in text
        self.policy.write_text(text.replace(old, new))


async def ended(stream: Any) -> Refusal:
    """The error that a stream ends with."""
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the stream ended without an error")


async def outcomes(visitor: Visitor) -> dict[str, Refusal]:
    return {path: await visitor.outcome(path) for path in METHODS}

"""A whole server, in this process and on a real port, with a client that calls it over the wire and
reads its errors.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from session_authority.authority import Authority
from session_authority.domain.session_limits import SessionLimits
from session_authority.events.feed import Feed
from session_authority.processes.options import ListenOptions, Mode, Ports
from session_authority.processes.server import Server
from session_authority.rpc import Capacity, Observer
from session_authority.runtime.addresses import Listen
from session_authority.runtime.call_metrics import CODES
from session_authority.runtime.metrics import Metrics
from session_authority.store import EventLog, KeyNames, Replicas, SessionStore
from session_authority.tokens import KeySource, Tokens
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.support.backends import Backend
from tests.support.clock import Clock
from tests.support.redis_contents import dump

SERVICE = pb.DESCRIPTOR.services_by_name["SessionAuthorityService"]
METHODS = {method.name: method for method in SERVICE.methods}
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
# Long ago: the IDs that Redis gives to entries of a stream have the present time.
START = datetime(2020, 1, 1, tzinfo=UTC)
NO_REPLICAS = Replicas()
ANYWHERE = Listen("127.0.0.1", 0)
ONE_PORT = Ports(ANYWHERE)
# Every caller may do everything, as in `dev`. A connection may have 1,000 calls at once.
OPEN = ListenOptions(capacity=Capacity(per_connection=1000))
PATIENCE = 20.0  # Seconds; the time for a call on a busy machine.
LAPTOP_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it, with its details unpacked."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    violations: tuple[tuple[str, str], ...] = ()
    retry_after: timedelta | None = None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The error that a call failed with."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            break
    else:
        return Refusal(error.code(), error.details() or "")
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found: dict[str, Any] = {}
    for detail in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            found |= {
                "reason": info.reason,
                "domain": info.domain,
                "metadata": tuple(sorted(info.metadata.items())),
            }
        elif detail.Unpack(bad):
            found["violations"] = tuple((v.field, v.description) for v in bad.field_violations)
        elif detail.Unpack(retry):
            found["retry_after"] = retry.retry_delay.ToTimedelta()
        else:
            raise AssertionError(f"a detail that the contract does not tell of: {detail.type_url}")
    return Refusal(error.code(), error.details() or "", **found)


class Stage:
    """A running server and a client of it. A test may replace `authority`, part by part."""

    def __init__(
        self,
        backend: Backend,
        prefix: str,
        source: KeySource,
        limits: SessionLimits,
        mode: Mode,
        doors: ListenOptions = OPEN,
        replicas: Replicas = NO_REPLICAS,
        observer: Observer | None = None,
    ) -> None:
        client = backend.connect()
        self.backend = backend
        self.prefix = prefix
        self.clock = Clock(START)
        self.metrics = Metrics()
        keys = KeyNames(prefix)
        self.store = SessionStore(client, keys, replicas=replicas)
        self.log = EventLog(client, keys)
        lifetime = limits.token_ttl + limits.idle_timeout
        self.tokens = Tokens(source, "https://sessions.example", "example", lifetime)
        self.authority = Authority(
            store=self.store,
            tokens=self.tokens,
            limits=limits,
            metrics=self.metrics,
            clock=self.clock,
            random_bytes=secrets.token_bytes,
        )
        self.feed = Feed(self.log, self.clock, self.metrics)
        self.server = Server(
            self.authority,
            self.feed,
            self.store,
            source,
            self.metrics,
            mode,
            doors,
            observer=observer,
        )
        self.address = ANYWHERE

    @asynccontextmanager
    async def open(self, ports: Ports = ONE_PORT) -> AsyncIterator[Stage]:
        """Runs the server."""
        self.ports = await self.server.start(ports)
        self.address = self.ports.main
        async with grpc.aio.insecure_channel(str(self.address)) as channel:
            self.channel: Any = channel
            self.stub: Any = pb_grpc.SessionAuthorityServiceStub(self.channel)
            try:
                yield self
            finally:
                await self.server.stop(timedelta(seconds=5))
                await self.store.close()

    async def call(
        self, method: str, request: Message | bytes, within: float = PATIENCE, **more: Any
    ) -> Any:
        """Calls a method of the service by name. Bytes are sent unchanged. Of a stream, returns the
        first message.
        """
        if method in METHODS and METHODS[method].server_streaming:
            watch = self.watch(request, within)
            try:
                return await watch.read()
            finally:
                watch.cancel()
        return await self.start(method, request, within, **more)

    def start(
        self, method: str, request: Message | bytes, within: float = PATIENCE, **more: Any
    ) -> Any:
        """Starts the call without waiting for its answer."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        path = method if method.startswith("/") else f"/{SERVICE.full_name}/{method}"
        answer = (
            getattr(pb, METHODS[method].output_type.name).FromString if method in METHODS else bytes
        )
        return self.channel.unary_unary(path, response_deserializer=answer)(
            body, timeout=within, **more
        )

    def watch(self, request: Message | bytes, within: float = PATIENCE) -> Any:
        """Watches events."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        path = f"/{SERVICE.full_name}/WatchEvents"
        return self.channel.unary_stream(
            path, response_deserializer=pb.WatchEventsResponse.FromString
        )(body, timeout=within)

    async def refused(
        self, method: str, request: Message | bytes, within: float = PATIENCE, **more: Any
    ) -> Refusal:
        """The error that a call must fail with."""
        try:
            answer = await self.call(method, request, within, **more)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError(f"{method} answered {answer!r}")

    async def sign_in(
        self, user_id: str = "ada", device_id: str = "", **more: Any
    ) -> pb.IssueDeviceResponse:
        """Signs in."""
        answer: pb.IssueDeviceResponse = await self.call(
            "IssueDevice", pb.IssueDeviceRequest(user_id=user_id, device_id=device_id, **more)
        )
        return answer

    async def validate(
        self, signed_in: pb.IssueDeviceResponse, **more: Any
    ) -> pb.ValidateSessionResponse:
        """Validates a sign-in's own token on its device. Its marks are written when this
        returns.
        """
        request = {
            "access_token": signed_in.access_token,
            "device_id": signed_in.device.device_id,
            **more,
        }
        answer: pb.ValidateSessionResponse = await self.call(
            "ValidateSession", pb.ValidateSessionRequest(**request)
        )
        await self.authority.settled()
        return answer

    async def dump(self) -> dict[bytes, Any]:
        """Everything that the store holds, once all marks are written."""
        await self.authority.settled()
        return await dump(self.backend, self.prefix)

    def counted(self, method: str) -> dict[str, int]:
        """How often a method was answered with each code."""
        found: dict[str, int] = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if (
                    sample.name == "grpc_server_handled_total"
                    and sample.labels["grpc_method"] == method
                    and sample.value
                ):
                    found[code_named(sample.labels["grpc_code"])] = int(sample.value)
        return found


StageWith = Callable[..., Any]


def code_named(name: str) -> str:
    """The Python name of a code, by its name in a metric."""
    number = CODES.index(name)
    [code] = [code.name for code in grpc.StatusCode if code.value[0] == number]
    return code


class LogStream(io.StringIO):
    """The stream that receives the log."""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        found = [json.loads(line) for line in self.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]

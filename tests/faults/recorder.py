"""Calls servers and records every call with its answer."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from session_authority.domain.identifiers import device_key
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from session_authority_client import AsyncSessionAuthority, SessionAuthorityError
from tests.faults.history import DAMAGE, Call, Fault, History, Kind, Named, Role, Terms, Token

DEADLINE = 2.5  # Seconds; shorter than an honest request may be under way.


@dataclass(frozen=True, slots=True)
class Held:
    """An access token in a client's hands."""

    token: Token
    text: str
    got_at: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that has ended, and the token that it returned."""

    call: Call
    held: Held | None = None
    renew_recommended: bool = False


def now() -> float:
    """The time of histories, in seconds."""
    return time.monotonic()


class Recorder:
    """Records a history."""

    def __init__(self, terms: Terms) -> None:
        self.history = History(terms)
        self._numbers = count(1)

    def number(self) -> int:
        """A number that no other call has."""
        return next(self._numbers)

    def add(self, call: Call) -> None:
        """Records a call."""
        self.history.calls.append(call)

    def damage(self, user: str, key: bytes) -> None:
        """Records that a record of one device is damaged from now on: as a call that may have
        signed the user out there, and did nothing else.
        """
        devices = {call.device for call in self.history.calls if call.user == user and call.device}
        for device in devices:
            if device_key(UUID(device)) == key:
                kind, moment = Kind.REVOKE_DEVICE, now()
                self.add(
                    Call(
                        *(self.number(), kind, Role.HONEST, DAMAGE, user, device),
                        *(moment, moment, "UNAVAILABLE"),
                    )
                )

    def fault(self, name: str, started: float, **what: bool) -> None:
        """Records a fault that has ended now."""
        self.history.faults.append(Fault(name, started, now(), **what))


class Server:
    """A server, called over a channel of its own. Every call is recorded."""

    def __init__(self, name: str, address: str, recorder: Recorder) -> None:
        self.name = name
        self.address = address
        options = [("grpc.max_reconnect_backoff_ms", 300), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(address, options)
        self.stub: Any = pb_grpc.SessionAuthorityServiceStub(self._channel)
        self._recorder = recorder

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def sign_in(self, user: str, device: str, request_id: str) -> Answered:
        """Signs a user in."""
        number = self._recorder.number()
        request = pb.IssueDeviceRequest(
            user_id=user, device_id=device, request_id=request_id, client=_client(number)
        )

        def read(answer: pb.IssueDeviceResponse) -> dict[str, Any]:
            given = read_token(answer.access_token, answer.device.device_id)
            named = Named(user, answer.device.device_id, answer.device.session_id, 1)
            return {"outcome": "OK", "given": given, "named": named}

        return await self._call(
            number, Kind.SIGN_IN, request, read, user=user, device=device, request=request_id
        )

    async def validate(
        self, held: Held, role: Role = Role.HONEST, device: str | None = None
    ) -> Answered:
        """Presents a token. An onlooker's validation changes nothing."""
        number, device = self._recorder.number(), device or held.token.device
        request = pb.ValidateSessionRequest(
            access_token=held.text,
            device_id=device,
            client=_client(number),
            observe_only=role is Role.ONLOOKER,
        )

        def read(answer: pb.ValidateSessionResponse) -> dict[str, Any]:
            return {
                "outcome": _status(answer.status),
                "named": _named(answer),
                "revoked": answer.revoked_devices,
            }

        user, token = held.token.user, held.token
        return await self._call(
            *(number, Kind.VALIDATE, request, read),
            user=user,
            device=device,
            role=role,
            presented=token,
        )

    async def renew(
        self, held: Held, role: Role = Role.HONEST, device: str | None = None
    ) -> Answered:
        """Presents a token for renewal."""
        number, device = self._recorder.number(), device or held.token.device
        request = pb.RenewSessionRequest(
            access_token=held.text, device_id=device, client=_client(number)
        )

        def read(answer: pb.RenewSessionResponse) -> dict[str, Any]:
            text = answer.access_token
            return {
                "outcome": _status(answer.status),
                "named": _named(answer),
                "given": read_token(text, held.token.device) if text else None,
                "revoked": answer.revoked_devices,
            }

        user, token = held.token.user, held.token
        return await self._call(
            *(number, Kind.RENEW, request, read),
            user=user,
            device=device,
            role=role,
            presented=token,
        )

    async def list_devices(self, user: str) -> Answered:
        """Lists the devices on which a user is signed in."""

        def read(answer: pb.ListDevicesResponse) -> dict[str, Any]:
            listed = ((d.device_id, d.session_id) for d in answer.devices if d.signed_in)
            return {"outcome": "OK", "listed": tuple(listed)}

        request = pb.ListDevicesRequest(user_id=user)
        return await self._call(
            self._recorder.number(), Kind.LIST, request, read, user=user, device=""
        )

    async def revoke_device(self, user: str, device: str) -> Answered:
        """Signs a user out on one device."""
        number = self._recorder.number()
        request = pb.RevokeDeviceRequest(user_id=user, device_id=device, reason=f"c{number}")

        def read(answer: pb.RevokeDeviceResponse) -> dict[str, Any]:
            return {"outcome": "OK", "revoked": int(answer.revoked)}

        return await self._call(number, Kind.REVOKE_DEVICE, request, read, user=user, device=device)

    async def revoke_all(self, user: str, spared: str = "") -> Answered:
        """Signs a user out on all devices but one."""
        number = self._recorder.number()
        request = pb.RevokeAllRequest(user_id=user, except_device_id=spared, reason=f"c{number}")

        def read(answer: pb.RevokeAllResponse) -> dict[str, Any]:
            return {"outcome": "OK", "revoked": answer.revoked_devices}

        return await self._call(number, Kind.REVOKE_ALL, request, read, user=user, device=spared)

    async def _call(
        self,
        number: int,
        kind: Kind,
        message: Any,
        read: Callable[[Any], dict[str, Any]],
        **known: Any,
    ) -> Answered:
        values: dict[str, Any] = {"role": Role.HONEST, "server": self.name} | known
        started, answer, learned = now(), None, {"outcome": "CANCELLED"}
        try:
            answer = await getattr(self.stub, kind.value)(message, timeout=DEADLINE)
            is_replicated = getattr(answer, "durability", None) == pb.DURABILITY_REPLICATED
            learned = {"replicated": is_replicated} | read(answer)
        except grpc.aio.AioRpcError as error:
            learned = {"outcome": error.code().name, "reason": reason_of(error)}
        finally:
            call = Call(number, kind, started=started, ended=now(), **values | learned)
            self._recorder.add(call)
        text = getattr(answer, "access_token", "")
        held = Held(call.given, text, call.ended) if call.given is not None else None
        return Answered(call, held, getattr(answer, "renew_recommended", False))


class PythonClient:
    """Makes validations over the Python client.

    Args:
        name: The name under which its calls are recorded.
        client: The client.
        recorder: Where its calls are recorded.
        cached: The client has a near cache.
    """

    def __init__(
        self, name: str, client: AsyncSessionAuthority, recorder: Recorder, *, cached: bool
    ) -> None:
        self._name = name
        self._client = client
        self._recorder = recorder
        self._cached = cached

    async def validate(self, held: Held) -> Answered:
        """Presents a token. The answer may come from a cache."""
        number, started, token = self._recorder.number(), now(), held.token
        learned: dict[str, Any] = {"outcome": "CANCELLED"}
        try:
            answer = await self._client.validate_session(held.text, token.device)
            learned = {"outcome": answer.status.name}
            if (session := answer.session) is not None:
                learned["named"] = Named(
                    session.user_id, session.device_id, session.session_id, session.generation
                )
        except SessionAuthorityError as error:
            learned = {"outcome": error.code.name, "reason": error.reason or ""}
        finally:
            call = Call(
                *(number, Kind.VALIDATE, Role.HONEST, self._name, token.user, token.device),
                started=started,
                ended=now(),
                presented=token,
                cached=self._cached,
                **learned,
            )
            self._recorder.add(call)
        return Answered(call)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The `ErrorReason` of an error. Empty if the error is not from the service."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        return ""
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def read_token(text: str, device: str) -> Token:
    """The content of a token; nothing is verified."""
    payload = text.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    copy = said["jti"].rpartition(".")[2]
    return Token(said["sub"], device, said["sid"], said["gen"], copy)


def call_of(tag: str) -> int | None:
    """The number of the call that an event names."""
    return int(tag[1:]) if tag[:1] == "c" and tag[1:].isdigit() else None


def _client(number: int) -> pb.ClientInfo:
    return pb.ClientInfo(app_version=f"c{number}")


def _status(number: int) -> str:
    name = pb.SessionStatus.Name(number)
    return name.removeprefix("SESSION_STATUS_")


def _named(answer: pb.ValidateSessionResponse | pb.RenewSessionResponse) -> Named | None:
    if not answer.HasField("session"):
        return None
    session = answer.session
    return Named(session.user_id, session.device_id, session.session_id, session.generation)


async def unless_cancelled(work: Awaitable[Answered], seconds: float) -> Answered | None:
    """The answer, unless the client is cancelled first."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return None

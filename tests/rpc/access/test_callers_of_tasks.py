"""A task that answers one call after another counts no call for an earlier caller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from session_authority.access.roles import Caller
from session_authority.domain.errors import NotReady
from session_authority.rpc.authorization import Authorizer, caller_name
from session_authority.rpc.peers import Peers
from session_authority.rpc.unary import Load, UnaryMethod
from session_authority.runtime.metrics import Metrics
from session_authority.v1 import session_authority_pb2 as pb

pytestmark = pytest.mark.one_acceptor
PATH = "/session_authority.v1.SessionAuthorityService/ValidateSession"
GATEWAY = Caller("gateway", frozenset({PATH}))


class Call:
    """A call as gRPC shows it, without credentials, and with this many seconds left."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float:
        """The time until the deadline."""
        return self._seconds

    def peer(self) -> str:
        """The name of the connection."""
        return "ipv4:127.0.0.1:4000"

    def auth_context(self) -> dict[str, Any]:
        """No certificate."""
        return {}

    def invocation_metadata(self) -> tuple[()]:
        """No token."""
        return ()

    def trailing_metadata(self) -> tuple[()]:
        """Nothing is set yet."""
        return ()

    def set_trailing_metadata(self, _: object) -> None:
        """Ignores the details of an error."""

    async def read(self) -> bytes:
        """An empty request."""
        return b""


async def _judge(_request: object, _context: object) -> pb.ValidateSessionResponse:
    return pb.ValidateSessionResponse()


@pytest.mark.parametrize("refused_for", ["rights", "credentials", "readiness", "time"])
async def test_a_refused_call_is_not_counted_for_the_caller_before(refused_for: str):
    access = SimpleNamespace(anyone=GATEWAY, has_one_caller=True)
    is_ready = True

    def refuse_if_unfit() -> None:
        if not is_ready:
            raise NotReady

    metrics = Metrics()
    handler: Any = SimpleNamespace(
        unary_unary=_judge,
        request_deserializer=pb.ValidateSessionRequest.FromString,
        response_serializer=pb.ValidateSessionResponse.SerializeToString,
    )
    authorizer = Authorizer(lambda: access, refuse_if_unfit=refuse_if_unfit)  # type: ignore[arg-type,return-value]
    method = UnaryMethod(PATH, handler, metrics, authorizer, Load(8), Peers())
    calls = metrics.calls.of(PATH, "unary")

    await method.answer(Call())  # type: ignore[arg-type]
    assert caller_name() == "gateway"
    if refused_for == "rights":
        access.anyone = Caller("account", frozenset())
    elif refused_for == "credentials":
        access.anyone, access.by_token = None, lambda _: None
    is_ready = refused_for != "readiness"
    await method.answer(Call(0.0 if refused_for == "time" else 1.0))  # type: ignore[arg-type]

    counted_for = "account" if refused_for == "rights" else None
    assert {name: sum(counts) for name, counts in calls.by_caller.items() if sum(counts)} == {
        "gateway": 1,
        counted_for: 1,
    }
    assert caller_name() == counted_for

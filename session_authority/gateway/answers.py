"""Makes the gateway's answers, for every protocol of a proxy. An answer either allows the request
and has the headers for the app, or denies it and has the response for the client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from session_authority.gateway.credentials import Onward
from session_authority.gateway.identity import ANONYMOUS, Pairs, forged
from session_authority.gateway.requests import GatewayRequest, Kind
from session_authority_client import Session
from session_authority_client.adapter import Refused, Response
from session_authority_client.flow import Flow, NoAnswer

# gRPC's codes (google.rpc.Code), by the HTTP status of a denial.
_GRPC_CODES = {
    HTTPStatus.BAD_REQUEST: 3,
    HTTPStatus.SEE_OTHER: 16,
    HTTPStatus.UNAUTHORIZED: 16,
    HTTPStatus.FORBIDDEN: 7,
    HTTPStatus.INTERNAL_SERVER_ERROR: 13,
    HTTPStatus.SERVICE_UNAVAILABLE: 14,
}
_UNKNOWN = 2
# Each protocol writes lengths and cookies itself, so these are not among the headers of an answer.
_OF_THE_MESSAGE = frozenset({"content-length", "set-cookie"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's answer to a proxy about one request.

    Args:
        allowed: True if the request goes on to the app.
        status: The status that the client gets if the request is denied. 200 if it is allowed. A
            denied gRPC call also has 200, as its gRPC status is among the headers.
        denial_status: The status of a denial for protocols in which 2xx allows the request. It is
            never 2xx for a denied request.
        headers: The headers to add to the response to the client, even if the app answers.
        body: The body of a denial.
        upstream: The headers of the request to the app. Each replaces all headers of that name that
            the client sent. All identity headers are always present, and empty without a session.
        removed: The names of headers that must not reach the app.
        cookies: The lines of `Set-Cookie` for the client, even if the app answers.
        session: The user's active session, if there is one.
        device_id: The ID of the browser or app, if it is known.
        outage: True if the service gave no answer. Then the denial says nothing about the session.
        retry_after: The seconds after which the client may try again. None if the response names no
            time.
        code: The reason of a denial in one word, for logs, and for nginx and clients of gRPC.
        kind: The kind of the request.
    """

    allowed: bool
    status: int
    denial_status: int = 200
    headers: Pairs = ()
    body: bytes = b""
    upstream: Pairs = ANONYMOUS
    removed: tuple[str, ...] = ()
    cookies: tuple[str, ...] = field(default=(), repr=False)
    session: Session | None = None
    device_id: str = ""
    outage: bool = False
    retry_after: int | None = None
    code: str = ""
    kind: Kind = Kind.HTTP


def allowed(
    request: GatewayRequest,
    flow: Flow,
    carried: Onward,
    *,
    identity: Pairs = ANONYMOUS,
    headers: Pairs = (),
    cookies: tuple[str, ...] = (),
    session: Session | None = None,
    device_id: str = "",
) -> Answer:
    """Returns the answer to a request that goes on to the app."""
    credentials = (
        ("Cookie", carried.cookie),
        ("Authorization", carried.authorization),
        (flow.device_header, carried.device),
    )
    gone = [name.lower() for name, value in credentials if not value]
    return Answer(
        allowed=True,
        status=200,
        headers=headers,
        upstream=(*identity, *((name, value) for name, value in credentials if value)),
        removed=(*gone, *forged(request.headers)),
        cookies=cookies,
        session=session,
        device_id=device_id,
        kind=request.kind,
    )


def refused(request: GatewayRequest, refusal: Refused, *, cookies: tuple[str, ...] = ()) -> Answer:
    """Returns the answer to a request that the flow refuses."""
    return denied(
        request,
        refusal.answer,
        code=refusal.code,
        cookies=cookies,
        outage=isinstance(refusal, NoAnswer),
    )


def not_understood(response: Response) -> Answer:
    """Returns the answer to a call of the proxy that does not describe a request."""
    return Answer(
        allowed=False,
        status=response.status,
        denial_status=response.status,
        headers=tuple(response.headers),
        body=response.body,
        code="not_understood",
    )


def denied(
    request: GatewayRequest,
    response: Response,
    *,
    code: str,
    cookies: tuple[str, ...] = (),
    outage: bool = False,
) -> Answer:
    """Returns the answer to a denied request. It contains the response for a browser or a program.
    If the request is a gRPC call, the response is converted to a gRPC response.
    """
    headers = tuple(
        (name, value) for name, value in response.headers if name.lower() not in _OF_THE_MESSAGE
    )
    retry = next((value for name, value in headers if name.lower() == "retry-after"), None)
    status, body = response.status, response.body
    # One denial has the status 200: a page that sends a browser back to the same URL, this time
    # with its strict cookies.
    denial_status = status if not 200 <= status < 300 else HTTPStatus.UNAUTHORIZED.value
    kind = request.kind
    if kind in (Kind.GRPC, Kind.GRPC_WEB):
        headers = (
            ("Content-Type", _grpc_type(request, kind)),
            ("grpc-status", str(_GRPC_CODES.get(HTTPStatus(denial_status), _UNKNOWN))),
            ("grpc-message", code),
            ("Cache-Control", "no-store"),
            *((("Retry-After", retry),) if retry else ()),
        )
        status, body = 200, b""
    return Answer(
        allowed=False,
        status=status,
        denial_status=denial_status,
        headers=headers,
        body=body,
        removed=tuple(forged(request.headers)),
        cookies=cookies,
        outage=outage,
        retry_after=int(retry) if retry else None,
        code=code,
        kind=kind,
    )


def _grpc_type(request: GatewayRequest, kind: Kind) -> str:
    """Returns the content type of a gRPC response. It is the content type of the request, if that
    type has a valid form.
    """
    asked = request.headers["content-type"][0]
    known = asked.replace("+", "").replace("-", "").replace("/", "").isalnum() and asked.isascii()
    return asked if known and len(asked) < 100 else f"application/{kind.value}"

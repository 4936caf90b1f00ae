"""Makes the gateway's answers to proxies, in one form for all protocols of proxies. An answer
either allows a request or denies it. The answer has the headers for the app if the request is
allowed, and the response for the client if the request is denied.
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

# Maps the HTTP status of a denial to the code of gRPC (google.rpc.Code).
_GRPC_CODES = {
    HTTPStatus.BAD_REQUEST: 3,
    HTTPStatus.SEE_OTHER: 16,
    HTTPStatus.UNAUTHORIZED: 16,
    HTTPStatus.FORBIDDEN: 7,
    HTTPStatus.INTERNAL_SERVER_ERROR: 13,
    HTTPStatus.SERVICE_UNAVAILABLE: 14,
}
_UNKNOWN = 2
# The content length and the cookies are not among the headers of an answer. The code for each
# protocol of proxies writes the length and the cookies itself.
_OF_THE_MESSAGE = frozenset({"content-length", "set-cookie"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's answer to a proxy about one request.

    Args:
        allowed: True if the request goes on to the app.
        status: The HTTP status that the client gets if the request is denied. The status is 200 if
            the request is allowed. The status is also 200 for a denied gRPC call, because its gRPC
            status is among the headers.
        denial_status: The HTTP status of a denial for proxies that treat any 2xx as permission.
            `denial_status` is never 2xx for a denied request.
        headers: The headers that the proxy adds to the response to the client. If the request is
            allowed, the proxy adds these headers to the response of the app.
        body: The body of a denial.
        upstream: The headers that the proxy sets in the request to the app. Each of these headers
            replaces all headers of the same name from the client. All identity headers are always
            present. The identity headers are empty if there is no session.
        removed: The names of client headers that must not reach the app.
        cookies: The values of the `Set-Cookie` headers for the client. If the request is allowed,
            the proxy adds these headers to the response of the app.
        session: The user's active session. None if the gateway has found no active session.
        device_id: The device ID of the browser or app. An empty text if the device ID is not known.
        outage: True if the request is denied because the service gave no answer. A denial during an
            outage says nothing about the session.
        retry_after: The seconds after which the client may try again. None if the response to the
            client names no time.
        code: The reason of a denial in one word, for logs, for nginx, and for clients of gRPC. An
            empty text if the request is allowed.
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
    """Returns the answer for a request that goes on to the app. `carried` has the headers with
    credentials that go on to the app.
    """
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
    """Returns the answer for a request that the flow refuses."""
    return denied(
        request,
        refusal.answer,
        code=refusal.code,
        cookies=cookies,
        outage=isinstance(refusal, NoAnswer),
    )


def not_understood(response: Response) -> Answer:
    """Returns the answer to an authorization request that does not describe the original
    request.
    """
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
    """Returns the answer for a request that is denied. `response` is the HTTP response for the
    client. If the client made a gRPC call, the HTTP response is converted to a gRPC response.
    """
    headers = tuple(
        (name, value) for name, value in response.headers if name.lower() not in _OF_THE_MESSAGE
    )
    retry = next((value for name, value in headers if name.lower() == "retry-after"), None)
    status, body = response.status, response.body
    # One kind of denial has the status 200: a page that makes a browser request the same URL again.
    # The browser left out its `SameSite=Strict` cookies in the first request, and sends them in the
    # second.
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
    """Returns the content type of a gRPC response. If the content type of the request is short and
    has a valid form, the response has the same content type. If not, the response has the plain
    content type of gRPC or gRPC-Web.
    """
    asked = request.headers["content-type"][0]
    known = asked.replace("+", "").replace("-", "").replace("/", "").isalnum() and asked.isascii()
    return asked if known and len(asked) < 100 else f"application/{kind.value}"

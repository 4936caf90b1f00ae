"""Reads the original request from Envoy's question.

Envoy has fields of its own for the facts that it knows, so only the headers come from the client. A
question that can't be understood is a fault, and the request is denied.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_authority.gateway.originals import BadQuestion, original
from session_authority.gateway.requests import GatewayRequest
from session_authority.internal.v1 import external_authorization_pb2 as pb
from session_authority_client.cookies import Cookies


def request_of(
    attributes: pb.AttributeContext, cookies: Cookies, deadline: float | None
) -> GatewayRequest:
    """The original that Envoy asks about. Raises BadQuestion."""
    http = attributes.request.http
    headers = _headers(http)
    lines = headers.get("cookie")
    if lines is not None and _are_ambiguous(lines, cookies):
        del headers["cookie"]
    return original(
        http.method.decode("latin-1"),
        http.scheme.decode("latin-1") or "http",
        http.host.decode("latin-1"),
        http.path.decode("latin-1"),
        headers,
        attributes.source.address.socket_address.address,
        deadline,
    )


def _headers(http: pb.AttributeContext.HttpRequest) -> dict[str, list[str]]:
    """All headers by their lower-case names, without the pseudo-headers of HTTP/2. Envoy fills
    `header_map` or `headers`, as it is configured. If both are filled, `header_map` counts, as it
    has the lines as they came.
    """
    found: dict[str, list[str]] = {}
    for line in http.header_map.headers:
        name = line.key.decode("latin-1").lower()
        if name[:1] != ":":
            found.setdefault(name, []).append((line.raw_value or line.value).decode("latin-1"))
    given = found.keys() | ()
    joined = http.headers
    # Protobuf's own loop over the names costs half of the loop over `items()`.
    for key in joined:
        name = key.lower()
        if name[:1] == ":" or name in given:
            continue
        value = joined[key].decode("latin-1")
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


def _are_ambiguous(lines: Iterable[str], cookies: Cookies) -> bool:
    """Returns True if commas hide one of our cookies, or are a part of one. Envoy may have joined
    two lines. One of them may be forged, and nothing says which one. A comma never starts a cookie
    here, as other cookies may have commas in a value that a sibling site chose.
    """
    given = tuple(lines)
    if not any("," in line for line in given):
        return False
    apart = [line.replace(",", ";") for line in given]
    return cookies.read_all(given) != cookies.read_all(apart)


__all__ = ["BadQuestion", "request_of"]

"""Reads the original request from Envoy's authorization request.

Envoy reports the facts that it knows itself, such as the client's address, in separate fields. So
the client can't forge these facts with a header. If an authorization request can't be understood,
the original request is denied.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_authority.gateway.originals import NotUnderstood, original
from session_authority.gateway.requests import GatewayRequest
from session_authority.internal.v1 import external_authorization_pb2 as pb
from session_authority_client.cookies import Cookies


def request_of(
    attributes: pb.AttributeContext, cookies: Cookies, deadline: float | None
) -> GatewayRequest:
    """Returns the original request that Envoy asks about. Raises NotUnderstood if the method, the
    scheme, the host or the target is not valid.
    """
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
    """Returns the headers under their lower-case names, without the pseudo-headers of HTTP/2.

    Envoy's configuration decides whether Envoy fills `header_map` or `headers`. If a header is in
    both, its values come from `header_map`, because `header_map` has each header line as it
    arrived.
    """
    found: dict[str, list[str]] = {}
    for line in http.header_map.headers:
        name = line.key.decode("latin-1").lower()
        if name[:1] != ":":
            found.setdefault(name, []).append((line.raw_value or line.value).decode("latin-1"))
    given = found.keys() | ()
    joined = http.headers
    # A loop over the names of a protobuf map takes half as long as a loop over `items()`.
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
    """Returns True if commas in the header lines make it unclear which cookies of the session the
    client sent.

    Envoy may have joined two header lines with a comma. One of the two lines may be forged, and
    nothing says which one. The gateway never starts a new cookie at a comma, because a sibling site
    may have put commas into the value of another cookie. The result is True if the session's
    cookies would be different with a new cookie at each comma.
    """
    given = tuple(lines)
    if not any("," in line for line in given):
        return False
    apart = [line.replace(",", ";") for line in given]
    return cookies.read_all(given) != cookies.read_all(apart)


__all__ = ["NotUnderstood", "request_of"]

"""Makes the JSON responses of the API of the page "My devices". The table `STATUS` lists all errors
of the page and its API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from session_authority_client._shared.responses import Response
from session_authority_client.devices.catalogue import Texts

Header = tuple[str, str]

# The HTTP status of each error code. The text for the error code `CODE` has the key `error.CODE` in
# the catalogue.
STATUS: Mapping[str, int] = {
    "bad_request": 400,
    "name_too_long": 400,
    "signed_out": 401,
    "foreign_origin": 403,
    "unknown_device": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "unsupported_type": 415,
    "too_many_requests": 429,
    "misconfigured": 500,
    "unavailable": 503,
}
NO_STORE = ("Cache-Control", "no-store")
_SAFE = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def answer(status: int, told: Mapping[str, object], *headers: Header) -> Response:
    """Makes a response of the API from a status and a JSON value."""
    body = json.dumps(told).encode()
    described = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    return Response(status, (*described, *_SAFE, NO_STORE, *headers), body)


def error(code: str, texts: Texts, *headers: Header, field: str = "") -> Response:
    """Makes an error response of the API. `field` is the name of the wrong field in the request, or
    empty.
    """
    told = {"code": code, "message": texts.text(f"error.{code}"), "field": field or None}
    return answer(STATUS[code], {"error": told}, *headers)

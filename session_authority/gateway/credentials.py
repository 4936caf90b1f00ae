"""Decides which credentials of a request go on to the app.

By default, the access token and the device ID do not go on. The app gets the user's identity in
headers, so it needs no token. An app that has no token can't leak a token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from session_authority.gateway.requests import Headers
from session_authority_client.flow import Flow

_BEARER = re.compile(r"bearer\b", re.IGNORECASE | re.ASCII)
_BLANK = " \t"


@dataclass(frozen=True, slots=True)
class Onward:
    """The values of the headers with credentials in the request to the app. The value of a header
    that must not go on is empty.
    """

    cookie: str
    authorization: str
    device: str


def onward(flow: Flow, headers: Headers, *, keep: bool) -> Onward:
    """Returns the headers with credentials that go on to the app.

    If `keep` is False, the app gets the cookies of the request except the cookies of the session.
    If `keep` is False and `flow.bearer` is True, the app gets no device ID and no bearer token,
    even if another service issued the token. If `keep` is True, the cookies, the `Authorization`
    header and the device ID go on. An `Authorization` header or a device ID with several values
    never goes on.
    """
    cookies = headers.get("cookie", ())
    authorization = headers.get("authorization", ())
    devices = headers.get(flow.device_header.lower(), ())
    if keep:
        # If `Authorization` or the device ID has several values, the gateway has used none of the
        # values. So none of the values goes on.
        return Onward("; ".join(cookies), _only(authorization), _only(devices))
    ours = flow.cookies.names
    kept = [
        pair.strip(_BLANK)
        for line in cookies
        for pair in line.split(";")
        if pair.strip(_BLANK) and pair.partition("=")[0].strip(_BLANK) not in ours
    ]
    tokens = flow.bearer and any(_BEARER.match(value.lstrip()) for value in authorization)
    return Onward(
        cookie="; ".join(kept),
        authorization="" if tokens else _only(authorization),
        device="" if flow.bearer else _only(devices),
    )


def _only(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else ""

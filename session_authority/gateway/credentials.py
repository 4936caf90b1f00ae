"""Decides which of a client's credentials go on to the app.

By default no credentials of a session go on: an app that gets the identity needs no token, and
can't leak one.
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
    """The headers with credentials as the app gets them. The text of a header that must not go on
    is empty.
    """

    cookie: str
    authorization: str
    device: str


def onward(flow: Flow, headers: Headers, *, keep: bool) -> Onward:
    """Returns the headers with credentials that go on to the app.

    Without `keep`, the app gets its own cookies without the cookies of the session. If
    `flow.bearer` is True, the app gets no device ID, and no `Authorization` header with a bearer
    token, whether this service issued the token or not. With `keep`, all these headers go on. An
    `Authorization` header or a device ID with two values never goes on.
    """
    cookies = headers.get("cookie", ())
    authorization = headers.get("authorization", ())
    devices = headers.get(flow.device_header.lower(), ())
    if keep:
        # If such a header has two values, the gateway has used neither of them. So neither value
        # goes on.
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

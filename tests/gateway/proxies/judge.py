"""What must hold for every answer, and for every request that reached the app, whatever was
sent.
"""

from __future__ import annotations

import json

from tests.gateway.proxies.cases import BOTH, NO_COOKIES, WIPED, Outcome
from tests.gateway.proxies.raw_http import Response
from tests.gateway.proxies.upstream import OWN_COOKIE, Arrival, Upstream
from tests.gateway.proxies.visitors import DEVICE, TOKEN

IDENTITY = (
    "x-session-user",
    "x-session-id",
    "x-session-device",
    "x-session-auth-methods",
    "x-session-sign-in-time",
    "x-session-claims",
    "x-session-assertion",
)
# Headers that a signed-in user must have. The others may be empty.
_KNOWN = ("x-session-user", "x-session-id", "x-session-device", "x-session-sign-in-time")
# Tests put this into every header that a client must not be able to set.
FORGED = "forged"


def judge(upstream: Upstream, response: Response, user: str, outcome: Outcome) -> None:
    """Compares an answer, and the requests that arrived, with the expected outcome."""
    assert response.status == outcome.status, (response.headers, response.body[:300])
    for name, start in outcome.headers.items():
        assert response.value(name).startswith(start), (name, response.headers)
    assert outcome.body in response.body.decode("utf-8", "replace"), response.body[:300]
    _judge_cookies(response, outcome)
    arrivals = upstream.arrivals(response.mark)
    assert len(arrivals) == outcome.arrives
    for arrival in arrivals:
        judge_arrival(arrival, user if outcome.known else "")


def judge_arrival(arrival: Arrival, user: str) -> None:
    """The app sees this user once, or no identity. The app sees no forged header."""
    for name in IDENTITY:
        values = arrival.values(name)
        assert len(values) <= 1, (name, values)
        wanted = bool(user) if name in _KNOWN else bool("".join(values))
        assert bool("".join(values)) == wanted or not user, (name, values)
        assert user or "".join(values) in ("", "{}"), (name, values)
    assert "".join(arrival.values("x-session-user")) == user
    assert FORGED not in json.dumps(arrival.headers).lower()


def _judge_cookies(response: Response, outcome: Outcome) -> None:
    lines = response.values("set-cookie")
    ours = [line for line in lines if line.startswith((TOKEN, DEVICE))]
    names = sorted(line.partition("=")[0] for line in ours)
    wiped = [line for line in ours if "Max-Age=0;" in line]
    assert names == ([] if outcome.cookies == NO_COOKIES else sorted((TOKEN, DEVICE)))
    assert len(wiped) == {NO_COOKIES: 0, BOTH: 0, WIPED: 2}[outcome.cookies]
    # The response also has the app's own cookie, if the app answered with status 200.
    assert lines.count(OWN_COOKIE) == (outcome.arrives and outcome.status == 200)

"""No identity that a client sends reaches the app, on any kind of route."""

from __future__ import annotations

import pytest

from tests.gateway.proxies.judge import FORGED, IDENTITY, judge_arrival
from tests.gateway.proxies.raw_http import CLIENT, Headers, send
from tests.gateway.proxies.stage import Stage
from tests.gateway.proxies.visitors import PAGE, Visitor, browser, nobody

# All characters of a name (RFC 9110, section 5.6.2) besides letters, digits and hyphens. Some apps
# turn each of them into an underscore.
ODD = "!#$%&'*+.^_`|~"
_PLAIN: Headers = [(name, FORGED) for name in IDENTITY]
FORGERIES: dict[str, Headers] = {
    "plain": _PLAIN,
    "in capitals": [(name.upper(), FORGED) for name in IDENTITY],
    "in odd case": [(name.title().swapcase(), FORGED) for name in IDENTITY],
    "with underscores": [(name.replace("-", "_"), FORGED) for name in IDENTITY],
    "with one underscore": [(name.replace("-", "_", 1), FORGED) for name in IDENTITY],
    "with dots": [(name.replace("-", "."), FORGED) for name in IDENTITY],
    "with one dot": [(name.replace("-", ".", 1), FORGED) for name in IDENTITY],
    "with odd signs": [(IDENTITY[0].replace("-", sign), FORGED) for sign in ODD],
    "twice": [*_PLAIN, *_PLAIN],
    "once empty": [*((name, "") for name in IDENTITY), *_PLAIN],
    "named hop by hop": [*_PLAIN, ("Connection", f"close, {', '.join(IDENTITY)}")],
    "names only in Connection": [("Connection", f"close, {', '.join(IDENTITY)}")],
    "of the gateway's answer": [
        *((f"X-Session-Set-Cookie-{number}", FORGED) for number in (1, 2, 3)),
        ("X-Session-Status", FORGED),
        ("X-Session-Code", FORGED),
        ("X-Session-Location", FORGED),
    ],
    "of the hops before": [
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-Forwarded-Uri", "/public/forged"),
        ("X-Forwarded-Host", "forged.example"),
        ("X-Forwarded-Proto", "forged"),
        ("X-Original-Method", "OPTIONS"),
        ("X-Original-URI", "/public/forged"),
        ("X-Original-URL", "/public/forged"),
        ("Forwarded", "host=forged.example;proto=https"),
    ],
}
# Traefik knows no patterns: docs/gateway.md says so.
NOT_TAKEN_OFF = {"traefik": {"with dots", "with one dot", "with odd signs"}}
# These proxies remove only the names in their configuration: docs/gateway.md says so.
WITHOUT_PATTERNS = ("nginx", "traefik")
ROUTES = {"required": "/shelf", "optional": "/news/x", "disabled": "/public/x"}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("visitor", [nobody, browser], ids=["nobody", "user"])
def test_no_forged_header_arrives(stage: Stage, proxy: str, visitor: Visitor, route: str):
    visit = visitor(stage.authority)
    for name, forgery in FORGERIES.items():
        response = send(stage.proxy(proxy), ROUTES[route], [*forgery, *visit.headers, *PAGE])
        arrivals = stage.upstream.arrivals(response.mark)
        if route == "required" and not visit.user:
            assert (response.status, arrivals) == (303, []), name
            continue
        assert response.status == 200, name
        (arrival,) = arrivals
        if name in NOT_TAKEN_OFF.get(proxy, ()):
            assert FORGED in str(arrival.headers)
            continue
        judge_arrival(arrival, "" if route == "disabled" else visit.user)


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_name_arrives_only_where_proxies_know_no_patterns(
    stage: Stage, proxy: str, route: str
):
    visit = browser(stage.authority)
    headers = [("X-Session-Later", FORGED), *visit.headers, *PAGE]
    response = send(stage.proxy(proxy), ROUTES[route], headers)
    (arrival,) = stage.upstream.arrivals(response.mark)
    assert (arrival.values("x-session-later") == [FORGED]) == (proxy in WITHOUT_PATTERNS)


def test_a_forged_address_does_not_reach_the_app(stage: Stage, proxy: str):
    visit = browser(stage.authority)
    lies = [("X-Forwarded-For", "203.0.113.9"), ("X-Real-IP", "203.0.113.9")]
    response = send(stage.proxy(proxy), "/shelf", [*lies, *visit.headers, *PAGE])
    (arrival,) = stage.upstream.arrivals(response.mark)
    (told,) = arrival.values("x-forwarded-for")
    assert told == CLIENT

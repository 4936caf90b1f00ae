"""While the session of a user can't be checked, no request passes, and no user is signed out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from scripts.gateway_demo import SHIPPED
from tests.gateway.proxies.judge import FORGED, judge_arrival
from tests.gateway.proxies.programs import GATEWAY_GRPC, PROGRAMS, running
from tests.gateway.proxies.raw_http import Headers, Response, send
from tests.gateway.proxies.stage import Stage
from tests.gateway.proxies.visitors import PAGE, SCRIPT, Visit, browser, expired, nobody
from tests.support.ports import free_port

FRESH = {"good": browser, "expired": expired}


def judge_outage(stage: Stage, response: Response, status: int = 503) -> None:
    """503, no cookie, and nothing for the app."""
    assert response.status == status, (response.headers, response.body[:300])
    assert response.values("set-cookie") == []
    assert stage.upstream.arrivals(response.mark) == []


def from_each_proxy(stage: Stage, visits: dict[str, Visit]) -> Iterator[Response]:
    """Sends one request through each proxy at the same time, so that the test waits only once."""
    ports = {name: stage.proxy(name) for name in visits}
    with ThreadPoolExecutor(len(ports)) as threads:
        yield from threads.map(
            lambda name: send(ports[name], "/shelf", [*visits[name].headers, *SCRIPT]), ports
        )


@pytest.fixture
def visits(stage: Stage) -> dict[str, Visit]:
    """A user for each proxy, whom the gateway has not seen before."""
    return {name: browser(stage.authority) for name in PROGRAMS}


@pytest.mark.parametrize("visitor", FRESH)
@pytest.mark.parametrize("kind", [PAGE, SCRIPT], ids=["page", "script"])
@pytest.mark.parametrize("target", ["/shelf", "/news/today", "/api/x"])
def test_an_unreachable_authority_is_503(
    stage: Stage, proxy: str, visitor: str, kind: Headers, target: str
):
    visit = FRESH[visitor](stage.authority)
    with stage.authority.unavailable():
        response = send(stage.proxy(proxy), target, [*visit.headers, *kind])
    judge_outage(stage, response)
    assert response.value("retry-after").isdecimal() or proxy in WITHOUT_A_TIME
    assert send(stage.proxy(proxy), target, [*visit.headers, *kind]).status == 200


# The gateway aborts Envoy's request, so there is no header of the gateway.
WITHOUT_A_TIME = ("envoy",)
# docs/gateway.md describes it.
STATUS_WITHOUT_A_GATEWAY = {"traefik": 500}


def test_a_request_without_a_token_needs_no_authority(stage: Stage, proxy: str):
    visit = nobody(stage.authority)
    with stage.authority.unavailable():
        response = send(stage.proxy(proxy), "/shelf", [*visit.headers, *PAGE])
        read = send(stage.proxy(proxy), "/news/today", [*visit.headers, *PAGE])
    assert (response.status, read.status) == (303, 200)


def test_a_slow_authority_is_503(stage: Stage, visits: dict[str, Visit]):
    """The gateway gives up before the proxies do."""
    with stage.authority.slow(timedelta(seconds=20)):
        for response in from_each_proxy(stage, visits):
            judge_outage(stage, response)


def test_a_gateway_that_hangs_is_503(stage: Stage, visits: dict[str, Visit]):
    """The proxies give up themselves; Traefik does after 30 s, which is too long for a test."""
    del visits["traefik"]
    with stage.gateway.hung():
        for response in from_each_proxy(stage, visits):
            judge_outage(stage, response)


def test_a_missing_gateway_is_503(stage: Stage, visits: dict[str, Visit]):
    with stage.gateway.away():
        for name, response in zip(visits, from_each_proxy(stage, visits), strict=True):
            judge_outage(stage, response, STATUS_WITHOUT_A_GATEWAY.get(name, 503))
    for response in from_each_proxy(stage, visits):
        assert response.status == 200


def test_with_failure_mode_allow_no_request_has_an_identity(stage: Stage, tmp_path: Path):
    """Envoy's own way to go on without a gateway."""
    ports = {**stage.ports, GATEWAY_GRPC: free_port()}
    closed, opened = "failure_mode_allow: false", "failure_mode_allow: true"
    assert closed in (SHIPPED / "envoy" / "envoy.yaml").read_text()
    visit = browser(stage.authority)
    forged: Headers = [("X-Session-User", FORGED), ("X_Session_User", FORGED)]
    with running("envoy", tmp_path / "envoy", ports, lambda t: t.replace(closed, opened)) as port:
        response = send(port, "/shelf", [*forged, *visit.headers, *PAGE])
    assert response.status == 200
    (arrival,) = stage.upstream.arrivals(response.mark)
    judge_arrival(arrival, "")

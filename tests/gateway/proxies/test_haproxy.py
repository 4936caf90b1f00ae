"""What only HAProxy could get wrong: its script in Lua, and its HTTP/2."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.gateway.proxies.judge import judge_arrival
from tests.gateway.proxies.programs import running
from tests.gateway.proxies.raw_http import CLIENT, PATIENCE, Headers, send
from tests.gateway.proxies.stage import Stage
from tests.gateway.proxies.upstream import MARK
from tests.gateway.proxies.visitors import PAGE, SCRIPT, browser, nobody

FIRST_LINE = 'local route = txn:get_var("txn.session_route")'


@pytest.fixture(scope="module")
def haproxy(stage: Stage) -> int:
    return stage.proxy("haproxy")


@pytest.mark.parametrize("lines", [89, 97, 150, 250, 253])
def test_many_headers_affect_no_other_request(stage: Stage, haproxy: int, lines: int):
    headers = [(f"h{number}", "1") for number in range(lines)]
    response = send(haproxy, "/shelf", [*headers, *PAGE])
    assert response.status == 400
    assert stage.upstream.arrivals(response.mark) == []
    assert send(haproxy, "/public/x").status == 200


def test_as_many_headers_as_an_honest_client_sends_are_accepted(stage: Stage, haproxy: int):
    visit = browser(stage.authority)
    headers = [(f"h{number}", "1") for number in range(80)]
    assert send(haproxy, "/shelf", [*headers, *visit.headers, *PAGE]).status == 200


def test_an_error_in_the_script_lets_no_request_pass(stage: Stage, tmp_path: Path):
    def broken(text: str) -> str:
        return text.replace(FIRST_LINE, f'error("broken")\n    {FIRST_LINE}')

    with running("haproxy", tmp_path / "haproxy", stage.ports, broken) as port:
        for target in ("/shelf", "/news/x", "/api/x", "/account/password"):
            response = send(port, target, [*nobody(stage.authority).headers, *PAGE])
            assert (response.status, response.value("retry-after")) == (503, "1")
            assert stage.upstream.arrivals(response.mark) == []
        assert send(port, "/public/x").status == 200


def test_http_2_has_the_same_answers(stage: Stage, haproxy: int):
    """HAProxy shows the target of an HTTP/2 request as an absolute URL, although no client sends
    this form.
    """
    visit = browser(stage.authority)
    url = f"http://127.0.0.1:{haproxy}"
    transport = httpx.HTTPTransport(http1=False, http2=True, local_address=CLIENT)
    with httpx.Client(transport=transport, base_url=url, timeout=PATIENCE) as client:

        def get(target: str, headers: Headers, mark: str) -> int:
            answer = client.get(target, headers=[*headers, *SCRIPT, (MARK, mark)])
            assert answer.http_version == "HTTP/2"
            return answer.status_code

        assert get("/public/x", [], "h2-public") == 200
        assert get("/shelf", [], "h2-nobody") == 401
        assert get("/shelf", visit.headers, "h2-user") == 200
        assert get("/public/..;/shelf", visit.headers, "h2-trick") == 400
        (arrival,) = stage.upstream.arrivals("h2-user")
        judge_arrival(arrival, visit.user)
        assert arrival.target == "/shelf"

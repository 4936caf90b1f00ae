"""A person's whole way through each proxy: refused, signed in at the demo's page, greeted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.gateway_demo import app_server
from tests.gateway.proxies.process import running_gateway
from tests.gateway.proxies.programs import APP, GATEWAY_GRPC, GATEWAY_HTTP, running
from tests.gateway.proxies.raw_http import Headers, Response, send
from tests.gateway.proxies.stage import Stage
from tests.gateway.proxies.visitors import PAGE, browser
from tests.support.ports import free_port

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture(scope="module")
def ports(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, int]]:
    """The demo's app with its sign-in page, and a gateway for http://localhost."""
    ports = {port: free_port() for port in (APP, GATEWAY_HTTP, GATEWAY_GRPC)}
    folder = tmp_path_factory.mktemp("demo") / "gateway"
    address = stage.authority.address
    with (
        stage.authority.client() as client,
        app_server(ports[APP], client),
        running_gateway(folder, address, ports, insecure=True),
    ):
        yield ports


def kept(response: Response) -> Headers:
    """The cookies of the demo that a browser keeps."""
    pairs = [line.partition(";")[0] for line in response.values("set-cookie")]
    return [("Cookie", "; ".join(pairs))]


def test_a_person_signs_in(ports: dict[int, int], proxy: str, tmp_path: Path):
    with running(proxy, tmp_path / proxy, ports) as port:

        def ask(
            target: str, *more: tuple[str, str], method: str = "GET", body: bytes = b""
        ) -> Response:
            headers = [*PAGE, *more]
            return send(port, target, headers, method=method, host="localhost", body=body)

        refused = ask("/shelf")
        page = refused.value("location")
        assert (refused.status, page) == (303, "/sign-in?next=/shelf")
        form = ask(page)
        assert (form.status, form.values("set-cookie")) == (200, [])
        signed_in = ask(page, FORM, method="POST", body=b"user=ada")
        assert (signed_in.status, signed_in.value("location")) == (303, "/shelf")
        assert len(signed_in.values("set-cookie")) == 2
        greeted = ask("/shelf", *kept(signed_in))
        assert (greeted.status, b"Hello ada" in greeted.body) == (200, True)


@pytest.mark.parametrize("target", ["/shelf", "/news/x"])
def test_the_app_gets_no_trace_of_credentials(stage: Stage, proxy: str, target: str):
    """The app behind the proxy would read an empty `X-Device-Id` header as a device ID, and would
    take the browser for a mobile app.
    """
    visit = browser(stage.authority)
    response = send(stage.proxy(proxy), target, [*visit.headers, *PAGE])
    (arrival,) = stage.upstream.arrivals(response.mark)
    assert arrival.values("cookie") == ["theme=dark"]
    assert arrival.values("authorization") == arrival.values("x-device-id") == []
    assert "" not in response.values("set-cookie")

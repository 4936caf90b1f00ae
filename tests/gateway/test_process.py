"""The real command with the fake of the service, in plaintext: sockets, health, metrics, and how
the process ends.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import browser_cookies
from tests.support.commands import Command, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PATIENCE = 40.0


class GatewayProcess(Command):
    """`session-authority gateway` with a file of configuration."""

    def __init__(self, folder: Path, config: str, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "gateway.toml"
        file.write_text(config)
        super().__init__(folder, ["gateway", "--config", str(file)], settings)
        try:
            self.addresses: list[str] = self.wait_for_event("listening")["http"]
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return f"http://{self.addresses[0]}"


def config_for(address: str, unix_socket: str = "gateway.sock") -> str:
    return f"""
[authority]
address = "{address}"
timeout = "20s"
[http]
listen = "127.0.0.1:0"
unix_socket = "{unix_socket}"
[flow]
sign_in_url = "/sign-in"
trusted_proxies = ["127.0.0.1", "unix"]
[devices]
path = "/account/devices"
"""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAuthority]:
    with FakeAuthority() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(
    fake: FakeAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway in a folder with a short name, as paths of sockets must be short."""
    running = GatewayProcess(tmp_path_factory.mktemp("g"), config_for(fake.address))
    try:
        running.wait_for_event("ready")
        yield running
    finally:
        running.kill()


def told(**more: str) -> dict[str, str]:
    return {
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "app.example",
        "X-Forwarded-Uri": "/page",
        **more,
    }


def test_the_gateway_answers_at_a_port_and_at_a_unix_socket(
    gateway: GatewayProcess, fake: FakeAuthority
):
    cookie = browser_cookies(fake)
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        answer = client.get("/forward-auth", headers=told(Cookie=cookie))
    assert (answer.status_code, answer.headers["X-Session-User"]) == (200, "ada")
    transport = httpx.HTTPTransport(uds=gateway.addresses[1])
    with httpx.Client(transport=transport, base_url="http://gateway", timeout=PATIENCE) as client:
        answer = client.get("/auth-request", headers=told(Cookie=cookie))
    assert (answer.status_code, answer.headers["X-Session-User"]) == (204, "ada")
    assert Path(gateway.addresses[1]).stat().st_mode & 0o777 == 0o660


def test_health_and_the_page_of_devices_are_at_the_same_port(
    gateway: GatewayProcess, fake: FakeAuthority
):
    cookie = browser_cookies(fake, "dora")
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.get("/nothing").status_code == 404
        page = client.get("/account/devices", headers={"Cookie": cookie, "Accept": "text/html"})
        assert page.status_code == 200
        assert "Your devices" in page.text
        listed = client.get("/account/devices/api/devices", headers={"Cookie": cookie})
        assert [device["current"] for device in listed.json()["devices"]] == [True]
        (stylesheet, *_) = [
            part for part in page.text.split('"') if part.startswith("/account/devices/static/")
        ]
        assert client.get(stylesheet).status_code == 200
        anonymous = client.get("/account/devices", headers={"Sec-Fetch-Mode": "navigate"})
        assert anonymous.headers["Location"].startswith("/sign-in?next=/account/devices")
        foreign = {"Cookie": cookie, "Origin": "https://evil.example"}
        refused = client.post("/account/devices/api/sign-out-others", headers=foreign)
        assert refused.status_code == 403


@pytest.mark.parametrize(
    "question",
    [
        b"HEAD /ext-authz/page HTTP/1.1\r\nHost: a\r\n",
        b"POST /ext-authz/page HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n",
        b"POST /ext-authz/page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        b"GET /ext-authz/page HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        b"GET http://b/ext-authz/page HTTP/1.1\r\nHost: a\r\n",
        b"GET /ext-authz//%2f;/%00 HTTP/1.1\r\nHost: a\r\n",
        b"GET /ext-authz/page HTTP/1.1\r\nHost: a\r\nCookie: " + b"x" * 65536 + b"\r\n",
        b"GET /ext-authz/page HTTP/1.1\r\nHost: a\r\nCookie: \xff\xfe\x80\r\n",
        b"GET /ext-authz/page HTTP/1.1\r\nHost: a\r\nCookie: a\x01b\r\n",
        b"GET /ext-authz/\xff HTTP/1.1\r\nHost: a\r\n",
        b"GET /ext-authz/page HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    ],
)
def test_no_input_crashes_the_gateway_or_gets_an_identity(gateway: GatewayProcess, question: bytes):
    host, _, port = gateway.addresses[0].rpartition(":")
    with closing(socket.create_connection((host, int(port)), timeout=PATIENCE)) as connection:
        connection.sendall(question + b"Accept: application/json\r\nConnection: close\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
    assert 400 <= response.status < 500
    assert not response.getheader("X-Session-User")
    assert httpx.get(f"{gateway.url}/healthz", timeout=PATIENCE).status_code == 200
    assert "Traceback" not in gateway.errors


def test_the_gateway_is_ready_once_the_service_answers_and_ends_in_order(tmp_path: Path):
    fake, metrics = FakeAuthority(), f"127.0.0.1:{free_port()}"
    fake.start()
    fake.stop()
    running = GatewayProcess(tmp_path, config_for(fake.address), METRICS_LISTEN=metrics)
    try:
        running.wait_for_event("authority_does_not_answer")
        assert httpx.get(f"{running.url}/readyz", timeout=PATIENCE).status_code == 503
        assert httpx.get(f"{running.url}/healthz", timeout=PATIENCE).status_code == 200
        fake.start()
        running.wait_for_event("ready")
        assert httpx.get(f"{running.url}/readyz", timeout=PATIENCE).status_code == 200
        httpx.get(f"{running.url}/forward-auth", headers=told(), timeout=PATIENCE)
        counted = httpx.get(f"http://{metrics}/metrics", timeout=PATIENCE).text
        assert 'session_authority_gateway_answers_total{kind="http",status="401"} 1.0' in counted
        assert "session_authority_gateway_seconds_count 1.0" in counted

        cookie = browser_cookies(fake)
        with fake.unavailable():
            away = httpx.get(f"{running.url}/forward-auth", headers=told(Cookie=cookie))
        assert away.status_code == 503
        (outage,) = [entry for entry in running.log if "gives no answer, so" in entry["event"]]
        assert outage["level"] == "error"
        assert "session" not in outage["event"].partition(":")[2]

        fake.calls.clear()
        with ThreadPoolExecutor() as threads, fake.slow(timedelta(seconds=1)):
            url, headers = f"{running.url}/forward-auth", told(Cookie=cookie)
            last = threads.submit(httpx.get, url, headers=headers, timeout=PATIENCE)
            wait_for(lambda: fake.calls["ValidateSession"], "the last question", PATIENCE)
            assert running.terminate() == 0
            assert last.result().headers["X-Session-User"] == "ada"
        assert running.events()[-1] == "stopped"
        assert not Path(running.addresses[1]).exists()
    finally:
        running.kill()
        fake.stop()


def test_the_check_command_says_whether_the_service_answers(fake: FakeAuthority, tmp_path: Path):
    file = tmp_path / "gateway.toml"
    file.write_text(config_for(fake.address))
    checked = run(tmp_path, "gateway", "--check", GATEWAY_CONFIG=str(file))
    assert (checked.returncode, checked.stderr) == (0, "")
    file.write_text(config_for("127.0.0.1:1").replace("20s", "500ms"))
    checked = run(tmp_path, "gateway", "--check", "--config", str(file))
    assert checked.returncode == 1
    assert "the service gives no answer: UNAVAILABLE" in checked.stderr

"""The gateway with the real service over mutual TLS, as a caller that has only its own role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from session_authority_client import SessionAuthority, Tls
from tests.gateway.harness import DEVICE, TOKEN, cookie_header
from tests.gateway.test_process import PATIENCE, GatewayProcess, told
from tests.processes.harness import add_signing_key
from tests.support.backends import service_at, valkey_server
from tests.support.ca import CA, Pair
from tests.support.commands import Command
from tests.support.ports import free_port
from tests.support.waiting import wait_for

POLICY = """\
[callers.gateway]
roles = ["gateway"]
certificates = ["spiffe://test/gateway"]
[callers.login]
roles = ["issuer", "manager"]
certificates = ["spiffe://test/login"]
"""
LONG = timedelta(seconds=PATIENCE)
# Tokens are renewed after a second.
IN_A_HURRY = {"GRACE": "0s", "DURABLE_AFTER": "0s", "ALARM_AFTER": "1s", "TOKEN_TTL": "2s"}
CONFIG = """
[authority]
address = "127.0.0.1:{port}"
ca = "{ca}"
certificate = "{certificate}"
key = "{key}"
timeout = "20s"
[http]
listen = "127.0.0.1:0"
[flow]
trusted_proxies = ["127.0.0.1"]
"""


@dataclass
class Running:
    """A service with a gateway, and a login service's client."""

    gateway: GatewayProcess
    login: SessionAuthority

    def ask(self, cookie: str) -> httpx.Response:
        """The gateway's answer to a proxy about a browser's request."""
        url = f"{self.gateway.url}/forward-auth"
        return httpx.get(url, headers=told(Cookie=cookie), timeout=PATIENCE)


def tls_of(ca: CA, pair: Pair) -> Tls:
    return Tls(ca.pem, pair.certificate.read_bytes(), pair.key.read_bytes())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    ca = CA(folder)
    server = ca.sign(hosts=["localhost"], addresses=["127.0.0.1"])
    mine, login = (ca.sign(uris=[f"spiffe://test/{name}"]) for name in ("gateway", "login"))
    mine.key.chmod(0o600)
    add_signing_key(folder / "keys")
    (folder / "access.toml").write_text(POLICY)
    port = free_port()
    with valkey_server(folder / "valkey") as valkey:
        settings = {
            "REDIS_URL": service_at(valkey.port),
            "KEYS": str(folder / "keys"),
            "ACCESS_POLICY": str(folder / "access.toml"),
            "TLS_CERTIFICATE": str(server.certificate),
            "TLS_KEY": str(server.key),
            "TLS_CLIENT_CA": str(ca.file),
            "LISTEN": f"127.0.0.1:{port}",
            "ALLOW_UNSAFE": "volatile-store,evicting-store,exposed-secrets,short-grace",
        }
        serve = Command(folder / "serve", ["serve"], {**settings, **IN_A_HURRY})
        config = CONFIG.format(port=port, ca=ca.file, certificate=mine.certificate, key=mine.key)
        try:
            serve.wait_for_event("listening")
            gateway = GatewayProcess(folder / "gateway", config)
            try:
                gateway.wait_for_event("ready")
                with SessionAuthority(
                    f"localhost:{port}", tls=tls_of(ca, login), timeout=LONG
                ) as client:
                    yield Running(gateway, client)
            finally:
                gateway.kill()
        finally:
            serve.kill()


def test_the_gateway_s_role_is_enough_to_validate_renew_and_watch(running: Running):
    issued = running.login.issue_device("ada")
    cookie = cookie_header(issued.access_token, issued.device.device_id)
    renewed: list[httpx.Response] = []

    def is_renewed() -> bool:
        answer = running.ask(cookie)
        assert (answer.status_code, answer.headers["X-Session-User"]) == (200, "ada")
        renewed.append(answer)
        return len(answer.headers.get_list("Set-Cookie")) == 2

    wait_for(is_renewed, "the token to be renewed", PATIENCE)
    lines = renewed[-1].headers.get_list("Set-Cookie")
    cookies = dict(line.partition(";")[0].split("=", 1) for line in lines)
    cookie = cookie_header(cookies[TOKEN], cookies[DEVICE])
    assert running.ask(cookie).status_code == 200

    running.login.revoke_all("ada")
    wait_for(lambda: running.ask(cookie).status_code == 401, "the sign-out to be known", PATIENCE)
    assert running.gateway.log[-1]["event"] == "ready", "the gateway logged a refusal"

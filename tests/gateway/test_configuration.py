"""The gateway's file: what it may contain, and how its faults are named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from session_authority.gateway.configuration import (
    GatewayConfig,
    GatewayConfigError,
    load_gateway_config,
)
from session_authority.gateway.routes import RouteFault
from session_authority_client.cookies import SameSite

LEAST = '[authority]\naddress = "authority:50051"\n[http]\nlisten = "127.0.0.1:8080"\n'
WHOLE = """
drain_timeout = "5s"
[authority]
address = "authority:50051"
ca = "ca.pem"
token_file = "token"
timeout = "1s"
near_cache = 500
near_cache_max_age = "30s"
[http]
listen = "[::1]:8080"
unix_socket = "http.sock"
[grpc]
unix_socket = "/run/grpc.sock"
on_outage = "response"
[flow]
sign_in_url = "/sign-in"
trusted_proxies = ["10.0.0.0/8", "unix"]
device_header = "X-Device"
bearer = false
check_origin = false
trusted_origins = ["https://id.example"]
return_paths = ["/callback"]
passive_paths = ["/poll*"]
[flow.cookies]
token = "t"
device = "d"
same_site = "Lax"
device_same_site = "Strict"
[devices]
path = "/account/devices"
secure_account_url = "/password"
language = "de"
time_zone = "Europe/Berlin"
scripted = true
[apps.shop]
[apps.blog]
audience = "https://blog.example"
"""


def load(folder: Path, text: str) -> GatewayConfig:
    file = folder / "gateway.toml"
    file.write_text(text)
    return load_gateway_config(file)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(GatewayConfigError) as caught:
        load(folder, text)
    lines = str(caught.value).splitlines()
    return [line.removeprefix(f"{folder / 'gateway.toml'}: ") for line in lines]


def test_a_minimal_file_is_accepted(tmp_path: Path):
    config = load(tmp_path, LEAST)
    assert str(config.http and config.http.listen) == "127.0.0.1:8080"
    assert config.authority.cache() is not None
    assert config.authority.credentials() == {"tls": None, "token": None}
    flow = config.client_flow()
    assert (flow.trusted_proxies, flow.sign_in_url, flow.devices) == ([], None, None)
    assert config.routes().read({}).app == ""


def test_a_file_with_every_field_is_accepted(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    token = tmp_path / "token"
    token.write_text("sacall_x\n")
    token.chmod(0o600)
    config = load(tmp_path, WHOLE)
    credentials = config.authority.credentials()
    assert credentials["token"] is not None
    assert credentials["token"]() == "sacall_x"
    assert credentials["tls"] is not None
    assert config.http is not None
    assert config.http.unix_socket == tmp_path / "http.sock"
    assert config.grpc is not None
    assert (str(config.grpc.unix_socket), config.grpc.on_outage) == ("/run/grpc.sock", "response")
    flow = config.client_flow()
    assert flow.cookies.same_site is SameSite.LAX
    assert flow.cookies.device_same_site is SameSite.STRICT
    assert (flow.device_header, flow.bearer, flow.check_origin) == ("X-Device", False, False)
    assert flow.devices is not None
    assert flow.devices.path == "/account/devices"
    assert config.drain_timeout == timedelta(seconds=5)
    routes = config.routes()
    assert [routes.read({"app": name}).audience for name in ("shop", "blog")] == [
        "shop",
        "https://blog.example",
    ]
    with pytest.raises(RouteFault, match="names no app 'wiki'"):
        routes.read({"app": "wiki"})


def test_every_fault_of_a_file_is_named_at_once(tmp_path: Path):
    found = faults(
        tmp_path,
        """
        colour = "red"
        drain_timeout = "soon"
        [authority]
        adress = "authority:50051"
        certificate = "client.pem"
        near_cache = "many"
        [http]
        listen = "8080"
        [flow]
        trusted_proxies = "10.0.0.1"
        bearer = "yes"
        [flow.cookies]
        same_site = "None"
        [apps.Shop]
        """,
    )
    fields = [fault.partition(":")[0] for fault in found]
    assert sorted(fields) == sorted(
        [
            "colour",
            "drain_timeout",
            "authority.adress",
            "authority.address",
            "authority.certificate",
            "authority.near_cache",
            "http.listen",
            "flow.trusted_proxies",
            "flow.bearer",
            "flow.cookies.same_site",
            "apps.Shop",
        ]
    )


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("[flow]\ntrusted_proxies = ['proxy']", "flow.trusted_proxies: 'proxy' does not appear"),
        ("[flow]\ntrusted_origins = ['app']", "flow.trusted_origins: must be scheme://host"),
        ("[flow]\nreturn_paths = ['callback']", "flow.return_paths: "),
        ("[flow.cookies]\ntoken = '__Host-t'", "flow.cookies: token: must be a cookie's name"),
        ("[devices]\npath = '/d/'", "devices: path: must be a path without a slash"),
        ("[devices]\ntime_zone = 'Mars'", "devices: time_zone: "),
        ("[grpc]", "grpc: listen or unix_socket must be set"),
        ("[apps.shop]\naudience = ''", "apps.shop.audience: must not be empty"),
    ],
)
def test_a_broken_rule_is_named_with_its_field(tmp_path: Path, more: str, fault: str):
    (found,) = faults(tmp_path, LEAST + more)
    assert found.startswith(fault)


def test_a_file_must_say_where_to_listen(tmp_path: Path):
    (found,) = faults(tmp_path, '[authority]\naddress = "a:1"\n')
    assert found == "the file: there must be a table [http] or [grpc] that says where to listen"


def test_certificate_and_key_are_set_together(tmp_path: Path):
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    key.chmod(0o600)
    text = LEAST.replace("[http]", 'key = "key.pem"\n[http]')
    assert faults(tmp_path, text) == ["authority: certificate and key: set both or neither"]
    key.chmod(0o644)
    (found,) = faults(tmp_path, text)
    assert found.startswith("authority.key: ")
    assert "lets others at the secret" in found


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path):
    """The file can be opened, but not read, as on a broken disk."""
    (found,) = faults(tmp_path, LEAST.replace("[http]", 'ca = "/proc/self/mem"\n[http]'))
    assert found == "authority.ca: /proc/self/mem: can't be read: Input/output error"


@pytest.mark.parametrize("text", ["[authority", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | bytes):
    file = tmp_path / "gateway.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GatewayConfigError, match="is not"):
        load_gateway_config(file)
    with pytest.raises(GatewayConfigError, match="can't be read"):
        load_gateway_config(tmp_path / "none.toml")

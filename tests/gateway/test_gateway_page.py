"""The page about the gateway agrees with the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from session_authority.gateway import routes
from session_authority.gateway.answers import Answer
from session_authority.gateway.configuration import load_gateway_config
from session_authority.gateway.decision import Gateway
from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority.gateway.requests import GatewayRequest
from session_authority.gateway.routes import RouteFault, Routes
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import FLOW, PROXY
from tests.gateway.proxies import visitors
from tests.gateway.proxies.cases import CASES
from tests.support.ca import CA

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gateway.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without the line of dashes."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_the_options_on_the_page_are_those_of_the_code():
    _, *rows = table("Kinds of routes")
    told = {row[0].strip("`"): row[1] for row in rows}
    assert set(told) == {*routes._READERS, "app"}
    enums: Mapping[str, type[Enum]] = {
        "session": routes.Need,
        "sign_in": routes.SignIn,
        "preflight": routes.Preflights,
        "credentials": routes.Credentials,
    }
    for name, values in enums.items():
        named = re.findall("`([^`]+)`", told[name])
        assert set(named) == {value.value for value in values}
        assert told[name].startswith(f"`{named[0]}` (default)")
        assert Routes().read({}) == Routes().read({name: named[0]})


def test_each_identity_header_has_its_row():
    _, *rows = table("What the app can trust")
    assert re.findall("`(X-[^`]+)`", "".join(row[0] for row in rows)) == list(IDENTITY_HEADERS)


def test_the_file_in_the_example_is_good(tmp_path: Path):
    [example] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    example = example.replace("/etc/session-authority/", "").replace("\n   ", "\n")
    CA(tmp_path)
    (tmp_path / "gateway.token").write_text("x" * 40)
    (tmp_path / "gateway.token").chmod(0o600)
    (tmp_path / "gateway.toml").write_text(example)
    config = load_gateway_config(tmp_path / "gateway.toml")
    assert config.client_flow().devices is not None


def test_each_exception_of_a_proxy_is_on_the_page():
    for proxy in {proxy for case in CASES for proxy in case.exceptions}:
        assert f"- **{proxy}** " in PAGE.lower()


# --- the table of answers -------------------------------------------------------------------------

_HEADERS: Mapping[str, Mapping[str, list[str]]] = {
    "page in a browser": {"accept": ["text/html"]},
    "script, or app": {"accept": ["application/json"]},
    "gRPC, gRPC-web": {"content-type": ["application/grpc-web+proto"]},
    "WebSocket": {"upgrade": ["websocket"], "sec-websocket-key": ["x"]},
}
_FOREIGN = {"sec-fetch-site": ["cross-site"], "origin": ["https://evil.example"]}
# Each row: the visitor, and the other conditions.
_ROWS: Mapping[str, tuple[visitors.Visitor, Mapping[str, str]]] = {
    "good session": (visitors.browser, {}),
    "expired token, session good": (visitors.expired, {}),
    "no session, or an ended one": (visitors.signed_out, {}),
    "replayed token, or a foreign device": (visitors.replayed, {}),
    "older sign-in than `max_age`": (visitors.browser, {"max_age": "5m"}),
    "another origin's page sends a request that may change something": (visitors.browser, {}),
    "the service gives no answer": (visitors.browser, {}),
    "options of the route are wrong": (visitors.browser, {"sesion": "optional"}),
}


def _in_words(answer: Answer) -> str:
    if answer.allowed:
        return "goes on, with new cookies" if answer.cookies else "goes on"
    headers = dict(answer.headers)
    status = headers.get("grpc-status", str(answer.denial_status))
    return f"{status}, cookies taken back" if answer.cookies else status


@pytest.mark.parametrize("kind", _HEADERS)
@pytest.mark.parametrize("row", _ROWS)
async def test_the_table_of_answers_is_true(fake: FakeAuthority, row: str, kind: str):
    (_, *kinds), *rows = table("Answers to each kind of request")
    assert [cells[0] for cells in rows] == list(_ROWS)
    assert kinds == list(_HEADERS)
    visitor, options = _ROWS[row]
    visit = visitor(fake)
    if "max_age" in options:
        fake.pass_time(timedelta(minutes=10))
    cookies = [value for name, value in visit.headers if name == "Cookie"]
    headers = {**_HEADERS[kind], "cookie": cookies}
    page = kind == "page in a browser"
    is_get = page or kind == "WebSocket"
    if "another origin" in row:
        headers.update(_FOREIGN)
        is_get = kind == "WebSocket"
    method = "GET" if is_get else "POST"
    request = GatewayRequest(method, "https", "app.example", "/", headers, PROXY)
    async with fake.async_client() as authority:
        gateway = Gateway(authority, FLOW)
        if "no answer" in row:
            with fake.unavailable():
                answer = await gateway.decide(request, gateway.routes.read(options))
        else:
            try:
                answer = await gateway.decide(request, gateway.routes.read(options))
            except RouteFault as fault:
                answer = gateway.misrouted(request, fault)
    cell = dict(zip(kinds, next(cells[1:] for cells in rows if cells[0] == row), strict=True))[kind]
    assert _in_words(answer) == cell.partition(";")[0]


async def test_an_app_with_an_expired_token_must_renew_it(fake: FakeAuthority):
    visit = visitors.app(fake)
    fake.expire_tokens()
    headers = {name.lower(): [value] for name, value in visit.headers}
    async with fake.async_client() as authority:
        gateway = Gateway(authority, FLOW)
        request = GatewayRequest("GET", "https", "app.example", "/", headers, PROXY)
        answer = await gateway.decide(request, gateway.routes.read({}))
    assert (answer.denial_status, answer.code) == (401, "token_expired")
    assert "an app gets 401 `token_expired`" in PAGE


# --- configurations that no other test runs -------------------------------------------------------


def test_the_form_of_the_configuration_for_envoy_gateway_is_good():
    text = (ROOT / "deploy" / "gateway" / "envoy-gateway" / "gateway.yaml").read_text()
    objects = list(yaml.safe_load_all(text))
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    assert len(names) == len(objects)
    policies = [each["spec"] for each in objects if each["kind"] == "SecurityPolicy"]
    assert policies
    for spec in policies:
        assert all((ref["kind"], ref["name"]) in names for ref in spec["targetRefs"])
        ask = spec["extAuth"]
        assert (ask["failOpen"], ask["statusOnError"]) == (False, 503)
        Routes().read({each["name"]: each["value"] for each in ask["contextExtensions"]})
    [strip] = [each["spec"]["headers"] for each in objects if "ClientTraffic" in each["kind"]]
    prefixes = [each["value"] for each in strip["earlyRequestHeaders"]["removeOnMatch"]]
    assert all(any(name.lower().startswith(p) for p in prefixes) for name in IDENTITY_HEADERS)
    assert strip["withUnderscoresAction"] == "DropHeader"

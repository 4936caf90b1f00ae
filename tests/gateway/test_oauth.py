"""Token introspection and revocation, as frameworks request them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest

from session_authority.gateway.configuration import GatewayConfigError, load_gateway_config
from session_authority.gateway.decision import Gateway
from session_authority.gateway.forward_auth import ForwardAuth
from session_authority.gateway.oauth import INTROSPECTION_PATH, REVOCATION_PATH, OAuth
from session_authority.gateway.oauth_callers import (
    FAILURE_WINDOW_SECONDS,
    MAX_FAILURES,
    NotAuthenticated,
    OAuthCaller,
    OAuthCallers,
    TooManyFailures,
)
from session_authority.gateway.web import GatewayApp, Health
from session_authority_client import AsyncSessionAuthority, CallerNotAllowed
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import FLOW, Heard, Proxy

SECRET, OLD, API = "s3cret:with=signs+&é", "before", "reader"
CALLERS = {
    API: OAuthCaller(tuple(hashlib.sha256(each.encode()).digest() for each in (SECRET, OLD))),
    "closer": OAuthCaller((hashlib.sha256(SECRET.encode()).digest(),), may_revoke=True),
}
FORM = ("Content-Type", "application/x-www-form-urlencoded")
INACTIVE = {"active": False}


def basic(name: str = API, secret: str = SECRET) -> tuple[str, str]:
    pair = "&".join(urlencode({"": part})[1:] for part in (name, secret)).replace("&", ":")
    return "Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.fixture
def proxy(authority: AsyncSessionAuthority) -> Proxy:
    apps = OAuth(authority, OAuthCallers(CALLERS)).apps()
    return Proxy(GatewayApp(ForwardAuth(Gateway(authority, FLOW)), authority, FLOW, Health(), apps))


async def post(
    proxy: Proxy, path: str, form: Mapping[str, str], *headers: tuple[str, str]
) -> Heard:
    heard = await proxy.send("POST", path, [FORM, *headers], body=urlencode(form).encode())
    assert heard["cache-control"] == "no-store"
    return heard


async def introspect(proxy: Proxy, form: Mapping[str, str]) -> Any:
    heard = await post(proxy, INTROSPECTION_PATH, form, basic())
    assert heard.status == 200
    return json.loads(heard.body)


def signed_in(fake: FakeAuthority, **more: Any) -> dict[str, str]:
    app = fake.sign_in("ada", **more)
    token = app["Authorization"].removeprefix("Bearer ")
    return {"token": token, "device_id": app["X-Device-Id"]}


async def test_a_good_token_is_active(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake, claims={"tenant": "acme"}, auth_methods=["pwd"])
    told = await introspect(proxy, {**form, "token_type_hint": "access_token"})
    assert told.pop("exp") > told.pop("auth_time")
    assert len(told.pop("sid")) == 32
    assert told == {
        "active": True,
        "token_type": "Bearer",
        "sub": "ada",
        "device_id": form["device_id"],
        "amr": ["pwd"],
        "claims": {"tenant": "acme"},
    }


async def test_an_inactive_token_has_no_other_fields(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake)
    other = {**form, "device_id": "7b9a2f4e-6f0c-4c57-9d1f-0a8a4e9d3a11"}
    for wrong in (
        {**form, "token": "x" * 5000},
        {**form, "token": "é"},
        {**form, "device_id": "x"},
    ):
        assert await introspect(proxy, wrong) == INACTIVE
    fake.expire_tokens()
    assert await introspect(proxy, form) == INACTIVE
    fake.reset()
    assert await introspect(proxy, other) == INACTIVE


async def test_without_a_device_no_token_is_active_and_no_alarm_is_raised(
    fake: FakeAuthority, proxy: Proxy
):
    form = signed_in(fake)
    asked = fake.calls.total()
    assert await introspect(proxy, {"token": form["token"]}) == INACTIVE
    assert await introspect(proxy, {"token": form["token"], "device_id": ""}) == INACTIVE
    assert fake.calls.total() == asked
    assert (await introspect(proxy, form))["active"]


async def test_an_introspection_finds_a_replay(fake: FakeAuthority, proxy: Proxy):
    stolen, elsewhere = signed_in(fake), signed_in(fake)
    fake.replay_tokens()
    assert await introspect(proxy, stolen) == INACTIVE
    # The alarm has signed the user out everywhere.
    assert await introspect(proxy, elsewhere) == INACTIVE


async def test_a_token_on_another_device_is_inactive_and_detected(
    fake: FakeAuthority, proxy: Proxy
):
    stolen = signed_in(fake)
    other = {**stolen, "device_id": "7b9a2f4e-6f0c-4c57-9d1f-0a8a4e9d3a11"}
    assert await introspect(proxy, other) == INACTIVE
    assert await introspect(proxy, stolen) == INACTIVE


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ([basic()], {}),
        ([basic(secret=OLD)], {}),
        ([basic()], {"client_id": API}),
        ([], {"client_id": API, "client_secret": SECRET}),
    ],
)
async def test_a_caller_must_authenticate(
    headers: list[tuple[str, str]], form: dict[str, str], fake: FakeAuthority, proxy: Proxy
):
    heard = await post(proxy, INTROSPECTION_PATH, {**signed_in(fake), **form}, *headers)
    assert json.loads(heard.body)["active"]


@pytest.mark.parametrize(
    ("headers", "form", "status", "code"),
    [
        ([], {}, 401, "invalid_client"),
        ([basic(secret="wrong")], {}, 401, "invalid_client"),
        ([basic(name="nobody")], {}, 401, "invalid_client"),
        ([basic(name="")], {}, 401, "invalid_client"),
        ([basic(secret="")], {}, 401, "invalid_client"),
        ([("Authorization", "Bearer x")], {}, 401, "invalid_client"),
        ([], {"client_id": API, "client_secret": "wrong"}, 401, "invalid_client"),
        ([], {"client_secret": SECRET}, 401, "invalid_client"),
        ([("Authorization", "Basic !")], {}, 400, "invalid_request"),
        ([("Authorization", "Basic /w==")], {}, 400, "invalid_request"),
        ([basic(), basic()], {}, 400, "invalid_request"),
        ([basic()], {"client_id": "closer"}, 400, "invalid_request"),
        ([basic()], {"client_id": API, "client_secret": SECRET}, 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", [INTROSPECTION_PATH, REVOCATION_PATH])
async def test_a_stranger_learns_nothing(
    path: str,
    headers: list[tuple[str, str]],
    form: dict[str, str],
    status: int,
    code: str,
    fake: FakeAuthority,
    proxy: Proxy,
):
    heard = await post(proxy, path, {**signed_in(fake), **form}, *headers)
    assert (heard.status, json.loads(heard.body)["error"]) == (status, code)
    assert bool(heard.all("www-authenticate")) == (status == 401)


async def test_a_malformed_request_is_named(proxy: Proxy):
    async def code(method: str, kind: str, body: bytes) -> str:
        headers = [("Content-Type", kind), basic()]
        heard = await proxy.send(method, INTROSPECTION_PATH, headers, body=body)
        assert heard.status == 400
        return str(json.loads(heard.body)["error"])

    for asked in (
        ("GET", FORM[1], b""),
        ("POST", "application/json", b"{}"),
        ("POST", FORM[1], b""),
        ("POST", FORM[1], b"token="),
        ("POST", FORM[1], b"token=a&token=b"),
        ("POST", FORM[1], b"token"),
        ("POST", FORM[1], b"token=%ff"),
        ("POST", FORM[1], b"\xff"),
        ("POST", FORM[1], b"&".join(b"a%d=1" % number for number in range(30))),
        ("POST", FORM[1], b"token=" + b"x" * 20_000),
    ):
        assert await code(*asked) == "invalid_request", asked


async def test_guesses_are_slowed_down_and_lock_no_caller_out(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake)
    for _ in range(MAX_FAILURES):
        assert (await post(proxy, INTROSPECTION_PATH, form, basic(secret="x"))).status == 401
    heard = await post(proxy, INTROSPECTION_PATH, form, basic(secret="x"))
    assert heard.status == 429
    assert 0 < int(heard["retry-after"]) <= FAILURE_WINDOW_SECONDS
    # A right secret is accepted from that address too: all callers at a unix socket share an
    # address.
    assert (await post(proxy, INTROSPECTION_PATH, form, basic())).status == 200
    elsewhere = Proxy(proxy.app, peer="10.0.0.9")
    assert (await post(elsewhere, INTROSPECTION_PATH, form, basic(secret="x"))).status == 401


def test_an_address_may_fail_again_after_some_time():
    now = [0.0]
    callers = OAuthCallers(CALLERS, clock=lambda: now[0])
    wrong = [basic(secret="x")[1]]
    for _ in range(MAX_FAILURES):
        with pytest.raises(NotAuthenticated):
            callers.authenticate("here", wrong, {})
    now[0] += FAILURE_WINDOW_SECONDS - 1
    with pytest.raises(TooManyFailures):
        callers.authenticate("here", wrong, {})
    now[0] += 1
    with pytest.raises(NotAuthenticated):
        callers.authenticate("here", wrong, {})


async def test_a_revocation_signs_the_device_out(fake: FakeAuthority, proxy: Proxy):
    form, elsewhere = signed_in(fake), signed_in(fake)
    for _ in range(2):
        heard = await post(proxy, REVOCATION_PATH, form, basic("closer"))
        assert (heard.status, heard.body) == (200, b"")
    assert await introspect(proxy, form) == INACTIVE
    assert (await introspect(proxy, elsewhere))["active"]


async def test_an_expired_token_can_be_revoked(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake)
    fake.expire_tokens()
    assert (await post(proxy, REVOCATION_PATH, form, basic("closer"))).status == 200
    assert fake.sign_out("ada") == 0


async def test_the_revocation_of_an_invalid_token_succeeds(fake: FakeAuthority, proxy: Proxy):
    form = {**signed_in(fake), "token": "a.b.c"}
    assert (await post(proxy, REVOCATION_PATH, form, basic("closer"))).status == 200
    assert fake.sign_out("ada") == 1


async def test_only_callers_with_the_right_may_revoke(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake)
    heard = await post(proxy, REVOCATION_PATH, form, basic())
    assert (heard.status, json.loads(heard.body)["error"]) == (400, "unauthorized_client")
    heard = await post(proxy, REVOCATION_PATH, {"token": form["token"]}, basic("closer"))
    assert (heard.status, json.loads(heard.body)["error"]) == (400, "invalid_request")
    assert (await introspect(proxy, form))["active"]


async def test_an_outage_gives_no_verdict(fake: FakeAuthority, proxy: Proxy):
    form = signed_in(fake)
    with fake.unavailable():
        for path in (INTROSPECTION_PATH, REVOCATION_PATH):
            heard = await post(proxy, path, form, basic("closer"))
            assert (heard.status, heard["retry-after"]) == (503, "1")
            assert json.loads(heard.body) == {"error": "temporarily_unavailable"}


async def test_a_revocation_fails_if_the_gateway_may_not_revoke(
    fake: FakeAuthority, authority: AsyncSessionAuthority, proxy: Proxy, monkeypatch
):
    async def refuse(*_: object, **__: object) -> bool:
        raise CallerNotAllowed("no", grpc.StatusCode.PERMISSION_DENIED)

    monkeypatch.setattr(authority, "revoke_device", refuse)
    heard = await post(proxy, REVOCATION_PATH, signed_in(fake), basic("closer"))
    assert heard.status == 503


def test_the_file_names_the_callers(tmp_path: Path):
    path = tmp_path / "gateway.toml"
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    text = '[authority]\naddress = "127.0.0.1:1"\n[http]\nlisten = "127.0.0.1:2"\n'
    text += '[oauth_callers.reader]\nsecret_sha256 = ["{}"]\n'
    path.write_text(text.format(digest))
    callers = load_gateway_config(path).callers()
    assert callers.authenticate("", [basic()[1]], {}) == OAuthCaller((bytes.fromhex(digest),))
    path.write_text(text.format(SECRET))
    with pytest.raises(GatewayConfigError, match="must be a SHA-256") as told:
        load_gateway_config(path)
    assert SECRET not in str(told.value)

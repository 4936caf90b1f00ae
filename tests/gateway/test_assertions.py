"""The assertion that an app gets. Tests verify it as apps do, with PyJWT and joserfc."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from structlog.testing import capture_logs

from session_authority.gateway.assertions import Assertions
from session_authority.gateway.configuration import AssertionsTable
from session_authority.gateway.decision import Gateway
from session_authority.gateway.forward_auth import ForwardAuth
from session_authority.gateway.jwks import JWKS_PATH, jwks_app
from session_authority.gateway.routes import Route, Routes
from session_authority.gateway.web import GatewayApp, Health
from session_authority.processes.gateway_keys import AssertionKeys
from session_authority.tokens import Algorithm, KeyringError, add_key, generate, promote, revoke
from session_authority_client import AsyncSessionAuthority, Session
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import FLOW, Proxy, browser_cookies

ISSUER, SHOP, BANK = "https://gateway.example", "https://shop.example", "https://bank.example"
NOW = datetime.now(UTC)
ROUTE = Route(app="shop", audience=SHOP)
SESSION = Session(
    user_id="ada",
    device_id="7b9a2f4e-6f0c-4c57-9d1f-0a8a4e9d3a11",
    session_id="0" * 32,
    generation=1,
    claims={"tenant": "acme"},
    auth_methods=("pwd", "otp"),
    sign_in_time=NOW,
    token_expire_time=NOW,
    expire_time=NOW,
)


def keys_in(folder: Path, *algorithms: Algorithm) -> Path:
    """A folder of keys. The last key signs."""
    for algorithm in algorithms:
        key = generate(algorithm, datetime.now(UTC))
        add_key(folder, key)
        promote(folder, key.kid, datetime.now(UTC))
    return folder


def keys_of(folder: Path) -> AssertionKeys:
    return AssertionKeys(AssertionsTable.model_construct(keys=folder, issuer=ISSUER))


class Counting:
    """Counts signatures."""

    def __init__(self) -> None:
        self.version = 0
        self.signed: list[Mapping[str, object]] = []

    def sign(self, claims: Mapping[str, object]) -> str:
        self.signed.append(claims)
        return f"assertion {len(self.signed)}"


# joserfc knows EdDSA by the newer name Ed25519, too.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA, Algorithm.RS256])
def test_an_app_verifies_an_assertion_with_the_published_keys(algorithm: Algorithm, tmp_path: Path):
    keys = keys_of(keys_in(tmp_path / "keys", algorithm))
    text, published = keys.assertions(SESSION, ROUTE), json.loads(keys.jwks())
    [key] = jwt.PyJWKSet.from_dict(published).keys
    claims = jwt.decode(text, key, [algorithm.value], audience=SHOP, issuer=ISSUER)
    assert claims.pop("exp") - claims.pop("iat") == 60
    assert claims == {
        "iss": ISSUER,
        "aud": SHOP,
        "sub": "ada",
        "sid": "0" * 32,
        "device": SESSION.device_id,
        "amr": ["pwd", "otp"],
        "auth_time": int(NOW.timestamp()),
        "claims": {"tenant": "acme"},
    }
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(text, key, [algorithm.value], audience=BANK, issuer=ISSUER)
    names = [algorithm.value]
    read = joserfc_jwt.decode(text, KeySet.import_key_set(published), algorithms=names)
    assert read.claims["sub"] == "ada"


def test_a_rotated_key_still_verifies(tmp_path: Path):
    folder = keys_in(tmp_path / "keys", Algorithm.ES256)
    keys = keys_of(folder)
    old = keys.assertions(SESSION, ROUTE)
    keys_in(folder, Algorithm.EDDSA)
    keys.look()
    new = keys.assertions(SESSION, ROUTE)
    published = jwt.PyJWKSet.from_dict(json.loads(keys.jwks()))
    heads = [jwt.get_unverified_header(text) for text in (old, new)]
    assert [head["alg"] for head in heads] == ["ES256", "EdDSA"]
    for text, head in zip((old, new), heads, strict=True):
        key = published[head["kid"]]
        assert jwt.decode(text, key, [head["alg"]], audience=SHOP)["sub"] == "ada"


def test_no_assertion_of_a_revoked_key_is_sent(tmp_path: Path):
    folder = keys_in(tmp_path / "keys", Algorithm.ES256, Algorithm.ES256)
    keys = keys_of(folder)
    leaked = jwt.get_unverified_header(keys.assertions(SESSION, ROUTE))["kid"]
    revoke(folder, leaked, datetime.now(UTC), replace=True)
    keys.look()
    assert jwt.get_unverified_header(keys.assertions(SESSION, ROUTE))["kid"] != leaked
    assert leaked not in keys.jwks().decode()


def test_broken_key_files_change_nothing(tmp_path: Path):
    folder = keys_in(tmp_path / "keys", Algorithm.ES256)
    keys = keys_of(folder)
    before = keys.jwks()
    next(folder.iterdir()).write_text("{")
    keys.look()
    assert keys.jwks() == before
    with pytest.raises(KeyringError):
        keys_of(folder)


async def test_a_request_is_denied_if_no_key_signs(
    tmp_path: Path, fake: FakeAuthority, authority: AsyncSessionAuthority
):
    folder = keys_in(tmp_path / "keys", Algorithm.ES256)
    keys = keys_of(folder)
    [file] = folder.iterdir()
    fields = json.loads(file.read_text())
    del fields["promoted"]
    file.write_text(json.dumps(fields))
    keys.look()
    gateway = Gateway(authority, FLOW, routes=Routes({"shop": SHOP}), assertions=keys.assertions)
    proxy = Proxy(GatewayApp(ForwardAuth(gateway), authority, FLOW, Health()))
    cookie = [("Cookie", browser_cookies(fake))]
    with capture_logs() as lines:
        denied = await proxy.ask("/forward-auth", cookie, options="app=shop")
    assert (denied.status, json.loads(denied.body)) == (500, {"error": "misconfigured"})
    assert [(line["event"], line["fault"]) for line in lines] == [
        ("assertion_not_signed", "there is no signing key: promote one")
    ]
    assert (await proxy.ask("/forward-auth", cookie)).status == 200


def test_a_key_without_a_public_part_is_refused(tmp_path: Path):
    with pytest.raises(KeyringError, match="public part"):
        keys_of(keys_in(tmp_path / "keys", Algorithm.HS256))


def test_a_key_without_a_public_part_replaces_no_key(tmp_path: Path):
    folder = keys_in(tmp_path / "keys", Algorithm.ES256)
    keys = keys_of(folder)
    before = keys.jwks()
    keys_in(folder, Algorithm.HS256)
    keys.look()
    assert keys.jwks() == before
    head = jwt.get_unverified_header(keys.assertions(SESSION, ROUTE))
    assert head["alg"] == "ES256"


def test_an_assertion_is_reused_until_half_of_its_life_is_left():
    signer, now = Counting(), [1_000_000.0]
    assertions = Assertions(signer, ISSUER, clock=lambda: now[0])
    assert assertions(SESSION, ROUTE) == assertions(replace(SESSION), ROUTE) == "assertion 1"
    now[0] += 29.9
    assert assertions(SESSION, ROUTE) == "assertion 1"
    now[0] += 0.1
    assert assertions(SESSION, ROUTE) == "assertion 2"
    assert signer.signed[1]["exp"] == 1_000_030 + 60
    now[0] -= 3600  # The clock was set back.
    assert assertions(SESSION, ROUTE) == "assertion 3"


def test_an_assertion_is_signed_again_for_another_app_and_for_changed_claims():
    signer = Counting()
    assertions = Assertions(signer, ISSUER)
    first = assertions(SESSION, ROUTE)
    assert assertions(SESSION, Route(app="bank", audience=BANK)) != first
    assert signer.signed[1]["aud"] == BANK
    changed = replace(SESSION, claims={"tenant": "other"})
    assert assertions(changed, ROUTE) not in (first, "assertion 2")
    assert assertions(SESSION, Route()) == ""
    assert len(signer.signed) == 3


async def test_only_the_app_of_the_route_gets_the_assertion(
    tmp_path: Path, fake: FakeAuthority, authority: AsyncSessionAuthority
):
    keys = keys_of(keys_in(tmp_path / "keys", Algorithm.ES256))
    gateway = Gateway(authority, FLOW, routes=Routes({"shop": SHOP}), assertions=keys.assertions)
    apps = [(JWKS_PATH, jwks_app(keys.jwks))]
    proxy = Proxy(GatewayApp(ForwardAuth(gateway), authority, FLOW, Health(), apps))
    cookie = browser_cookies(fake)
    heard = await proxy.ask("/forward-auth", [("Cookie", cookie)], options="app=shop")
    page = await proxy.send("GET", JWKS_PATH)
    assert (page.status, page["content-type"]) == (200, "application/json")
    assert page["cache-control"] == "public, max-age=300"
    [key] = jwt.PyJWKSet.from_dict(json.loads(page.body)).keys
    claims = jwt.decode(heard["X-Session-Assertion"], key, ["ES256"], audience=SHOP)
    assert (claims["sub"], claims["sid"]) == ("ada", heard["X-Session-Id"])
    assert (await proxy.ask("/forward-auth", [("Cookie", cookie)]))["X-Session-Assertion"] == ""
    assert (await proxy.send("POST", JWKS_PATH)).status == 405


def test_the_sign_in_time_of_a_session_is_part_of_the_assertion():
    signer = Counting()
    earlier = replace(SESSION, sign_in_time=NOW - timedelta(hours=1))
    Assertions(signer, ISSUER)(earlier, ROUTE)
    assert signer.signed[0]["auth_time"] == int((NOW - timedelta(hours=1)).timestamp())

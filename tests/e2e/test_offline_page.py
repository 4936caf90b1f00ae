"""The page about verifying tokens without the service: its example works, and its tables are
true.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from session_authority.tokens import Algorithm, SigningKey, generate
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import Caller, DevServer, dev_server
from tests.support.fork_server import ROOT

PAGE = (ROOT / "docs" / "offline.md").read_text("utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "verify_tokens.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with dev_server(tmp_path_factory.mktemp("dev") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def issued(server: DevServer) -> pb.IssueDeviceResponse:
    with Caller(server.address) as caller:
        return caller.sign_in("ada", claims={"tenant": "acme"}, auth_methods=["pwd"])


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("verify_tokens", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_prints_the_claims(server: DevServer, issued: pb.IssueDeviceResponse):
    for token, code, said in (
        (f"{issued.access_token}\n", 0, ""),
        (f"{issued.access_token[:-8]}AAAAAAAA", 1, "not verified: "),
        ("nonsense", 1, "not verified: "),
    ):
        done = subprocess.run(
            [sys.executable, EXAMPLE],
            env={"AUTHORITY": server.address, "PYTHONPATH": str(ROOT / "clients" / "python")},
            input=token,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr.startswith(said)) == (code, True), done.stderr
        assert ("Traceback" in done.stderr, bool(done.stdout)) == (False, code == 0)
        if code == 0:
            claims = json.loads(done.stdout)
            assert (claims["sub"], claims["tenant"], claims["amr"]) == ("ada", "acme", ["pwd"])
            assert told() == claims.keys() - {"tenant"}


def told() -> set[str]:
    """The claims that the page's table names."""
    table = PAGE[PAGE.index("## The claims") :]
    rows = re.findall(r"^\| (`[^|]*`) \|", table, re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_device_key_of_the_page_is_that_of_the_token(issued: pb.IssueDeviceResponse):
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {}
    exec(block, names)
    claims = jwt.decode(issued.access_token, options={"verify_signature": False})
    assert names["device_key"](issued.device.device_id) == claims["dk"]


def new_key() -> SigningKey:
    return generate(Algorithm.ES256, datetime.now(UTC))


def signed(key: SigningKey, kid: str = "", typ: str = "at+jwt", **changes: Any) -> str:
    now = int(time.time())
    claims = {
        **dict.fromkeys(("sub", "sid", "dk", "gen", "jti"), "x"),
        "iss": "session-authority",
        "aud": "session-authority",
        "iat": now,
        "exp": now + 60,
        **changes,
    }
    headers = {"kid": kid or key.kid, "typ": typ}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key.private, algorithm="ES256", headers=headers)


class Service:
    """Serves the public keys of a list, and counts the requests."""

    def __init__(self) -> None:
        self.keys = [new_key()]
        self.asked = 0

    def get_signing_keys(self) -> SimpleNamespace:
        self.asked += 1
        published = [key.public_jwk() for key in self.keys]
        return SimpleNamespace(jwks_json=json.dumps({"keys": published}))


def test_the_example_refuses_a_token_of_another_service(example: Any):
    service = Service()
    verify, [key] = example.Verifier(service).verify, service.keys
    assert verify(signed(key))["sub"] == "x"
    stranger, now = new_key(), int(time.time())
    for token in (
        signed(stranger, kid=key.kid),
        signed(key, typ="JWT"),
        signed(key, iss="another"),
        signed(key, aud="another"),
        signed(key, exp=now - 31),
        signed(key, iat=now + 60),
        signed(key, sid=None),
        jwt.encode({"sub": "x"}, "a" * 32, headers={"kid": key.kid, "typ": "at+jwt"}),
        jwt.encode({"sub": "x"}, "", algorithm="none", headers={"kid": key.kid, "typ": "at+jwt"}),
    ):
        with pytest.raises(jwt.InvalidTokenError):
            verify(token)
    assert verify(signed(key, exp=now - 20))
    assert service.asked == 1


def test_the_example_learns_of_new_keys(example: Any, monkeypatch: pytest.MonkeyPatch):
    service, now = Service(), [1000.0]
    monkeypatch.setattr(example, "time", SimpleNamespace(monotonic=lambda: now[0]))
    verify, [old] = example.Verifier(service).verify, service.keys
    verify(signed(old))
    new = new_key()
    for _ in range(3):  # Invented key names cause at most one request to the service.
        with pytest.raises(jwt.InvalidTokenError, match="no key of the service"):
            verify(signed(new))
    assert service.asked == 1
    service.keys, now[0] = [old, new], now[0] + 5.1
    verify(signed(new))
    assert service.asked == 2
    service.keys, now[0] = [new], now[0] + 60.1
    with pytest.raises(jwt.InvalidTokenError, match="no key of the service"):
        verify(signed(old))

"""The API for adapters: the example of docs/adapters.md works, and the API's rules hold."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from session_authority_client import adapter
from session_authority_client.flow import Flow, NoAnswer
from session_authority_client.testing import FakeAuthority

DOCS = Path(__file__).parents[4] / "docs" / "adapters.md"
TEXT = DOCS.read_text("utf-8")
PATIENCE = 40.0


@pytest.fixture
def site(authority: FakeAuthority) -> Iterator[httpx.Client]:
    """An HTTP client with cookies, at the example's server."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    example: dict[str, Any] = {}
    exec(code, example)
    with example["serve"](authority.address, 0) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


def test_the_example_is_a_whole_adapter(site: httpx.Client, authority: FakeAuthority):
    assert site.get("/").status_code == 401
    signed_in = site.get("/sign-in")
    assert signed_in.headers["Cache-Control"] == "no-store"
    assert set(site.cookies) == {"session", "device"}
    page = site.get("/")
    assert page.text == "hello ada"
    assert page.headers["Vary"] == "Cookie, Authorization, X-Device-Id"
    assert site.head("/").text == ""

    authority.pass_time(timedelta(minutes=10))
    authority.expire_tokens()
    before = site.cookies["session"]
    assert site.get("/").text == "hello ada"
    assert site.cookies["session"] != before

    with authority.unavailable():
        away = site.get("/")
        assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
    foreign = site.post("/", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403

    authority.replay_tokens()
    replayed = site.get("/")
    assert replayed.status_code == 401
    assert len(replayed.headers.get_list("Set-Cookie")) == 2
    assert not site.cookies


def test_a_visit_waits_no_longer_than_its_timeout(authority: FakeAuthority):
    brought = {name.lower(): [value] for name, value in authority.sign_in("ada").items()}
    # The client itself would wait longer for the answer.
    with authority.client() as client, authority.slow(timedelta(seconds=2)):
        visits = adapter.Visits(client, Flow())
        visit = visits.open("GET", brought, "", timeout=timedelta(milliseconds=50))
        with pytest.raises(NoAnswer):
            visit.require()


def test_the_docs_name_the_whole_api():
    told = set(re.findall(r"\w+", TEXT))
    kinds = {"Caching", "DevicesRequest", "Headers", "Response", "Visit"}
    assert set(adapter.__all__) - told <= kinds | {"async_answer_devices"}

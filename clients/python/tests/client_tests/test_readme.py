"""Runs the code in the README against a development server, and checks that its tables are
complete.

The parts of the examples that it shows are in the examples word for word. `test_examples` runs the
examples by their own commands.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

import session_authority_client as sa
from client_tests.ends_harness import on_uvicorn, socket_at
from client_tests.middleware_harness import browser_of, django_app
from client_tests.readme import (
    BLOCKS,
    EXAMPLES,
    GRPC_SECTION,
    PROJECT,
    TEXT,
    blocks,
    example,
    section,
)
from session_authority.access import ROWS, Role
from session_authority_client._shared.transport import DEFAULT_TIMEOUT
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.devices import DevicesPage
from session_authority_client.flask import Visit
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.support.ca import CA

RUN = [block.code for block in BLOCKS if block.mark == "run"]
WITH_CERTIFICATES = [block.code for block in BLOCKS if block.mark == "example"]
OF_EXAMPLES = [
    (block.mark.removeprefix("from "), block.code)
    for block in BLOCKS
    if block.mark.startswith("from ")
]
CHAT = [block.code for block in BLOCKS if block.mark == "chat"]
TESTS = [block.code for block in BLOCKS if block.mark == "pytest flask_app"]
DEVICES = {
    block.mark.removeprefix("devices "): block.code
    for block in BLOCKS
    if block.mark.startswith("devices ")
}
# `test_grpc_example` runs these blocks.
CALLS = [block.code for block in BLOCKS if block.mark == "calls grpc_app"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def first_column(name: str) -> list[str]:
    """Every name in the first column of a section's table."""
    cells = re.findall(r"^\| (`[^|]*) \|", section(name), re.MULTILINE)
    return re.findall(r"`(\w+)[^`]*`", " ".join(cells))


@pytest.mark.parametrize("code", RUN, ids=["threads", "asyncio", "near cache"])
def test_the_quick_start_does_what_it_says(code: str, address: str, tmp_path: Path):
    assert code.count('"127.0.0.1:50051"') == 1
    code = code.replace('"127.0.0.1:50051"', f'"{address}"')
    patient = code.replace("timeout=timedelta(seconds=2)", "timeout=timedelta(seconds=20)").replace(
        "cache=cache)", "cache=cache, timeout=__import__('datetime').timedelta(seconds=20))"
    )
    assert patient.count("seconds=20") == 1
    done = run(tmp_path, "-W", "error", "-c", patient)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("code", WITH_CERTIFICATES)
def test_the_code_about_certificates_runs(code: str, tmp_path: Path):
    authority = CA(tmp_path)
    pair = authority.sign(uris=["spiffe://example.org/gateway"])
    pair.certificate.rename(tmp_path / "gateway.pem")
    pair.key.rename(tmp_path / "gateway.key")
    (tmp_path / "token").write_text("hunter2\n")
    done = run(tmp_path, "-W", "error", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("path", "code"), OF_EXAMPLES, ids=[path for path, _ in OF_EXAMPLES])
def test_the_shown_parts_of_the_examples_are_in_the_examples(path: str, code: str):
    head, shown, html = (PROJECT / path).read_text().partition(code)
    assert shown
    assert re.fullmatch(r'""".*?"""\n+', head, re.DOTALL)
    assert re.fullmatch(r'(\n+PAGE = """.*?"""\n)?', html, re.DOTALL)


async def test_the_chat_in_the_readme_ends_with_the_session(authority: FakeAuthority):
    (code,) = CHAT
    assert code.count('"127.0.0.1:50051"') == 1
    patient = "(AUTHORITY, timeout=__import__('datetime').timedelta(seconds=20),"
    code = code.replace("(AUTHORITY,", patient).replace("127.0.0.1:50051", authority.address)
    made: dict[str, Any] = {}
    exec(compile(code, "chat", "exec", dont_inherit=True), made)
    ada, bob = authority.sign_in("ada"), authority.sign_in("bob")
    async with (
        on_uvicorn(made["app"]) as address,
        socket_at(address, "/chat", ada) as one,
        socket_at(address, "/chat", bob) as other,
    ):
        assert await one.echo("hello") == "ada: hello"
        await asyncio.to_thread(authority.sign_out, "ada")
        async with asyncio.timeout(20):
            assert await one.closed() == (4401, "session_ended")
        assert (await other.next()).data == "ada: hello"
        assert await other.echo("alone") == "bob: alone"


def only_the_devices(name: str, code: str) -> Any:
    """The app that a block of code makes."""
    made: dict[str, Any] = {"__name__": __name__}
    exec(compile(code, name, "exec", dont_inherit=True), made)
    if name != "django":
        return made["app"]
    for setting in ("MIDDLEWARE", "SESSION_AUTHORITY", "SESSION_AUTHORITY_FLOW"):
        setattr(settings, setting, made[setting])
    return WSGIHandler()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
async def test_ten_lines_serve_the_page_of_devices(authority: FakeAuthority, name: str):
    django_app(authority)  # configures Django
    code = DEVICES[name]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    assert code.count('"127.0.0.1:50051"') == 1
    patient = "(AUTHORITY, timeout=__import__('datetime').timedelta(seconds=20))"
    code = code.replace("Authority(AUTHORITY)", f"Authority{patient}")
    assert patient in code
    app = only_the_devices(name, code.replace("127.0.0.1:50051", authority.address))
    async with browser_of(app) as browser:
        answer = await browser.get("/devices", headers=authority.sign_in("ada"))
        assert (answer.status_code, "Your devices" in answer.text) == (200, True)
        stranger = await browser.get("/devices", headers={"sec-fetch-mode": "navigate"})
        assert stranger.headers["location"] == "/sign-in?next=/devices"


def test_every_setting_of_the_page_of_devices_is_documented():
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| ", section("The page of devices"), re.MULTILINE)
    assert table == [field.name for field in dataclasses.fields(DevicesPage)]


# The imports and the test client of each framework, as the README's table shows them.
TEST_CLIENTS = {
    "flask": ("", "flask_app.app.test_client()"),
    "fastapi": (
        "from fastapi.testclient import TestClient",
        'TestClient(fastapi_app.app, base_url="http://localhost", follow_redirects=False)',
    ),
    "django": ("from django.test import Client", 'Client(headers={"host": "localhost"})'),
}


@pytest.mark.parametrize("name", sorted(TEST_CLIENTS))
@pytest.mark.parametrize("code", TESTS)
def test_the_tests_in_the_readme_pass_with_each_example(code: str, name: str, tmp_path: Path):
    imports, client = TEST_CLIENTS[name]
    if name != "flask":
        code = code.replace("flask_app.app.test_client()", client).replace(
            "flask_app", f"{name}_app"
        )
        code = imports + "\n" + code.replace(".location", '.headers["location"]')
    (tmp_path / f"{name}_app.py").write_text(example(name), "utf-8")
    (tmp_path / "test_app.py").write_text(code)
    # No `-W error`: the newest Starlette warns about httpx, and wants httpx2.
    done = run(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        "test_app.py",
    )
    assert done.returncode == 0, done.stdout
    assert f"{code.count('def test_')} passed" in done.stdout


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 401)])
async def test_secure_cookies_need_a_test_client_with_https(scheme: str, status: int):
    async def app(scope: Any, _: Any, send: Any) -> None:
        visit = visit_of(scope)
        if scope["path"] == "/sign-in":
            await visit.sign_in("ada")
        visit.require()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with FakeAuthority() as authority:
        async with authority.async_client(timeout=timedelta(seconds=20)) as client:
            wrapped: Any = SessionAuthorityMiddleware(app, client)
            transport = httpx.ASGITransport(wrapped)
            async with httpx.AsyncClient(
                transport=transport, base_url=f"{scheme}://testserver"
            ) as browser:
                assert (await browser.get("/sign-in")).status_code == 200
                assert (await browser.get("/")).status_code == status


def test_all_code_in_the_readme_is_run():
    python = [block for block in BLOCKS if block.language == "python"]
    shown = [*RUN, *WITH_CERTIFICATES, *OF_EXAMPLES, *TESTS, *CHAT, *CALLS, *DEVICES]
    assert TEXT.count("```python") == len(python) == len(shown)
    assert {path for path, _ in OF_EXAMPLES} == {
        f"examples/{name}_app.py" for name in (*EXAMPLES, "grpc")
    }
    # `test_examples` and `test_grpc_example` run these commands, except those of pip. `make
    # client-compat` installs the client's wheel.
    shell = [block.code for block in BLOCKS if block.language == "sh"]
    served = [code for name in (*EXAMPLES.values(), GRPC_SECTION) for code in blocks(name, "sh")]
    assert shell == ["pip install ./clients/python\n", *served]


def test_every_method_and_the_roles_that_may_call_it_are_documented():
    public = [
        name
        for name, _ in inspect.getmembers(sa.SessionAuthority, callable)
        if not name.startswith("_")
    ]
    assert sorted(first_column("Methods")) == public
    roles = {path.rpartition("/")[2]: row.roles - {Role.OPERATOR} for path, row in ROWS.items()}
    other_names = {"validate_sessions": "BatchValidateSessions", "devices": "ListDevices"}
    for name, told in re.findall(
        r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", section("Methods"), re.MULTILINE
    ):
        rpc = other_names.get(name, name.title().replace("_", ""))
        assert set(told.split(" or ")) == {role.value for role in roles[rpc]}, name
    needs = re.findall(r"^\| \w.*? \| `(\w+)` \|", section("What the app may call"), re.MULTILINE)
    assert set(needs) == {role.value for role in Role} - {"operator"}


def test_every_setting_of_the_flow_is_documented():
    assert first_column("Settings") == [
        field.name for field in dataclasses.fields(Flow) if field.init
    ]


def test_every_public_member_of_a_visit_is_documented():
    visit = [name for name in dir(Visit) if not name.startswith("_")]
    of_middleware = {"open", "close", "owns", "writes", "added_to", "caching", "take_refusal"}
    of_middleware |= {"note_refusal"}
    of_middleware |= {"hang_up_at_end", "leave"}
    assert set(first_column("The visit")) - {"visit"} == set(visit) - of_middleware


def test_every_public_member_of_the_fake_is_documented():
    does = {name for name in dir(FakeAuthority()) if not name.startswith("_")}
    assert does <= set(first_column("Testing your app, without Redis"))


def test_every_exception_is_documented():
    errors = {
        name
        for name in sa.__all__
        if isinstance(getattr(sa, name), type) and issubclass(getattr(sa, name), Exception)
    }
    assert set(first_column("When a call fails")) == errors - {"SessionAuthorityError"}


def test_the_links_in_the_readme_have_targets():
    headings = {
        re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        for text in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (PROJECT / target.partition("#")[0]).exists()


def test_the_numbers_in_the_readme_are_those_of_the_code():
    assert f"{DEFAULT_TIMEOUT.total_seconds() * 1000:g} ms" in section("Timeouts and retries")
    needs = re.findall(r'"(\w+)>=([\d.]+)"', (PROJECT / "pyproject.toml").read_text())
    for name, version in needs:
        if name in ("grpcio", "protobuf"):
            assert f"`{name}` ≥ {version}" in section("Versions")

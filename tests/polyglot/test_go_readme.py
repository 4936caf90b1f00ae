"""The programs in the page about Go's web part, as a person pastes them: each is built in its own
module, and the app is served.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from client_tests.readme import PATIENCE
from session_authority_client.testing import FakeAuthority
from tests.support.backends import missing
from tests.support.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "go"
README = (CLIENT / "README.md").read_text("utf-8")
# The lines of the README that make a module use the client of a checkout.
INSTALL = re.findall(r"^Put the checkout .*?^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PAGE = (CLIENT / "WEB.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```go\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BUILD_SECONDS = 600


def built(code: str, folder: Path) -> Path:
    """Builds a program in a new module. The README's lines make the module use the checkout's
    client. The module gets the client's `go.sum`, because the database of checksums may be out of
    reach.
    """
    if shutil.which("go") is None:
        missing("go")
    (folder / "session-authority").symlink_to(ROOT)
    app = folder / "hello"
    app.mkdir()
    shutil.copy(CLIENT / "go.sum", app / "go.sum")
    (app / "main.go").write_text(code)
    commands = f"set -eu\ngo mod init hello\n{INSTALL[0]}go build -o hello ."
    environment = {**os.environ, "GOFLAGS": "-p=2 -buildvcs=false"}
    subprocess.run(
        ["sh", "-c", commands], cwd=app, env=environment, check=True, timeout=BUILD_SECONDS
    )
    return app / "hello"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The app of the page, started by the page's command, with the fake of the service."""
    program = built(PROGRAMS[0], tmp_path)
    with FakeAuthority() as authority:
        listen = f"localhost:{free_port()}"
        environment = {**os.environ, "AUTHORITY": authority.address, "LISTEN": listen}
        process = subprocess.Popen([program], env=environment)

        def ready() -> bool:
            assert process.poll() is None
            try:
                return httpx.get(f"http://{listen}/sign-in").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_for(ready, "the app to serve", PATIENCE)
            yield f"http://{listen}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_the_app_protects_a_page_and_shows_the_devices(site: str):
    assert "AUTHORITY=127.0.0.1:50051 LISTEN=localhost:8000 go run ." in PAGE
    page = {"Accept": "text/html"}
    with httpx.Client(base_url=site, headers=page, timeout=PATIENCE) as browser:
        asked = browser.get("/")
        assert (asked.status_code, asked.headers["Location"]) == (303, "/sign-in?next=/")
        assert browser.get("/", headers={"Accept": "*/*"}).status_code == 401
        signed_in = browser.post("/sign-in?next=/devices", data={"user": "ada"})
        assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/devices")
        assert "Hello ada!" in browser.get("/").text
        assert "<session-devices" in browser.get("/devices").text
        assert browser.get("/devices/api/devices").json()["devices"][0]["current"] is True
        assert browser.post("/sign-in", data={"user": ""}).status_code == 400


@pytest.mark.parametrize("number", range(1, len(PROGRAMS)))
def test_each_further_program_builds(number: int, tmp_path: Path):
    assert built(PROGRAMS[number], tmp_path).exists()


def test_the_page_has_both_programs():
    assert len(PROGRAMS) == 2
    assert all(code.startswith("package main\n") for code in PROGRAMS)

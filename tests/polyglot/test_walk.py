"""The same walk through the example programs of Go and TypeScript, with a real service. Two
browsers sign in. One of them lists, renames and revokes the other, and a copied token is noticed.

A program reads AUTHORITY, the address of the service, and LISTEN, the address that it serves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from client_tests.devices_browser import DevicesBrowser, devices_browser
from client_tests.readme import PATIENCE
from client_tests.test_browser import SETTINGS
from tests.polyglot.testees import building
from tests.support.backends import missing
from tests.support.dev import dev_server
from tests.support.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
TOKEN = "session"
BUILD_SECONDS = 600


@dataclass(frozen=True)
class Program:
    """An example program. `{out}` in a command is a folder for the result of the build."""

    client: str
    folder: str
    needs: Sequence[str]
    build: Sequence[Sequence[str]]
    run: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


PROGRAMS = {
    "nethttp": Program(
        client="clients/go",
        folder="clients/go/examples",
        needs=["go"],
        build=[["go", "build", "-o", "{out}/nethttp", "./nethttp"]],
        run=["{out}/nethttp"],
        environment={"GOFLAGS": "-p=2 -buildvcs=false"},
    ),
    "express": Program(
        client="clients/typescript",
        folder="clients/typescript",
        needs=["node", "npm"],
        build=[
            ["npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
            ["npm", "run", "build"],
        ],
        run=["node", "examples/express/app.js"],
    ),
}


@contextmanager
def serving(program: Program, out: Path, authority: str) -> Iterator[str]:
    """Builds a program and runs it. Yields the address of its first page."""
    if absent := [name for name in program.needs if shutil.which(name) is None]:
        missing(absent[0])
    folder = ROOT / program.folder
    listen = f"localhost:{free_port()}"
    environment = {**os.environ, **program.environment, "AUTHORITY": authority, "LISTEN": listen}
    with building(ROOT / program.client):
        for command in program.build:
            made = [part.replace("{out}", str(out)) for part in command]
            subprocess.run(made, cwd=folder, env=environment, check=True, timeout=BUILD_SECONDS)
    log = out / "program.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [part.replace("{out}", str(out)) for part in program.run],
            cwd=folder,
            env=environment,
            stdout=written,
            stderr=written,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"http://{listen}/sign-in").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, "the program to serve", PATIENCE)
        yield f"http://{listen}"
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program in order, or by force if it does not end."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


class Person:
    """A person with a browser of their own."""

    def __init__(self, browser: DevicesBrowser, site: str) -> None:
        self.browser = browser
        self.driver = browser.driver
        self.site = site

    def open(self, path: str = "/") -> None:
        """Types an address."""
        self.driver.get(f"{self.site}{path}")

    def sign_in(self, user: str) -> None:
        """Fills in the form, which leads to the page that the person wanted."""
        field = self.driver.find_element(By.NAME, "user")
        field.send_keys(user, Keys.ENTER)
        wait_for(lambda: self.path != "/sign-in", "the page after the sign-in", PATIENCE)

    @property
    def path(self) -> str:
        """The path of the page that the browser shows."""
        return urlsplit(str(self.driver.current_url)).path

    @property
    def is_out(self) -> bool:
        """Returns whether the page asks the person to sign in."""
        return self.path == "/sign-in" and bool(self.driver.find_elements(By.NAME, "user"))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the browser would send, by name."""
        kept = self.driver.execute_cdp_cmd("Network.getCookies", {"urls": [f"{self.site}/"]})
        return {cookie["name"]: cookie["value"] for cookie in kept["cookies"]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service, whose tokens are soon old enough to be renewed."""
    with dev_server(tmp_path_factory.mktemp("dev"), SETTINGS) as running:
        yield running.address


@pytest.mark.parametrize("name", PROGRAMS)
def test_two_browsers_walk_through(name: str, service: str, tmp_path: Path):
    with ExitStack() as stack:
        out = tmp_path / "out"
        out.mkdir()
        site = stack.enter_context(serving(PROGRAMS[name], out, service))
        laptop, phone = (
            Person(stack.enter_context(devices_browser(tmp_path / profile)), site)
            for profile in ("laptop", "phone")
        )
        sign_in_with_the_way_back(laptop, phone)
        rename_and_revoke(laptop, phone)
        replay(laptop, phone)


def sign_in_with_the_way_back(laptop: Person, phone: Person) -> None:
    """Both persons sign in, and see the page that they wanted."""
    laptop.open()
    assert laptop.is_out
    assert laptop.cookies == {}
    laptop.sign_in("ada")
    assert "Hello ada" in laptop.browser.text
    phone.open("/devices")
    assert phone.is_out
    phone.sign_in("ada")
    assert phone.path == "/devices"
    assert phone.driver.execute_script("return document.cookie") == ""


def rename_and_revoke(laptop: Person, phone: Person) -> None:
    """One browser lists both, renames the other, and signs it out."""
    wait_for(lambda: len(phone.browser.titles) == 2, "both devices", PATIENCE)
    here, there = phone.browser.titles
    assert "This device" in phone.browser.cards[0]
    phone.browser.click(f"Rename {there}")
    wait_for(lambda: "name" in phone.browser.focused, "the field", PATIENCE)
    phone.browser.press("Ada's <laptop>", Keys.ENTER)
    phone.browser.await_status("The device is now called Ada's <laptop>.")
    laptop.open("/devices")
    wait_for(lambda: len(laptop.browser.titles) == 2, "both devices", PATIENCE)
    assert laptop.browser.titles == ["Ada's <laptop>", here]

    phone.browser.click("Sign out Ada's <laptop>")
    wait_for(lambda: "Ada's <laptop>" not in phone.browser.titles[:1], "the list", PATIENCE)
    phone.browser.await_status("Ada's <laptop> is signed out.")
    assert phone.driver.get_log("browser") == []  # The page's policy refused nothing.
    laptop.open()
    assert laptop.is_out
    phone.open()
    assert "Hello ada" in phone.browser.text
    laptop.sign_in("ada")
    assert "Hello ada" in laptop.browser.text


def replay(laptop: Person, phone: Person) -> None:
    """A copied token is noticed once its owner has a newer one: all devices are signed out."""
    copied = laptop.cookies

    def renewed() -> bool:
        laptop.open()
        return laptop.cookies[TOKEN] != copied[TOKEN]

    wait_for(renewed, "a renewal", PATIENCE)
    laptop.open()

    def noticed() -> bool:
        answer = httpx.get(f"{laptop.site}/", cookies=copied, headers={"Accept": "text/html"})
        taken_back = [line for line in answer.headers.get_list("set-cookie") if "Max-Age=0" in line]
        assert answer.status_code in (200, 303)
        return answer.status_code == 303 and len(taken_back) == 2

    wait_for(noticed, "the alarm", PATIENCE)
    for person in (laptop, phone):
        person.open()
        assert person.is_out

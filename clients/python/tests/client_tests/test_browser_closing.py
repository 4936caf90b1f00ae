"""Closing Chromium ends a session that is not remembered. A remembered session stays, and the
device stays in both cases.

A token is renewed before the browser closes, so that both cookies come from a renewal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from client_tests.readme import PATIENCE
from client_tests.test_browser import DEVICE, TOKEN, App, Browser, behind_https, dev
from session_authority_client import SessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.support.dev import DevServer
from tests.support.waiting import wait_for

__all__ = ["dev"]  # a fixture
BRIEF = "__Host-session-brief"


@pytest.fixture(scope="module")
def app(dev: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with behind_https("fastapi", tmp_path_factory.mktemp("closing"), dev) as app:
        yield app


def signs_in(
    browser: Browser, user: str, *, remember: bool, authority: FakeAuthority | None = None
) -> None:
    """Signs in through the form with its box checked or not, and opens the first page until the
    token is renewed.
    """
    browser.open("/sign-in")
    browser.driver.find_element(By.NAME, "user").send_keys(user)
    box = browser.driver.find_element(By.NAME, "remember")
    assert box.is_selected()
    assert box.accessible_name == "Keep me signed in"
    if not remember:
        box.click()
    browser.click("Sign in")
    first = browser.token
    if authority is not None:
        authority.expire_tokens()

    def renewed() -> bool:
        browser.open()
        assert browser.is_in(user)
        return browser.token != first

    wait_for(renewed, "a renewal", PATIENCE)


def closed_and_opened(app: App, browser: Browser, name: str, *, restores: bool = False) -> Browser:
    """Closes the browser, and starts another process with the same profile. A browser that is
    closed in order writes its cookies before it ends.
    """
    browser.driver.quit()
    if restores:
        preferences = app.folder / name / "Default" / "Preferences"
        told = json.loads(preferences.read_text())
        told.setdefault("session", {})["restore_on_startup"] = 1
        preferences.write_text(json.dumps(told))
    again = Browser(app, app.folder / name)
    app._stack.callback(again.driver.quit)
    return again


@pytest.mark.parametrize("remember", [False, True])
def test_only_a_remembered_session_outlives_the_browser(app: App, dev: DevServer, remember: bool):
    user = f"kept-{remember}"
    before = app.browser(user)
    signs_in(before, user, remember=remember)
    cookies = before.cookies
    assert set(cookies) == ({TOKEN, DEVICE} if remember else {TOKEN, DEVICE, BRIEF})
    assert {name: cookie["session"] for name, cookie in cookies.items()} == {
        TOKEN: not remember,
        DEVICE: False,
        **({} if remember else {BRIEF: True}),
    }

    after = closed_and_opened(app, before, user)
    assert set(after.cookies) == ({TOKEN, DEVICE} if remember else {DEVICE})
    after.open()
    assert after.is_in(user) if remember else after.is_out
    signs_in(after, user, remember=remember)
    assert after.cookies[DEVICE]["value"] == cookies[DEVICE]["value"]
    with SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client:
        (device,) = client.devices(user, include_signed_out=True)
    assert device.device_id == cookies[DEVICE]["value"]


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


def test_a_browser_that_restores_its_pages_stays_signed_in_until_the_idle_timeout(
    authority: FakeAuthority, tmp_path: Path
):
    """A browser that restores its pages also keeps its session cookies."""
    with behind_https("fastapi", tmp_path, authority) as app:
        browser = app.browser("restoring")
        signs_in(browser, "ada", remember=False, authority=authority)
        authority.pass_time(timedelta(hours=11))
        browser = closed_and_opened(app, browser, "restoring", restores=True)
        browser.open()
        assert browser.is_in("ada")
        assert set(browser.cookies) == {TOKEN, DEVICE, BRIEF}
        authority.pass_time(timedelta(hours=12))
        browser = closed_and_opened(app, browser, "restoring", restores=True)
        browser.open()
        assert browser.is_out
        assert DEVICE in browser.cookies

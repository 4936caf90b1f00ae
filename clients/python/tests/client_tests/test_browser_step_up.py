"""A page that needs a recent sign-in, in Chromium: the examples run over HTTPS against the fake of
the service, whose clock a test moves.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from client_tests.readme import EXAMPLES
from client_tests.test_browser import DEVICE, TOKEN, App, Browser, behind_https
from session_authority_client.testing import FakeAuthority
from tests.support.backends import missing

OLD = timedelta(minutes=10)


@pytest.fixture(params=sorted(EXAMPLES))
def app(request: pytest.FixtureRequest, authority: FakeAuthority, tmp_path: Path) -> Iterator[App]:
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            missing(name)
    with behind_https(request.param, tmp_path, authority) as app:
        yield app


def is_asked_again(browser: Browser, user: str) -> bool:
    """True if the sign-in page names the user, and says that the user must sign in to go on."""
    name = browser.driver.find_element(By.NAME, "user").get_attribute("value")
    return browser.is_out and name == user and "To go on, sign in again." in browser.text


def test_a_new_password_needs_a_recent_sign_in(app: App, authority: FakeAuthority):
    laptop = app.browser("laptop")
    laptop.sign_in("ada")
    laptop.open("/password")
    assert "The new password of ada" in laptop.text

    authority.pass_time(OLD)
    before = laptop.cookies
    laptop.open("/password")
    assert is_asked_again(laptop, "ada")
    laptop.open()  # the user opens another page instead, and is still signed in
    assert laptop.is_in("ada")
    assert laptop.cookies == before

    first = laptop.driver.current_window_handle
    laptop.driver.switch_to.new_window("tab")
    laptop.open("/password")
    assert is_asked_again(laptop, "ada")
    laptop.click("Sign in")
    assert laptop.path == "/password"
    after = laptop.cookies
    assert after[DEVICE]["value"] == before[DEVICE]["value"]
    assert after[TOKEN]["value"] != before[TOKEN]["value"]
    laptop.driver.find_element(By.NAME, "password").send_keys("correct horse")
    laptop.click("Change")
    assert laptop.is_in("ada")
    assert "The password is changed." in laptop.text
    laptop.open_devices()
    assert len(laptop.devices) == 1

    # The first tab now sends the cookies of the new sign-in. A request with the old cookies would
    # be denied once, without an alarm, and the browser would keep its cookies.
    laptop.driver.switch_to.window(first)
    laptop.open()
    assert laptop.is_in("ada")
    laptop.plant(before)
    laptop.open()
    assert laptop.is_out
    assert laptop.token == before[TOKEN]["value"]
    laptop.plant(after)
    laptop.open("/password")
    assert "The new password of ada" in laptop.text


def test_a_form_that_was_open_too_long_asks_for_another_sign_in(app: App, authority: FakeAuthority):
    laptop = app.browser("laptop")
    laptop.sign_in("ada")
    laptop.open("/password")
    authority.pass_time(OLD)
    laptop.driver.find_element(By.NAME, "password").send_keys("correct horse")
    laptop.click("Change")
    assert is_asked_again(laptop, "ada")
    laptop.click("Sign in")
    assert laptop.is_in("ada")
    assert "The password is changed." not in laptop.text
    laptop.open_devices()
    assert len(laptop.devices) == 1

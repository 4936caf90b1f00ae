"""What a person sees: a real Chromium with the demo and the real service."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By

from client_tests.devices_browser import DevicesBrowser, devices_browser
from scripts.gateway_demo import demo
from session_authority_client import SessionAuthority
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
PATIENCE = 40.0  # Seconds.


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevicesBrowser]:
    with devices_browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


def at(browser: DevicesBrowser) -> str:
    """The path that the browser shows."""
    return urlsplit(browser.driver.current_url).path


def sign_in(browser: DevicesBrowser, user: str) -> None:
    wait_for(lambda: at(browser) == "/sign-in", "the page for signing in", PATIENCE)
    browser.driver.find_element(By.NAME, "user").send_keys(user)
    browser.click("Sign in")
    wait_for(lambda: f"Hello {user}" in browser.text, "the greeting", PATIENCE)


@pytest.mark.parametrize("proxy", ["envoy", "nginx"])
def test_a_user_signs_in_sees_the_devices_and_is_signed_out_elsewhere(
    browser: DevicesBrowser, proxy: str
):
    user = f"ada-{proxy}"
    with demo(proxy) as (url, address), SessionAuthority(address) as authority:
        browser.driver.get(f"{url}shelf?page=2")
        sign_in(browser, user)
        # Back to the page that the user wanted.
        assert browser.driver.current_url == f"{url}shelf?page=2"
        browser.click("My devices")
        wait_for(lambda: "Chrome" in browser.text, "the list of devices", PATIENCE)
        assert at(browser) == "/account/devices"

        assert authority.revoke_all(user) == 1

        def signed_out() -> bool:
            browser.driver.get(url)
            return at(browser) == "/sign-in"

        wait_for(signed_out, "the sign-out to reach the browser", PATIENCE)
        browser.driver.get(f"{url}account/devices")
        assert at(browser) == "/sign-in"

"""The page of devices in two browsers, one of them without JavaScript, with the real service."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from selenium.webdriver.common.by import By

from client_tests.readme import PATIENCE
from client_tests.test_browser import PHONE, TOKEN, App, Browser, behind_https, dev
from session_authority_client import Event, EventType, SessionAuthority
from tests.support.dev import DevServer
from tests.support.waiting import wait_for

__all__ = ["dev"]  # a fixture


@pytest.fixture(scope="module")
def app(dev: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with behind_https("fastapi", tmp_path_factory.mktemp("devices"), dev) as app:
        yield app


@pytest.fixture
def laptop(app: App) -> Browser:
    return app.browser("laptop")


@pytest.fixture
def phone(app: App) -> Browser:
    """A browser without JavaScript."""
    return app.browser("phone", PHONE, scripts=False)


def follow_mail(browser: Browser, path: str) -> None:
    """Follows a link in a mail, which another site shows."""
    browser.open("/sign-in", host="mail.test")
    link = "document.body.innerHTML = `<a href='${arguments[0]}'>Go</a>`"
    browser.driver.execute_script(link, f"https://app.test:{browser.app.port}{path}")
    browser.follow("Go")


def test_the_page_of_devices_works_without_javascript(laptop: Browser, phone: Browser):
    phone.driver.get("data:text/html,<title>off</title><script>document.title = 'on'</script>")
    assert phone.driver.title == "off"
    phone.open("/devices")
    assert phone.path == "/sign-in"
    for browser in (laptop, phone):
        browser.sign_in("ada")
    phone.open_devices()
    assert len(phone.devices) == 2
    here, there = phone.driver.find_elements(By.CSS_SELECTOR, ".device")
    assert "This device" in here.text
    sign_out = there.find_element(By.CSS_SELECTOR, ".sign-out button")
    title = there.find_element(By.TAG_NAME, "h2").text
    assert sign_out.accessible_name == f"Sign out {title}"

    there.find_element(By.TAG_NAME, "summary").click()
    field = there.find_element(By.NAME, "name")
    assert field.accessible_name == f"New name for {title}"
    field.send_keys("Ada's <laptop>")
    phone.click("Save", near=title)
    assert "The device is now called Ada's <laptop>." in phone.text
    assert phone.path == "/devices"

    phone.click("Sign out", near="Ada's <laptop>".partition("'")[2])
    assert "Ada's <laptop> is signed out." in phone.text
    assert len(phone.devices) == 1
    laptop.open()
    assert laptop.is_out

    laptop.sign_in("ada")
    phone.open_devices()
    phone.follow("Sign out all other devices")
    laptop.open()
    assert laptop.is_in("ada")  # the link opens a question, and signs nobody out
    phone.click("Sign out all others")
    assert "1 other device was signed out." in phone.text
    laptop.open()
    assert laptop.is_out

    laptop.sign_in("ada")
    phone.open_devices()
    phone.follow("That wasn", near="<laptop>")
    assert "Wasn’t this you on Ada's <laptop>?" in phone.text
    phone.click("Sign this device out")
    assert "The device is signed out and no longer in your list." in phone.text
    laptop.open()
    assert laptop.is_out
    phone.follow("Change your password")
    assert phone.path == "/password"


def alarms_of(user: str, dev: DevServer) -> list[Event]:
    with SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client:
        since = datetime.now(UTC) - timedelta(minutes=10)
        batches = client.watch_events(
            since=since, types=[EventType.SESSION_REPLAYED], user_ids=[user]
        )
        return list(next(batch for batch in batches if batch.events).events)


def test_a_copied_cookie_is_reported_after_the_next_sign_in(
    laptop: Browser, app: App, dev: DevServer
):
    laptop.sign_in("grace")
    copied = laptop.cookies
    thief = app.browser("thief")

    def renewed() -> bool:
        laptop.open()
        return laptop.token != str(copied[TOKEN]["value"])

    wait_for(renewed, "a renewal", PATIENCE)
    laptop.open()
    thief.open("/sign-in")
    thief.plant(copied)

    def noticed() -> bool:
        thief.open()
        return thief.is_out and not thief.cookies

    wait_for(noticed, "the alarm", PATIENCE)
    laptop.open_devices()
    assert laptop.is_out
    laptop.sign_in("grace")
    laptop.open_devices()
    assert "Security alarm" in laptop.text
    assert "Somebody used a copy of your sign-in on" in laptop.text
    assert "The mail that you received" not in laptop.text

    [event] = alarms_of("grace", dev)
    follow_mail(laptop, f"/devices?alarm={event.event_id}")
    wait_for(lambda: "Your devices" in laptop.text, "the way back", PATIENCE)
    assert "The mail that you received is about this." in laptop.text
    laptop.follow("Change your password")
    wait_for(lambda: "/password?next=" in laptop.driver.current_url, "the app's page", PATIENCE)
    assert laptop.driver.get_log("browser") == []

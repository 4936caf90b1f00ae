"""The page of TIME_LEFT.md in Chromium: it warns, its button helps, and the page alone does not
keep the session alive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from client_tests.readme import PATIENCE, PROJECT, example, served
from client_tests.test_browser import App, Browser
from session_authority_client import SessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.support.ca import CA
from tests.support.waiting import wait_for

PAGE = (PROJECT / "TIME_LEFT.md").read_text("utf-8")
MINUTE = timedelta(minutes=1)


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(code)


def app_with_the_page() -> str:
    """Returns the example, changed as TIME_LEFT.md says: the flow, two views, and the warning on
    each page. It serves over HTTPS, and a session ends when it is unused for 15 minutes.
    """
    flow, views = block("python").split("\n\n\n", 1)
    code, changes = re.subn(r"^FLOW = .*$", flow, example("fastapi"), flags=re.MULTILINE)
    assert changes == 1
    for old, new in (
        ("    cookies=Cookies(insecure=True),\n", ""),
        ("remember=remember)", "idle_timeout=timedelta(minutes=15))"),
        ("<h1>Hello", f"{block('html')}\n<h1>Hello"),
    ):
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    return f"{code}\n\n{views}"


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def laptop(authority: FakeAuthority, tmp_path: Path) -> Iterator[Browser]:
    pair = CA(tmp_path).sign(hosts=["app.test"])
    code = app_with_the_page()
    with served("fastapi", code, tmp_path, authority.address, pair) as port, ExitStack() as stack:
        yield App(tmp_path, pair, port, stack).browser("laptop")


def warning(laptop: Browser) -> str:
    """Returns the warning that the page shows after a check, or an empty text."""
    laptop.driver.execute_async_script("look().then(arguments[0])")
    return str(laptop.driver.find_element(By.ID, "ending").text)


def test_a_page_warns_in_time_and_does_not_extend_the_session(
    laptop: Browser, authority: FakeAuthority
):
    laptop.sign_in("ada")
    assert warning(laptop) == ""
    authority.pass_time(12 * MINUTE)
    assert warning(laptop) == ""
    authority.pass_time(MINUTE)
    assert warning(laptop) == "You will be signed out in 2 minutes. Stay signed in"
    authority.pass_time(MINUTE)
    assert warning(laptop) == "You will be signed out in 1 minute. Stay signed in"

    button = laptop.driver.find_element(By.XPATH, "//button[contains(., 'Stay signed in')]")
    button.click()
    wait_for(lambda: not button.is_displayed(), "the warning to go", PATIENCE)
    authority.pass_time(12 * MINUTE)
    assert warning(laptop) == ""
    with authority.unavailable():
        assert warning(laptop) == ""

    authority.pass_time(3 * MINUTE)  # the checks of the page did not extend the session
    laptop.driver.execute_script("look()")
    wait_for(lambda: laptop.is_out, "the page to lead to the sign-in", PATIENCE)
    with SessionAuthority(authority.address, timeout=timedelta(seconds=PATIENCE)) as client:
        assert list(client.devices("ada")) == []

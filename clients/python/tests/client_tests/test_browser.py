"""The rules of real browsers: Chromium uses the examples, which run over HTTPS against the real
service.

Only these browsers can resolve the host names. `app.test` and `mail.test` are two sites, and
`www.app.test` is a subdomain.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from client_tests.readme import PATIENCE, example, served
from session_authority_client import SessionAuthority
from session_authority_client.cookies import MAX_COOKIE_AGE
from session_authority_client.testing import FakeAuthority
from tests.support.backends import missing
from tests.support.ca import CA, Pair
from tests.support.dev import DevServer, dev_server
from tests.support.waiting import wait_for

# Short times: a token soon needs a renewal, and the old token soon raises the alarm.
SETTINGS = {
    "SESSION_AUTHORITY_TOKEN_TTL": "6s",
    "SESSION_AUTHORITY_GRACE": "1s",
    "SESSION_AUTHORITY_DURABLE_AFTER": "0s",
    "SESSION_AUTHORITY_ALARM_AFTER": "2s",
}
TOKEN, DEVICE = "__Host-session", "__Host-device"
PHONE = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0"
    " Mobile Safari/537.36"
)
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium has no sandbox when the tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # The browser must connect to nothing outside the test.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND",
)


_marks = count(1)


class Browser:
    """Chromium with its own profile."""

    def __init__(
        self, app: App, folder: Path, user_agent: str | None = None, *, scripts: bool = True
    ) -> None:
        options = ChromeOptions()
        if not scripts:
            blocked = {"profile.managed_default_content_settings.javascript": 2}
            options.add_experimental_option("prefs", blocked)
        options.binary_location = shutil.which("chromium") or ""
        options.add_argument(f"--user-data-dir={folder}")
        # Only this one certificate is accepted although no CA known to the browser signed it.
        options.add_argument(f"--ignore-certificate-errors-spki-list={_pin(app.pair)}")
        for flag in (*FLAGS, *([f"--user-agent={user_agent}"] if user_agent else ())):
            options.add_argument(flag)
        self.app = app
        self.driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        self.driver.set_page_load_timeout(PATIENCE)

    # --- what a person does -----------------------------------------------------------------------

    def open(self, path: str = "/", host: str = "app.test") -> None:
        """Opens a path, as a person does who types the address."""
        self.driver.get(f"https://{host}:{self.app.port}{path}")

    def click(self, text: str, near: str = "") -> None:
        """Presses the button with this text, within the list item that contains `near`."""
        within = f"//li[contains(., '{near}')]" if near else ""
        self._leave(
            self.driver.find_element(By.XPATH, f"{within}//button[contains(., '{text}')]").click
        )

    def follow(self, text: str, near: str = "") -> None:
        """Follows the link with this text, within the list item that contains `near`."""
        within = f"//li[contains(., '{near}')]" if near else ""
        self._leave(self.driver.find_element(By.XPATH, f"{within}//a[contains(., '{text}')]").click)

    def sign_in(self, user: str) -> None:
        """Signs in through the form."""
        self.open("/sign-in")
        self.driver.find_element(By.NAME, "user").send_keys(user)
        self.click("Sign in")
        assert self.is_in(user)

    def open_devices(self) -> None:
        """Opens the page of devices."""
        self.open("/devices")

    def come_from_mail(self, path: str, method: str = "get") -> None:
        """Comes from another site, by a link (`get`) or by a form (`post`)."""
        self.open("/sign-in", host="mail.test")
        self.driver.execute_script(
            "document.body.innerHTML = '<form method=' + arguments[1] + ' action=' + arguments[0] +"
            " '><button>Go</button>'",
            f"https://app.test:{self.app.port}{path}",
            method,
        )
        self.click("Go")

    def go_back(self) -> None:
        """Goes back to the previous page."""
        self._leave(self.driver.back)

    def _leave(self, act: Callable[[], None]) -> None:
        """Does an act that leads to another page, and waits for that page."""
        mark = next(_marks)
        self.driver.execute_script("window.mark = arguments[0]", mark)
        act()
        script = f"return document.readyState == 'complete' && window.mark != {mark}"
        wait_for(lambda: self._asked(script) is True, "the next page", PATIENCE)

    def _asked(self, script: str) -> object:
        try:
            answer: object = self.driver.execute_script(script)
        except WebDriverException:  # between two pages there is no page that could run the script
            return None
        return answer

    # --- what a person sees -----------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The path of the page that is shown."""
        return urlsplit(str(self.driver.current_url)).path

    def is_in(self, user: str) -> bool:
        """True if the page greets this user."""
        return self.path == "/" and f"Hello {user}" in self.text

    @property
    def is_out(self) -> bool:
        """True if the page asks the user to sign in."""
        return self.path == "/sign-in" and bool(self.driver.find_elements(By.NAME, "user"))

    @property
    def text(self) -> str:
        """The text of the whole page."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    @property
    def devices(self) -> list[str]:
        """The list of devices that are signed in."""
        found = self.driver.find_elements(By.CSS_SELECTOR, "main > .devices > .device")
        return [item.text for item in found]

    @property
    def cookies(self) -> dict[str, dict[str, Any]]:
        """The cookies that the browser keeps for the app, by name."""
        found = self.driver.execute_cdp_cmd(
            "Network.getCookies", {"urls": [f"https://app.test:{self.app.port}/"]}
        )
        return {cookie["name"]: cookie for cookie in found["cookies"]}

    @property
    def token(self) -> str:
        """The token that the browser would send now."""
        return str(self.cookies[TOKEN]["value"])

    def plant(self, cookies: dict[str, dict[str, Any]]) -> None:
        """Puts the cookies of another browser into this browser."""
        for name, cookie in cookies.items():
            planted = {
                "name": name,
                "value": cookie["value"],
                "url": f"https://app.test:{self.app.port}/",
                "path": "/",
            }
            answer = self.driver.execute_cdp_cmd(
                "Network.setCookie", {**planted, "secure": True, "httpOnly": True}
            )
            assert answer["success"]


class App:
    """An example and its browsers. A browser is started when a test first needs it, and loses its
    cookies after each test.
    """

    def __init__(self, folder: Path, pair: Pair, port: int, stack: ExitStack) -> None:
        self.folder = folder
        self.pair = pair
        self.port = port
        self._stack = stack
        self._browsers: dict[str, Browser] = {}

    def browser(self, name: str, user_agent: str | None = None, *, scripts: bool = True) -> Browser:
        """Returns the browser with this name. `scripts`: JavaScript is on."""
        if name not in self._browsers:
            browser = Browser(self, self.folder / name, user_agent, scripts=scripts)
            self._browsers[name] = browser
            self._stack.callback(browser.driver.quit)
        return self._browsers[name]

    def forget(self) -> None:
        """Deletes the cookies of all browsers."""
        for browser in self._browsers.values():
            browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})


def _pin(pair: Pair) -> str:
    key = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).public_key()
    digest = hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()
    return base64.b64encode(digest).decode()


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            missing(name)
    with dev_server(tmp_path_factory.mktemp("dev"), SETTINGS) as server:
        yield server


@contextmanager
def behind_https(name: str, folder: Path, dev: DevServer | FakeAuthority) -> Iterator[App]:
    """Serves an example over HTTPS, with the changes that the example itself describes."""
    changed = (
        example(name)
        .replace(", cookies=Cookies(insecure=True)", "")
        .replace('["localhost"]', '["localhost", ".app.test"]')
    )
    assert "insecure" not in changed
    pair = CA(folder).sign(hosts=["app.test", "www.app.test", "mail.test"])
    with served(name, changed, folder, dev.address, pair) as port, ExitStack() as stack:
        yield App(folder, pair, port, stack)


@pytest.fixture(scope="module")
def fastapi(dev: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with behind_https("fastapi", tmp_path_factory.mktemp("fastapi"), dev) as app:
        yield app


@pytest.fixture
def app(fastapi: App) -> Iterator[App]:
    yield fastapi
    fastapi.forget()


@pytest.fixture
def laptop(app: App) -> Browser:
    return app.browser("laptop")


@pytest.fixture
def phone(app: App) -> Browser:
    return app.browser("phone", PHONE)


@pytest.fixture
def thief(app: App) -> Browser:
    return app.browser("thief")


def test_cookies_belong_to_one_host_and_are_hidden_from_scripts(laptop: Browser):
    laptop.sign_in("ada")
    cookies = laptop.cookies
    assert set(cookies) == {TOKEN, DEVICE}
    for cookie in cookies.values():
        kept = {
            name: cookie.get(name)
            for name in ("secure", "httpOnly", "sameSite", "path", "domain", "session")
        }
        assert kept == {
            "secure": True,
            "httpOnly": True,
            "sameSite": "Strict",
            "path": "/",
            "domain": "app.test",  # with a leading dot, subdomains would get the cookie, too
            "session": False,
        }
        assert cookie["expires"] <= time.time() + MAX_COOKIE_AGE.total_seconds()
    assert laptop.driver.execute_script("return document.cookie") == ""
    laptop.driver.execute_script(f"document.cookie = '{TOKEN}=x; Path=/; Secure'")
    laptop.open("/sign-in", host="www.app.test")
    for name in (TOKEN, DEVICE):  # a hijacked subdomain can set neither cookie
        laptop.driver.execute_script(
            f"document.cookie = '{name}=x; Path=/; Secure; Domain=app.test'"
        )
    assert laptop.cookies == cookies
    laptop.open()
    assert laptop.is_in("ada")


def test_my_devices(laptop: Browser, phone: Browser):
    laptop.open()
    assert laptop.is_out
    laptop.sign_in("<grace>")
    phone.sign_in("<grace>")
    phone.open_devices()
    first, second = phone.devices
    assert "Chrome" in first
    assert "Android" in first
    assert "This device" in first
    assert "Chrome" in second
    assert "Linux" in second
    assert "This device" not in second
    laptop.open_devices()
    phone.click("Sign out", near="Linux")
    assert len(phone.devices) == 1
    device = laptop.cookies[DEVICE]["value"]
    assert "is signed out." in phone.text
    laptop.click("Sign out", near="This device")  # on the page of before, which is still open
    assert laptop.is_out
    phone.open()
    assert phone.is_in("<grace>")

    laptop.sign_in("<grace>")
    assert laptop.cookies[DEVICE]["value"] == device  # the browser is still the same device
    phone.open_devices()
    phone.follow("Sign out all other devices")
    phone.click("Sign out all others")
    assert "1 other device was signed out." in phone.text
    laptop.open()
    assert laptop.is_out

    phone.click("Sign out", near="This device")
    assert phone.is_out
    assert set(phone.cookies) == {DEVICE}


@pytest.mark.parametrize("name", ["flask", "django"])
def test_the_other_examples_manage_devices_in_the_same_way(
    name: str, dev: DevServer, tmp_path: Path
):
    with behind_https(name, tmp_path, dev) as app:
        laptop, phone = app.browser("laptop"), app.browser("phone", PHONE)
        laptop.open()
        assert laptop.is_out
        laptop.sign_in(f"<{name}>")
        phone.sign_in(f"<{name}>")
        phone.open_devices()
        first, second = phone.devices
        assert "Android" in first
        assert "This device" in first
        assert "Linux" in second
        assert "This device" not in second
        phone.click("Sign out", near="Linux")
        assert "is signed out." in phone.text
        laptop.open()
        assert laptop.is_out
        phone.click("Sign out", near="This device")
        assert phone.is_out
        phone.go_back()
        # A page that the browser kept in memory is loaded again a moment after it is shown.
        wait_for(lambda: phone.is_out, "the page for signing in", PATIENCE)
        assert set(phone.cookies) == {DEVICE}


SEND_TWICE = """
    const body = new URLSearchParams(new FormData(document.forms[0]));
    const send = () => fetch(location, {method: "POST", body, redirect: "manual"});
    return Promise.all([send(), send()]).then((answers) => answers.length);
"""


def test_a_double_click_makes_one_device(laptop: Browser, dev: DevServer):
    """A script sends both requests before there is a cookie. A double click by the test is too
    fast: Chromium then sends its form once.
    """
    laptop.open("/sign-in")
    laptop.driver.find_element(By.NAME, "user").send_keys("linus")
    assert laptop.driver.execute_script(SEND_TWICE) == 2
    laptop.open()
    assert laptop.is_in("linus")
    with SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client:
        assert len(list(client.devices("linus", include_signed_out=True))) == 1


def test_a_bad_name_is_explained_on_the_form(laptop: Browser):
    laptop.open("/sign-in")
    laptop.driver.find_element(By.NAME, "user").send_keys("a" * 256)
    laptop.click("Sign in")
    assert laptop.is_out
    assert "The name must have at most 255 characters." in laptop.text
    field = laptop.driver.find_element(By.NAME, "user")
    assert (field.get_attribute("value"), field.accessible_name) == ("a" * 256, "Name")
    assert laptop.cookies == {}


def test_going_back_after_a_sign_out_shows_the_sign_in_page(laptop: Browser):
    laptop.sign_in("ada")
    laptop.open_devices()
    laptop.click("Sign out", near="This device")
    laptop.go_back()
    wait_for(lambda: laptop.is_out, "the page for signing in", PATIENCE)


@pytest.mark.parametrize("path", ["/", "/devices"])
def test_going_back_after_a_sign_out_elsewhere_shows_the_sign_in_page(
    laptop: Browser, dev: DevServer, path: str
):
    """No cookie changes here. A change would make browsers drop the page that they keep for going
    back.
    """
    laptop.sign_in("emmy")
    laptop.open(path)
    laptop.open("/sign-in")
    with SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client:
        assert client.revoke_all("emmy") == 1
    laptop.driver.back()
    wait_for(lambda: laptop.is_out, "the page to be asked for anew", PATIENCE)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["/", "/password", "/devices/sign-out-others"])
def test_a_request_from_another_site_carries_no_cookies_and_changes_none(
    laptop: Browser, method: str, path: str
):
    laptop.sign_in("ada")
    cookies = laptop.cookies
    laptop.come_from_mail(path, method)
    assert "Hello" not in laptop.text
    assert laptop.cookies == cookies
    laptop.open()
    assert laptop.is_in("ada")


def test_a_user_who_keeps_using_the_app_stays_signed_in(laptop: Browser):
    laptop.sign_in("alan")
    tokens, device = {laptop.token}, laptop.cookies[DEVICE]["value"]

    def clicked() -> bool:
        laptop.open()
        assert laptop.is_in("alan")
        tokens.add(laptop.token)
        return len(tokens) == 3

    wait_for(clicked, "two renewals", PATIENCE)
    assert laptop.cookies[DEVICE]["value"] == device


def test_a_copied_cookie_signs_out_the_thief_and_the_user(
    laptop: Browser, thief: Browser, dev: DevServer
):
    laptop.sign_in("kurt")
    copied = laptop.cookies
    thief.plant(copied)

    def renewed() -> bool:
        laptop.open()
        assert laptop.is_in("kurt")
        return laptop.token != str(copied[TOKEN]["value"])

    wait_for(renewed, "a renewal", PATIENCE)
    laptop.open()
    assert laptop.is_in("kurt")

    def noticed() -> bool:
        """True once the thief is signed out. Until ALARM_AFTER, the old token may belong to a
        request that was under way.
        """
        thief.open()
        return thief.is_out and not thief.cookies

    wait_for(noticed, "the alarm", PATIENCE)
    laptop.open()
    assert laptop.is_out
    with SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client:
        assert list(client.devices("kurt")) == []
    laptop.sign_in("kurt")

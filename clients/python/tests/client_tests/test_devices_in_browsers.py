"""The page of devices as the middleware serves it, plain and with `<session-devices>`: in a real
browser, with the fake of the service.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flask import Flask
from selenium.webdriver.common.keys import Keys
from werkzeug.serving import make_server

import session_authority_client.flask as for_flask
from client_tests.devices_browser import DevicesBrowser, devices_browser
from client_tests.devices_harness import add_devices
from client_tests.middleware_harness import PATIENCE as CALL_TIMEOUT
from client_tests.readme import PATIENCE
from session_authority_client import ClientInfo, Place
from session_authority_client.cookies import Cookies
from session_authority_client.devices import DevicesPage
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.support.waiting import wait_for

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e"
CLIENTS = [
    ClientInfo("198.51.100.7", display_name="Phone", place=Place("Berlin", "DE")),
    ClientInfo("2001:db8::7", display_name="W" * 100),
    ClientInfo("198.51.100.9", display_name=HOSTILE, place=Place(HOSTILE, "FR")),
]
SCRIPTS = ["*/session-devices*.js*"]
# What the browser draws for the list: each text with its position, size, weight and color, then
# icons and controls.
DRAWN = """
const list = root === document ? document.querySelector("session-devices") : root;
const drawn = [];
const nodes = document.createTreeWalker(list, NodeFilter.SHOW_TEXT);
while (nodes.nextNode()) {
  const [node, range] = [nodes.currentNode, document.createRange()];
  range.selectNodeContents(node);
  const box = range.getBoundingClientRect();
  if (!node.data.trim() || !box.width || !shown(node.parentElement)) continue;
  const style = getComputedStyle(node.parentElement);
  drawn.push([node.data.trim(), Math.round(box.x), Math.round(box.y),
    style.fontSize, style.fontWeight, style.color]);
}
for (const svg of list.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  const { color, strokeWidth } = getComputedStyle(svg);
  const lines = [...svg.children].map((path) => path.getAttribute("d"));
  if (box.width && shown(svg))
    drawn.push([lines.join(), Math.round(box.x), Math.round(box.y), box.width, color, strokeWidth]);
}
for (const control of [...list.querySelectorAll("a, button, summary")].filter(shown)) {
  const { x, y, width, height } = control.getBoundingClientRect();
  const { borderColor, borderRadius, backgroundColor } = getComputedStyle(control);
  const box = [x, y, width, height].map(Math.round);
  if (width) drawn.push([said(control), ...box, borderColor, borderRadius, backgroundColor]);
}
return drawn;
"""
VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


class Apps:
    """One app, served twice: its page of devices is plain, or has the custom element. The browser
    has the same cookies for both.
    """

    def __init__(
        self, authority: FakeAuthority, browser: DevicesBrowser, plain: str, scripted: str
    ) -> None:
        self.authority = authority
        self.browser = browser
        self.plain = plain
        self.scripted = scripted

    def sign_in(self) -> list[str]:
        """Signs Ada in, in the browser and on three other devices. Returns the IDs of the other
        devices.
        """
        self.browser.driver.get(f"{self.plain}/sign-in")
        return add_devices(self.authority, CLIENTS)

    def open_scripted(self) -> DevicesBrowser:
        """Opens the page with the element, and waits for its list."""
        self.browser.driver.get(f"{self.scripted}/devices")
        wait_for(lambda: self.browser.cards, "the list", PATIENCE)
        self.browser.run("window.mark = 1")
        return self.browser


@contextmanager
def served(authority: FakeAuthority, page: DevicesPage) -> Iterator[str]:
    """Serves the app on loopback. Yields its origin."""
    app = Flask(__name__, static_folder=None)

    @app.get("/sign-in")
    def sign_in() -> str:
        for_flask.visit().sign_in("ada", auth_methods=["pwd"])
        return "<!doctype html><html lang=en><title>In</title><h1>In</h1>"

    flow = Flow(sign_in_url="/sign-in", cookies=Cookies(insecure=True), devices=page)
    for_flask.install(app, lambda: authority.client(timeout=CALL_TIMEOUT), flow)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with ExitStack() as stack:
        authority = stack.enter_context(FakeAuthority())
        browser = stack.enter_context(devices_browser(tmp_path_factory.mktemp("browser")))
        stack.enter_context(browser.set_before_pages(VIOLATIONS))
        origins = [
            stack.enter_context(
                served(authority, DevicesPage(secure_account_url="/password", scripted=scripted))
            )
            for scripted in (False, True)
        ]
        yield Apps(authority, browser, *origins)


@pytest.fixture
def apps(shared: Apps) -> Iterator[Apps]:
    shared.authority.reset()
    shared.browser.set_size(1000)
    shared.browser.set_media()
    yield shared
    assert shared.browser.violations == []


def test_the_element_renames_and_signs_out_with_the_real_api(apps: Apps):
    phone, *_ = apps.sign_in()
    browser = apps.open_scripted()
    assert any("Active now · Berlin, Germany · 198.51.100.7" in card for card in browser.cards)
    browser.tab_to("Rename Phone")
    browser.press(Keys.ENTER)
    browser.press(HOSTILE[:20], Keys.ENTER)
    browser.await_status(f"The device is now called {HOSTILE[:20]}.")
    browser.click(f"Rename {HOSTILE[:20]}")
    browser.press("x" * 101, Keys.ENTER)
    wait_for(lambda: "The name is too long." in browser.text, "the fault", PATIENCE)
    browser.press(Keys.ESCAPE)
    browser.click(f"Sign out {HOSTILE[:20]}")
    browser.await_status(f"{HOSTILE[:20]} is signed out.")
    with apps.authority.client(timeout=CALL_TIMEOUT) as client:
        live = {device.device_id for device in client.devices("ada")}
    assert phone not in live
    assert len(live) == 3
    assert browser.run("return window.mark") == 1


def test_the_element_marks_the_sign_in_that_a_mail_was_about(apps: Apps):
    phone, *_ = apps.sign_in()
    with apps.authority.client(timeout=CALL_TIMEOUT) as client:
        at = next(d.sign_in_time for d in client.devices("ada") if d.device_id == phone)
    assert at is not None
    apps.browser.driver.get(f"{apps.scripted}/devices?alarm=evt_113_{int(at.timestamp() * 1000)}_0")
    wait_for(lambda: apps.browser.cards, "the list", PATIENCE)
    marked = [card for card in apps.browser.cards if "The mail that you received" in card]
    assert len(marked) == 1
    assert marked[0].startswith("Phone")


def test_not_me_works_with_the_real_api(apps: Apps):
    apps.sign_in()
    browser = apps.open_scripted()
    browser.click("That wasn’t me: Phone")
    browser.click("Sign this device out")
    browser.await_control("Change your password")
    link = "return all('dialog a')[0].getAttribute('href')"
    assert browser.run(link) == "/password?next=/devices/secure%3Fdone%3Dpassword"
    browser.tab_to("Sign out all other devices")
    browser.press(Keys.ENTER)
    browser.await_status("2 other devices were signed out.")
    with apps.authority.client(timeout=CALL_TIMEOUT) as client:
        assert len(list(client.devices("ada"))) == 1
    assert browser.run("return window.mark") == 1


def test_a_session_that_ended_elsewhere_leads_to_the_sign_in_page(apps: Apps):
    apps.sign_in()
    browser = apps.open_scripted()
    with apps.authority.client(timeout=CALL_TIMEOUT) as client:
        client.revoke_all("ada")
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    sign_in = f"{apps.scripted}/sign-in?next=/devices"
    wait_for(lambda: browser.driver.current_url == sign_in, "the sign-in", PATIENCE)


def test_the_page_keeps_its_main_part_and_heading_around_the_element(apps: Apps):
    apps.sign_in()
    browser = apps.open_scripted()
    frame = "return [...document.querySelectorAll('main, h1')].filter(shown).length"
    assert browser.run(frame) == 2


def test_an_unreachable_api_leaves_the_list_that_came_with_the_page(apps: Apps):
    """The element shows an error above the list of the page, and replaces that list as soon as the
    API answers.
    """
    apps.sign_in()
    apps.browser.driver.execute_cdp_cmd(
        "Network.setBlockedURLs", {"urls": ["*/devices/api/devices*"]}
    )
    try:
        apps.browser.driver.get(f"{apps.scripted}/devices")
        apps.browser.await_control("Try again")
        rendered = "return [...document.querySelectorAll('.device')].filter(shown).length"
        assert apps.browser.run(rendered) == 4
    finally:
        apps.browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    apps.browser.click("Try again")
    wait_for(lambda: len(apps.browser.cards) == 4, "its own list", PATIENCE)
    assert apps.browser.run(rendered) == 0


@pytest.mark.parametrize("width", [1000, 375])
def test_the_page_looks_the_same_once_its_script_runs(apps: Apps, width: int):
    """The list that comes with the page looks like the list of the script: nothing moves, nothing
    changes.
    """
    apps.sign_in()
    apps.authority.replay_tokens()
    apps.browser.driver.get(f"{apps.plain}/devices")
    apps.sign_in()
    apps.browser.set_size(width)
    block = apps.browser.driver.execute_cdp_cmd
    block("Network.setBlockedURLs", {"urls": SCRIPTS})
    try:
        apps.browser.driver.get(f"{apps.scripted}/devices")
        assert apps.browser.run("return root === document"), "the script has run"
        before = apps.browser.run(DRAWN)
    finally:
        block("Network.setBlockedURLs", {"urls": []})
    after = apps.open_scripted().run(DRAWN)
    assert {"Security alarm", "Change your password", "This device", "Rename"} <= {
        text for text, *_ in before
    }
    assert [one for one in before if one not in after] == []
    assert [one for one in after if one not in before] == []


# --- accessibility --------------------------------------------------------------------------------

PATHS = ["", "/sign-out-others", "/not-me?device={device}", "/secure?device={device}", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
def test_everybody_can_use_the_plain_page(apps: Apps, path: str):
    device, *_ = apps.sign_in()
    browser = apps.browser
    browser.driver.get(f"{apps.plain}/devices{path.format(device=device)}")
    browser.run("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert browser.axe_findings() == []
    browser.set_media(prefers_color_scheme="dark")
    dark = "return matchMedia('(prefers-color-scheme: dark)').matches"
    wait_for(lambda: browser.run(dark), "the dark", PATIENCE)
    assert browser.axe_findings("color-contrast") == []
    for width, zoom in ((320, 1.0), (1280, 2.0)):
        browser.set_size(width, zoom=zoom)
        assert browser.overflow == 0, f"{width} pixels at a zoom of {zoom}"


def test_everybody_can_use_the_page_with_the_element(apps: Apps):
    apps.sign_in()
    browser = apps.open_scripted()
    assert browser.axe_findings() == []
    controls = browser.controls
    assert len(controls) == len(set(controls))
    browser.set_size(320)
    assert browser.overflow == 0


def test_the_plain_page_and_the_element_show_the_same_titles(apps: Apps):
    """The titles of the devices are equal, and in the same order."""
    apps.sign_in()
    browser = apps.open_scripted()
    scripted = browser.titles
    browser.driver.get(f"{apps.plain}/devices")
    plain = browser.run("return all('.device h2 bdi').map((node) => node.innerText)")
    assert scripted == plain

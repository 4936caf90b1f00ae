"""Everybody must be able to use `<session-devices>`: axe-core checks each of its states, light and
dark. Other tests cover small windows, zoom, text from right to left, and paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from client_tests.devices_backend import ago, device, refusal
from client_tests.devices_site import LAPTOP, OLD_TABLET, PHONE, REPLAYED, Site, devices_site
from client_tests.readme import PATIENCE
from tests.support.waiting import wait_for

LONG = device("long", name="W" * 100, address="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
ALARMED = {**PHONE, "alarm": REPLAYED}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with devices_site(tmp_path_factory.mktemp("browser")) as site:
        yield site


@pytest.fixture
def site(opened: Site) -> Iterator[Site]:
    opened.reset()
    yield opened
    assert opened.browser.violations == []


def everything(site: Site) -> None:
    """Opens a list with each kind of content, and unfolds all its parts."""
    site.backend.alarms = [REPLAYED, {**REPLAYED, "event_id": "2-1", "device_id": "gone"}]
    site.backend.page_size = 5
    more = [device("one"), device("two")]
    site.open(LAPTOP, ALARMED, LONG, OLD_TABLET, device("tv", kind="tv"), *more)
    site.browser.click("Signed out in the last 28 days (1)")
    site.browser.click("1 earlier alarm")
    site.browser.run("all('time')[0].focus()")


def loading(site: Site) -> None:
    site.backend.gate.clear()
    site.browser.driver.get(site.origin)
    site.browser.run("return customElements.whenDefined('session-devices')")


def empty(site: Site) -> None:
    site.backend.devices = []
    site.browser.driver.get(site.origin)
    wait_for(lambda: "No other device is signed in." in site.browser.text, "the text", PATIENCE)


def renaming(site: Site) -> None:
    site.open(LAPTOP, PHONE)
    site.backend.refusals["rename"] = (*refusal(400, "name_too_long", "Too long."), 0)
    site.browser.click("Rename Ada’s phone")
    site.browser.click("Save")
    wait_for(lambda: "Too long." in site.browser.text, "the fault", PATIENCE)


def asking_for_others(site: Site) -> None:
    site.open(LAPTOP, PHONE)
    site.backend.refusals["sign-out-others"] = (*refusal(503, "unavailable", "Later."), 0)
    site.browser.click("Sign out all other devices")
    site.browser.click("Sign out all others")
    wait_for(lambda: "Later." in site.browser.text, "the fault", PATIENCE)


def after_not_me(site: Site) -> None:
    site.open(LAPTOP, PHONE)
    site.browser.click("That wasn’t me: Ada’s phone")
    site.browser.click("Sign this device out")
    site.browser.await_control("Change your password")


def signed_out_one(site: Site) -> None:
    site.open(LAPTOP, PHONE)
    site.browser.click("Sign out Ada’s phone")
    site.browser.await_status("Ada’s phone is signed out.")


def refused(site: Site) -> None:
    site.backend.refusals["devices"] = (*refusal(503, "unavailable", "Not now."), 99)
    site.browser.driver.get(site.origin)
    site.browser.await_status("Not now. Trying again in 99 seconds.")


def ended(site: Site) -> None:
    site.backend.refusals["devices"] = (*refusal(401, "signed_out", "Gone."), 0)
    site.browser.driver.get(site.origin)
    site.browser.await_status("You are signed out.")


def arabic(site: Site) -> None:
    site.open(LAPTOP, ALARMED, attributes='language="ar"')


STATES = [
    *(everything, loading, empty, renaming, asking_for_others, after_not_me),
    *(signed_out_one, refused, ended, arabic),
]


@pytest.mark.parametrize("show", STATES, ids=lambda show: show.__name__)
def test_everybody_can_use_each_state(site: Site, show: Callable[[Site], None]):
    """Checks each state with axe-core, in light and in dark colors, and that no page scrolls
    sideways.
    """
    show(site)
    assert site.browser.axe_findings() == []
    site.browser.set_media(prefers_color_scheme="dark")
    dark = "return matchMedia('(prefers-color-scheme: dark)').matches"
    wait_for(lambda: site.browser.run(dark), "the dark", PATIENCE)
    assert site.browser.axe_findings("color-contrast") == []
    for width, zoom in ((320, 1.0), (1280, 2.0), (320, 1.5)):
        site.browser.set_size(width, zoom=zoom)
        assert site.browser.overflow == 0, f"{width} pixels at a zoom of {zoom}"


def test_the_printed_list_has_no_buttons(site: Site):
    site.open(LAPTOP, PHONE)
    site.browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert site.browser.controls == []
        assert len(site.browser.cards) == 2
    finally:
        site.browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_nothing_in_the_list_is_animated(site: Site):
    """Some users want no motion, so nothing moves for any user."""
    everything(site)
    moving = (
        "return [...root.querySelectorAll('*')].filter((node) => { const style ="
        " getComputedStyle(node); return style.animationName !== 'none' ||"
        " parseFloat(style.transitionDuration) > 0; }).length"
    )
    assert site.browser.run(moving) == 0


def test_controls_keep_their_borders_with_forced_colors(site: Site):
    """Forced colors remove backgrounds, so each button, badge and list must have a border."""
    site.open(LAPTOP, {**PHONE, "last_active_at": ago(days=1)})
    site.browser.set_media(forced_colors="active")
    bare = (
        "return all('button, .badge, ul.cards').filter((node) =>"
        " getComputedStyle(node).borderTopStyle === 'none').map(said)"
    )
    assert site.browser.run(bare) == []


def test_variables_parts_and_colors_of_the_app_reach_the_element(site: Site):
    site.open(LAPTOP)
    styled = (
        "const sheet = new CSSStyleSheet(); sheet.replaceSync(`:root { --surface: rgb(1, 2, 3); }"
        " session-devices { --session-devices-radius: 3px;"
        " --session-devices-surface: var(--surface); }"
        " session-devices::part(title) { color: rgb(4, 5, 6); }`);"
        " document.adoptedStyleSheets = [sheet];"
        "const style = (selector) => getComputedStyle(root.querySelector(selector));"
        "return [style('ul').borderTopLeftRadius, style('ul').backgroundColor, style('h2').color]"
    )
    assert site.browser.run(styled) == ["3px", "rgb(1, 2, 3)", "rgb(4, 5, 6)"]

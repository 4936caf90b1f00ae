"""`<session-devices>` in a real browser, under a strict policy, with a back end of the test."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from client_tests.devices_backend import ELEMENT, GERMAN, ago, device, refusal
from client_tests.devices_site import LAPTOP, OLD_TABLET, PHONE, REPLAYED, Site, devices_site
from client_tests.readme import PATIENCE
from session_authority_client.devices.icons import PATHS
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[4]
MAX_GZIPPED_BYTES = 12_000
# A clock that a test sets forward, and the element's timer of one minute, which a test runs by
# hand.
CLOCK = """
window.ahead = 0;
const now = Date.now;
Date.now = () => now() + ahead;
window.setInterval = (renew) => { window.minute = renew; };
"""
HOSTILE = '"><img src=x onerror="heard.push(1)"><script>heard.push(2)</script>{when}\u202e&lt;'


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with devices_site(tmp_path_factory.mktemp("browser")) as site:
        yield site


@pytest.fixture
def site(opened: Site) -> Iterator[Site]:
    opened.reset()
    yield opened
    assert opened.browser.violations == []


def test_the_file_of_the_element_is_small():
    assert len(gzip.compress(ELEMENT.read_bytes(), 9)) <= MAX_GZIPPED_BYTES


def test_the_element_has_the_icons_of_the_page():
    written = re.findall(
        r'^(?:  |const )(\w+)(?:: | = )"(M[^"]+)"', ELEMENT.read_text(), re.MULTILINE
    )
    assert {name.lower(): path for name, path in written} == PATHS


def test_a_card_shows_all_facts_of_a_device(site: Site):
    browser = site.open(LAPTOP, PHONE, OLD_TABLET)
    laptop, phone = browser.cards
    for said in ("Chrome 140 on Windows", "This device", "Active now", "Berlin, Germany"):
        assert said in laptop
    for said in ("Ada’s phone", "Safari 18 on iOS 18", "Active 2 hours ago", "Lyon, France"):
        assert said in phone
    assert "198.51.100.23" in phone
    assert "Signed in 3 days ago with password and one-time code" in phone
    assert "This device" not in phone
    assert "Firefox" not in browser.text
    browser.click("Signed out in the last 28 days (1)")
    assert "Signed out 6 days ago" in browser.cards[2]


def test_a_device_may_be_signed_out_at_an_unknown_time(site: Site):
    unknown = {**OLD_TABLET, "signed_out_at": None, "last_active_at": "2026-01-02T03:04:05Z"}
    browser = site.open(LAPTOP, unknown)
    browser.click("Signed out in the last 28 days (1)")
    assert "Active 2 January 2026" in browser.cards[1]


def test_absent_facts_are_left_out(site: Site):
    nothing = dict.fromkeys(
        ("browser", "system", "address", "place", "signed_in_at", "last_active_at")
    )
    browser = site.open(device("bare", **{**nothing, "kind": "toaster", "auth_methods": []}))
    assert browser.cards[0].split("\n") == ["Device", "Rename", "That wasn’t me", "Sign out"]


@pytest.mark.parametrize(
    ("facts", "title"),
    [
        ({"name": "Work"}, "Work"),
        ({}, "Chrome 140 on Windows"),
        ({"model": "Pixel 9"}, "Chrome 140 on Windows"),
        ({"system": None}, "Chrome 140"),
        ({"browser": None}, "Windows"),
        ({"browser": None, "system": None, "model": "Pixel 9"}, "Pixel 9"),
        ({"browser": None, "system": None, "kind": "tv"}, "TV"),
    ],
)
def test_the_title_of_a_card_uses_the_facts_that_are_known(
    site: Site, facts: dict[str, Any], title: str
):
    assert site.open(device("one", **facts)).titles == [title]


def test_the_names_of_all_buttons_differ(site: Site):
    windows = [device(f"d{number}") for number in range(4)]
    # a name that looks like one that the element has numbered
    windows[1]["name"] = "Chrome 140 on Windows (2)"
    site.backend.alarms = [REPLAYED, {**REPLAYED, "event_id": "2-1"}]
    browser = site.open(LAPTOP, *windows, PHONE, OLD_TABLET, {**OLD_TABLET, "id": "other"})
    browser.click("Signed out in the last 28 days (2)")
    controls = browser.controls
    assert len(controls) == len(set(controls))
    assert len(set(browser.titles)) == len(browser.titles) == 8
    assert "Sign out Ada’s phone" in controls


def test_the_exact_time_is_shown_at_focus_and_hover_until_escape(site: Site):
    browser = site.open(device("one", last_active_at="2020-02-03T04:05:06Z"))
    shown = "return all('[role=tooltip]').map((node) => node.innerText)"
    assert browser.run(shown) == []
    browser.run("all('time')[0].focus()")
    [exact] = browser.run(shown)
    local = "return new Date('2020-02-03T04:05:06Z').toLocaleString('en-GB', arguments[0])"
    assert browser.run(local, {"dateStyle": "long", "timeStyle": "long"}) == exact
    browser.press(Keys.ESCAPE)
    assert browser.run(shown) == []
    browser.run("active().blur()")
    browser.hover("time")
    assert browser.run(shown) == [exact]


# --- actions ----------------------------------------------------------------------------------


def test_another_device_is_signed_out_by_keyboard(site: Site):
    browser = site.open(LAPTOP, PHONE, device("tv", kind="tv"))
    browser.tab_to("Sign out Ada’s phone")
    browser.press(Keys.ENTER)
    browser.await_status("Ada’s phone is signed out.")
    assert [one["signed_in"] for one in site.backend.devices] == [True, False, True]
    assert browser.titles == ["Chrome 140 on Windows", "Chrome 140 on Windows (2)"]
    # focus moves to the next card, not to a button
    assert browser.focused.startswith("Chrome 140 on Windows (2)")
    assert browser.heard == [{"action": "sign-out", "deviceId": "phone", "signedOut": 1}]
    assert not site.was_reloaded
    browser.tab_to("Signed out in the last 28 days (1)")
    browser.press(Keys.ENTER)
    assert "Signed out just now" in browser.cards[2]


def test_a_name_is_changed_in_place_by_keyboard(site: Site):
    browser = site.open(LAPTOP, PHONE)
    browser.tab_to("Rename Ada’s phone")
    browser.press(Keys.ENTER)
    assert browser.focused == "New name for Ada’s phone"
    browser.press("Not this", Keys.ESCAPE)
    assert browser.focused == "Rename Ada’s phone"
    assert site.backend.devices[1]["name"] == "Ada’s phone"
    browser.press(Keys.ENTER)
    browser.press("<Pocket>", Keys.ENTER)  # the old name is selected, so typing replaces it
    browser.await_status("The device is now called <Pocket>.")
    assert site.backend.devices[1]["name"] == "<Pocket>"
    assert browser.focused == "Rename <Pocket>"
    browser.press(Keys.ENTER)
    browser.press(Keys.DELETE, Keys.ENTER)
    browser.await_status("The device’s own name was removed.")
    assert browser.titles[1] == "Safari 18 on iOS 18"
    assert browser.focused == "Rename Safari 18 on iOS 18"
    assert not site.was_reloaded


def test_a_refused_name_can_be_corrected(site: Site):
    browser = site.open(LAPTOP)
    browser.click("Rename Chrome 140 on Windows")
    browser.press("x" * 65, Keys.ENTER)
    fault = "A name has at most 64 characters."
    wait_for(lambda: fault in browser.text, "the fault", PATIENCE)
    field = browser.run(
        "const field = active(); const fault = field.getAttribute('aria-describedby');"
        "return [field.ariaInvalid, root.getElementById(fault).innerText, field.value.length]"
    )
    assert field == ["true", fault, 65]
    browser.press(Keys.BACKSPACE, Keys.ENTER)
    browser.await_status(f"The device is now called {'x' * 64}.")


def test_a_name_that_is_being_typed_survives_a_refresh(site: Site):
    browser = site.open(LAPTOP, PHONE)
    browser.click("Rename Ada’s phone")
    browser.press("Poc")
    site.backend.devices[1]["address"] = "192.0.2.1"
    browser.run("return document.querySelector('session-devices').refresh()")
    browser.press("ket", Keys.ENTER)
    browser.await_status("The device is now called Pocket.")
    assert "192.0.2.1" in browser.cards[1]


def test_all_other_devices_are_signed_out_after_a_confirmation(site: Site):
    browser = site.open(LAPTOP, PHONE, device("tv"), OLD_TABLET)
    browser.tab_to("Sign out all other devices")
    browser.press(Keys.ENTER)
    assert "Sign out all other devices?" in browser.text
    browser.press(Keys.ESCAPE)
    wait_for(lambda: browser.focused == "Sign out all other devices", "focus", PATIENCE)
    assert site.backend.calls("POST", "sign-out-others") == 0
    browser.press(Keys.ENTER)
    browser.tab_to("Sign out all others")
    browser.press(Keys.ENTER)
    browser.await_status("2 other devices were signed out.")
    assert browser.titles == ["Chrome 140 on Windows"]
    assert browser.focus_is_inside
    assert "Sign out all other devices" not in browser.controls
    assert browser.heard == [{"action": "sign-out-others", "deviceId": None, "signedOut": 2}]
    assert not site.was_reloaded


def test_not_me_leads_to_the_password_page_and_to_the_sign_out_of_all_others(site: Site):
    browser = site.open(LAPTOP, PHONE, device("tv", kind="tv"))
    browser.tab_to("That wasn’t me: Ada’s phone")
    browser.press(Keys.ENTER)
    assert "Wasn’t this you on Ada’s phone?" in browser.text
    browser.tab_to("Sign this device out")
    browser.press(Keys.ENTER)
    browser.await_control("Change your password")
    assert browser.focused == "Ada’s phone is signed out"
    assert site.backend.calls("POST", "phone/not-me") == 1
    assert "Signed out in the last 28 days" not in browser.text, "it has left the list"
    href = "return all('a').find((node) => said(node) == 'Change your password').href"
    assert browser.run(href) == f"{site.origin}/password"
    browser.tab_to("Sign out all other devices")
    browser.press(Keys.ENTER)
    browser.await_status("1 other device was signed out.")
    assert browser.titles == ["Chrome 140 on Windows"]
    assert browser.focus_is_inside
    assert [one["action"] for one in browser.heard] == ["not-me", "sign-out-others"]


def test_after_a_sign_out_here_the_app_may_choose_where_to_go(site: Site):
    browser = site.open(LAPTOP, PHONE, attributes='sign-in="/sign-in"')
    browser.run("addEventListener('session-devices:signedout', (event) => event.preventDefault())")
    browser.click("Sign out Chrome 140 on Windows")
    browser.await_status("You are signed out.")
    assert browser.heard[-1] == "signedout"
    assert browser.cards == []
    assert not site.was_reloaded


def test_a_sign_out_here_leads_to_the_sign_in_page(site: Site):
    browser = site.open(LAPTOP, attributes='sign-in="/sign-in"')
    browser.run("sessionStorage.clear()")
    browser.click("Sign out Chrome 140 on Windows")
    wait_for(
        lambda: browser.driver.current_url == f"{site.origin}/sign-in", "the sign-in", PATIENCE
    )
    browser.driver.get(site.origin)


def test_a_double_click_makes_only_one_call(site: Site):
    browser = site.open(LAPTOP, PHONE)
    site.backend.gate.clear()
    browser.click("Sign out Ada’s phone")
    browser.click("Sign out Ada’s phone")
    site.backend.gate.set()
    browser.await_status("Ada’s phone is signed out.")
    assert site.backend.calls("POST", "sign-out") == 1


def test_a_list_that_is_older_than_an_action_is_not_shown(site: Site):
    browser = site.open(LAPTOP, PHONE)
    browser.run(
        """
        const real = fetch;
        let release;
        const held = new Promise((go) => { release = go; });
        window.fetch = async (path, options) => {
          const answer = await real(path, options);
          const text = await answer.text();
          if (String(path).endsWith("devices")) await held;
          return new Response(text, {status: answer.status});
        };
        window.release = () => { window.fetch = real; release(); };
        window.refreshed = document.querySelector("session-devices").refresh();
        """
    )
    wait_for(lambda: site.backend.calls("GET", "devices") == 2, "the call", PATIENCE)
    browser.click("Sign out Ada’s phone")
    browser.await_status("Ada’s phone is signed out.")
    browser.run("release(); return window.refreshed")
    assert browser.titles == ["Chrome 140 on Windows"]


# --- the list stays up to date --------------------------------------------------------------------


def test_more_devices_are_shown_on_request(site: Site):
    site.backend.page_size = 2
    tvs = [device(f"tv{number}", kind="tv", name=f"TV {number}") for number in range(3)]
    browser = site.open(LAPTOP, *tvs)
    assert len(browser.cards) == 2
    browser.tab_to("Show more devices")
    browser.press(Keys.ENTER)
    browser.await_status("2 more devices are shown.")
    assert browser.titles[1:] == ["TV 0", "TV 1", "TV 2"]
    assert browser.focused.startswith("TV 1")
    assert "Show more devices" not in browser.controls
    site.backend.devices[3]["name"] = "Den"
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    wait_for(lambda: browser.titles[1:] == ["TV 0", "TV 1", "Den"], "all pages anew", PATIENCE)


def test_the_list_is_read_again_when_the_page_becomes_visible(site: Site):
    browser = site.open(LAPTOP, PHONE)
    browser.run("all('button').find((node) => said(node) === 'Sign out Ada’s phone').focus()")
    site.backend.devices[1]["address"] = "192.0.2.1"
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    wait_for(lambda: "192.0.2.1" in browser.cards[1], "the new address", PATIENCE)
    assert browser.focused == "Sign out Ada’s phone"


def test_relative_times_follow_the_clock_of_the_service(site: Site):
    site.backend.ahead = timedelta(hours=5)
    assert "Active 7 hours ago" in site.open(device("one")).cards[0]


def test_relative_times_are_updated_each_minute_without_a_call(site: Site):
    """Sets the browser's clock forward, and then runs its timer as if a minute was over."""
    phone = device("phone", active_now=True, last_active_at=ago(minutes=1))
    with site.browser.set_before_pages(CLOCK):
        used = (ago(minutes=9.5), ago())
        browser = site.open(LAPTOP, phone, *(device(at, last_active_at=at) for at in used))
    assert "Active now" in browser.cards[1]
    assert "Active 9 minutes ago" in browser.cards[2]
    assert "Active just now" in browser.cards[3]
    browser.run("ahead = 5 * 60_000; minute()")
    assert "Active now" in browser.cards[0]
    assert "Active 6 minutes ago" in browser.cards[1]
    assert "Active 14 minutes ago" in browser.cards[2]
    assert "Active 5 minutes ago" in browser.cards[3]
    assert site.backend.calls("GET", "devices") == 1  # polling would keep an idle session alive


# --- languages, hostile texts -----------------------------------------------------------------


def test_the_built_in_texts_are_used_if_the_catalogue_is_unavailable(site: Site):
    site.backend.refusals["messages"] = (*refusal(503, "unavailable", "Later."), 0)
    browser = site.open(LAPTOP, attributes='language="de"')
    assert "Your devices" in browser.text
    assert "This device" in browser.text


def test_texts_times_and_countries_are_in_the_language_of_the_attribute(site: Site):
    browser = site.open(LAPTOP, PHONE, device("tv"), attributes='language="de"')
    assert "Aktiv vor 2 Stunden" in browser.cards[1]
    assert "Lyon, Frankreich" in browser.cards[1]
    assert str(GERMAN["title"]) in browser.text
    assert {language for _, _, language in site.backend.requests} == {"de"}
    browser.click("Ada’s phone abmelden")
    browser.await_status("Ada’s phone ist abgemeldet.")
    assert browser.run("return root.querySelector('section').lang") == "de"


def test_without_an_attribute_the_language_of_the_page_is_used(site: Site):
    site.backend.language = "de"
    assert str(GERMAN["title"]) in site.open(LAPTOP).text


def test_arabic_is_laid_out_from_right_to_left(site: Site):
    browser = site.open(LAPTOP, attributes='language="ar"')
    icon_is_right = (
        "const icon = root.querySelector('li svg').getBoundingClientRect();"
        "return icon.left > root.querySelector('h3').getBoundingClientRect().left"
    )
    assert browser.run(icon_is_right)


def test_hostile_texts_are_shown_as_text(site: Site):
    texts = dict.fromkeys(("browser", "system", "model", "address"), HOSTILE)
    place = {"city": HOSTILE, "country_code": HOSTILE}
    hostile = device(f"../{HOSTILE}", kind="constructor", place=place, auth_methods=[HOSTILE])
    hostile.update(texts)
    site.backend.secure_account_url = "javascript:heard.push(3)"
    site.backend.alarms = [{**REPLAYED, "kind": HOSTILE, "device_id": hostile["id"]}]
    browser = site.open(LAPTOP, hostile, {**hostile, "id": "named", "name": HOSTILE})
    assert browser.run("return root.querySelectorAll('img, script, a[href^=java]').length") == 0
    assert HOSTILE in browser.titles[2]
    assert "Change your password" not in browser.controls
    browser.click(f"Sign out {browser.titles[1]}")
    browser.await_status(f"{HOSTILE} on {HOSTILE} is signed out.")
    assert site.backend.devices[1]["signed_in"] is False
    assert [one["action"] for one in browser.heard] == ["sign-out"]


def test_a_bad_message_of_the_catalogue_does_not_break_the_list(site: Site):
    """The app's own texts may be wrong: a number, or a plural without a form."""
    site.backend.messages = {"title": 7, "this_device": HOSTILE, "sign_out": {}}
    browser = site.open(LAPTOP, PHONE)
    assert HOSTILE.replace("{when}", "") in browser.cards[0]


# --- alarms -----------------------------------------------------------------------------------


def test_an_alarm_is_shown_above_the_list_and_on_its_device(site: Site):
    site.backend.alarms = [
        REPLAYED,
        {
            "event_id": None,
            "device_id": "gone",
            "kind": "sealed_envelope",
            "at": "2026-01-02T03:04:05Z",
        },
    ]
    browser = site.open(LAPTOP, {**PHONE, "alarm": REPLAYED})
    assert "Somebody used a copy of your sign-in on Ada’s phone 1 day ago." in browser.text
    assert "A copy of this sign-in was used 1 day ago" in browser.cards[1]
    browser.click("1 earlier alarm")
    unusual = "Something unusual happened to your sign-in on a device that is no longer listed"
    assert f"{unusual} 2 January 2026." in browser.text


def test_the_alarm_of_a_mail_is_shown_first(site: Site):
    site.backend.alarms = [REPLAYED, {**REPLAYED, "event_id": "9-9", "at": ago(days=5)}]
    browser = site.open(LAPTOP, PHONE, attributes='alarm="9-9"')
    alarm = str(browser.run("return root.querySelector('[part=alarm]').innerText"))
    assert "5 days ago" in alarm
    assert "1 day ago" not in alarm


# --- faults -----------------------------------------------------------------------------------


def test_the_end_of_a_session_elsewhere_is_shown(site: Site):
    browser = site.open(LAPTOP, PHONE)
    site.backend.refusals["sign-out"] = (*refusal(401, "signed_out", "Gone."), 0)
    browser.tab_to("Sign out Ada’s phone")
    browser.press(Keys.ENTER)
    browser.await_status("You are signed out.")
    assert browser.heard == ["signedout"]
    assert browser.cards == []
    assert browser.focus_is_inside


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_list_is_requested_again_after_the_given_time(site: Site, status: int):
    site.backend.refusals["devices"] = (status, {"error": {"message": "Not now."}}, 1)
    site.browser.driver.get(site.origin)
    site.browser.await_status("Not now. Trying again in 1 second.")
    site.browser.await_control("Try again")
    site.browser.run("all('button').find((node) => said(node) === 'Try again').focus()")
    site.backend.devices = [LAPTOP]
    site.backend.refusals.clear()
    wait_for(lambda: site.browser.cards, "the list by itself", PATIENCE)
    assert site.browser.status == ""
    assert site.browser.focus_is_inside


def test_a_list_is_not_requested_again_by_itself_if_waiting_does_not_help(site: Site):
    site.backend.refusals["devices"] = (*refusal(500, "misconfigured", "Not set up."), 0)
    site.browser.driver.get(site.origin)
    site.browser.await_control("Try again")
    assert site.browser.status == "Not set up."


def test_a_user_can_request_the_list_again(site: Site):
    site.backend.refusals["devices"] = (*refusal(503, "unavailable", ""), 3000)
    site.browser.driver.get(site.origin)
    site.browser.await_status(
        "Your devices can’t be reached just now. Trying again in 300 seconds."
    )
    site.backend.devices = [LAPTOP]
    site.backend.refusals.clear()
    site.browser.tab_to("Try again")
    site.browser.press(Keys.ENTER)
    wait_for(lambda: site.browser.cards, "the list", PATIENCE)
    assert site.browser.focus_is_inside


def test_an_action_that_fails_says_why_and_changes_nothing(site: Site):
    browser = site.open(LAPTOP, PHONE)
    site.backend.refusals["sign-out"] = (500, {}, 0)
    browser.tab_to("Sign out Ada’s phone")
    browser.press(Keys.ENTER)
    browser.await_status("That did not work. Nothing was changed.")
    assert browser.focused == "Sign out Ada’s phone"
    site.backend.refusals["sign-out-others"] = (*refusal(503, "unavailable", "Later."), 5)
    browser.click("Sign out all other devices")
    browser.click("Sign out all others")
    alert = "return all('dialog [role=alert]').map((node) => node.innerText)"
    wait_for(lambda: browser.run(alert) == ["Later."], "the reason in the dialog", PATIENCE)
    assert len(browser.titles) == 2


def test_a_device_that_no_longer_exists_leaves_the_list(site: Site):
    browser = site.open(LAPTOP, PHONE)
    del site.backend.devices[1]
    browser.click("Sign out Ada’s phone")
    browser.await_status("There is no such device.")
    wait_for(lambda: len(browser.cards) == 1, "the list without it", PATIENCE)


def test_being_offline_is_shown_until_it_is_over(site: Site):
    browser = site.open(LAPTOP, PHONE)
    browser.set_offline(True)
    try:
        offline = "You are offline. This list may be out of date."
        browser.await_status(offline)
        browser.click("Sign out Ada’s phone")
        browser.await_status(offline)
        assert len(browser.cards) == 2
    finally:
        browser.set_offline(False)
    browser.await_status("")


def test_a_list_without_other_devices_says_so(site: Site):
    site.backend.devices = []
    site.browser.driver.get(site.origin)
    wait_for(lambda: "No other device is signed in." in site.browser.text, "the text", PATIENCE)


def test_the_app_s_own_content_is_shown_until_the_list_is_there(site: Site):
    site.backend.inside = "<p>From the server</p>"
    site.backend.gate.clear()
    site.browser.driver.get(site.origin)
    shown = "return document.querySelector('session-devices > p').checkVisibility()"
    assert site.browser.run(shown)
    site.backend.refusals["devices"] = (*refusal(503, "unavailable", "Not now."), 99)
    site.backend.gate.set()
    site.browser.await_status("Not now. Trying again in 99 seconds.")
    assert site.browser.run(shown)
    site.backend.devices = [LAPTOP]
    site.backend.refusals.clear()
    site.browser.click("Try again")
    wait_for(lambda: site.browser.cards, "the list", PATIENCE)
    assert not site.browser.run(shown)


def test_an_invalid_time_breaks_nothing(site: Site):
    [card] = site.open(device("one", last_active_at="soon", signed_in_at="")).cards
    assert "Berlin, Germany" in card


def test_an_element_that_is_removed_stops_and_can_come_back(site: Site):
    browser = site.open(LAPTOP)
    browser.run(
        "window.element = document.querySelector('session-devices'); element.remove();"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    site.backend.devices.append(dict(PHONE))
    browser.run("document.querySelector('main').append(element)")
    wait_for(lambda: len(browser.cards) == 2, "the list anew", PATIENCE)
    assert site.backend.calls("GET", "devices") == 2


def test_the_built_in_texts_match_the_catalogue_and_are_all_used(site: Site):
    texts = site.open(LAPTOP).run(
        "return import('/devices/static/session-devices.js').then((module) => module.ENGLISH)"
    )
    english = json.loads((ELEMENT.parents[1] / "messages" / "en.json").read_text())
    assert {key: english.get(key) for key in texts} == texts
    code = ELEMENT.read_text().partition("\n};\n")[2]
    named = {key for key in texts if f'"{key}"' in code}
    computed = {f"{verb}_device" for verb in ("rename", "sign_out", "not_me")}
    computed |= {key for key in texts if key.startswith(("kind.", "method.", "alarm."))}
    assert set(texts) - named - computed == set()


# --- documentation of the element -----------------------------------------------------------------

PAGE = (ROOT / "docs" / "devices_element.md").read_text()


def test_the_documentation_describes_all_variables_and_parts():
    source = ELEMENT.read_text()
    variables = set(re.findall(r"--session-devices-[a-z]+", source))
    assert variables == set(re.findall(r"--session-devices-[a-z]+", PAGE))
    texts = re.findall(r'\bpart: [`"]([a-z -]+)', source)
    parts = {part for text in texts for part in text.split()}
    [described] = re.findall(r"^Parts: (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert parts - set(re.findall(r"`([a-z-]+)`", described)) == set()


def test_the_documentation_describes_all_attributes_and_calls(site: Site):
    source = ELEMENT.read_text()
    for name in re.findall(r'getAttribute\("([a-z-]+)"\)', source):
        assert f"| `{name}` |" in PAGE
    browser = site.open(LAPTOP, PHONE, device("tv"))
    browser.click("Sign out Ada’s phone")
    browser.await_status("Ada’s phone is signed out.")
    for method, path, _ in site.backend.requests:
        call = urlsplit(path).path.removeprefix("/devices/").replace("phone", "ID")
        assert f"`{method} {call}" in PAGE

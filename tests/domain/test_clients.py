"""What a user agent tells: real ones are read right, and no other one harms."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.clients import Appearance, Client, FormFactor, appearance
from session_authority.domain.fields import MAX_USER_AGENT_BYTES, cut_user_agent

# One a line: system, browser, form factor, user agent. In them, BLINK and WEBKIT stand for what
# those always say.
REAL = """
Windows    | Chrome 131            | DESKTOP | Mozilla/5.0 (Windows NT 10.0; Win64; x64) BLINK Chrome/131.0.0.0 Safari/537.36
Windows    | Edge 131              | DESKTOP | Mozilla/5.0 (Windows NT 10.0; Win64; x64) BLINK Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0
Windows    | IE 11                 | DESKTOP | Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko
macOS      | Safari 17             | DESKTOP | Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) WEBKIT Version/17.4.1 Safari/605.1.15
Ubuntu     | Firefox 133           | DESKTOP | Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0
Linux      | Firefox 133           | DESKTOP | Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0
FreeBSD    | Firefox 133           | DESKTOP | Mozilla/5.0 (X11; FreeBSD amd64; rv:133.0) Gecko/20100101 Firefox/133.0
ChromeOS   | Chrome 131            | DESKTOP | Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) BLINK Chrome/131.0.0.0 Safari/537.36
iOS 17     | Mobile Safari 17      | PHONE   | Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) WEBKIT Version/17.5 Mobile/15E148 Safari/604.1
iOS 17     | Chrome Mobile iOS 126 | PHONE   | Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) WEBKIT CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1
iOS 17     | MyApp 4               | PHONE   | MyApp/4.12.0 CFNetwork/1494.0.7 Darwin/23.4.0
Android 10 | Chrome Mobile 131     | PHONE   | Mozilla/5.0 (Linux; Android 10; K) BLINK Chrome/131.0.0.0 Mobile Safari/537.36
Android 13 | Samsung Internet 24   | PHONE   | Mozilla/5.0 (Linux; Android 13; SM-S911B) BLINK SamsungBrowser/24.0 Chrome/117.0.0.0 Mobile Safari/537.36
Android 13 | Chrome Mobile 125     | PHONE   | Mozilla/5.0 (Linux; Android 13; CUBOT P80) BLINK Chrome/125.0.0.0 Mobile Safari/537.36
Android 14 | Firefox Mobile 133    | PHONE   | Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0
Android 14 | Firefox Mobile 133    | TABLET  | Mozilla/5.0 (Android 14; Tablet; rv:133.0) Gecko/133.0 Firefox/133.0
Android 12 | Chrome 120            | TABLET  | Mozilla/5.0 (Linux; Android 12; SM-X906C) BLINK Chrome/120.0.0.0 Safari/537.36
Android 11 | Chrome 120            | TABLET  | Mozilla/5.0 (Linux; Android 11; Lenovo TB-X606F) BLINK Chrome/120.0.0.0 Safari/537.36
iOS 16     | Mobile Safari 16      | TABLET  | Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) WEBKIT Version/16.6 Mobile/15E148 Safari/604.1
Android 9  | Amazon Silk 108       | TV      | Mozilla/5.0 (Linux; Android 9; AFTKA) BLINK Silk/108.4.6 like Chrome/108.0.5359.220 Safari/537.36
Web0S      | Chrome 94             | TV      | Mozilla/5.0 (Web0S; Linux/SmartTV) BLINK Chrome/94.0.4606.128 Safari/537.36 WebAppManager
           | Safari 15             | CONSOLE | Mozilla/5.0 (PlayStation; PlayStation 5/6.50) WEBKIT Version/15.4 Safari/605.1.15
Windows    | Edge 18               | CONSOLE | Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) BLINK Chrome/58.0.3029.110 Safari/537.36 Edge/18.19041
           | Googlebot 2           | BOT     | Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
           | curl 8                | BOT     | curl/8.5.0
           | Python Requests 2     | BOT     | python-requests/2.32.3
           | Go-http-client 2      | BOT     | Go-http-client/2.0
           | okhttp 4              | BOT     | okhttp/4.12.0
"""
ALWAYS = {
    "BLINK": "AppleWebKit/537.36 (KHTML, like Gecko)",
    "WEBKIT": "AppleWebKit/605.1.15 (KHTML, like Gecko)",
}
LINES = [tuple(part.strip() for part in line.split("|")) for line in REAL.strip("\n").splitlines()]


@pytest.mark.parametrize(("system", "browser", "form_factor", "user_agent"), LINES)
def test_real_user_agents(system: str, browser: str, form_factor: str, user_agent: str):
    for engine, said in ALWAYS.items():
        user_agent = user_agent.replace(engine, said)
    assert appearance(user_agent) == Appearance(system, browser, FormFactor[form_factor])


def test_an_android_app_on_a_phone_is_no_tablet():
    """Apps don't say "Mobile", as browsers on phones do, and name no browser."""
    phone = appearance("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UD1A.230803.041)")
    assert phone == Appearance("Android 14", "", FormFactor.PHONE)
    tablet = appearance("Dalvik/2.1.0 (Linux; U; Android 14; SM-X710 Build/UP1A.231005.007)")
    assert tablet == Appearance("Android 14", "", FormFactor.TABLET)


@pytest.mark.parametrize("user_agent", ["", "?", "Mozilla/5.0", "()", "nobody knows me"])
def test_unknown_ones_tell_nothing(user_agent: str):
    looks = appearance(user_agent)
    assert (looks.operating_system, looks.form_factor) == ("", FormFactor.UNKNOWN)


HOSTILE = {
    "open brackets": "(" * 512,
    "nested brackets": "Mozilla/5.0 " + "(a;" * 160,
    "many versions": "Chrome/" + "1." * 250,
    "many browsers": "Chrome/1 Safari/1 Firefox/1 " * 18,
    "many spaces": "Android" + " " * 500 + ";",
    "many semicolons": "Mozilla/5.0 (Linux; Android 14" + "; " * 240 + ")",
    "a huge version": "Chrome/" + "9" * 500,
    "letters of a slow pattern": "HbbTV/" + "1.1.1 (" * 70,
    "other scripts": "Хром/1 " * 40,
    "emoji": "😀" * 128,
    "markup": "<script>alert(1)</script>" * 20,
    "SQL": "'; DROP TABLE sessions; --",
    "format strings": "%s%n{0}{}" * 50,
    "a null": "Mozilla/5.0\0 Chrome/131",
    "half of a surrogate pair": "\ud83d Chrome/131",
}


@pytest.mark.parametrize("user_agent", HOSTILE.values(), ids=HOSTILE)
def test_hostile_ones_are_read_in_no_time(user_agent: str):
    value = cut_user_agent(user_agent)
    appearance("Mozilla/5.0")  # the patterns are compiled at the first use
    begun = time.process_time()
    looks = appearance(value)
    assert time.process_time() - begun < 0.2
    assert len(looks.operating_system) + len(looks.browser) <= 2 * MAX_USER_AGENT_BYTES


@given(st.text(st.characters(), max_size=200))
def test_any_text_is_read(user_agent: str):
    looks = appearance(cut_user_agent(user_agent))
    assert isinstance(looks.form_factor, FormFactor)


@given(
    st.lists(
        st.sampled_from(
            "Mozilla/5.0 Chrome/131 Mobile Safari/537 Android 14 iPhone iPad ( ) ; Linux bot TV"
            " Xbox Watch SM-X Build/ , +".split(" ")
        ),
        max_size=40,
    )
)
def test_any_mixture_of_known_words_is_read(words: list[str]):
    assert isinstance(appearance(cut_user_agent(" ".join(words))).form_factor, FormFactor)


def test_a_client_learns_and_forgets_nothing():
    before = Client(
        ip_address="203.0.113.7",
        user_agent="curl/8.5.0",
        display_name="Pixel 8",
        app_version="4.11",
    )
    assert before.updated_by(Client()) == before
    assert Client().updated_by(before) == before
    after = before.updated_by(Client(app_version="4.12"))
    assert after == Client("203.0.113.7", "curl/8.5.0", "Pixel 8", "4.12")

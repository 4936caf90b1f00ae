"""A user comes back from another site, in Chromium: from an OpenID provider, and from a mail.

Each app is a site of its own. `strict.test` has the defaults, `hop.test` names its callback in
`return_paths`, `lax.test` has a lax device cookie, and `every.test` names all its paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest
from selenium.common.exceptions import WebDriverException
from starlette.responses import HTMLResponse

from client_tests.provider_harness import PROVIDER, Provider, app_of, served_sites
from client_tests.test_browser import App, Browser, dev
from session_authority_client import SessionAuthority
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.flow import Flow
from tests.support.ca import CA
from tests.support.dev import DevServer
from tests.support.waiting import wait_for

__all__ = ["dev"]  # a fixture

PATIENCE = timedelta(seconds=40)
FLOWS = {
    "strict": Flow(sign_in_url="/login"),
    "hop": Flow(sign_in_url="/login", return_paths=("/callback",)),
    "lax": Flow(Cookies(device_same_site=SameSite.LAX), sign_in_url="/login"),
    "every": Flow(sign_in_url="/login", return_paths=("/*",)),
}
DAYS = 4


class Sites:
    """The apps, a browser, and how often each path of an app was requested."""

    def __init__(self, app: App, asked: dict[str, Counter[str]]) -> None:
        self.laptop: Browser = app.browser("laptop")
        self.port = app.port
        self.asked = asked

    def signs_in(self, name: str, wanted: str = "/") -> None:
        """Opens a page, and approves the sign-in at the provider."""
        self.laptop.open(wanted, host=f"{name}.test")
        assert self.laptop.driver.current_url.startswith(f"https://{PROVIDER}:")
        self.laptop.click("Approve")

    def follows_a_mail(self, name: str) -> None:
        """Follows a link to the app from another site."""
        self.laptop.open("/", host="mail.test")
        self.laptop.driver.execute_script(
            "document.body.innerHTML = '<form action=' + arguments[0] + '><button>Go</button>'",
            f"https://{name}.test:{self.port}/",
        )
        self.laptop.click("Go")

    def show(self, text: str) -> None:
        """Waits until the page has exactly this text. The page that repeats the request may be
        shown before.
        """
        wait_for(lambda: self._text() == text, f"the page to show {text}", PATIENCE.total_seconds())

    def _text(self) -> str:
        try:
            return self.laptop.text
        except WebDriverException:  # between two pages there is no page to read
            return ""


@pytest.fixture(scope="module")
def sites(dev: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder, provider = tmp_path_factory.mktemp("sites"), Provider()
    asked = {name: Counter[str]() for name in FLOWS}
    hosts = [PROVIDER, "mail.test", *(f"{name}.test" for name in FLOWS)]
    pair = CA(folder).sign(hosts=hosts)
    apps = {
        f"{name}.test": app_of(flow, dev.address, provider, asked[name])
        for name, flow in FLOWS.items()
    }
    mail = HTMLResponse("<!doctype html><body></body>")
    served = served_sites({PROVIDER: provider.app, "mail.test": mail, **apps}, pair)
    with served as port, ExitStack() as stack:
        yield Sites(App(folder, pair, port, stack), asked)


@pytest.fixture
def client(dev: DevServer) -> Iterator[SessionAuthority]:
    with SessionAuthority(dev.address, timeout=PATIENCE) as client:
        yield client


def test_four_daily_sign_ins_with_a_provider_make_one_device(
    sites: Sites, client: SessionAuthority
):
    for day in range(DAYS):
        sites.signs_in("hop", f"/?day={day}")
        sites.show("Hello hop")
        assert sites.laptop.driver.current_url.endswith(f"/?day={day}")
        assert client.revoke_all("hop") == 1  # the session ends at night
    (device,) = client.devices("hop", include_signed_out=True)
    assert device.sign_in_time != device.create_time
    # Each sign-in makes two requests: one gets the page that repeats the request, the other reaches
    # the app's handler. There is no loop.
    assert sites.asked["hop"]["/callback"] == 2 * DAYS


def test_without_return_paths_each_sign_in_is_a_new_device_and_must_be_repeated(
    sites: Sites, client: SessionAuthority
):
    for _ in range(2):
        sites.signs_in("strict")
        sites.show("Approve")  # the provider asks once more
        client.revoke_all("strict")
    assert len(list(client.devices("strict", include_signed_out=True))) == 2


def test_a_lax_device_cookie_is_sent_on_the_return_without_the_token_cookie(
    sites: Sites, client: SessionAuthority
):
    for _ in range(2):
        sites.signs_in("lax")
        sites.show("Approve")  # the request after the callback does not have the session yet
        sites.laptop.open(host="lax.test")
        sites.show("Hello lax")
        client.revoke_all("lax")
    assert len(list(client.devices("lax", include_signed_out=True))) == 1


def test_a_link_in_a_mail_finds_the_user_signed_in_if_return_paths_name_the_page(sites: Sites):
    sites.signs_in("every")
    sites.show("Hello every")
    sites.follows_a_mail("every")
    sites.show("Hello every")
    sites.laptop.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    before = sites.asked["every"]["/"]
    sites.follows_a_mail("every")
    sites.show("Approve")
    assert sites.asked["every"]["/"] == before + 2

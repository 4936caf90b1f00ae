"""Takes the pictures of the page of devices for the docs, for `make screenshots`.

It runs a development service and sets the service's clock to the time of each sign-in. Then it
photographs the page in Chromium, as the middleware serves it.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask import Flask
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from werkzeug.serving import make_server

import session_authority_client.flask as for_flask
from scripts.palette_png import with_palette
from session_authority_client import (
    ClientInfo,
    IssuedDevice,
    SessionAuthority,
    Unavailable,
)
from session_authority_client.cookies import Cookies
from session_authority_client.devices import DevicesPage
from session_authority_client.flow import Flow
from tests.support.mmdb import mmdb, place_record
from tests.support.ports import free_port
from tests.support.waiting import wait_for

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MAX_BYTES = 60_000
USER = "ada"
PATIENCE = timedelta(seconds=30)
# The service with its clock shifted by the seconds in a file. It accepts a skew of up to a year.
CLOCKED_SERVICE = """
import pathlib, sys
from datetime import timedelta
import session_authority.runtime.clock as clock
right, offset = clock.now, pathlib.Path(sys.argv.pop(1))
clock.now = lambda: right() + timedelta(seconds=float(offset.read_text()))
clock.SteadyClock.__call__ = lambda self: clock.now()
import session_authority.processes.preflight  # which refuses a skew above the grace
import session_authority.processes.readiness as readiness
readiness.MAX_CLOCK_SKEW = timedelta(days=365)
from session_authority.cli import main
main()
"""
SETTINGS = {
    "SESSION_AUTHORITY_REPLAY_ACTION": "revoke_device",
    "SESSION_AUTHORITY_IDLE_TIMEOUT": "30d",
}
DESKTOP = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
    " Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
IPAD = (
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.5 Mobile/15E148 Safari/604.1"
)
TV = (
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 8.0) AppleWebKit/538.1 (KHTML, like Gecko) Version/8.0"
    " TV Safari/538.1"
)


@dataclass(frozen=True)
class Past:
    """A device, with how long ago it signed in and how long ago it was last used."""

    client: ClientInfo
    signed_in: timedelta
    used: timedelta
    auth_methods: tuple[str, ...] = ("pwd",)


DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
PLACES = {
    "203.0.113.0/24": place_record("Lisbon", "PT"),
    "198.51.100.0/24": place_record("Porto", "PT"),
}
PASTS = [
    Past(ClientInfo("203.0.113.24", TV, "Living room"), 19 * DAY, 2 * DAY),
    Past(ClientInfo("203.0.113.24", IPAD), 12 * DAY, 26 * HOUR, ("pwd", "otp")),
    Past(ClientInfo("198.51.100.61", FIREFOX), 5 * DAY, 3 * HOUR, ("pwd", "otp")),
    Past(
        ClientInfo("203.0.113.24", IPHONE, "Ada’s iPhone"),
        3 * DAY,
        40 * MINUTE,
        ("swk",),
    ),
]
STOLEN = Past(ClientInfo("198.51.100.99", DESKTOP, "Old laptop"), 8 * DAY, 6 * DAY)
HERE = Past(ClientInfo("203.0.113.24", DESKTOP), 6 * DAY, timedelta(0), ("pwd", "hwk"))


class Service:
    """A running service whose clock can be set, and a client of it."""

    def __init__(self, folder: Path, client: SessionAuthority, address: str) -> None:
        self._offset = folder / "offset"
        self.client = client
        self.address = address

    def set_time(self, ago: timedelta) -> None:
        """Sets the service's clock back."""
        new = self._offset.with_suffix(".new")
        new.write_text(str(-ago.total_seconds()))
        new.replace(self._offset)

    def sign_in(self, past: Past) -> IssuedDevice:
        """Signs a device in at the time of its sign-in."""
        self.set_time(past.signed_in)
        return self.client.issue_device(USER, client=past.client, auth_methods=past.auth_methods)

    def use(self, past: Past, issued: IssuedDevice) -> None:
        """Uses a device at the time of its last use. The service writes that use a little later."""
        self.set_time(past.used)
        token = issued.access_token
        renewed = self.client.renew_session(token, issued.device.device_id, client=past.client)
        token = renewed.access_token or token
        self.client.validate_session(token, issued.device.device_id, client=past.client)

    def steal(self, past: Past) -> None:
        """Signs a device in, and presents its token long after a newer token superseded it."""
        issued = self.sign_in(past)
        device_id, old = issued.device.device_id, issued.access_token
        self.set_time(past.signed_in - 10 * MINUTE)
        new = self.client.renew_session(old, device_id).access_token
        self.set_time(past.signed_in - 20 * MINUTE)
        self.client.validate_session(new or "", device_id)
        self.set_time(past.used)
        self.client.renew_session(old, device_id)


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Runs a development service with its data in the folder. Yields it once it answers."""
    address = f"127.0.0.1:{free_port()}"
    (folder / "offset").write_text("0")
    places = folder / "places.mmdb"
    places.write_bytes(mmdb(PLACES))
    settings = {**SETTINGS, "SESSION_AUTHORITY_GEOIP_DATABASE": str(places)}
    command = [sys.executable, "-c", CLOCKED_SERVICE, str(folder / "offset"), "dev"]
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--listen", address, "--data-dir", str(folder / "data")],
            env={"PATH": "/usr/bin:/bin", **settings},
            stdout=log,
            stderr=log,
        )
    try:
        with SessionAuthority(address, timeout=PATIENCE) as client:

            def ready() -> bool:
                try:
                    list(client.devices(USER))
                except Unavailable:
                    return False
                return True

            wait_for(ready, "the service to serve", PATIENCE.total_seconds())
            yield Service(folder, client, address)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def app(address: str) -> Iterator[str]:
    """Serves an app with the page of devices. Yields the app's origin."""
    made = Flask(__name__, static_folder=None)

    @made.get("/sign-in")
    def sign_in() -> str:
        for_flask.visit().sign_in(USER, auth_methods=HERE.auth_methods)
        return "signed in"

    flow = Flow(
        cookies=Cookies(insecure=True),
        trusted_proxies=("127.0.0.1",),
        devices=DevicesPage(secure_account_url="/password"),
    )
    for_flask.install(made, lambda: SessionAuthority(address, timeout=PATIENCE), flow)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, made, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """A browser that looks like a desktop browser, behind a proxy that forwards its address."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1000,1400",
    ):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={folder}")
    options.add_argument("--accept-lang=en-GB")
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        forwarded = {"X-Forwarded-For": HERE.client.ip_address}
        driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": forwarded})
        brands = [{"brand": "Google Chrome", "version": "140"}]
        system = {"platform": "macOS", "platformVersion": "15.5.0", "architecture": "arm"}
        driver.execute_cdp_cmd(
            "Emulation.setUserAgentOverride",
            {
                "userAgent": DESKTOP,
                "userAgentMetadata": {"brands": brands, "model": "", "mobile": False, **system},
            },
        )
        yield driver
    finally:
        driver.quit()


@dataclass(frozen=True)
class Shot:
    """A picture: its name, the window in CSS pixels, and the color scheme."""

    name: str
    width: int
    height: int
    scheme: str


SHOTS = [
    Shot("devices-light", 800, 1180, "light"),
    Shot("devices-dark", 800, 1180, "dark"),
    Shot("devices-phone", 375, 1180, "light"),
]


def photograph(driver: Chrome, shot: Shot) -> bytes:
    """A picture of the open page, as PNG."""
    size = {"width": shot.width, "height": shot.height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": shot.scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    png: bytes = driver.get_screenshot_as_png()
    return with_palette(png)


def main() -> None:
    """Takes all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(service(folder))
        origin = stack.enter_context(app(running.address))
        driver = stack.enter_context(chromium(folder / "profile"))
        for past in PASTS:
            running.use(past, running.sign_in(past))
        running.steal(STOLEN)
        running.set_time(HERE.signed_in)
        driver.get(f"{origin}/sign-in")
        running.set_time(timedelta(0))
        driver.get(f"{origin}/devices")
        devices = "return document.querySelectorAll('.device').length"
        assert driver.execute_script(devices) == len(PASTS) + 2, "some devices are not listed"
        for shot in SHOTS:
            image = photograph(driver, shot)
            assert len(image) <= MAX_BYTES, f"{shot.name} has {len(image)} bytes"
            (IMAGES / f"{shot.name}.png").write_bytes(image)
            print(f"docs/images/{shot.name}.png: {len(image)} bytes")


if __name__ == "__main__":
    main()

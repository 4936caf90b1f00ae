"""An app's page with `<session-devices>`, open in a browser, and the state of its back end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client_tests.devices_backend import DevicesBackend, ago, device, serving, signed_out
from client_tests.devices_browser import DevicesBrowser, devices_browser
from client_tests.readme import PATIENCE
from tests.support.waiting import wait_for

LAPTOP = device("laptop", current=True, active_now=True, last_active_at=ago())
PHONE = device(
    "phone",
    name="Ada’s phone",
    kind="phone",
    browser="Safari 18",
    system="iOS 18",
    address="198.51.100.23",
    place={"city": "Lyon", "country_code": "FR"},
    auth_methods=["pwd", "otp"],
)
OLD_TABLET = signed_out("tablet", kind="tablet", browser="Firefox 140", system="Android")
REPLAYED = {"event_id": "1-1", "device_id": "phone", "kind": "token_replayed", "at": ago(days=1)}


class Site:
    """The app's page in the browser, and the state behind it."""

    def __init__(self, origin: str, backend: DevicesBackend, browser: DevicesBrowser) -> None:
        self.origin = origin
        self.backend = backend
        self.browser = browser

    def open(self, *devices: dict[str, Any], attributes: str = "") -> DevicesBrowser:
        """Opens the page with these devices and waits for the first of them."""
        self.backend.devices = [dict(one) for one in devices]
        self.backend.attributes = attributes
        self.browser.driver.get(self.origin)
        wait_for(lambda: self.browser.cards, "the list", PATIENCE)
        self.browser.run("window.mark = 1")
        return self.browser

    def reset(self) -> None:
        """Restores the first state of the back end, and the default window and media."""
        self.backend.reset()
        self.browser.set_size(1000)
        self.browser.set_media()

    @property
    def was_reloaded(self) -> bool:
        """True if the browser shows another page than the one that `open` opened."""
        return bool(self.browser.run("return window.mark !== 1"))


@contextmanager
def devices_site(folder: Path) -> Iterator[Site]:
    """Starts a back end, and a browser with its profile in the folder."""
    backend = DevicesBackend()
    with devices_browser(folder) as browser, serving(backend) as origin:
        yield Site(origin, backend, browser)

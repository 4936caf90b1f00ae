"""One Chromium for the tests of the devices list: what a person does there, and sees."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from client_tests.readme import PATIENCE
from client_tests.test_browser import FLAGS
from tests.support.backends import missing
from tests.support.waiting import wait_for

AXE = Path(__file__).parents[4] / ".tools" / "axe" / "axe.min.js"
# Of several such flags, the last one counts. Over plain HTTP, only localhost gets the headers of a
# secure origin.
RESOLVES_LOCALHOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
# The names that every script below may use: the tree with its shadow parts, and the visible
# elements.
_LIBRARY = """
const root = document.querySelector("session-devices")?.shadowRoot ?? document;
const shown = (node) => node.checkVisibility({visibilityProperty: true});
const all = (selector) => [...root.querySelectorAll(selector)].filter(shown);
const said = (node) => (node.getAttribute("aria-label") ?? node.innerText).trim();
const active = () => {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  return node;
};
"""


class DevicesBrowser:
    """A browser that shows a page with the devices list."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: object) -> Any:
        """Runs a script that may use `root`, `all`, `said` and `active`."""
        return self.driver.execute_script(_LIBRARY + script, *arguments)

    # --- what a person does -----------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, name: str, key: str = Keys.TAB) -> None:
        """Presses Tab until the control with this accessible name has focus."""
        seen: list[str] = []
        while self.focused != name:
            self.press(key)
            seen.append(self.focused)
            assert len(seen) < 100, f"Tab never comes to {name!r}, but to {seen}"

    def click(self, name: str) -> None:
        """Clicks the button, link or folded part with this accessible name."""
        self.await_control(name)
        self.run(
            "all('button, a, summary').find((node) => said(node) === arguments[0]).click()", name
        )

    def hover(self, selector: str) -> None:
        """Moves the pointer over the first visible element that matches the selector."""
        node = self.run("return all(arguments[0])[0]", selector)
        ActionChains(self.driver).move_to_element(node).perform()

    def await_control(self, name: str) -> None:
        """Waits until a button, a link or a folded part has this accessible name."""
        wait_for(lambda: name in self.controls, f"the control {name!r}", PATIENCE)

    def await_status(self, text: str) -> None:
        """Waits until the live region shows this text."""
        wait_for(lambda: self.status == text, f"the status {text!r}", PATIENCE)

    # --- what a person sees -----------------------------------------------------------------------

    @property
    def controls(self) -> list[str]:
        """The accessible names of all visible buttons, links and folded parts, in their order."""
        return list(self.run("return all('button, a, summary').map(said)"))

    @property
    def cards(self) -> list[str]:
        """The text of each device that is shown."""
        return list(self.run("return all('li[part~=device]').map((node) => node.innerText)"))

    @property
    def titles(self) -> list[str]:
        """The title of each device that is shown."""
        return list(self.run("return all('h3[part=name]').map((node) => node.innerText)"))

    @property
    def status(self) -> str:
        """The text of the live region."""
        return str(self.run("return root.querySelector('[role=status]')?.innerText ?? ''"))

    @property
    def text(self) -> str:
        """All text that a person can read in the list, or on the page if there is no list."""
        return str(self.run("return (root.querySelector('section') ?? document.body).innerText"))

    @property
    def focused(self) -> str:
        """The accessible name of the control that has focus, or its element's name if it has
        none.
        """
        return str(
            self.run("const node = active(); return node ? said(node) || node.localName : ''")
        )

    @property
    def focus_is_inside(self) -> bool:
        """True if a visible element of the list has focus."""
        return bool(self.run("return root.contains(active()) && shown(active())"))

    @property
    def violations(self) -> list[str]:
        """The violations of the page's policy."""
        return list(self.run("return window.violations"))

    @property
    def heard(self) -> list[Any]:
        """The events that the element sent to its page."""
        return list(self.run("return window.heard"))

    @property
    def overflow(self) -> int:
        """The number of pixels by which the page is wider than its window."""
        return int(
            self.run(
                "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
            )
        )

    # --- what the browser is set to ---------------------------------------------------------------

    def set_size(self, width: int, height: int = 900, zoom: float = 1) -> None:
        """Sets the size of the window in CSS pixels, as it is at a zoom of 1."""
        size = {"width": round(width / zoom), "height": round(height / zoom)}
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {**size, "deviceScaleFactor": zoom, "mobile": False},
        )

    def set_media(self, **features: str) -> None:
        """Sets media features, for example `prefers_color_scheme="dark"`."""
        chosen = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": chosen})

    def set_offline(self, offline: bool) -> None:
        """Switches the network off or on."""
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )

    @contextmanager
    def set_before_pages(self, script: str) -> Iterator[None]:
        """Runs a script in each new page before the page's own scripts."""
        method = "Page.addScriptToEvaluateOnNewDocument"
        added = self.driver.execute_cdp_cmd(method, {"source": script})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def axe_findings(self, *rules: str) -> list[str]:
        """Returns what axe-core finds on the current page, by all rules if none are named."""
        if not AXE.exists():
            missing("axe-core")
        if not self.run("return Boolean(window.axe)"):
            self.driver.execute_script(AXE.read_text())
        found = self.driver.execute_async_script(
            """
            const [rules, done] = arguments;
            const which = rules.length ? {runOnly: rules} : {};
            axe.run(document, {resultTypes: ["violations"], ...which}).then(
                (results) => done(results.violations.flatMap((violation) => violation.nodes.map(
                    (node) => `${violation.id}: ${node.target} ${node.failureSummary}`))),
                (error) => done([String(error)]),
            );
            """,
            rules,
        )
        return list(found)


@contextmanager
def devices_browser(folder: Path) -> Iterator[DevicesBrowser]:
    """Starts Chromium with a profile of its own."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            missing(name)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.add_argument(f"--user-data-dir={folder}")
    options.add_argument("--accept-lang=en-GB")
    for flag in (*FLAGS, RESOLVES_LOCALHOST):
        options.add_argument(flag)
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        driver.execute_cdp_cmd("Network.enable", {})
        yield DevicesBrowser(driver)
    finally:
        driver.quit()

"""Checks the site that `make docs` has built: it must load nothing from another host, and each page
must have the same elements as on GitHub.

    python -m scripts.docs_site.check build/docs
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
# Attributes whose addresses a browser loads by itself. Only a person follows a link.
LOADED = {"src", "srcset", "poster", "data"}
# Elements that a page must have as often on the site as on GitHub.
COUNTED = ("ol", "ul", "li", "pre", "table", "tr", "h1", "h2", "h3", "h4")
NETWORK = {"http", "https", "ws", "wss"}
# The theme replaces the text of each diagram with a drawing.
DRAWN = (
    "return document.querySelectorAll('pre.mermaid').length"
    " ? -1 : document.querySelectorAll('div.mermaid').length"
)
# Types into the search field as a person does. Each call types again, until the search has read its
# index.
SEARCHED = """
const field = document.querySelector('.md-search__input');
if (!field) return false;
field.focus();
field.value = 'revocation';
field.dispatchEvent(new Event('keyup', {bubbles: true}));
field.dispatchEvent(new Event('input', {bubbles: true}));
return document.querySelectorAll('.md-search-result__item').length > 0;
"""
# Texts in scripts that look like addresses but are never requested: a link in a license note, and
# XML namespaces.
NO_REQUESTS = ("https://clipboardjs.com/", "http://www.w3.org/")

_CSS_ADDRESS = re.compile(r"(?:url\(|@import(?!\s+url))\s*[\"']?([^)\"']+)")


class Elements(HTMLParser):
    """The addresses that a page loads, and how often its article has each element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.counts: Counter[str] = Counter()
        self._inside = "<article" not in html
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Counts an element in the article, and notes the addresses that any element loads."""
        values = {name: value or "" for name, value in attrs}
        self._inside = self._inside or tag == "article"
        if self._inside:
            self.counts[tag] += 1
        self.loads += [value for name, value in values.items() if name in LOADED]
        relations = values.get("rel", "").split()
        if tag == "link" and not {"canonical", "prev", "next"} & set(relations):
            self.loads.append(values.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        """Notes the end of the article."""
        if tag == "article":
            self._inside = False


def foreign_addresses(site: Path) -> Iterator[str]:
    """The addresses on other hosts that files of the site would load."""
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site)
        if path.suffix == ".html":
            found = Elements(path.read_text("utf-8")).loads
            yield from (f"{name}: {address}" for address in found if _is_foreign(address))
        elif path.suffix == ".css":
            found = _CSS_ADDRESS.findall(path.read_text("utf-8"))
            yield from (f"{name}: {address}" for address in found if _is_foreign(address))
        elif path.name.startswith("bundle.") and path.suffix == ".js":
            found = re.findall(r"https?://[\w.$-]+[^\s\"'`)]*", path.read_text("utf-8"))
            named = [address for address in found if not address.startswith(NO_REQUESTS)]
            # `https://${host}` contains a variable, for repositories that this site does not name.
            yield from (f"{name}: {address}" for address in named if "$" not in address)


def _is_foreign(address: str) -> bool:
    return bool(urlsplit(address).netloc) or address.startswith("//")


def different_pages(site: Path) -> Iterator[str]:
    """The pages that have an element more or less often than GitHub's Markdown gives them."""
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site)
        stem = name.with_suffix("")
        source = ROOT / stem.with_suffix(".md")
        if stem.name == "index" and not source.exists():
            source = ROOT / stem.with_name("README.md")
        if not source.exists():
            continue
        wanted = Elements(reader.render(source.read_text("utf-8"))).counts
        shown = Elements(path.read_text("utf-8")).counts
        for element in COUNTED:
            if shown[element] != wanted[element]:
                yield f"{name}: {shown[element]} <{element}>, and {wanted[element]} on GitHub"


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serves the site on a port of loopback. Yields its address."""
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """A request handler that serves files and prints nothing."""

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def requests_elsewhere(site: Path) -> Iterator[str]:
    """Opens the first page and each page with a diagram in Chromium, and searches on the first
    page.

    Yields the requests to other hosts, the pages with a diagram that is not drawn, and a search
    that finds nothing.
    """
    options = ChromeOptions()
    flags = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run")
    for flag in (*flags, "--disable-background-networking", "--disable-component-update"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as folder, served(site) as origin:
        options.add_argument(f"--user-data-dir={folder}")
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            for path in sorted(site.rglob("*.html")):
                name = path.relative_to(site).as_posix()
                diagrams = path.read_text("utf-8").count('<pre class="mermaid">')
                if not diagrams and name != "index.html":
                    continue
                driver.get(f"{origin}/{name}")
                if not _comes(driver, DRAWN, diagrams):
                    said = [entry["message"] for entry in _log(driver, "browser")]
                    yield "\n  ".join([f"{name}: a diagram is not drawn", *said])
                if name == "index.html" and not _comes(driver, SEARCHED, True):
                    yield f"{name}: the search finds nothing"
                yield from (f"{name}: {url}" for url in _requested(driver, origin))
        finally:
            driver.quit()


def _comes(driver: Chrome, script: str, expected: object) -> bool:
    """Waits until a script returns the expected value. Returns False after a timeout."""
    wait = WebDriverWait(driver, PATIENCE_SECONDS)
    try:
        return bool(wait.until(lambda _: driver.execute_script(script) == expected))
    except TimeoutException:
        return False


def _log(driver: Chrome, kind: str) -> list[dict[str, str]]:
    log: list[dict[str, str]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return log


def _requested(driver: Chrome, origin: str) -> Iterator[str]:
    for entry in _log(driver, "performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            # Chromium's own first page has addresses with other schemes.
            if urlsplit(url).scheme in NETWORK and not url.startswith(f"{origin}/"):
                yield url


def main(folder: str) -> int:
    """Prints each fault. Returns 1 if there is one, or if a required browser is missing."""
    site = Path(folder).resolve()
    faults = [*foreign_addresses(site), *different_pages(site)]
    browser = shutil.which("chromium") and shutil.which("chromedriver")
    if browser:
        faults += requests_elsewhere(site)
    elif os.environ.get("REQUIRE_BACKENDS"):
        faults.append("there is no chromium with chromedriver to open the site with")
    else:
        with Path(os.environ.get("SKIPPED", os.devnull)).open("a") as skipped:
            skipped.write("docs: no chromium with chromedriver opened the site\n")
    for fault in faults:
        print(fault, file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    visit = "opened in Chromium" if browser else "NOT opened: there is no chromium"
    print(f"docs: {pages} pages in {folder}, links checked, {visit}; {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

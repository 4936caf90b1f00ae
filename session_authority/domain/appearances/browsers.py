"""Reads from a user agent which browser or app a person uses."""

from __future__ import annotations

import re
from functools import cache

import ua_parser
from ua_parser.regex import Resolver

from session_authority.domain.appearances.agents import Product, UserAgent
from session_authority.domain.appearances.programs import APPS, BROWSERS, NO_PROGRAMS, SHOWN_APPS
from session_authority.domain.appearances.systems import System
from session_authority.domain.clients import FormFactor

_INTERNET_EXPLORER = re.compile(r"\bMSIE (\d+)|\bTrident/.*\brv:(\d+)")
_OPERA_MINI = re.compile(r"\bOpera Mini/([\d.]+)")
# The name of an app without a version, which the app may add after the products of its browser
# engine.
_BARE_WORD = re.compile(r"(?:Safari|Mobile)/\S+ +([A-Z][A-Za-z]{2,30})(?= |$)")
_BARE_PRODUCT = re.compile(
    r"(?:Safari|Mobile|AppleWebKit|Chrome|Electron)/\S+ +"
    r"([A-Za-z]\w{1,30}(?: [A-Z]\w{0,30}){0,2}) v?(\d+(?:\.\d+)+)(?= |$)"
)
# The name of a system at the end of an app's name: the system on which the app runs.
_SYSTEM_AT_END = re.compile(
    r"(?: for)?[-_ ](?:iOS|iPhone|iPad|Android|macOS|Mac|Windows|Desktop|Mobile)$"
)
_NO_APP = re.compile(r"(?:i(?:Phone|Pad|Pod)|AppleTV|Watch|Mac)\d+,\d+$|com\.apple\.")


def load_rules() -> None:
    """Loads the rules of ua-parser in advance, because loading takes longer than a caller waits for
    an answer. Later calls of this function do nothing.
    """
    _library()


@cache
def _library() -> ua_parser.Parser:
    """Returns a parser of ua-parser with only the rules for browsers. The rules for systems and
    models are not needed, and would take three times as long to load.
    """
    browsers, _, _ = ua_parser.load_lazy_builtins()
    return ua_parser.Parser(Resolver((browsers, [], [])))


def read_browser(agent: UserAgent, system: System) -> Product | None:
    """Returns the browser or app that the user agent names. Returns None if the user agent names no
    browser or app.

    Also returns None for a browser on a Roku device, or on a console other than Xbox and Steam,
    because people see the name of the device instead.
    """
    if not agent.is_browser_like:
        return _leading_app(agent, system)
    for pattern, name in APPS:
        if found := list(pattern.finditer(agent.text)):
            return Product(name, _version_in(found))
    if opera_mini := _OPERA_MINI.search(agent.text):
        return Product("Opera Mini", opera_mini[1])
    if system.family == "KaiOS":
        return Product("KaiOS browser")
    if system.family == "Roku":
        return None
    if system.form_factor is FormFactor.CONSOLE and not system.family.startswith(("Xbox", "Steam")):
        return None
    versions = {product.name: product.version for product in reversed(agent.products)}
    for product, name in BROWSERS:
        if product in versions:
            # GNOME Web sends the version of its engine in place of its own version.
            return Product(name, "" if name == "GNOME Web" else versions[product])
    return _app_of_view(agent, system) or _engine_browser(agent, system, versions)


def _leading_app(agent: UserAgent, system: System) -> Product | None:
    leading = agent.leading
    starts_with_mark = agent.text.startswith("[")
    for pattern, name in APPS:
        if found := (pattern.search if starts_with_mark else pattern.match)(agent.text):
            return Product(name, _version_in([found]))
    name = leading.shown_name
    if leading.name in NO_PROGRAMS and name not in SHOWN_APPS:
        return None
    if system.family == "Roku" or _NO_APP.match(name) or not any(c.isalpha() for c in name):
        return None
    # On a desktop or an unknown device, a name without a version may be anything. On a phone, a
    # name without a version is the name of an app.
    is_loose = not leading.version and agent.version_of("Darwin") is None
    if is_loose and system.form_factor in {FormFactor.UNKNOWN, FormFactor.DESKTOP}:
        return None
    shown = SHOWN_APPS.get(name) or _SYSTEM_AT_END.sub("", name)
    return Product(shown, "" if shown == "Safari" else leading.version)


def _version_in(found: list[re.Match[str]]) -> str:
    """Returns the first version that the matches contain. Returns an empty text if no match
    contains a version.
    """
    return next((group for mark in found for group in mark.groups() if group), "")


def _app_of_view(agent: UserAgent, system: System) -> Product | None:
    """Returns the app that shows the page in its own web view: a product that does not belong to a
    browser engine. A product with a numeric version is preferred. Returns None if the user agent
    has no product of an app.
    """
    for name, version in _BARE_PRODUCT.findall(agent.outside):
        if name.split()[0] not in NO_PROGRAMS:
            return Product(name, version)
    apps = [p for p in agent.products if p.name not in NO_PROGRAMS and p.name[0].isalpha()]
    app = next((p for p in apps if p.version[:1].isdecimal()), None)
    if app is None and system.form_factor in {FormFactor.PHONE, FormFactor.TABLET}:
        bare = (word for word in _BARE_WORD.findall(agent.outside) if word not in NO_PROGRAMS)
        app = next((Product(word) for word in bare), None)
    app = app or (apps[0] if apps else None)
    if app is None:
        return None
    shown = SHOWN_APPS.get(app.name) or _SYSTEM_AT_END.sub("", app.shown_name)
    return Product(shown, app.version)


def _engine_browser(agent: UserAgent, system: System, versions: dict[str, str]) -> Product | None:
    """Returns the browser of a user agent that names only the products of a browser engine. Returns
    None if the user agent belongs to a web view, or if no rule knows the browser.
    """
    if found := _INTERNET_EXPLORER.search(agent.text):
        return Product("Internet Explorer", found[1] or found[2])
    if "ArkWeb" in versions:
        return Product("ArkWeb", versions["ArkWeb"])
    if "Firefox" in versions:
        return Product("Firefox", versions["Firefox"])
    if agent.text.startswith("Opera/"):
        return Product("Opera", versions.get("Version") or versions["Opera"])
    for product in ("Chromium", "Chrome"):
        if product in versions:
            is_view = (
                "Electron" in versions
                or "; wv" in agent.text
                or ("Version" in versions and system.family.startswith("Android"))
            )
            return None if is_view else Product(product, versions[product])
    if system.family in {"iOS", "iPadOS", "macOS", "visionOS", "watchOS", "Windows"}:
        is_safari = "Version" in versions and "Safari" in versions
        return Product("Safari", versions["Version"]) if is_safari else None
    if not system.family or system.form_factor is FormFactor.TV:
        return None
    parsed = _library().parse_user_agent(agent.text)
    if parsed is None or parsed.family == "Android":
        return None
    return Product(parsed.family, parsed.major or "")

"""Corrects the browser, the system and the model from a user agent with the client hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from session_authority.domain.appearances.agents import Product, major
from session_authority.domain.appearances.hints import Brand, ClientHints
from session_authority.domain.appearances.models import kind_of_model, model_name
from session_authority.domain.appearances.systems import System
from session_authority.domain.clients import FormFactor

# Maps brands that people know by another name to this name. A brand that is not in this table is
# shown unchanged.
_BRANDS = {
    "Google Chrome": "Chrome", "Microsoft Edge": "Edge", "YaBrowser": "Yandex Browser",
    "Yandex": "Yandex Browser", "Brave Browser": "Brave", "OperaMobile": "Opera",
    "Opera Mobile": "Opera", "Oculus Browser": "Meta Quest Browser", "NAVER Whale": "Whale",
    "Amazon Silk": "Silk",
    "HuaweiBrowser": "Huawei Browser", "CocCoc": "C\u1ed1c C\u1ed1c",
    "Coc Coc": "C\u1ed1c C\u1ed1c",
}  # fmt: skip
# Brands that name no browser: the brand of an engine, the brand of a side panel, and the second
# brand of a browser.
_ENGINES = frozenset({"Chromium", "Yowser", "Edge Side Panel"})
_SHARED = frozenset({"Google Chrome", "Microsoft Edge"})
# Names of browsers in user agents that do not identify one browser, because other browsers send
# these names, too.
_PLAIN = frozenset({"Chrome", "Chromium", "Edge", "Safari"})
_PLATFORMS = {
    "Windows": "Windows", "macOS": "macOS", "Mac OS X": "macOS", "Android": "Android",
    "Chrome OS": "ChromeOS", "Chromium OS": "ChromeOS", "ChromeOS": "ChromeOS", "Linux": "Linux",
    "iOS": "iOS", "Fuchsia": "Fuchsia",
}  # fmt: skip
_OTHER_DESKTOPS = frozenset(_PLATFORMS.values()) - {"Linux"}
_OLD_WINDOWS = {"0.1": "Windows 7", "0.2": "Windows 8", "0.3": "Windows 8.1"}
_FIRST_WINDOWS_11 = 13
_FORM_FACTORS = {
    "XR": FormFactor.WEARABLE,
    "Watch": FormFactor.WEARABLE,
    "Desktop": FormFactor.DESKTOP,
    "Mobile": FormFactor.PHONE,
    "Tablet": FormFactor.TABLET,
    "EInk": FormFactor.TABLET,
    "Automotive": FormFactor.UNKNOWN,  # no other form factor fits a car
}
# The most specific kind comes first, because a headset or a car may be called a tablet, too.
_ORDER = (
    FormFactor.WEARABLE,
    FormFactor.UNKNOWN,
    FormFactor.TABLET,
    FormFactor.PHONE,
    FormFactor.DESKTOP,
)
_DESKTOPS = frozenset({"Windows", "macOS", "Linux", "ChromeOS"})
# If the user agent names one of these kinds, the hints do not change the kind.
_UNHINTED = frozenset({FormFactor.TV, FormFactor.CONSOLE, FormFactor.WEARABLE})


def contradict(said: System, hints: ClientHints) -> bool:
    """Returns True if the hints name another system than the user agent. An unchanged browser names
    the same system in its hints and in its user agent. If the hints and the user agent name
    different systems, a person or a tool has changed the user agent, and wants the changed system
    to be shown.
    """
    hinted = _PLATFORMS.get(hints.platform, "")
    if not hinted or not said.family or said.form_factor in _UNHINTED:
        return False
    if hinted == "Android":  # a browser on Android that requests pages for desktops says Linux
        return said.family.startswith(("Windows", "macOS", "iOS", "iPadOS", "ChromeOS"))
    if hinted == "Linux":
        return said.form_factor is not FormFactor.DESKTOP or said.family in _OTHER_DESKTOPS
    return not said.family.startswith(hinted)


def hinted_program(hints: ClientHints) -> Product | None:
    """Returns the program without a user that the brands in the hints name, such as a headless
    browser. Returns None if the brands name no program without a user.
    """
    for brand in hints.brands:
        if brand.name == "HeadlessChrome":
            return Product("Headless Chrome", brand.version)
    return None


def hinted_browser(said: Product | None, hints: ClientHints, *, is_silent: bool) -> Product | None:
    """Corrects `said`, the browser or app that the user agent names, with the brands in the hints.
    An app that shows a page in its own web view sends the brands of the browser engine, so these
    brands do not replace `said`. `is_silent` is true if there is no user agent.
    """
    brands = [brand for brand in hints.brands if not brand.is_made_up]
    telling = _most_telling(brands)
    if any(map(_is_view, brands)) and (telling is None or telling.name in _SHARED):
        return None if said is None or said.name in _PLAIN else said
    if telling is None:
        chromium = next((brand for brand in brands if brand.name == "Chromium"), None)
        if chromium is None or (said is None and not is_silent):
            return said
        return _product(chromium) if said is None or said.name == "Chrome" else said
    product = _product(telling)
    # Some browsers send the brand of Chrome or Edge, and send their own name only in the user
    # agent.
    is_own = telling.name not in _SHARED
    return product if said is None or is_own or said.name in _PLAIN else said


def _most_telling(brands: Sequence[Brand]) -> Brand | None:
    """Returns the brand that identifies the browser best. A browser may send its own brand, and
    also the brand of Chrome or Edge. The browser's own brand is better, because several browsers
    send the brand of Chrome or Edge. Returns None if no brand names a browser.
    """
    named = [b for b in brands if b.name not in _ENGINES and not _is_view(b)]
    own = [brand for brand in named if brand.name not in _SHARED]
    return next(iter([*own, *named]), None)


def _is_view(brand: Brand) -> bool:
    """Returns True for the brand of a web view inside an app, such as "Android WebView"."""
    return "WebView" in brand.name


def _product(brand: Brand) -> Product:
    return Product(_BRANDS.get(brand.name, brand.name), brand.version)


def hinted_system(said: System, hints: ClientHints) -> System:
    """Corrects `said`, the system, model and kind of device that the user agent describes, with the
    hints.
    """
    family = _PLATFORMS.get(hints.platform, "")
    model = model_name(hints.model) or said.model
    if said.form_factor in _UNHINTED:
        return replace(said, model=model)
    if model.startswith("Quest"):
        return System("Horizon OS", "", FormFactor.WEARABLE, model)
    system = replace(said, model=model)
    if family:
        system = _on_platform(system, family, hints.platform_version)
    kind = _kind(system, hints) or system.form_factor
    if kind is FormFactor.TV and system.family == "Android":
        return System("Android TV", "", kind, model)
    return replace(system, form_factor=kind)


def _on_platform(system: System, family: str, version: str) -> System:
    if family == "Windows":
        number = major(version)
        if not number:
            named = next((n for v, n in _OLD_WINDOWS.items() if version.startswith(v)), "")
            told = system.family if system.family.startswith("Windows") else family
            return replace(system, family=named or told, version="")
        told = "11" if int(number) >= _FIRST_WINDOWS_11 else "10"
        return replace(system, family=family, version=told)
    if family == "Linux":
        is_known = system.form_factor is FormFactor.DESKTOP and system.family not in _PLATFORMS
        return replace(system, family=system.family if is_known else family, version="")
    if family == "ChromeOS":  # ChromeOS sends the version of its build as the platform version
        return replace(system, family=family, version="")
    if family == "Android" and system.family in {"HarmonyOS", "Fire OS", "Android TV"}:
        return system
    told = system.version if system.family == family else ""
    return replace(system, family=family, version=version or told)


def _kind(system: System, hints: ClientHints) -> FormFactor | None:
    of_model = kind_of_model(system.model)
    if of_model in _UNHINTED:
        return of_model
    told = {_FORM_FACTORS[name] for name in hints.form_factors if name in _FORM_FACTORS}
    if of_model is not None:  # a phone or tablet that requests pages for desktops
        told.discard(FormFactor.DESKTOP)
    for kind in _ORDER:
        if kind in told:
            return kind
    if of_model is not None:
        return of_model
    is_told_desktop = system.form_factor is FormFactor.DESKTOP
    if system.family in _DESKTOPS or (is_told_desktop and system.family != "Android"):
        return FormFactor.DESKTOP
    if system.family == "iOS" or (hints.mobile and system.family != "iPadOS"):
        return FormFactor.PHONE
    # The hint `mobile` does not show the kind of the device: it is false for tablets, and also for
    # phones that request pages for desktops.
    return FormFactor.UNKNOWN if is_told_desktop else None

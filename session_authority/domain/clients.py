"""The end user's browser or app, and what its user agent tells. Shown to people, never trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import ua_parser

_TABLET = re.compile(r"ipad|tablet|kindle|\bsm-[tx]\d", re.IGNORECASE)
_TV = re.compile(
    r"smart-?tv|\btv\b|appletv|apple tv|roku|chromecast|bravia|\baft[a-z]", re.IGNORECASE
)
_CONSOLE = re.compile(r"playstation|xbox|nintendo", re.IGNORECASE)
_WEARABLE = re.compile(r"\bwatch\b|applewatch|watchos", re.IGNORECASE)
_PROGRAM = re.compile(
    r"^(curl|wget|python|go-http|okhttp|java|libwww|httpie|postman|node|axios|grpc|ruby)\b"
    r"|\bbot\b|spider|crawl",
    re.IGNORECASE,
)
_DESKTOP_SYSTEMS = frozenset(
    {"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD"}
)
# User agents stopped telling the truth about these: every Mac says 10.15, Windows 11 says 10.
_FROZEN_VERSIONS = frozenset({"Windows", "Mac OS X", "Chrome OS", "Linux"})
_SHOWN_NAMES = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS"}


class FormFactor(Enum):
    """What kind of thing a device is."""

    UNKNOWN = "unknown"
    DESKTOP = "desktop"
    PHONE = "phone"
    TABLET = "tablet"
    TV = "tv"
    CONSOLE = "console"
    WEARABLE = "wearable"
    BOT = "bot"


@dataclass(frozen=True, slots=True)
class Client:
    """What the caller knows of the end user's browser or app. Empty means unknown."""

    ip_address: str = ""
    user_agent: str = ""
    display_name: str = ""
    app_version: str = ""

    def updated_by(self, newer: Client) -> Client:
        """This client with everything that `newer` knows."""
        return Client(
            ip_address=newer.ip_address or self.ip_address,
            user_agent=newer.user_agent or self.user_agent,
            display_name=newer.display_name or self.display_name,
            app_version=newer.app_version or self.app_version,
        )


# A request that tells nothing of its client.
NO_CLIENT = Client()


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a user agent tells: "iOS 17", "Mobile Safari 17", a phone."""

    operating_system: str = ""
    browser: str = ""
    form_factor: FormFactor = FormFactor.UNKNOWN


@lru_cache(maxsize=8192)
def appearance(user_agent: str) -> Appearance:
    """Reads a user agent; unknown parts stay empty."""
    if not user_agent:
        return Appearance()
    parsed = ua_parser.parse(user_agent)
    system, browser, device = parsed.os, parsed.user_agent, parsed.device
    if browser is not None and system is not None and browser.family == system.family:
        browser = None  # an app that names only the system it runs on
    system_family = "" if system is None else system.family
    device_name = "" if device is None else f"{device.family} {device.model or ''}"
    return Appearance(
        operating_system="" if system is None else _name(system.family, system.major),
        browser="" if browser is None else _name(browser.family, browser.major),
        form_factor=_form_factor(user_agent, system_family, device_name),
    )


def _name(family: str, major: str | None) -> str:
    shown = _SHOWN_NAMES.get(family, family)
    return shown if major is None or family in _FROZEN_VERSIONS else f"{shown} {major}"


def _form_factor(user_agent: str, system: str, device: str) -> FormFactor:
    if device.startswith("Spider") or _PROGRAM.search(user_agent):
        return FormFactor.BOT
    if _CONSOLE.search(user_agent):
        return FormFactor.CONSOLE
    if _TV.search(user_agent):
        return FormFactor.TV
    if _WEARABLE.search(user_agent):
        return FormFactor.WEARABLE
    if _TABLET.search(f"{user_agent} {device}"):
        return FormFactor.TABLET
    if system == "Android":
        # Browsers on phones say "Mobile", on tablets they don't; apps say neither, and are mostly
        # on phones.
        is_browser = user_agent.startswith("Mozilla/")
        return FormFactor.TABLET if is_browser and "Mobile" not in user_agent else FormFactor.PHONE
    if system == "iOS" or "Mobile" in user_agent:
        return FormFactor.PHONE
    return FormFactor.DESKTOP if system in _DESKTOP_SYSTEMS else FormFactor.UNKNOWN

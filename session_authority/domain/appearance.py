"""What a user agent tells people about a device: its system, browser or app, kind, and name.

User agents are read with own rules first: an agent is read on the way of a sign-in, so it must take
far less than a millisecond, which the most complete library doesn't do. ua-parser names the
browsers that the own tables don't know. Never trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from session_authority.domain.agents import UserAgent, named
from session_authority.domain.browsers import read_browser
from session_authority.domain.clients import FormFactor
from session_authority.domain.crawlers import read_program
from session_authority.domain.platforms import read_system
from session_authority.domain.systems import APPLE_MODELS, System

# No text of an appearance is longer: a program on a model, of at most 64 characters each.
MAX_NAME_CHARACTERS = 132
_UNKNOWN_NAME = "Unknown device"


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a user agent tells: "iOS 17", "Safari 17", a phone, "iPhone", "Safari 17 on iOS 17"."""

    operating_system: str = ""
    browser: str = ""
    form_factor: FormFactor = FormFactor.UNKNOWN
    model: str = ""
    name: str = _UNKNOWN_NAME


@lru_cache(maxsize=8192)
def appearance(user_agent: str) -> Appearance:
    """Reads a user agent; unknown parts stay empty."""
    agent = UserAgent(user_agent)
    system = read_system(agent)
    if (program := read_program(agent, system)) is not None:
        shown = named(program.shown_name, program.version)
        return Appearance(system.shown, shown, FormFactor.BOT, "", shown)
    product = read_browser(agent, system)
    browser = "" if product is None else named(product.shown_name, product.version)
    name = _name(agent, system, browser)
    return Appearance(system.shown, browser, system.form_factor, system.model, name)


def _name(agent: UserAgent, system: System, browser: str) -> str:
    if not system.family:
        is_apple = agent.version_of("Darwin") is not None
        return f"{browser or 'App'} on Apple device" if is_apple else browser or _UNKNOWN_NAME
    if not browser:
        if system.form_factor is FormFactor.CONSOLE or system.family == "Roku":
            return system.family
        names_engine = any(product.name != "Mozilla" for product in agent.products)
        return f"App on {system.family}" if names_engine else system.shown
    says_more = system.model and system.model not in APPLE_MODELS
    return f"{browser} on {system.model if says_more else system.shown}"

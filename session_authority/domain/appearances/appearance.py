"""Describes a client to people: the name and kind of its device, its system, its browser or app,
and its model.

Client hints take precedence over the user agent, because browsers freeze the versions in their user
agents. Each sign-in reads a user agent, so reading a user agent must take far less than a
millisecond. The most complete library for user agents takes longer, so the rules in this package
are our own. The library ua-parser is used only to name browsers that our own rules do not know.
"""

from __future__ import annotations

from functools import lru_cache

from session_authority.domain.appearances.agents import Product, UserAgent, named
from session_authority.domain.appearances.browsers import read_browser
from session_authority.domain.appearances.crawlers import read_crawler, read_program
from session_authority.domain.appearances.hinted import (
    contradict,
    hinted_browser,
    hinted_program,
    hinted_system,
)
from session_authority.domain.appearances.hints import NO_HINTS, ClientHints
from session_authority.domain.appearances.platforms import read_system
from session_authority.domain.appearances.systems import APPLE_MODELS, System
from session_authority.domain.clients import UNKNOWN_NAME, Appearance, Client, FormFactor
from session_authority.domain.fields import MAX_USER_AGENT_BYTES

# The number of cached descriptions. An entry of the cache usually has at most 4 KiB, for a user
# agent of 512 bytes, hints of at most 13 short texts, and the description.
_REMEMBERED = 2048


def appearance(client: Client) -> Appearance:
    """Returns the stored description of the client. If the client has no stored description, makes
    one from the client's hints and user agent.
    """
    # A forged record may have a user agent that is longer than the limit. Reading the whole user
    # agent would cost time, and memory in the cache.
    return client.appearance or read_appearance(
        client.user_agent[:MAX_USER_AGENT_BYTES], client.hints
    )


@lru_cache(maxsize=_REMEMBERED)
def read_appearance(user_agent: str, hints: ClientHints) -> Appearance:
    """Describes a client from its user agent and its hints. A part that is not known is empty,
    except the name: a name that is not known is "Unknown device".
    """
    agent = UserAgent(user_agent)
    said = read_system(agent)
    if contradict(said, hints):
        hints = NO_HINTS
    system = hinted_system(said, hints)
    if (crawler := read_crawler(agent, said)) is not None:
        shown = _shown(crawler)
        return Appearance(said.shown, shown, FormFactor.BOT, "", shown)
    if (program := read_program(agent, said) or hinted_program(hints)) is not None:
        shown = _shown(program)
        name = f"{shown} on {said.shown}" if said.family else shown
        return Appearance(said.shown, shown, FormFactor.BOT, "", name)
    browser = _shown(hinted_browser(read_browser(agent, said), hints, is_silent=not user_agent))
    return Appearance(
        operating_system=system.shown,
        browser=browser,
        form_factor=system.form_factor,
        model=system.model,
        name=_name(agent, system, browser),
    )


def _shown(product: Product | None) -> str:
    return "" if product is None else named(product.shown_name, product.version)


def _name(agent: UserAgent, system: System, browser: str) -> str:
    if not system.family:
        is_apple = agent.version_of("Darwin") is not None
        return f"{browser or 'App'} on Apple device" if is_apple else browser or UNKNOWN_NAME
    if not browser:
        if system.form_factor is FormFactor.CONSOLE or system.family == "Roku":
            return system.family
        names_engine = any(product.name != "Mozilla" for product in agent.products)
        return f"App on {system.family}" if names_engine else system.shown
    says_more = system.model and system.model not in APPLE_MODELS
    return f"{browser} on {system.model if says_more else system.shown}"

"""Recognizes programs without a user by their user agents, and names them.

The user agent of a crawler links to a page about the crawler, or contains a word such as "bot". The
user agent of a script names only the script, or a known library. An app for people may have a word
such as "bot" in its name. An app does not count as a crawler if its user agent names a phone, a
tablet or another device that is not a computer.
"""

from __future__ import annotations

import re

from session_authority.domain.appearances.agents import Product, UserAgent
from session_authority.domain.appearances.programs import HEADLESS, LIBRARY_WORDS, program_name
from session_authority.domain.appearances.systems import System
from session_authority.domain.clients import FormFactor

_PRODUCT = re.compile(r"([A-Za-z][\w.!-]{0,63})(?:[/ ]v?(\d[\w.]{0,30}))?")
_BOT = re.compile(
    r"([\w.-]{0,60}(?:bot|crawler|spider))(?![a-z])([/ -]v?(\d[\w.]*))?", re.IGNORECASE
)
_ONE_WORD = re.compile(r"[A-Za-z][\w.-]{2,63}", re.ASCII)
# The name of a program at the start of a user agent, followed by a comment, by words about the
# program, or by the address of its page.
_NAMED = re.compile(
    r"(?=.*[A-Za-z]{2})[A-Za-z][^\s/(;,]*(?: [^\s/(;,]*[\w+!]){0,3},? ?"
    r"(?:\(| [-\u2013\u2014|] |\+?https?:)|\+?https?://\w"
)
_NO_CRAWLERS = frozenset({"MSIE", "Konqueror", "Mozilla", "Netscape", "OpenWeb", "NetFront"})


def read_program(agent: UserAgent, system: System) -> Product | None:
    """Returns the program without a user that the user agent names. Returns None if the user agent
    seems to belong to a person or to a crawler.
    """
    return _headless(agent) or _script(agent, system)


def read_crawler(agent: UserAgent, system: System) -> Product | None:
    """Returns the crawler that the user agent names: a program that calls itself a bot, or that
    links to a page about itself. Returns None if the user agent names no crawler.

    If the user agent of a crawler also names a system, this is the system of the browser that the
    crawler imitates.
    """
    if not agent.is_browser_like:
        leading = agent.leading
        is_app = system.form_factor not in {FormFactor.UNKNOWN, FormFactor.DESKTOP}
        if (found := _BOT.match(leading.name)) and not is_app:
            return Product(found[1], leading.version or found[3] or "")
        if "(+http" in agent.text and not is_app:
            return Product(program_name(leading.name) or leading.shown_name, leading.version)
        return None
    for said in ("; ".join(parts) for parts in agent.comments):
        about, contact, _ = said.partition("http")
        if not contact and "@" not in said and not said.startswith("compatible;"):
            continue
        if found := _BOT.search(about):
            return Product(found[1], found[3] or "")
        _, compatible, rest = about.rpartition("compatible;")
        if compatible and (found := _PRODUCT.match(rest.strip())):
            if found[1] not in _NO_CRAWLERS:
                return Product(found[1], found[2] or "")
            return None
        if about.endswith("+") and agent.products:
            return agent.products[-1]
    _, compatible, rest = agent.outside.partition("compatible; ")
    if compatible and "+http" in rest and (found := _PRODUCT.match(rest)):
        return Product(found[1], found[2] or "")
    return None


def _headless(agent: UserAgent) -> Product | None:
    for word in agent.outside.split():
        name, _, version = word.partition("/")
        if name in HEADLESS:
            return Product(HEADLESS[name], version)
    return None


def _script(agent: UserAgent, system: System) -> Product | None:
    if agent.is_browser_like:
        return None
    leading = agent.leading
    if (known := program_name(leading.shown_name)) is not None:
        second = agent.products[1] if known == "Python" and len(agent.products) > 1 else None
        if second is not None and (name := program_name(second.name)) is not None:
            return Product(name, second.version)
        return Product(known, leading.version)
    # The user agent of an app with a user names the system of the device. The user agent of a
    # script names only the script.
    if system.family not in {"", "Linux"} or agent.version_of("Darwin") is not None:
        return None
    if not any(c.isalpha() for c in leading.name):
        return None
    # Only programs without a user have user agents in these forms: "Name/anything", "name 1.2",
    # "name (anything)", an address, or one word.
    text = agent.text.strip()
    is_product = leading.version != "" or _ONE_WORD.fullmatch(text) or _NAMED.match(text)
    return leading if is_product or LIBRARY_WORDS.search(leading.name) else None

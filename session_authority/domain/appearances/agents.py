"""Splits a user agent into its products and comments. The module gives no meaning to either."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

_PRODUCT = re.compile(r"([^\s/;,\[\]()]{1,80})/(?:v(?=\d))?([^\s/;,\[\]()]*)")
_LEADING = re.compile(r"\s*([^\s/(;][^/();]{0,79})(?:/v?([^\s/();]*))?")
# The version may follow a space: "Name 1.2", "Name version 1.2.3 rv:45", "Name v2".
_SPACED_VERSION = re.compile(
    r"(.*?)(?: version| ver\.?)?[ -]v?(?:(\d+(?:\.\d+)+)|(\d+)(?: (?:rv|build|b)\b.*)?$)",
    re.IGNORECASE,
)
# Words about the program, or the address of its page, may follow the name.
_ABOUT = re.compile(r"(?:^|\s)[-\u2013\u2014|](?=\s|$)|(?:^|\s)\+?https?:$")
_URL = re.compile(r"\s*\+?https?://([\w.-]{1,64})")
_NUMBER_AT_END = re.compile(r"\s\d+$")
_WHOLE_NUMBER = re.compile(r"(\d{1,5})(?!\d)")
_MAX_NAME_CHARACTERS = 64
_MAX_COMMENTS = 6
_MAX_PARTS = 16


@dataclass(frozen=True, slots=True)
class Product:
    """The name and the version of a program, as in "Chrome/131.0.0.0"."""

    name: str
    version: str = ""

    @property
    def shown_name(self) -> str:
        """The name without URL escapes, cut to the length that a list can show."""
        shown = "".join(c for c in unquote(self.name, errors="ignore") if c.isprintable())
        return shown.strip()[:_MAX_NAME_CHARACTERS].strip()


@dataclass(frozen=True)
class UserAgent:
    """A user agent's text and its parts."""

    text: str

    @cached_property
    def comments(self) -> list[list[str]]:
        """The comments, each split into its parts. Comments and parts beyond a limit are dropped,
        as no honest agent has so many.
        """
        return [
            [part.strip() for part in comment.split(";", _MAX_PARTS)[:_MAX_PARTS]]
            for comment in self._split[1][:_MAX_COMMENTS]
        ]

    @cached_property
    def outside(self) -> str:
        """The user agent's text without its comments."""
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[str, list[str]]:
        """The text outside of comments, and the comments. A comment may contain parentheses. A
        comment that is not closed reaches to the end of the text.
        """
        outside, comments, depth, begun = "", [], 0, 0
        for i, character in enumerate(self.text):
            if character == "(":
                if depth == 0:
                    outside += self.text[begun:i] + " "
                    begun = i + 1
                depth += 1
            elif character == ")" and depth > 0:
                depth -= 1
                if depth == 0:
                    comments.append(self.text[begun:i])
                    begun = i + 1
        rest = self.text[begun:]
        return (outside, [*comments, rest]) if depth else (outside + rest, comments)

    @cached_property
    def products(self) -> list[Product]:
        """The products that are named outside of comments."""
        return [Product(name, version) for name, version in _PRODUCT.findall(self.outside)]

    @cached_property
    def leading(self) -> Product:
        """The first product. Its name may have spaces, and its version may be missing. If the agent
        starts with a URL, the product is the host of this URL.
        """
        if url := _URL.match(self.text):
            return Product(url[1])
        found = _LEADING.match(self.text)
        if found is None:
            return Product("")
        name, version = found[1].strip(), found[2] or ""
        if (spaced := _SPACED_VERSION.match(name)) and (spaced[2] or not version):
            name, version = spaced[1], spaced[2] or spaced[3]
        if about := _ABOUT.search(name):
            name = name[: about.start()]
        return Product(name.strip(" ,:"), version)

    @property
    def is_browser_like(self) -> bool:
        """True if the agent has the form that browsers and web views share."""
        return self.text.startswith(("Mozilla/", "Opera/"))

    def version_of(self, name: str) -> str | None:
        """Returns the version of a product. None if the agent doesn't name the product."""
        return next((p.version for p in self.products if p.name == name), None)


def major(version: str) -> str:
    """Returns the number with which a version begins. Empty if the version does not begin with a
    number, or if the number is zero or has more than five digits.
    """
    found = _WHOLE_NUMBER.match(version.removeprefix("v"))
    return "" if found is None else found[1].lstrip("0")


def named(family: str, version: str) -> str:
    """Returns a name with the first number of its version, if the version has a number: "Chrome
    131". A name that ends with a separate number ("Windows 7") stays as it is.
    """
    if _NUMBER_AT_END.search(family):
        return family
    return f"{family} {major(version)}".strip()

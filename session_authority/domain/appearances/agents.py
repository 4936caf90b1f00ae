"""Splits a user agent into its products and comments. This module does not interpret the products
or the comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

_PRODUCT = re.compile(r"([^\s/;,\[\]()]{1,80})/(?:v(?=\d))?([^\s/;,\[\]()]*)")
_LEADING = re.compile(r"\s*([^\s/(;][^/();]{0,79})(?:/v?([^\s/();]*))?")
# The version of a product may follow a space: "Name 1.2", "Name version 1.2.3 rv:45", "Name v2".
_SPACED_VERSION = re.compile(
    r"(.*?)(?: version| ver\.?)?[ -]v?(?:(\d+(?:\.\d+)+)|(\d+)(?: (?:rv|build|b)\b.*)?$)",
    re.IGNORECASE,
)
# The name of a product may be followed by words about the program, or by the address of its page.
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
        """The name without URL escapes, cut to the 64 characters that a list can show."""
        shown = "".join(c for c in unquote(self.name, errors="ignore") if c.isprintable())
        return shown.strip()[:_MAX_NAME_CHARACTERS].strip()


@dataclass(frozen=True)
class UserAgent:
    """The text of a user agent and its parts: the products and the comments."""

    text: str

    @cached_property
    def comments(self) -> list[list[str]]:
        """The comments in the user agent, each split into its parts at semicolons. At most 6
        comments and 16 parts of each comment are kept, as no honest user agent has more.
        """
        return [
            [part.strip() for part in comment.split(";", _MAX_PARTS)[:_MAX_PARTS]]
            for comment in self._split[1][:_MAX_COMMENTS]
        ]

    @cached_property
    def outside(self) -> str:
        """The text of the user agent without its comments."""
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[str, list[str]]:
        """The text of the user agent outside of comments, and the list of its comments. A comment
        may contain parentheses. A comment that is not closed reaches to the end of the text.
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
        """The products that the user agent names outside of comments."""
        return [Product(name, version) for name, version in _PRODUCT.findall(self.outside)]

    @cached_property
    def leading(self) -> Product:
        """The first product of the user agent. The name of this product may have spaces, and the
        version may be missing. If the user agent starts with a URL, the product is the host of this
        URL.
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
        """True if the user agent has the form that browsers and web views have in common."""
        return self.text.startswith(("Mozilla/", "Opera/"))

    def version_of(self, name: str) -> str | None:
        """Returns the version of the product `name`. Returns None if the user agent doesn't name
        the product.
        """
        return next((p.version for p in self.products if p.name == name), None)


def major(version: str) -> str:
    """Returns the number at the beginning of a version. Returns an empty text if there is no
    number, or if the number is zero or has more than five digits.
    """
    found = _WHOLE_NUMBER.match(version.removeprefix("v"))
    return "" if found is None else found[1].lstrip("0")


def named(family: str, version: str) -> str:
    """Returns a name with the first number of its version: "Chrome 131". Returns the name alone if
    the version does not begin with a number, or if the name itself ends with a number ("Windows
    7").
    """
    if _NUMBER_AT_END.search(family):
        return family
    return f"{family} {major(version)}".strip()

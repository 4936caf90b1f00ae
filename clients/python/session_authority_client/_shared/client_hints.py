"""Lists the User-Agent Client Hints that a page requests from browsers, and reads the hints in the
headers of a request.

The headers of Client Hints are structured fields (RFC 9651). Each header contains a string, a
Boolean, or a list of strings with parameters. A malformed header is ignored as a whole, as section
4.2 of RFC 9651 requires. A string or list of more than `MAX_HEADER_CHARACTERS` characters is also
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from session_authority_client.types import ClientBrand, ClientHints

# The hints that browsers send only if a page requests them. Browsers send `Sec-CH-UA`,
# `Sec-CH-UA-Mobile` and `Sec-CH-UA-Platform` even if no page requests them.
ACCEPT_CH = (
    "Sec-CH-UA-Full-Version-List, Sec-CH-UA-Platform-Version, Sec-CH-UA-Model,"
    " Sec-CH-UA-Form-Factors"
)
# A browser's list of brands usually has about 150 characters.
MAX_HEADER_CHARACTERS = 1024

_NAMES = (
    "sec-ch-ua",
    "sec-ch-ua-full-version-list",
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
    "sec-ch-ua-model",
    "sec-ch-ua-mobile",
    "sec-ch-ua-form-factors",
)
_NO_LINES: tuple[tuple[str, ...], ...] = ((),) * len(_NAMES)
_MAX_KEPT_HINTS = 256

_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_NUMBER = r"-?\d{1,15}(?:\.\d{1,3})?"
_TOKEN = r"[A-Za-z*][\w!#$%&'*+.^`|~:/-]*"
_OTHER = r"\?[01]|:[A-Za-z0-9+/=]*:|@-?\d{1,15}"
_PARAMETER = re.compile(
    rf"; *([a-z*][a-z0-9_.*-]*)(?:=({_STRING}|{_NUMBER}|{_TOKEN}|{_OTHER}))?", re.ASCII
)
_ITEM = re.compile(rf"({_STRING})|(?:{_NUMBER}|{_TOKEN}|{_OTHER})", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_BOOLEANS = {"?1": True, "?0": False}
_ESCAPED = re.compile(r'\\(["\\])')


class _Malformed(Exception):
    pass


def read_hints(headers: Mapping[str, Sequence[str]]) -> ClientHints | None:
    """Reads the hints of a request from its headers. The headers have lower-case names. Returns
    None if the request has no hints, or only hints that are empty, malformed or too long.
    """
    lines = tuple([tuple(headers.get(name, ())) for name in _NAMES])
    return None if lines == _NO_LINES else _read(lines)


# The results are cached, because a browser sends the same hints with each request, and many
# browsers send equal hints.
@lru_cache(maxsize=_MAX_KEPT_HINTS)
def _read(lines: tuple[tuple[str, ...], ...]) -> ClientHints | None:
    headers = dict(zip(_NAMES, lines, strict=True))

    def strings(name: str) -> list[tuple[str, Mapping[str, str]]]:
        return _strings(headers[f"sec-ch-ua{name}"])

    def string(name: str) -> str:
        found = strings(name)
        return found[0][0] if len(found) == 1 else ""

    brands = strings("-full-version-list") or strings("")
    hints = ClientHints(
        brands=tuple(ClientBrand(brand, parameters.get("v", "")) for brand, parameters in brands),
        platform=string("-platform"),
        platform_version=string("-platform-version"),
        model=string("-model"),
        mobile=_BOOLEANS.get(",".join(headers["sec-ch-ua-mobile"]).strip(" ")),
        form_factors=tuple(kind for kind, _ in strings("-form-factors")),
    )
    return None if hints == ClientHints() else hints


def _strings(lines: Sequence[str]) -> list[tuple[str, Mapping[str, str]]]:
    """Returns the strings of the list in a header, each with its parameters. Members of the list
    that are no strings are left out. The result is empty if the header is missing, malformed or too
    long.
    """
    text = ", ".join(lines).strip(" ")
    if len(text) > MAX_HEADER_CHARACTERS:
        return []
    try:
        return list(_members(text)) if text else []
    except _Malformed:
        return []


def _members(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    position = 0
    while True:
        item = _ITEM.match(text, position)
        if item is None:
            raise _Malformed
        position, parameters = item.end(), dict[str, str]()
        while found := _PARAMETER.match(text, position):
            parameters[found[1]] = _text(found[2]) if found[2] else ""
            position = found.end()
        if item[1] is not None:
            yield _text(item[1]), parameters
        if position == len(text):
            return
        comma = _COMMA.match(text, position)
        if comma is None:
            raise _Malformed
        position = comma.end()


def _text(value: str) -> str:
    """Returns a string without its quotes and escapes. A value without quotes is returned
    unchanged.
    """
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value

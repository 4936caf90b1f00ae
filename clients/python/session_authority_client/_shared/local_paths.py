r"""Checks the path to which a sign-in page sends a user afterwards. It must be a path of this
origin. A text is refused if a browser, or a server on the way, could read the text as another
origin.

Browsers read `\` as `/`, and leave out tabs and line breaks. Servers decode a path, remove dot
segments, normalize Unicode, and may send the result as a redirect.
"""

from __future__ import annotations

import re
from unicodedata import category, normalize
from urllib.parse import parse_qsl, quote, unquote, urlsplit

# Servers accept URLs of about 8,000 characters. The path is sent in the query of another URL, where
# each of its characters may become three characters.
MAX_PATH_CHARACTERS = 2000
# A path is refused if it is percent-encoded this many times or more often. No app has such paths.
_MAX_DECODINGS = 4
_MAX_QUERY_FIELDS = 100
_NEXT = "next"
_TEXT = re.compile(r"/[!-~]*", re.ASCII)
_CONTROLS = frozenset({"Cc", "Zl", "Zp", "Cs"})


def local_path(text: str, default: str = "/") -> str:
    """Returns the text if it is a path of this origin, with or without a query and a fragment. A
    path is printable ASCII, and has at most `MAX_PATH_CHARACTERS`. Otherwise returns the default.
    """
    return text if _is_local(text) else default


def next_in(target: str, default: str = "/") -> str:
    """Returns the path in the query field `next` of a request's target.

    Returns the default if the field contains no path of this origin, if there is no field `next`,
    if there are two different fields `next`, or if the query has more than 100 fields.
    """
    try:
        fields = parse_qsl(target.partition("?")[2], max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        return default
    found = {value for name, value in fields if name == _NEXT}
    return local_path(found.pop(), default) if len(found) == 1 else default


def with_next(url: str, path: str) -> str:
    """Returns the URL of a page, such as the sign-in page, with the path to return to as `next`.

    Returns the URL without changes if the path is empty or is the path of the page itself, and if
    the URL already has a field `next`. The URL of a page at another origin is not changed either,
    because there the path would be a path of that origin.
    """
    parts = urlsplit(url)
    elsewhere = parts.scheme or parts.netloc or url.startswith(("//", "/\\"))
    named = any(name == _NEXT for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if not path or elsewhere or named or path.partition("?")[0] == parts.path:
        return url
    return with_query(url, f"{_NEXT}={quote(path, safe='/')}")


def with_query(url: str, fields: str) -> str:
    """Returns the URL with more fields in its query."""
    page, mark, fragment = url.partition("#")
    joint = "&" if "?" in page else "?"
    return f"{page}{joint}{fields}{mark}{fragment}"


def _is_local(text: str) -> bool:
    if len(text) > MAX_PATH_CHARACTERS or not _TEXT.fullmatch(text) or "\\" in text:
        return False
    path = re.split("[?#]", text, maxsplit=1)[0]
    for _ in range(_MAX_DECODINGS):
        if not _stays(path):
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False


def _stays(path: str) -> bool:
    """Returns True if no browser or server can read the path as another origin."""
    normal = normalize("NFKC", path)
    if normal.startswith("//") or "\\" in normal:
        return False
    if any(category(letter) in _CONTROLS for letter in normal):
        return False
    kept: list[str] = []
    for segment in normal.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    # With an empty first segment and another segment after it, the path begins with "//host".
    return not (len(kept) > 1 and not kept[0])

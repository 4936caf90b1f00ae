r"""Checks the path to which a sign-in page redirects a user after the sign-in. The path must be a
path of this origin. A text is refused if a browser or a server could read the text as a URL of
another origin.

Browsers read `\` as `/`, and remove tabs and line breaks from a URL. A server between the browser
and the app may decode a path, remove dot segments, normalize Unicode, and redirect the browser to
the result.
"""

from __future__ import annotations

import re
from unicodedata import category, normalize
from urllib.parse import parse_qsl, quote, unquote, urlsplit

# Servers accept URLs of up to about 8,000 characters. The path is sent in the query of another URL,
# where percent-encoding may turn each of its characters into three.
MAX_PATH_CHARACTERS = 2000
# A path that is percent-encoded this many times or more is refused. No app has such paths.
_MAX_DECODINGS = 4
_MAX_QUERY_FIELDS = 100
_NEXT = "next"
_TEXT = re.compile(r"/[!-~]*", re.ASCII)
_CONTROLS = frozenset({"Cc", "Zl", "Zp", "Cs"})


def local_path(text: str, default: str = "/") -> str:
    """Returns the text if it is a path of this origin, with or without a query and a fragment. The
    text must be printable ASCII without spaces, and have at most `MAX_PATH_CHARACTERS` characters.
    Returns the default if the text is no path of this origin, is too long, or has a space or a
    character outside ASCII.
    """
    return text if _is_local(text) else default


def next_in(target: str, default: str = "/") -> str:
    """Returns the path in the query field `next` of a request's target.

    Returns the default if there is no field `next`, or if the field contains no path of this
    origin. Also returns the default if there are two fields `next` with different values, or if the
    query has more than 100 fields.
    """
    try:
        fields = parse_qsl(target.partition("?")[2], max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        return default
    found = {value for name, value in fields if name == _NEXT}
    return local_path(found.pop(), default) if len(found) == 1 else default


def with_next(url: str, path: str) -> str:
    """Adds the field `next` to the query of a page's URL, and returns the URL. The page is, for
    example, the sign-in page. `path` is the path to which the page sends the user back.

    Returns the URL without changes if `path` is empty or is the path of the page itself, or if the
    URL already has a field `next`. Also returns the URL without changes if the page is at another
    origin, because the page would read `path` as a path of its own origin.
    """
    parts = urlsplit(url)
    elsewhere = parts.scheme or parts.netloc or url.startswith(("//", "/\\"))
    named = any(name == _NEXT for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if not path or elsewhere or named or path.partition("?")[0] == parts.path:
        return url
    return with_query(url, f"{_NEXT}={quote(path, safe='/')}")


def with_query(url: str, fields: str) -> str:
    """Adds fields to the query of a URL, and returns the URL."""
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
    # If the first segment is empty and another segment follows it, the path begins with "//host".
    return not (len(kept) > 1 and not kept[0])

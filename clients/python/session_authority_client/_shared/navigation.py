"""Distinguishes a browser that navigates to a page from a program that fetches data. When the
middleware refuses a request, a browser gets a page, and a program gets a code.

All browsers of today say in `Sec-Fetch-Mode` whether they navigate to a page, but only over HTTPS
and at localhost. A request without `Sec-Fetch-Mode` counts as a navigation only if it names
`text/html` in `Accept`. Browsers that navigate name `text/html` in `Accept`. Axios, fetch, curl,
jQuery and the HTTP libraries of programming languages send `*/*`, a JSON type or no `Accept`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SAFE_PAGE_METHODS = ("GET", "HEAD")
# Scripts that fetch parts of pages accept HTML, but send a header of this list. A browser that
# navigates sends no header of this list.
_SCRIPT_HEADERS = ("x-requested-with", "hx-request", "x-turbo-request-id", "x-pjax", "x-up-version")
_JSON = re.compile(r"[a-z]+/(?:[a-z0-9.!#$&^_-]+\+)?json")
_QUALITY = re.compile(r"q *= *([0-9]*\.?[0-9]+)", re.ASCII)


def wants_page(method: str, headers: Mapping[str, Sequence[str]]) -> bool:
    """Returns True if a browser navigates to a page with this request."""
    if modes := headers.get("sec-fetch-mode", ()):
        return "navigate" in modes
    if method not in _SAFE_PAGE_METHODS or any(name in headers for name in _SCRIPT_HEADERS):
        return False
    html = json = 0.0
    for member in ",".join(headers.get("accept", ())).lower().split(","):
        kind, *parameters = (part.strip(" \t") for part in member.split(";"))
        if kind == "text/html":
            html = max(html, _quality(parameters))
        elif _JSON.fullmatch(kind):
            json = max(json, _quality(parameters))
    return html > json


def _quality(parameters: Sequence[str]) -> float:
    """Returns the quality value of a type in `Accept` (RFC 9110, section 12.4.2). `parameters` are
    the parameters of the type. Returns 1 if `parameters` has no quality value.
    """
    found = [match for each in parameters if (match := _QUALITY.fullmatch(each))]
    return float(found[0][1]) if found else 1.0

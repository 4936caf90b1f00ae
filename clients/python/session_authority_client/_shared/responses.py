"""The responses that stand in for an app's: JSON with a code for programs, a page for people. No
cache may keep them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

_NO_STORE = ("Cache-Control", "no-store")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<title>{heading}</title>
<h1>{heading}</h1>
<p>{text}</p>
</html>
"""
# What a code says to people: a heading, and a sentence.
_TEXTS = {
    "unavailable": (
        "Please try again in a moment",
        (
            "We can't find out right now whether you are signed in. Wait a little, then reload this"
            " page."
        ),
    ),
    "cross_origin_request": (
        "This came from another site",
        (
            'To keep you safe, nothing was done. <a href="/">Go to our own pages</a>, and try again'
            " from there."
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Response:
    """A response that stands in for the app's."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def refusal(status: int, code: str, *headers: tuple[str, str], page: bool = False) -> Response:
    """A response that says why in one word, or with `page` to people, if there is a text for it."""
    if page and code in _TEXTS:
        heading, text = _TEXTS[code]
        html = _PAGE.format(heading=heading, text=text)
        return _made(status, "text/html; charset=utf-8", html, headers)
    return _made(status, "application/json", json.dumps({"error": code}), headers)


def redirect(url: str) -> Response:
    """A response that sends a browser to another page."""
    return Response(303, (("Location", url), _NO_STORE), b"")


def _made(status: int, kind: str, text: str, headers: Sequence[tuple[str, str]]) -> Response:
    body = text.encode()
    described = (("Content-Type", kind), ("Content-Length", str(len(body))))
    return Response(status, (*described, *headers, _NO_STORE), body)

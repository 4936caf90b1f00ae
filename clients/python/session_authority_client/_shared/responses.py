"""The responses that stand in for an app's: JSON with a code for programs, a page for people. None
may be kept by a cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

_JUST_NOW = ("Cache-Control", "no-store")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{heading}</title>
<h1>{heading}</h1>
<p>{text}</p>
</html>
"""
# What a code says to people: a heading, and a sentence.
_WORDS = {
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
class Answer:
    """A response that stands in for the app's."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def telling(status: int, code: str, *headers: tuple[str, str], page: bool = False) -> Answer:
    """One that says why in one word, or with `page` to people, if there are words for it."""
    if page and code in _WORDS:
        heading, text = _WORDS[code]
        return _made(
            status, "text/html; charset=utf-8", _PAGE.format(heading=heading, text=text), headers
        )
    return _made(status, "application/json", json.dumps({"error": code}), headers)


def leading(url: str) -> Answer:
    """One that sends a browser there."""
    return Answer(303, (("Location", url), _JUST_NOW), b"")


def _made(status: int, kind: str, text: str, headers: Sequence[tuple[str, str]]) -> Answer:
    body = text.encode()
    return Answer(
        status,
        (("Content-Type", kind), ("Content-Length", str(len(body))), *headers, _JUST_NOW),
        body,
    )

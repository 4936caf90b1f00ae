"""What responses say to caches: the browser's, with its pages for the way back, and shared ones in
front of the app, which read headers of their own before `Cache-Control`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NO_STORE = ("Cache-Control", "no-store")
_CLEAR = ("Clear-Site-Data", '"cache"')
# Beside `Cache-Control` and what ends like that: `CDN-Cache-Control` (RFC 9213), `Cloudflare-CDN-`,
# `Vercel-CDN-`, `X-LiteSpeed-Cache-Control` ...
_CACHING = frozenset({"surrogate-control", "edge-control", "expires", "x-accel-expires"})
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Caching:
    """What becomes of a response's headers for caches: if it `drops` the app's own, and what is
    added.
    """

    drops: bool
    added: Sequence[tuple[str, str]]

    def keeps(self, name: str) -> bool:
        """Whether a header of the app goes out."""
        return not (self.drops and is_about_caching(name))


def is_about_caching(name: str) -> bool:
    """Whether a cache decides by this header if it keeps a response, and for how long."""
    lower = name.lower()
    return lower.endswith("cache-control") or lower in _CACHING


def caching(
    names: Collection[str],
    content_type: str,
    *,
    hands_out: bool,
    signed_in: bool,
    looked: bool,
    ended: bool,
) -> Caching:
    """What a response says to caches.

    Args:
        names: The names of the app's headers.
        content_type: The kind of the contents.
        hands_out: The response hands out a token, or takes one back: no cache may keep it, whatever
            the app says.
        signed_in: The request has a good session.
        looked: The app asked for the session, so that its response may depend on it.
        ended: The browser's session ended: what it keeps of the pages goes, too.
    """
    personal = signed_in and (looked or content_type.lower().startswith(_PAGES))
    private = hands_out or (personal and not any(map(is_about_caching, names)))
    return Caching(hands_out, (*((NO_STORE,) if private else ()), *((_CLEAR,) if ended else ())))

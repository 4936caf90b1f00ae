"""Decides which headers of a response tell caches whether to store the response. The browser has a
cache, which also keeps the pages that the Back button shows. There may be shared caches in front of
the app. Such caches have headers of their own, which they prefer to `Cache-Control`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NO_STORE = ("Cache-Control", "no-store")
_CLEAR = ("Clear-Site-Data", '"cache"')
# The headers about caching are these headers, and all headers whose names end with `Cache-Control`.
# Examples of such names are `CDN-Cache-Control` (RFC 9213), `Cloudflare-CDN-Cache-Control`,
# `Vercel-CDN-Cache-Control` and `X-LiteSpeed-Cache-Control`.
_CACHING = frozenset({"surrogate-control", "edge-control", "expires", "x-accel-expires"})
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Caching:
    """The changes of a response's headers for caches. If `drops` is True, the app's own headers
    about caching are removed. `added` are new headers.
    """

    drops: bool
    added: Sequence[tuple[str, str]]

    def keeps(self, name: str) -> bool:
        """Returns True if a header of the app stays in the response."""
        return not (self.drops and is_about_caching(name))


def is_about_caching(name: str) -> bool:
    """Returns True if this header says whether a cache keeps a response, and for how long."""
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
    """Decides the headers of a response for caches.

    A personal response gets `no-store`, unless the app set its own headers about caching. A
    response is personal if the request has a valid session, and if the app read the session or the
    response is an HTML page.

    Args:
        names: The names of the app's headers.
        content_type: The type of the response's contents.
        hands_out: The response sets or deletes a token. No cache may store it, even if the app
            allows this.
        signed_in: The request has a valid session.
        looked: The app read the session, so its response may depend on the session.
        ended: The browser's session has ended. The browser must also drop the pages that it has
            stored.
    """
    personal = signed_in and (looked or content_type.lower().startswith(_PAGES))
    private = hands_out or (personal and not any(map(is_about_caching, names)))
    return Caching(hands_out, (*((NO_STORE,) if private else ()), *((_CLEAR,) if ended else ())))

"""The headers of responses for caches: for the browser's cache, with the pages that its Back button
shows, and for shared caches in front of the app, which prefer headers of their own to
`Cache-Control`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NO_STORE = ("Cache-Control", "no-store")
_CLEAR = ("Clear-Site-Data", '"cache"')
# These come in addition to `Cache-Control` and to the headers whose names end like it:
# `CDN-Cache-Control` (RFC 9213), `Cloudflare-CDN-`, `Vercel-CDN-`, `X-LiteSpeed-Cache-Control` ...
_CACHING = frozenset({"surrogate-control", "edge-control", "expires", "x-accel-expires"})
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Caching:
    """The change of a response's headers for caches. `drops` is True if the app's own are removed.
    `added` are new headers.
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

    Args:
        names: The names of the app's headers.
        content_type: The kind of the contents.
        hands_out: The response hands out a token, or takes one back: no cache may keep it, whatever
            the app says.
        signed_in: The request has a good session.
        looked: The app asked for the session, so that its response may depend on it.
        ended: The browser's session ended: the browser must drop the pages that it keeps, too.
    """
    personal = signed_in and (looked or content_type.lower().startswith(_PAGES))
    private = hands_out or (personal and not any(map(is_about_caching, names)))
    return Caching(hands_out, (*((NO_STORE,) if private else ()), *((_CLEAR,) if ended else ())))

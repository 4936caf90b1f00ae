"""Decides which headers a response gets, so that caches know whether to store the response. The
browser has a cache, which also keeps the pages that the Back button shows. There may also be shared
caches in front of the app. A shared cache may obey special headers, and may prefer these headers to
`Cache-Control`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NO_STORE = ("Cache-Control", "no-store")
_CLEAR = ("Clear-Site-Data", '"cache"')
# Headers about caching are the headers in this set, and all headers whose names end with
# `Cache-Control`. Examples of names with this end are `CDN-Cache-Control` (RFC 9213),
# `Cloudflare-CDN-Cache-Control`, `Vercel-CDN-Cache-Control` and `X-LiteSpeed-Cache-Control`.
_CACHING = frozenset({"surrogate-control", "edge-control", "expires", "x-accel-expires"})
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Caching:
    """Says how the middleware changes those headers of a response that tell caches what to do. If
    `drops` is True, the middleware removes the app's own headers about caching. `added` are the
    headers that the middleware adds.
    """

    drops: bool
    added: Sequence[tuple[str, str]]

    def keeps(self, name: str) -> bool:
        """Returns True if the app's header with this name stays in the response."""
        return not (self.drops and is_about_caching(name))


def is_about_caching(name: str) -> bool:
    """Returns True if the header with this name tells caches whether to keep a response, or for how
    long.
    """
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
    """Decides how to change those headers of a response that tell caches what to do.

    A personal response gets `Cache-Control: no-store`, unless the app set its own headers about
    caching. A response is personal if the request has a valid session and one more condition is
    true: the app read the session, or the response is an HTML page.

    Args:
        names: The names of the headers that the app set.
        content_type: The type of the response's contents.
        hands_out: True if the response sets or deletes a token. No cache may store a response that
            sets or deletes a token, even if the app's headers allow it.
        signed_in: True if the request has a valid session.
        looked: True if the app read the session. If the app read the session, the response may
            depend on the session.
        ended: True if the browser's session has ended. If the session has ended, the response also
            tells the browser to drop its stored pages.
    """
    personal = signed_in and (looked or content_type.lower().startswith(_PAGES))
    private = hands_out or (personal and not any(map(is_about_caching, names)))
    return Caching(hands_out, (*((NO_STORE,) if private else ()), *((_CLEAR,) if ended else ())))

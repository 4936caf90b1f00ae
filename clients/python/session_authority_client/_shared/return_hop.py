"""Handles a browser that returns from another site to an app with strict cookies
(`SameSite=Strict`). If a link or redirect of another site leads to this app, the browser does not
send its strict cookies. So the middleware answers the first request with a page of this origin.
This page loads the same URL again, with a second request that has the strict cookies.

The second request has `Sec-Fetch-Site: same-origin`, so the middleware does not answer the second
request with this page again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_authority_client._shared.named_paths import is_named
from session_authority_client._shared.responses import Response

# The page does not contain the URL of the request, so an attacker can't use the URL to put a link
# to another site into the page. A refresh or a link without a URL loads the page's own URL.
_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<meta http-equiv="refresh" content="0">
<title>One moment</title>
<p><a href="">Go on</a></p>
</html>
"""
HOP = Response(
    200,
    (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(_PAGE))),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("Cache-Control", "no-store"),
    ),
    _PAGE,
)


def is_return(
    method: str, headers: Mapping[str, Sequence[str]], target: str, paths: Sequence[str]
) -> bool:
    """Returns True if a browser navigates from another site to one of `paths`, with GET. Returns
    False if the browser loads the page in a frame. If frames were allowed, a page of another site
    could frame this page, and make the browser send strict cookies.
    """
    return (
        method == "GET"
        and bool(paths)
        and all(
            tuple(headers.get(name, ())) == (value,)
            for name, value in (
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            )
        )
        and is_named(target, paths)
    )

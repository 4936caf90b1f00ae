"""Handles a browser that returns from another site, in an app with strict cookies. When another
site sends the browser here, the browser does not send its strict cookies. So the browser gets a
page of this origin, which loads the same URL again. This second request has the cookies.

The second request is of the same origin (`Sec-Fetch-Site`), so it never gets this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_authority_client._shared.named_paths import is_named
from session_authority_client._shared.responses import Response

# The page does not contain the URL of the request, so the contents of the URL can't lead to another
# site. A refresh or a link without a URL loads the page's own URL.
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
    """Returns True if a browser comes from another site to one of the paths, with GET. Returns
    False in a frame. Otherwise a page of another site could frame this page, and make the browser
    send strict cookies.
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

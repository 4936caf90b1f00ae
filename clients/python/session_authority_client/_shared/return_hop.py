"""The way back from another site, with strict cookies. A browser that another site sends here keeps
such cookies back. A page that asks for its own URL again is of this origin, so that the second
request has them.

The second request is one of the same origin (`Sec-Fetch-Site`), so it is never answered like this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_authority_client._shared.named_paths import is_named
from session_authority_client._shared.responses import Response

# The URL of the request is not in the page: what it holds can't become a way to somewhere else. A
# refresh, and a link, without a URL are for the page itself.
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
    """Returns True if a person comes back from another site to one of the paths. False in a frame:
    a page of another site that frames this one must not make the browser send strict cookies.
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

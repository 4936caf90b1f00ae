"""The page for signing in, which alone needs the service's client: it may be a service of its own.

Your own proof of who the user is goes here: a password, a passkey, OpenID Connect. This one
believes every name. See docs/gateway.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from session_authority_client import InvalidRequest, SessionAuthority
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow
from session_authority_client.wsgi import SessionAuthorityMiddleware, visit_of

_FORM = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Sign in</title>
<h1>Sign in</h1>
<form method="post">
    <label>Name <input name="user" autocomplete="username" required autofocus></label>
    <button>Sign in</button>
</form>
"""


def _page(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")]
    if environ["REQUEST_METHOD"] == "POST":
        form = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), 4096))
        name = parse_qs(form.decode("utf-8", "replace")).get("user", [""])[0].strip()
        visit = visit_of(environ)
        try:
            visit.sign_in(name)
        except InvalidRequest:
            start_response("400 Bad Request", headers)
            return [_FORM]
        start_response("303 See Other", [*headers, ("Location", visit.next_path())])
        return [b""]
    start_response("200 OK", headers)
    return [_FORM]


def sign_in(authority: SessionAuthority, *, insecure: bool = False) -> SessionAuthorityMiddleware:
    """The page as an app of its own. Its cookies are the gateway's: `insecure` for
    http://localhost alone.
    """
    return SessionAuthorityMiddleware(_page, authority, Flow(cookies=Cookies(insecure=insecure)))

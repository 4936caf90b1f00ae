"""Serves the page with the public keys for the verification of assertions (RFC 7517)."""

from __future__ import annotations

from collections.abc import Callable

from session_authority.gateway.forward_auth import Reply
from session_authority.gateway.web import App, Receive, Scope, Send, send_reply

JWKS_PATH = "/.well-known/jwks.json"
# Apps may cache the page for this time. A new key is on the page before the key signs assertions.
# So an app that reads the page again after this time usually has the key before its first
# signature.
_MAX_AGE_SECONDS = 300


def jwks_app(jwks: Callable[[], bytes]) -> App:
    """Returns an ASGI app that serves a key set. At each request, the app calls `jwks` for the
    present JSON text.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["method"] not in ("GET", "HEAD"):
            await send_reply(scope, Reply(405, (("Allow", "GET, HEAD"),)), send)
            return
        headers = (
            ("Content-Type", "application/json"),
            ("Cache-Control", f"public, max-age={_MAX_AGE_SECONDS}"),
        )
        await send_reply(scope, Reply(200, headers, jwks()), send)

    return answer

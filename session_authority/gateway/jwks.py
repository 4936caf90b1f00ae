"""Serves the page with the public keys for the verification of assertions (RFC 7517)."""

from __future__ import annotations

from collections.abc import Callable

from session_authority.gateway.forward_auth import Reply
from session_authority.gateway.web import App, Receive, Scope, Send, send_reply

JWKS_PATH = "/.well-known/jwks.json"
# A key is published before it signs. An app that reads the page this often usually knows the key in
# time.
_MAX_AGE_SECONDS = 300


def jwks_app(jwks: Callable[[], bytes]) -> App:
    """Returns an app that serves the present JSON text of a key set."""

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

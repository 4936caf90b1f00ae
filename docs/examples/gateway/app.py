"""An app behind the gateway, which knows nothing of sessions. See docs/gateway.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any


def app(environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Greets the user that the gateway names."""
    user = escape(environ.get("HTTP_X_SESSION_USER", ""))
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [f"<h1>Hello {user}</h1><a href=/account/devices>My devices</a>".encode()]

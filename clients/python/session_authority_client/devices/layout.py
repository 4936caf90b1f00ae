"""Makes the parts that all screens of the page "My devices" share: the HTML head, the frame, and
the headers that forbid content from other origins.
"""

from __future__ import annotations

import base64
import hashlib

from session_authority_client._shared.responses import Response
from session_authority_client.devices.answers import NO_STORE, Header
from session_authority_client.devices.assets import ELEMENT, STYLE, asset
from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.markup import Markup, Node, element, joined
from session_authority_client.devices.settings import DevicesPage

# If the user goes back, a browser may show a page from its back/forward cache, even if
# `Cache-Control` is `no-store`. After a sign-out the page must not be shown again. So this script
# reloads a page that comes from the back/forward cache.
_LOAD_AGAIN = "onpageshow = function (event) { if (event.persisted) location.reload() }"
_HASH = base64.b64encode(hashlib.sha256(_LOAD_AGAIN.encode()).digest()).decode()
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    f" base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-{_HASH}'"
)
_SCRIPTS = " 'self'; connect-src 'self'"
_SAFE = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    NO_STORE,
)


def screen(
    page: DevicesPage,
    texts: Texts,
    title: str,
    *children: Node,
    status: int = 200,
    headers: tuple[Header, ...] = (),
) -> Response:
    """Makes the response that shows a screen."""
    script = asset(ELEMENT) if page.scripted else None
    loads = None
    if script is not None:
        loads = element(
            "script", type="module", src=script.url(page.path), integrity=script.integrity
        )
    html = element(
        "html",
        element("head", _head(page, title), element("script", _LOAD_AGAIN), loads),
        element("body", element("main", *children)),
        lang=texts.language,
        dir=texts.direction,
    )
    policy = _POLICY + (_SCRIPTS if script is not None else "")
    sent = f"<!doctype html>{html}".encode()
    described = (("Content-Length", str(len(sent))), ("Content-Security-Policy", policy))
    return Response(status, (*_SAFE, *described, *headers), sent)


def with_element(page: DevicesPage, texts: Texts, alarm: str, *children: Node) -> Node:
    """Wraps the list of devices in the custom element, if the app enables the element and this
    package includes the element's script. `children` are the HTML of the list, which the browser
    shows until the element's script runs. `alarm` is the ID of an event if a mail about this event
    linked to the page, or empty.
    """
    if not page.scripted or asset(ELEMENT) is None:
        return children
    return element(
        "session-devices",
        *children,
        src=page.path,
        language=texts.language,
        alarm=alarm or None,
        # The element's script sends a signed-out user to this URL: the page of devices, which
        # redirects the user to the sign-in page.
        sign_in=page.path,
    )


def _head(page: DevicesPage, title: str) -> Markup:
    style = asset(STYLE)
    assert style is not None  # the package includes this file
    return joined(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="robots", content="noindex"),
            element("title", title),
            element("link", rel="icon", href="data:,"),
            element("link", rel="stylesheet", href=style.url(page.path), integrity=style.integrity),
        ]
    )


def button(label: Node, *, style: str = "", **attributes: str | bool | None) -> Markup:
    """Makes a button that submits the form around it."""
    return element("button", label, class_=f"button {style}".strip(), **attributes)


def link(label: Node, url: str, *, style: str = "button", **attributes: str | None) -> Markup:
    """Makes a link. `style` is the CSS class of the link. By default, the link looks like a
    button.
    """
    return element("a", label, href=url, class_=style or None, **attributes)


def form(url: str, *children: Node, **attributes: str | None) -> Markup:
    """Makes a form that is sent by POST."""
    return element("form", *children, method="post", action=url, **attributes)


def hidden(name: str, value: str) -> Markup:
    """Makes a hidden field of a form."""
    return element("input", type="hidden", name=name, value=value)

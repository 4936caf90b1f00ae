"""A small back end that implements the devices API without the client, as an app in any language
could.

The element `<session-devices>` is tested against it. It enforces the API's rules, so that it
notices a client that breaks one. A test changes its state directly, and may make it refuse calls.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import session_authority_client

ELEMENT = (
    Path(session_authority_client.__file__).parent / "devices" / "static" / "session-devices.js"
)
MOUNT = "/devices"
# As strict as the element's description says. A string that became HTML would be a violation, too.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 1rem; background: Canvas; color: CanvasText; font-family: system-ui, sans-serif; }
main { max-width: 46rem; margin: auto; }
"""
# Records the events that the element sends to its page, and what the page's policy blocks.
WATCHER = """
window.violations = [];
window.heard = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("session-devices:change", (event) => heard.push(event.detail));
addEventListener("session-devices:signedout", () => heard.push("signedout"));
"""
GERMAN: dict[str, object] = {
    "title": "Deine Geräte",
    "this_device": "Dieses Gerät",
    "active": "Aktiv {when}",
    "sign_out": "Abmelden",
    "sign_out_device": "{device} abmelden",
    "done.signed_out": "{device} ist abgemeldet.",
    "done.others": {
        "one": "{count} anderes Gerät wurde abgemeldet.",
        "other": "{count} andere Geräte wurden abgemeldet.",
    },
}
ARABIC: dict[str, object] = {"title": "أجهزتك", "this_device": "هذا الجهاز"}
CATALOGUE = {"de": ("ltr", GERMAN), "ar": ("rtl", ARABIC), "en": ("ltr", {})}

Answer = tuple[int, dict[str, Any]]


def time_text(moment: datetime) -> str:
    """Formats a time as RFC 3339 in UTC, with seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(**units: float) -> str:
    """Formats a time in the past. The units are those of `timedelta`."""
    return time_text(datetime.now(UTC) - timedelta(**units))


def device(device_id: str, **facts: Any) -> dict[str, Any]:
    """A device as the API shows it: a signed-in desktop computer, except where `facts` differ."""
    return {
        "id": device_id,
        "current": False,
        "signed_in": True,
        "name": None,
        "kind": "desktop",
        "browser": "Chrome 140",
        "system": "Windows",
        "model": None,
        "address": "203.0.113.7",
        "place": {"city": "Berlin", "country_code": "DE"},
        "auth_methods": ["pwd"],
        "signed_in_at": ago(days=3),
        "last_active_at": ago(hours=2),
        "active_now": False,
        "ends_at": None,
        "signed_out_at": None,
        "alarm": None,
        **facts,
    }


def signed_out(device_id: str, **facts: Any) -> dict[str, Any]:
    """A device that was signed out six days ago."""
    return device(device_id, signed_in=False, signed_out_at=ago(days=6), **facts)


class DevicesBackend:
    """The state of one user, and the rules of the API.

    Attributes:
        devices: The devices of the list, this device first.
        alarms: The alarms of the last 28 days.
        secure_account_url: The app's password page.
        page_size: How many devices a page has.
        ahead: How far the server's clock is ahead of the browser's.
        requests: The calls of the API so far: method, path with query, and language.
        refusals: Refusals by the end of a path. A call of such a path is refused with this status,
            error, and seconds of Retry-After.
        attributes, inside, language: The attributes and the content of the element, and the
            language of the page.
        messages: The app's own texts.
        gate: Calls are held while it is not set.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Restores the first state, and releases held calls."""
        self.devices: list[dict[str, Any]] = []
        self.alarms: list[dict[str, Any]] = []
        self.secure_account_url: str | None = "/password"
        self.page_size = 50
        self.ahead = timedelta(0)
        self.requests: list[tuple[str, str, str]] = []
        self.refusals: dict[str, tuple[int, dict[str, Any], int]] = {}
        self.attributes = ""
        self.inside = ""
        self.messages: dict[str, object] = {}
        self.language = "en"
        self.gate.set()

    def calls(self, method: str, end: str) -> int:
        """Counts the calls of a path that ends like this."""
        return sum(
            (called, urlsplit(path).path.endswith(end)) == (method, True)
            for called, path, _ in self.requests
        )

    def page(self) -> str:
        """Returns a page of the app that contains the element."""
        return (
            f'<!doctype html><html lang="{self.language}"><head><title>Account</title>'
            '<meta name="viewport" content="width=device-width"><link rel="stylesheet"'
            ' href="/page.css"><link rel="icon" href="data:,"><script src="/watcher.js"></script>'
            '<script type="module" src="/devices/static/session-devices.js"></script></head>'
            "<body><main><h1>Account</h1>"
            f'<session-devices src="{MOUNT}" {self.attributes}>{self.inside}</session-devices>'
            "</main></body></html>"
        )

    def answer(self, method: str, target: str, body: dict[str, Any] | None) -> Answer:
        """Returns the status and the JSON that answer a call."""
        url = urlsplit(target)
        query = parse_qs(url.query)
        match method, [unquote(part) for part in url.path.split("/")[3:]]:
            case "GET", ["messages"]:
                language = query.get("language", ["en"])[0].partition("-")[0]
                direction, messages = CATALOGUE[language]
                messages = {**messages, **self.messages}
                return 200, {"language": language, "direction": direction, "messages": messages}
            case "GET", ["devices"]:
                return 200, self._list(int(query.get("after", ["0"])[0]))
            case "POST", ["devices", device_id, verb]:
                return self._change(device_id, verb, body or {})
            case "POST", ["sign-out-others"]:
                others = [one for one in self.devices if one["signed_in"] and not one["current"]]
                return 200, {"signed_out": sum(self._end(one) for one in others)}
        return refusal(404, "not_found", "There is nothing here.")

    def _list(self, start: int) -> dict[str, Any]:
        end = start + self.page_size
        return {
            "devices": self.devices[start:end],
            "next": str(end) if end < len(self.devices) else None,
            "alarms": self.alarms if start == 0 else [],
            "now": time_text(datetime.now(UTC) + self.ahead),
            "secure_account_url": self.secure_account_url,
        }

    def _change(self, device_id: str, verb: str, body: dict[str, Any]) -> Answer:
        found = [one for one in self.devices if one["id"] == device_id]
        if not found:
            return refusal(404, "unknown_device", "There is no such device.")
        if verb == "rename":
            if len(body["name"]) > 64:
                return refusal(400, "name_too_long", "A name has at most 64 characters.")
            found[0]["name"] = body["name"] or None
            return 200, {"device": found[0]}
        ended = {"signed_out": self._end(found[0])}
        if verb == "not-me":
            self.devices.remove(found[0])
            return 200, {**ended, "secure_account_url": self.secure_account_url}
        return 200, ended

    def _end(self, one: dict[str, Any]) -> int:
        was = one["signed_in"]
        if was:
            one.update(signed_in=False, active_now=False, signed_out_at=ago())
        return int(was)


def refusal(status: int, code: str, message: str, field: str | None = None) -> Answer:
    """Makes an error of the API."""
    return status, {"error": {"code": code, "message": message, "field": field}}


def _handler(backend: DevicesBackend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            files: dict[str, tuple[str, Callable[[], str]]] = {
                "/": ("text/html", backend.page),
                "/page.css": ("text/css", lambda: PAGE_STYLE),
                "/watcher.js": ("text/javascript", lambda: WATCHER),
                f"{MOUNT}/static/session-devices.js": ("text/javascript", ELEMENT.read_text),
            }
            kind, read = files.get(urlsplit(self.path).path, ("", None))
            if read is not None:
                self._send(200, f"{kind}; charset=utf-8", read())
            elif self.path.startswith(f"{MOUNT}/api/"):
                self._call("GET", None)
            else:
                self._send(200, "text/html", "<!doctype html><title>Elsewhere</title>")

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Sec-Fetch-Site") != "same-origin":
                self._json(refusal(403, "foreign_origin", "The request comes from elsewhere."))
            elif text and self.headers.get("Content-Type") != "application/json":
                self._json(refusal(415, "unsupported_type", "The body is to be JSON."))
            else:
                self._call("POST", json.loads(text or b"{}"))

        def _call(self, method: str, body: dict[str, Any] | None) -> None:
            language = self.headers.get("Accept-Language", "")
            backend.requests.append((method, self.path, language))
            backend.gate.wait(20)
            path = urlsplit(self.path).path
            refused = [value for end, value in backend.refusals.items() if path.endswith(end)]
            if refused:
                status, error, seconds = refused[0]
                self._json((status, error), seconds)
            else:
                self._json(backend.answer(method, self.path, body))

        def _json(self, answer: Answer, retry_after: int = 0) -> None:
            more = {"Retry-After": str(retry_after)} if retry_after else {}
            self._send(answer[0], "application/json", json.dumps(answer[1]), **more)

        def _send(self, status: int, kind: str, text: str, **headers: str) -> None:
            content = text.encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(content)),
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Suppresses the log of requests."""

    return Handler


@contextmanager
def serving(backend: DevicesBackend) -> Iterator[str]:
    """Serves the API and a page with the element on loopback. Yields the origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(backend))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        backend.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()

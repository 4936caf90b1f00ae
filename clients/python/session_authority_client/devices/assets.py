"""Serves the files that the page "My devices" loads: its style sheet and, if the app enables it,
the script of the custom element. The URL of a file changes with the file's contents, so that
browsers may keep the file for a year.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha384
from importlib.resources import files

from session_authority_client._shared.responses import Response

STYLE = "devices.css"
ELEMENT = "session-devices.js"
_KINDS: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
_KEPT = ("Cache-Control", "public, max-age=31536000, immutable")
_ASKED_AGAIN = ("Cache-Control", "no-cache")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that the page loads, with its contents and the hash that browsers check
    (`integrity`).
    """

    name: str
    body: bytes
    integrity: str

    @property
    def version(self) -> str:
        """The part of the file's URL that changes with the file's contents."""
        return sha384(self.body).hexdigest()[:16]

    def url(self, mount: str) -> str:
        """Returns the URL from which the page loads the file."""
        return f"{mount}/static/{self.name}?v={self.version}"


def asset(name: str) -> Asset | None:
    """Returns the file with this name, or None if the page has no file with this name."""
    # Clients choose the name, so `_read` must cache only STYLE and ELEMENT.
    return _read(name) if name in (STYLE, ELEMENT) else None


@cache
def _read(name: str) -> Asset | None:
    path = files("session_authority_client.devices") / "static" / name
    if not path.is_file():
        return None
    body = path.read_bytes()
    return Asset(name, body, f"sha384-{b64encode(sha384(body).digest()).decode()}")


def serve(found: Asset, version: str) -> Response:
    """Makes the response that contains a file. `version` is the version in the requested URL.
    Browsers may keep the file for a year only if `version` is the file's current version.
    """
    headers = (
        ("Content-Type", _KINDS[found.name.rpartition(".")[2]]),
        ("Content-Length", str(len(found.body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        _KEPT if version == found.version else _ASKED_AGAIN,
    )
    return Response(200, headers, found.body)

"""Canaries: secret texts that exist nowhere else. A test plants canaries, and looks for them in all
outputs to find leaks. `CARRIED` says which canaries may appear in which places.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from urllib.parse import quote


class Place(Enum):
    """A place where a secret can leak to."""

    LOG = "a log, or what a command prints"
    ERROR = "a gRPC error"
    EVENT = "an event"
    METRIC = "a metric"
    REDIS = "Redis"


_TOLD = frozenset({Place.EVENT, Place.REDIS})
# Texts that events and records contain by contract. A text that is not named here must not appear
# anywhere.
CARRIED: Mapping[str, frozenset[Place]] = {
    "user ID": _TOLD,
    "device ID": _TOLD,
    "address": _TOLD,
    "user agent": _TOLD,
    "app's name of the device": _TOLD,
    "app version": _TOLD,
    "user's name of the device": _TOLD,
    "reason": _TOLD,
    "changed claim": frozenset({Place.REDIS}),
    "auth method": frozenset({Place.REDIS}),  # In records of devices, for ListDevices.
    "broken record": frozenset({Place.REDIS}),  # The test itself puts it there.
}


class Canaries:
    """Makes canaries, and finds them again: unchanged, or as base64, hexadecimal digits or in a
    URL.
    """

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def plant(self, what: str, secret: str | bytes | None = None) -> str:
        """Makes a text that exists nowhere else, or records the start of an existing secret.

        Only the start is recorded, so that a secret whose end was cut off is found, too.
        """
        text = secret if secret is not None else f"cnry{secrets.token_hex(8)}"
        raw = text if isinstance(text, bytes) else text.encode()
        assert len(raw) >= 8, what
        for needle in _spellings(raw[:20]):
            self._needles[needle.lower()] = what
        return text if isinstance(text, str) else ""

    def found(self, data: bytes) -> set[str]:
        """The canaries that a text contains."""
        lower = data.lower()
        return {what for needle, what in self._needles.items() if needle in lower}

    def leaks(self, place: Place, data: bytes) -> set[str]:
        """The canaries that a text contains and must not contain."""
        return {what for what in self.found(data) if place not in CARRIED.get(what, ())}


def _spellings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield quote(secret, safe="").encode()
    for shift, start in enumerate((0, 2, 3)):  # Each offset in a group of 3 bytes.
        encoded = base64.b64encode(b"\0" * shift + secret)[start : (shift + len(secret)) * 8 // 6]
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


def note_token(canaries: Canaries, token: str) -> str:
    """Records an access token: its payload, and its signature."""
    _, payload, signature = token.split(".")
    canaries.plant("access token", signature)
    canaries.plant("access token", base64.urlsafe_b64decode(signature + "=="))
    canaries.plant("access token", payload[-20:])
    return token


def note_key(canaries: Canaries, folder: Path) -> Path:
    """Records the one key in a folder."""
    [path] = folder.glob("*.json")
    private = json.loads(path.read_text())["jwk"]["d"]
    canaries.plant("signing key", private)
    canaries.plant("signing key", base64.urlsafe_b64decode(private + "="))
    return path


def note_pem(canaries: Canaries, path: Path) -> None:
    """Records a private key in PEM."""
    for line in path.read_text().splitlines()[1:-1]:
        canaries.plant("TLS key", line)
        canaries.plant("TLS key", line[-24:])

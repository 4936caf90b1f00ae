"""Texts that can be told from all others, and where each of them may turn up."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from urllib.parse import quote


class Place(Enum):
    """Where something can leak to."""

    LOG = "a log, or what a command prints"
    ERROR = "a gRPC error"
    EVENT = "an event"
    METRIC = "a metric"
    REDIS = "Redis"


_TOLD = frozenset({Place.EVENT, Place.REDIS})
# What is in events and records by contract. What is not named here must not turn up anywhere.
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
    "auth method": frozenset({Place.REDIS}),  # of devices, whose lists tell it
    "broken record": frozenset({Place.REDIS}),  # the test itself puts it there
}


class Canaries:
    """Makes them, and finds them again: as they are, or as base64, hexadecimal digits or in a
    URL.
    """

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def plant(self, what: str, secret: str | bytes | None = None) -> str:
        """A text that is nowhere else; or takes note of a secret that there is already, by its
        start.

        Its start, so that one that was cut is found too.
        """
        text = secret if secret is not None else f"cnry{secrets.token_hex(8)}"
        raw = text if isinstance(text, bytes) else text.encode()
        assert len(raw) >= 8, what
        for needle in _spellings(raw[:20]):
            self._needles[needle.lower()] = what
        return text if isinstance(text, str) else ""

    def found(self, data: bytes) -> set[str]:
        """Which of them are in there."""
        lower = data.lower()
        return {what for needle, what in self._needles.items() if needle in lower}

    def leaks(self, place: Place, data: bytes) -> set[str]:
        """Which of them are in there and must not be."""
        return {what for what in self.found(data) if place not in CARRIED.get(what, ())}


def _spellings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield quote(secret, safe="").encode()
    for shift, start in enumerate((0, 2, 3)):  # wherever it begins in what was encoded
        encoded = base64.b64encode(b"\0" * shift + secret)[start : (shift + len(secret)) * 8 // 6]
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


def note_token(canaries: Canaries, token: str) -> str:
    """Takes note of an access token: what it says, and the signature that makes it good."""
    _, payload, signature = token.split(".")
    canaries.plant("access token", signature)
    canaries.plant("access token", base64.urlsafe_b64decode(signature + "=="))
    canaries.plant("access token", payload[-20:])
    return token


def note_key(canaries: Canaries, folder: Path) -> Path:
    """Takes note of the one key in a folder."""
    [path] = folder.glob("*.json")
    private = json.loads(path.read_text())["jwk"]["d"]
    canaries.plant("signing key", private)
    canaries.plant("signing key", base64.urlsafe_b64decode(private + "="))
    return path


def note_pem(canaries: Canaries, path: Path) -> None:
    """Takes note of a private key in PEM."""
    for line in path.read_text().splitlines()[1:-1]:
        canaries.plant("TLS key", line)
        canaries.plant("TLS key", line[-24:])

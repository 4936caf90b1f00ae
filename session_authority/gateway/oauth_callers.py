"""Identifies the programs that may introspect and revoke tokens. Each program has an ID and a
secret (RFC 6749, section 2.3.1).

Secrets are random texts, and this module knows only their hashes. An address may send MAX_FAILURES
wrong secrets in a window of FAILURE_WINDOW_SECONDS, which starts with the first wrong secret.
Further wrong secrets in the window are refused with TooManyFailures. A secret with an unknown ID
counts as a wrong secret. A caller with the right secret is never refused, because several programs
may call from one address.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

from cachetools import LRUCache

MAX_FAILURES = 10
FAILURE_WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 10_000
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class OAuthCaller:
    """A program that may introspect tokens.

    `hashes` are the SHA-256 hashes of the program's secrets. While a secret is being replaced, the
    program has two secrets.
    """

    hashes: tuple[bytes, ...]
    may_revoke: bool = False


class NotAuthenticated(Exception):
    """The caller has no valid credentials."""


class TooManyFailures(Exception):
    """The caller has no valid credentials, and the caller's address has recently sent too many
    wrong secrets.
    """

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many failures")
        self.retry_after_seconds = retry_after_seconds


class AmbiguousCaller(Exception):
    """The caller has credentials in two places, two different IDs, or credentials that can't be
    read.
    """


class OAuthCallers:
    """Identifies calling programs by their secrets."""

    def __init__(
        self, callers: Mapping[str, OAuthCaller], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._callers = dict(callers)
        self._clock = clock
        self._failures: LRUCache[str, tuple[float, int]] = LRUCache(_MAX_ADDRESSES)

    def authenticate(
        self, address: str, authorization: Sequence[str], form: Mapping[str, str]
    ) -> OAuthCaller:
        """Returns the caller according to its `Authorization: Basic` header or its form.

        `address` is the address that the caller calls from. Raises NotAuthenticated if the
        credentials are missing or wrong. If the credentials are wrong, and the address has already
        sent too many wrong secrets, raises TooManyFailures instead. Missing credentials do not
        count as a wrong secret. Raises AmbiguousCaller if there are credentials in two places, two
        different IDs, or credentials that can't be read.
        """
        name, secret = _credentials(authorization, form)
        caller = self._callers.get(name)
        presented = hashlib.sha256(secret.encode()).digest()
        # The secret is compared with all hashes of the caller. If the name is unknown, the secret
        # is compared with a dummy hash. So the response time reveals at most that a caller has
        # several secrets.
        hashes = (_NO_HASH,) if caller is None else caller.hashes
        found = [hmac.compare_digest(presented, known) for known in hashes]
        if caller is not None and any(found):
            return caller
        self._check_failures(address)
        self._count_failure(address)
        raise NotAuthenticated

    def _check_failures(self, address: str) -> None:
        """Raises TooManyFailures if the address has sent MAX_FAILURES wrong secrets in the current
        window.
        """
        began, failures = self._failures.get(address, (0.0, 0))
        left = began + FAILURE_WINDOW_SECONDS - self._clock()
        if failures >= MAX_FAILURES and left > 0:
            raise TooManyFailures(max(1, round(left)))

    def _count_failure(self, address: str) -> None:
        now = self._clock()
        began, failures = self._failures.get(address, (now, 0))
        if now - began >= FAILURE_WINDOW_SECONDS:
            began, failures = now, 0
        self._failures[address] = (began, failures + 1)


def _credentials(authorization: Sequence[str], form: Mapping[str, str]) -> tuple[str, str]:
    if "client_secret" in form:
        if authorization:
            raise AmbiguousCaller
        return form.get("client_id", ""), form["client_secret"]
    if not authorization:
        raise NotAuthenticated
    scheme, _, text = authorization[0].partition(" ")
    if len(authorization) > 1:
        raise AmbiguousCaller
    if scheme.lower() != "basic":
        raise NotAuthenticated
    try:
        name, colon, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise AmbiguousCaller from None
    if not colon or form.get("client_id", unquote_plus(name)) != unquote_plus(name):
        raise AmbiguousCaller
    return unquote_plus(name), unquote_plus(secret)

"""Remembers verified tokens, and the values kept with them. The size in bytes is limited."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import LEEWAY
from session_authority.domain.sessions import Token

# Enough for about 50,000 tokens with a few claims, or about 27,000 if each has a kept answer.
MEMORY_BYTES = 64 * 2**20

# The memory that a remembered token occupies, including its key and its entries in the dictionary
# (measured: 820). Its texts and the containers of its claims and methods are counted separately.
_REMEMBERED_BYTES = 1024
# The smallest memory that may be chosen. The largest token needs a third of it.
_LEAST_MEMORY_BYTES = 64 * 2**10
# How many expired tokens are forgotten at most for each new token. The number is more than 1, so
# that the expired tokens become fewer.
_FORGOTTEN_FOR_EACH_NEW = 2


@dataclass(frozen=True, slots=True)
class Remembered:
    """A verified token, the ID of the key that signed the token, and the value that is kept with
    the token.
    """

    token: Token
    kid: str
    size_bytes: int
    kept: object | None = None


class TokenMemory:
    """The verified tokens that were used last, by the hash of their text.

    When a token is added, up to two expired tokens are forgotten. The search for expired tokens
    begins with the token that was not used for the longest time, and ends at the first token that
    has not expired. So the memory may contain expired tokens.
    """

    def __init__(self, memory_bytes: int) -> None:
        if memory_bytes < _LEAST_MEMORY_BYTES:
            raise ValueError(f"memory_bytes must be at least {_LEAST_MEMORY_BYTES}")
        self._max_bytes = memory_bytes
        self._held_bytes = 0
        # The token that was not used for the longest time comes first.
        self._tokens: OrderedDict[bytes, Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, digest: bytes) -> Remembered | None:
        """Returns the token with this hash, or None if the token is not remembered. The token
        counts as used. It may have expired.
        """
        remembered = self._tokens.get(digest)
        if remembered is not None:
            self._tokens.move_to_end(digest)
        return remembered

    def add(self, digest: bytes, token: Token, kid: str, now: datetime) -> None:
        """Remembers a token. If the memory is full, the tokens that were not used for the longest
        time are forgotten.

        Args:
            digest: The hash of the token's text.
            token: The verified token.
            kid: The ID of the key that signed the token.
            now: The present time.
        """
        self._put(digest, Remembered(token, kid, _memory_of(token)))
        for _ in range(_FORGOTTEN_FOR_EACH_NEW):
            oldest = next(iter(self._tokens.values()), None)
            if oldest is None or now < oldest.token.expires_at + LEEWAY:
                break
            self._forget_oldest()

    def keep(self, digest: bytes, kept: object, size_bytes: int) -> None:
        """Keeps a value with a token, until the token is forgotten or another value is kept with
        the token. Nothing is kept if the token is no longer remembered, or if the token and the
        value together would occupy more than a third of the memory.
        """
        remembered = self._tokens.get(digest)
        if remembered is None:
            return
        size = _memory_of(remembered.token) + size_bytes
        if size <= self._max_bytes // 3:
            self._put(digest, replace(remembered, size_bytes=size, kept=kept))

    def clear(self) -> None:
        """Forgets all tokens."""
        self._tokens.clear()
        self._held_bytes = 0

    def _put(self, digest: bytes, remembered: Remembered) -> None:
        before = self._tokens.pop(digest, None)
        self._held_bytes += remembered.size_bytes - (0 if before is None else before.size_bytes)
        self._tokens[digest] = remembered
        while self._held_bytes > self._max_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, oldest = self._tokens.popitem(last=False)
        self._held_bytes -= oldest.size_bytes


def _memory_of(token: Token) -> int:
    """Returns the largest number of bytes that a remembered token occupies in memory."""
    texts = (token.user_id, *token.auth_methods, *token.claims, *token.claims.values())
    holders = sys.getsizeof(token.auth_methods) + sys.getsizeof(dict(token.claims))
    return _REMEMBERED_BYTES + holders + sum(map(sys.getsizeof, texts))

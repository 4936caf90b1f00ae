"""Caches verified tokens, and values that are stored with the tokens. The size of the cache is
limited.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import LEEWAY
from session_authority.domain.sessions import Token

# The default size of the cache. The default size is enough for about 50,000 tokens with a few
# claims, or for about 27,000 tokens if an answer is stored with each token.
MEMORY_BYTES = 64 * 2**20

# How many bytes are counted for a cached token, including its hash and its entry in the dictionary
# (measured: 820). The strings of the token are counted separately, and so are the containers of its
# claims and authentication methods.
_REMEMBERED_BYTES = 1024
# The smallest allowed size of the cache. The largest token needs a third of the smallest allowed
# size.
_LEAST_MEMORY_BYTES = 64 * 2**10
# How many expired tokens are removed at most when a token is added. This number is more than 1, so
# that the number of expired tokens falls.
_FORGOTTEN_FOR_EACH_NEW = 2


@dataclass(frozen=True, slots=True)
class Remembered:
    """An entry of the cache: a verified token, the ID of the key that signed the token, the size of
    the entry, and the value that is stored with the token (None: no value).
    """

    token: Token
    kid: str
    size_bytes: int
    kept: object | None = None


class TokenMemory:
    """A cache of the verified tokens that were used last, by the hash of their text.

    When a token is added, up to two expired tokens are removed. The search for expired tokens
    begins with the token that was not used for the longest time, and ends at the first token that
    has not expired. So the cache may contain expired tokens.
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
        """Returns the entry of the token with this hash, or None if the token is not in the cache.
        The token counts as used now. The token may have expired.
        """
        remembered = self._tokens.get(digest)
        if remembered is not None:
            self._tokens.move_to_end(digest)
        return remembered

    def add(self, digest: bytes, token: Token, kid: str, now: datetime) -> None:
        """Adds a token to the cache. If the cache is full, the tokens that were not used for the
        longest time are removed.

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
        """Stores a value with a token, until the token is removed from the cache or another value
        is stored with the token. Nothing is stored if the token is no longer in the cache, or if
        the token and the value together would need more than a third of the cache.
        """
        remembered = self._tokens.get(digest)
        if remembered is None:
            return
        size = _memory_of(remembered.token) + size_bytes
        if size <= self._max_bytes // 3:
            self._put(digest, replace(remembered, size_bytes=size, kept=kept))

    def clear(self) -> None:
        """Removes all tokens from the cache."""
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
    """Returns the largest number of bytes that a token occupies in the cache, without a stored
    value.
    """
    texts = (token.user_id, *token.auth_methods, *token.claims, *token.claims.values())
    holders = sys.getsizeof(token.auth_methods) + sys.getsizeof(dict(token.claims))
    return _REMEMBERED_BYTES + holders + sum(map(sys.getsizeof, texts))

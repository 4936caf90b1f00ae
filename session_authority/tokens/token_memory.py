"""The memory of verified tokens, which is bounded in bytes together with what is kept of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from cachetools import LRUCache

from session_authority.domain.sessions import Token

# About 50,000 tokens of a few claims; with a kept answer each, about 30,000.
MEMORY_BYTES = 64 * 2**20

# A remembered token without its claims and the names of its methods, its key and places in the
# memory included (measured: 820).
_REMEMBERED_BYTES = 1024
# The largest token remembered takes a third of this.
_LEAST_MEMORY_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Remembered:
    """A verified token, the name of the key that vouches for it, and what is kept of it."""

    token: Token
    kid: str
    token_bytes: int
    kept: object | None = None
    kept_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """The bytes that it takes, at most."""
        return self.token_bytes + self.kept_bytes


class TokenMemory:
    """The verified tokens that were used last, by the hash of their text."""

    def __init__(self, memory_bytes: int) -> None:
        if memory_bytes < _LEAST_MEMORY_BYTES:
            raise ValueError(f"memory_bytes must be at least {_LEAST_MEMORY_BYTES}")
        self._tokens: LRUCache[bytes, Remembered] = LRUCache(
            memory_bytes, getsizeof=lambda remembered: remembered.size_bytes
        )
        self.get = self._tokens.get
        self.clear = self._tokens.clear

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, digest: bytes, token: Token, kid: str) -> None:
        """Remembers a token, in place of those not used for longest."""
        self._tokens[digest] = Remembered(token, kid, _memory_of(token))

    def keep(self, digest: bytes, kept: object, size_bytes: int) -> None:
        """Keeps something of a token until the token is forgotten, or something else is kept. A
        token that is forgotten, and what would take over a third of the memory, is left out.
        """
        known = self._tokens.get(digest)
        if known is not None and known.token_bytes + size_bytes <= self._tokens.maxsize // 3:
            kept_now = Remembered(known.token, known.kid, known.token_bytes, kept, size_bytes)
            self._tokens[digest] = kept_now


def _memory_of(token: Token) -> int:
    """The bytes that remembering the token takes, at most."""
    texts = (token.user_id, *token.auth_methods, *token.claims, *token.claims.values())
    holders = sys.getsizeof(token.auth_methods) + sys.getsizeof(dict(token.claims))
    return _REMEMBERED_BYTES + holders + sum(map(sys.getsizeof, texts))

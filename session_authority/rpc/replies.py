"""What answers a call where its message alone is not all. Needs nothing else of the service: the
standing acceptor is tried on other versions of gRPC, too.
"""

from __future__ import annotations

from typing import NamedTuple

Metadata = tuple[tuple[str, str | bytes], ...]


class Reply(NamedTuple):
    """The answer of a call, serialized, with what follows it."""

    message: bytes
    trailing_metadata: Metadata

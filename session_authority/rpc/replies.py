"""A reply that is more than its message. This module imports nothing else of the service, as the
standing acceptor is also tested on other versions of gRPC.
"""

from __future__ import annotations

from typing import NamedTuple

Metadata = tuple[tuple[str, str | bytes], ...]


class Reply(NamedTuple):
    """The answer of a call, serialized, with what follows it."""

    message: bytes
    trailing_metadata: Metadata

"""Defines a reply with trailing metadata. The module `acceptor` imports this module, and is also
tested with versions of gRPC that the rest of the service may not support. So this module imports no
other module of the service.
"""

from __future__ import annotations

from typing import NamedTuple

Metadata = tuple[tuple[str, str | bytes], ...]


class Reply(NamedTuple):
    """The serialized answer of a call, with its trailing metadata."""

    message: bytes
    trailing_metadata: Metadata

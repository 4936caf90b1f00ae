"""Defines a reply with trailing metadata. This module imports no other module of the service,
because the acceptor is also tested with other versions of gRPC.
"""

from __future__ import annotations

from typing import NamedTuple

Metadata = tuple[tuple[str, str | bytes], ...]


class Reply(NamedTuple):
    """The serialized answer of a call, with its trailing metadata."""

    message: bytes
    trailing_metadata: Metadata

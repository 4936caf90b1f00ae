"""Owns what is told of sessions: the feed that watchers follow, its cursors, and how an event looks
in the contract.

It refuses to know who is told, and over what: the gRPC face and the relay stand on it.
"""

from session_authority.events.feed import Feed

__all__ = ["Feed"]

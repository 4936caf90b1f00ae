"""Owns the delivery of events: the feed that watchers follow, its cursors, and the form of events
in the contract.

It refuses to know who gets the events, and by which protocol: the gRPC interface and the relay
build on this room.
"""

from session_authority.events.feed import Feed

__all__ = ["Feed"]

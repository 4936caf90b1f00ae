"""Delivers events: the feed that watchers follow, its cursors, and the form of events in the
contract.

This room does not know who gets the events, or by which protocol. The gRPC interface and the relay
build on it.
"""

from session_authority.events.feed import Feed

__all__ = ["Feed"]

"""Owns the feed, which brings events from the log to watchers. Also owns the cursors of the feed,
and the conversion of events to messages of the contract.

This room does not know which protocol carries the events. The gRPC interface uses the feed, and the
relay uses the conversion.
"""

from session_authority.events.feed import Feed

__all__ = ["Feed"]

"""Delivers events to HTTP endpoints as signed webhooks. Each event is delivered at least once, or
becomes a dead letter.

This package keeps no state of its own: the store records which events were delivered. The gRPC
service does not need the relay, and the relay does not need the gRPC service.
"""

from session_authority.relay.endpoints import Endpoint, EndpointsError, new_secret
from session_authority.relay.endpoints_file import load_endpoints
from session_authority.relay.sharing import Relay
from session_authority.relay.webhooks import Delivered, Refused, Sender, cloud_event

__all__ = [
    "Delivered",
    "Endpoint",
    "EndpointsError",
    "Refused",
    "Relay",
    "Sender",
    "cloud_event",
    "load_endpoints",
    "new_secret",
]

"""Computes how many connections a port may have. Each connection takes a file descriptor of this
process. Descriptors must be left for Redis, metrics and health checks, and for files such as keys
and certificates.
"""

from __future__ import annotations

from session_authority.processes.server import HEALTH_CONNECTIONS
from session_authority.runtime.metrics_server import MAX_CONNECTIONS as METRICS_CONNECTIONS
from session_authority.runtime.settings import Settings

# A port that may have fewer connections than this is useless.
MIN_CONNECTIONS = 16
# This many descriptors are reserved for the process itself, and for the files that it reads.
_OWN_DESCRIPTORS = 128
# While a connection to Redis is being replaced, the old and the new connection each take a
# descriptor.
_PER_REDIS_CONNECTION = 2


def connections_for(limit: int, settings: Settings) -> int:
    """Returns how many connections each of the ports LISTEN and BEARER_LISTEN may have if the
    process may have `limit` descriptors. The result is never more than the setting MAX_CONNECTIONS.

    The result may be less than MIN_CONNECTIONS, which is too few for a port.
    """
    kept = _OWN_DESCRIPTORS + _PER_REDIS_CONNECTION * settings.redis_connections
    if settings.health_listen is not None:
        kept += HEALTH_CONNECTIONS
    if settings.metrics_listen is not None:
        kept += METRICS_CONNECTIONS
    ports = 1 if settings.bearer_listen is None else 2
    return min(settings.max_connections, max(limit - kept, 0) // ports)

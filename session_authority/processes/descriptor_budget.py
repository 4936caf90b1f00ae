"""Computes how many connections a port may have. Descriptors must be left for everything else:
Redis, keys, the policy, certificates, metrics, and health checks.
"""

from __future__ import annotations

from session_authority.processes.server import HEALTH_CONNECTIONS
from session_authority.runtime.metrics_server import MAX_CONNECTIONS as METRICS_CONNECTIONS
from session_authority.runtime.settings import Settings

# A port with fewer connections is useless.
MIN_CONNECTIONS = 16
# The descriptors that the process itself holds, and the descriptors for the files that it reads.
_OWN_DESCRIPTORS = 128
# A connection to Redis that is being replaced counts in addition to its replacement.
_PER_REDIS_CONNECTION = 2


def connections_for(limit: int, settings: Settings) -> int:
    """Returns how many connections LISTEN and BEARER_LISTEN may each have with this number of
    descriptors. The result is never more than the setting MAX_CONNECTIONS.

    A result below MIN_CONNECTIONS is too small for a port.
    """
    kept = _OWN_DESCRIPTORS + _PER_REDIS_CONNECTION * settings.redis_connections
    if settings.health_listen is not None:
        kept += HEALTH_CONNECTIONS
    if settings.metrics_listen is not None:
        kept += METRICS_CONNECTIONS
    ports = 1 if settings.bearer_listen is None else 2
    return min(settings.max_connections, max(limit - kept, 0) // ports)

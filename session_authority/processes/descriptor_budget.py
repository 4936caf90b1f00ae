"""How many connections a port may have, so that descriptors are left for everything else: Redis,
keys, the policy, certificates, metrics.
"""

from __future__ import annotations

from session_authority.processes.server import HEALTH_CONNECTIONS
from session_authority.runtime.metrics_server import MAX_CONNECTIONS as METRICS_CONNECTIONS
from session_authority.runtime.settings import Settings

# A port with fewer connections is useless.
MIN_CONNECTIONS = 16
# The descriptors that the process itself holds, and those that it opens to read files.
_OWN_DESCRIPTORS = 128
# Connections to Redis that are being replaced count in addition to their replacements.
_PER_REDIS_CONNECTION = 2


def connections_for(limit: int, settings: Settings) -> int:
    """How many connections LISTEN and BEARER_LISTEN may have each, given the number of descriptors.
    The result may be less than MIN_CONNECTIONS, which is too few.
    """
    kept = _OWN_DESCRIPTORS + _PER_REDIS_CONNECTION * settings.redis_connections
    if settings.health_listen is not None:
        kept += HEALTH_CONNECTIONS
    if settings.metrics_listen is not None:
        kept += METRICS_CONNECTIONS
    ports = 1 if settings.bearer_listen is None else 2
    return min(settings.max_connections, max(limit - kept, 0) // ports)

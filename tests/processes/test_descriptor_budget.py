"""How many connections a port may have, for a number of descriptors: as a table."""

from __future__ import annotations

from typing import Any

import pytest

from session_authority.processes.descriptor_budget import connections_for
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Settings

SOMEWHERE = Listen("127.0.0.1", 1)
ALL_PORTS = {
    "bearer_listen": SOMEWHERE,
    "health_listen": SOMEWHERE,
    "metrics_listen": SOMEWHERE,
}


@pytest.mark.parametrize(
    ("limit", "given", "connections"),
    [
        (1 << 20, {}, 2000),
        (1 << 20, ALL_PORTS, 2000),
        (1 << 20, {"max_connections": 50}, 50),
        (1024, {}, 1024 - 256),
        (1024, {"redis_connections": 100}, 1024 - 328),
        (1024, ALL_PORTS, (1024 - 256 - 64 - 16) // 2),
        (4096, ALL_PORTS, (4096 - 256 - 64 - 16) // 2),
        (256, {}, 0),
        (64, ALL_PORTS, 0),
    ],
)
def test_descriptors_are_left_for_everything_else(
    limit: int, given: dict[str, Any], connections: int
):
    settings = Settings.model_construct(**given)
    assert connections_for(limit, settings) == connections

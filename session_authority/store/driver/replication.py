"""Waits until enough replicas have a write, with the command `WAIT`.

`WAIT` counts the replicas that have the last write of its own connection. So the write and the wait
are sent together, on one connection. On another connection, a new primary that never saw the write
could answer the wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import unavailable


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a write, and how long the answer to the write waits for them."""

    count: int = 0
    timeout: timedelta = timedelta(milliseconds=500)


NO_REPLICAS = Replicas()


async def run_and_wait(
    client: RedisClient, key: str, command: Sequence[str | bytes | int], replicas: Replicas
) -> tuple[Any, bool]:
    """Carries out a command that writes to the slot of `key`. Returns the reply, and True if enough
    replicas have the write. If the server refuses to wait, the second value is False.

    Args:
        client: The client of Redis.
        key: A key of the slot.
        command: The command.
        replicas: How many replicas must have the write, and how long the wait may last.

    Raises the error of the command, and the errors of the driver.
    """
    milliseconds = max(1, replicas.timeout // timedelta(milliseconds=1))
    wait = ("WAIT", replicas.count, milliseconds)
    if isinstance(client, Cluster):
        reply, confirmed = await client.run_and_wait(key, command, wait)
    else:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(*command)
        pipeline.execute_command(*wait)
        reply, confirmed = await pipeline.execute(raise_on_error=False)
    if isinstance(reply, Exception):
        raise reply
    if isinstance(confirmed, Exception):
        unavailable(confirmed)  # only for the log, as the write is done and no error may be raised
        return reply, False
    return reply, confirmed >= replicas.count

"""Waits until enough replicas have received a write, with the Redis command `WAIT`.

`WAIT` counts the replicas that have the last write of the connection on which `WAIT` is sent. So
the write and `WAIT` are sent together, on one connection. If `WAIT` were sent on a second
connection, a new primary that never received the write could answer `WAIT`.
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
    """The setting for replication: `count` replicas must have a write, and the service waits for
    these replicas at most for `timeout`.
    """

    count: int = 0
    timeout: timedelta = timedelta(milliseconds=500)


NO_REPLICAS = Replicas()


async def run_and_wait(
    client: RedisClient, key: str, command: Sequence[str | bytes | int], replicas: Replicas
) -> tuple[Any, bool]:
    """Runs a command that writes to the slot of `key`, and waits for replicas. Returns the reply to
    the command, and True if enough replicas have the write. If the server refuses `WAIT`, the
    second value is False.

    Args:
        client: The client of Redis.
        key: A key in the slot to which the command writes.
        command: The command that writes.
        replicas: How many replicas must have the write, and how long the wait may last.

    Raises the server's error if the server refuses the command, and an error of the driver if no
    reply comes.
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
        unavailable(confirmed)  # logs the error, which is not raised because the write succeeded
        return reply, False
    return reply, confirmed >= replicas.count

"""Receives the messages of a Redis channel without end, and subscribes again whenever the
connection fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from random import choice

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.errors import unavailable

# If no data arrives on a connection for this long, the client sends a ping.
_QUIET_SECONDS = 5.0
_RETRY_SECONDS = 0.5


async def messages_on(
    client: Redis | Cluster, channel: str, failed: Callable[[Exception], object] = unavailable
) -> AsyncGenerator[bytes | None]:
    """Yields the messages of a channel, without end. Also yields None when a subscription begins,
    because messages before the subscription may have been missed. The first subscription yields
    None, too.

    When a subscription fails or its connection is lost, `failed` is called with the error, for
    example to log it. Between two subscriptions, nothing is yielded, so the receiver must poll for
    changes.
    """
    while True:
        try:
            pubsub = await _subscribe(client, channel)
            try:
                async with aclosing(_heard(pubsub)) as heard:
                    async for message in heard:
                        yield message
            finally:
                await pubsub.aclose()
        except Exception as error:  # noqa: BLE001
            # Any error is caught, because the driver's cluster client raises more than RedisError.
            failed(error)
        await asyncio.sleep(_RETRY_SECONDS)


async def _subscribe(client: Redis | Cluster, channel: str) -> PubSub:
    if isinstance(client, Cluster):
        await client.initialize()
        # In a cluster, a message that is published on one node reaches the subscribers of all
        # nodes, so any primary can be used. The primary is chosen at random, because the primary of
        # the previous subscription may be unavailable. The random choice does not have to be
        # secure.
        pubsub: PubSub = client.pubsub(node=choice(client.get_primaries()))  # noqa: S311
    else:
        pubsub = client.pubsub()
    try:
        await pubsub.subscribe(channel)
    except BaseException:
        await pubsub.aclose()
        raise
    return pubsub


async def _heard(pubsub: PubSub) -> AsyncGenerator[bytes | None]:
    """Yields None when the subscription has begun, and then yields the messages.

    Raises TimeoutError if no data arrives within five seconds after a ping.
    """
    asked = False
    while True:
        message = await pubsub.get_message(timeout=_QUIET_SECONDS)
        if message is None:
            if asked:
                raise TimeoutError
            await pubsub.ping()
            asked = True
            continue
        asked = False
        if message["type"] == "subscribe":
            yield None
        elif message["type"] == "message":
            yield bytes(message["data"])

"""Listens to a channel for ever, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from random import choice

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.errors import unavailable

# A connection that is silent for so long gets a ping.
_QUIET_SECONDS = 5.0
_RETRY_SECONDS = 0.5


async def messages_on(
    client: Redis | Cluster, channel: str, failed: Callable[[Exception], object] = unavailable
) -> AsyncGenerator[bytes | None]:
    """Yields the messages of a channel, and None whenever messages may have been missed. Never
    ends.

    `failed` is called with the reason when the subscription is interrupted, for the log. Receivers
    poll meanwhile.
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
            # The driver's cluster client raises other errors than RedisError, too.
            failed(error)
        await asyncio.sleep(_RETRY_SECONDS)


async def _subscribe(client: Redis | Cluster, channel: str) -> PubSub:
    if isinstance(client, Cluster):
        await client.initialize()
        # Every node passes on the messages that are published on any node. The node is chosen at
        # random, as the node before may be away. The choice is no secret.
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
    """Yields None once the subscription has begun, and then the messages.

    Raises TimeoutError if the connection stays silent after a ping.
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

"""Feeds on real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import redis

from session_authority.store import RedisClient
from tests.events.harness import Scene
from tests.support.backends import Backend
from tests.support.waiting import wait_for

SceneOn = Callable[..., Scene]


@pytest.fixture(params=["cluster", "valkey"])
def store(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    """The bundled Valkey, alone and as a cluster."""
    backend = backends(request.param)
    if request.param == "cluster":
        with ExitStack() as stack:
            ports = [int(place.rpartition(":")[2]) for place in backend.admin_url.split(",")]
            nodes = [stack.enter_context(redis.Redis(port=port)) for port in ports]
            wait_for(lambda: _hear_each_other(nodes), "the nodes to pass wake-ups on")
    return backend


def _hear_each_other(nodes: Sequence[redis.Redis]) -> bool:
    """Returns whether every node receives the messages that any node publishes. A new cluster
    already reports that all nodes are connected when some messages still get lost.
    """
    for node in nodes:
        with node.pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe("anybody?")
            listener.get_message(timeout=1)
            for other in nodes:
                other.publish("anybody?", "")
            if any(listener.get_message(timeout=0.2) is None for _ in nodes):
                return False
    return True


@pytest.fixture
async def scene_on(prefix: str) -> AsyncIterator[SceneOn]:
    """Makes scenes on any client."""
    scenes: list[Scene] = []

    def make(client: RedisClient, **intervals: timedelta) -> Scene:
        scenes.append(Scene(client, prefix, **intervals))
        return scenes[-1]

    yield make
    for scene in scenes:
        await scene.close()


@pytest.fixture
def scene_with(store: Backend, scene_on: SceneOn) -> SceneOn:
    """Makes scenes with the given intervals, and the usual values for the others."""

    def make(**intervals: Any) -> Scene:
        return scene_on(store.connect(), **intervals)

    return make


@pytest.fixture
def scene(scene_with: SceneOn) -> Scene:
    """A feed that polls often."""
    return scene_with()


@pytest.fixture
def hang_up(valkey_backend: Backend) -> Callable[[], None]:
    """Cuts all connections of clients to the bundled Valkey."""

    def cut() -> None:
        with redis.Redis.from_url(valkey_backend.admin_url) as own:
            for kind in ("pubsub", "normal"):
                own.client_kill_filter(_type=kind, skipme=True)

    return cut

"""What scenarios of the near cache share: they warm the cache, and check its one promise.

No validation that starts later than the bound after a revocation's answer is answered "active". The
runner's own clock measures. A command reaches the client later than it was sent, so whatever the
machine does, the runner never blames a client that kept the promise.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from client_tests.service_harness import Service
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import item
from tests.polyglot.testee import Testee
from tests.support.waiting import eventually

# The client's own bound, and a short one: the scripted service sends a proof every 0.05 s.
BOUND_SECONDS, SHORT_SECONDS = 15.0, 0.5
SHORT = {"max_silence_ms": 1000 * SHORT_SECONDS}


class Cached:
    """A client with a cache, connected to a scripted service."""

    def __init__(self, testee: Testee, service: Service) -> None:
        self.testee = testee
        self.service = service

    async def ask(self, user: str, **fields: Any) -> Any:
        """Validates a user's token."""
        return await self.testee.do("validate", client="a", **{**item(user), **fields})

    async def stats(self) -> Any:
        """The cache's own counts."""
        return await self.testee.do("stats", client="a")

    async def missed(self, times: int) -> bool:
        """Returns True if the cache has counted this number of misses."""
        found: int = (await self.stats())["misses"]
        return found == times

    def asked(self, user: str) -> int:
        """How many calls the service received for a user."""
        return [request.access_token for request in self.service.requests].count(f"token of {user}")

    async def is_hit(self, user: str) -> bool:
        """Validates, and returns True if the cache answered that the user is signed in."""
        before = self.asked(user)
        answer = await self.ask(user)
        here = self.asked(user) == before
        assert answer["active"] or not here, "a refusal is never the cache's"
        return here

    async def warm(self, *users: str) -> None:
        """Waits until the cache answers for each of the users."""
        for user in users:
            await eventually(partial(self.is_hit, user), f"a hit for {user}")

    async def keeps_nothing(self, user: str) -> bool:
        """Returns True if every validation reaches the service."""
        return [await self.is_hit(user) for _ in range(3)] == [False] * 3

    async def told(self, entries: int) -> None:
        """Waits until events have dropped all but this many answers."""

        async def dropped() -> bool:
            found: int = (await self.stats())["entries"]
            return found == entries

        await eventually(dropped, f"{entries} entries")

    async def denied_within(self, user: str, revoked_at: float, bound_seconds: float) -> None:
        """Validates until the user is denied. Fails for an "active" beyond the bound."""
        while True:
            sent = time.monotonic()
            if not (await self.ask(user))["active"]:
                return
            late = sent - revoked_at - bound_seconds
            assert late <= 0, f"active {late:.3f} s beyond the bound"


async def cached(testee: Testee, connect: Connect, service: Service, **cache: Any) -> Cached:
    """A client with a live cache that has answered for `bob`."""
    await connect(service.address, cache=cache)
    made = Cached(testee, service)
    await made.warm("bob")
    return made

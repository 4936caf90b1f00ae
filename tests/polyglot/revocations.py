"""Revokes users whom several clients with near caches validate again and again, and records what
each client said: for a test, which judges it, and for a benchmark, which prints how long it took.

Moments are Unix milliseconds of this machine, as testees tell them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from session_authority_client import AsyncSessionAuthority
from tests.polyglot.testee import PATIENCE, Testee
from tests.support.waiting import eventually

# What CACHE.md promises: no "active" for a validation that starts later than this after the
# revocation has answered.
BOUND_MS = 15_000.0
_INTERVAL_MS = 2.0
_CLIENT = "cached"


@dataclass(frozen=True)
class Denied:
    """A client was told that a user is signed out."""

    testee: str
    revoked_at: float
    last_active_at: float
    denied_at: float
    asked: int

    @property
    def stale_ms(self) -> float:
        """How long after the revocation's answer a validation began that was still answered
        "active"; zero or less if there was none.
        """
        return self.last_active_at - self.revoked_at

    @property
    def lag_ms(self) -> float:
        """How long after the revocation's answer the client said no."""
        return self.denied_at - self.revoked_at


@dataclass(frozen=True)
class SignedIn:
    """A user, and what the user's requests bring."""

    user: str
    shown: Mapping[str, str]


class Watchers:
    """Clients of several testees, each with a cache, and a client that signs in and revokes."""

    def __init__(self, testees: Sequence[Testee], authority: AsyncSessionAuthority) -> None:
        self.testees = testees
        self._authority = authority

    async def sign_in(self) -> SignedIn:
        """A user who is signed in, and whom each cache knows."""
        user = f"u-{uuid4()}"
        issued = await self._authority.issue_device(user)
        shown = {"access_token": issued.access_token, "device_id": issued.device.device_id}
        return SignedIn(user, shown)

    async def warm(self, user: SignedIn) -> None:
        """Waits until each cache answers for a user."""
        for testee in self.testees:
            before = await self._hits_of(testee)

            async def answers(testee: Testee = testee, before: int = before) -> bool:
                answer = await testee.do("validate", client=_CLIENT, **user.shown)
                assert answer["active"], answer
                return await self._hits_of(testee) > before

            await eventually(answers, f"the cache of {testee.name} to answer", PATIENCE)

    async def hits(self) -> list[int]:
        """How often each cache has answered."""
        return [await self._hits_of(testee) for testee in self.testees]

    async def _hits_of(self, testee: Testee) -> int:
        stats = await testee.do("stats", client=_CLIENT)
        return int(stats["hits"])

    async def revoke(
        self,
        user: SignedIn,
        *,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> list[Denied]:
        """Revokes a user while all clients validate. Returns once all of them have denied.

        `before` and `after` are called right before and after the revocation.
        """
        polls = [
            testee.begin("poll", client=_CLIENT, interval_ms=_INTERVAL_MS, **user.shown)
            for testee in self.testees
        ]
        for poll in polls:
            await poll.note()
        before()
        assert await self._authority.revoke_all(user.user) == 1
        revoked_at = time.time_ns() / 1e6
        after()
        replies = await asyncio.gather(*(poll.reply() for poll in polls))
        return [
            Denied(
                testee.name,
                revoked_at,
                reply["last_active_started"],
                reply["denied_ended"],
                reply["asked"],
            )
            for testee, reply in zip(self.testees, replies, strict=True)
        ]


@asynccontextmanager
async def watchers(
    testees: Sequence[Testee], service: str, clients_at: str
) -> AsyncIterator[Watchers]:
    """The clients, with caches that are live. `clients_at` may be a relay to the service."""
    timeout = timedelta(seconds=PATIENCE)
    async with AsyncSessionAuthority(service, timeout=timeout) as authority:
        made = Watchers(testees, authority)
        for testee in testees:
            await testee.do(
                "connect", client=_CLIENT, target=clients_at, timeout_ms=PATIENCE * 500, cache={}
            )
            testee.clients.append(_CLIENT)
        await made.warm(await made.sign_in())
        yield made


def beyond_the_bound(denials: Sequence[Denied]) -> list[Denied]:
    """The denials before which a client said "active" for too long."""
    return [denied for denied in denials if denied.stale_ms > BOUND_MS]

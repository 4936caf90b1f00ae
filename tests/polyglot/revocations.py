"""Revokes users whom several clients with near caches validate again and again, and records each
client's answers: for a test, which checks them, and for a benchmark, which prints the delays.

Moments are Unix milliseconds of this machine, as testees report them.
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

# The promise of CACHE.md: no "active" for a validation that starts later than this after the answer
# to the revocation.
BOUND_MS = 15_000.0
_INTERVAL_MS = 2.0
_CLIENT = "cached"


@dataclass(frozen=True)
class Denied:
    """A client's denial of a user who is signed out."""

    testee: str
    revoked_at: float
    last_active_at: float
    denied_at: float
    asked: int

    @property
    def stale_ms(self) -> float:
        """How long after the revocation's answer a validation started that was still answered
        "active". Zero or less if there was none.
        """
        return self.last_active_at - self.revoked_at

    @property
    def lag_ms(self) -> float:
        """How long after the revocation's answer the client denied."""
        return self.denied_at - self.revoked_at


@dataclass(frozen=True)
class SignedIn:
    """A user, with the token and the device ID of the user's requests."""

    user: str
    shown: Mapping[str, str]


class Watchers:
    """Clients of several testees, each with a cache, and a client that signs in and revokes."""

    def __init__(self, testees: Sequence[Testee], authority: AsyncSessionAuthority) -> None:
        self.testees = testees
        self._authority = authority

    async def sign_in(self) -> SignedIn:
        """Signs a user in. `warm` then waits for the caches."""
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
        """How many answers each cache has given."""
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
        """Revokes a user while all clients validate. Returns once all clients have denied.

        `before` and `after` run right before and after the revocation.
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
    """The clients, with live caches. `clients_at` may be the address of a relay to the service."""
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
    """The denials of the clients that answered "active" beyond the bound."""
    return [denied for denied in denials if denied.stale_ms > BOUND_MS]

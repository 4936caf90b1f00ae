"""Finds out which commands for sign-ins and revocations the Redis user may not run, before a
sign-in or a revocation fails for this reason.

The check leaves all data unchanged. The results of the check are names of commands that the service
uses, and contain no text from the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from session_authority.domain.errors import StoreUnavailable
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import NO_PERMISSION, ResponseError, code_of
from session_authority.store.driver.writes import Script, Writes
from session_authority.store.key_names import KeyNames


class Rehearsal:
    """Checks on every primary which commands the Redis user may run."""

    def __init__(self, client: RedisClient, keys: KeyNames, writes: Writes) -> None:
        self._client = client
        self._keys = keys
        self._writes = writes
        self._script = Script("rehearse")

    async def missing(self) -> list[str]:
        """Returns the commands that sign-ins and revocations need but the Redis user may not run,
        in alphabetical order. A primary that does not answer is left out. Raises StoreUnavailable
        if no primary answers.
        """
        asked = [self._writes.run(partial(self._ask, key)) for key in await self._probes()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: set[str] = set()
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, StoreUnavailable):
                raise answer
            if not isinstance(answer, BaseException):
                found.update(answer)
        if all(isinstance(answer, StoreUnavailable) for answer in answers):
            raise StoreUnavailable
        return sorted(found)

    async def _ask(self, key: str) -> Sequence[str]:
        try:
            names = await self._script.run(self._client, [key], [self._keys.wake_channel])
        except ResponseError as error:
            if code_of(error) != NO_PERMISSION:
                raise
            return ["EVAL" if "'eval'" in str(error) else "EVALSHA"]
        return [name.decode() for name in names]

    async def _probes(self) -> Sequence[str]:
        """Returns the name of a key without data for each primary."""
        if not isinstance(self._client, Cluster):
            return [self._keys.probe]
        await self._writes.run(self._client.initialize)
        return list(self._client.one_for_each_primary(self._keys.probes()).values())

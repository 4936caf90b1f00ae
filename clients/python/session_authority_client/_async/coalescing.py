"""Validates the tokens for which the near cache has no answer. Callers that validate the same token
at the same time share one request.

A caller that joins a request gets an answer that was true when the request was sent. So a caller
joins only if the watch has brought no event of any user since then, and only while the cache is
live. If a request was sent before a revocation, no caller joins the request after the watch has
brought the event of the revocation. A caller that joins between the revocation and its event gets
an old answer. The cache can give such an old answer, too.
"""

from __future__ import annotations

from functools import partial
from time import monotonic

from session_authority_client._async.batching import AsyncBatchQueue
from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client._shared import convert
from session_authority_client._shared.coalescing import flight_key, had_too_little_time
from session_authority_client._shared.failures import copy_of
from session_authority_client.cache import NearCache, Ticket
from session_authority_client.types import Validation
from session_authority_client.wire import session_authority_pb2 as pb


class AsyncCoalescer:
    """Validates the tokens for which the near cache has no answer."""

    def __init__(self, cache: NearCache, queue: AsyncBatchQueue) -> None:
        self._cache = cache
        self._queue = queue
        self._flights: AsyncSingleFlight[Validation] = AsyncSingleFlight(late=True)

    async def validate(self, request: pb.ValidateSessionRequest, seconds: float) -> Validation:
        """Validates one token. Returns the service's answer within `seconds`."""
        deadline = monotonic() + seconds
        while True:
            ticket = self._cache.ticket()
            if ticket is None:
                return await self._ask(request, deadline)
            flight, first = await self._flights.join(
                flight_key(request, ticket), partial(self._ask_and_store, ticket, request, deadline)
            )
            error = await flight.exception(deadline - monotonic())
            if error is None:
                return await flight.result()
            # The shared request had the timeout of its first caller. A caller with more time sends
            # another request.
            if first or not had_too_little_time(error) or monotonic() >= deadline:
                raise copy_of(error)

    async def _ask(self, request: pb.ValidateSessionRequest, deadline: float) -> Validation:
        return convert.validation(await self._queue.validate(request, deadline - monotonic()))

    async def _ask_and_store(
        self, ticket: Ticket, request: pb.ValidateSessionRequest, deadline: float
    ) -> Validation:
        answer = await self._ask(request, deadline)
        self._cache.store(ticket, request.access_token, request.device_id, answer)
        return answer

    async def close(self) -> None:
        """Waits until the calls of all callers have failed. It is called after the client is
        closed.
        """
        await self._flights.close()

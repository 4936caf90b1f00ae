"""Validates the tokens for which the near cache has no answer. Callers that validate the same token
at the same time share one request.

A caller that joins the request of another caller gets an answer that was true when the request was
sent. So a caller joins a request only while the near cache has a live watch, and only if the watch
has brought no event since the request was sent. After the watch has brought the event of a
revocation, no caller joins a request that was sent before the revocation. A caller that joins a
request after a revocation but before the event of the revocation gets an old answer. The near cache
can also give old answers between a revocation and its event.
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
        """Validates one token, and returns the service's answer. Raises Unavailable if there is no
        answer within `seconds`.
        """
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
            # The shared request had the timeout of its first caller. A caller with a later deadline
            # sends another request.
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
        """Waits until all shared requests have failed. Call this method after the calls of the
        client are closed.
        """
        await self._flights.close()

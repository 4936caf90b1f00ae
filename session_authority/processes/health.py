"""Determines whether the service is healthy, from the last probe of the store and from the
readiness of this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog
from grpc_health.v1 import health_pb2

from session_authority.domain.errors import AuthorityError
from session_authority.processes.health_service import HealthServicer
from session_authority.processes.readiness import Readiness
from session_authority.rpc import SERVICE_NAME
from session_authority.runtime import logs
from session_authority.runtime.clock import now
from session_authority.runtime.metrics import Metrics
from session_authority.store import SessionStore

PROBE_TIMEOUT = timedelta(seconds=1)
# The health service reports the same health under two names. The empty name stands for the server
# as a whole.
_NAMES = ("", SERVICE_NAME)

_log = structlog.get_logger(__name__)

Verify = Callable[[], Awaitable[Sequence[str]]]


class UnsafeStore(Exception):
    """The store is not safe for sessions. The message has a line for each fault."""


class StoreProbe:
    """Probes the store. Reports the result to `readiness`, to the health service, to the metrics
    and to the log.

    `verify` returns the faults that make the store unsafe. A probe calls `verify` if the store
    answers, refuses no permission, and has the right time. After `verify` has found the store safe,
    no probe calls it again. If `verify` finds the store unsafe, the method `failure` raises
    UnsafeStore. If `verify` is None, the store is not verified.
    """

    def __init__(
        self,
        store: SessionStore,
        servicer: HealthServicer,
        metrics: Metrics,
        readiness: Readiness,
        verify: Verify | None = None,
    ) -> None:
        self._store = store
        self._readiness = readiness
        self._servicer = servicer
        self._metrics = metrics
        self._verify = verify
        self._unsafe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.serving: bool | None = None

    async def failure(self) -> None:
        """Waits until a probe finds the store unsafe, however long this takes, and then raises
        UnsafeStore.
        """
        await asyncio.shield(self._unsafe)

    async def probe(self) -> None:
        """Probes the store once. Updates the metrics, and reports the health if it has changed."""
        store_fault = await self._store_fault()
        self._metrics.store_up.set(int(store_fault is None))
        reason = store_fault or self._readiness.fault()
        serving = reason is None
        if serving is self.serving:
            return
        self.serving = serving
        if serving:
            _log.info("serving")
        else:
            _log.error("not_serving", reason=reason)
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in _NAMES:
            await self._servicer.set(name, status)

    async def _store_fault(self) -> str | None:
        """Returns the reason why the store can't be used, or None if the store can be used."""
        fault, answered = None, False
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                if missing := await self._store.missing_permissions():
                    fault = f"the store refuses its user {', '.join(missing)}: see redis-acl"
                times = await self._store.server_times()
                # The clocks are checked before the write below, so that they are checked even if
                # the store refuses writes. Validations need the right time, but no writes.
                moment = now()
                clock_fault = self._readiness.note_clocks(moment, times)
                ahead = ((moment - time).total_seconds() for time in times)
                self._metrics.store_clock_offset.set(max(ahead, key=abs))
                fault = fault or clock_fault
                answered = fault is None
                await self._store.prove_writable()
        except (AuthorityError, TimeoutError):
            fault = fault or "the store does not answer, or refuses"
        except Exception as error:  # noqa: BLE001
            # An unexpected error, such as an answer that can't be decoded, is a fault of the store,
            # too.
            return f"the store can't be asked ({logs.fault(error)['error']})"
        # The store is verified even if it refuses writes, because validations need no writes.
        return (await self._verified() if answered else None) or fault

    async def _verified(self) -> str | None:
        """Calls `verify`, unless `verify` is None or has already found the store safe. Returns the
        reason why the store must not be used, or None if there is no such reason.
        """
        if self._verify is None:
            return None
        try:
            faults = await self._verify()
        except AuthorityError:
            return "the store does not answer"
        if not faults:
            self._verify = None
            self._readiness.note_store(None)
            return None
        if not self._unsafe.done():
            self._unsafe.set_exception(UnsafeStore("\n".join(faults)))
            # asyncio logs an exception that no code has read. Here the exception is read, in case
            # no caller waits in `failure`.
            self._unsafe.exception()
        fault = f"the store is unsafe: {'; '.join(faults)}"
        self._readiness.note_store(fault)
        return fault

"""Implements the gRPC health service (`grpc.health.v1`), which reports the health of this process.

gRPC's own implementation holds a lock while it writes to a watcher (a client of `Watch`), and each
change of health needs this lock. So a watcher that does not read would block all changes of health,
and the stop of the process. The implementation in this module uses no lock, and ends the watch of a
watcher that does not read in time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.domain.errors import DeadlineTooShort
from session_authority.rpc.peers import MAX_ANSWER_SECONDS
from session_authority.rpc.status import Refused

# The name LIVENESS stands for the process itself. The status of LIVENESS is always SERVING, because
# any answer proves that the event loop runs. If a liveness probe gets no answer, the process is
# restarted. A restart helps only if the event loop hangs, so faults of the store or of files don't
# change the status of LIVENESS.
LIVENESS = "liveness"


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers calls for the health of a name, and serves watches of the health."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {
            "": health_pb2.HealthCheckResponse.SERVING,
            LIVENESS: health_pb2.HealthCheckResponse.SERVING,
        }
        self._changed = asyncio.Event()
        self._stopping = False

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """Returns the health of one name. Raises Refused if the name is unknown."""
        status = self._statuses.get(request.service)
        if status is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, "no service has this name")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """Returns the health of all names."""
        messages: Any = health_pb2  # the type stubs lack HealthListResponse
        return messages.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=status)
                for name, status in self._statuses.items()
            }
        )

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        """Sends the health of one name now, and again each time the health has changed. If the
        health changes while a message is being sent, only the newest health is sent next. Raises
        DeadlineTooShort if the client does not read a message within MAX_ANSWER_SECONDS.
        """
        told: Any = None
        while True:
            changed = self._changed
            status = self._statuses.get(
                request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            )
            if status == told:
                await changed.wait()
                continue
            try:
                async with asyncio.timeout(MAX_ANSWER_SECONDS):
                    await context.write(health_pb2.HealthCheckResponse(status=status))
            except TimeoutError:
                raise DeadlineTooShort("the answer took too long to be read") from None
            told = status

    async def set(self, service: str, status: Any) -> None:
        """Sets the health of a name. Does nothing after `enter_graceful_shutdown`."""
        if not self._stopping:
            self._statuses[service] = status
            self._tell()

    async def enter_graceful_shutdown(self) -> None:
        """Sets the health of every name except LIVENESS to NOT_SERVING."""
        self._stopping = True
        for service in self._statuses.keys() - {LIVENESS}:
            self._statuses[service] = health_pb2.HealthCheckResponse.NOT_SERVING
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

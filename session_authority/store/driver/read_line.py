"""A connection that carries batches of reads, one at a time. It needs no task, because replies are
read when they arrive.

The driver makes the connection and greets the server. Then the read line replaces the driver's
streams as the protocol of the connection's transport.

Data that the server sends without a question never counts as an answer. Before each use, the line
polls the socket for such data. A batch with one reply too many gives no answer. After any error the
connection is closed, and the batch that is under way on it fails or is sent again.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Disconnected

from session_authority.store.driver.questions import Batch

# Called with a line, its batch and the replies, after all replies have arrived.
Answered = Callable[["ReadLine", Batch, Sequence[Any]], None]
# Called with a line that can't be used any more, and with the reason.
Lost = Callable[["ReadLine", Exception], None]

_NOT_ENOUGH = object()


def _inside(
    connection: AbstractConnection,
) -> tuple[asyncio.Transport, Callable[[str], Exception]]:
    """Returns the transport of a driver's connection, and the function that turns the server's
    errors into the driver's exceptions.

    The driver has no public access to either of them. A read line needs no other private names of
    redis-py than these two: `_writer`, a StreamWriter, and `_parser`. In a cluster, the
    `parse_error` of the parser knows the errors of a cluster.
    """
    inside: Any = connection
    return inside._writer.transport, inside._parser.parse_error  # noqa: SLF001


class ReadLine(asyncio.Protocol):
    """A connection that the driver has made, and from which the driver has read all its replies.

    `batch` is the batch that is under way, or None. After the line is lost, `batch` is the batch
    that got no answer.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        answered: Answered,
        lost: Lost,
    ) -> None:
        self.connection = connection
        self.batch: Batch | None = None
        self.moved_at = 0.0
        """When the line was last written to or heard, in seconds of `time.monotonic`."""
        self._answered = answered
        self._lost = lost
        self._is_lost = False
        self._replies: list[Any] = []
        self._transport, parse_error = _inside(connection)
        self._reader = hiredis.Reader(replyError=parse_error, notEnoughData=_NOT_ENOUGH)
        self._streams = cast(asyncio.Protocol, self._transport.get_protocol())
        self._poll = select.poll()
        self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._transport.set_protocol(self)

    def is_silent(self) -> bool:
        """Returns True if the line is open and there is nothing to read. If data arrives before a
        question, the server has closed the connection, or replies no longer match questions.
        """
        return not (self._transport.is_closing() or self._poll.poll(0))

    def send(self, batch: Batch, packed: bytes) -> None:
        """Sends the questions of a batch. No other batch may be under way on the line."""
        self.batch = batch
        self.moved_at = monotonic()
        self._transport.write(packed)

    def hang_up(self, reason: Exception) -> None:
        """Closes the connection at once. Data that still arrives is not read."""
        if not self._is_lost:
            self._is_lost = True
            self._transport.abort()
            self._lost(self, reason)

    def data_received(self, data: bytes) -> None:
        """Reads replies. The batch is answered when all its replies are complete and no data
        follows.
        """
        batch, replies, reader = self.batch, self._replies, self._reader
        if batch is None:
            self.hang_up(Disconnected("it said something unasked"))
            return
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_ENOUGH:
                replies.append(reply)
        except hiredis.HiredisError:
            self.hang_up(Disconnected("it made no sense"))
            return
        missing = batch.size - len(replies)
        if missing < 0 or (missing == 0 and reader.has_data()):
            self.hang_up(Disconnected("it said more than was asked"))
        elif missing:
            self.moved_at = monotonic()
        else:
            self.batch, self._replies = None, []
            self._answered(self, batch, replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the driver that the connection is lost. The driver waits for this call when it
        closes the connection.
        """
        self._streams.connection_lost(exc)
        self.hang_up(Disconnected("it hung up"))

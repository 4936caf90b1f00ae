"""A connection that carries batches of reads, one at a time. It needs no task, as replies are read
when they arrive.

The driver makes the connection and greets the server. Then the read line becomes the protocol of
the connection's transport, in place of the driver's streams. Data that the server sends without a
question never counts as an answer. Before each use the socket is polled for such data. A batch with
one reply too many gives no answer. After any error the connection is closed, together with the
batch that is under way on it.
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

# Called with a line, its batch and the replies, once all replies have arrived.
Answered = Callable[["ReadLine", Batch, Sequence[Any]], None]
# Called with a line that can't be used any more, and the reason.
Lost = Callable[["ReadLine", Exception], None]

_NOT_ENOUGH = object()


def _inside(
    connection: AbstractConnection,
) -> tuple[asyncio.Transport, Callable[[str], Exception]]:
    """The transport of a driver's connection, and the function that turns the server's errors into
    the driver's exceptions.

    The driver has no public way to either of them. These are the only private names of redis-py
    that a read line needs: `_writer`, a StreamWriter, and `_parser`. The `parse_error` of a parser
    for a cluster knows the errors of a cluster.
    """
    inside: Any = connection
    return inside._writer.transport, inside._parser.parse_error  # noqa: SLF001


class ReadLine(asyncio.Protocol):
    """A connection that the driver has made, and whose replies the driver has all read.

    When the line is lost, `batch` is the batch that has no answer. None if there is no such batch.
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
        """Returns True if there is nothing to read. Data before a question means that the server
        has closed the connection, or that the line is out of step.
        """
        return not (self._transport.is_closing() or self._poll.poll(0))

    def send(self, batch: Batch, packed: bytes) -> None:
        """Sends the questions of a batch. The line must have no other batch under way."""
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
        """Reads replies. A batch is answered once its replies are whole and no data follows."""
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
        """Tells the driver that the connection is lost, as the driver waits for this when it closes
        the connection.
        """
        self._streams.connection_lost(exc)
        self.hang_up(Disconnected("it hung up"))

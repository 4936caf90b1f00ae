"""Defines a read line: a connection that carries batches of reads, one batch at a time. A read line
needs no task of its own, because the event loop calls `data_received` when data arrives.

The driver opens the connection and logs in to the server. After the login, the read line becomes
the asyncio protocol of the connection, in place of the driver's stream protocol.

Data that the server sends without a request never counts as an answer. Before a batch is sent, the
socket is polled, and a read line with unrequested data is closed. If a batch gets more replies than
it has reads, no reply is used. After a connection error or a reply that can't be decoded, the
connection is closed. A batch that was under way on a closed connection fails or is sent again.
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

# A function that is called with a read line, its batch and the replies, after all replies to the
# batch have arrived.
Answered = Callable[["ReadLine", Batch, Sequence[Any]], None]
# A function that is called with a read line that can't be used any more, and with the reason.
Lost = Callable[["ReadLine", Exception], None]

_NOT_ENOUGH = object()


def _inside(
    connection: AbstractConnection,
) -> tuple[asyncio.Transport, Callable[[str], Exception]]:
    """Returns the transport of a driver's connection, and the function that turns the server's
    errors into the driver's exceptions.

    The driver has no public names for the transport and for this function, `parse_error`. A read
    line uses only two private names of redis-py: `_writer`, a StreamWriter, and `_parser`. In a
    cluster, `parse_error` also makes the exceptions for redirections.
    """
    inside: Any = connection
    return inside._writer.transport, inside._parser.parse_error  # noqa: SLF001


class ReadLine(asyncio.Protocol):
    """A connection to Redis that carries one batch of reads at a time. The driver must have opened
    the connection, and must have read all replies to its own commands.

    `batch` is the batch that is under way, or None if no batch is under way. After the connection
    failed, `batch` is the batch that got no answer, or None.
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
        """The time at which a batch was last sent or a part of its replies last arrived, in seconds
        of `time.monotonic`.
        """
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
        """Returns True if the connection is open and has no data to read. This method may be called
        only while no batch is under way. If the connection has data while no batch is under way,
        the server has closed the connection, or has sent a reply that no question requested.
        """
        return not (self._transport.is_closing() or self._poll.poll(0))

    def send(self, batch: Batch, packed: bytes) -> None:
        """Sends a batch. `packed` has the encoded questions of the batch. No other batch may be
        under way on this read line.
        """
        self.batch = batch
        self.moved_at = monotonic()
        self._transport.write(packed)

    def hang_up(self, reason: Exception) -> None:
        """Closes the connection at once, and reports the reason to the function `lost`. Data that
        arrives later is not read. Does nothing if the connection was closed before.
        """
        if not self._is_lost:
            self._is_lost = True
            self._transport.abort()
            self._lost(self, reason)

    def data_received(self, data: bytes) -> None:
        """Decodes replies from the received data. Passes the replies on when each question of the
        batch has its reply. Closes the connection if the data can't be decoded, or if more data
        follows the last reply.
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
        """Tells the driver's stream protocol that the connection is closed. When the driver closes
        a connection, it waits for this call.
        """
        self._streams.connection_lost(exc)
        self.hang_up(Disconnected("it hung up"))

"""Chooses a read line for each batch of reads to one server, and handles read lines that fail. A
read line is a connection that carries one batch of reads at a time.

If a read line is free, reads that arrive are sent together in the next iteration of the event loop.
While all read lines are busy, reads gather, and are sent together when a read line becomes free. A
read is never added to a batch that was already sent, so an answer is never older than its read.
Marks are sent over read lines, too, because a mark may be sent twice without harm.

A demoted primary still answers reads, with old data. So all read lines are closed when another
server may have become the primary. The signs of a new primary are a timeout, a server that refuses
writes as a replica would, and a message that names another primary. Any part of the process may
find a sign of a new primary. After a sign of a new primary, reads that are under way are sent
again, unless they have timed out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.runtime.tracing import active
from session_authority.store.driver.line_source import LineSource
from session_authority.store.driver.questions import Answers, Batch, Question
from session_authority.store.driver.read_line import ReadLine
from session_authority.store.driver.sentinels import PrimaryReplaced
from session_authority.store.driver.traced_batch import TracedBatch
from session_authority.store.driver.traffic import Traffic

# The largest number of attempts to send a read. More than two attempts are allowed, because the
# primary may change twice in a short time.
_MAX_ATTEMPTS = 3
# The largest number of reads in a batch that several callers share. On loopback, 256 HGET commands
# fit into two TCP segments, and their replies are parsed in 0.2 ms.
_MAX_BATCH = 256
# How many times in each period of `timeout_seconds` a timer checks for reads that wait too long.
_LOOKS_PER_TIMEOUT = 8


def max_lines(max_connections: int) -> int:
    """Returns the largest number of read lines for reads that calls wait for, if the client may
    have `max_connections` connections. The read lines for the event log and for marks are not
    included.
    """
    return max(2, min(4, max_connections // 4))


class ReadLines:
    """Sends reads in batches to one server, over at most `limit` read lines.

    A read fails if it waits longer than `timeout_seconds` for a read line, or for the next part of
    the replies. `failed` is called with the error for each batch that fails because its read line
    failed or no read line could be opened. `failed` is also called if opening a read line fails and
    no read waits for this read line any more. `traffic` counts the reads.
    """

    def __init__(
        self,
        source: LineSource,
        *,
        limit: int,
        timeout_seconds: float,
        failed: Callable[[Exception], object] = lambda _: None,
        traffic: Traffic | None = None,
    ) -> None:
        self._traffic = traffic or Traffic()
        self._traffic.count_waiting_in(self._count_waiting)
        self._source = source
        self._limit = limit
        self._timeout = timeout_seconds
        self._failed = failed
        self._waiting: deque[Batch] = deque()
        self._idle: list[ReadLine] = []
        self._busy: set[ReadLine] = set()
        self._opening: set[object] = set()
        """The attempts to open a read line that are under way and for which reads wait. An attempt
        leaves the set when it ends, or when the reads no longer wait for it.
        """
        self._generation = 0
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new_batch = Batch if active() is None else TracedBatch
        self._tasks = BackgroundTasks()

    def question(self, *command: str | bytes) -> Question:
        """Returns a question: a command that may be sent more than once."""
        return Question(command)

    def ask(self, question: Question) -> asyncio.Future[Any]:
        """Sends a question, and returns a future of the answer. The future fails with the server's
        error if the server refuses the question, and with an error of the driver if no answer
        comes.
        """
        loop = self._loop or self._begin()
        answer: asyncio.Future[Any] = loop.create_future()
        self._joinable(loop).add(question, answer)
        return answer

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """Sends several questions. Returns a list with the answer or the exception of each
        question. Set `apart` if the answers may be large. With `apart`, the questions get a batch
        of their own, so that other reads do not wait for the large answers.
        """
        if not questions:
            return []
        answers = Answers(len(questions))
        self.ask_for(answers, questions, range(len(questions)), apart=apart)
        return await answers.future

    def ask_for(
        self,
        answers: Answers,
        questions: Sequence[Question],
        places: Sequence[int],
        *,
        apart: bool = False,
    ) -> None:
        """Sends questions, and returns before the answers arrive.

        Args:
            answers: The object that collects the answers. This object may also collect answers from
                other servers.
            questions: The questions to send.
            places: For each question, the position of its answer in `answers`.
            apart: True to send the questions in a batch of their own.
        """
        loop = self._loop or self._begin()
        if apart:
            batch = self._new_batch(monotonic(), closed=True)
            batch.add_part(questions, answers, places)
            self._enqueue(batch, loop)
            return
        at = 0
        while at < len(questions):
            batch = self._joinable(loop)
            end = at + _MAX_BATCH - batch.size
            batch.add_part(questions[at:end], answers, places[at:end])
            at = end

    async def hang_up(self) -> None:
        """Closes all read lines and the free connections of the pool, so that the next reads find
        out again which server is the primary.
        """
        self.begin_generation()
        await self._source.hang_up_free()

    def begin_generation(self) -> None:
        """Closes all read lines, because another server may be the primary now. Sends again the
        reads that were under way. A read fails after three attempts.
        """
        self._generation += 1
        self._opening.clear()
        for line in [*self._idle, *self._busy]:
            line.hang_up(PrimaryReplaced())
        if self._waiting:
            self._flush_soon(asyncio.get_running_loop())

    async def drained(self) -> None:
        """Waits until all earlier questions are answered, and then closes the idle read lines."""
        batches = [*self._waiting, *(line.batch for line in self._busy if line.batch)]
        answers = {answer for batch in batches for answer in batch.waited_for()}
        if answers:
            await asyncio.wait(answers)
        for line in [*self._idle]:
            line.hang_up(Disconnected("closed"))
        await self._tasks.settled()
        await self._source.settled()

    def _count_waiting(self) -> int:
        return sum([batch.size for batch in [*self._waiting]])

    def _begin(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _joinable(self, loop: asyncio.AbstractEventLoop) -> Batch:
        """Returns a batch to which a new question can be added. The batch has not been sent yet: it
        waits for a free read line, or for the next iteration of the event loop.
        """
        if self._waiting:
            batch = self._waiting[-1]
            if not batch.closed and batch.size < _MAX_BATCH:
                return batch
        batch = self._new_batch(monotonic())
        self._enqueue(batch, loop)
        return batch

    def _enqueue(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting.append(batch)
        self._flush_soon(loop)
        if self._watch is None:
            self._look_later(loop)

    def _flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and len(self._busy) < self._limit:
            self._scheduled = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting:
            line = self._free_line()
            if line is None:
                self._connect_some()
                return
            batch = self._waiting.popleft()
            packed = batch.packed()
            if packed:
                self._busy.add(line)
                line.send(batch, packed)
                batch.sent_at = line.moved_at
                self._traffic.batch_sizes.add(batch.size)
            else:
                self._idle.append(line)

    def _flush_if_alone(self) -> None:
        """Sends the waiting batches, or opens read lines for them, unless other read lines are busy
        or being opened. This method is called after an attempt to open a read line has failed and
        the connection has gone back to the pool.

        The batches that wait now were made after the attempt failed, so they did not get the error
        of the attempt. If other read lines are busy or being opened, these read lines will send the
        waiting batches.
        """
        if not (self._busy or self._opening):
            self._flush()

    def _free_line(self) -> ReadLine | None:
        while self._idle:
            line = self._idle.pop()
            if line.is_silent():
                return line
            line.hang_up(Disconnected("it was not silent"))
        return None

    def _answered(self, line: ReadLine, batch: Batch, replies: Sequence[Any]) -> None:
        self._busy.discard(line)
        self._traffic.reads.add(monotonic() - batch.sent_at)
        batch.answer(replies)
        if isinstance(replies[-1], Disconnected):
            line.hang_up(Disconnected("it refuses the connection"))
        else:
            self._idle.append(line)
        if self._waiting and not self._scheduled:
            self._flush()

    def _lost(self, line: ReadLine, reason: Exception) -> None:
        self._busy.discard(line)
        if line in self._idle:
            self._idle.remove(line)
        self._source.give_back(line, self._flush)
        if line.batch is not None:
            self._again_or_fail([line.batch], reason)

    def _again_or_fail(self, batches: Sequence[Batch], reason: Exception) -> None:
        """Sends the batches again if the reason is PrimaryReplaced. A second sending is safe,
        because reads change nothing and marks may be written twice. After any other reason, and
        after three attempts, the batches fail.
        """
        for batch in reversed(batches):
            batch.attempts += 1
            if isinstance(reason, PrimaryReplaced) and batch.attempts < _MAX_ATTEMPTS:
                batch.closed = True
                self._waiting.appendleft(batch)
                self._flush_soon(asyncio.get_running_loop())
            else:
                batch.fail(reason)
                self._failed(reason)

    def _connect_some(self) -> None:
        """Starts to open read lines for the waiting batches, up to `_limit` read lines in total."""
        lacking = len(self._waiting) - len(self._opening)
        for _ in range(min(lacking, self._limit - self._source.held)):
            opening = object()
            self._opening.add(opening)
            self._source.reserve()
            self._tasks.start(self._connect(opening))

    async def _connect(self, opening: object) -> None:
        # `_generation` is read before the connection is opened. If the primary changes while the
        # connection is opened, `_generation` gets a new value, and the connection may lead to the
        # old primary.
        generation = self._generation
        try:
            line = await self._source.make(self._answered, self._lost, self._flush_if_alone)
        except Exception as error:  # noqa: BLE001
            # Any exception is caught, because the callers that wait for the read line must get the
            # error.
            if opening in self._opening:
                self._opening.discard(opening)
                self._not_connected(error)
            else:
                self._failed(error)
                self._flush()
        else:
            self._opening.discard(opening)
            self._idle.append(line)
            if generation != self._generation:
                line.hang_up(PrimaryReplaced())
            self._flush()

    def _not_connected(self, error: Exception) -> None:
        # If other read lines are busy or being opened, they may still send the waiting batches. No
        # new attempt is made after the failed attempt, because a server that refuses every
        # connection would cause an endless loop of attempts.
        others = self._busy or self._opening
        batches: list[Batch] = []
        if isinstance(error, PrimaryReplaced) or not others:
            batches = [*self._waiting]
            self._waiting.clear()
        if isinstance(error, TimedOut):
            self._doubt_primary()
        self._again_or_fail(batches, error)

    def _doubt_primary(self) -> None:
        self.begin_generation()
        self._source.hang_up_free_soon()

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watch = loop.call_later(self._timeout / _LOOKS_PER_TIMEOUT, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fails the reads that have waited too long for a reply or for a read line. One timer runs
        this check for all reads.
        """
        self._watch = None
        too_old = monotonic() - self._timeout
        late = [line for line in self._busy if line.moved_at < too_old]
        for line in late:
            line.hang_up(TimedOut("no reply"))
        stuck = [batch for batch in self._waiting if batch.since < too_old]
        if stuck:
            self._opening.clear()  # the next reads will open new read lines
            self._waiting = deque(batch for batch in self._waiting if batch.since >= too_old)
            for batch in stuck:
                batch.fail(TimedOut("no line"))
        if late:
            self._doubt_primary()
        if self._waiting or self._busy:
            self._look_later(loop)

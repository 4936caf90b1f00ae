"""Chooses a read line to the server for each batch of reads, and handles lines that fail.

Reads that arrive while a line is free are sent at the end of the same turn of the event loop. While
all lines are busy, reads gather, and are sent together when a line becomes free. A read never joins
a batch that was already sent, so an answer is never older than its question. The writes of marks
are sent in the same way, because they may be sent twice, as reads may.

A demoted primary still answers reads. So all lines are closed when another server may have become
the primary. Lines belong to a generation. The next generation begins when any part of the process
meets a time-out, a server that refuses writes as a replica would, or another primary. Reads that
were under way are sent again.
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

# How often a read is sent at most. The primary may change more than once in a row.
_MAX_ATTEMPTS = 3
# A batch of this many HGETs fits into two segments on loopback. Its replies are parsed in 0.2 ms.
_MAX_BATCH = 256
# How many times within one time-out the lines check for reads that wait too long.
_LOOKS_PER_TIMEOUT = 8


def max_lines(max_connections: int) -> int:
    """Returns the largest number of connections for reads that callers wait for, in a pool of this
    size.
    """
    return max(2, min(4, max_connections // 4))


class ReadLines:
    """Up to `limit` read lines to one server.

    A read fails if it waits longer than `timeout_seconds` for a line, or for the next part of a
    reply. `failed` is called with the error for each batch that fails because its line ended or no
    line could be made. `failed` is also called if no line could be made and no read waits for this
    line any more. `traffic` counts the reads.
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
        """The connects under way that may serve the waiting reads."""
        self._generation = 0
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new_batch = Batch if active() is None else TracedBatch
        self._tasks = BackgroundTasks()

    def question(self, *command: str | bytes) -> Question:
        """Makes a question from a command that may be sent more than once."""
        return Question(command)

    def ask(self, question: Question) -> asyncio.Future[Any]:
        """Returns the future answer to a question. Awaiting it raises the error with which the
        server refused, or the driver's error if no answer came.
        """
        loop = self._loop or self._begin()
        answer: asyncio.Future[Any] = loop.create_future()
        self._joinable(loop).add(question, answer)
        return answer

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """Returns the answer to each question, or its exception. Use `apart` if the answers may be
        large. Then the questions get a batch of their own, so no other read waits for them.
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
        """Sends some questions of a caller.

        Args:
            answers: The object that collects all answers of the caller.
            questions: The questions.
            places: The positions of their answers in `answers`.
            apart: Sends the questions in a batch of their own.
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
        """Closes all lines and the free connections of the pool, so that the next reads find out
        again which server is the primary.
        """
        self.begin_generation()
        await self._source.hang_up_free()

    def begin_generation(self) -> None:
        """Closes all lines, and sends the reads that were under way again. A read fails after three
        attempts.
        """
        self._generation += 1
        self._opening.clear()
        for line in [*self._idle, *self._busy]:
            line.hang_up(PrimaryReplaced())
        if self._waiting:
            self._flush_soon(asyncio.get_running_loop())

    async def drained(self) -> None:
        """Waits until all questions so far are answered, then closes the free lines."""
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
        """Returns the batch to which a new question can be added. The batch waits for a line, or
        for the end of this turn of the event loop.
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
        """Sends the waiting batches. It is called after an attempt to make a line has failed and
        the connection of this line has been given back.

        The waiting batches began after the attempt had failed, so they did not get its error. If
        other lines are busy or being made, those lines will send the batches: see `_not_connected`.
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
        """Sends reads again if the primary may have changed since they were sent. This is safe,
        because reads change nothing and marks may be written twice. Otherwise, or after three
        attempts, the reads fail.
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
        """Opens lines for the waiting batches, up to the limit."""
        lacking = len(self._waiting) - len(self._opening)
        for _ in range(min(lacking, self._limit - self._source.held)):
            opening = object()
            self._opening.add(opening)
            self._source.reserve()
            self._tasks.start(self._connect(opening))

    async def _connect(self, opening: object) -> None:
        # The generation is read before the connect, because the connect may still reach the old
        # primary.
        generation = self._generation
        try:
            line = await self._source.make(self._answered, self._lost, self._flush_if_alone)
        except Exception as error:  # noqa: BLE001
            # Every caller that waits for this batch must get the error.
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
        # Other lines may still send the waiting batches. This line is not replaced, because a
        # server that refuses every connection would cause an endless loop of attempts.
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
        """Finds the reads that have waited too long for a reply or a line. One timer serves all
        reads.
        """
        self._watch = None
        too_old = monotonic() - self._timeout
        late = [line for line in self._busy if line.moved_at < too_old]
        for line in late:
            line.hang_up(TimedOut("no reply"))
        stuck = [batch for batch in self._waiting if batch.since < too_old]
        if stuck:
            self._opening.clear()  # the next reads will open new lines
            self._waiting = deque(batch for batch in self._waiting if batch.since >= too_old)
            for batch in stuck:
                batch.fail(TimedOut("no line"))
        if late:
            self._doubt_primary()
        if self._waiting or self._busy:
            self._look_later(loop)

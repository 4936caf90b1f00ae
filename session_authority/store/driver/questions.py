"""Holds the questions to the server, and the callers that wait for the answers.

A batch has several questions that are sent at once, and gets as many replies. All answers of a
batch are given at once, so a batch with one reply too many gives no answer. If a caller gives up
before the batch is sent, its question is left out. If a caller gives up later, other callers are
not affected.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

Command = tuple[str | bytes, ...]


class Question:
    """A command that may be sent more than once, because it is a read or writes only a mark. The
    command is encoded only once. In a cluster, `slot` is the slot of the command's first argument.
    """

    __slots__ = ("command", "packed", "slot")

    def __init__(self, command: Command, slot: int = 0) -> None:
        self.command = command
        self.packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
        self.slot = slot

    @property
    def size_bytes(self) -> int:
        """The bytes of memory that the question occupies."""
        parts = (self, self.packed, self.command, *self.command)
        return sum(map(sys.getsizeof, parts))


class Answers:
    """The answers to several questions. Each is an answer or an exception. One future has all
    answers as its result, even if several batches carry the questions.
    """

    __slots__ = ("_missing", "_replies", "future")

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._replies: list[Any] = [None] * count
        self._missing = count

    def give(self, places: Sequence[int], replies: Iterable[Any]) -> None:
        """Puts answers in their places. The future completes when the last answers are there."""
        for place, reply in zip(places, replies, strict=True):
            self._replies[place] = reply
        self._missing -= len(places)
        if not self._missing and not self.future.done():
            self.future.set_result(self._replies)


class _Part:
    """The answers in one batch for a caller whose questions are spread over several batches."""

    __slots__ = ("_places", "answers")

    def __init__(self, answers: Answers, places: Sequence[int]) -> None:
        self.answers = answers
        self._places = places

    def done(self) -> bool:
        """Returns True if the caller no longer waits for the answers."""
        return self.answers.future.done()

    def give(self, replies: Iterable[Any]) -> None:
        self.answers.give(self._places, replies)


class Batch:
    """Questions that are sent together.

    `since` is when the batch was begun, and `sent_at` is when it was last sent, both in seconds of
    `time.monotonic`. `attempts` counts the failed attempts to send the batch or to make a line for
    it.
    """

    __slots__ = ("_asked", "attempts", "closed", "sent_at", "since", "size")

    def __init__(self, since: float, *, closed: bool = False) -> None:
        self.since = self.sent_at = since
        self.attempts = 0
        self.size = 0
        self.closed = closed
        """True if no other question may join."""
        self._asked: list[tuple[bytes, int, asyncio.Future[Any] | _Part]] = []

    def add(self, question: Question, answer: asyncio.Future[Any]) -> None:
        """Adds one question to the batch."""
        self._asked.append((question.packed, 1, answer))
        self.size += 1

    def add_part(
        self, questions: Sequence[Question], answers: Answers, places: Sequence[int]
    ) -> None:
        """Adds several questions to the batch. `places` are the positions of their answers in
        `answers`.
        """
        packed = b"".join([question.packed for question in questions])
        self._asked.append((packed, len(questions), _Part(answers, places)))
        self.size += len(questions)

    def packed(self) -> bytes:
        """Returns the bytes to send: all questions whose callers still wait. The result is empty if
        no caller waits. No question may be added after this call.
        """
        self._asked = [asked for asked in self._asked if not asked[2].done()]
        self.size = sum([count for _, count, _ in self._asked])
        self.closed = True
        return b"".join([packed for packed, _, _ in self._asked])

    def answer(self, replies: Sequence[Any]) -> None:
        """Gives each caller its answer, or the exception that came in its place."""
        at = 0
        for _, count, answer in self._asked:
            if isinstance(answer, _Part):
                answer.give(replies[at : at + count])
            elif not answer.done():
                reply = replies[at]
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
            at += count

    def fail(self, error: Exception) -> None:
        """Fails all questions of the batch with this error."""
        self.answer([error] * self.size)

    def waited_for(self) -> Iterable[asyncio.Future[Any]]:
        """Yields the futures that complete when the batch is answered."""
        for _, _, answer in self._asked:
            yield answer.answers.future if isinstance(answer, _Part) else answer

"""The questions to the server, and the callers that wait for the answers.

A batch is one write with several questions, and as many replies. The answers are given all at once,
so a batch with one reply too many gives no answer. A caller that gives up before the batch is sent
is left out of the batch. A caller that gives up later does not affect other callers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

Command = tuple[str | bytes, ...]


class Question:
    """A command that changes nothing, as the server gets it: packed once, to be asked any number of
    times. `slot` is the one of its key, where there are slots.
    """

    __slots__ = ("command", "packed", "slot")

    def __init__(self, command: Command, slot: int = 0) -> None:
        self.command = command
        self.packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
        self.slot = slot

    @property
    def size_bytes(self) -> int:
        """The bytes of memory that it takes."""
        parts = (self, self.packed, self.command, *self.command)
        return sum(map(sys.getsizeof, parts))


class Answers:
    """The answers to several questions, or an exception in place of one: the result of one future,
    however many batches they travel in.
    """

    __slots__ = ("_missing", "_replies", "future")

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._replies: list[Any] = [None] * count
        self._missing = count

    def give(self, places: Sequence[int], replies: Iterable[Any]) -> None:
        """Puts answers in their places. The last ones complete the future."""
        for place, reply in zip(places, replies, strict=True):
            self._replies[place] = reply
        self._missing -= len(places)
        if not self._missing and not self.future.done():
            self.future.set_result(self._replies)


class _Part:
    """The part of a caller's answers that comes with one batch."""

    __slots__ = ("_places", "answers")

    def __init__(self, answers: Answers, places: Sequence[int]) -> None:
        self.answers = answers
        self._places = places

    def done(self) -> bool:
        """True if nobody waits for them any more."""
        return self.answers.future.done()

    def give(self, replies: Iterable[Any]) -> None:
        self.answers.give(self._places, replies)


class Batch:
    """Questions that travel together. `since` is when the first was asked, in the loop's seconds;
    `sent_at` is when it was sent last; `attempts` is how often that was in vain.
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
        """Lets one question travel with the batch."""
        self._asked.append((question.packed, 1, answer))
        self.size += 1

    def add_part(
        self, questions: Sequence[Question], answers: Answers, places: Sequence[int]
    ) -> None:
        """Lets several questions travel with the batch, whose answers have these places."""
        packed = b"".join([question.packed for question in questions])
        self._asked.append((packed, len(questions), _Part(answers, places)))
        self.size += len(questions)

    def packed(self) -> bytes:
        """All questions that still have an asker; nothing if there is none."""
        self._asked = [asked for asked in self._asked if not asked[2].done()]
        self.size = sum([count for _, count, _ in self._asked])
        self.closed = True
        return b"".join([packed for packed, _, _ in self._asked])

    def answer(self, replies: Sequence[Any]) -> None:
        """Gives each asker its answer, or raises an exception in its place where it waits."""
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
        """Tells each asker what went wrong."""
        self.answer([error] * self.size)

    def waited_for(self) -> Iterable[asyncio.Future[Any]]:
        """The futures that complete when the batch is answered."""
        for _, _, answer in self._asked:
            yield answer.answers.future if isinstance(answer, _Part) else answer

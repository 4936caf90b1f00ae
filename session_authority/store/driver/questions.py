"""Defines questions, which are commands to Redis that may be sent more than once, and batches of
questions.

The questions of a batch are sent together, and the server sends one reply to each question. The
replies are passed on together, after the last reply has arrived. If the server sends one reply too
many, no reply is passed on, because a reply may belong to another question. If a task stops waiting
before its batch is sent, its question is left out of the batch. If a task stops waiting after its
batch was sent, the other questions of the batch are still answered.
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
    command is encoded only once, as `packed`. In a cluster, `slot` is the slot of the command's
    key.
    """

    __slots__ = ("command", "packed", "slot")

    def __init__(self, command: Command, slot: int = 0) -> None:
        self.command = command
        self.packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
        self.slot = slot

    @property
    def size_bytes(self) -> int:
        """How many bytes of memory the question occupies."""
        parts = (self, self.packed, self.command, *self.command)
        return sum(map(sys.getsizeof, parts))


class Answers:
    """Collects the answers to the questions of one `ask_many` call, even if the questions are in
    different batches. The result of `future` is the list of all answers. If a question fails, its
    exception takes the place of its answer.
    """

    __slots__ = ("_missing", "_replies", "future")

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._replies: list[Any] = [None] * count
        self._missing = count

    def give(self, places: Sequence[int], replies: Iterable[Any]) -> None:
        """Stores some of the answers, at the positions `places` of the list of answers. Completes
        `future` when no answer is missing any more.
        """
        for place, reply in zip(places, replies, strict=True):
            self._replies[place] = reply
        self._missing -= len(places)
        if not self._missing and not self.future.done():
            self.future.set_result(self._replies)


class _Part:
    """Receives the answers to those questions of one `ask_many` call that are in one batch. The
    call may have more questions in other batches.
    """

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
    """A group of questions that are sent together.

    `since` is the time at which the batch was made. `sent_at` is the time at which the batch was
    last sent, or `since` if it was not sent yet. `since` and `sent_at` are in seconds of
    `time.monotonic`. `attempts` counts how often the read line of the batch failed or could not be
    opened.
    """

    __slots__ = ("_asked", "attempts", "closed", "sent_at", "since", "size")

    def __init__(self, since: float, *, closed: bool = False) -> None:
        self.since = self.sent_at = since
        self.attempts = 0
        self.size = 0
        self.closed = closed
        """True if no more questions may be added to the batch."""
        self._asked: list[tuple[bytes, int, asyncio.Future[Any] | _Part]] = []

    def add(self, question: Question, answer: asyncio.Future[Any]) -> None:
        """Adds one question to the batch."""
        self._asked.append((question.packed, 1, answer))
        self.size += 1

    def add_part(
        self, questions: Sequence[Question], answers: Answers, places: Sequence[int]
    ) -> None:
        """Adds several questions to the batch. `places` has the position in `answers` of the answer
        to each question.
        """
        packed = b"".join([question.packed for question in questions])
        self._asked.append((packed, len(questions), _Part(answers, places)))
        self.size += len(questions)

    def packed(self) -> bytes:
        """Returns the bytes to send: the encoded questions whose callers still wait. Returns no
        bytes if no caller waits. After this call, no question may be added to the batch.
        """
        self._asked = [asked for asked in self._asked if not asked[2].done()]
        self.size = sum([count for _, count, _ in self._asked])
        self.closed = True
        return b"".join([packed for packed, _, _ in self._asked])

    def answer(self, replies: Sequence[Any]) -> None:
        """Passes each reply to the caller that waits for it. `replies` has one reply or exception
        for each question, in the order of the questions.
        """
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
        """Passes this error to all callers of the batch, in place of their answers."""
        self.answer([error] * self.size)

    def waited_for(self) -> Iterable[asyncio.Future[Any]]:
        """Yields the futures for which the callers of the batch wait."""
        for _, _, answer in self._asked:
            yield answer.answers.future if isinstance(answer, _Part) else answer

"""Records a batch of reads as a span of a trace. The span of the batch is connected to the span of
every call that has a question in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns
from typing import Any

from session_authority.runtime.tracing import active
from session_authority.store.driver.questions import Answers, Batch, Question


class TracedBatch(Batch):
    """A batch that stores the spans of the calls whose questions it has. The batch's own span
    begins when the batch is sent for the last time. The batch's own span ends when the answers have
    arrived or the batch has failed.
    """

    __slots__ = ("_askers", "_begun_at_ns", "_operations")

    def __init__(self, since: float, *, closed: bool = False) -> None:
        super().__init__(since, closed=closed)
        self._askers: dict[int, Any] = {}
        self._operations: list[str] = []
        self._begun_at_ns = time_ns()

    def add(self, question: Question, answer: Any) -> None:
        """Adds one question to the batch."""
        super().add(question, answer)
        self._note((question,))

    def add_part(
        self, questions: Sequence[Question], answers: Answers, places: Sequence[int]
    ) -> None:
        """Adds several questions to the batch. `places` has the position in `answers` of the answer
        to each question.
        """
        super().add_part(questions, answers, places)
        self._note(questions)

    def packed(self) -> bytes:
        """Returns the bytes to send: the encoded questions whose callers still wait. The span of
        the batch begins with this call.
        """
        self._begun_at_ns = time_ns()
        return super().packed()

    def answer(self, replies: Sequence[Any]) -> None:
        """Passes each reply to the caller that waits for it, and records the span of the batch."""
        super().answer(replies)
        tracer = active()
        if tracer is not None and self._askers:
            failed = next((type(r).__name__ for r in replies if isinstance(r, Exception)), None)
            tracer.batch([*self._askers.values()], self._operations, self._begun_at_ns, failed)
            self._askers.clear()

    def _note(self, questions: Sequence[Question]) -> None:
        from session_authority.runtime.otel import asking

        asker = asking()
        if asker is not None:
            self._askers[asker.span_id] = asker
            self._operations += [_name_of(question) for question in questions]


def _name_of(question: Question) -> str:
    name = question.command[0]
    return name if isinstance(name, str) else name.decode()

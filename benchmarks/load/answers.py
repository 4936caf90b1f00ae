"""What a load asks and what it expects: payloads in turns, and a check of every answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Takes the number of a question and the body of its answer. Raises WrongAnswer.
Check = Callable[[int, bytes], None]


# A call's: the number of its question, and when it was due (seconds, of the performance counter).
Tag = tuple[int, float]


class WrongAnswer(Exception):
    """A server answered what it must not answer, or not at all: its figures would mean nothing."""


class Unavailable(WrongAnswer):
    """A server says that it can't answer at the moment, as on a machine that starves it."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Payloads that are sent in turns. An answer is worth `units`: a batch holds several."""

    path: str
    payloads: Sequence[bytes]
    check: Check
    units: int = 1


def remembering(check: Check) -> Check:
    """A check that is spared for an answer that was good before for the same question."""
    good: dict[int, bytes] = {}

    def checked(number: int, body: bytes) -> None:
        if good.get(number) != body:
            check(number, body)
            good[number] = body

    return checked

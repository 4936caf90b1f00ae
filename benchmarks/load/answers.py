"""The questions of a load and their expected answers: payloads in turns, and a check of each
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Checks an answer: gets the number of its question and its body. Raises WrongAnswer.
Check = Callable[[int, bytes], None]


# The tag of a call: the number of its question, and when it was due (seconds of the performance
# counter).
Tag = tuple[int, float]


class WrongAnswer(Exception):
    """A server gave a wrong answer, or none. Figures of this server would mean nothing."""


class Unavailable(WrongAnswer):
    """A server says that it can't answer now, for example because the machine starves it."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Payloads that are sent in turns. An answer counts as `units`, as a batch holds several."""

    path: str
    payloads: Sequence[bytes]
    check: Check
    units: int = 1


def remembering(check: Check) -> Check:
    """Wraps a check so that a known good answer to the same question is not checked again."""
    good: dict[int, bytes] = {}

    def checked(number: int, body: bytes) -> None:
        if good.get(number) != body:
            check(number, body)
            good[number] = body

    return checked

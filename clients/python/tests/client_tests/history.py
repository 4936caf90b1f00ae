"""Records every revocation and every answer, and proves that no answer was staler than allowed.

The promise: a validation that starts more than the bound after the answer to its user's revocation
never returns "active". Times are from this machine's one monotonic clock, so answers of several
processes may be combined.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Revoked(NamedTuple):
    """A user was signed out: when the revocation was called, and when it was answered."""

    user: str
    called: float
    answered: float


class Answered(NamedTuple):
    """A validation of a user was answered. `here` is True if the cache answered."""

    user: str
    started: float
    ended: float
    active: bool
    here: bool


class Violation(NamedTuple):
    """An answer "active" to a validation that started after the revocation was answered."""

    answer: Answered
    revoked: Revoked

    @property
    def staleness(self) -> float:
        """The seconds from the answer to the revocation to the start of the validation."""
        return self.answer.started - self.revoked.answered


@dataclass
class History:
    """All recorded revocations and answers. Threads may append to the lists at the same time."""

    revoked: list[Revoked] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)

    def stale(self) -> Iterable[Violation]:
        """Yields the answers "active" to validations that started after the revocation was
        answered.
        """
        ended = {revoked.user: revoked for revoked in list(self.revoked)}
        for answer in list(self.answered):
            revoked = ended.get(answer.user)
            if answer.active and revoked is not None and answer.started > revoked.answered:
                yield Violation(answer, revoked)

    def violations(self, bound_seconds: float) -> list[Violation]:
        """Returns the stale answers beyond the bound."""
        return [violation for violation in self.stale() if violation.staleness > bound_seconds]

    def worst(self) -> float:
        """The greatest staleness of an answer, in seconds."""
        return max((violation.staleness for violation in self.stale()), default=0.0)

    def to_denial(self) -> list[float]:
        """For each revoked user, the seconds from the answer to the revocation until the first
        denial. The history must be of one client only.
        """
        ended = {revoked.user: revoked for revoked in self.revoked}
        first: dict[str, float] = {}
        for answer in self.answered:
            if not answer.active and answer.user in ended:
                first[answer.user] = min(first.get(answer.user, answer.ended), answer.ended)
        return [moment - ended[user].answered for user, moment in first.items()]


def now() -> float:
    """The current time on the clock of histories."""
    return time.monotonic()

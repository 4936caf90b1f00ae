"""Records every revocation and every answer, and proves that none was staler than it may be.

The promise: no answer says "active" that was asked for later than the bound after the revocation of
its user had answered. Times are those of this machine's one monotonic clock, so answers of several
processes may be put together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Revoked(NamedTuple):
    """A user was signed out."""

    user: str
    called: float
    answered: float


class Answered(NamedTuple):
    """Somebody was told whether a user is signed in; `here`: by the cache."""

    user: str
    started: float
    ended: float
    active: bool
    here: bool


class Violation(NamedTuple):
    """An answer that was staler than it may be."""

    answer: Answered
    revoked: Revoked

    @property
    def staleness(self) -> float:
        """How long after the revocation it was asked for."""
        return self.answer.started - self.revoked.answered


@dataclass
class History:
    """What happened. Appending to a list is safe for threads."""

    revoked: list[Revoked] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)

    def stale(self) -> Iterable[Violation]:
        """Answers that said "active" though asked for after the revocation had answered."""
        ended = {revoked.user: revoked for revoked in list(self.revoked)}
        for answer in list(self.answered):
            revoked = ended.get(answer.user)
            if answer.active and revoked is not None and answer.started > revoked.answered:
                yield Violation(answer, revoked)

    def violations(self, bound_seconds: float) -> list[Violation]:
        """Those beyond the bound."""
        return [violation for violation in self.stale() if violation.staleness > bound_seconds]

    def worst(self) -> float:
        """The longest that anybody was told "active" after a revocation."""
        return max((violation.staleness for violation in self.stale()), default=0.0)

    def to_denial(self) -> list[float]:
        """For each revocation and whoever asked, how long until they were first told of it. One
        asker, one history.
        """
        ended = {revoked.user: revoked for revoked in self.revoked}
        first: dict[str, float] = {}
        for answer in self.answered:
            if not answer.active and answer.user in ended:
                first[answer.user] = min(first.get(answer.user, answer.ended), answer.ended)
        return [moment - ended[user].answered for user, moment in first.items()]


def now() -> float:
    """The time of histories."""
    return time.monotonic()

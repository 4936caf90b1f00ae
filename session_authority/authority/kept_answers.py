"""Keeps encoded answers to validations, and repeats them as long as nothing has changed.

Redis is read for every validation. A kept answer is repeated on two conditions. The session's
record on the primary must be, byte for byte, the record that was judged. And the verdict must not
have changed with time (see `steady_verdicts`). A validation that gets a kept answer writes nothing.
So the answer is the same for every caller, and for all facts of the client.

A kept answer belongs to a verified token, and is dropped with it. All tokens are dropped when the
signing keys change.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from session_authority.authority.resources import Resources
from session_authority.domain.requests import AsPresented
from session_authority.domain.results import Validation
from session_authority.domain.steady_verdicts import Steadiness
from session_authority.store import Question

# The memory that a kept answer needs, without the encoded answer and the question (measured: 680).
_KEPT_BYTES = 768
# The length of a device ID in its usual spelling. Answers to other spellings, such as an ID between
# blanks, are not kept.
_USUAL_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class _KeptAnswer:
    """The kept answer to a token, for requests with exactly this text as the device ID."""

    device_id: str
    steadiness: Steadiness
    question: Question
    answer: bytes


class KeptAnswers:
    """The answers that are kept together with verified tokens."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._tokens = resources.tokens
        self._clock = resources.clock
        self._metrics = resources.metrics

    def keep(self, asked: AsPresented, validation: Validation, answer: bytes) -> None:
        """Keeps the encoded answer to a validation, if the answer may be repeated."""
        steadiness, session = validation.steadiness, validation.session
        if steadiness is None or session is None or len(asked.device_id) != _USUAL_CHARACTERS:
            return
        token = session.token
        question = self._store.question(token.user_id, token.device_key)
        size = _KEPT_BYTES + sys.getsizeof(answer) + question.size_bytes
        kept = _KeptAnswer(asked.device_id, steadiness, question, answer)
        self._tokens.keep(asked.access_token, kept, size)

    async def answer(self, asked: AsPresented) -> bytes | None:
        """The kept answer to a validation, if the store shows that the answer still holds. None
        means that the token must be judged.
        """
        kept = self._find(asked, self._clock())
        if kept is None or await self._store.ask(kept.question) != kept.steadiness.raw:
            return None
        self._metrics.kept(1)
        return kept.answer

    async def answers(self, asked: Sequence[AsPresented]) -> list[bytes | Exception | None]:
        """For each of many validations, the kept answer, or None if the token must be judged, or
        the error of the read.
        """
        now = self._clock()
        found: list[_KeptAnswer | None] = [self._find(one, now) for one in asked]
        answers: list[bytes | Exception | None] = [None] * len(found)
        kept = [(number, one) for number, one in enumerate(found) if one is not None]
        if not kept:
            return answers
        reads = await self._store.ask_many([one.question for _, one in kept])
        right = 0
        for (number, one), raw in zip(kept, reads, strict=True):
            if isinstance(raw, Exception):
                answers[number] = raw
            elif raw == one.steadiness.raw:
                answers[number] = one.answer
                right += 1
        self._metrics.kept(right)
        return answers

    def _find(self, asked: AsPresented, now: datetime) -> _KeptAnswer | None:
        """The kept answer to a request at this moment. The caller must still compare it with the
        store. A request with `observe_only` never gets a kept answer.
        """
        kept = self._tokens.recall(asked.access_token, now)
        if (
            isinstance(kept, _KeptAnswer)
            and kept.device_id == asked.device_id
            and not asked.observe_only
            and kept.steadiness.holds_at(now, passive=asked.passive)
        ):
            return kept
        return None

"""Keeps encoded answers to validations, and repeats an answer as long as its session has not
changed.

A kept answer is repeated on two conditions. First, the record of the session on the primary is,
byte for byte, the record that was judged. Second, the verdict has not changed with time (see
`steady_verdicts`). So Redis is read before each repetition of an answer. A validation that gets a
kept answer writes nothing, so the answer does not depend on the caller or on the facts of the
client.

A kept answer belongs to a verified token that this process remembers. If the process forgets the
token, the process drops the answer, too. The process forgets all tokens when the signing keys
change.
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

# The number of bytes of memory that a kept answer needs, without the encoded answer and without the
# `Question` to the store (measured: 680).
_KEPT_BYTES = 768
# The number of characters of a device ID in its usual spelling. If the device ID of a request has
# another length, because it is between blanks for example, the answer is not kept.
_USUAL_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class _KeptAnswer:
    """The kept answer to the validation of a token. The answer is repeated only for requests whose
    device ID has exactly the text `device_id`.
    """

    device_id: str
    steadiness: Steadiness
    question: Question
    answer: bytes


class KeptAnswers:
    """Keeps answers together with the verified tokens that they are about."""

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
        """Returns the kept answer to a validation, if the store shows that the answer still holds.
        Returns None if the token must be judged.
        """
        kept = self._find(asked, self._clock())
        if kept is None or await self._store.ask(kept.question) != kept.steadiness.raw:
            return None
        self._metrics.kept(1)
        return kept.answer

    async def answers(self, asked: Sequence[AsPresented]) -> list[bytes | Exception | None]:
        """Returns one result for each of many validations. The result is the kept answer, or None
        if the token must be judged, or the error of reading the store.
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
        """Returns the kept answer to a request, if the answer still holds at this moment. The
        caller of this method must still compare the record in the store with the record that was
        judged. Returns None for a request with `observe_only`.
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

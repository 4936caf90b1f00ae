"""Groups of commands leave one at a time, and a group whose caller has gone never leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from session_authority.store.driver.questions import Question
from session_authority.store.driver.reads import Reads

PATIENCE = 20.0  # Seconds; for conditions that a test awaits.


class Path:
    """Reads that have no answer until `go` is set. Their answers are their own names."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    def question(self, *command: str | bytes) -> Question:
        return Question(command)

    async def ask(self, question: Question) -> Any:
        [answer] = await self.ask_many([question])
        return answer

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        self.asked += [str(question.command[0]) for question in questions]
        await self.go.wait()
        return [question.command[0] for question in questions]

    async def hang_up(self) -> None: ...

    async def drained(self) -> None: ...


async def test_a_group_whose_caller_has_gone_never_leaves() -> None:
    """Otherwise the reads of a server that hangs would delay all later ones."""
    path = Path()
    reads = Reads(path)
    first = asyncio.ensure_future(reads.send([("first",)]))
    left = [asyncio.ensure_future(reads.send([("left",)])) for _ in range(50)]
    last = asyncio.ensure_future(reads.send([("last",)]))
    await asyncio.sleep(0)
    for one in (first, *left):
        one.cancel()
    await asyncio.wait([first, *left])
    path.go.set()
    assert await asyncio.wait_for(last, PATIENCE) == ["last"]
    assert path.asked == ["first", "last"]
    await asyncio.wait_for(reads.settled(), PATIENCE)

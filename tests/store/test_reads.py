"""Groups of commands leave one at a time, and none leaves whose caller has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from session_authority.store.driver.questions import Question
from session_authority.store.driver.reads import Reads

PATIENCE = 20.0  # seconds; for what is eventual


class Path:
    """Reads that have no answer until `go` is set, but their own names."""

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


async def test_no_group_leaves_whose_caller_has_gone() -> None:
    """Else the reads of a server that hangs would hold up all that come later."""
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

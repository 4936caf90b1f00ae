"""Marks of use leave together, each has its own answer, and a mark that is sent twice does
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from session_authority.store.driver.mark_writes import MarkWrites
from session_authority.store.driver.questions import Command
from session_authority.store.records import Changed, Commit, Committed
from tests.store.samples import NOW, SECOND, Room, event, key, session, stored_session


class Line:
    """A `send` that waits until the test lets it answer. The answer to a command is the command's
    own text.
    """

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        self.sent.append([str(command[0]) for command in commands])
        await self._answer
        return [ValueError(name) if str(name).startswith("bad") else name for (name,) in commands]

    async def answer(self, error: Exception | None = None) -> None:
        """Answers one batch, and lets the next one leave."""
        answered, self._answer = self._answer, asyncio.get_running_loop().create_future()
        if error is None:
            answered.set_result(None)
        else:
            answered.set_exception(error)
        await turns()


async def turns() -> None:
    """Lets every task run that is ready to run."""
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def line() -> Line:
    return Line()


async def test_writes_that_arrive_during_an_exchange_leave_together(line: Line) -> None:
    writes = MarkWrites(line.send)
    first = writes.run(("a",))
    await turns()
    others = [writes.run((f"b{number}",)) for number in range(40)]
    await turns()
    assert line.sent == [["a"]]
    await line.answer()
    assert await first == "a"
    await line.answer()
    await line.answer()
    assert await asyncio.gather(*others) == [f"b{number}" for number in range(40)]
    assert [len(batch) for batch in line.sent] == [1, 32, 8]
    await writes.settled()


async def test_each_write_has_its_own_answer_or_refusal(line: Line) -> None:
    writes = MarkWrites(line.send)
    good, bad, left = (writes.run((name,)) for name in ("good", "bad", "left"))
    left.cancel()
    await turns()
    await line.answer()
    assert await good == "good"
    with pytest.raises(ValueError, match="bad"):
        await bad
    await writes.settled()


async def test_a_mark_whose_caller_has_gone_is_not_sent(line: Line) -> None:
    """Otherwise a server that stops would send all the marks that it has dropped."""
    writes = MarkWrites(line.send)
    first = writes.run(("a",))
    await turns()
    left = [writes.run((f"b{number}",)) for number in range(70)]
    stays = writes.run(("c",))
    for mark in (first, *left):
        mark.cancel()
    await line.answer()
    await line.answer()
    assert line.sent == [["a"], ["c"]]
    assert await stays == "c"
    await writes.settled()


async def test_a_mark_that_arrives_while_the_last_mark_is_answered_is_sent(line: Line) -> None:
    writes = MarkWrites(line.send)
    later: list[asyncio.Future[Any]] = []
    first = writes.run(("a",))
    first.add_done_callback(lambda _: later.append(writes.run(("b",))))
    await turns()
    await line.answer()
    await line.answer()
    assert await asyncio.gather(first, *later) == ["a", "b"]
    await writes.settled()


async def test_a_failed_batch_fails_for_all_its_marks_and_the_next_leaves(line: Line) -> None:
    writes = MarkWrites(line.send)
    lost = [writes.run(("a",)), writes.run(("b",))]
    await turns()
    later = writes.run(("c",))
    await line.answer(ConnectionError("gone"))
    assert [str(error) for error in await asyncio.gather(*lost, return_exceptions=True)] == [
        "gone"
    ] * 2
    await line.answer()
    assert await later == "c"
    await writes.settled()


# ----- marks of the store


def mark(number: int = 1, **changes: Any) -> Commit:
    """A commit of a session's use, which may be lost."""
    used = session(number, last_seen_at=NOW + SECOND)
    commit = Commit(
        "ada",
        NOW,
        if_sessions={key(number): stored_session(number)},
        set_sessions={key(number): used},
        durable=False,
    )
    return replace(commit, **changes)


@pytest.mark.parametrize(
    ("is_mark", "changes"),
    [
        (True, {}),
        (True, {"set_sessions": {key(1): None}}),
        (False, {"durable": True}),
        (False, {"events": (event("ada"),)}),
        (False, {"clear_sessions": True}),
        (False, {"if_sessions": {}}),
        (False, {"if_sessions": {key(2): None}}),
        (False, {"set_sessions": {}}),
    ],
)
def test_only_a_commit_that_may_be_sent_twice_is_a_mark(
    is_mark: bool, changes: dict[str, Any]
) -> None:
    assert mark(**changes).is_mark is is_mark


async def test_marks_change_the_record_they_compare_and_nothing_else(room: Room) -> None:
    await room.put("ada", *range(1, 41))
    results = await asyncio.gather(*(room.store.commit(mark(n)) for n in range(1, 41)))
    assert results == [Committed()] * 40
    state = await room.store.user("ada")
    assert {s.last_seen_at for s in state.session_records().values()} == {NOW + SECOND}
    again = await asyncio.gather(*(room.store.commit(mark(n)) for n in range(1, 41)))
    assert again == [Changed()] * 40


async def test_marks_leave_in_few_exchanges(
    valkey_room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await valkey_room.put("ada", *range(1, 41))
    await valkey_room.store.commit(mark(1))
    sizes: list[int] = []
    send = valkey_room.store._marks._send

    async def counted(commands: Sequence[Command]) -> Sequence[Any]:
        sizes.append(len(commands))
        return await send(commands)

    monkeypatch.setattr(valkey_room.store._marks, "_send", counted)
    await asyncio.gather(*(valkey_room.store.commit(mark(n)) for n in range(2, 41)))
    assert (sum(sizes), len(sizes) <= 3) == (39, True)


async def test_a_mark_is_written_by_a_server_that_lost_the_script(valkey_room: Room) -> None:
    await valkey_room.put("ada", 1, 2)
    await valkey_room.store.commit(mark(1))
    await valkey_room.run("SCRIPT", "FLUSH")
    assert await valkey_room.store.commit(mark(2)) == Committed()

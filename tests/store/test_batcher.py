"""Reads go out together, and each answer belongs to its question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_authority.store import Limits
from session_authority.store.driver.batcher import Batcher, Command
from tests.store.conftest import RoomBehind
from tests.store.samples import key, session
from tests.support.backends import Backend
from tests.support.budget import budget
from tests.support.proxy import Proxy


class Line:
    """A `Send` that waits until the test lets it answer. The answer to a command is its own
    text.
    """

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self._replies: list[asyncio.Future[Sequence[Any]]] = []
        self.busy = self.most_busy = 0

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        self.sent.append([str(command[0]) for command in commands])
        self._replies.append(asyncio.get_running_loop().create_future())
        try:
            return await self._replies[-1]
        finally:
            self.busy -= 1

    def answer(self, number: int = -1, **instead: Exception) -> None:
        """Answers one pipeline, with an exception in place of the answers that are named."""
        self._replies[number].set_result(
            [instead.get(command, f"answer to {command}") for command in self.sent[number]]
        )

    def fail(self, error: BaseException, number: int = -1) -> None:
        self._replies[number].set_exception(error)


async def turns(number: int = 4) -> None:
    """Lets everything run that is ready to."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
def line() -> Line:
    return Line()


async def test_reads_asked_for_at_once_go_out_together(line: Line) -> None:
    batcher = Batcher(line.send)
    reads = [batcher.read(text) for text in "abc"]
    await turns()
    assert line.sent == [["a", "b", "c"]]
    line.answer()
    assert await asyncio.gather(*reads) == ["answer to a", "answer to b", "answer to c"]


async def test_nothing_is_sent_before_the_turn_is_over(line: Line) -> None:
    batcher = Batcher(line.send)
    batcher.read("a")
    assert line.sent == []
    await turns()
    assert line.sent == [["a"]]


async def test_a_read_never_joins_what_was_sent(line: Line) -> None:
    """Its answer would be older than its question: a revocation may have been answered in
    between.
    """
    batcher = Batcher(line.send, pipelines=1)
    first = batcher.read("a")
    await turns()
    second = batcher.read("a")
    await turns()
    assert line.sent == [["a"]]
    line.answer(0)
    assert await first == "answer to a"
    await turns()
    assert line.sent == [["a"], ["a"]]
    assert not second.done()
    line.answer(1)
    assert await second == "answer to a"


async def test_a_free_line_is_used_at_once(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=3)
    for text in "abc":
        batcher.read(text)
        await turns()
    assert line.sent == [["a"], ["b"], ["c"]]


async def test_reads_gather_while_all_lines_are_busy(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=2)
    reads = []
    for text in "abcde":
        reads.append(batcher.read(text))
        await turns()
    assert line.sent == [["a"], ["b"]]
    line.answer(1)
    await turns()
    assert line.sent == [["a"], ["b"], ["c", "d", "e"]]
    assert line.most_busy == 2
    line.answer(0)
    line.answer(2)
    assert await asyncio.gather(*reads) == [f"answer to {text}" for text in "abcde"]


async def test_a_batch_has_its_limit(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=2, max_batch=3)
    reads = [batcher.read(text) for text in "abcdefgh"]
    await turns()
    assert line.sent == [["a", "b", "c"], ["d", "e", "f"]]
    line.answer(0)
    await turns()
    assert line.sent[2:] == [["g", "h"]]
    line.answer(1)
    line.answer(2)
    assert await asyncio.gather(*reads) == [f"answer to {text}" for text in "abcdefgh"]


async def test_an_error_of_one_command_reaches_only_its_asker(line: Line) -> None:
    batcher = Batcher(line.send)
    a, b, c = (batcher.read(text) for text in "abc")
    await turns()
    line.answer(b=KeyError("b"))
    assert await a == "answer to a"
    assert await c == "answer to c"
    with pytest.raises(KeyError):
        await b


async def test_a_failed_send_reaches_all_and_the_next_goes_out(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=1)
    reads = [batcher.read(text) for text in "abc"]
    await turns()
    later = batcher.read("d")
    line.fail(ConnectionError("gone"))
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError] * 3
    await turns()
    assert line.sent == [["a", "b", "c"], ["d"]]
    line.answer()
    assert await later == "answer to d"


async def test_a_line_that_always_fails_is_never_lost(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=2)
    for number in range(10):
        read = batcher.read(str(number))
        await turns()
        line.fail(OSError("refused"))
        with pytest.raises(OSError, match="refused"):
            await read


async def test_whoever_gives_up_before_sending_costs_nothing(line: Line) -> None:
    batcher = Batcher(line.send)
    a, b = batcher.read("a"), batcher.read("b")
    a.cancel()
    await turns()
    assert line.sent == [["b"]]
    line.answer()
    assert await b == "answer to b"


async def test_if_all_give_up_nothing_is_sent(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=1)
    for text in "ab":
        batcher.read(text).cancel()
    await turns()
    assert line.sent == []
    read = batcher.read("c")
    await turns()
    line.answer()
    assert await read == "answer to c"


async def test_whoever_gives_up_after_sending_disturbs_nobody(line: Line) -> None:
    batcher = Batcher(line.send)

    async def ask(text: str) -> Any:
        return await batcher.read(text)

    tasks = [asyncio.create_task(ask(text)) for text in "abc"]
    await turns()
    assert line.sent == [["a", "b", "c"]]
    tasks[1].cancel()
    await turns()
    assert tasks[1].cancelled()
    assert line.busy == 1  # the pipeline goes on
    line.answer()
    assert [await tasks[0], await tasks[2]] == ["answer to a", "answer to c"]


async def test_whoever_gives_up_does_not_hide_the_error_from_the_others(line: Line) -> None:
    batcher = Batcher(line.send)
    a, b = batcher.read("a"), batcher.read("b")
    await turns()
    a.cancel()
    line.fail(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await b


async def test_drained_waits_for_what_was_sent_and_what_waits(line: Line) -> None:
    batcher = Batcher(line.send, pipelines=1)
    reads = [batcher.read("a")]
    await turns()
    reads.append(batcher.read("b"))
    drained = asyncio.create_task(batcher.drained())
    await turns()
    assert not drained.done()
    line.answer()
    await turns()
    assert not drained.done()
    line.answer()
    await drained
    assert [read.result() for read in reads] == ["answer to a", "answer to b"]


@settings(max_examples=budget(50))
@given(
    seed=st.integers(0, 2**32),
    pipelines=st.integers(1, 4),
    max_batch=st.integers(1, 20),
    failing=st.sampled_from([0.0, 0.2]),
)
def test_answers_belong_to_their_questions(
    seed: int, pipelines: int, max_batch: int, failing: float
) -> None:
    """Whatever the order in which pipelines come back, fail, and askers come and give up."""
    chance = Random(seed)

    async def send(commands: Sequence[Command]) -> Sequence[Any]:
        assert len(commands) <= max_batch
        await turns(chance.randrange(6))
        if chance.random() < failing:
            raise OSError("gone")
        return [
            KeyError(command[0]) if chance.random() < failing else f"answer to {command[0]!s}"
            for command in commands
        ]

    async def history() -> None:
        batcher = Batcher(send, pipelines=pipelines, max_batch=max_batch)

        async def ask(number: int) -> None:
            await turns(chance.randrange(20))
            answers: list[object] = await asyncio.gather(
                batcher.read(str(number)), return_exceptions=True
            )
            assert repr(answers[0]) in (
                repr(f"answer to {number}"),
                repr(KeyError(str(number))),
                repr(OSError("gone")),
            )

        tasks = [asyncio.create_task(ask(number)) for number in range(60)]
        for task in chance.sample(tasks, 20):
            await turns(chance.randrange(4))
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        await batcher.drained()

    asyncio.run(history())


# ----- the same with a real server


@pytest.fixture
async def slow(valkey_backend: Backend) -> AsyncIterator[Proxy]:
    """The bundled Valkey behind a wire of changing slowness."""
    chance = Random(7)

    async def delay(_: bytes) -> None:
        await turns(chance.randrange(40))

    async with Proxy(valkey_backend.url) as proxy:
        proxy.on_reply = delay
        yield proxy


async def test_no_answer_reaches_another_users_question(
    slow: Proxy, prefix: str, room_behind: RoomBehind
) -> None:
    """Thousands of reads, a third of them given up at any moment, through a server whose answers
    come when they like.
    """
    chance = Random(11)
    patient = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=10))
    room = await room_behind(slow, prefix, patient)
    await asyncio.gather(*(room.put(f"user-{n}", n) for n in range(1, 301)))
    right = 0

    async def ask(number: int) -> None:
        nonlocal right
        await turns(chance.randrange(300))
        user = f"user-{number}"
        if number % 3:
            found = await room.store.session(user, key(number))
            assert found is not None
            assert found.record == session(number)
        else:
            state = await room.store.user(user)
            assert state.session_records() == {key(number): session(number)}
            assert await room.store.session(user, key(number + 1)) is None
        right += 1

    for _ in range(4):
        tasks = [asyncio.create_task(ask(chance.randrange(1, 301))) for _ in range(1500)]
        for task in chance.sample(tasks, 500):
            await turns(chance.randrange(3))
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
    assert right >= 3000  # most were asked, whoever gave up

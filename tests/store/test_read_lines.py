"""Reads go out together, and each answer belongs to its read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from session_authority.store import Limits, connect
from session_authority.store.driver.errors import WritesRefused
from session_authority.store.driver.line_source import LineSource
from session_authority.store.driver.questions import Question
from session_authority.store.driver.read_lines import ReadLines
from tests.store.scripted_server import ScriptedServer, answer_to
from tests.support.backends import PATIENT
from tests.support.ports import free_port
from tests.support.waiting import eventually

MakeLines = Callable[..., ReadLines]
PATIENCE = PATIENT.reply_timeout.total_seconds()
# For tests that wait until a reply is late.
SOON = timedelta(milliseconds=400)


def get(key: str) -> Question:
    return Question(("GET", key))


async def turns(number: int = 4) -> None:
    """Lets every task run that is ready to run."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as made:
        yield made


@pytest.fixture
async def make_lines(server: ScriptedServer) -> AsyncIterator[MakeLines]:
    clients: list[Redis] = []

    def make(limit: int = 4, timeout: timedelta = PATIENT.reply_timeout) -> ReadLines:
        client = connect(server.url, Limits(PATIENT.connect_timeout, timeout))
        assert isinstance(client, Redis)
        clients.append(client)
        source = LineSource(client.connection_pool, ("DEL", "probe"))
        return ReadLines(source, limit=limit, timeout_seconds=timeout.total_seconds())

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def lines(make_lines: MakeLines) -> ReadLines:
    return make_lines()


# --- which reads go out together ------------------------------------------------------------------


async def test_reads_that_start_at_once_go_out_together(
    lines: ReadLines, server: ScriptedServer
) -> None:
    reads = [lines.ask(get(key)) for key in "abc"]
    batch = await server.arrived(1)
    assert batch.commands == ["a", "b", "c"]
    batch.answer()
    assert await asyncio.gather(*reads) == [b"answer to a", b"answer to b", b"answer to c"]


async def test_a_read_never_joins_a_batch_that_was_sent(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    """The answer would be older than the read: a revocation may have been answered in between."""
    lines = make_lines(1)
    first = lines.ask(get("a"))
    batch = await server.arrived(1)
    second = lines.ask(get("a"))
    await turns()
    batch.answer(a=answer_to("before"))
    assert await first == b"answer to before"
    batch = await server.arrived(2)
    assert not second.done()
    batch.answer(a=answer_to("after"))
    assert await second == b"answer to after"


async def test_a_free_line_is_used_at_once(make_lines: MakeLines, server: ScriptedServer) -> None:
    lines = make_lines(3)
    for number, key in enumerate("abc", 1):
        lines.ask(get(key))
        assert (await server.arrived(number)).commands == [key]
    assert server.connections == 3


async def test_reads_gather_while_all_lines_are_busy(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(2)
    reads = [lines.ask(get("a"))]
    one = await server.arrived(1)
    reads.append(lines.ask(get("b")))
    two = await server.arrived(2)
    for key in "cde":
        reads.append(lines.ask(get(key)))
        await turns()
    two.answer()
    three = await server.arrived(3)
    assert three.commands == ["c", "d", "e"]
    one.answer()
    three.answer()
    assert await asyncio.gather(*reads) == [f"answer to {key}".encode() for key in "abcde"]
    assert server.connections == 2


async def test_a_batch_has_its_limit(make_lines: MakeLines, server: ScriptedServer) -> None:
    lines = make_lines(3)
    reads = [lines.ask(get(f"k{number}")) for number in range(600)]
    await eventually(lambda: sum(len(r.commands) for r in server.received) == 600, "all to arrive")
    assert sorted(len(batch.commands) for batch in server.received) == [88, 256, 256]
    for batch in server.received:
        batch.answer()
    assert await asyncio.gather(*reads) == [f"answer to k{n}".encode() for n in range(600)]


async def test_many_reads_share_one_future(make_lines: MakeLines, server: ScriptedServer) -> None:
    """The reads are more than one batch holds. The second batch is answered first."""
    lines = make_lines(2)
    asked = asyncio.ensure_future(lines.ask_many([get(f"k{n}") for n in range(300)]))
    await eventually(lambda: sum(len(r.commands) for r in server.received) == 300, "all to arrive")
    for batch in reversed(server.received):
        batch.answer(k7=b"-ERR no\r\n", k280=b"$-1\r\n")
        await turns(8)
    replies = await asked
    assert isinstance(replies[7], redis.exceptions.ResponseError)
    assert replies[280] is None
    right = [f"answer to k{n}".encode() for n in range(300)]
    assert [r for n, r in enumerate(replies) if n not in (7, 280)] == [
        r for n, r in enumerate(right) if n not in (7, 280)
    ]
    assert await lines.ask_many([]) == []


async def test_no_read_joins_a_batch_that_must_go_alone(
    lines: ReadLines, server: ScriptedServer
) -> None:
    before = lines.ask(get("a"))
    apart = asyncio.ensure_future(lines.ask_many([get("b"), get("c")], apart=True))
    await turns(1)
    after = lines.ask(get("d"))
    await server.arrived(3)
    assert sorted(batch.commands for batch in server.received) == [["a"], ["b", "c"], ["d"]]
    for batch in server.received:
        batch.answer()
    assert [await before, await after] == [b"answer to a", b"answer to d"]
    assert await apart == [b"answer to b", b"answer to c"]


# ----- errors


async def test_an_error_of_one_command_reaches_only_its_caller(
    lines: ReadLines, server: ScriptedServer
) -> None:
    a, b, c = [lines.ask(get(key)) for key in "abc"]
    (await server.arrived(1)).answer(b=b"-WRONGTYPE no hash\r\n")
    assert [await a, await c] == [b"answer to a", b"answer to c"]
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        await b


async def test_a_lost_line_fails_its_whole_batch_and_the_next_goes_out(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(1)
    reads = [lines.ask(get(key)) for key in "abc"]
    batch = await server.arrived(1)
    later = lines.ask(get("d"))
    batch.hang_up()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(result) for result in results] == [redis.exceptions.ConnectionError] * 3
    (await server.arrived(2)).answer()
    assert await later == b"answer to d"


async def test_a_line_that_fails_gives_its_place_in_the_pool_back(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(2)
    for number in range(1, 11):
        read = lines.ask(get("a"))
        (await server.arrived(number)).hang_up()
        with pytest.raises(redis.exceptions.ConnectionError):
            await read


async def test_a_connection_that_the_server_refuses_is_not_used_again(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(1)
    read = lines.ask(get("a"))
    (await server.arrived(1)).say(b"-NOAUTH Authentication required.\r\n")
    with pytest.raises(redis.exceptions.AuthenticationError):
        await read
    read = lines.ask(get("b"))
    (await server.arrived(2)).answer()
    assert await read == b"answer to b"
    assert server.connections == 2


@pytest.mark.parametrize(
    "refusal",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-NOPERM no permission\r\n",
    ],
)
async def test_a_server_that_accepts_no_writes_is_not_read(
    lines: ReadLines, server: ScriptedServer, refusal: bytes
) -> None:
    server.refusal = refusal
    [reply] = await lines.ask_many([get("a")])
    assert isinstance(reply, redis.exceptions.ConnectionError)
    assert not isinstance(reply, redis.exceptions.ResponseError), "the refusal answers no read"
    with pytest.raises(redis.exceptions.ConnectionError):
        await lines.ask(get("a"))
    assert server.received == []


async def test_a_refused_line_is_not_replaced_by_another(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    """Otherwise another line is always under way, and the waiting reads never fail."""
    server.refusal = b"-READONLY You can't write against a read only replica.\r\n"
    server.proofs_held = True
    lines = make_lines(limit=4)
    asked = [asyncio.ensure_future(lines.ask_many([get("a")], apart=True)) for _ in range(2)]
    await eventually(lambda: len(server.unproven) == 2, "two lines to be proven")
    for left in (1, 0):
        server.release_proof()
        hung_up = partial(lambda left: server.open == left, left)
        await eventually(hung_up, "the refused line to be hung up")
        await turns(20)
    replies = await asyncio.gather(*asked)
    assert {type(reply) for [reply] in replies} == {WritesRefused}
    assert server.connections == 2


async def test_a_read_that_arrives_while_a_refused_line_is_given_back_is_sent_on_the_next_line(
    make_lines: MakeLines, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, given_back = make_lines(limit=1), asyncio.Event()
    pool: Any = lines._source._connections
    release = pool.release

    async def release_late(connection: AbstractConnection) -> None:
        await given_back.wait()
        await release(connection)

    monkeypatch.setattr(pool, "release", release_late)
    server.refusal, right = b"-READONLY no\r\n", server.refusal
    with pytest.raises(WritesRefused):
        await lines.ask(get("a"))
    server.refusal = right
    answer = lines.ask(get("b"))
    await turns()
    given_back.set()
    (await server.arrived(1)).answer()
    assert await answer == answer_to("b").split(b"\r\n")[1]


# ----- callers that give up


async def test_a_caller_that_gives_up_before_sending_costs_nothing(
    lines: ReadLines, server: ScriptedServer
) -> None:
    a, b = lines.ask(get("a")), lines.ask(get("b"))
    a.cancel()
    batch = await server.arrived(1)
    assert batch.commands == ["b"]
    batch.answer()
    assert await b == b"answer to b"


async def test_if_all_callers_give_up_nothing_is_sent(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(1)
    for key in "ab":
        lines.ask(get(key)).cancel()
    many = asyncio.ensure_future(lines.ask_many([get("c")]))
    await turns(1)
    many.cancel()
    await eventually(lambda: server.connections == 1, "a line to be there")
    read = lines.ask(get("d"))
    batch = await server.arrived(1)
    assert batch.commands == ["d"]
    batch.answer()
    assert await read == b"answer to d"


async def test_a_caller_that_gives_up_after_sending_disturbs_nobody(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(1)
    a, b, c = [lines.ask(get(key)) for key in "abc"]
    batch = await server.arrived(1)
    b.cancel()
    next_one = lines.ask(get("d"))
    batch.answer()
    assert [await a, await c] == [b"answer to a", b"answer to c"]
    (await server.arrived(2)).answer()
    assert await next_one == b"answer to d"
    assert server.connections == 1


# --- unrequested replies --------------------------------------------------------------------------


@pytest.mark.parametrize("said", [answer_to("x"), b"$5\r\nwr", b"+", b"nonsense\r\n"])
async def test_a_line_on_which_the_server_sent_an_unrequested_reply_is_not_used_again(
    make_lines: MakeLines, server: ScriptedServer, said: bytes
) -> None:
    lines = make_lines(1)
    read = lines.ask(get("a"))
    batch = await server.arrived(1)
    batch.answer()
    await read
    batch.say(said)
    await turns()  # The reply may have been read by now, or may still be in the socket.
    read = lines.ask(get("b"))
    (await server.arrived(2)).answer()
    assert await read == b"answer to b"
    assert server.connections == 2


async def test_a_reply_that_lies_in_the_socket_is_found_before_a_read_leaves(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    """The read starts in the turn of the event loop in which the reply arrives. So the loop has not
    read the reply from the socket yet.
    """
    lines = make_lines(1)
    read = lines.ask(get("a"))
    batch = await server.arrived(1)
    batch.answer()
    await read
    read = lines.ask(get("b"))
    batch.say(answer_to("x"))  # Written at once, as nothing else waits to be written.
    (await server.arrived(2)).answer()
    assert await read == b"answer to b"


@pytest.mark.parametrize("more", [answer_to("x"), b"$5\r\nwr"])
async def test_a_batch_with_more_replies_than_reads_gives_no_answer(
    make_lines: MakeLines, server: ScriptedServer, more: bytes
) -> None:
    lines = make_lines(1)
    reads = [lines.ask(get(key)) for key in "ab"]
    (await server.arrived(1)).say(answer_to("a") + answer_to("b") + more)
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(result) for result in results] == [redis.exceptions.ConnectionError] * 2


async def test_a_reply_may_arrive_in_pieces(lines: ReadLines, server: ScriptedServer) -> None:
    reads = [lines.ask(get(key)) for key in "ab"]
    batch = await server.arrived(1)
    whole = answer_to("a") + answer_to("b")
    for at in range(len(whole)):
        assert not any(read.done() for read in reads)
        batch.say(whole[at : at + 1])
        await turns()
    assert await asyncio.gather(*reads) == [b"answer to a", b"answer to b"]


async def test_a_malformed_reply_is_no_answer(lines: ReadLines, server: ScriptedServer) -> None:
    read = lines.ask(get("a"))
    (await server.arrived(1)).say(b"nonsense\r\n")
    with pytest.raises(redis.exceptions.ConnectionError):
        await read


# ----- time-outs and generations of lines: a new generation begins when all lines are closed


async def test_a_read_fails_in_time_wherever_it_waits(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    """A read may wait on a line, behind busy lines, or for a line that is about to be opened."""
    lines = make_lines(1, SOON)
    warm = lines.ask(get("a"))
    (await server.arrived(1)).answer()
    await warm
    reads = [lines.ask(get(f"k{n}")) for n in range(600)]
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert {type(result) for result in results} == {redis.exceptions.TimeoutError}
    assert len(server.received) == 2, "late reads were not sent"
    lines = make_lines(2, SOON)
    server.proofs_held = True
    with pytest.raises(redis.exceptions.TimeoutError):
        await lines.ask(get("c"))
    server.proofs_held = False
    read = lines.ask(get("d"))
    (await server.arrived(3)).answer()
    assert await read == b"answer to d"


async def test_a_late_reply_is_no_answer(make_lines: MakeLines, server: ScriptedServer) -> None:
    lines = make_lines(1, SOON)
    read = lines.ask(get("a"))
    late = await server.arrived(1)
    with pytest.raises(redis.exceptions.TimeoutError):
        await read
    read = lines.ask(get("b"))
    late.answer()
    (await server.arrived(2)).answer()
    assert await read == b"answer to b"


async def test_a_new_generation_uses_no_line_of_the_one_before(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(2)
    reads = [lines.ask(get("a"))]
    idle = await server.arrived(1)
    reads.append(lines.ask(get("b")))
    busy = await server.arrived(2)
    idle.answer()
    assert await reads[0] == b"answer to a"
    await lines.hang_up()
    busy.answer(b=answer_to("old"))
    fresh = await server.arrived(3)
    assert fresh.commands == ["b"], "the read was sent again"
    fresh.answer()
    assert await reads[1] == b"answer to b"
    read = lines.ask(get("c"))
    (await server.arrived(4)).answer()
    assert await read == b"answer to c"
    assert server.connections == 3


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_line_that_was_opened_for_the_generation_before_is_not_used(
    make_lines: MakeLines, server: ScriptedServer, limit: int
) -> None:
    lines = make_lines(limit)
    server.proofs_held = True
    read = lines.ask(get("a"))
    await eventually(lambda: server.connections == 1, "a line to be under way")
    await lines.hang_up()
    await turns()
    server.release_proofs()
    (await server.arrived(1)).answer()
    assert await read == b"answer to a"
    assert server.connections == 2
    await eventually(lambda: server.open == 1, "the first line to be hung up")


async def test_a_line_that_could_not_be_opened_leaves_its_place_to_the_next(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    """The waiting reads no longer count on that line, so nothing else would open a line for
    them.
    """
    lines = make_lines(1)
    server.proofs_held = True
    read = lines.ask(get("a"))
    await eventually(lambda: server.connections == 1, "a line to be under way")
    await lines.hang_up()
    await turns()
    server.hang_up_unproven()
    (await server.arrived(1)).answer()
    assert await read == b"answer to a"


async def test_no_free_connection_is_used_while_it_is_closed(server: ScriptedServer) -> None:
    client = connect(server.url, PATIENT)
    assert isinstance(client, Redis)
    lines = ReadLines(LineSource(client.connection_pool, None), limit=1, timeout_seconds=PATIENCE)
    earlier = [asyncio.ensure_future(client.get(key)) for key in "xyz"]
    await server.arrived(3)
    for batch in server.received:
        batch.answer()
    await asyncio.gather(*earlier)
    hung_up, answer = asyncio.ensure_future(lines.hang_up()), asyncio.ensure_future(client.get("a"))
    (await server.arrived(4)).answer()
    assert await answer == b"answer to a"
    assert server.connections == 4, "the command used a new connection"
    await hung_up
    await client.aclose()


async def test_a_read_is_sent_three_times_at_most(lines: ReadLines, server: ScriptedServer) -> None:
    read = lines.ask(get("a"))
    for number in range(1, 4):
        await server.arrived(number)
        await lines.hang_up()
    with pytest.raises(redis.exceptions.ConnectionError):
        await read
    assert len(server.received) == 3


# ----- connections


class CountedPool:
    """A pool that counts the most connections that were in use at once."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._taken = self.most_taken = 0

    @property
    def _available_connections(self) -> list[AbstractConnection]:
        return self._pool._available_connections

    async def get_connection(self) -> AbstractConnection:
        self._taken += 1
        self.most_taken = max(self._taken, self.most_taken)
        connection: AbstractConnection = await self._pool.get_connection()
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        await self._pool.release(connection)
        self._taken -= 1


async def test_there_are_never_more_connections_than_the_limit(server: ScriptedServer) -> None:
    client = connect(server.url, PATIENT)
    assert isinstance(client, Redis)
    pool = CountedPool(client.connection_pool)
    lines = ReadLines(LineSource(pool, None), limit=2, timeout_seconds=PATIENCE)
    for number in range(1, 30):
        arrived = len(server.received)
        reads = [lines.ask(get(f"k{n}")) for n in range(600)]
        await eventually(lambda n=arrived: len(server.received) > n, "a batch to arrive")  # type: ignore[misc]
        if number % 2:
            await lines.hang_up()
        for read in reads:
            read.cancel()
        for batch in server.received[arrived:]:
            batch.answer()
        await turns(10)
    await client.aclose()
    assert pool.most_taken == 2


async def test_drained_waits_for_reads_that_were_sent_and_reads_that_wait(
    make_lines: MakeLines, server: ScriptedServer
) -> None:
    lines = make_lines(1)
    reads = [lines.ask(get("a"))]
    first = await server.arrived(1)
    reads.append(lines.ask(get("b")))
    drained = asyncio.create_task(lines.drained())
    await turns()
    assert not drained.done()
    first.answer()
    second = await server.arrived(2)
    assert not drained.done()
    second.answer()
    await drained
    assert [read.result() for read in reads] == [b"answer to a", b"answer to b"]
    await eventually(lambda: server.open == 0, "the line to be hung up")


async def test_the_driver_hears_that_a_connection_is_closed(server: ScriptedServer) -> None:
    """When the client is closed, the driver waits until each connection is closed. A read that is
    under way fails.
    """
    client = connect(server.url, PATIENT)
    assert isinstance(client, Redis)
    lines = ReadLines(LineSource(client.connection_pool, None), limit=1, timeout_seconds=PATIENCE)
    read = lines.ask(get("a"))
    await server.arrived(1)
    async with asyncio.timeout(PATIENCE / 2):
        await client.aclose()
    with pytest.raises(redis.exceptions.ConnectionError):
        await read


def test_the_driver_is_of_a_version_whose_private_parts_are_known() -> None:
    """A line uses `_writer` and `_parser` of its connections: see `read_line`. When the driver's
    major version changes, somebody must check that both still mean the same.
    """
    major, minor, *_ = map(int, version("redis").split("."))
    assert (8, 1) <= (major, minor) < (9, 0)


async def test_a_line_s_assumptions_about_the_driver_hold(server: ScriptedServer) -> None:
    client = connect(server.url, PATIENT)
    assert isinstance(client, Redis)
    connection: Any = await client.connection_pool.get_connection()
    assert isinstance(connection._writer, asyncio.StreamWriter)
    assert isinstance(connection._parser.parse_error("READONLY no"), redis.exceptions.ReadOnlyError)
    await client.connection_pool.release(connection)
    await client.aclose()


async def test_reads_that_cannot_connect_fail_at_once() -> None:
    """When one attempt to connect fails, all waiting batches fail. No batch repeats the attempt."""
    client = connect(f"redis://127.0.0.1:{free_port()}", PATIENT)
    assert isinstance(client, Redis)
    source = LineSource(client.connection_pool, ("DEL", "probe"))
    lines = ReadLines(source, limit=4, timeout_seconds=PATIENCE)
    asked = [lines.ask_many([get("a")], apart=True) for _ in range(6)]
    replies = await asyncio.gather(*asked)
    assert {type(reply) for [reply] in replies} == {redis.exceptions.ConnectionError}

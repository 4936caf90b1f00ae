"""A round: trials that are made at the same time, and judged together once all have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from tests.faults.checker import ALLOWED_ERRORS
from tests.faults.history import Event, History
from tests.faults.recorder import Answered, Recorder, Server, now
from tests.faults.stage import TERMS, Stage

# The number of trials at the same time: enough to keep two servers busy, and few enough for every
# answer to be in time.
AT_ONCE = 24
# A token must be this old before it is renewed.
UNTIL_RENEWED_SECONDS = TERMS.alarm_after + 0.5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """The servers of a round, and the history that it records."""

    stage: Stage
    recorder: Recorder
    servers: list[Server]

    async def history(self, users: Iterable[str]) -> History:
        """The history of these users."""
        wanted = set(users)
        found = await self.stage.log()
        self.recorder.history.log = [event for event in found if event.user in wanted]
        return self.recorder.history

    def events(self, name: str) -> list[Event]:
        """The events of one type, after `history` was called."""
        return [event for event in self.recorder.history.log if event.type == name]


@asynccontextmanager
async def round_on(stage: Stage) -> AsyncIterator[Round]:
    """A round on a stage."""
    recorder = Recorder(TERMS)
    stage.recorder = recorder
    async with AsyncExitStack() as stack:
        servers = [Server(one.name, one.address, recorder) for one in stage.servers]
        for server in servers:
            stack.push_async_callback(server.close)
        yield Round(stage, recorder, servers)


async def side_by_side(trials: Iterable[Awaitable[None]], at_once: int = AT_ONCE) -> None:
    """Makes all trials, `at_once` of them at the same time."""
    turn = asyncio.Semaphore(at_once)

    async def make(trial: Awaitable[None]) -> None:
        async with turn:
            with suppress(TrialOver):  # The checks judge the answer that ended the trial.
                await trial

    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(make(trial))


class TrialOver(Exception):
    """A trial can't go on: a call ended with an error that allows no retry, or for a minute all
    attempts failed.
    """


async def answered(ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """The first answer that is no error. Tries again for a minute. Raises TrialOver."""
    until = now() + _PATIENCE_SECONDS
    while True:
        given = await ask()
        if not given.call.failed:
            return given
        if given.call.outcome not in ALLOWED_ERRORS or now() > until:
            raise TrialOver
        await asyncio.sleep(0.1)

"""Plays a run: clients and faults on a stage for some seconds, from a seed. Returns the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from random import Random

from session_authority_client import AsyncSessionAuthority, NearCache
from tests.faults.clients import (
    Browser,
    Watcher,
    ask,
    bide,
    crowd,
    look,
    running,
    sign_out,
    steal,
)
from tests.faults.history import Event, History
from tests.faults.recorder import PythonClient, Recorder, Server, now
from tests.faults.stage import TERMS, Stage
from tests.faults.troubles import Trouble, suffer
from tests.support.waiting import eventually

Work = Awaitable[None]

BALANCED = "client of all"
_HEAR_SECONDS = 20.0
_TIMEOUT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Script:
    """How much happens in a run."""

    seed: int
    """Also a part of the users' names: each run on a stage has another seed."""
    seconds: float
    troubles: dict[str, Trouble]
    users: int = 24
    """A quarter of the users has a thief, and another quarter has a thief who waits."""
    browsers: int = 2
    """The number of each user's browsers."""
    pause: float = 0.4
    """Seconds between two acts of a browser, on average."""
    cancels: float = 0.08
    """The share of a browser's calls that the browser cancels, or whose reply is lost."""
    trouble_pause: float = 1.5
    """Seconds between two faults, on average."""
    most_troubles: float = inf
    """The run ends after this number of faults, even if there is time left."""


class Cast:
    """The users of a run and their browsers. A user's number decides what a thief does to the user,
    and whether the user ever signs out.
    """

    def __init__(self, script: Script, servers: Sequence[Server], random: Random) -> None:
        self.users = [f"user-{script.seed}-{number}" for number in range(script.users)]
        self.browsers = [
            Browser(user, servers, Random(random.random()), TERMS, script.cancels)
            for user in self.users
            for _ in range(script.browsers)
        ]

    def of(self, *kinds: int) -> list[Browser]:
        """The browsers of the users whose number modulo 4 is one of `kinds`."""
        users = {user for kind in kinds for user in self.users[kind::4]}
        return [browser for browser in self.browsers if browser.user in users]

    def lives(self, script: Script, servers: Sequence[Server], random: Random) -> list[Work]:
        """The tasks of all clients and thieves."""
        pause = script.pause
        return [
            *(browser.live(pause) for browser in self.browsers),
            steal(self.of(0), servers, Random(random.random()), 1.5 * pause),
            bide(self.of(1), servers, Random(random.random()), 1.5 * pause),
            crowd(self.browsers, servers, Random(random.random()), 6 * pause),
            # The users 1, 3, 5, ... never sign out: only the tokens of long sessions get old.
            sign_out(self.of(0, 2), servers, Random(random.random()), 2 * pause),
        ]

    def questions(
        self, script: Script, clients: Sequence[PythonClient], random: Random
    ) -> list[Work]:
        """The validations of honest users by backends."""
        pause = script.pause / 4
        return [ask(self.of(2, 3), client, Random(random.random()), pause) for client in clients]


@asynccontextmanager
async def _caching(server: Server, recorder: Recorder) -> AsyncIterator[PythonClient]:
    """A client with a near cache, connected to one server."""
    async with AsyncSessionAuthority(server.address, cache=NearCache()) as client:
        yield PythonClient(f"cache of {server.name}", client, recorder, cached=True)


@asynccontextmanager
async def _balanced(servers: Sequence[Server], recorder: Recorder) -> AsyncIterator[PythonClient]:
    """A client of all servers, with time for its retries."""
    target = "ipv4:" + ",".join(server.address for server in servers)
    async with AsyncSessionAuthority(target, timeout=_TIMEOUT) as client:
        yield PythonClient(BALANCED, client, recorder, cached=False)


async def play(stage: Stage, script: Script) -> History:
    """Plays a run. Returns its history."""
    recorder, random = Recorder(TERMS), Random(script.seed)
    stage.recorder = recorder
    async with AsyncExitStack() as stack:
        servers = [Server(s.name, s.address, recorder) for s in stage.servers]
        for server in servers:
            stack.push_async_callback(server.close)
        opened = (_balanced(servers, recorder), *(_caching(s, recorder) for s in servers))
        clients = [await stack.enter_async_context(client) for client in opened]
        cast = Cast(script, servers, random)
        watchers = [Watcher(server, recorder, cast.users) for server in servers]
        with running(*(watcher.watch() for watcher in watchers)):
            await eventually(lambda: all(w.is_live for w in watchers), "the watchers to watch", 60)
            lives = cast.lives(script, servers, random) + cast.questions(script, clients, random)
            with running(*lives) as tasks:
                await _make_trouble(stage, script, recorder, Random(random.random()), tasks)
            await stage.heal()
            for user in cast.users:
                await look([b for b in cast.browsers if b.user == user], servers)
            recorder.history.log = await _told_log(stage, set(cast.users), watchers)
    return recorder.history


async def _told_log(stage: Stage, users: set[str], watchers: Sequence[Watcher]) -> list[Event]:
    """The log, once it no longer grows. Gives the watchers time to get all of it; the checker
    reports the watchers that did not.
    """
    before: list[Event] = []
    while True:
        log = [event for event in await stage.log() if event.user in users]
        if log == before:
            return log
        before, events = log, {event.event_id for event in log}
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEAR_SECONDS):
                while not all(watcher.has_heard(events) for watcher in watchers):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def _make_trouble(
    stage: Stage,
    script: Script,
    recorder: Recorder,
    random: Random,
    clients: list[asyncio.Task[None]],
) -> None:
    """Makes one fault after the other until the run's time is over. The last one is complete."""
    end = now() + script.seconds
    names = sorted(script.troubles)
    while now() < end and len(recorder.history.faults) < script.most_troubles:
        await asyncio.sleep(random.uniform(0.5, 1.5) * script.trouble_pause)
        if names:
            await suffer(stage, script.troubles[random.choice(names)], recorder, random)
        for client in clients:
            if client.done():
                client.result()

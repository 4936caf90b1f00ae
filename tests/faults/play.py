"""Plays a run: clients and troubles on a stage for some seconds, from a seed; then the history."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from random import Random

from session_authority_client import AsyncSessionAuthority, NearCache
from tests.faults.clients import (
    Browser,
    Watcher,
    ask_with_cache,
    bide,
    look,
    running,
    sign_out,
    steal,
)
from tests.faults.history import History
from tests.faults.recorder import CachingServer, Recorder, Server, now
from tests.faults.stage import TERMS, Stage
from tests.faults.troubles import Trouble, suffer
from tests.support.waiting import eventually

_HEAR_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Script:
    """How much goes on in a run."""

    seed: int
    """Also a part of the users' names: each run on a stage has another one."""
    seconds: float
    troubles: dict[str, Trouble]
    users: int = 24
    """Every fourth one has a thief, and every fourth one a thief who bides the time."""
    browsers: int = 2
    """Of each user."""
    pause: float = 0.4
    """Seconds between two things that a browser does, on average."""
    trouble_pause: float = 1.5
    """Seconds between two troubles, on average."""
    caches: bool = True


async def play(stage: Stage, script: Script) -> History:
    """The history of a run."""
    recorder, random = Recorder(TERMS), Random(script.seed)
    async with AsyncExitStack() as stack:
        servers = [Server(s.name, s.address, recorder) for s in stage.servers]
        for server in servers:
            stack.push_async_callback(server.close)
        users = [f"user-{script.seed}-{number}" for number in range(script.users)]
        browsers = [
            Browser(user, servers, Random(random.random()), TERMS)
            for user in users
            for _ in range(script.browsers)
        ]
        robbed, long_robbed = set(users[0::4]), set(users[1::4])
        victims = [browser for browser in browsers if browser.user in robbed]
        long_victims = [browser for browser in browsers if browser.user in long_robbed]
        honest = [browser for browser in browsers if browser.user not in robbed | long_robbed]
        # Tokens are old where sessions last: half of the users never sign out.
        leaving = [browser for browser in browsers if browser.user in {*users[0::4], *users[2::4]}]
        watchers = [Watcher(server, recorder) for server in servers]
        with running(*(watcher.watch() for watcher in watchers)):
            for watcher in watchers:
                await eventually(lambda w=watcher: w.is_live, "the watchers to watch", 60)  # type: ignore[misc]
            work = [browser.live(script.pause) for browser in browsers]
            work += [
                steal(victims, servers, Random(random.random()), 1.5 * script.pause),
                bide(long_victims, servers, Random(random.random()), 1.5 * script.pause),
                sign_out(leaving, servers, Random(random.random()), 2 * script.pause),
            ]
            if script.caches:
                for process in stage.servers:
                    client = AsyncSessionAuthority(process.address, cache=NearCache())
                    stack.push_async_callback(client.close)
                    caching = CachingServer(f"cache of {process.name}", client, recorder)
                    own = Random(random.random())
                    work.append(ask_with_cache(honest, caching, own, script.pause / 4))
            with running(*work) as tasks:
                await _make_trouble(stage, script, recorder, Random(random.random()), tasks)
            await stage.heal()
            for user in users:
                await look([b for b in browsers if b.user == user], servers)
            log = await stage.log()
            recorder.history.log = [event for event in log if event.user in set(users)]
            await _hear_all(watchers, {event.event_id for event in recorder.history.log})
    return recorder.history


async def _hear_all(watchers: list[Watcher], events: set[str]) -> None:
    """Gives the watchers the time to hear all; the checker says who did not."""
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
    """Makes one trouble after the other until the run's time is over; the last one is whole."""
    end = now() + script.seconds
    names = sorted(script.troubles)
    while now() < end:
        await asyncio.sleep(random.uniform(0.5, 1.5) * script.trouble_pause)
        if names:
            await suffer(stage, script.troubles[random.choice(names)], recorder, random)
        for client in clients:
            if client.done():
                client.result()

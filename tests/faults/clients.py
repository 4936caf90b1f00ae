"""The clients of a run: browsers with tabs, thieves, the page on which users sign out, watchers.

All that the clients leave to chance comes from a seed. The answers of the service, and their times,
do not come from the seed. So in two runs of one seed the clients do the same things, and the
service may answer at different moments.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from tests.faults.history import Event, Role, Terms
from tests.faults.recorder import (
    Answered,
    Held,
    PythonClient,
    Recorder,
    Server,
    call_of,
    now,
    reason_of,
    unless_cancelled,
)

_SIGNED_OUT = {"NO_SESSION", "SESSION_ENDED", "SESSION_EXPIRED", "REPLAYED", "TOKEN_EXPIRED"}
_REMEMBERED = 6  # Tokens of each browser that thieves and onlookers can get.


class Browser:
    """A user's browser: several tabs and one cookie jar, where the token that arrived last wins.

    The browser may be killed: a new token that is not yet on disk is then lost. `cancels` is the
    share of its calls that the browser cancels, or whose reply is lost.
    """

    def __init__(
        self,
        user: str,
        servers: Sequence[Server],
        random: Random,
        terms: Terms,
        cancels: float = 0.08,
    ) -> None:
        self.user = user
        self.device = str(UUID(int=random.getrandbits(128), version=4))
        self.seen: deque[Held] = deque(maxlen=_REMEMBERED)
        self.jar: Held | None = None
        self._on_disk: Held | None = None
        self._servers = servers
        self._random = random
        self._terms = terms
        self._cancels = cancels
        self._denied = 0

    async def live(self, pause: float) -> None:
        """Makes one request after the other, for ever."""
        random = self._random
        while True:
            await asyncio.sleep(random.uniform(0, 2 * pause))
            if self.jar is None or self._denied > 2 or random.random() < 0.01:
                await self._sign_in()
            elif random.random() < 0.06:
                self._fall_back()
            elif random.random() < 0.5:
                await self._present(self._server().validate)
            else:
                await self._open_tabs()

    def _server(self) -> Server:
        return self._random.choice(self._servers)

    async def _sign_in(self) -> None:
        """Tries up to eight times with one `request_id` until there is an answer, as a login
        service does.
        """
        request = str(UUID(int=self._random.getrandbits(128), version=4))
        for _ in range(8):
            work = self._server().sign_in(self.user, self.device, request)
            answered = await self._maybe_lost(work)
            if answered is None:
                continue
            if answered.held is not None:
                self._keep(answered.held)
                return
            if answered.call.outcome == "ABORTED":
                return  # In between, the session of this request_id was used, or has ended.
            await asyncio.sleep(0.1)

    async def _open_tabs(self) -> None:
        """One to five requests at once. None, one or two of them renew."""
        held = self.jar
        assert held is not None
        old = now() - held.got_at >= self._terms.alarm_after
        tabs = [self._present(self._server().validate) for _ in range(self._random.randint(1, 3))]
        renewals = self._random.randint(1, 2) if old or self._random.random() < 0.1 else 0
        tabs += [self._present(self._server().renew) for _ in range(renewals)]
        self._random.shuffle(tabs)
        await asyncio.gather(*tabs)

    async def _present(self, how: object) -> None:
        held = self.jar
        if held is None:
            return
        assert callable(how)
        answered = await self._maybe_lost(how(held))
        if answered is None:
            return
        if answered.held is not None:
            self._keep(answered.held)
        elif answered.call.outcome in _SIGNED_OUT:
            if self.jar is not None and self.jar.token.session == held.token.session:
                self.jar = None
        elif answered.call.outcome == "SUPERSEDED":
            self._denied += 1
        elif answered.renew_recommended:
            await self._present(self._server().renew)

    async def _maybe_lost(self, work: Awaitable[Answered]) -> Answered | None:
        """The answer, unless the browser cancels the call, or the reply is lost on its way."""
        chance = self._random.random()
        if chance < self._cancels / 2:
            return await unless_cancelled(work, self._random.uniform(0, 0.02))
        answered = await work
        return None if chance < self._cancels else answered

    def _keep(self, held: Held) -> None:
        self.seen.append(held)
        self._on_disk, self.jar = self.jar, held
        self._denied = 0

    def _fall_back(self) -> None:
        """The browser is killed. If its newest token was not yet on disk, it returns with the token
        before this one.
        """
        held, before = self.jar, self._on_disk
        assert held is not None
        fresh = now() - held.got_at < self._terms.durable_after / 8
        if fresh and before is not None and before.token.session == held.token.session:
            self.jar, self._on_disk = before, None


async def steal(
    victims: Sequence[Browser], servers: Sequence[Server], random: Random, pause: float
) -> None:
    """Copies tokens for ever, and presents each copy some time later, on its device or on
    another.
    """

    async def use(held: Held, wait: float) -> None:
        await asyncio.sleep(wait)
        elsewhere = str(UUID(int=random.getrandbits(128), version=4))
        device = elsewhere if random.random() < 0.3 else None
        server = random.choice(servers)
        way = server.validate if random.random() < 0.6 else server.renew
        for _ in range(random.randint(1, 3)):
            await way(held, Role.THIEF, device)

    async with asyncio.TaskGroup() as uses:
        while True:
            await asyncio.sleep(random.uniform(0, 2 * pause))
            victim = random.choice(victims)
            if victim.seen:
                held = random.choice(victim.seen)
                uses.create_task(use(held, random.choice((0, 0, 3, 12, 25))))


async def bide(
    victims: Sequence[Browser], servers: Sequence[Server], random: Random, pause: float
) -> None:
    """Copies tokens for ever. Presents a copy once its browser has a token of the second generation
    after it.
    """
    while True:
        await asyncio.sleep(random.uniform(0, 2 * pause))
        victim = random.choice(victims)
        newest = max((held.token.generation for held in victim.seen), default=0)
        old = [held for held in victim.seen if held.token.generation <= newest - 2]
        if old and victim.seen[-1].token.session == old[0].token.session:
            server = random.choice(servers)
            way = server.validate if random.random() < 0.6 else server.renew
            await way(old[0], Role.THIEF)
            victim.seen.clear()


async def sign_out(
    browsers: Sequence[Browser], servers: Sequence[Server], random: Random, pause: float
) -> None:
    """Signs users out for ever: one device, all devices, or all but one. After each answer,
    onlookers present the last two tokens of each of the user's browsers to every server at once.
    """
    of_user: dict[str, list[Browser]] = {}
    for browser in browsers:
        of_user.setdefault(browser.user, []).append(browser)
    while True:
        await asyncio.sleep(random.uniform(0, 2 * pause))
        own = of_user[random.choice(sorted(of_user))]
        server, one = random.choice(servers), random.choice(own)
        chance = random.random()
        if chance < 0.3:
            await server.revoke_device(one.user, one.device)
        elif chance < 0.5:
            await server.revoke_all(one.user, one.device)
        else:
            await server.revoke_all(one.user)
        await look(own, servers)


async def look(browsers: Sequence[Browser], servers: Sequence[Server]) -> None:
    """Onlookers present the last two tokens of each of these browsers to every server, and list the
    user's devices. All browsers are of one user.
    """
    tokens = [held for browser in browsers for held in list(browser.seen)[-2:]]
    looks = [server.validate(held, Role.ONLOOKER) for server in servers for held in tokens]
    lists = [server.list_devices(browsers[0].user) for server in servers]
    await asyncio.gather(*looks, *lists)


async def crowd(
    browsers: Sequence[Browser], servers: Sequence[Server], random: Random, pause: float
) -> None:
    """Onlookers who all come within a moment, for ever. After such a moment, servers have more
    connections to the store than they need.
    """

    async def come(held: Held) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        await random.choice(servers).validate(held, Role.ONLOOKER)

    while True:
        await asyncio.sleep(random.uniform(0, 2 * pause))
        tokens = [held for browser in browsers for held in list(browser.seen)[-3:]] * 3
        await asyncio.gather(*map(come, tokens))


async def ask(
    browsers: Sequence[Browser], client: PythonClient, random: Random, pause: float
) -> None:
    """A backend that validates over the Python client, for ever."""
    while True:
        await asyncio.sleep(random.uniform(0, 2 * pause))
        held = random.choice(browsers).jar
        if held is not None:
            await client.validate(held)


class Watcher:
    """Watches the events of one server, and goes on after every break: from its last position, or
    from the time of its own start if it may have missed an event. This time is in whole seconds, so
    there may be events of an earlier run: only the events of this run's users are recorded.
    """

    def __init__(self, server: Server, recorder: Recorder, users: Sequence[str]) -> None:
        self.is_live = False
        self._server = server
        self._history = recorder.history
        self._told = recorder.history.told.setdefault(server.name, [])
        self._users = set(users)
        self._cursor = ""
        self._since: datetime | None = None
        self._start = datetime.now(UTC)

    async def watch(self) -> None:
        """Watches for ever."""
        while True:
            request = pb.WatchEventsRequest(cursor=self._cursor)
            if self._since is not None and not self._cursor:
                request.start_time.FromDatetime(self._since)
            try:
                async for message in self._server.stub.WatchEvents(request, wait_for_ready=True):
                    told = map(_event, message.events)
                    self._told.extend(event for event in told if event.user in self._users)
                    self._cursor = message.cursor
                    self.is_live = True
            except grpc.aio.AioRpcError as error:
                if reason_of(error) == "CURSOR_EXPIRED":
                    broken = self._history.broken_watches
                    broken[self._server.name] = broken.get(self._server.name, 0) + 1
                    self._cursor, self._since = "", self._start
            await asyncio.sleep(0.05)

    def has_heard(self, events: set[str]) -> bool:
        """Returns whether it got all of these events."""
        return events <= {event.event_id for event in self._told}


def _event(event: pb.Event) -> Event:
    tag = event.reason or event.client.info.app_version
    name = pb.EventType.Name(event.type).removeprefix("EVENT_TYPE_")
    return Event(event.event_id, name, event.user_id, event.session_id, call_of(tag))


@contextmanager
def running(*work: Awaitable[None]) -> Iterator[list[asyncio.Task[None]]]:
    """Runs all tasks inside the block, and ends them at its end. A failure inside fails the
    block.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()

"""How stale an answer of the cache can be during faults. A checker of all revocations and answers
proves the bound, and the tests show that the checker detects a cache with a broken rule.

The watch stalls, is cut, is delayed and resumes at any moment, as if its server was stopped or cut
off. Another server goes on answering and revoking. Answers are slow, so that revocations overtake
them. Proofs arrive every 0.05 s and are valid for half a second, which is the bound. Nothing here
depends on the speed of the machine.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from client_tests.history import Answered, History, Revoked, now
from client_tests.service_harness import DEVICE, Service
from session_authority_client import (
    AsyncSessionAuthority,
    NearCache,
    SessionAuthority,
    SessionAuthorityError,
)
from session_authority_client.cache import Ticket
from session_authority_client.types import Validation
from session_authority_client.wire import session_authority_pb2 as pb
from tests.support.waiting import wait_for

BOUND = timedelta(seconds=0.5)
CLIENTS, ASKERS = 2, 6
# The number of users that callers validate at a time, and the time between two revocations. Each
# user is validated during three times the bound before its revocation, and as long after it.
USERS, REVOKE_SECONDS = 60, 0.05
LONG = timedelta(seconds=30)


class Play:
    """Users that come and are revoked, callers that validate them, and a service with faults."""

    def __init__(self, service: Service, seed: int = 1) -> None:
        self.service = service
        self.history = History()
        self.over = threading.Event()
        self._random = random.Random(seed)
        self._users = [f"user {number}" for number in range(USERS)]
        self._revoked = 0

    def user(self) -> str:
        """Returns a random user to validate."""
        return random.choice(self._users)

    def revoke_one(self) -> None:
        """Revokes the user in the middle of the list, or a newer user whose answer is on its
        way.
        """
        late = {token.removeprefix("token of ") for token in self.service.on_their_way}
        young = [user for user in self._users[USERS // 2 :] if user in late]
        user = (young or self._users[USERS // 2 :])[0]
        self._users.remove(user)
        self._users.insert(USERS // 2, user)
        called = now()
        self.service.revoke(user)
        self.history.revoked.append(Revoked(user, called, now()))
        self._revoked += 1
        self._users = [*self._users[1:], f"user {USERS + self._revoked}"]

    def trouble(self, faults: str) -> None:
        """Causes faults, one after the other, until the play is over."""
        chance, bound = self._random, BOUND.total_seconds()
        self.service.answer_delay = lambda: chance.choice((0, 0, 0.002, 0.05))
        while not self.over.is_set():
            what = chance.choice(faults.split())
            if what == "stall":
                self.service.flowing.clear()
                self.over.wait(chance.uniform(0, 2.5 * bound))
                if chance.random() < 0.5:
                    self.service.cut()
                self.service.flowing.set()
            elif what == "cut":
                self.service.cut()
            elif what == "delay":
                self.service.message_delay = lambda: chance.choice((0.3 * bound, 0.9 * bound))
                self.over.wait(1.5 * bound)
                self.service.message_delay = lambda: 0.0
            self.over.wait(chance.uniform(0, 0.6 * bound))
        self.service.flowing.set()

    def revoke(self) -> None:
        """Revokes users until the play is over."""
        while not self.over.wait(REVOKE_SECONDS):
            self.revoke_one()

    async def ask_as_task(self, client: AsyncSessionAuthority) -> None:
        """Validates users in a task until the play is over."""
        cache = client._cache
        assert cache is not None
        while not self.over.is_set():
            user, started, hits = self.user(), now(), cache._hits
            try:
                answer = await client.validate_session(f"token of {user}", DEVICE)
            except SessionAuthorityError:
                continue
            # Within one turn of the event loop no other task can have counted a hit.
            self.history.answered.append(
                Answered(user, started, now(), answer.active, cache._hits > hits)
            )
            await asyncio.sleep(0.001)

    def ask_as_thread(self, client: SessionAuthority) -> None:
        """Validates users in a thread until the play is over."""
        while not self.over.wait(0.002):
            user, started = self.user(), now()
            answer = client.validate_session(f"token of {user}", DEVICE)
            self.history.answered.append(Answered(user, started, now(), answer.active, False))


def play(
    scripted: tuple[Service, str],
    kind: str,
    faults: str,
    seconds: float,
    make_cache: Callable[..., NearCache] = NearCache,
    until: Callable[[History], bool] = lambda _: False,
) -> History:
    """Plays for this many seconds, or until `until` is true for the history. Returns the
    history.
    """
    service, address = scripted
    running = Play(service)
    caches = [make_cache(max_silence=BOUND) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=running.revoke)]

    async def as_tasks() -> None:
        clients = [AsyncSessionAuthority(address, cache=cache, timeout=LONG) for cache in caches]
        await asyncio.gather(
            *(running.ask_as_task(client) for client in clients for _ in range(ASKERS))
        )
        for client in clients:
            await client.close()

    sync_clients: list[SessionAuthority] = []
    if kind == "tasks":
        threads.append(threading.Thread(target=lambda: asyncio.run(as_tasks())))
    else:
        sync_clients += (SessionAuthority(address, cache=cache, timeout=LONG) for cache in caches)
        threads += (
            threading.Thread(target=running.ask_as_thread, args=(c,))
            for c in sync_clients
            for _ in range(ASKERS)
        )
    for thread in threads:
        thread.start()
    try:
        # Without hits of the caches, the test would prove nothing.
        wait_for(lambda: all(cache.stats().hits > 20 for cache in caches), "the caches to answer")
        trouble = threading.Thread(target=running.trouble, args=(faults,))
        threads.append(trouble)
        trouble.start()
        end = now() + seconds
        while now() < end and not until(running.history):
            running.over.wait(0.1)
    finally:
        running.over.set()
        service.message_delay = lambda: 0.0
        for thread in threads:
            thread.join(60)
        for client in sync_clients:
            client.close()
    return running.history


@pytest.mark.parametrize("kind", ["tasks", "threads"])
@pytest.mark.parametrize("faults", ["none", "cut", "stall", "delay", "cut stall delay none"])
def test_no_answer_is_staler_than_the_bound(
    scripted: tuple[Service, str], kind: str, faults: str
) -> None:
    history = play(scripted, kind, faults, 3 if " " in faults else 1.5)
    assert len(history.revoked) > 5
    assert any(not answer.active for answer in history.answered)
    assert history.violations(BOUND.total_seconds()) == []


class _NeverDrops(NearCache):
    """A broken cache that counts an event, but drops no entry."""

    def _forget_user(self, user_id: str) -> None:
        theirs = self._of_user.pop(user_id, set())
        kept = {key: self._entries[key] for key in theirs}
        super()._forget_user(user_id)
        self._entries.update(kept)
        self._of_user[user_id] = theirs


class _StoresWhateverCameBetween(NearCache):
    """A broken cache that stores an answer although an event of its user overtook the answer."""

    def store(self, ticket: Ticket, access_token: str, device_id: str, answer: Validation) -> bool:
        return super().store(ticket._replace(events=self._events), access_token, device_id, answer)


class _NeedsNoProof(NearCache):
    """A broken cache that stays live for ever without another proof."""

    def _prove(self, read: float) -> None:
        super()._prove(read)
        self._live_until = float("inf")


class _TakesOldProofsForNew(NearCache):
    """A broken cache that counts a proof from its arrival, not from the time at which it was
    true.
    """

    def _prove(self, read: float) -> None:
        super()._prove(read)
        self._live_until = self._clock() + BOUND.total_seconds()


class _SurvivesItsWatch(NearCache):
    """A broken cache that keeps its entries when the watch breaks, and goes on with the next
    watch.
    """

    def _empty(self) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "faults"),
    [
        (_NeverDrops, "none"),
        (_StoresWhateverCameBetween, "none"),
        (_NeedsNoProof, "stall"),
        (_TakesOldProofsForNew, "delay"),
        (_SurvivesItsWatch, "cut stall"),
    ],
)
def test_the_checker_sees_a_cache_that_breaks_a_rule(
    scripted: tuple[Service, str], broken: type[NearCache], faults: str
) -> None:
    def caught(history: History) -> bool:
        return bool(history.violations(BOUND.total_seconds()))

    assert caught(play(scripted, "tasks", faults, 30, broken, caught))


def test_the_checker_measures_from_the_reply_to_a_revocation() -> None:
    history = History([Revoked("ada", 10, 11)], [])
    asked = {10.5: True, 11.5: True, 12.5: True, 13.0: False}
    history.answered += (
        Answered("ada", started, started + 5, active, True) for started, active in asked.items()
    )
    history.answered.append(Answered("bob", 99, 99, active=True, here=True))
    assert [violation.answer.started for violation in history.violations(1)] == [12.5]
    assert history.worst() == 1.5


def test_a_message_of_the_watch_is_applied_in_one_step() -> None:
    """A proof never counts before the events that came with it."""
    cache = NearCache()
    cache.begin()
    message = pb.WatchEventsResponse(
        events=[pb.Event(type=pb.EVENT_TYPE_ALL_REVOKED, user_id="ada")]
    )
    message.read_time.GetCurrentTime()
    with cache._lock:
        telling = threading.Thread(target=cache.tell, args=(message,))
        telling.start()
        assert not cache.live
    telling.join(20)
    assert cache.live
    assert cache._events == 1

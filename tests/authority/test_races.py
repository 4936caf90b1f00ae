"""Many simultaneous calls for one user, through two authorities that share nothing but the store.

Two authorities in one process meet in the store like two processes do: each has its own
connections, its own lock per user, its own batches. The last test nevertheless runs real processes.
No test depends on timing: the assertions hold for every order in which the store executes the
calls.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import pytest

from session_authority.domain.errors import DeviceLimitReached, RequestIdSpent
from session_authority.domain.results import IssuedDevice, RenewedSession, Validation
from session_authority.domain.session_limits import DeviceLimitAction, ReplayAction, SessionLimits
from session_authority.domain.verdicts import SessionStatus
from session_authority.tokens import KeySource
from tests.authority.harness import (
    ACTOR,
    CLIENT,
    LAPTOP,
    MINUTE,
    PHONE,
    SECOND,
    START,
    USER,
    ComeBetween,
    Scene,
    key_of,
    presented,
    read_token,
    request,
)
from tests.support.backends import Backend
from tests.support.budget import budget
from tests.support.clock import Clock

T = TypeVar("T")
CROWD = 64
ACTIVE, REPLAYED, NO_SESSION = (
    SessionStatus.ACTIVE,
    SessionStatus.REPLAYED,
    SessionStatus.NO_SESSION,
)
REQUEST_ID = UUID(int=0x1D, version=4)


class Pair:
    """Two authorities that share one store and one clock."""

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = scenes
        self.clock = scenes[0].clock

    async def crowd(
        self, do: Callable[[Scene, int], Coroutine[Any, Any, T]], size: int = CROWD
    ) -> list[T]:
        """Runs `do` `size` times at once, half of the calls on each authority."""
        return await asyncio.gather(
            *(do(self.scenes[number % 2], number) for number in range(size))
        )

    async def settled(self) -> None:
        for scene in self.scenes:
            await scene.authority.settled()


@pytest.fixture
async def pair_with(
    valkey_backend: Backend, prefix: str, source: KeySource
) -> AsyncIterator[Callable[..., Pair]]:
    scenes: list[Scene] = []

    def make(**limits: Any) -> Pair:
        clock = Clock(START)
        scenes.extend(
            Scene(valkey_backend, prefix, source, SessionLimits(**limits), clock) for _ in range(2)
        )
        return Pair(scenes)

    yield make
    for scene in scenes:
        await scene.close()


@pytest.fixture
def pair(pair_with: Callable[..., Pair]) -> Pair:
    return pair_with()


async def _or_refusal(work: Awaitable[T]) -> T | type[Exception]:
    try:
        return await work
    except (DeviceLimitReached, RequestIdSpent) as refusal:
        return type(refusal)


async def test_64_renewals_of_one_token_make_one_generation_and_64_good_answers(pair: Pair) -> None:
    one = pair.scenes[0]
    token = (await one.sign_in(PHONE)).access_token
    for generation in range(2, 8):
        pair.clock.advance(5 * MINUTE)
        presented = token
        answers = await pair.crowd(lambda scene, _: scene.renew(presented))  # noqa: B023
        assert {answer.status for answer in answers} == {ACTIVE}
        handed_out = [answer.access_token for answer in answers if answer.access_token]
        assert len(handed_out) == CROWD
        assert {read_token(text).generation for text in handed_out} == {generation}
        record = await one.session()
        assert record is not None
        assert record.generation == generation
        checked = await pair.crowd(lambda scene, number: scene.validate(handed_out[number]))  # noqa: B023
        assert {answer.status for answer in checked} == {ACTIVE}
        token = handed_out[-1]
    assert await one.happened() == ["DEVICE_SIGNED_IN"]


async def test_64_sign_ins_on_one_device_leave_one_session_and_64_events(pair: Pair) -> None:
    one = pair.scenes[0]
    issued = await pair.crowd(lambda scene, _: scene.sign_in(PHONE))
    sessions = {read_token(answer.access_token).session_id for answer in issued}
    assert len(sessions) == CROWD
    record = await one.session()
    assert record is not None
    assert record.session_id in sessions
    told = await one.events()
    assert Counter(event.session_id for event in told) == Counter(sessions)
    assert await one.happened() == ["DEVICE_SIGNED_IN"] * CROWD
    assert told[-1].session_id == record.session_id
    # Each sign-in was decided on the state that the previous one had left
    assert told[-2].session_id[:8] == record.replaced
    assert [event.new_device for event in told] == [True] + [False] * (CROWD - 1)
    assert sum(answer.new_device for answer in issued) == 1
    seen = await pair.crowd(
        lambda scene, number: scene.validate(issued[number].access_token, observe_only=True)
    )
    assert [answer.status for answer in seen].count(ACTIVE) == 1
    assert {answer.status for answer in seen} <= {
        ACTIVE,
        SessionStatus.SUPERSEDED,
        SessionStatus.SESSION_ENDED,
    }


@pytest.mark.parametrize("device_id", [PHONE, None], ids=["given", "assigned"])
async def test_64_sign_ins_with_one_request_id_make_one_session(
    pair: Pair, device_id: UUID | None
) -> None:
    one = pair.scenes[0]
    issued = await pair.crowd(lambda scene, _: scene.sign_in(device_id, request_id=REQUEST_ID))
    said = [read_token(answer.access_token) for answer in issued]
    assert len({(token.device_key, token.session_id, token.generation) for token in said}) == 1
    assert len({answer.device.device.device_id for answer in issued}) == 1
    assert {answer.new_device for answer in issued} == {True}
    assert {answer.device_id_assigned for answer in issued} == {device_id is None}
    assert len({token.copy for token in said}) > 1
    assert await one.happened() == ["DEVICE_SIGNED_IN"]
    assert len((await one.store.user(USER)).sessions) == 1


@pytest.mark.parametrize("action", ReplayAction)
async def test_64_replays_of_one_token_send_one_event(
    pair_with: Callable[..., Pair], action: ReplayAction
) -> None:
    pair = pair_with(replay_action=action)
    one = pair.scenes[0]
    old = await one.sign_in(PHONE)
    await one.sign_in(LAPTOP)
    pair.clock.advance(5 * MINUTE)
    newer = (await one.renew(old.access_token)).access_token
    assert newer is not None
    pair.clock.advance(3 * MINUTE)
    await one.validate(newer)
    pair.clock.advance(5 * MINUTE)

    async def replay(scene: Scene, number: int) -> Validation | RenewedSession:
        return await (
            scene.renew(old.access_token) if number % 3 else scene.validate(old.access_token)
        )

    answers = await pair.crowd(replay)
    told = [event for event in await one.happened() if event != "DEVICE_SIGNED_IN"]
    assert told == ["SESSION_REPLAYED"]
    revoked = {ReplayAction.REVOKE_ALL: 2, ReplayAction.REVOKE_DEVICE: 1, ReplayAction.DENY: 0}[
        action
    ]
    assert sorted(answer.revoked_devices for answer in answers) == [0] * (CROWD - 1) + [revoked]
    assert {answer.status for answer in answers} <= {REPLAYED, NO_SESSION}
    assert len((await one.store.user(USER)).sessions) == 2 - revoked


@pytest.mark.parametrize("action", DeviceLimitAction)
async def test_64_sign_ins_on_64_devices_never_exceed_the_limit(
    pair_with: Callable[..., Pair], action: DeviceLimitAction
) -> None:
    limit = 5
    pair = pair_with(max_devices=limit, device_limit_action=action)
    one = pair.scenes[0]
    counts: list[int] = []

    async def sign_in(scene: Scene, number: int) -> IssuedDevice | type[Exception]:
        issued = await _or_refusal(scene.sign_in(UUID(int=0xC000 + number, version=4)))
        counts.append(len((await scene.store.user(USER)).sessions))
        return issued

    issued = await pair.crowd(sign_in)
    assert max(counts) == limit
    assert len((await one.store.user(USER)).sessions) == limit
    happened = Counter(await one.happened())
    if action is DeviceLimitAction.REJECT:
        assert issued.count(DeviceLimitReached) == CROWD - limit
        assert happened == {"DEVICE_SIGNED_IN": limit}
    else:
        assert issued.count(DeviceLimitReached) == 0
        assert happened == {"DEVICE_SIGNED_IN": CROWD, "DEVICE_EVICTED": CROWD - limit}


async def _out_of_step(random: Random, work: Coroutine[Any, Any, T], turns: int = 12) -> T:
    """Starts the work a random number of turns of the event loop later."""
    for _ in range(random.randrange(turns)):
        await asyncio.sleep(0)
    return await work


@pytest.mark.parametrize("scope", ["all", "device"])
async def test_no_session_from_before_a_revocation_is_active_after_it(
    pair: Pair, scope: str
) -> None:
    """Renewals, validations and a sign-in race with a revocation that comes at any point between
    them.
    """
    one, other = pair.scenes
    random = Random(7)
    won: Counter[bool] = Counter()
    for number in range(budget(170)):
        user = f"user-{number}"
        phone = (await one.sign_in(PHONE, user)).access_token
        laptop = (await other.sign_in(LAPTOP, user)).access_token
        pair.clock.advance(5 * MINUTE)

        async def is_gone(token: str | None, device: UUID, user: str = user) -> None:
            if token and (scope == "all" or device is PHONE):
                answer = await one.authority.validate_session(presented(token, device))
                assert answer.status is not ACTIVE, user

        async def revoke(user: str = user, phone: str = phone, laptop: str = laptop) -> None:
            if scope == "all":
                await other.authority.revoke_all(
                    user, except_device_id=None, reason="", forget=False, actor=ACTOR
                )
            else:
                await other.authority.revoke_device(
                    user, PHONE, reason="", forget=False, actor=ACTOR
                )
            await is_gone(phone, PHONE)  # while the other calls are still running
            await is_gone(laptop, LAPTOP)

        # At a random time, or at the worst time: just before a commit that was decided earlier.
        revokes = (
            _out_of_step(random, revoke(), turns=100)
            if number % 3
            else ComeBetween(one.store).do(revoke())
        )
        work: list[Coroutine[Any, Any, Any]] = [
            one.authority.renew_session(presented(phone, PHONE)),
            other.authority.renew_session(presented(phone, PHONE)),
            one.authority.validate_session(presented(phone, PHONE)),
            other.authority.renew_session(presented(laptop, LAPTOP)),
            one.authority.issue_device(request(user, random.choice([PHONE, LAPTOP])), ACTOR),
        ]
        answers = await asyncio.gather(*(_out_of_step(random, part) for part in work), revokes)
        await pair.settled()
        for token, device in (
            (phone, PHONE),
            (answers[0].access_token, PHONE),
            (answers[1].access_token, PHONE),
        ):
            await is_gone(token, device)
        for token in (laptop, answers[3].access_token):
            await is_gone(token, LAPTOP)
        won.update(answers[renewal].status is ACTIVE for renewal in (0, 1))
        one.store.before_commit = None
    # The races were real: sometimes the renewal came first, sometimes the revocation
    assert min(won[True], won[False]) > 20


async def test_a_late_mark_never_restores_a_revoked_session(pair: Pair) -> None:
    one, other = pair.scenes
    random = Random(11)
    for number in range(budget(70)):
        user = f"user-{number}"
        token = (await one.sign_in(PHONE, user)).access_token
        pair.clock.advance(6 * MINUTE)  # a mark, a holder and a touch are due
        signed_out_on = random.choice(pair.scenes)
        await asyncio.gather(
            *(_out_of_step(random, scene.validate(token)) for scene in (one, other, one, other)),
            _out_of_step(
                random,
                signed_out_on.authority.revoke_device(
                    user, PHONE, reason="", forget=False, actor=ACTOR
                ),
            ),
        )
        await pair.settled()
        assert await one.session(PHONE, user) is None
        assert (await other.validate(token)).status is NO_SESSION


async def test_a_late_mark_never_undoes_a_renewal_or_a_sign_in(pair: Pair) -> None:
    one, other = pair.scenes
    random = Random(13)
    for number in range(budget(50)):
        user = f"user-{number}"
        token = (await one.sign_in(PHONE, user)).access_token
        pair.clock.advance(6 * MINUTE)
        signs_in = bool(number % 2)
        newer: Coroutine[Any, Any, Any] = (
            other.sign_in(PHONE, user) if signs_in else other.renew(token)
        )
        *_, answer = await asyncio.gather(
            *(_out_of_step(random, one.validate(token)) for _ in range(3)),
            _out_of_step(random, newer),
        )
        await pair.settled()
        said, record = read_token(answer.access_token), await one.session(PHONE, user)
        assert record is not None
        assert (record.session_id, record.generation) == (said.session_id, said.generation)
        assert (await one.validate(answer.access_token)).status is ACTIVE


async def test_renaming_a_device_during_its_use_loses_neither_change(pair: Pair) -> None:
    one, other = pair.scenes
    token = (await one.sign_in(PHONE)).access_token
    for number in range(50):
        pair.clock.advance(61 * SECOND)
        await asyncio.gather(
            one.authority.update_device(USER, PHONE, f"phone {number}"),
            other.validate(token, client=CLIENT),
            one.validate(token, client=CLIENT),
        )
        device = await one.device()
        assert device is not None
        assert device.display_name == f"phone {number}"
        if number % 4 == 3:
            token = (await other.renew(token)).access_token or token


async def test_claims_that_change_during_renewals_reach_the_token(pair: Pair) -> None:
    """In any order, the next renewal or the one after it puts the newest claims into the token, and
    no alarm is raised.
    """
    one, other = pair.scenes
    token = (await one.sign_in(PHONE)).access_token
    for number in range(30):
        pair.clock.advance(number % 6 * MINUTE)
        claims = [{"email": f"{number}.{at}@example.org"} for at in range(2)]
        random = Random(number)
        renewals = [_out_of_step(random, scene.renew(token)) for scene in (one, other, one)]
        updates = [
            _out_of_step(random, one.authority.update_session(USER, None, wanted, ACTOR))
            for wanted in claims
        ]
        answers, _ = await asyncio.gather(asyncio.gather(*renewals), asyncio.gather(*updates))
        await pair.settled()
        assert {answer.status for answer in answers} == {ACTIVE}
        stored = (await one.store.claims(USER))[key_of(PHONE)].record.claims
        assert stored in claims
        handed_out = [answer.access_token for answer in answers if answer.access_token]
        token = max(handed_out, key=lambda text: read_token(text).generation, default=token)
        found = await other.validate(token)
        assert found.session is not None
        if found.session.token.claims != stored:
            assert found.renew_recommended
            token = (await other.renew(token)).access_token or ""
        assert read_token(token).payload["email"] == stored["email"]
    assert set(await one.happened()) == {"DEVICE_SIGNED_IN", "SESSION_UPDATED"}


async def test_claims_updates_during_a_revocation_never_restore_a_session(pair: Pair) -> None:
    one, other = pair.scenes
    for number in range(50):
        await one.sign_in(PHONE)
        await one.sign_in(LAPTOP)
        random = Random(number)
        revoke = other.authority.revoke_all(
            USER, except_device_id=None, reason="", forget=False, actor=ACTOR
        )
        wanted = {"email": f"{number}@example.org"}
        await asyncio.gather(
            *(
                _out_of_step(random, one.authority.update_session(USER, None, claims, ACTOR))
                for claims in (wanted, {})
            ),
            _out_of_step(random, revoke),
        )
        for device_id in (PHONE, LAPTOP):
            assert await one.session(device_id) is None
        assert await one.store.claims(USER) == {}


# Real processes.


class Contender:
    """An authority in a separate process, which executes commands that it reads as lines of
    JSON.
    """

    def __init__(self, backend: Backend, source: KeySource, prefix: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.authority.contender",
            backend.url,
            str(source.path),
            prefix,
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


async def test_separate_processes_agree_as_well(
    valkey_backend: Backend, prefix: str, source: KeySource, pair: Pair
) -> None:
    one, half = pair.scenes[0], CROWD // 2
    with ExitStack() as stack:
        contenders = [Contender(valkey_backend, source, prefix) for _ in range(2)]
        for contender in contenders:
            stack.callback(contender.close)

        async def both(do: str, at: int, **what: Any) -> list[Any]:
            for contender in contenders:
                contender.tell(do=do, times=half, at=at, **what)
            answers = await asyncio.gather(
                *(asyncio.to_thread(contender.answer) for contender in contenders)
            )
            return [answer for part in answers for answer in part]

        # Sign-ins with one request_id.
        issued = await both("sign in", 0, user=USER, device=str(PHONE), request_id=str(REQUEST_ID))
        assert len({read_token(text).session_id for text in issued}) == 1
        assert await one.happened() == ["DEVICE_SIGNED_IN"]
        # Renewals.
        renewed = await both("renew", 300, token=issued[0], device=str(PHONE))
        assert {status for status, _ in renewed} == {"ACTIVE"}
        texts = [text for _, text in renewed]
        assert {read_token(text).generation for text in texts} == {2}
        # Replays.
        await both("validate", 480, token=texts[0], device=str(PHONE))
        replayed = await both("validate", 780, token=issued[0], device=str(PHONE))
        assert {status for status, _ in replayed} <= {"REPLAYED", "NO_SESSION"}
        assert sum(revoked for _, revoked in replayed) == 1
        assert await one.happened() == ["DEVICE_SIGNED_IN", "SESSION_REPLAYED"]
        # Sign-ins.
        await both("sign in", 602, user="ben", device=str(LAPTOP), request_id="")
        assert await one.happened("ben") == ["DEVICE_SIGNED_IN"] * CROWD
        record, told = await one.session(LAPTOP, "ben"), await one.events("ben")
        assert record is not None
        assert record.session_id == told[-1].session_id
    assert [contender.process.returncode for contender in contenders] == [0, 0]

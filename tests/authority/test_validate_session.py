"""ValidateSession: every row of the verdict table, what the use of a token writes, and that an
observing validation writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.verdicts import SessionStatus
from session_authority.store.records import Commit
from tests.authority.harness import (
    ACTOR,
    CLIENT,
    DAY,
    HOUR,
    LAPTOP,
    MINUTE,
    PHONE,
    SECOND,
    START,
    TICK,
    USER,
    ComeBetween,
    Scene,
    key_of,
    presented,
    read_token,
)
from tests.authority.presentations import (
    PRESENTATIONS,
    History,
    next_token,
    past_its_absolute_end,
    superseded,
)

ACTIVE = SessionStatus.ACTIVE
every_presentation = pytest.mark.parametrize("history", PRESENTATIONS.values(), ids=PRESENTATIONS)


@every_presentation
async def test_each_token_gets_the_status_of_the_verdict_table(
    scene: Scene, history: History
) -> None:
    presented = await history(scene)
    answer = await scene.validate(presented.token, presented.device_id)
    assert answer.status is presented.status
    assert answer.renew_recommended is presented.renew_recommended
    assert (answer.session is not None) == (presented.status is ACTIVE)
    if answer.session is not None:
        said = read_token(presented.token)
        token = answer.session.token
        assert (token.user_id, token.session_id, token.generation) == (
            USER,
            said.session_id,
            said.generation,
        )
        record = await scene.session()
        assert record is not None
        assert answer.session.device_id == PHONE
        assert answer.session.expires_at == record.expires_at(scene.limits)


@every_presentation
async def test_an_observing_validation_gets_the_same_answer_and_changes_nothing(
    scene: Scene, history: History
) -> None:
    presented = await history(scene)
    before, told = await scene.dump(), await scene.events()
    for _ in range(2):
        answer = await scene.validate(presented.token, presented.device_id, observe_only=True)
        assert answer.status is presented.status
        assert answer.revoked_devices == 0
        assert answer.renew_recommended is presented.renew_recommended
        assert await scene.dump() == before
        assert await scene.events() == told
    assert (await scene.validate(presented.token, presented.device_id)).status is presented.status


@every_presentation
async def test_every_answer_holds_a_device_id(scene: Scene, history: History) -> None:
    presented = await history(scene)
    is_one = isinstance(presented.device_id, UUID)
    answer = await scene.validate(presented.token, presented.device_id)
    assert answer.device_id_assigned is not is_one
    if is_one:
        assert answer.device_id == presented.device_id
    else:
        assert answer.device_id.version == 4
        again = await scene.validate(presented.token, presented.device_id)
        assert again.device_id != answer.device_id


@every_presentation
async def test_only_replays_and_tokens_of_ended_sessions_send_events(
    scene: Scene, history: History
) -> None:
    presented = await history(scene)
    before = len(await scene.events())
    await scene.validate(presented.token, presented.device_id)
    told = [scene.told(event) for event in (await scene.events())[before:]]
    if presented.status is SessionStatus.REPLAYED:
        assert presented.cause is not None
        assert [(event["type"], event["replay_cause"]) for event in told] == [
            ("SESSION_REPLAYED", presented.cause.name)
        ]
    elif presented.status is SessionStatus.SESSION_ENDED:
        assert [event["type"] for event in told] == ["ENDED_TOKEN_PRESENTED"]
    else:
        assert told == []


async def test_a_device_id_may_be_written_in_capitals(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    answer = await scene.validate(token, str(PHONE).upper())
    assert (answer.status, answer.device_id, answer.device_id_assigned) == (ACTIVE, PHONE, False)


async def test_the_token_is_checked_before_the_device_id(scene: Scene) -> None:
    assert (await scene.validate("", "nonsense")).status is SessionStatus.TOKEN_MISSING
    assert (await scene.validate("nonsense", "nonsense")).status is SessionStatus.TOKEN_INVALID


# Marks and touches.


async def test_the_first_use_is_marked_in_the_background(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(3 * MINUTE)
    answer = await scene.authority.validate_session(presented(token, PHONE))
    assert answer.status is ACTIVE
    before = await scene.session()
    assert before is not None
    await scene.authority.settled()
    assert await scene.session() == replace(
        before, first_seen_at=scene.clock.now, last_seen_at=scene.clock.now
    )
    marked = await scene.dump()
    await scene.validate(token)
    assert await scene.dump() == marked


async def test_a_copy_that_is_used_from_alarm_after_on_becomes_the_holder(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE - TICK)
    await scene.validate(token)
    record = await scene.session()
    assert record is not None
    assert record.holder is None
    scene.clock.advance(TICK)
    await scene.validate(token)
    record = await scene.session()
    assert record is not None
    assert record.holder == read_token(token).copy


async def test_an_older_token_updates_only_the_last_use_of_its_session(scene: Scene) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    await next_token(scene, old)
    before = await scene.session()
    assert before is not None
    scene.clock.advance(10 * MINUTE)
    await scene.validate(old)
    assert await scene.session() == replace(before, last_seen_at=scene.clock.now)


async def test_last_seen_is_written_once_in_each_touch_interval(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.validate(token)
    for seconds, last_seen in ((59, 0), (60, 60), (119, 60), (120, 120), (500, 500)):
        scene.clock.now = START + seconds * SECOND
        await scene.validate(token)
        session, device = await scene.session(), await scene.device()
        assert session is not None
        assert device is not None
        assert session.last_seen_at == device.last_seen_at == START + last_seen * SECOND


async def test_a_touch_stores_what_is_new_about_the_client(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.authority.update_device(USER, PHONE, "Ada's phone")
    scene.clock.advance(MINUTE)
    await scene.validate(token, client=Client(ip_address="2001:db8::7", app_version="5.0.0"))
    device = await scene.device()
    assert device is not None
    assert device.last_client == replace(CLIENT, ip_address="2001:db8::7", app_version="5.0.0")
    assert device.display_name == "Ada's phone"
    assert (device.first_seen_at, device.last_signed_in_at) == (START, START)


async def test_a_session_in_use_does_not_reach_its_idle_timeout(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(token_ttl=30 * DAY, alarm_after=MINUTE)
    token = (await scene.sign_in(PHONE)).access_token
    for _ in range(4):
        scene.clock.advance(7 * DAY - TICK)
        assert (await scene.validate(token)).status is ACTIVE
    scene.clock.now = START + 30 * DAY
    assert (await scene.validate(token)).status is SessionStatus.SESSION_EXPIRED


async def test_a_lost_mark_is_written_again_at_the_next_use(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    unseen = await scene.raw_session()
    scene.clock.advance(3 * MINUTE)
    await scene.validate(token)
    await scene.put_back(unseen)
    scene.clock.advance(MINUTE)
    assert (await scene.validate(token)).status is ACTIVE
    record = await scene.session()
    assert record is not None
    assert record.first_seen_at == scene.clock.now


async def test_a_mark_for_a_revoked_session_is_dropped(scene_with: Callable[..., Scene]) -> None:
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE)).access_token
    one.clock.advance(6 * MINUTE)
    revoke = other.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    answer, revoked = await asyncio.gather(one.validate(token), ComeBetween(one.store).do(revoke))
    assert answer.status is ACTIVE
    assert revoked
    assert await one.session() is None


async def test_a_failed_background_write_fails_no_validation(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token

    async def fail(_: Commit) -> None:
        raise StoreUnavailable

    scene.clock.advance(3 * MINUTE)
    scene.store.before_commit = fail
    assert (await scene.validate(token)).status is ACTIVE
    assert scene.metrics.best_effort_writes_dropped._value.get() == 1
    assert (await scene.validate(token)).status is ACTIVE
    record = await scene.session()
    assert record is not None
    assert record.first_seen_at == scene.clock.now


# Lost writes.


async def test_a_record_that_lost_writes_moves_forward_to_the_presented_token(
    scene: Scene,
) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    first = await scene.session()
    before = await scene.raw_session()
    new = await next_token(scene, old)
    rotated = await scene.session()
    assert first is not None
    assert rotated is not None
    await scene.put_back(before)
    scene.clock.advance(3 * MINUTE)
    answer = await scene.authority.validate_session(presented(new, PHONE))
    assert answer.status is ACTIVE
    # This write is not left to the background: a token whose answer was ACTIVE must stay active.
    expected = replace(
        rotated, predecessor=None, first_seen_at=scene.clock.now, last_seen_at=scene.clock.now
    )
    assert await scene.session() == expected
    assert scene.metrics.forwards._value.get() == 1
    scene.clock.advance(5 * MINUTE)
    assert (await scene.validate(old)).status is SessionStatus.REPLAYED


async def test_a_validation_that_a_revocation_overtakes_is_judged_again(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    old = (await one.sign_in(PHONE)).access_token
    before = await one.raw_session()
    new = await next_token(one, old)
    await one.put_back(before)
    held_back = ComeBetween(one.store)
    revoke = other.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    answer, _ = await asyncio.gather(one.validate(new), held_back.do(revoke))
    assert answer.status is SessionStatus.NO_SESSION
    assert await one.session() is None


async def test_a_later_token_does_not_restore_a_revoked_session(scene: Scene) -> None:
    _, new = await superseded(scene)
    await scene.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    )
    assert (await scene.validate(new)).status is SessionStatus.NO_SESSION
    assert await scene.session() is None


# Ends of sessions.


async def test_an_ended_session_is_removed_when_its_token_is_presented(scene: Scene) -> None:
    presented = await past_its_absolute_end(scene)
    await scene.sign_in(LAPTOP, "ben")
    assert (await scene.validate(presented.token)).status is SessionStatus.SESSION_EXPIRED
    assert await scene.session() is None
    assert (await scene.validate(presented.token)).status is SessionStatus.NO_SESSION
    assert await scene.happened() == ["DEVICE_SIGNED_IN"]
    assert list((await scene.store.user(USER)).devices) == [key_of(PHONE)]


async def test_the_removal_of_an_ended_session_spares_the_sign_in_that_replaced_it(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    ended = await past_its_absolute_end(one)
    answer = await one.authority.validate_session(presented(ended.token, PHONE))
    newer = await other.sign_in(PHONE)
    await one.authority.settled()
    assert answer.status is SessionStatus.SESSION_EXPIRED
    assert (await one.validate(newer.access_token)).status is ACTIVE


async def test_a_revocation_of_one_user_leaves_another_user_signed_in(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.sign_in(PHONE, "ben")
    await scene.authority.revoke_all(
        "ben", except_device_id=None, reason="", forget=True, actor=ACTOR
    )
    scene.clock.advance(HOUR)
    assert (await scene.validate(token)).status is ACTIVE

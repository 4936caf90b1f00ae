"""RenewSession: when it hands out a token, which token, and what it never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.verdicts import SessionStatus
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
    read_token,
)
from tests.authority.presentations import PRESENTATIONS, History, next_token, superseded

ACTIVE = SessionStatus.ACTIVE


@pytest.mark.parametrize("history", PRESENTATIONS.values(), ids=PRESENTATIONS)
async def test_a_renewal_judges_as_a_validation_does(scene: Scene, history: History) -> None:
    presented = await history(scene)
    answer = await scene.renew(presented.token, presented.device_id)
    # Except that an expired token can be renewed.
    expected = ACTIVE if presented.status is SessionStatus.TOKEN_EXPIRED else presented.status
    assert answer.status is expected
    assert (answer.session is not None) == (expected is ACTIVE)
    assert answer.access_token is None or expected is ACTIVE


async def test_a_renewal_rotates_from_alarm_after_on(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE - TICK)
    young = await scene.renew(token)
    assert (young.status, young.access_token) == (ACTIVE, None)
    assert young.session is not None
    assert young.session.token.generation == 1
    scene.clock.advance(TICK)
    renewed = await scene.renew(token)
    assert renewed.access_token is not None
    said = read_token(renewed.access_token)
    assert (said.generation, said.issued, said.expires) == (2, 300, 300 + 3600)
    record = await scene.session()
    assert record is not None
    assert renewed.session is not None
    assert renewed.session.token.generation == record.generation == 2
    assert renewed.session.expires_at == record.expires_at(scene.limits)
    assert (record.dated_at, record.first_seen_at, record.holder, record.last_seen_at) == (
        scene.clock.now,
        None,
        None,
        scene.clock.now,
    )


async def test_a_renewal_that_is_too_early_marks_the_token_as_seen(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(3 * MINUTE)
    await scene.renew(token)
    record = await scene.session()
    assert record is not None
    assert record.first_seen_at == scene.clock.now


async def test_an_expired_token_renews_as_long_as_its_session_lives(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(7 * DAY - TICK)
    assert (await scene.validate(token)).status is SessionStatus.TOKEN_EXPIRED
    renewed = await scene.renew(token)
    assert renewed.access_token is not None
    assert (await scene.validate(renewed.access_token)).status is ACTIVE


@pytest.mark.parametrize("session_ttl", [HOUR, 30 * DAY], ids=["absolute", "idle"])
async def test_a_session_that_is_over_cannot_be_renewed(scene: Scene, session_ttl: object) -> None:
    token = (await scene.sign_in(PHONE, session_ttl=session_ttl)).access_token
    scene.clock.advance(HOUR if session_ttl == HOUR else 7 * DAY)
    assert (await scene.renew(token)).status is SessionStatus.SESSION_EXPIRED
    assert await scene.session() is None
    assert (await scene.renew(token)).status is SessionStatus.NO_SESSION


async def test_no_token_outlives_its_session(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, session_ttl=90 * MINUTE)).access_token
    scene.clock.advance(50 * MINUTE)
    renewed = await scene.renew(token)
    assert renewed.access_token is not None
    assert read_token(renewed.access_token).expires == 90 * 60


async def test_a_repeated_renewal_gets_another_copy(scene: Scene) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    new = await next_token(scene, old)
    scene.clock.advance(30 * SECOND)
    before = await scene.dump()
    again = (await scene.renew(old)).access_token
    assert await scene.dump() == before
    assert again is not None
    one, two = read_token(new), read_token(again)
    assert (one.session_id, one.generation, one.expires) == (
        two.session_id,
        two.generation,
        two.expires,
    )
    assert two.issued - one.issued == 30  # the copy has its own issue time
    assert one.copy != two.copy


async def test_a_late_copy_is_dated_anew_and_starts_no_new_generation(scene: Scene) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    await next_token(scene, old)
    for _ in range(5):
        scene.clock.advance(30 * SECOND + TICK)
        again = (await scene.renew(old)).access_token
        assert again is not None
        record = await scene.session()
        assert record is not None
        assert (record.generation, record.dated_at, record.first_seen_at) == (
            2,
            scene.clock.now,
            None,
        )
        assert read_token(again).generation == 2
        assert record.token_ends_at == scene.clock.now + HOUR


async def test_a_token_whose_successor_is_in_use_is_not_renewed(scene: Scene) -> None:
    old, _ = await superseded(scene)
    scene.clock.advance(30 * SECOND - TICK)
    before = await scene.dump()
    answer = await scene.renew(old)
    assert (answer.status, answer.access_token) == (ACTIVE, None)
    assert answer.session is not None
    assert answer.session.token.generation == 1
    assert await scene.dump() == before


async def test_the_claims_and_methods_of_the_sign_in_survive_every_renewal(scene: Scene) -> None:
    claims = {"email": "ada@example.org", "tenant": "☃"}
    token = (await scene.sign_in(PHONE, claims=claims, auth_methods=("pwd", "otp"))).access_token
    first = read_token(token)
    for generation in range(2, 8):
        token = await next_token(scene, token)
        said = read_token(token)
        assert said.generation == generation
        for name in ("iss", "aud", "sub", "dk", "sid", "auth_time", "amr", *claims):
            assert said.payload[name] == first.payload[name]
        session = (await scene.validate(token)).session
        assert session is not None
        assert (session.token.claims, session.token.auth_methods) == (claims, ("pwd", "otp"))
        assert session.token.signed_in_at == START


async def test_a_renewal_touches_the_device(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE)
    await scene.renew(token, client=Client(app_version="5.0.0"))
    device = await scene.device()
    assert device is not None
    assert device.last_seen_at == scene.clock.now
    assert device.last_client == replace(CLIENT, app_version="5.0.0")


async def test_a_renewal_sends_no_event(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    for _ in range(3):
        token = await next_token(scene, token)
    assert await scene.happened() == ["DEVICE_SIGNED_IN"]


async def test_tabs_that_renew_at_once_get_one_generation(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE)
    answers = await asyncio.gather(*(scene.renew(token) for _ in range(20)))
    texts = [answer.access_token for answer in answers if answer.access_token]
    assert len(texts) == 20
    assert {read_token(text).generation for text in texts} == {2}
    for text in texts:
        assert (await scene.validate(text)).status is ACTIVE


async def test_a_renewal_that_a_revocation_overtakes_hands_out_nothing(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE)).access_token
    one.clock.advance(5 * MINUTE)
    revoke = other.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    )
    answer, revoked = await asyncio.gather(one.renew(token), ComeBetween(one.store).do(revoke))
    assert (answer.status, answer.access_token, revoked) == (SessionStatus.NO_SESSION, None, 1)


async def test_a_renewal_that_a_renewal_overtakes_hands_out_the_same_generation(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE)).access_token
    one.clock.advance(5 * MINUTE)
    late, early = await asyncio.gather(
        one.renew(token), ComeBetween(one.store).do(other.renew(token))
    )
    for answer in (late, early):
        assert answer.access_token is not None
        assert read_token(answer.access_token).generation == 2


async def test_after_lost_writes_a_renewal_continues_from_the_presented_token(scene: Scene) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    before = await scene.raw_session()
    third = await next_token(scene, await next_token(scene, old))
    await scene.put_back(before)
    fourth = await next_token(scene, third)
    assert read_token(fourth).generation == 4
    record = await scene.session()
    assert record is not None
    assert (record.generation, record.first_seen_at) == (4, None)
    assert scene.metrics.forwards._value.get() == 1


async def test_after_lost_writes_a_young_token_is_kept(scene: Scene) -> None:
    old = (await scene.sign_in(PHONE)).access_token
    before = await scene.raw_session()
    new = await next_token(scene, old)
    await scene.put_back(before)
    answer = await scene.renew(new)
    assert (answer.status, answer.access_token) == (ACTIVE, None)
    record = await scene.session()
    assert record is not None
    assert (record.generation, record.first_seen_at, record.holder) == (2, None, None)


async def test_a_renewal_on_another_device_is_a_replay(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(10 * MINUTE)
    answer = await scene.renew(token, LAPTOP)
    assert (answer.status, answer.revoked_devices) == (SessionStatus.REPLAYED, 1)
    assert await scene.session() is None

"""UpdateSession: which sessions get the new claims, when their tokens have them, and that an update
never harms a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from session_authority.domain.errors import InvalidRequest, SessionNotFound
from session_authority.domain.fields import LARGEST_CLAIMS
from session_authority.domain.results import RenewedSession
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.sessions import StoredClaims
from session_authority.domain.verdicts import SessionStatus
from tests.authority.harness import (
    ACTOR,
    DAY,
    HOUR,
    LAPTOP,
    MINUTE,
    PHONE,
    SECOND,
    TABLET,
    USER,
    ComeBetween,
    Scene,
    key_of,
    read_token,
)
from tests.authority.presentations import next_token

ACTIVE, REPLAYED, NO_SESSION = (
    SessionStatus.ACTIVE,
    SessionStatus.REPLAYED,
    SessionStatus.NO_SESSION,
)
OLD = {"email": "old@example.org", "name": "Ada"}
NEW = {"email": "new@example.org"}
NEWEST = {"email": "newest@example.org"}
REQUEST_ID = UUID(int=0x1D, version=4)
IDENTITY = ("sub", "dk", "sid", "gen", "jti", "iat", "exp", "auth_time")


async def update(
    scene: Scene, claims: Mapping[str, str] = NEW, device_id: UUID | None = None, **more: Any
) -> int:
    return await scene.authority.update_session(
        more.get("user_id", USER), device_id, claims, "profile-service"
    )


def claims_in(text: str | None) -> dict[str, str]:
    """Returns the caller's claims in a token."""
    assert text is not None
    payload = read_token(text).payload
    return {name: value for name, value in payload.items() if name in ("email", "name")}


def told_by(renewed: RenewedSession) -> Mapping[str, str]:
    """Returns the claims in the answer to a renewal. A new token must have the same claims."""
    assert renewed.session is not None
    if renewed.access_token is not None:
        assert claims_in(renewed.access_token) == renewed.session.token.claims
    return renewed.session.token.claims


async def stored_claims(scene: Scene, device_id: UUID = PHONE) -> Mapping[str, str] | None:
    found = (await scene.store.claims(USER)).get(key_of(device_id))
    return None if found is None else found.record.claims


async def standing(scene: Scene, device_id: UUID = PHONE) -> StoredClaims | None:
    record = await scene.session(device_id)
    return None if record is None else record.stored_claims


# When tokens have the new claims.


async def test_after_an_update_a_validation_recommends_the_renewal_that_brings_the_claims(
    scene: Scene,
) -> None:
    """The renewal brings the claims at once, though the token is too young for the next
    generation.
    """
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    assert not (await scene.validate(token)).renew_recommended
    assert await update(scene) == 1
    found = await scene.validate(token)
    assert (found.status, found.renew_recommended) == (ACTIVE, True)
    assert found.session is not None
    assert found.session.token.claims == OLD  # the claims of the presented token
    renewed = await scene.renew(token)
    assert (renewed.status, told_by(renewed)) == (ACTIVE, NEW)
    assert renewed.access_token is not None
    before, after = read_token(token).payload, read_token(renewed.access_token).payload
    assert {name: after[name] for name in IDENTITY} == {name: before[name] for name in IDENTITY}
    found = await scene.validate(renewed.access_token)
    assert found.session is not None
    assert (found.status, found.session.token.claims) == (ACTIVE, NEW)


async def test_once_the_new_claims_arrived_no_renewal_is_recommended(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    newer = (await scene.renew(token)).access_token
    assert newer is not None
    assert (await scene.validate(newer)).renew_recommended  # their arrival is not recorded yet
    renewed = await scene.renew(newer)
    assert (renewed.access_token, told_by(renewed)) == (None, NEW)
    for text in (newer, token):
        assert not (await scene.validate(text)).renew_recommended
    assert await standing(scene) is StoredClaims.IN_TOKENS


async def test_a_renewal_whose_reply_was_lost_can_be_repeated(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    for _ in range(3):
        assert told_by(await scene.renew(token)) == NEW
        scene.clock.advance(SECOND)
    assert (await scene.validate(token)).renew_recommended


async def test_every_later_token_has_the_new_claims(scene: Scene) -> None:
    """The next generation, other copies of it, and all later generations have the new claims."""
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    rotated = await next_token(scene, token)
    copied = (await scene.renew(token)).access_token
    scene.clock.advance(31 * SECOND)
    dated_anew = (await scene.renew(token)).access_token
    assert dated_anew is not None
    later = await next_token(scene, dated_anew)
    texts = (rotated, copied, dated_anew, later)
    assert [claims_in(text) for text in texts] == [NEW] * len(texts)
    assert [read_token(text).generation for text in texts if text] == [2, 2, 2, 3]


async def test_a_repeated_sign_in_has_the_new_claims(scene: Scene) -> None:
    first = await scene.sign_in(PHONE, claims=OLD, request_id=REQUEST_ID)
    await update(scene)
    again = await scene.sign_in(PHONE, claims=OLD, request_id=REQUEST_ID)
    assert (claims_in(first.access_token), claims_in(again.access_token)) == (OLD, NEW)


async def test_an_update_replaces_all_claims(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    for claims in (NEW, {}, OLD, NEWEST):
        assert await update(scene, claims) == 1
        token = await next_token(scene, token)
        assert claims_in(token) == claims


async def test_the_renewal_of_an_expired_token_brings_the_new_claims(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    scene.clock.advance(2 * HOUR)
    assert told_by(await scene.renew(token)) == NEW


async def test_updated_claims_last_as_long_as_their_session(scene: Scene) -> None:
    """The key that holds the claims in Redis must not expire with a shorter session that was
    updated first.
    """
    await scene.sign_in(LAPTOP, claims=OLD, session_ttl=HOUR)
    await update(scene)
    await scene.sign_in(PHONE, claims=OLD, session_ttl=30 * DAY)
    await update(scene)
    ttl = await scene.client.execute_command("PTTL", scene.keys.claims(USER))
    assert 30 * DAY.total_seconds() - 60 < ttl / 1000 <= 30 * DAY.total_seconds()


# Updates change no dates and raise no alarm.


async def test_an_update_changes_no_verdict(scene: Scene) -> None:
    """An update changes nothing in the session record but the mark for stored claims."""
    await scene.sign_in(PHONE, claims=OLD)
    before = await scene.session()
    scene.clock.advance(MINUTE)
    await update(scene)
    after, raw = await scene.session(), await scene.raw_session()
    assert before is not None
    assert after is not None
    assert raw is not None
    assert len(raw) < 64
    assert after != before
    assert replace(after, stored_claims=StoredClaims.NONE) == before


async def test_a_request_under_way_with_the_previous_token_raises_no_alarm(scene: Scene) -> None:
    """The renewal after an update does not rotate to the next generation too early."""
    old = (await scene.sign_in(PHONE, claims=OLD)).access_token
    token = await next_token(scene, old)
    await update(scene)
    renewed = await scene.renew(token)
    assert told_by(renewed) == NEW
    assert (await scene.validate(old)).status is ACTIVE
    again = (await scene.renew(old)).access_token
    assert claims_in(again) == NEW
    for text in (token, renewed.access_token, again):
        assert text is not None
        assert (await scene.validate(text)).status is ACTIVE


async def test_tabs_that_renew_at_once_all_get_the_new_claims(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    answers = await asyncio.gather(*(scene.renew(token) for _ in range(8)))
    assert [told_by(answer) for answer in answers] == [NEW] * 8
    scene.clock.advance(6 * MINUTE)
    texts = [token, *(answer.access_token or "" for answer in answers)]
    assert {(await scene.validate(text)).status for text in texts} == {ACTIVE}


async def test_a_thief_is_still_caught_after_an_update(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)
    newer = (await scene.renew(token)).access_token
    assert newer is not None
    successor = await next_token(scene, newer)
    scene.clock.advance(3 * MINUTE)
    await scene.validate(successor)
    scene.clock.advance(5 * MINUTE)
    assert (await scene.validate(token)).status is REPLAYED


# Which sessions are updated.


async def test_an_update_changes_all_devices_of_the_user_or_one(scene: Scene) -> None:
    texts = {d: (await scene.sign_in(d, claims=OLD)).access_token for d in (PHONE, LAPTOP, TABLET)}
    other = (await scene.sign_in(PHONE, "ben", claims=OLD)).access_token
    assert await update(scene) == 3
    assert await update(scene, NEWEST, LAPTOP) == 1
    told = [told_by(await scene.renew(text, device)) for device, text in texts.items()]
    assert told == [NEW, NEWEST, NEW]
    assert told_by(await scene.renew(other)) == OLD


async def test_an_update_that_finds_no_session_fails_only_for_a_named_device(scene: Scene) -> None:
    await scene.sign_in(PHONE, claims=OLD, session_ttl=HOUR)
    scene.clock.advance(HOUR)
    before = await scene.dump()
    assert await update(scene) == 0
    assert await update(scene, user_id="nobody") == 0
    for device_id in (PHONE, LAPTOP):
        with pytest.raises(SessionNotFound):
            await update(scene, NEW, device_id)
    assert await scene.dump() == before


async def test_a_repeated_update_changes_nothing(scene: Scene) -> None:
    await scene.sign_in(PHONE, claims=OLD)
    await scene.sign_in(LAPTOP, claims=OLD)
    assert await update(scene, NEW, LAPTOP) == 1
    assert await update(scene) == 2
    before = await scene.dump()
    assert [await update(scene), await update(scene, NEW, PHONE)] == [2, 1]
    assert await scene.dump() == before


async def test_a_new_sign_in_starts_with_its_own_claims(scene: Scene) -> None:
    await scene.sign_in(PHONE, claims=OLD)
    await update(scene)
    token = (await scene.sign_in(PHONE, claims=NEWEST)).access_token
    assert await stored_claims(scene) is None
    assert not (await scene.validate(token)).renew_recommended
    assert claims_in(await next_token(scene, token)) == NEWEST


# Updated claims end with their session.


@pytest.mark.parametrize("end", ["device", "all", "replay", "replay_device", "evicted", "over"])
async def test_updated_claims_are_removed_with_their_session(
    scene_with: Callable[..., Scene], end: str
) -> None:
    limits: dict[str, Any] = {"max_devices": 1} if end == "evicted" else {}
    if end == "replay_device":
        limits["replay_action"] = ReplayAction.REVOKE_DEVICE
    scene = scene_with(**limits)
    token = (await scene.sign_in(PHONE, claims=OLD, session_ttl=DAY)).access_token
    await update(scene)
    assert await stored_claims(scene) == NEW
    revoked: dict[str, Any] = {"reason": "", "forget": False, "actor": ACTOR}
    match end:
        case "device":
            await scene.authority.revoke_device(USER, PHONE, **revoked)
        case "all":
            await scene.authority.revoke_all(USER, except_device_id=None, **revoked)
        case "evicted":
            await scene.sign_in(LAPTOP)
        case "over":
            scene.clock.advance(DAY)
            assert (await scene.renew(token)).status is SessionStatus.SESSION_EXPIRED
        case _:
            assert (await scene.validate(token, LAPTOP)).status is REPLAYED
    assert await scene.session() is None
    assert await stored_claims(scene) is None


# Races.


async def test_a_session_that_is_revoked_during_an_update_stays_ended(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE, claims=OLD)).access_token
    revoke = other.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    )
    updated, revoked = await asyncio.gather(update(one), ComeBetween(one.store).do(revoke))
    assert (updated, revoked) == (0, 1)
    assert (await one.session(), await stored_claims(one)) == (None, None)
    assert (await one.validate(token)).status is NO_SESSION
    assert await one.happened() == ["DEVICE_SIGNED_IN", "ALL_REVOKED"]


async def test_an_update_of_a_device_that_is_revoked_meanwhile_finds_no_session(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    await one.sign_in(PHONE, claims=OLD)
    revoke = other.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    answers = await asyncio.gather(
        update(one, NEW, PHONE), ComeBetween(one.store).do(revoke), return_exceptions=True
    )
    assert isinstance(answers[0], SessionNotFound)
    assert await one.session() is None


@pytest.mark.parametrize("age", [MINUTE, 5 * MINUTE], ids=["too young", "old enough"])
@pytest.mark.parametrize("has_newer", [False, True], ids=["first", "another"])
async def test_an_update_during_a_renewal_is_not_lost(
    scene_with: Callable[..., Scene], age: Any, has_newer: bool
) -> None:
    """The update is kept even if the record looks unchanged, because it had newer claims
    already.
    """
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE, claims=OLD)).access_token
    if has_newer:
        await update(other, NEWEST)
        token = (await one.renew(token)).access_token or ""
    one.clock.advance(age)
    # If the token is too young to rotate, the renewal writes that the claims arrived, or when the
    # session was last used.
    renewed, _ = await asyncio.gather(one.renew(token), ComeBetween(one.store).do(update(other)))
    newest = renewed.access_token or token
    if told_by(renewed) != NEW:
        assert (await one.validate(newest)).renew_recommended
        assert told_by(await one.renew(newest)) == NEW


async def test_a_renewal_during_an_update_is_not_lost(scene_with: Callable[..., Scene]) -> None:
    one, other = scene_with(), scene_with()
    token = (await one.sign_in(PHONE, claims=OLD)).access_token
    one.clock.advance(5 * MINUTE)
    updated, renewed = await asyncio.gather(
        update(one), ComeBetween(one.store).do(other.renew(token))
    )
    assert (updated, told_by(renewed)) == (1, OLD)
    record = await one.session()
    assert record is not None
    assert record.generation == 2
    assert renewed.access_token is not None
    assert told_by(await one.renew(renewed.access_token)) == NEW


async def test_a_sign_in_during_an_update_is_updated(scene_with: Callable[..., Scene]) -> None:
    one, other = scene_with(), scene_with()
    await one.sign_in(PHONE, claims=OLD)
    updated, issued = await asyncio.gather(
        update(one), ComeBetween(one.store).do(other.sign_in(PHONE, claims=OLD))
    )
    assert updated == 1
    assert told_by(await one.renew(issued.access_token)) == NEW


async def test_after_a_lost_update_a_renewal_keeps_the_claims_of_the_presented_token(
    scene: Scene,
) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    before = await scene.raw_session()
    await update(scene)
    newer = (await scene.renew(token)).access_token or ""
    await scene.put_back(before)
    await scene.client.execute_command("DEL", scene.keys.claims(USER))
    assert (await scene.validate(newer)).status is ACTIVE
    # the presented token had the new claims
    assert claims_in(await next_token(scene, newer)) == NEW


# The space for claims in a token.


@pytest.mark.parametrize("user_id", ["ada", "a" * 255])
async def test_the_largest_claims_of_a_sign_in_fit_into_an_update_too(
    scene: Scene, user_id: str
) -> None:
    await scene.sign_in(PHONE, user_id, auth_methods=("pwd", "otp"))
    before = await scene.dump()
    assert not [name for name in before if name == scene.keys.claims(user_id).encode()]
    assert await update(scene, LARGEST_CLAIMS, user_id=user_id) == 1


async def test_claims_that_are_too_large_together_with_the_auth_methods_are_refused(
    scene: Scene,
) -> None:
    """The store keeps the auth methods only if they are so long that a token has too little room
    for claims.
    """
    methods = tuple(f"{number}{'m' * 127}" for number in range(8))
    await scene.sign_in(PHONE, "a" * 255, auth_methods=methods, claims=OLD)
    await scene.sign_in(LAPTOP, "a" * 255, claims=OLD)
    before = await scene.dump()
    for device_id in (None, PHONE):
        with pytest.raises(InvalidRequest) as refused:
            await update(scene, LARGEST_CLAIMS, device_id, user_id="a" * 255)
        assert [v.field for v in refused.value.violations] == ["claims"]
    assert await scene.dump() == before
    assert await update(scene, LARGEST_CLAIMS, LAPTOP, user_id="a" * 255) == 1
    assert await update(scene, NEW, PHONE, user_id="a" * 255) == 1
    with pytest.raises(InvalidRequest):  # the methods are still stored
        await update(scene, LARGEST_CLAIMS, PHONE, user_id="a" * 255)


async def test_a_session_with_long_methods_is_not_advised_to_renew_its_claims(scene: Scene) -> None:
    methods = tuple(f"{number}{'m' * 127}" for number in range(8))
    token = (await scene.sign_in(PHONE, auth_methods=methods, claims=OLD)).access_token
    assert await stored_claims(scene) == OLD
    assert not (await scene.validate(token)).renew_recommended
    assert (await scene.renew(token)).access_token is None
    assert claims_in(await next_token(scene, token)) == OLD


# Events, and reads from Redis.


async def test_the_event_of_an_update_does_not_contain_the_claims(scene: Scene) -> None:
    await scene.sign_in(PHONE, claims=OLD)
    session = await scene.session()
    assert session is not None
    scene.clock.advance(MINUTE)
    await update(scene, NEW, PHONE)
    await update(scene, NEWEST)
    told = [scene.told(event) for event in (await scene.events())[1:]]
    common = {
        "type": "SESSION_UPDATED",
        "time": scene.clock.now,
        "user_id": USER,
        "actor": "profile-service",
    }
    of_one = {
        "device_id": PHONE,
        "device_display_name": "Pixel 8",
        "session_id": session.session_id,
    }
    assert [{k: v for k, v in one.items() if k != "device_client"} for one in told] == [
        common | of_one,
        common,
    ]
    assert not [event for event in await scene.events() if b"example.org" in str(event).encode()]


async def test_a_validation_never_reads_the_claims_from_redis(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await scene.sign_in(PHONE, claims=OLD)).access_token
    await update(scene)

    async def fail(*_: object) -> None:
        raise AssertionError("the claims were read")

    monkeypatch.setattr(scene.store, "claims_of", fail)
    monkeypatch.setattr(scene.store, "claims", fail)
    assert (await scene.validate(token)).status is ACTIVE

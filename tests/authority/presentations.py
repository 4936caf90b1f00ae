"""The ways in which a token can be good or bad, each as a short history that ends before the token
is presented.

`PRESENTATIONS` has at least one entry for each row of the verdict table except "previous: second
copy", and for some rows an entry at both edges of an interval.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from session_authority.domain.verdicts import ReplayCause, SessionStatus
from session_authority.tokens import Tokens
from tests.authority.harness import (
    ACTOR,
    AUDIENCE,
    DAY,
    HOUR,
    ISSUER,
    LAPTOP,
    MINUTE,
    PHONE,
    SECOND,
    TICK,
    USER,
    Scene,
)


@dataclass(frozen=True, slots=True)
class Presented:
    """A token and a device ID, and the result that presenting them must have."""

    token: str
    device_id: UUID | str
    status: SessionStatus
    cause: ReplayCause | None = None
    renew_recommended: bool = False
    forwards: bool = False


History = Callable[[Scene], Awaitable[Presented]]
PRESENTATIONS: dict[str, History] = {}
S = SessionStatus


def _row(history: History) -> History:
    PRESENTATIONS[getattr(history, "__name__", "").replace("_", " ")] = history
    return history


async def next_token(scene: Scene, token: str) -> str:
    """Renews the token as soon as the rules allow."""
    scene.clock.advance(5 * MINUTE)
    renewed = await scene.renew(token)
    assert renewed.access_token is not None
    return renewed.access_token


async def superseded(scene: Scene) -> tuple[str, str]:
    """Returns an old token and the next one, which is in use."""
    old = (await scene.sign_in(PHONE)).access_token
    new = await next_token(scene, old)
    scene.clock.advance(3 * MINUTE)
    await scene.validate(new)
    return old, new


@_row
async def no_token(scene: Scene) -> Presented:
    await scene.sign_in(PHONE)
    return Presented("", PHONE, S.TOKEN_MISSING)


@_row
async def no_jwt(scene: Scene) -> Presented:
    await scene.sign_in(PHONE)
    return Presented("nonsense", PHONE, S.TOKEN_INVALID)


@_row
async def not_canonical(scene: Scene) -> Presented:
    return Presented((await scene.sign_in(PHONE)).access_token + "=", PHONE, S.TOKEN_INVALID)


@_row
async def of_another_issuer(scene: Scene) -> Presented:
    token = scene.tokens.verify((await scene.sign_in(PHONE)).access_token, scene.clock())
    assert token is not None
    foreign = Tokens(scene.source, ISSUER + "/other", AUDIENCE, DAY).sign(token)
    return Presented(foreign, PHONE, S.TOKEN_INVALID)


@_row
async def over(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(HOUR + 30 * SECOND)
    return Presented(token, PHONE, S.TOKEN_EXPIRED)


@_row
async def almost_over(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(HOUR + 30 * SECOND - TICK)
    return Presented(token, PHONE, S.ACTIVE, renew_recommended=True)


@_row
async def without_a_device(scene: Scene) -> Presented:
    return Presented((await scene.sign_in(PHONE)).access_token, "", S.NO_SESSION)


@_row
async def with_a_malformed_device(scene: Scene) -> Presented:
    return Presented((await scene.sign_in(PHONE)).access_token, str(PHONE)[:-1], S.NO_SESSION)


@_row
async def revoked(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    return Presented(token, PHONE, S.NO_SESSION)


@_row
async def past_its_idle_end(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    for _ in range(12):
        token = await next_token(scene, token)
    stale = await scene.raw_session()
    later = scene.clock.now + 7 * DAY
    # A token may outlive the idle timeout of its session: the two lifetimes are separate settings.
    verified = scene.tokens.verify(token, scene.clock())
    assert verified is not None
    lasting = scene.tokens.sign(replace(verified, expires_at=later + HOUR))
    scene.clock.now = later
    assert await scene.raw_session() == stale
    return Presented(lasting, PHONE, S.SESSION_EXPIRED)


@_row
async def past_its_absolute_end(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE, session_ttl=10 * MINUTE)).access_token
    scene.clock.advance(10 * MINUTE)
    return Presented(token, PHONE, S.SESSION_EXPIRED)


@_row
async def fresh(scene: Scene) -> Presented:
    return Presented((await scene.sign_in(PHONE)).access_token, PHONE, S.ACTIVE)


@_row
async def in_use(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.validate(token)
    scene.clock.advance(30 * MINUTE)
    return Presented(token, PHONE, S.ACTIVE)


@_row
async def past_half_its_life(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(30 * MINUTE + TICK)
    return Presented(token, PHONE, S.ACTIVE, renew_recommended=True)


@_row
async def held(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE)
    await scene.validate(token)
    return Presented(token, PHONE, S.ACTIVE)


@_row
async def a_second_copy_of_the_held(scene: Scene) -> Presented:
    first, second = await _two_copies(scene)
    await scene.validate(first)
    return Presented(second, PHONE, S.REPLAYED, ReplayCause.SECOND_COPY)


@_row
async def a_second_copy_while_none_is_held(scene: Scene) -> Presented:
    first, second = await _two_copies(scene, -TICK)
    await scene.validate(first)
    return Presented(second, PHONE, S.ACTIVE)


async def _two_copies(scene: Scene, off: timedelta = timedelta(0)) -> tuple[str, str]:
    """Returns two copies of one generation, `ALARM_AFTER` (plus `off`) after the first was made."""
    old = (await scene.sign_in(PHONE)).access_token
    first = await next_token(scene, old)
    second = (await scene.renew(old)).access_token
    assert second is not None
    scene.clock.advance(5 * MINUTE + off)
    return first, second


@_row
async def the_previous_while_the_new_is_unseen(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    await next_token(scene, old)
    scene.clock.advance(50 * MINUTE)
    return Presented(old, PHONE, S.ACTIVE, renew_recommended=True)


@_row
async def the_previous_while_the_new_may_be_lost_with_its_client(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    new = await next_token(scene, old)
    scene.clock.advance(3 * MINUTE - TICK)
    await scene.validate(new)
    scene.clock.advance(50 * MINUTE)
    return Presented(old, PHONE, S.ACTIVE, renew_recommended=True)


@_row
async def the_previous_in_grace(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(30 * SECOND - TICK)
    return Presented(old, PHONE, S.ACTIVE, renew_recommended=True)


@_row
async def the_previous_after_its_grace(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(30 * SECOND)
    return Presented(old, PHONE, S.SUPERSEDED)


@_row
async def the_previous_just_before_the_alarm(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(5 * MINUTE - TICK)
    return Presented(old, PHONE, S.SUPERSEDED)


@_row
async def the_previous_long_after(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(5 * MINUTE)
    return Presented(old, PHONE, S.REPLAYED, ReplayCause.SUPERSEDED_TOKEN)


@_row
async def the_one_before_the_previous(scene: Scene) -> Presented:
    old, new = await superseded(scene)
    await next_token(scene, new)
    return Presented(old, PHONE, S.REPLAYED, ReplayCause.SUPERSEDED_TOKEN)


@_row
async def ahead_after_lost_writes(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    before = await scene.raw_session()
    new = await next_token(scene, await next_token(scene, old))
    await scene.put_back(before)
    return Presented(new, PHONE, S.ACTIVE, forwards=True)


@_row
async def ahead_but_made_before_the_record(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    before = await scene.raw_session()
    lost = await next_token(scene, await next_token(scene, old))
    await scene.put_back(before)
    await next_token(scene, old)
    return Presented(lost, PHONE, S.NO_SESSION)


@_row
async def a_thousand_generations_ahead(scene: Scene) -> Presented:
    return await _ahead_by(scene, 1000, Presented("", PHONE, S.ACTIVE, forwards=True))


@_row
async def more_than_a_thousand_generations_ahead(scene: Scene) -> Presented:
    return await _ahead_by(scene, 1001, Presented("", PHONE, S.NO_SESSION))


async def _ahead_by(scene: Scene, generations: int, presented: Presented) -> Presented:
    token = scene.tokens.verify((await scene.sign_in(PHONE)).access_token, scene.clock())
    assert token is not None
    scene.clock.advance(MINUTE)
    ahead = replace(token, generation=token.generation + generations, issued_at=scene.clock())
    return replace(presented, token=scene.tokens.sign(ahead))


@_row
async def of_the_replaced_session_while_the_new_is_unseen(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    await scene.sign_in(PHONE)
    scene.clock.advance(50 * MINUTE)
    return Presented(old, PHONE, S.SUPERSEDED)


@_row
async def of_the_replaced_session_soon_after(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    await scene.validate((await scene.sign_in(PHONE)).access_token)
    scene.clock.advance(5 * MINUTE - TICK)
    return Presented(old, PHONE, S.SUPERSEDED)


@_row
async def of_the_replaced_session_long_after(scene: Scene) -> Presented:
    return await _of_a_replaced_session(scene)


async def _of_a_replaced_session(scene: Scene) -> Presented:
    """Presents a token of a replaced session whose successor was first used `ALARM_AFTER` ago."""
    old = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE)
    new = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(3 * MINUTE)
    await scene.validate(new)
    scene.clock.advance(5 * MINUTE)
    return Presented(old, PHONE, S.REPLAYED, ReplayCause.REPLACED_SESSION)


@_row
async def of_the_replaced_session_on_another_device(scene: Scene) -> Presented:
    """On another device, a token of a replaced session raises no alarm: it is useless to a
    thief.
    """
    presented = await _of_a_replaced_session(scene)
    return Presented(presented.token, LAPTOP, S.WRONG_DEVICE)


@_row
async def of_the_replaced_session_whose_token_crossed_the_sign_in(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(5 * MINUTE - TICK)
    await scene.validate((await scene.sign_in(PHONE)).access_token)
    scene.clock.advance(50 * MINUTE)
    return Presented(old, PHONE, S.SUPERSEDED)


@_row
async def of_an_ended_session(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    await scene.sign_in(PHONE)
    return Presented(old, PHONE, S.SESSION_ENDED)


@_row
async def of_the_session_before_the_replaced(scene: Scene) -> Presented:
    old = (await scene.sign_in(PHONE)).access_token
    await scene.sign_in(PHONE)
    await scene.sign_in(PHONE)
    return Presented(old, PHONE, S.SESSION_ENDED)


@_row
async def a_good_one_on_another_device(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    await scene.sign_in(LAPTOP)
    return Presented(token, LAPTOP, S.REPLAYED, ReplayCause.LEFT_DEVICE)


@_row
async def an_old_one_on_another_device(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(5 * MINUTE)
    return Presented(old, LAPTOP, S.REPLAYED, ReplayCause.LEFT_DEVICE)


@_row
async def a_superseded_one_on_another_device(scene: Scene) -> Presented:
    old, _ = await superseded(scene)
    scene.clock.advance(MINUTE)
    return Presented(old, LAPTOP, S.WRONG_DEVICE)


@_row
async def a_good_one_with_the_device_that_was_assigned_to_it(scene: Scene) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    assigned = (await scene.validate(token, "")).device_id
    return Presented(await next_token(scene, token), assigned, S.WRONG_DEVICE)


@_row
async def a_good_one_with_a_device_that_was_assigned_before_its_sign_in(scene: Scene) -> Presented:
    assigned = (await scene.validate("", "")).device_id
    scene.clock.advance(MINUTE)
    token = (await scene.sign_in(PHONE)).access_token
    return Presented(await next_token(scene, token), assigned, S.WRONG_DEVICE)


@_row
async def a_good_one_with_a_device_that_was_assigned_to_a_made_up_token(scene: Scene) -> Presented:
    assigned = (await scene.validate("nonsense", "")).device_id
    return Presented((await scene.sign_in(PHONE)).access_token, assigned, S.WRONG_DEVICE)


@_row
async def a_good_one_with_a_device_that_was_assigned_to_another_session(
    scene: Scene,
) -> Presented:
    token = (await scene.sign_in(PHONE)).access_token
    other = (await scene.sign_in(LAPTOP)).access_token
    assigned = (await scene.validate(other, "")).device_id
    return Presented(token, assigned, S.WRONG_DEVICE)


@_row
async def a_dead_one_on_another_device(scene: Scene) -> Presented:
    presented = await of_an_ended_session(scene)
    return replace(presented, device_id=LAPTOP, status=S.WRONG_DEVICE)


@_row
async def a_revoked_one_on_another_device(scene: Scene) -> Presented:
    presented = await revoked(scene)
    return replace(presented, device_id=LAPTOP)

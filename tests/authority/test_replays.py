"""Replays: the alarm that they raise, and that a token of an ended session raises none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.session_limits import ReplayAction, ReplayAlarm
from session_authority.domain.verdicts import SessionStatus
from tests.authority.harness import (
    ACTOR,
    CLIENT,
    LAPTOP,
    MINUTE,
    PHONE,
    TABLET,
    USER,
    ComeBetween,
    Scene,
    key_of,
    read_token,
)
from tests.authority.presentations import (
    PRESENTATIONS,
    History,
    of_an_ended_session,
    superseded,
    the_previous_long_after,
)

REPLAYS: dict[str, History] = {
    name: PRESENTATIONS[name]
    for name in (
        "the previous long after",
        "the one before the previous",
        "a second copy of the held",
        "of the replaced session long after",
        "a good one on another device",
    )
}
THIEF = Client("198.51.100.9", "curl/8", "", "")
LEFT_SIGNED_IN = {
    ReplayAction.REVOKE_ALL: set(),
    ReplayAction.REVOKE_DEVICE: {TABLET},
    ReplayAction.DENY: {PHONE, TABLET},
}


async def _signed_in(scene: Scene) -> set[Any]:
    sessions = (await scene.store.user(USER)).sessions
    return {device for device in (PHONE, LAPTOP, TABLET) if key_of(device) in sessions}


@pytest.mark.parametrize("call", ["validate", "renew"])
@pytest.mark.parametrize("action", ReplayAction)
@pytest.mark.parametrize("history", REPLAYS.values(), ids=REPLAYS)
async def test_a_replay_sends_one_event_and_causes_the_configured_action(
    scene_with: Callable[..., Scene], action: ReplayAction, history: History, call: str
) -> None:
    scene = scene_with(replay_action=action)
    presented = await history(scene)
    await scene.authority.revoke_device(USER, LAPTOP, reason="", forget=True, actor=ACTOR)
    await scene.sign_in(TABLET)
    await scene.sign_in(TABLET, "ben")
    await scene.authority.update_device(USER, PHONE, "Ada's phone")
    record, before = await scene.session(), len(await scene.events())
    assert record is not None
    assert presented.cause is not None

    present = scene.validate if call == "validate" else scene.renew
    answer = await present(presented.token, presented.device_id, THIEF)
    assert answer.status is SessionStatus.REPLAYED
    assert answer.session is None
    left = LEFT_SIGNED_IN[action]
    assert answer.revoked_devices == 2 - len(left)
    assert await _signed_in(scene) == left
    assert len((await scene.store.user("ben")).sessions) == 1
    told = [scene.told(event) for event in (await scene.events())[before:]]
    assert told == [
        {
            "type": "SESSION_REPLAYED",
            "time": scene.clock.now,
            "user_id": USER,
            "device_id": PHONE,
            "device_display_name": "Ada's phone",
            "device_client": CLIENT,
            "client": THIEF,
            "session_id": record.session_id,
            "actor": ACTOR,
            "replay_cause": presented.cause.name,
            "replay_action": action.value,
        }
    ]
    for _ in range(3):
        answer = await present(presented.token, presented.device_id, THIEF)
        assert answer.revoked_devices == 0
        assert answer.status is (
            SessionStatus.REPLAYED if action is ReplayAction.DENY else SessionStatus.NO_SESSION
        )
    assert len(await scene.events()) == before + 1


async def test_a_denied_replay_sends_one_event_for_all_processes(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = (scene_with(replay_action=ReplayAction.DENY) for _ in range(2))
    presented = await the_previous_long_after(one)
    for scene in (one, other, one, other):
        answer = await scene.validate(presented.token)
        assert (answer.status, answer.revoked_devices) == (SessionStatus.REPLAYED, 0)
    assert await one.happened() == ["DEVICE_SIGNED_IN", "SESSION_REPLAYED"]


async def test_only_live_sessions_are_counted_as_revoked(scene: Scene) -> None:
    await scene.sign_in(LAPTOP, session_ttl=5 * MINUTE)
    presented = await the_previous_long_after(scene)
    answer = await scene.validate(presented.token)
    assert answer.revoked_devices == 1
    assert await _signed_in(scene) == set()


async def test_a_sign_in_during_the_judgement_of_a_replay_stays_signed_in(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    presented = await the_previous_long_after(one)
    replay, newer = await asyncio.gather(
        one.validate(presented.token), ComeBetween(one.store).do(other.sign_in(PHONE))
    )
    # The token is judged again on the new state: its session was just replaced.
    assert replay.status is SessionStatus.SUPERSEDED
    assert (await one.validate(newer.access_token)).status is SessionStatus.ACTIVE
    assert "SESSION_REPLAYED" not in await one.happened()


async def test_a_replay_that_a_revocation_overtakes_raises_no_alarm(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    presented = await the_previous_long_after(one)
    revoke = other.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    )
    replay, revoked = await asyncio.gather(
        one.validate(presented.token), ComeBetween(one.store).do(revoke)
    )
    assert (replay.status, replay.revoked_devices, revoked) == (SessionStatus.NO_SESSION, 0, 1)
    assert (await one.happened())[1:] == ["ALL_REVOKED"]


async def test_a_replay_on_a_forgotten_device_still_sends_an_event(scene: Scene) -> None:
    old, _ = await superseded(scene)
    before = await scene.raw_session()
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=True, actor=ACTOR)
    await scene.put_back(before)  # as after a failover that restored the session but not the device
    scene.clock.advance(5 * MINUTE)
    assert (await scene.validate(old)).status is SessionStatus.REPLAYED
    told = scene.told((await scene.events())[-1])
    assert told["type"] == "SESSION_REPLAYED"
    assert "device_id" not in told


# Tokens of ended sessions.


@pytest.mark.parametrize("call", ["validate", "renew"])
async def test_a_token_of_an_ended_session_sends_one_event_and_ends_no_session(
    scene_with: Callable[..., Scene], call: str
) -> None:
    one, other = scene_with(), scene_with()
    presented = await of_an_ended_session(one)
    record, before = await one.session(), len(await one.events())
    for scene in (one, one, other, other, one):
        present = scene.validate if call == "validate" else scene.renew
        answer = await present(presented.token, PHONE, THIEF)
        assert (answer.status, answer.revoked_devices) == (SessionStatus.SESSION_ENDED, 0)
    assert await one.session() == record
    told = [one.told(event) for event in (await one.events())[before:]]
    assert told == [
        {
            "type": "ENDED_TOKEN_PRESENTED",
            "time": one.clock.now,
            "user_id": USER,
            "device_id": PHONE,
            "device_display_name": "Pixel 8",
            "device_client": CLIENT,
            "client": THIEF,
            "session_id": read_token(presented.token).session_id,
            "actor": ACTOR,
        }
    ]


async def test_each_ended_session_has_an_event_of_its_own(scene: Scene) -> None:
    dead = []
    for _ in range(3):
        dead.append((await scene.sign_in(PHONE)).access_token)
        await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    await scene.sign_in(PHONE)
    before = len(await scene.events())
    for token in (*dead, *dead):
        await scene.validate(token, client=CLIENT)
    told = (await scene.events())[before:]
    assert [event.session_id for event in told] == [read_token(token).session_id for token in dead]


async def test_where_only_renewals_raise_the_alarm_a_validation_sends_a_quiet_event(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(replay_alarm=ReplayAlarm.RENEWED, replay_action=ReplayAction.DENY)
    old, new = await superseded(scene)
    scene.clock.advance(5 * MINUTE)
    for _ in range(3):
        answer = await scene.validate(old)
        assert (answer.status, answer.renew_recommended) == (SessionStatus.SUPERSEDED, True)
    assert (await scene.happened())[1:] == ["SUPERSEDED_TOKEN_PRESENTED"]
    assert (await scene.validate(new)).status is SessionStatus.ACTIVE
    # The quiet event does not suppress a later alarm.
    assert (await scene.renew(old)).status is SessionStatus.REPLAYED
    assert (await scene.happened())[2:] == ["SESSION_REPLAYED"]

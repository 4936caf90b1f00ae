"""IssueDevice: which sessions remain after a sign-in, what the token says, and how a repeated
request is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.errors import (
    Conflict,
    DeviceLimitReached,
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
)
from session_authority.domain.session_limits import DeviceLimitAction
from session_authority.domain.verdicts import SessionStatus
from session_authority.store import codec
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
    TABLET,
    TICK,
    USER,
    ComeBetween,
    Scene,
    key_of,
    read_token,
    request,
)

REQUEST_ID = UUID(int=0x1D, version=4)


async def test_a_sign_in_without_a_device_id_is_assigned_one(scene: Scene) -> None:
    issued = await scene.sign_in()
    device_id = issued.device.device.device_id
    assert issued.device_id_assigned
    assert device_id.version == 4
    assert (await scene.validate(issued.access_token, device_id)).status is SessionStatus.ACTIVE
    assert (await scene.sign_in()).device.device.device_id != device_id


async def test_a_sign_in_keeps_the_device_id_of_its_request(scene: Scene) -> None:
    issued = await scene.sign_in(PHONE)
    assert not issued.device_id_assigned
    assert issued.device.device.device_id == PHONE


async def test_the_token_names_the_user_the_device_and_the_authentication(scene: Scene) -> None:
    scene.clock.advance(1234 * TICK)
    claims = {"email": "ada@example.org", "tenant": "☃"}
    issued = await scene.sign_in(PHONE, claims=claims, auth_methods=("pwd", "otp"))
    said = read_token(issued.access_token)
    start = int(START.timestamp()) + 12
    assert (said.user_id, said.device_key, said.generation) == (USER, key_of(PHONE), 1)
    assert said.copy != 0
    assert said.payload["auth_time"] == said.payload["iat"] == start
    assert said.payload["exp"] == start + 3600
    assert said.payload["amr"] == ["pwd", "otp"]
    assert {name: said.payload[name] for name in claims} == claims
    session = (await scene.validate(issued.access_token)).session
    assert session is not None
    assert (session.token.claims, session.token.auth_methods) == (claims, ("pwd", "otp"))


async def test_the_answer_describes_the_device_and_its_session(scene: Scene) -> None:
    first = await scene.sign_in(PHONE)
    assert first.token_expires_at == START + HOUR
    scene.clock.advance(DAY)
    issued = await scene.sign_in(PHONE, client=Client(app_version="5.0.0"))
    shown = issued.device
    assert shown.session is not None
    assert shown.session.session_id == read_token(issued.access_token).session_id
    assert shown.expires_at == START + 8 * DAY
    assert shown.device.first_seen_at == START
    assert shown.device.last_signed_in_at == shown.last_seen_at == START + DAY
    assert shown.device.last_client == replace(CLIENT, app_version="5.0.0")


async def test_a_device_is_new_only_at_its_first_sign_in_until_it_is_forgotten(
    scene: Scene,
) -> None:
    assert (await scene.sign_in(PHONE)).new_device
    assert not (await scene.sign_in(PHONE)).new_device
    assert (await scene.sign_in(LAPTOP)).new_device
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    assert not (await scene.sign_in(PHONE)).new_device
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=True, actor=ACTOR)
    assert (await scene.sign_in(PHONE)).new_device
    told = [(event.new_device, event.first_device) for event in await scene.events()]
    assert told[:3] == [(True, True), (False, False), (True, False)]
    assert told[-1] == (True, False)


async def test_a_user_whose_devices_were_forgotten_has_a_first_device_again(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    await scene.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=True, actor=ACTOR
    )
    await scene.sign_in(PHONE)
    assert [event.first_device for event in await scene.events()] == [True, False, True]


async def test_a_session_ends_when_its_session_ttl_is_over(scene: Scene) -> None:
    issued = await scene.sign_in(PHONE, session_ttl=20 * MINUTE)
    assert issued.token_expires_at == START + 20 * MINUTE
    assert issued.device.expires_at == START + 20 * MINUTE
    scene.clock.advance(20 * MINUTE - TICK)
    assert (await scene.validate(issued.access_token)).status is SessionStatus.ACTIVE
    scene.clock.advance(TICK)
    assert (await scene.validate(issued.access_token)).status is SessionStatus.SESSION_EXPIRED


async def test_a_token_that_would_be_too_large_leaves_no_session(scene: Scene) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await scene.sign_in(PHONE, claims={"a": "\x01" * 1000})
    assert [violation.field for violation in refused.value.violations] == ["user_id", "claims"]
    assert await scene.dump() == {}


# Repetitions of a request.


async def test_a_repeated_request_gets_an_equal_answer_and_changes_nothing(scene: Scene) -> None:
    first = await scene.sign_in(request_id=REQUEST_ID)
    scene.clock.advance(20 * SECOND)
    before = await scene.dump()
    again = await scene.sign_in(request_id=REQUEST_ID)
    assert await scene.dump() == before
    one, two = read_token(first.access_token), read_token(again.access_token)
    assert (one.session_id, one.device_key, one.generation) == (
        two.session_id,
        two.device_key,
        two.generation,
    )
    assert one.copy != two.copy
    assert replace(again, access_token="") == replace(first, access_token="")
    assert await scene.happened() == ["DEVICE_SIGNED_IN"]
    for issued in (first, again):
        assert (
            await scene.validate(issued.access_token, first.device.device.device_id)
        ).status is SessionStatus.ACTIVE


async def test_after_a_late_repetition_both_copies_are_active(scene: Scene) -> None:
    """The first answer may still be on its way when the copy is made. Neither copy is taken for a
    thief's.
    """
    first = await scene.sign_in(request_id=REQUEST_ID)
    scene.clock.advance(5 * MINUTE + SECOND)
    again = await scene.sign_in(request_id=REQUEST_ID)
    assert again.token_expires_at == scene.clock.now + scene.limits.token_ttl
    for issued in (again, first):
        assert (
            await scene.validate(issued.access_token, first.device.device.device_id)
        ).status is SessionStatus.ACTIVE
    assert await scene.happened() == ["DEVICE_SIGNED_IN"]


async def test_the_answer_to_a_repeated_request_names_the_evicted_devices_again(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=1)
    await scene.sign_in(PHONE)
    first = await scene.sign_in(LAPTOP, request_id=REQUEST_ID)
    again = await scene.sign_in(LAPTOP, request_id=REQUEST_ID)
    assert [listed.device.device_id for listed in first.evicted] == [PHONE]
    assert again.evicted == first.evicted
    assert await scene.happened() == ["DEVICE_SIGNED_IN", "DEVICE_SIGNED_IN", "DEVICE_EVICTED"]


@pytest.mark.parametrize(
    "other",
    [
        {"device_id": LAPTOP},
        {"device_id": None},
        {"claims": {"a": "1"}},
        {"claims": {"a": "b", "b": ""}},
        {"auth_methods": ("otp", "pwd")},
        {"session_ttl": 30 * DAY - SECOND},
    ],
    ids=str,
)
async def test_a_request_id_with_other_contents_is_refused(
    scene: Scene, other: dict[str, Any]
) -> None:
    contents: dict[str, Any] = {
        "device_id": PHONE,
        "claims": {"a": "b"},
        "auth_methods": ("pwd", "otp"),
    }
    first = await scene.sign_in(request_id=REQUEST_ID, **contents)
    before = await scene.dump()
    with pytest.raises(RequestIdReused):
        await scene.sign_in(request_id=REQUEST_ID, **contents | other)
    await scene.validate(first.access_token)
    # Even if the ID is spent, the error is RequestIdReused: the caller made a mistake in the
    # contents.
    with pytest.raises(RequestIdReused):
        await scene.sign_in(request_id=REQUEST_ID, **contents | other)
    assert (await scene.events()) == (await scene.events())[:1]
    assert before.keys() == (await scene.dump()).keys()


async def _is_seen(scene: Scene, token: str) -> None:
    scene.clock.advance(3 * MINUTE)
    await scene.validate(token)


async def _is_renewed(scene: Scene, token: str) -> None:
    scene.clock.advance(5 * MINUTE)
    await scene.renew(token)


async def _is_asked_to_renew_too_early(scene: Scene, token: str) -> None:
    scene.clock.advance(3 * MINUTE)
    await scene.renew(token)


async def _is_replaced(scene: Scene, _: str) -> None:
    await scene.sign_in(PHONE)


async def _is_revoked(scene: Scene, _: str) -> None:
    await scene.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    )


async def _is_forgotten(scene: Scene, _: str) -> None:
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=True, actor=ACTOR)


async def _reaches_its_end(scene: Scene, _: str) -> None:
    scene.clock.advance(HOUR)


@pytest.mark.parametrize(
    "what",
    [
        _is_seen,
        _is_renewed,
        _is_asked_to_renew_too_early,
        _is_replaced,
        _is_revoked,
        _is_forgotten,
        _reaches_its_end,
    ],
)
async def test_a_request_id_is_spent_once_its_session_is_in_use_or_over(
    scene: Scene, what: Callable[..., Any]
) -> None:
    asked: dict[str, Any] = {"device_id": PHONE, "session_ttl": HOUR, "request_id": REQUEST_ID}
    first = await scene.sign_in(**asked)
    await what(scene, first.access_token)
    before = await scene.dump()
    with pytest.raises(RequestIdSpent):
        await scene.sign_in(**asked)
    assert await scene.dump() == before


async def test_another_user_may_use_the_same_request_id(scene: Scene) -> None:
    await scene.sign_in(PHONE, request_id=REQUEST_ID)
    assert (await scene.sign_in(PHONE, "ben", request_id=REQUEST_ID)).new_device


async def test_a_refused_sign_in_spends_no_request_id(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(max_devices=1, device_limit_action=DeviceLimitAction.REJECT)
    await scene.sign_in(PHONE)
    with pytest.raises(DeviceLimitReached):
        await scene.sign_in(LAPTOP, request_id=REQUEST_ID)
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    assert (await scene.sign_in(LAPTOP, request_id=REQUEST_ID)).new_device


async def test_64_simultaneous_sign_ins_with_one_request_id_make_one_session(scene: Scene) -> None:
    issued = await asyncio.gather(*(scene.sign_in(request_id=REQUEST_ID) for _ in range(64)))
    assert len({read_token(answer.access_token).session_id for answer in issued}) == 1
    assert await scene.happened() == ["DEVICE_SIGNED_IN"]


# A concurrent sign-in on the same device.


async def test_a_sign_in_that_was_overtaken_is_decided_again(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    await one.sign_in(PHONE)
    late, early = await asyncio.gather(
        one.sign_in(PHONE), ComeBetween(one.store).do(other.sign_in(PHONE))
    )
    record = await one.session()
    assert record is not None
    assert record.session_id == read_token(late.access_token).session_id
    assert record.replaced == read_token(early.access_token).session_id[:8]
    assert await one.happened() == ["DEVICE_SIGNED_IN"] * 3


async def test_of_two_simultaneous_first_sign_ins_only_one_is_on_a_new_device(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    late, early = await asyncio.gather(
        one.sign_in(PHONE), ComeBetween(one.store).do(other.sign_in(PHONE))
    )
    assert (early.new_device, late.new_device) == (True, False)


async def test_a_sign_in_that_is_always_overtaken_fails_with_a_conflict(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()

    async def overtake(_: Commit) -> None:
        one.store.before_commit = overtake
        await other.sign_in(PHONE)

    one.store.before_commit = overtake
    with pytest.raises(Conflict):
        await one.sign_in(PHONE)
    rivals = [event.session_id for event in await one.events()]
    record = await one.session()
    assert record is not None
    assert rivals[-1] == record.session_id
    assert one.metrics.conflicts._value.get() == len(rivals) - 1


# The device limit.


async def test_over_the_limit_a_sign_in_evicts_the_longest_unused_device(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=2)
    phone = (await scene.sign_in(PHONE)).access_token
    scene.clock.advance(MINUTE)
    laptop = (await scene.sign_in(LAPTOP)).access_token
    scene.clock.advance(MINUTE)
    assert (
        await scene.validate(phone, PHONE)
    ).status is SessionStatus.ACTIVE  # the phone's last use is after the laptop's
    issued = await scene.sign_in(TABLET)
    assert [(gone.device.device_id, gone.session) for gone in issued.evicted] == [(LAPTOP, None)]
    assert (await scene.validate(laptop, LAPTOP)).status is SessionStatus.NO_SESSION
    assert (await scene.validate(phone, PHONE)).status is SessionStatus.ACTIVE
    told = (await scene.events())[-1]
    assert (await scene.happened())[-2:] == ["DEVICE_SIGNED_IN", "DEVICE_EVICTED"]
    assert (told.device_id, told.session_id) == (LAPTOP.bytes, read_token(laptop).session_id)


async def test_a_new_sign_in_on_a_signed_in_device_evicts_nothing(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=2)
    for device in (PHONE, LAPTOP, PHONE, LAPTOP):
        assert (await scene.sign_in(device)).evicted == ()


async def test_ended_sessions_do_not_count_towards_the_device_limit(
    scene_with: Callable[..., Scene],
) -> None:
    for action in DeviceLimitAction:
        scene = scene_with(max_devices=1, device_limit_action=action)
        user = action.value
        await scene.sign_in(PHONE, user, session_ttl=HOUR)
        scene.clock.advance(HOUR)
        assert (await scene.sign_in(LAPTOP, user)).evicted == ()
        assert list((await scene.store.user(user)).sessions) == [key_of(LAPTOP)]
        assert await scene.happened(user) == ["DEVICE_SIGNED_IN"] * 2


async def test_over_the_limit_a_sign_in_may_be_rejected(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(max_devices=2, device_limit_action=DeviceLimitAction.REJECT)
    await scene.sign_in(PHONE)
    await scene.sign_in(LAPTOP)
    before = await scene.dump()
    with pytest.raises(DeviceLimitReached) as refused:
        await scene.sign_in(TABLET)
    assert refused.value.max_devices == 2
    assert await scene.dump() == before
    assert (await scene.sign_in(LAPTOP)).evicted == ()


async def test_after_the_limit_was_lowered_a_sign_in_evicts_all_surplus_devices(
    scene_with: Callable[..., Scene],
) -> None:
    roomy, narrow = scene_with(), scene_with(max_devices=1)
    for device in (PHONE, LAPTOP):
        await roomy.sign_in(device)
        roomy.clock.advance(MINUTE)
    issued = await narrow.sign_in(TABLET)
    assert [gone.device.device_id for gone in issued.evicted] == [PHONE, LAPTOP]


async def test_devices_are_forgotten_after_more_than_180_days(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    scene.clock.advance(180 * DAY)
    await scene.sign_in(LAPTOP)
    assert set((await scene.store.user(USER)).devices) == {key_of(PHONE), key_of(LAPTOP)}
    scene.clock.advance(TICK)
    await scene.sign_in(LAPTOP)
    assert set((await scene.store.user(USER)).devices) == {key_of(LAPTOP)}


async def test_at_most_twice_the_device_limit_is_remembered(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=2)
    ids = [UUID(int=0xC000 + number, version=4) for number in range(6)]
    for device in ids:
        await scene.sign_in(device)
        scene.clock.advance(MINUTE)
    assert set((await scene.store.user(USER)).devices) == set(map(key_of, ids[2:]))


MANY = [UUID(int=0xC000 + number, version=4) for number in range(12)]


async def test_a_sign_in_of_a_user_with_many_devices_reads_only_a_few(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in MANY:
        await scene.sign_in(device)
    read: list[bytes] = []
    decode = codec.decode_device

    def noted(raw: bytes) -> DeviceRecord:
        read.append(raw)
        return decode(raw)

    monkeypatch.setattr(codec, "decode_device", noted)
    for asked, is_new in ((MANY[3], False), (PHONE, True), (None, True)):
        read.clear()
        issued = await scene.sign_in(asked)
        assert (issued.new_device, issued.evicted) == (is_new, ())
        assert len(read) <= 5
    first, *others = [event.first_device for event in await scene.events()]
    assert (first, any(others)) == (True, False)


async def test_a_sign_in_of_a_user_with_many_devices_evicts_the_longest_unused(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=len(MANY))
    for device in MANY:
        await scene.sign_in(device)
        scene.clock.advance(MINUTE)
    await scene.sign_in(MANY[0])
    for newcomer, gone in ((PHONE, MANY[1]), (LAPTOP, MANY[2])):
        issued = await scene.sign_in(newcomer)
        assert [evicted.device.device_id for evicted in issued.evicted] == [gone]
    strict = scene_with(max_devices=len(MANY), device_limit_action=DeviceLimitAction.REJECT)
    with pytest.raises(DeviceLimitReached):
        await strict.sign_in(TABLET)


async def test_a_repeated_request_of_a_user_with_many_devices_is_answered_again(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=len(MANY))
    for device in MANY:
        await scene.sign_in(device)
        scene.clock.advance(MINUTE)
    first = await scene.sign_in(request_id=REQUEST_ID)
    again = await scene.sign_in(request_id=REQUEST_ID)
    assert [evicted.device.device_id for evicted in first.evicted] == [MANY[0]]
    assert replace(again, access_token="") == replace(first, access_token="")


async def test_sign_ins_remove_ended_sessions_and_old_devices_step_by_step(scene: Scene) -> None:
    for device in MANY:
        await scene.sign_in(device, session_ttl=HOUR)
    scene.clock.advance(180 * DAY + TICK)
    state = await scene.store.user(USER)
    while len(state.sessions) > 1 or len(state.devices) > 1:
        await scene.sign_in(PHONE)
        state = await scene.store.user(USER)
    assert (set(state.sessions), set(state.devices)) == ({key_of(PHONE)}, {key_of(PHONE)})


async def test_the_events_of_a_sign_in_and_an_eviction_are_complete(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=1)
    phone = await scene.sign_in(PHONE)
    await scene.authority.update_device(USER, PHONE, "Ada's phone")
    scene.clock.advance(MINUTE)
    newer = Client("2001:db8::7", "Mozilla/5.0", "MacBook", "1.0")
    await scene.authority.issue_device(request(USER, LAPTOP, client=newer), "other-service")
    first, second, evicted = map(scene.told, await scene.events())
    assert first == {
        "type": "DEVICE_SIGNED_IN",
        "time": START,
        "user_id": USER,
        "device_id": PHONE,
        "device_display_name": "Pixel 8",
        "client": CLIENT,
        "session_id": read_token(phone.access_token).session_id,
        "actor": ACTOR,
        "new_device": True,
        "first_device": True,
    }
    record = await scene.session(LAPTOP)
    assert record is not None
    assert second == {
        "type": "DEVICE_SIGNED_IN",
        "time": START + MINUTE,
        "user_id": USER,
        "device_id": LAPTOP,
        "device_display_name": "MacBook",
        "client": newer,
        "session_id": record.session_id,
        "actor": "other-service",
        "new_device": True,
    }
    assert evicted == {
        "type": "DEVICE_EVICTED",
        "time": START + MINUTE,
        "user_id": USER,
        "device_id": PHONE,
        "device_display_name": "Ada's phone",
        "device_client": CLIENT,
        "session_id": read_token(phone.access_token).session_id,
        "actor": "other-service",
    }

"""ListDevices, UpdateDevice, RevokeDevice and RevokeAll."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest

from session_authority.domain.errors import DeviceNotFound, InvalidRequest
from session_authority.domain.results import DevicePage
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.verdicts import ReplayCause, SessionStatus
from session_authority.rpc.messages import device_message
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
    USER,
    ComeBetween,
    Scene,
    key_of,
    read_token,
)
from tests.authority.presentations import superseded

DAYS_OF_ALARMS = 28
ACTIVE, NO_SESSION = SessionStatus.ACTIVE, SessionStatus.NO_SESSION
MANY = [UUID(int=0xA000 + number, version=4) for number in range(250)]


async def _page(
    scene: Scene,
    token: str = "",
    *,
    size: int = 100,
    user_id: str = USER,
    signed_out: bool = False,
    current: UUID | None = None,
) -> DevicePage:
    page = await scene.authority.list_devices(
        user_id,
        current_device_id=current,
        include_signed_out=signed_out,
        page_size=size,
        page_token=token,
    )
    await scene.authority.settled()
    return page


def _ids(page: DevicePage) -> list[UUID]:
    return [listed.device.device_id for listed in page.devices]


async def _revoke(scene: Scene, device_id: UUID, *, forget: bool = False) -> bool:
    return await scene.authority.revoke_device(
        USER, device_id, reason="lost", forget=forget, actor=ACTOR
    )


async def _revoke_all(scene: Scene, kept: UUID | None = None, *, forget: bool = False) -> int:
    return await scene.authority.revoke_all(
        USER, except_device_id=kept, reason="password_changed", forget=forget, actor=ACTOR
    )


# Lists of devices.


async def test_250_devices_are_listed_page_by_page_the_newest_first(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=250)
    for number, device in enumerate(MANY):
        # some sign-ins at the same moment: the order is then by key, and is still a definite one
        if number % 3:
            scene.clock.advance(SECOND)
        await scene.sign_in(device)
    await _revoke(scene, MANY[7])
    pages, token = [], ""
    for _ in range(3):
        pages.append(await _page(scene, token))
        token = pages[-1].next_page_token
    assert token == ""
    assert [len(page.devices) for page in pages] == [100, 100, 49]
    assert {page.total_size for page in pages} == {249}
    listed = [device for page in pages for device in page.devices]
    assert {device.device.device_id for device in listed} == {*MANY} - {MANY[7]}
    assert listed == sorted(
        listed, key=lambda device: (-device.last_seen_at.timestamp(), device.key)
    )
    assert _ids(pages[0])[0] == MANY[-1]
    everything = await _page(scene, size=1000, signed_out=True)
    assert everything.total_size == len(everything.devices) == 250
    assert [d.session is None for d in everything.devices if d.device.device_id == MANY[7]] == [
        True
    ]


async def test_a_page_of_large_devices_has_at_most_a_mebibyte(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(max_devices=100)
    for device in MANY[:100]:
        scene.clock.advance(SECOND)
        await scene.sign_in(device, client=replace(CLIENT, user_agent="x" * 30_000))
    pages = [await _page(scene, size=1000)]
    while pages[-1].next_page_token:
        pages.append(await _page(scene, pages[-1].next_page_token, size=1000))
    assert [device for page in pages for device in _ids(page)] == MANY[99::-1]
    assert {page.total_size for page in pages} == {100}
    sizes = [sum(device_message(d).ByteSize() for d in page.devices) for page in pages]
    assert max(sizes) <= 1024 * 1024
    assert min(sizes[:-1]) > 1024 * 1024 - 40_000


async def test_a_page_that_ends_with_the_list_has_no_next_page(scene: Scene) -> None:
    for device in (PHONE, LAPTOP):
        await scene.sign_in(device)
    assert (await _page(scene, size=2)).next_page_token == ""
    first = await _page(scene, size=1)
    assert first.next_page_token
    await _revoke_all(scene)
    rest = await _page(scene, first.next_page_token)
    assert (rest.devices, rest.next_page_token, rest.total_size) == ((), "", 0)


async def test_a_page_token_of_another_list_is_refused(scene: Scene) -> None:
    for device in (PHONE, LAPTOP, TABLET):
        await scene.sign_in(device)
        await scene.sign_in(device, "ben")
    token = (await _page(scene, size=1)).next_page_token
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    forged = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    texts = [
        base64.urlsafe_b64encode(one).decode().rstrip("=")
        for one in (*forged, raw[:-1], raw + b"\0", b"")
    ]
    for text in (*filter(None, texts), token[:-1], "1", "nonsense", "☃", " ", "=" * 40):
        with pytest.raises(InvalidRequest) as refused:
            await _page(scene, text)
        assert [violation.field for violation in refused.value.violations] == ["page_token"]
    for other in ({"user_id": "ben"}, {"signed_out": True}):
        with pytest.raises(InvalidRequest):
            await _page(scene, token, **other)
    assert len((await _page(scene, token, size=2)).devices) == 2


async def test_the_current_device_is_marked(scene: Scene) -> None:
    for device in (PHONE, LAPTOP):
        await scene.sign_in(device)
    page = await _page(scene, current=LAPTOP)
    assert {listed.device.device_id: listed.current for listed in page.devices} == {
        PHONE: False,
        LAPTOP: True,
    }
    assert not any(listed.current for listed in (await _page(scene)).devices)


async def test_using_a_device_moves_it_to_the_front(scene: Scene) -> None:
    tokens = {}
    for device in (PHONE, LAPTOP):
        tokens[device] = (await scene.sign_in(device)).access_token
        scene.clock.advance(SECOND)
    assert _ids(await _page(scene)) == [LAPTOP, PHONE]
    scene.clock.advance(MINUTE)
    await scene.validate(tokens[PHONE], PHONE)
    page = await _page(scene)
    assert _ids(page) == [PHONE, LAPTOP]
    assert page.devices[0].last_seen_at == scene.clock.now
    assert page.devices[0].expires_at == scene.clock.now + 7 * DAY


async def test_a_device_whose_session_is_over_is_listed_as_signed_out_and_the_session_removed(
    scene: Scene,
) -> None:
    await scene.sign_in(PHONE, session_ttl=HOUR)
    await scene.sign_in(LAPTOP)
    scene.clock.advance(HOUR)
    assert _ids(await _page(scene)) == [LAPTOP]
    assert await scene.session(PHONE) is None
    everything = await _page(scene, signed_out=True)
    assert {d.device.device_id: d.session is None for d in everything.devices} == {
        PHONE: True,
        LAPTOP: False,
    }
    assert await scene.happened() == ["DEVICE_SIGNED_IN"] * 2


async def test_a_user_who_never_signed_in_has_no_devices(scene: Scene) -> None:
    page = await _page(scene, user_id="nobody")
    assert (page.devices, page.next_page_token, page.total_size) == ((), "", 0)


# Names of devices.


async def test_a_device_has_the_name_that_its_user_gives_it(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    named = await scene.authority.update_device(USER, PHONE, "Ada's phone")
    assert named.device.display_name == named.device.shown_name() == "Ada's phone"
    assert named.session == await scene.session()
    await scene.sign_in(PHONE)
    assert [d.device.shown_name() for d in (await _page(scene)).devices] == ["Ada's phone"]
    unnamed = await scene.authority.update_device(USER, PHONE, "")
    assert unnamed.device.shown_name() == CLIENT.display_name


async def test_a_signed_out_device_may_be_renamed(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    await _revoke(scene, PHONE)
    named = await scene.authority.update_device(USER, PHONE, "Ada's phone")
    assert (named.device.display_name, named.session, named.expires_at) == (
        "Ada's phone",
        None,
        None,
    )


@pytest.mark.parametrize("user_id", [USER, "ben"])
async def test_a_device_that_the_user_never_had_is_not_found(scene: Scene, user_id: str) -> None:
    await scene.sign_in(PHONE)
    before = await scene.dump()
    with pytest.raises(DeviceNotFound):
        await scene.authority.update_device(user_id, LAPTOP if user_id == USER else PHONE, "mine")
    assert await scene.dump() == before


async def test_a_device_that_is_forgotten_during_its_renaming_is_not_found(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    await one.sign_in(PHONE)
    answers = await asyncio.gather(
        one.authority.update_device(USER, PHONE, "mine"),
        ComeBetween(one.store).do(_revoke(other, PHONE, forget=True)),
        return_exceptions=True,
    )
    assert isinstance(answers[0], DeviceNotFound)
    assert answers[1] is True
    assert await one.device() is None


# Signing out.


async def test_only_the_first_revocation_of_a_device_signs_it_out(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    other = (await scene.sign_in(LAPTOP)).access_token
    await scene.authority.update_device(USER, PHONE, "Ada's phone")
    scene.clock.advance(MINUTE)
    assert [await _revoke(scene, PHONE) for _ in range(3)] == [True, False, False]
    assert (await scene.validate(token)).status is NO_SESSION
    assert (await scene.validate(other, LAPTOP)).status is ACTIVE
    assert await scene.device() is not None
    told = [scene.told(event) for event in (await scene.events())[2:]]
    assert told == [
        {
            "type": "DEVICE_REVOKED",
            "time": scene.clock.now,
            "user_id": USER,
            "device_id": PHONE,
            "device_display_name": "Ada's phone",
            "device_client": CLIENT,
            "session_id": read_token(token).session_id,
            "actor": ACTOR,
            "reason": "lost",
        }
    ]


async def test_a_device_may_be_forgotten_whether_signed_in_or_not(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    assert await _revoke(scene, PHONE, forget=True)
    assert await scene.device() is None
    await scene.sign_in(LAPTOP)
    assert await _revoke(scene, LAPTOP)
    assert not await _revoke(scene, LAPTOP, forget=True)
    assert await scene.device(LAPTOP) is None
    assert await scene.happened() == ["DEVICE_SIGNED_IN", "DEVICE_REVOKED"] * 2


async def test_revoking_all_devices_sends_one_event(scene: Scene) -> None:
    tokens = {
        device: (await scene.sign_in(device)).access_token for device in (PHONE, LAPTOP, TABLET)
    }
    bens = (await scene.sign_in(PHONE, "ben")).access_token
    scene.clock.advance(MINUTE)
    assert [await _revoke_all(scene) for _ in range(3)] == [3, 0, 0]
    for device, token in tokens.items():
        assert (await scene.validate(token, device)).status is NO_SESSION
    assert (await scene.validate(bens)).status is ACTIVE
    assert len((await scene.store.user(USER)).devices) == 3
    told = [scene.told(event) for event in (await scene.events())[3:]]
    assert told == [
        {
            "type": "ALL_REVOKED",
            "time": scene.clock.now,
            "user_id": USER,
            "actor": ACTOR,
            "reason": "password_changed",
        }
    ]


@pytest.mark.parametrize("forget", [False, True])
async def test_revoke_all_may_leave_one_device_signed_in(scene: Scene, forget: bool) -> None:
    tokens = {
        device: (await scene.sign_in(device)).access_token for device in (PHONE, LAPTOP, TABLET)
    }
    assert await _revoke_all(scene, LAPTOP, forget=forget) == 2
    for device, token in tokens.items():
        assert (await scene.validate(token, device)).status is (
            ACTIVE if device == LAPTOP else NO_SESSION
        )
    remembered = (await scene.store.user(USER)).devices.keys()
    assert remembered == ({key_of(LAPTOP)} if forget else {key_of(device) for device in tokens})
    assert scene.told((await scene.events())[-1])["except_device_id"] == LAPTOP
    assert await _revoke_all(scene, LAPTOP) == 0
    assert (await scene.happened()).count("ALL_REVOKED") == 1


async def test_the_device_that_revoke_all_excepts_need_not_be_signed_in(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    assert await _revoke_all(scene, TABLET) == 1
    assert await scene.session() is None


async def test_sessions_that_are_over_are_not_counted_as_revoked(scene: Scene) -> None:
    await scene.sign_in(PHONE, session_ttl=HOUR)
    await scene.sign_in(LAPTOP)
    scene.clock.advance(HOUR)
    assert await _revoke_all(scene) == 1
    assert (await scene.store.user(USER)).sessions == {}
    scene.clock.now = START
    await scene.sign_in(TABLET, session_ttl=HOUR)
    scene.clock.advance(HOUR)
    assert not await _revoke(scene, TABLET)
    assert await scene.session(TABLET) is None


async def test_a_device_is_listed_with_how_its_session_was_signed_in(scene: Scene) -> None:
    async def methods() -> tuple[str, ...]:
        [listed] = (await _page(scene, signed_out=True)).devices
        return tuple(device_message(listed).auth_methods)

    issued = await scene.sign_in(PHONE, auth_methods=("pwd", "otp"))
    assert device_message(issued.device).auth_methods == ["pwd", "otp"]
    await scene.authority.update_device(USER, PHONE, "Ada's phone")
    scene.clock.advance(30 * MINUTE)
    await scene.renew(issued.access_token)
    assert await methods() == ("pwd", "otp")
    await scene.sign_in(PHONE)
    assert await methods() == ()
    await scene.sign_in(PHONE, auth_methods=("hwk",))
    assert await methods() == ("hwk",)
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=False, actor=ACTOR)
    assert await methods() == ()


@pytest.mark.parametrize("action", ReplayAction)
async def test_a_device_is_listed_with_its_last_alarm(
    scene_with: Callable[..., Scene], action: ReplayAction
) -> None:
    scene = scene_with(replay_action=action)
    await scene.sign_in(LAPTOP)
    old, _ = await superseded(scene)
    await scene.validate(old, client=replace(CLIENT, ip_address="198.51.100.9"))
    assert await _alarms(scene) == {LAPTOP: None, PHONE: None}
    scene.clock.advance(10 * MINUTE)
    await scene.validate(old)
    alarmed_at = scene.clock()
    alarm = (alarmed_at, ReplayCause.SUPERSEDED_TOKEN)
    assert await _alarms(scene) == {LAPTOP: None, PHONE: alarm}
    scene.clock.advance(DAY)
    await scene.sign_in(PHONE)
    assert await _alarms(scene) == {LAPTOP: None, PHONE: alarm}
    scene.clock.advance((DAYS_OF_ALARMS - 1) * DAY)
    assert (await _alarms(scene))[PHONE] == alarm
    scene.clock.advance(SECOND)
    assert (await _alarms(scene))[PHONE] is None


async def test_a_forgotten_device_has_no_alarm_after_its_next_sign_in(scene: Scene) -> None:
    old, _ = await superseded(scene)
    scene.clock.advance(10 * MINUTE)
    await scene.validate(old)
    await scene.authority.revoke_device(USER, PHONE, reason="", forget=True, actor=ACTOR)
    await scene.sign_in(PHONE)
    assert await _alarms(scene) == {PHONE: None}


async def _alarms(scene: Scene) -> dict[UUID, tuple[datetime, ReplayCause | None] | None]:
    page = await _page(scene, signed_out=True)
    return {
        listed.device.device_id: None
        if listed.last_alarm is None
        else (listed.last_alarm.happened_at, listed.last_alarm.cause)
        for listed in page.devices
    }

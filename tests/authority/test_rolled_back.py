"""A rolled-back upgrade: this version keeps working with the records that the next version
wrote.
"""

from __future__ import annotations

import pytest

from session_authority.domain.verdicts import SessionStatus
from session_authority.internal.v1 import records_pb2
from session_authority.store.codec import sealed
from tests.authority.harness import ACTOR, LAPTOP, MINUTE, PHONE, USER, Scene, key_of

# What the next version would add: a mark, an appended byte, and a field of a device.
MARK, APPENDED, FIELD = 0x40, b"\x2a", b"\xa2\x06\x03abc"


async def upgrade(scene: Scene, *, form: int | None = None) -> None:
    """Rewrites the phone's records as the next version would, in another format if `form` is
    given.
    """
    raw = await scene.raw_session()
    assert raw is not None
    head = raw[0] | MARK if form is None else form
    await scene.put_back(sealed(bytes([head]) + raw[1:-2] + APPENDED))
    name = scene.keys.devices(USER)
    device = await scene.client.execute_command("HGET", name, key_of(PHONE))
    await scene.client.execute_command("HSET", name, key_of(PHONE), device + FIELD)


async def is_kept(scene: Scene) -> bool:
    """Returns True if everything that the next version added is still there."""
    raw = await scene.raw_session()
    assert raw is not None
    device = await scene.client.execute_command("HGET", scene.keys.devices(USER), key_of(PHONE))
    unknown = records_pb2.DeviceRecord.FromString(device)
    return bool(raw[0] & MARK and raw[-3:-2] == APPENDED and FIELD in unknown.SerializeToString())


async def test_additions_of_the_next_version_survive_all_uses_of_a_session(
    scene: Scene,
) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    await upgrade(scene)
    for _ in range(3):
        before = await scene.raw_session()
        scene.clock.advance(6 * MINUTE)
        assert (await scene.validate(token)).status is SessionStatus.ACTIVE
        scene.clock.advance(6 * MINUTE)
        renewed = await scene.renew(token)
        assert renewed.status is SessionStatus.ACTIVE
        assert renewed.access_token is not None
        token = renewed.access_token
        assert await scene.raw_session() != before
        assert await is_kept(scene)
    await scene.authority.update_device(USER, PHONE, "Phone")
    assert await is_kept(scene)
    assert "SESSION_REPLAYED" not in await scene.happened()


async def test_a_new_session_has_no_additions_of_the_previous_session(scene: Scene) -> None:
    await scene.sign_in(PHONE)
    await upgrade(scene)
    again = await scene.sign_in(PHONE)
    raw = await scene.raw_session()
    assert raw is not None
    assert (raw[0], len(raw)) == (3, 61)
    assert (await scene.validate(again.access_token)).status is SessionStatus.ACTIVE


@pytest.mark.parametrize("form", [5, 0xF5, 15])
async def test_a_session_in_a_newer_format_is_denied_and_left_unchanged(
    scene: Scene, form: int
) -> None:
    """After the next upgrade the session is active again, even if other devices signed in
    before.
    """
    phone = (await scene.sign_in(PHONE)).access_token
    laptop = (await scene.sign_in(LAPTOP)).access_token
    before = await scene.raw_session()
    assert before is not None
    await upgrade(scene, form=form)
    there = await scene.raw_session()
    assert (await scene.validate(phone)).status is SessionStatus.NO_SESSION
    assert (await scene.renew(phone)).status is SessionStatus.NO_SESSION
    assert (await scene.validate(laptop, LAPTOP)).status is SessionStatus.ACTIVE
    await scene.sign_in()
    assert await scene.raw_session() == there
    await scene.put_back(before)
    assert (await scene.validate(phone)).status is SessionStatus.ACTIVE
    await scene.put_back(there)
    assert not await scene.authority.revoke_device(
        USER, PHONE, reason="lost", forget=False, actor=ACTOR
    )
    assert await scene.raw_session() is None
    assert (await scene.happened())[-1] == "DEVICE_REVOKED"

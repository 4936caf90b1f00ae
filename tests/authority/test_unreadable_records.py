"""A corrupted record in Redis affects its own device only: no call fails unexpectedly, no alarm is
raised, no other device is signed out, and the next sign-in on the device works as always.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random
from uuid import UUID

import pytest

from session_authority.domain.errors import DeviceNotFound
from session_authority.domain.verdicts import SessionStatus
from tests.authority.corruptions import CORRUPTIONS, Corruption
from tests.authority.harness import ACTOR, LAPTOP, MINUTE, PHONE, TABLET, Scene, key_of
from tests.support.budget import budget

# The number of trials for each corruption and each kind of record.
TRIALS = budget(12)

pytestmark = pytest.mark.slow


@dataclass
class Trial:
    """A user who is signed in on two devices, with tokens that were renewed and seen in use."""

    scene: Scene
    user_id: str
    phone: str
    laptop: str

    async def corrupt(self, kind: str, corruption: Corruption, random: Random) -> None:
        """Corrupts the phone's record of the given kind."""
        keys = self.scene.keys
        name = keys.sessions(self.user_id) if kind == "session" else keys.devices(self.user_id)
        client = self.scene.client
        raw = await client.execute_command("HGET", name, key_of(PHONE))
        await client.execute_command("HSET", name, key_of(PHONE), corruption(random, raw))

    async def laptop_is_well(self) -> None:
        assert (await self.scene.validate(self.laptop, LAPTOP)).status is SessionStatus.ACTIVE

    async def listed(self) -> dict[UUID, bool]:
        """Returns the listed devices. The value is True where the user is signed in."""
        page = await self.scene.authority.list_devices(
            self.user_id,
            current_device_id=LAPTOP,
            include_signed_out=True,
            page_size=100,
            page_token="",
        )
        return {d.device.device_id: d.session is not None for d in page.devices}


async def begun(scene: Scene, user_id: str) -> Trial:
    """Signs a user in on two devices, renews both tokens, and uses the new tokens."""
    tokens = {}
    for device_id in (PHONE, LAPTOP):
        tokens[device_id] = (await scene.sign_in(device_id, user_id)).access_token
    scene.clock.advance(6 * MINUTE)
    for device_id, token in tokens.items():
        renewed = await scene.renew(token, device_id)
        assert renewed.access_token is not None
        tokens[device_id] = renewed.access_token
    scene.clock.advance(6 * MINUTE)
    for device_id, token in tokens.items():
        assert (await scene.validate(token, device_id)).status is SessionStatus.ACTIVE
    return Trial(scene, user_id, tokens[PHONE], tokens[LAPTOP])


@pytest.mark.parametrize("kind", ["session", "device"])
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
async def test_a_corrupted_record_affects_only_its_own_device(
    scene: Scene, corruption: Corruption, kind: str
) -> None:
    random = Random(f"{corruption.__name__} {kind}")
    for number in range(TRIALS):
        trial = await begun(scene, f"user-{number}")
        await trial.corrupt(kind, corruption, random)
        await live_on(trial)
        happened = await scene.happened(trial.user_id)
        assert "SESSION_REPLAYED" not in happened, number
        assert happened[-1] == "ALL_REVOKED"


async def live_on(trial: Trial) -> None:
    """Makes the calls about sessions and devices (except UpdateSession), for the corrupted device
    and for others. Only renaming the corrupted device may fail.
    """
    scene, user_id = trial.scene, trial.user_id
    validation = await scene.validate(trial.phone, PHONE)
    assert validation.status is not SessionStatus.REPLAYED
    assert validation.revoked_devices == 0
    assert (await scene.renew(trial.phone, PHONE)).status is not SessionStatus.REPLAYED
    await trial.laptop_is_well()
    assert (await trial.listed())[LAPTOP]
    with suppress(DeviceNotFound):
        await scene.authority.update_device(user_id, PHONE, "Phone")
    await scene.authority.update_device(user_id, LAPTOP, "Laptop")
    tablet = await scene.sign_in(TABLET, user_id)
    assert not tablet.evicted
    assert (await scene.validate(tablet.access_token, TABLET)).status is SessionStatus.ACTIVE
    renewed = await scene.renew(trial.laptop, LAPTOP)
    assert renewed.status is SessionStatus.ACTIVE
    phone = await scene.sign_in(PHONE, user_id)
    assert not phone.new_device
    assert (await scene.validate(phone.access_token, PHONE)).status is SessionStatus.ACTIVE
    assert (await trial.listed()) == {PHONE: True, LAPTOP: True, TABLET: True}
    await trial.laptop_is_well()
    revoke = scene.authority.revoke_device
    assert await revoke(user_id, PHONE, reason="lost", forget=True, actor=ACTOR)
    await trial.laptop_is_well()
    revoked = await scene.authority.revoke_all(
        user_id, except_device_id=None, reason="breach", forget=True, actor=ACTOR
    )
    assert revoked == 2


@pytest.mark.parametrize("kind", ["session", "device"])
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
async def test_a_device_with_a_corrupted_record_can_be_revoked(
    scene: Scene, corruption: Corruption, kind: str
) -> None:
    random = Random(f"revoke {corruption.__name__} {kind}")
    trial = await begun(scene, "ada")
    for _ in range(2):
        await trial.corrupt(kind, corruption, random)
        await scene.authority.revoke_device("ada", PHONE, reason="lost", forget=True, actor=ACTOR)
        assert await scene.raw_session() is None
        assert await trial.listed() == {LAPTOP: True}
        trial.phone = (await scene.sign_in(PHONE)).access_token
    await trial.corrupt(kind, corruption, random)
    await scene.authority.revoke_all(
        "ada", except_device_id=LAPTOP, reason="breach", forget=True, actor=ACTOR
    )
    await trial.laptop_is_well()
    assert await trial.listed() == {LAPTOP: True}

"""Valid input in unusual forms means the same as in its usual form, and no call is refused
for it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import Stage

LAPTOP, PHONE = "11abcdef-1111-4111-8111-111111111111", "22abcdef-2222-4222-8222-222222222222"
REQUEST_ID = "33abcdef-3333-4333-8333-333333333333"


@pytest.fixture
async def signed_in(stage: Stage) -> Any:
    """Ada is signed in on her laptop."""
    return await stage.sign_in("ada", LAPTOP)


# A device ID in another spelling.

EACH_SPELLING = pytest.mark.parametrize(
    "spell",
    [
        str.upper,
        lambda t: UUID(t).hex,
        lambda t: f"{{{t}}}",
        lambda t: UUID(t).urn,
        " {}\t\r\n".format,
    ],
    ids=["upper case", "without dashes", "braces", "URN", "blanks"],
)


@EACH_SPELLING
async def test_a_device_id_names_one_device_in_each_spelling(
    stage: Stage, signed_in: Any, spell: Any
):
    presented = {"access_token": signed_in.access_token, "device_id": spell(LAPTOP)}
    validated = await stage.call("ValidateSession", pb.ValidateSessionRequest(**presented))
    assert (validated.active, validated.device_id, validated.device_id_assigned) == (
        *(True, LAPTOP, False),
    )
    renewed = await stage.call("RenewSession", pb.RenewSessionRequest(**presented))
    assert renewed.session.device_id == LAPTOP

    asked = pb.ListDevicesRequest(user_id="ada", current_device_id=spell(LAPTOP))
    [device] = (await stage.call("ListDevices", asked)).devices
    assert (device.device_id, device.current) == (LAPTOP, True)

    named = pb.UpdateDeviceRequest(user_id="ada", device_id=spell(LAPTOP), display_name="Work")
    assert (await stage.call("UpdateDevice", named)).device.device_id == LAPTOP

    spared = pb.RevokeAllRequest(user_id="ada", except_device_id=spell(LAPTOP))
    assert (await stage.call("RevokeAll", spared)).revoked_devices == 0
    revoked = pb.RevokeDeviceRequest(user_id="ada", device_id=spell(LAPTOP))
    assert (await stage.call("RevokeDevice", revoked)).revoked

    again = await stage.sign_in("ada", spell(LAPTOP))
    assert (again.device.device_id, again.device_id_assigned, again.new_device) == (
        *(LAPTOP, False, False),
    )


@EACH_SPELLING
async def test_a_sign_in_retried_in_another_spelling_is_the_same(stage: Stage, spell: Any):
    first = await stage.sign_in("ada", LAPTOP, request_id=REQUEST_ID)
    again = await stage.sign_in("ada", spell(LAPTOP), request_id=spell(REQUEST_ID))
    assert again.device.session_id == first.device.session_id


# A sign-in that is repeated after its answer was lost.


@pytest.mark.parametrize("assigned", [True, False], ids=["assigned device", "known device"])
@pytest.mark.parametrize(
    "client",
    [
        {},
        {"ip_address": "2001:db8::7"},
        {"user_agent": "curl/9"},
        {"display_name": "Ada's phone"},
        {"app_version": "4.13"},
        {"ip_address": "2001:db8::7", "user_agent": "a", "display_name": "b", "app_version": "c"},
    ],
    ids=lambda client: "+".join(client) or "unknown",
)
async def test_a_sign_in_retried_from_another_network_is_the_same(
    stage: Stage, client: dict[str, Any], assigned: bool
):
    device_id = "" if assigned else LAPTOP
    before = pb.ClientInfo(ip_address="203.0.113.7", user_agent="curl/8", app_version="4.12")
    first = await stage.sign_in("ada", device_id, request_id=REQUEST_ID, client=before)
    contents = await stage.dump()
    again = await stage.sign_in(
        "ada", device_id, request_id=REQUEST_ID, client=pb.ClientInfo(**client)
    )
    assert await stage.dump() == contents
    assert (again.device.session_id, again.device_id_assigned, again.new_device) == (
        *(first.device.session_id, assigned, True),
    )
    assert (await stage.validate(again)).active


# Client details that are only displayed.

ODD = pb.ClientInfo(
    ip_address="[2001:DB8::7]:443, unknown",
    user_agent="curl\u202e/8\0" + "x" * 600,
    display_name="Ada\u2019s\u00a0Apple\u200b Watch" + "!" * 100,
    app_version="4.12\x07" + "0" * 100,
)
SHOWN = pb.ClientInfo(
    ip_address="2001:db8::7",
    user_agent="curl/8" + "x" * 506,
    display_name="Ada\u2019s Apple Watch" + "!" * 83,
    app_version="4.12" + "0" * 60,
)


async def test_client_details_that_are_only_displayed_refuse_no_call(stage: Stage):
    issued = await stage.sign_in("ada", LAPTOP, client=ODD)
    assert issued.device.last_client == SHOWN
    presented: Any = {"access_token": issued.access_token, "device_id": LAPTOP, "client": ODD}
    one = pb.ValidateSessionRequest(**presented)
    assert (await stage.call("ValidateSession", one)).active
    batch = pb.BatchValidateSessionsRequest(requests=[one, one])
    results = (await stage.call("BatchValidateSessions", batch)).results
    assert [result.response.active for result in results] == [True, True]
    renewed = await stage.call("RenewSession", pb.RenewSessionRequest(**presented))
    assert renewed.status == pb.SESSION_STATUS_ACTIVE


async def test_a_name_from_a_phone_s_keyboard_is_cleaned(stage: Stage, signed_in: Any):
    name = "Ada\u2019s\u00a0phone\u200e"
    named = pb.UpdateDeviceRequest(user_id="ada", device_id=LAPTOP, display_name=name)
    answer = await stage.call("UpdateDevice", named)
    assert answer.device.display_name == "Ada\u2019s phone"

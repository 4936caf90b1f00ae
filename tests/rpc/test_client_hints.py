"""Client hints in the contract: they name a device, refuse no call, and cost no validation."""

from __future__ import annotations

from typing import Any

from session_authority.domain.appearances.appearance import read_appearance
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import Stage

PHONE = "22222222-2222-4222-8222-222222222222"
AGENT = "Mozilla/5.0 (Linux; Android 10; K) Chrome/148.0.0.0 Mobile Safari/537.36"
HINTS = pb.ClientHints(
    brands=[
        pb.ClientBrand(name="Not.A/Brand", version="8.0.0.0"),
        pb.ClientBrand(name="Google Chrome", version="148.0.7778.96"),
    ],
    platform="Android",
    platform_version="16.0.0",
    model="Pixel 10 Pro",
    mobile=True,
    form_factors=["Mobile"],
)
CLIENT = pb.ClientInfo(user_agent=AGENT, client_hints=HINTS)


def shown(device: pb.Device) -> tuple[str, ...]:
    return (device.display_name, device.operating_system, device.browser, device.model)


async def test_hints_name_a_device(stage: Stage):
    issued = await stage.sign_in("ada", PHONE, client=CLIENT)
    names = ("Chrome 148 on Pixel 10 Pro", "Android 16", "Chrome 148", "Pixel 10 Pro")
    assert shown(issued.device) == names
    assert issued.device.form_factor == pb.FORM_FACTOR_PHONE
    assert issued.device.last_client == CLIENT
    listed = await stage.call("ListDevices", pb.ListDevicesRequest(user_id="ada"))
    assert [shown(device) for device in listed.devices] == [names]


async def test_hints_without_an_agent_describe_a_client(stage: Stage):
    hints = pb.ClientHints(mobile=False)
    issued = await stage.sign_in("ada", PHONE, client=pb.ClientInfo(client_hints=hints))
    assert issued.device.last_client.client_hints == hints
    assert issued.device.display_name == "Unknown device"


async def test_unusual_hints_refuse_no_call(stage: Stage):
    odd = pb.ClientHints(
        brands=[pb.ClientBrand(name="\0" * 100, version="9" * 1000)] * 20,
        platform="Win\x1b[2Jdows",
        platform_version="\u202e13",
        model='"' + "X" * 5000,
        form_factors=["\n"] * 1000,
    )
    client = pb.ClientInfo(user_agent=AGENT, client_hints=odd)
    issued = await stage.sign_in("ada", PHONE, client=client)
    kept = issued.device.last_client.client_hints
    assert kept == pb.ClientHints(platform="Win[2Jdows", platform_version="13", model="X" * 40)
    presented: Any = {"access_token": issued.access_token, "device_id": PHONE}
    one = pb.ValidateSessionRequest(**presented, client=client)
    assert (await stage.call("ValidateSession", one)).active
    batch = pb.BatchValidateSessionsRequest(requests=[one])
    (result,) = (await stage.call("BatchValidateSessions", batch)).results
    assert result.response.active
    renewal = pb.RenewSessionRequest(**presented, client=client)
    renewed = await stage.call("RenewSession", renewal)
    assert renewed.status == pb.SESSION_STATUS_ACTIVE


async def test_a_validation_parses_no_agent(stage: Stage):
    issued = await stage.sign_in("ada", PHONE, client=CLIENT)
    read_appearance.cache_clear()
    for number in range(5):
        client = pb.ClientInfo(user_agent=f"Acme/{number} (iPhone; iOS 26.1)", client_hints=HINTS)
        one = pb.ValidateSessionRequest(
            access_token=issued.access_token, device_id=PHONE, client=client
        )
        assert (await stage.call("ValidateSession", one)).active
    assert read_appearance.cache_info().misses == 0

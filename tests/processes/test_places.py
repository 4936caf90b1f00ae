"""A running server names the places of its users, and keeps addresses with the precision of the
setting.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_authority.domain.addresses import AddressDetail
from session_authority.geoip import GeoipDatabase
from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.harness import PATIENCE, SERVING, House, Serve
from tests.support.backends import Backend
from tests.support.mmdb import mmdb, place_record
from tests.support.redis_contents import dump
from tests.support.waiting import eventually

USER = "sami"
ADDRESS = "203.0.113.77"
BERLIN = mmdb({"203.0.113.0/24": place_record("Berlin", "DE")})
ROME = mmdb({"203.0.113.0/24": place_record("Rome", "IT")})


async def sign_in(house: House, user_id: str = USER, device_id: str = "", **client: Any) -> Any:
    request = pb.IssueDeviceRequest(
        user_id=user_id,
        device_id=device_id,
        client=pb.ClientInfo(**{"ip_address": ADDRESS, **client}),
    )
    return await house.stub.IssueDevice(request, timeout=PATIENCE)


async def listed(house: House) -> list[pb.Device]:
    request = pb.ListDevicesRequest(user_id=USER, include_signed_out=True)
    return list((await house.stub.ListDevices(request, timeout=PATIENCE)).devices)


async def events(house: House, count: int) -> list[pb.Event]:
    """Returns the first events."""
    request = pb.WatchEventsRequest(user_ids=[USER])
    request.start_time.FromSeconds(1)
    found: list[pb.Event] = []
    async for message in house.stub.WatchEvents(request, timeout=PATIENCE):
        found += message.events
        if len(found) >= count:
            return found
    raise AssertionError("the watch ended")


def place(message: pb.Device | pb.EventClient) -> tuple[str, str]:
    """The place in a message. Asserts that both fields for the place agree."""
    client = message.last_client if isinstance(message, pb.Device) else message.info
    assert (client.place.city, client.place.country_code) == (message.city, message.country_code)
    return message.city, message.country_code


async def test_devices_and_events_have_a_place(
    valkey_backend: Backend, serve: Serve, tmp_path: Path
):
    path = tmp_path / "places.mmdb"
    path.write_bytes(BERLIN)
    house = await serve(valkey_backend.url, geoip_database=path)
    assert place((await sign_in(house)).device) == ("Berlin", "DE")
    own = pb.Place(city="Rome", country_code="it")
    await sign_in(house, place=own)
    await sign_in(house, ip_address="::ffff:10.0.0.7")
    assert [place(device) for device in await listed(house)] == [
        ("", ""), ("Rome", "IT"), ("Berlin", "DE"),
    ]  # fmt: skip
    for event, expected in zip(
        await events(house, 3), [("Berlin", "DE"), ("Rome", "IT"), ("", "")], strict=True
    ):
        assert place(event.client) == place(event.device.last_client) == expected


async def test_there_is_no_place_without_a_database(valkey_backend: Backend, serve: Serve):
    house = await serve(valkey_backend.url)
    assert place((await sign_in(house)).device) == ("", "")


async def test_a_new_database_is_used_at_once_and_a_broken_one_never(
    valkey_backend: Backend, serve: Serve, tmp_path: Path
):
    path = tmp_path / "places.mmdb"
    path.write_bytes(BERLIN)
    house = await serve(valkey_backend.url, geoip_database=path)
    sample = house.server._metrics.registry.get_sample_value

    def broken() -> bool:
        name = "session_authority_files_broken"
        return sample(name, {"what": "geoip_database"}) == 1.0

    async def city() -> str:
        return str((await sign_in(house)).device.city)

    async def is_rome() -> bool:
        return await city() == "Rome"

    assert sample("session_authority_geoip_database_built_seconds") == 1_790_000_000
    path.write_bytes(ROME[:-20])
    await eventually(broken, "the broken file to be noticed")
    assert (await city(), await house.statuses()) == ("Berlin", {SERVING})
    path.unlink()
    await eventually(broken, "the missing file to be noticed")
    path.write_bytes(ROME)
    await eventually(is_rome, "the new file to be in force")
    assert not broken()


async def test_addresses_are_kept_with_the_precision_of_the_setting(
    valkey_backend: Backend, serve: Serve, prefix: str, tmp_path: Path
):
    path = tmp_path / "places.mmdb"
    path.write_bytes(BERLIN)
    for number, (detail, shown) in enumerate(
        [(AddressDetail.NETWORK, "203.0.113.0/24"), (AddressDetail.NONE, "")], start=1
    ):
        house = await serve(valkey_backend.url, geoip_database=path, store_addresses=detail)
        issued = (await sign_in(house)).device
        assert (issued.last_client.ip_address, place(issued)) == (shown, ("Berlin", "DE"))
        await house.stub.RevokeDevice(
            pb.RevokeDeviceRequest(user_id=USER, device_id=issued.device_id), timeout=PATIENCE
        )
        found = {device.device_id: device for device in await listed(house)}[issued.device_id]
        assert (found.last_client.ip_address, place(found)) == (shown, ("Berlin", "DE"))
        assert ADDRESS not in repr(await dump(valkey_backend, prefix))
        for event in (await events(house, 2 * number))[-2:]:
            assert event.device.last_client.info.ip_address == shown
    assert {device.last_client.ip_address for device in await listed(house)} == {""}


async def test_older_records_are_listed_with_the_precision_of_the_setting(
    valkey_backend: Backend, serve: Serve
):
    full = await serve(valkey_backend.url)
    issued = (await sign_in(full)).device
    assert issued.last_client.ip_address == ADDRESS
    house = await serve(valkey_backend.url, store_addresses=AddressDetail.NETWORK)
    [device] = await listed(house)
    [event] = await events(house, 1)
    assert device.last_client.ip_address == event.client.info.ip_address == "203.0.113.0/24"
    again = await sign_in(house, device_id=issued.device_id, ip_address="")
    assert again.device.last_client.ip_address == "203.0.113.0/24"
    [device] = await listed(full)
    assert device.last_client.ip_address == "203.0.113.0/24", "the sign-in wrote the record again"


async def test_an_alarm_says_where_the_token_was_presented(
    valkey_backend: Backend, serve: Serve, tmp_path: Path
):
    path = tmp_path / "places.mmdb"
    path.write_bytes(
        mmdb({
            "203.0.113.0/24": place_record("Berlin", "DE"),
            "2001:db8::/32": place_record("Rome", "IT"),
        })
    )  # fmt: skip
    house = await serve(
        valkey_backend.url, geoip_database=path, store_addresses=AddressDetail.NETWORK
    )
    issued = await sign_in(house)
    request = pb.ValidateSessionRequest(
        access_token=issued.access_token,
        device_id=str(uuid4()),
        client=pb.ClientInfo(ip_address="2001:db8:7::7"),
    )
    answer = await house.stub.ValidateSession(request, timeout=PATIENCE)
    assert answer.status == pb.SESSION_STATUS_REPLAYED
    [_, alarm] = await events(house, 2)
    assert (place(alarm.client), place(alarm.device.last_client)) == (
        ("Rome", "IT"),
        ("Berlin", "DE"),
    )
    assert alarm.client.info.ip_address == "2001:db8:7::/48"
    [device] = await listed(house)
    assert device.last_alarm.replay_cause == pb.REPLAY_CAUSE_LEFT_DEVICE
    assert device.last_alarm.create_time == alarm.create_time


async def test_a_place_is_looked_up_only_for_records_that_are_written(
    valkey_backend: Backend, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looked_up: list[str] = []
    look_up = GeoipDatabase.place_of

    def noted(database: GeoipDatabase, address: Any) -> Any:
        looked_up.append(str(address))
        return look_up(database, address)

    monkeypatch.setattr(GeoipDatabase, "place_of", noted)
    path = tmp_path / "places.mmdb"
    path.write_bytes(BERLIN)
    house = await serve(valkey_backend.url, geoip_database=path)
    touching = await serve(valkey_backend.url, geoip_database=path, touch_interval=timedelta(0))
    issued = await sign_in(house)
    request = pb.ValidateSessionRequest(
        access_token=issued.access_token,
        device_id=issued.device.device_id,
        client=pb.ClientInfo(ip_address="198.51.100.7"),
    )
    for _ in range(3):
        assert (await house.stub.ValidateSession(request, timeout=PATIENCE)).active
    await house.server._authority.settled()
    assert looked_up == [ADDRESS]
    assert (await touching.stub.ValidateSession(request, timeout=PATIENCE)).active
    await touching.server._authority.settled()
    assert looked_up == [ADDRESS, "198.51.100.7"]
    [device] = await listed(house)
    assert place(device) == ("", ""), "the old place is not that of the new address"

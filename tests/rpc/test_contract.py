"""The promises of each method, as a client sees them over the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from joserfc import jws
from joserfc.jwk import KeySet

from session_authority.domain.session_limits import DeviceLimitAction
from session_authority.tokens import Algorithm, KeySource, add_key, generate
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import DAY, HOUR, LAPTOP_AGENT, MINUTE, SECOND, START, Stage, StageWith

LAPTOP, PHONE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
REQUEST_ID = "33333333-3333-4333-8333-333333333333"
PHONE_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
    " Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
CLIENT = pb.ClientInfo(ip_address="203.0.113.7", user_agent=LAPTOP_AGENT, app_version="4.12.0")


def moment(found: Timestamp) -> datetime:
    return found.ToDatetime(UTC)


def timestamp(of: datetime) -> Timestamp:
    return Timestamp(seconds=int(of.timestamp()))


async def renew(
    stage: Stage, signed_in: Any, device_id: str = "", **more: Any
) -> pb.RenewSessionResponse:
    request = pb.RenewSessionRequest(
        access_token=signed_in.access_token,
        device_id=device_id or signed_in.device.device_id,
        **more,
    )
    answer: pb.RenewSessionResponse = await stage.call("RenewSession", request)
    await stage.authority.settled()
    return answer


async def devices(stage: Stage, **more: Any) -> pb.ListDevicesResponse:
    answer: pb.ListDevicesResponse = await stage.call(
        "ListDevices", pb.ListDevicesRequest(user_id="ada", **more)
    )
    return answer


async def test_issue_device_signs_a_user_in(stage: Stage):
    issued = await stage.sign_in(
        "ada", client=CLIENT, claims={"email": "ada@example.org"}, auth_methods=["pwd", "otp"],
        session_ttl=Duration(seconds=7200),
    )  # fmt: skip
    assert issued.device_id_assigned
    assert issued.new_device
    assert not issued.evicted_devices
    assert len(issued.access_token) <= 4096
    assert moment(issued.token_expire_time) == START + HOUR
    device = issued.device
    assert device == pb.Device(
        device_id=device.device_id,
        display_name="Chrome 140 on Windows",
        operating_system="Windows",
        browser="Chrome 140",
        form_factor=pb.FORM_FACTOR_DESKTOP,
        last_client=CLIENT,
        session_id=device.session_id,
        create_time=timestamp(START),
        sign_in_time=timestamp(START),
        last_seen_time=timestamp(START),
        expire_time=timestamp(START + timedelta(hours=2)),
        signed_in=True,
        absolute_expire_time=timestamp(START + timedelta(hours=2)),
        auth_methods=["pwd", "otp"],
    )
    assert len(device.session_id) == 32
    again = await stage.sign_in("ada", device.device_id.upper())
    assert not again.device_id_assigned
    assert not again.new_device
    assert again.device.device_id == device.device_id
    assert again.device.session_id != device.session_id
    assert again.device.last_client == CLIENT, "client details that a sign-in leaves out are kept"


NAME_ID = "CN=First Last,OU=" + "x" * 238
METHODS = ["urn:oasis:names:tc:SAML:2.0:ac:classes:" + "P" * 40] * 8


async def test_claims_that_fit_into_a_token_are_accepted(stage: Stage):
    claims = {"https://example.org/claims/" + "n" * 101: "x" * 800}
    issued = await stage.sign_in(NAME_ID, LAPTOP, claims=claims, auth_methods=METHODS)
    assert len(issued.access_token) <= 4000
    session = (await stage.validate(issued)).session
    assert (len(session.user_id), session.user_id) == (255, NAME_ID)
    assert (dict(session.claims), list(session.auth_methods)) == (claims, METHODS)
    watched = (await stage.call("ListDevices", pb.ListDevicesRequest(user_id=NAME_ID))).devices
    assert len(watched) == 1


async def test_claims_that_do_not_fit_are_refused_with_every_field_that_takes_space(stage: Stage):
    before = await stage.dump()
    fields: Any = {"user_id": "𠀀" * 255, "claims": {"n": "x" * 1000}, "auth_methods": METHODS}
    refusal = await stage.refused("IssueDevice", pb.IssueDeviceRequest(**fields))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [field for field, _ in refusal.violations] == ["user_id", "claims", "auth_methods"]
    assert "the limit is 4000" in refusal.message
    assert await stage.dump() == before


async def test_the_same_request_id_signs_in_once(stage: Stage):
    first, second = [
        await stage.sign_in("ada", request_id=REQUEST_ID, client=CLIENT) for _ in range(2)
    ]
    assert first.access_token != second.access_token, "each is a copy of its own"
    second.access_token = first.access_token
    assert first == second
    assert first.device_id_assigned
    assert (await devices(stage)).total_size == 1
    assert (await stage.sign_in("bob", request_id=REQUEST_ID)).new_device, (
        "the same ID of another user names another request"
    )


async def test_the_oldest_device_makes_room_for_a_new_one(stage_with: StageWith):
    stage = await stage_with(max_devices=2)
    oldest = await stage.sign_in("ada")
    stage.clock.advance(SECOND)
    await stage.sign_in("ada")
    stage.clock.advance(SECOND)
    [evicted] = (await stage.sign_in("ada")).evicted_devices
    assert evicted.device_id == oldest.device.device_id
    assert not evicted.signed_in
    assert not evicted.session_id
    assert not evicted.HasField("expire_time")
    assert not evicted.HasField("absolute_expire_time")
    assert (await stage.validate(oldest)).status == pb.SESSION_STATUS_NO_SESSION


async def test_a_sign_in_beyond_the_limit_is_refused_where_the_setting_says_so(
    stage_with: StageWith,
):
    stage = await stage_with(max_devices=1, device_limit_action=DeviceLimitAction.REJECT)
    await stage.sign_in("ada")
    before = await stage.dump()
    refusal = await stage.refused("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    assert await stage.dump() == before
    assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "DEVICE_LIMIT_REACHED")
    assert refusal.metadata == (("max_devices", "1"),)


async def test_validate_session_returns_the_verdict(stage: Stage):
    issued = await stage.sign_in(
        "ada", LAPTOP, claims={"email": "ada@example.org"}, auth_methods=["pwd"]
    )
    stage.clock.advance(MINUTE)
    answer = await stage.validate(issued, client=CLIENT)
    assert answer == pb.ValidateSessionResponse(
        active=True,
        status=pb.SESSION_STATUS_ACTIVE,
        device_id=LAPTOP,
        session=pb.Session(
            user_id="ada",
            device_id=LAPTOP,
            session_id=issued.device.session_id,
            generation=1,
            claims={"email": "ada@example.org"},
            sign_in_time=timestamp(START),
            token_expire_time=timestamp(START + HOUR),
            expire_time=timestamp(START + MINUTE + 7 * DAY),
            auth_methods=["pwd"],
            absolute_expire_time=timestamp(START + 30 * DAY),
        ),
    )
    stage.clock.advance(30 * MINUTE)
    assert (await stage.validate(issued)).renew_recommended
    stage.clock.advance(HOUR)
    over = await stage.validate(issued)
    assert (over.active, over.status, over.HasField("session")) == (
        False,
        pb.SESSION_STATUS_TOKEN_EXPIRED,
        False,
    )


async def test_a_validation_without_a_trace_changes_nothing(stage: Stage):
    issued = await stage.sign_in("ada", LAPTOP)
    before = await stage.dump()
    stage.clock.advance(10 * MINUTE)
    assert (await stage.validate(issued, observe_only=True)).active
    stolen = await stage.validate(issued, observe_only=True, device_id=PHONE)
    assert (stolen.status, stolen.revoked_devices) == (pb.SESSION_STATUS_REPLAYED, 0)
    assert await stage.dump() == before


async def test_renew_session_returns_the_next_token(stage: Stage):
    issued = await stage.sign_in("ada", LAPTOP, claims={"email": "ada@example.org"})
    early = await renew(stage, issued)
    assert (early.status, early.rotated, early.access_token) == (
        pb.SESSION_STATUS_ACTIVE,
        False,
        "",
    )
    assert early.session.generation == 1
    assert not early.HasField("token_expire_time")
    stage.clock.advance(3 * HOUR)
    late = await renew(stage, issued, client=CLIENT)
    assert (late.status, late.rotated) == (pb.SESSION_STATUS_ACTIVE, True)
    assert late.access_token != issued.access_token
    assert moment(late.session.absolute_expire_time) == START + 30 * DAY
    assert (late.session.generation, dict(late.session.claims)) == (2, {"email": "ada@example.org"})
    assert (
        moment(late.token_expire_time) == moment(late.session.token_expire_time) == START + 4 * HOUR
    )
    assert late.session.session_id == issued.device.session_id
    validated = await stage.validate(issued, access_token=late.access_token)
    assert (validated.active, validated.session.generation) == (True, 2)
    [device] = (await devices(stage)).devices
    assert device.last_client == CLIENT


async def test_a_replay_signs_out_everywhere(stage: Stage):
    laptop, phone = await stage.sign_in("ada"), await stage.sign_in("ada")
    stage.clock.advance(10 * MINUTE)
    renewed = await renew(stage, laptop)
    stage.clock.advance(3 * MINUTE)
    assert (await stage.validate(laptop, access_token=renewed.access_token)).active
    stage.clock.advance(MINUTE)
    assert (await stage.validate(laptop)).status == pb.SESSION_STATUS_SUPERSEDED
    stage.clock.advance(5 * MINUTE)
    alarm = await renew(stage, laptop)
    assert (alarm.status, alarm.revoked_devices, alarm.HasField("session")) == (
        pb.SESSION_STATUS_REPLAYED,
        2,
        False,
    )
    assert (await stage.validate(phone)).status == pb.SESSION_STATUS_NO_SESSION


@pytest.mark.parametrize(
    ("agent", "name", "form"),
    [
        (LAPTOP_AGENT, "Chrome 140 on Windows", pb.FORM_FACTOR_DESKTOP),
        (
            PHONE_AGENT,
            "Safari 18 on iOS 18",
            pb.FORM_FACTOR_PHONE,
        ),
        ("curl/8.7.1", "curl 8", pb.FORM_FACTOR_BOT),
        ("", "Unknown device", pb.FORM_FACTOR_UNSPECIFIED),
        ("\U0001f4a5" * 40, "Unknown device", pb.FORM_FACTOR_UNSPECIFIED),
    ],
    ids=["laptop", "phone", "curl", "none", "nonsense"],
)
async def test_user_agents_are_parsed(stage: Stage, agent: str, name: str, form: pb.FormFactor):
    device = (await stage.sign_in("ada", client=pb.ClientInfo(user_agent=agent))).device
    assert (device.display_name, device.form_factor) == (name, form)


async def test_a_user_agent_is_cut_at_512_bytes(stage: Stage):
    device = (await stage.sign_in("ada", client=pb.ClientInfo(user_agent="é" * 5000 + "\n"))).device
    assert device.last_client.user_agent == "é" * 256


async def test_list_devices_returns_pages(stage: Stage):
    signed_in = []
    for _ in range(5):
        signed_in.append(await stage.sign_in("ada"))
        stage.clock.advance(SECOND)
    newest_first = [issued.device.device_id for issued in reversed(signed_in)]
    found: list[pb.Device] = []
    sizes, token = [], ""
    while True:
        page = await devices(
            stage, page_size=2, page_token=token, current_device_id=newest_first[3]
        )
        found += page.devices
        sizes.append((len(page.devices), page.total_size))
        token = page.next_page_token
        if not token:
            break
    assert [device.device_id for device in found] == newest_first
    assert sizes == [(2, 5), (2, 5), (1, 5)]
    assert [device.current for device in found] == [False, False, False, True, False]
    assert not (await devices(stage, page_size=5)).next_page_token, "an empty last page"
    assert (
        await stage.call("ListDevices", pb.ListDevicesRequest(user_id="nobody"))
    ).total_size == 0


async def test_list_devices_includes_devices_that_are_signed_out(stage: Stage):
    issued = await stage.sign_in("ada", LAPTOP)
    await stage.sign_in("ada", PHONE)
    await stage.call("RevokeDevice", pb.RevokeDeviceRequest(user_id="ada", device_id=LAPTOP))
    assert [device.device_id for device in (await devices(stage)).devices] == [PHONE]
    listed = {
        device.device_id: device
        for device in (await devices(stage, include_signed_out=True)).devices
    }
    assert set(listed) == {LAPTOP, PHONE}
    laptop = listed[LAPTOP]
    assert (laptop.signed_in, laptop.session_id, laptop.HasField("expire_time")) == (
        False,
        "",
        False,
    )
    assert laptop.create_time == issued.device.create_time


async def test_update_device_renames_a_device(stage: Stage):
    await stage.sign_in("ada", LAPTOP, client=pb.ClientInfo(display_name="Pixel 8"))
    request = pb.UpdateDeviceRequest(
        user_id="ada", device_id=LAPTOP.upper(), display_name="  Ada's phone ☎  "
    )
    named = await stage.call("UpdateDevice", request)
    assert named.device.display_name == "Ada's phone ☎"
    assert named.device.signed_in
    assert named.device == (await devices(stage)).devices[0]
    unnamed = await stage.call(
        "UpdateDevice", pb.UpdateDeviceRequest(user_id="ada", device_id=LAPTOP)
    )
    assert unnamed.device.display_name == "Pixel 8"


async def test_update_session_changes_claims(stage: Stage):
    laptop = await stage.sign_in("ada", LAPTOP, claims={"email": "ada@example.org", "name": "Ada"})
    phone = await stage.sign_in("ada", PHONE)
    everywhere = pb.UpdateSessionRequest(user_id="ada", claims={"email": "ada@example.com"})
    assert (await stage.call("UpdateSession", everywhere)).updated_sessions == 2
    there = pb.UpdateSessionRequest(user_id="ada", device_id=PHONE.upper(), claims={"name": "A"})
    assert (await stage.call("UpdateSession", there)).updated_sessions == 1
    for issued, claims in ((laptop, {"email": "ada@example.com"}), (phone, {"name": "A"})):
        assert (await stage.validate(issued)).renew_recommended
        renewal = pb.RenewSessionRequest(
            access_token=issued.access_token, device_id=issued.device.device_id
        )
        renewed = await stage.call("RenewSession", renewal)
        assert (renewed.rotated, renewed.session.generation) == (True, 1)
        assert dict(renewed.session.claims) == claims
        assert renewed.token_expire_time == issued.token_expire_time
    nowhere = pb.UpdateSessionRequest(user_id="bob", claims={"name": "Bob"})
    assert (await stage.call("UpdateSession", nowhere)).updated_sessions == 0


async def test_revoke_device_ends_the_session_of_a_device(stage: Stage):
    laptop, phone = await stage.sign_in("ada", LAPTOP), await stage.sign_in("ada", PHONE)
    request = pb.RevokeDeviceRequest(user_id="ada", device_id=LAPTOP, reason="user_request")
    assert (await stage.call("RevokeDevice", request)).revoked
    assert not (await stage.call("RevokeDevice", request)).revoked, (
        "it is no error if the device has no session"
    )
    assert (await stage.validate(laptop)).status == pb.SESSION_STATUS_NO_SESSION
    assert (await stage.validate(phone)).active
    assert not (await stage.sign_in("ada", LAPTOP)).new_device
    request.forget = True
    assert (await stage.call("RevokeDevice", request)).revoked
    assert (await stage.sign_in("ada", LAPTOP)).new_device


async def test_revoke_all_ends_all_sessions_of_a_user(stage: Stage):
    laptop, phone, bob = (
        await stage.sign_in("ada"),
        await stage.sign_in("ada", PHONE),
        await stage.sign_in("bob"),
    )
    request = pb.RevokeAllRequest(user_id="ada", except_device_id=PHONE, reason="password_changed")
    assert (await stage.call("RevokeAll", request)).revoked_devices == 1
    assert (await stage.validate(laptop)).status == pb.SESSION_STATUS_NO_SESSION
    assert (await stage.validate(phone)).active
    assert (await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="ada"))).revoked_devices == 1
    assert (await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="ada"))).revoked_devices == 0
    assert (await stage.validate(phone)).status == pb.SESSION_STATUS_NO_SESSION
    assert (await stage.validate(bob)).active


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_another_library_verifies_tokens_with_the_published_keys(
    stage: Stage, source: KeySource
):
    """It needs only the JWKS, and no code of this project."""
    for algorithm in (Algorithm.ES256, Algorithm.RS256, Algorithm.HS256):
        add_key(source.path, generate(algorithm, START))
    source.refresh()
    issued = await stage.sign_in(
        "ada", LAPTOP, claims={"email": "ada@example.org"}, auth_methods=["pwd"]
    )
    answer = await stage.call("GetSigningKeys", pb.GetSigningKeysRequest())
    jwks = json.loads(answer.jwks_json)
    assert sorted(key.algorithm for key in answer.keys) == [
        "ES256",
        "EdDSA",
        "RS256",
    ], "a secret key is not published"
    assert [(key.key_id, json.loads(key.jwk_json)) for key in answer.keys] == [
        (k["kid"], k) for k in jwks["keys"]
    ]
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & {
        name for key in jwks["keys"] for name in key
    }
    verified = jws.deserialize_compact(
        issued.access_token, KeySet.import_key_set(jwks), algorithms=["EdDSA", "Ed25519"]
    )
    assert verified.headers()["typ"] == "at+jwt"
    claims = json.loads(verified.payload)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (
        "https://sessions.example",
        "example",
        "ada",
    )
    assert (claims["email"], claims["amr"], claims["gen"]) == ("ada@example.org", ["pwd"], 1)
    assert claims["exp"] == issued.token_expire_time.seconds
    assert LAPTOP not in json.dumps(claims), "a stolen token must not give the device ID away"

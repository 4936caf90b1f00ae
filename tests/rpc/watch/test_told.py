"""Watching over the wire: what each event says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from session_authority.domain.session_limits import ReplayAction
from session_authority.tokens import (
    Algorithm,
    KeySource,
    add_key,
    generate,
    promote,
    retire,
    revoke,
)
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import DAY, LAPTOP_AGENT, MINUTE, SECOND, START, Stage, StageWith
from tests.rpc.watch.harness import LAPTOP, LAPTOP_CLIENT, PHONE, PHONE_CLIENT, TABLET, Watch, told
from tests.support.backends import Backend
from tests.support.waiting import eventually

# --- what events say ------------------------------------------------------------------------------


async def test_the_first_message_comes_at_once_and_events_follow(stage: Stage):
    before = await stage.sign_in("ada")
    watch = await Watch(stage).started()
    one = await stage.sign_in("ada")
    [event] = await watch.next()
    assert (event.device.device_id, event.session_id) == (
        one.device.device_id,
        one.device.session_id,
    )
    assert before.device.session_id != event.session_id
    two = await stage.sign_in("bob")
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="bob"))
    events = await watch.next(2)
    assert [(e.user_id, e.type) for e in events] == [
        ("bob", pb.EVENT_TYPE_DEVICE_SIGNED_IN),
        ("bob", pb.EVENT_TYPE_ALL_REVOKED),
    ]
    assert events[0].session_id == two.device.session_id
    assert len({event.event_id for event in watch.events}) == 3


async def test_as_many_users_as_the_limit_allows_can_be_watched(valkey_stage: Stage):
    """The users have the longest IDs, and the cursor is the longest one."""
    users = [f"{number:03}".ljust(255, "\N{MUSICAL SYMBOL G CLEF}") for number in range(1000)]
    first = await Watch(valkey_stage).started()
    await valkey_stage.sign_in("ada")
    for user in (users[0], users[-1]):
        await valkey_stage.sign_in(user)
    await first.next(3)
    every_type = [number for number in pb.EventType.values() if number]
    for since in ({}, {"cursor": first.cursor}):
        watch = await Watch(valkey_stage, user_ids=users, types=every_type, **since).started()
        await valkey_stage.sign_in("ada")
        await valkey_stage.sign_in(users[-1])
        assert [event.user_id for event in await watch.next()] == [users[-1]]


async def test_the_event_of_a_sign_in_has_all_that_a_mail_needs(valkey_stage: Stage):
    watch = await Watch(valkey_stage).started()
    first = await valkey_stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    valkey_stage.clock.advance(MINUTE)
    second = await valkey_stage.sign_in("ada", LAPTOP, client=LAPTOP_CLIENT)
    await valkey_stage.call("RevokeDevice", pb.RevokeDeviceRequest(user_id="ada", device_id=LAPTOP))
    await valkey_stage.sign_in("ada", LAPTOP, client=PHONE_CLIENT)
    phone = {
        "info": {"ip_address": "192.0.2.7", "display_name": "Pixel 8", "app_version": "4.12.0"}
    }
    laptop = {
        "info": {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT},
        "operating_system": "Windows",
        "browser": "Chrome 140",
        "form_factor": "FORM_FACTOR_DESKTOP",
    }
    one, two, _, again = map(told, await watch.next(4))
    assert one == {
        "type": "EVENT_TYPE_DEVICE_SIGNED_IN",
        "create_time": START,
        "user_id": "ada",
        "device": {"device_id": PHONE, "display_name": "Pixel 8", "last_client": phone},
        "client": phone,
        "session_id": first.device.session_id,
        "actor": "anonymous",
        "new_device": True,
        "first_device": True,
    }
    assert two == {
        "type": "EVENT_TYPE_DEVICE_SIGNED_IN",
        "create_time": START + MINUTE,
        "user_id": "ada",
        "device": {
            "device_id": LAPTOP,
            "display_name": second.device.display_name,
            "last_client": laptop,
        },
        "client": laptop,
        "session_id": second.device.session_id,
        "actor": "anonymous",
        "new_device": True,
    }
    assert "new_device" not in again


def shown(issued: pb.IssueDeviceResponse) -> dict[str, Any]:
    """What the event of a sign-in says about the device."""
    looks = MessageToDict(issued.device, preserving_proto_field_name=True)
    client: dict[str, Any] = {"info": looks["last_client"]}
    client |= {
        name: looks[name]
        for name in ("operating_system", "browser", "form_factor")
        if name in looks
    }
    return {
        "device_id": looks["device_id"],
        "display_name": looks["display_name"],
        "last_client": client,
    }


@pytest.mark.parametrize("action", ReplayAction, ids=lambda action: action.value)
async def test_the_event_of_a_replay_has_its_cause_and_both_clients(
    stage_with: StageWith, valkey_backend: Backend, action: ReplayAction
):
    stage = await stage_with(valkey_backend, replay_action=action)
    signed_in = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    await stage.validate(signed_in)
    watch = await Watch(stage, types=[pb.EVENT_TYPE_SESSION_REPLAYED]).started()
    stage.clock.advance(MINUTE)
    answer = await stage.validate(signed_in, device_id=LAPTOP, client=LAPTOP_CLIENT)
    assert answer.status == pb.SESSION_STATUS_REPLAYED
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SESSION_REPLAYED",
        "create_time": START + MINUTE,
        "user_id": "ada",
        "device": shown(signed_in),
        "client": {
            "info": {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT},
            "operating_system": "Windows",
            "browser": "Chrome 140",
            "form_factor": "FORM_FACTOR_DESKTOP",
        },
        "session_id": signed_in.device.session_id,
        "actor": "anonymous",
        "replay_cause": "REPLAY_CAUSE_LEFT_DEVICE",
        "replay_action": f"REPLAY_ACTION_{action.name}",
    }


async def test_other_causes_of_a_replay(valkey_stage: Stage):
    stage = valkey_stage
    watch = await Watch(stage, types=[pb.EVENT_TYPE_SESSION_REPLAYED]).started()
    # An old generation.
    old = await stage.sign_in("ada", PHONE)
    stage.clock.advance(10 * MINUTE)
    renewed = await stage.call(
        "RenewSession", pb.RenewSessionRequest(access_token=old.access_token, device_id=PHONE)
    )
    assert renewed.rotated
    stage.clock.advance(3 * MINUTE)
    newest = pb.ValidateSessionRequest(access_token=renewed.access_token, device_id=PHONE)
    assert (await stage.call("ValidateSession", newest)).active
    await stage.authority.settled()
    stage.clock.advance(10 * MINUTE)
    assert (await stage.validate(old)).status == pb.SESSION_STATUS_REPLAYED
    # A session that another sign-in replaced.
    before = await stage.sign_in("bob", PHONE)
    stage.clock.advance(10 * MINUTE)
    after = await stage.sign_in("bob", PHONE)
    stage.clock.advance(3 * MINUTE)
    assert (await stage.validate(after)).active
    stage.clock.advance(10 * MINUTE)
    assert (await stage.validate(before)).status == pb.SESSION_STATUS_REPLAYED
    assert [(event.user_id, event.replay_cause) for event in await watch.next(2)] == [
        ("ada", pb.REPLAY_CAUSE_SUPERSEDED_TOKEN),
        ("bob", pb.REPLAY_CAUSE_REPLACED_SESSION),
    ]


async def test_the_end_of_sessions_is_an_event(stage_with: StageWith, valkey_backend: Backend):
    stage = await stage_with(valkey_backend, max_devices=2)
    types = set(pb.EventType.values()) - {pb.EVENT_TYPE_UNSPECIFIED, pb.EVENT_TYPE_DEVICE_SIGNED_IN}
    watch = await Watch(stage, types=types).started()

    async def next_told() -> dict[str, Any]:
        [event] = await watch.next()
        return told(event)

    common = {"create_time": START, "user_id": "ada", "actor": "anonymous"}
    phone = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    request = pb.RevokeDeviceRequest(user_id="ada", device_id=PHONE, reason="lost it")
    assert (await stage.call("RevokeDevice", request)).revoked
    assert await next_told() == common | {
        "type": "EVENT_TYPE_DEVICE_REVOKED",
        "device": shown(phone),
        "session_id": phone.device.session_id,
        "reason": "lost it",
    }

    again = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    assert (
        await stage.validate(phone, client=LAPTOP_CLIENT)
    ).status == pb.SESSION_STATUS_SESSION_ENDED
    ended = await next_told()
    assert ended.pop("client")["info"] == {"ip_address": "198.51.100.9", "user_agent": LAPTOP_AGENT}
    assert ended == common | {
        "type": "EVENT_TYPE_ENDED_TOKEN_PRESENTED",
        "device": shown(again),
        "session_id": phone.device.session_id,
    }

    stage.clock.advance(SECOND)
    common["create_time"] = START + SECOND
    await stage.sign_in("ada", LAPTOP)
    await stage.sign_in("ada", TABLET)
    assert await next_told() == common | {
        "type": "EVENT_TYPE_DEVICE_EVICTED",
        "device": shown(again),
        "session_id": again.device.session_id,
    }

    request_all = pb.RevokeAllRequest(user_id="ada", except_device_id=TABLET, reason="new password")
    assert (await stage.call("RevokeAll", request_all)).revoked_devices == 1
    assert await next_told() == common | {
        "type": "EVENT_TYPE_ALL_REVOKED",
        "except_device_id": TABLET,
        "reason": "new password",
    }


async def test_changed_claims_are_an_event_without_the_claims(valkey_stage: Stage):
    stage = valkey_stage
    watch = await Watch(stage, types=[pb.EVENT_TYPE_SESSION_UPDATED]).started()
    phone = await stage.sign_in("ada", PHONE, client=PHONE_CLIENT)
    common = {
        "create_time": START,
        "user_id": "ada",
        "actor": "anonymous",
        "type": "EVENT_TYPE_SESSION_UPDATED",
    }
    of_one = {"device": shown(phone), "session_id": phone.device.session_id}
    for device_id, more in ((PHONE, of_one), ("", {})):
        request = pb.UpdateSessionRequest(user_id="ada", device_id=device_id)
        request.claims["email"] = f"ada@{device_id}.example.org"
        for _ in range(2):  # The second update changes nothing.
            assert (await stage.call("UpdateSession", request)).updated_sessions == 1
        [event] = await watch.next()
        assert told(event) == common | more


async def test_a_revoked_key_makes_one_event_however_many_servers_find_it(
    stage_with: StageWith, valkey_backend: Backend, folder: Path, source: KeySource
):
    old = source.current.signing.kid
    stages = [await stage_with(valkey_backend) for _ in range(3)]
    watch = await Watch(
        stages[0], user_ids=["somebody"], types=[pb.EVENT_TYPE_SIGNING_KEY_REVOKED]
    ).started()
    key = generate(Algorithm.EDDSA, START)
    add_key(folder, key)
    promote(folder, key.kid, START)
    revoke(folder, old, START)
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SIGNING_KEY_REVOKED",
        "create_time": START,
        "key_id": old,
    }
    await eventually(
        lambda: all(stage.authority._keys.told_revoked == {old} for stage in stages),
        "all servers to know",
    )
    another = await stage_with(valkey_backend)  # The same holds for a server that is started later.
    await eventually(
        lambda: another.authority._keys.told_revoked == {old}, "the new server to know too"
    )
    found = [value for key, value in (await stages[0].dump()).items() if key.endswith(b":e")]
    assert [len(entries) for entries in found] == [1]


async def test_a_key_that_is_removed_early_counts_as_revoked(
    stage_with: StageWith, valkey_backend: Backend, folder: Path, source: KeySource
):
    """This holds also if the key was revoked before, and no server saw it."""
    early, seen, published = (generate(Algorithm.EDDSA, START) for _ in range(3))
    for key in (early, seen, published):
        add_key(folder, key)
    stages = [await stage_with(valkey_backend) for _ in range(2)]
    watch = await Watch(stages[0], types=[pb.EVENT_TYPE_SIGNING_KEY_REVOKED]).started()
    for key in (early, seen):
        promote(folder, key.kid, START)
    over = source.current.signing.kid  # Its tokens have ended, by the `now` below.

    def all_know_who_signs(kid: str) -> bool:
        return all(s.tokens._known.signing.kid == kid for s in stages)

    await eventually(lambda: all_know_who_signs(seen.kid), "the promotions to be seen")

    revoke(folder, early.kid, START)
    for key in (early, published):
        retire(folder, key.kid, START, DAY, force=True)
    [event] = await watch.next()
    assert told(event) == {
        "type": "EVENT_TYPE_SIGNING_KEY_REVOKED",
        "create_time": START,
        "key_id": early.kid,
    }
    await eventually(
        lambda: all(s.authority._keys.told_vanished == {early.kid} for s in stages),
        "all servers to know",
    )

    stages[0].clock.advance(30 * DAY)
    stages[1].clock.advance(30 * DAY)
    retire(folder, over, START + 30 * DAY, DAY)
    add_key(folder, early)
    await eventually(
        lambda: all(not s.authority._keys.told_vanished for s in stages), "the key to be back"
    )
    promote(folder, early.kid, START + 30 * DAY)
    await eventually(lambda: all_know_who_signs(early.kid), "the promotion to be seen")
    revoke(folder, seen.kid, START + 30 * DAY)
    [event] = await watch.next()
    assert event.key_id == seen.kid
    revoke(folder, early.kid, START + 30 * DAY, replace=True)
    [event] = await watch.next()
    assert event.key_id == early.kid, (
        "the revocation of a key is an event, although its removal was an event before"
    )
    await eventually(
        lambda: all(len(s.authority._keys.told_revoked) == 2 for s in stages), "all servers to know"
    )
    found = [value for key, value in (await stages[0].dump()).items() if key.endswith(b":e")]
    assert [len(entries) for entries in found] == [3]

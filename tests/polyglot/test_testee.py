"""The protocol itself: each testee keeps it, so that the result of a scenario is about the
client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from client_tests.harness import Fake, Hang
from client_tests.service_harness import DEVICE
from session_authority_client.testing import FakeAuthority
from tests.polyglot.conftest import Connect
from tests.polyglot.testee import PATIENCE, Process, Refused, Testee
from tests.polyglot.testees import Program
from tests.support.waiting import eventually


async def test_an_unknown_command_is_a_clear_error_and_the_testee_goes_on(
    testee: Testee, connect: Connect, fake: Fake
):
    with pytest.raises(Refused) as caught:
        await testee.do("dance", client="a")
    assert caught.value.kind == "unknown_command"
    await connect(fake.address)


async def test_a_command_that_lacks_a_field_is_a_clear_error(
    testee: Testee, connect: Connect, fake: Fake
):
    await connect(fake.address)
    for command, fields in (
        ("validate", {"client": "nobody", "access_token": "t", "device_id": DEVICE}),
        ("validate", {"access_token": "t", "device_id": DEVICE}),
        ("validate", {"client": "a", "device_id": DEVICE}),
        ("connect", {"client": "b"}),
    ):
        with pytest.raises(Refused) as caught:
            await testee.do(command, **fields)
        assert caught.value.kind == "bad_command", (command, fields)
    assert fake.calls == []


async def test_a_line_that_is_no_json_object_is_a_clear_error(testee: Testee):
    process = testee.process
    process.send("{")
    process.send("[1]")
    await eventually(lambda: len(process.unexpected) == 2, "two errors")
    told = [(line["id"], line["error"]["kind"]) for line in process.unexpected]
    process.unexpected.clear()
    assert told == [(None, "bad_command")] * 2


async def test_commands_run_at_the_same_time(testee: Testee, connect: Connect, fake: Fake):
    await connect(fake.address, batching=False)
    hang = Hang()
    fake.acts.append(hang)
    slow = testee.begin("validate", client="a", access_token="t", device_id=DEVICE)
    await eventually(hang.began.is_set, "the first call")
    await testee.do("validate", client="a", access_token="u", device_id=DEVICE)
    assert not slow.done
    hang.over.set()
    with pytest.raises(Refused):  # The service answers nothing.
        await slow.reply()


async def test_a_testee_ends_with_its_input_whatever_runs(
    testee_name: str, program_of: Callable[[str], Program], fake: Fake
):
    testee = Testee(Process(program_of(testee_name)))
    await testee.do("connect", client="a", target=fake.address, timeout_ms=60_000, batching=False)
    hang = Hang()
    fake.acts.append(hang)
    testee.begin("validate", client="a", access_token="t", device_id=DEVICE)
    await eventually(hang.began.is_set, "the call")
    assert await asyncio.to_thread(testee.process.end) == 0
    assert await asyncio.to_thread(hang.over.wait, PATIENCE)


async def test_the_statuses_in_the_life_of_a_session_are_right(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address)
    issued = await testee.do("sign_in", client="a", user_id="ada", claims={"name": "Ada"})
    assert issued["device_id_assigned"]
    assert issued["new_device"]
    device = issued["device"]
    assert device["signed_in"]
    shown = {"access_token": issued["access_token"], "device_id": device["device_id"]}

    found = await testee.do("validate", client="a", **shown)
    assert (found["active"], found["status"]) == (True, "ACTIVE")
    assert found["session"] == {
        "user_id": "ada",
        "device_id": device["device_id"],
        "session_id": device["session_id"],
        "generation": 1,
        "claims": {"name": "Ada"},
    }
    assert found["started"] <= found["ended"]
    name = {key: found["session"][key] for key in ("user_id", "device_id", "session_id")}
    assert await testee.do("check", client="a", sessions=[name]) == {"statuses": ["ACTIVE"]}
    listed = await testee.do(
        "list", client="a", user_id="ada", current_device_id=shown["device_id"]
    )
    assert (listed["total_size"], listed["next_page_token"]) == (1, "")
    assert [each["current"] for each in listed["devices"]] == [True]

    young = await testee.do("renew", client="a", **shown)
    assert (young["active"], young["rotated"], young["access_token"]) == (True, False, None)
    authority.expire_tokens()
    renewed = await testee.do("renew", client="a", **shown)
    assert renewed["rotated"]
    assert renewed["session"]["generation"] == 2
    shown["access_token"] = renewed["access_token"]

    told = await testee.do("revoke", client="a", user_id="ada", device_id=shown["device_id"])
    assert told == {"revoked": True}
    told = await testee.do("revoke_all", client="a", user_id="ada")
    assert told == {"revoked_devices": 0}
    batch = await testee.do("validate_batch", client="a", items=[shown, shown])
    assert [each["ok"]["status"] for each in batch["results"]] == ["NO_SESSION"] * 2
    assert [each["ok"]["session"] for each in batch["results"]] == [None] * 2

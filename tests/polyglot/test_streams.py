"""Connections that stay open: they end with the session, and with the client."""

from __future__ import annotations

import pytest

from client_tests.service_harness import Service
from session_authority_client.testing import FakeAuthority
from tests.polyglot.cached import cached
from tests.polyglot.conftest import Connect
from tests.polyglot.testee import Refused, Testee
from tests.support.waiting import eventually


@pytest.mark.commands("watch")
async def test_a_watch_returns_events_and_ends_with_its_client(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address)
    watch = testee.begin("watch", client="a")
    assert (await watch.note())["events"] == []
    await testee.do("sign_in", client="a", user_id="ada")
    note = await watch.note()
    while not note["events"]:
        note = await watch.note()
    assert note["events"] == ["DEVICE_SIGNED_IN"]
    assert note["cursor"]
    await testee.do("close", client="a")
    with pytest.raises(Refused) as caught:
        await watch.reply()
    assert caught.value.kind == "unavailable"


@pytest.mark.commands("watch")
async def test_a_watch_goes_on_from_its_cursor(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address)
    watch = testee.begin("watch", client="a")
    cursor = (await watch.note())["cursor"]
    await testee.do("sign_in", client="a", user_id="ada")
    await testee.do("revoke_all", client="a", user_id="ada")
    again = testee.begin("watch", client="a", cursor=cursor)
    told: list[str] = []
    while len(told) < 2:
        told += (await again.note())["events"]
    assert told == ["DEVICE_SIGNED_IN", "ALL_REVOKED"]


async def test_the_watch_of_a_cache_ends_with_its_client(
    testee: Testee, connect: Connect, scripted: Service
):
    await cached(testee, connect, scripted)
    assert scripted.watching == 1
    await testee.do("close", client="a")
    await eventually(lambda: scripted.watching == 0, "the watch to end")


async def test_calls_end_with_their_client(testee: Testee, connect: Connect, scripted: Service):
    await connect(scripted.address)
    scripted.open.clear()
    calls = [
        testee.begin("validate", client="a", access_token=f"token of {user}", device_id="d")
        for user in ("ada", "bob", "carl")
    ]
    await eventually(lambda: scripted.calls, "a call")
    await testee.do("close", client="a")
    for call in calls:
        with pytest.raises(Refused) as caught:
            await call.reply()
        assert caught.value.kind == "unavailable"
    with pytest.raises(Refused) as caught:
        await testee.do("validate", client="a", access_token="t", device_id="d")
    assert caught.value.kind == "unavailable"


@pytest.mark.commands("http")
async def test_an_event_stream_ends_with_its_session_and_no_other_does(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address, cache={})
    streams = {}
    for user in ("ada", "bob"):
        headers = list(authority.sign_in(user).items())
        streams[user] = testee.begin(
            "http", client="a", method="GET", path="/stream", headers=headers
        )
        assert await streams[user].note() == {"status": 200}
    authority.sign_out("ada")
    ended = await streams["ada"].reply()
    assert (ended["status"], ended["body"]) == (200, "data: open\n\n")
    assert not streams["bob"].done
    authority.sign_out("bob")
    assert (await streams["bob"].reply())["status"] == 200


@pytest.mark.commands("http")
async def test_an_event_stream_ends_with_its_session_without_a_watch(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address, cache={"max_silence_ms": 500})
    headers = list(authority.sign_in("ada").items())
    stream = testee.begin("http", client="a", method="GET", path="/stream", headers=headers)
    assert await stream.note() == {"status": 200}
    authority.stop()
    authority.start()
    authority.sign_out("ada")
    assert (await stream.reply())["status"] == 200

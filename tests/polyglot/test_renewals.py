"""Renewals race: parallel requests with one old token, retries, lost replies. None of them signs a
user out.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from session_authority_client.testing import FakeAuthority
from tests.polyglot.browser import Browser
from tests.polyglot.conftest import Connect
from tests.polyglot.testee import Testee

# The token is old enough to be renewed, and half of its life is over.
OLD = timedelta(minutes=40)
PAST_ALARM = timedelta(minutes=6)
TABS = 16


async def signed_in(testee: Testee, connect: Connect, authority: FakeAuthority) -> Browser:
    """A browser whose user has signed in through the app."""
    await connect(authority.address)
    browser = Browser(testee)
    assert await browser.status() != 200
    await browser.sign_in("ada")
    answer = await browser.request("GET", "/private")
    assert (answer["status"], answer["body"]) == (200, "ada")
    return browser


@pytest.mark.commands("http")
@pytest.mark.parametrize("tabs", [2, TABS])
@pytest.mark.parametrize("state", ["old", "expired"])
async def test_parallel_requests_with_one_old_token_renew_it_once_and_sign_no_user_out(
    testee: Testee, connect: Connect, authority: FakeAuthority, tabs: int, state: str
):
    browser = await signed_in(testee, connect, authority)
    authority.pass_time(OLD)
    if state == "expired":
        authority.expire_tokens()
    parallel = [browser.copy() for _ in range(tabs)]
    assert await asyncio.gather(*(tab.status() for tab in parallel)) == [200] * tabs
    assert authority.rotations == 1
    assert all(tab.jar != browser.jar for tab in parallel), "each tab got the next token"
    for tab in parallel:  # Whichever token the browser has kept in the end.
        assert await tab.status() == 200
    assert authority.rotations == 1


@pytest.mark.commands("http")
async def test_a_tab_that_lost_the_reply_goes_on_with_its_old_token(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    browser = await signed_in(testee, connect, authority)
    authority.pass_time(OLD)
    lost = browser.copy()
    assert await lost.status() == 200
    authority.pass_time(PAST_ALARM)
    assert await browser.status() == 200, "the next token was never seen in use"
    assert browser.jar != lost.jar
    assert authority.rotations == 1


@pytest.mark.commands("http")
async def test_a_token_is_renewed_again_and_again_while_its_browser_is_used(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    browser = await signed_in(testee, connect, authority)
    for rotations in range(1, 5):
        authority.pass_time(OLD)
        assert await browser.status() == 200
        assert await browser.status() == 200
        assert authority.rotations == rotations


@pytest.mark.commands("http")
async def test_a_replayed_token_signs_thief_and_browser_out(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    browser = await signed_in(testee, connect, authority)
    thief = browser.copy()
    authority.pass_time(OLD)
    assert await browser.status() == 200
    authority.pass_time(PAST_ALARM)
    assert await browser.status() == 200  # Now the next token was seen in use.
    authority.pass_time(PAST_ALARM)
    assert await thief.status() != 200
    assert await browser.status() != 200
    await browser.sign_in("ada")
    assert await browser.status() == 200
    assert await thief.status() != 200


async def test_parallel_renewals_of_one_token_lead_to_one_generation(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address)
    issued = await testee.do("sign_in", client="a", user_id="ada")
    device_id = issued["device"]["device_id"]
    authority.pass_time(OLD)
    commands = [
        testee.begin("renew", client="a", access_token=issued["access_token"], device_id=device_id)
        for _ in range(TABS)
    ]
    renewed = [await command.reply() for command in commands]
    assert {(each["active"], each["session"]["generation"]) for each in renewed} == {(True, 2)}
    assert authority.rotations == 1
    for each in renewed:
        told = await testee.do(
            "validate", client="a", access_token=each["access_token"], device_id=device_id
        )
        assert told["active"]


@pytest.mark.commands("http")
async def test_a_renewal_during_an_outage_is_an_error_and_no_sign_out(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    browser = await signed_in(testee, connect, authority)
    authority.pass_time(OLD)
    authority.expire_tokens()
    before = dict(browser.jar)
    with authority.unavailable():
        assert await browser.status() == 503
    assert browser.jar == before
    assert await browser.status() == 200

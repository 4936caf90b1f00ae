"""The fake checks the fields of a request by the service's rules, with the service's messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from session_authority_client import (
    ClientInfo,
    InvalidRequest,
    Place,
    SessionAuthority,
    SessionName,
)
from session_authority_client.testing import FakeAuthority

PATIENCE = timedelta(seconds=20)


@pytest.fixture
def client(authority: FakeAuthority) -> Iterator[SessionAuthority]:
    with authority.client(timeout=PATIENCE) as client:
        yield client


@pytest.mark.parametrize(
    "text",
    [
        "Ber\u202elin",
        "  Bad\u2028\tHomburg ",
        "\u200b\u2066",
        "a" * 101,
        "é" * 99 + " b",
        "<b>Köln",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_the_fake_shows_a_client_as_the_service_does(
    client: SessionAuthority, address: str, text: str
):
    user = str(uuid4())
    sent = ClientInfo(
        user_agent=text, display_name=text, app_version="1\u202e2", place=Place(text, "de")
    )
    with SessionAuthority(address, timeout=PATIENCE) as service:
        mine, theirs = (at.issue_device(user, client=sent).device for at in (client, service))
    shown = [
        (
            *(device.display_name, device.city, device.country_code),
            *(device.last_client.user_agent, device.last_client.app_version),
        )
        for device in (mine, theirs)
    ]
    assert shown[0] == shown[1]


LONG_CLAIMS = {"claims": {f"{i}": "é" * 128 for i in range(4)}}  # 1024 bytes of values
BROKEN_SIGN_INS: Sequence[dict[str, Any]] = (
    {"idle_timeout": timedelta.max},
    {"idle_timeout": timedelta(days=7, seconds=1)},
    {"idle_timeout": timedelta(seconds=119)},
    {"idle_timeout": timedelta(0)},
    {"idle_timeout": timedelta.min},
    {"session_ttl": timedelta.max},
    {"session_ttl": timedelta(days=30, seconds=1)},
    {"session_ttl": timedelta(milliseconds=999)},
    {"session_ttl": -timedelta(days=1)},
    {"claims": {"sub": "a", "exp": "b", "mail": "c"}},
    {"claims": {"e mail": "a"}},
    {"claims": {"": "a"}},
    {"claims": {"a" * 129: "a"}},
    {"claims": {"a": "b" * 1017}},
    LONG_CLAIMS,
    {"claims": {"a": "\0" * 170}},
    {"auth_methods": ["pwd"] * 9},
    {"auth_methods": ["pwd", "o tp", ""]},
    {"request_id": "nonsense"},
    {"claims": {"\0": "b" * 1024, "roles": ""}, "session_ttl": timedelta(0), "user_id": " "},
)


@pytest.mark.parametrize("asked", BROKEN_SIGN_INS, ids=lambda asked: " ".join(asked))
def test_the_fake_refuses_sign_ins_as_the_service_does(
    client: SessionAuthority, address: str, asked: dict[str, Any]
):
    user = str(uuid4())
    with SessionAuthority(address, timeout=PATIENCE) as service:
        mine, theirs = (refused_sign_in(at, {"user_id": user, **asked}) for at in (client, service))
    assert mine == theirs
    client.issue_device(user)
    assert [device.signed_in for device in client.devices(user)] == [True]


def refused_sign_in(client: SessionAuthority, asked: dict[str, Any]) -> object:
    with pytest.raises(InvalidRequest) as refused:
        client.issue_device(**asked)
    return str(refused.value), refused.value.violations


@pytest.mark.parametrize(
    "asked",
    [
        {"idle_timeout": timedelta(seconds=120)},
        {"idle_timeout": timedelta(days=7)},
        {"session_ttl": timedelta(seconds=1)},
        {"session_ttl": timedelta(days=30)},
        {"claims": {"a": "b" * 1016}, "auth_methods": ["urn:x"] * 8},
        {"request_id": f"{{{uuid4()}}}"},
    ],
    ids=lambda asked: " ".join(asked),
)
def test_the_fake_accepts_the_limits_that_the_service_accepts(
    client: SessionAuthority, address: str, asked: dict[str, Any]
):
    with SessionAuthority(address, timeout=PATIENCE) as service:
        for at in (client, service):
            at.issue_device(str(uuid4()), **asked)


@pytest.mark.parametrize("claims", [{"roles": "a"}, {"a b": ""}, {"a": "b" * 1017}])
def test_the_fake_checks_updated_claims_as_the_service_does(
    client: SessionAuthority, address: str, claims: dict[str, str]
):
    told = []
    with SessionAuthority(address, timeout=PATIENCE) as service:
        for at in (client, service):
            with pytest.raises(InvalidRequest) as refused:
                at.update_session("", claims, device_id="nonsense")
            told.append((str(refused.value), refused.value.violations))
    assert told[0] == told[1]


def test_the_fake_checks_batches_as_the_service_does(client: SessionAuthority, address: str):
    with SessionAuthority(address, timeout=PATIENCE) as service:
        mine, theirs = batches_tried(client), batches_tried(service)
    assert mine == theirs


def batches_tried(client: SessionAuthority) -> Sequence[object]:
    """The results of calls with batches of several sizes, and with invalid names."""
    good = SessionName("ada", str(uuid4()), "0" * 32)
    told: list[object] = []
    for size in (0, 501):
        with pytest.raises(InvalidRequest) as refused:
            client.check_sessions([good] * size)
        told.append((str(refused.value), refused.value.violations))
        with pytest.raises(InvalidRequest) as refused:
            client.validate_sessions([("", "")] * size)
        told.append((str(refused.value), refused.value.violations))
    names = (
        good,
        replace(good, user_id=""),
        replace(good, device_id="nonsense"),
        replace(good, session_id="0" * 31),
        SessionName("a\n", "", "x" * 32),
    )
    for found in client.check_sessions([*names, *[good] * 495]):
        if isinstance(found, InvalidRequest):
            told.append((str(found), found.reason, found.violations))
        else:
            told.append(found)
    return told

"""The identity headers of one session are never given to another, however they are remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from session_authority.gateway.identity import (
    _MAX_KEPT_SESSIONS,
    ANONYMOUS,
    IDENTITY_HEADERS,
    IdentityHeaders,
)
from session_authority_client import Session

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def session(user: str, signed_in: datetime = NOW) -> Session:
    return Session(
        user_id=user,
        device_id="5f0c1a52-6a4f-4b5c-9f0e-6f0f3a3f7f10",
        session_id="s-1",
        generation=1,
        claims={"name": "Zoë\r\nX-Session-User: root"},
        auth_methods=("pwd", "urn:a b"),
        sign_in_time=signed_in,
        token_expire_time=NOW,
        expire_time=NOW,
    )


def test_no_session_gets_the_headers_of_another():
    """A later session may reuse the memory address of a session that is gone."""
    headers = IdentityHeaders()
    for number in range(_MAX_KEPT_SESSIONS + 100):
        user = f"user-{number}"
        assert dict(headers.of(session(user), ""))["X-Session-User"] == user


def test_remembered_headers_have_no_assertion():
    headers, ada = IdentityHeaders(), session("ada")
    told = [dict(headers.of(ada, assertion)) for assertion in ("one", "two")]
    assert [each["X-Session-Assertion"] for each in told] == ["one", "two"]
    assert told[0] | {"X-Session-Assertion": ""} == told[1] | {"X-Session-Assertion": ""}


def test_headers_are_visible_ascii_in_one_line():
    tokyo = timezone(timedelta(hours=9))
    told = IdentityHeaders().of(session("a\u0661 b%\x7f", NOW.astimezone(tokyo)), "")
    assert (
        tuple(name for name, _ in told) == IDENTITY_HEADERS == tuple(name for name, _ in ANONYMOUS)
    )
    values = dict(told)
    assert all(value.isascii() and value.isprintable() for value in values.values())
    assert values["X-Session-User"] == "a%D9%A1%20b%25%7F"
    assert values["X-Session-Auth-Methods"] == "pwd urn:a%20b"
    assert values["X-Session-Sign-In-Time"] == "2026-03-01T12:30:00Z"

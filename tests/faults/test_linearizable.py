"""The search finds an order if calls in some order could have had these answers, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.history import Call, Kind, Role, Token
from tests.faults.linearizable import is_linearizable

PHONE, LAPTOP = "phone", "laptop"


def call(kind: Kind, at: float, outcome: str = "OK", **more: Any) -> Call:
    values: dict[str, Any] = {"device": PHONE, "ended": at + 0.1} | more
    return Call(0, kind, Role.HONEST, "one", "ada", started=at, outcome=outcome, **values)


def signed_in(at: float, session: str, device: str = PHONE, **more: Any) -> Call:
    given = Token("ada", device, session, 1, "")
    return call(Kind.SIGN_IN, at, device=device, given=given, **more)


def presented(at: float, session: str, outcome: str, **more: Any) -> Call:
    token = Token("ada", PHONE, session, 1, "")
    return call(Kind.VALIDATE, at, outcome, presented=token, **more)


def revoked_all(at: float, found: int = 0, outcome: str = "OK", **more: Any) -> Call:
    return call(Kind.REVOKE_ALL, at, outcome, revoked=found, **{"device": "", **more})


MAYBE_REVOKED = revoked_all(1, outcome="UNAVAILABLE")
REFUSED = revoked_all(1, outcome="ABORTED")
LISTS_PHONE = call(Kind.LIST, 2, listed=((PHONE, "a"),))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([signed_in(0, "a"), presented(1, "a", "ACTIVE")], True),
        ([signed_in(0, "a"), presented(1, "a", "NO_SESSION")], False),
        ([signed_in(0, "a"), revoked_all(1, 1), presented(2, "a", "ACTIVE")], False),
        ([signed_in(0, "a"), revoked_all(1, 1), presented(2, "a", "NO_SESSION")], True),
        ([signed_in(0, "a"), revoked_all(1, 0)], False),
        ([signed_in(0, "a"), signed_in(0, "b", LAPTOP), revoked_all(1, 2)], True),
        ([signed_in(0, "a"), signed_in(0, "b", LAPTOP), revoked_all(1, 1)], False),
        ([signed_in(0, "a"), revoked_all(1, 0, device=PHONE)], True),
        # At the same time: either order.
        ([signed_in(0, "a", ended=3), revoked_all(1, 1), presented(4, "a", "NO_SESSION")], True),
        ([signed_in(0, "a", ended=3), revoked_all(1, 0), presented(4, "a", "ACTIVE")], True),
        # Each alone is possible; both together are not.
        ([signed_in(0, "a", ended=3), revoked_all(1, 1), presented(4, "a", "ACTIVE")], False),
        ([signed_in(0, "a", ended=3), revoked_all(1, 0), presented(4, "a", "NO_SESSION")], False),
        # Without an answer: at some time, or never.
        ([signed_in(0, "a"), MAYBE_REVOKED, presented(5, "a", "ACTIVE")], True),
        (
            [signed_in(0, "a"), MAYBE_REVOKED, presented(5, "a", "NO_SESSION")],
            True,
        ),
        (
            [
                *(signed_in(0, "a"), MAYBE_REVOKED),
                *(presented(5, "a", "NO_SESSION"), presented(6, "a", "ACTIVE")),
            ],
            False,
        ),
        # Another session in its place.
        ([signed_in(0, "a"), signed_in(1, "b"), presented(2, "a", "SUPERSEDED")], True),
        ([signed_in(0, "a"), signed_in(1, "b"), presented(2, "a", "SESSION_ENDED")], True),
        ([signed_in(0, "a"), signed_in(1, "b"), presented(2, "a", "ACTIVE")], False),
        ([signed_in(0, "a"), presented(2, "a", "SUPERSEDED")], False),
        ([signed_in(0, "a"), presented(2, "a", "REPLAYED")], False),
        # One device, and lists.
        ([signed_in(0, "a"), call(Kind.REVOKE_DEVICE, 1, revoked=1)], True),
        ([signed_in(0, "a"), call(Kind.REVOKE_DEVICE, 1, revoked=0)], False),
        ([signed_in(0, "a"), LISTS_PHONE], True),
        ([signed_in(0, "a"), call(Kind.LIST, 1)], False),
        ([signed_in(0, "a"), revoked_all(1, 1), LISTS_PHONE], False),
        # Refused: nothing was done.
        ([signed_in(0, "a"), REFUSED, presented(2, "a", "NO_SESSION")], False),
    ],
)  # fmt: skip
def test_an_order_is_found_if_there_is_one(calls: list[Call], expected: bool) -> None:
    assert is_linearizable(calls) is expected


def test_the_log_shows_the_session_of_a_sign_in_without_an_answer() -> None:
    lost = call(Kind.SIGN_IN, 0, "UNAVAILABLE", request="r")
    assert not is_linearizable([lost, LISTS_PHONE])
    assert is_linearizable([lost, LISTS_PHONE], {lost.number: "a"})

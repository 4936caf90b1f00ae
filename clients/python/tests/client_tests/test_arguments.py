"""A bad argument raises an error that names it, at once, and nothing is sent. Text of an end user
is never such an error.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake
from session_authority_client._sync.visits import Visits
from session_authority_client.flow import Flow

NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001 - that is what it is about
HALF = "\ud800"  # JSON can contain it: json.loads('"\\ud800"')

Calling = Callable[[Any], Any]


def _call(method: str, given: list[Any], flag: str, client: Any) -> Any:
    return getattr(client, method)(*given, **{flag: "yes"})


MISTAKES: dict[str, tuple[Calling, type[Exception], str]] = {
    "a token in bytes": (lambda c: c.validate_session(b"t", "d"), TypeError, "access_token: a str"),
    "no token": (
        lambda c: c.renew_session(None, "d"),
        TypeError,
        "access_token: a str .empty if there is none., not NoneType",
    ),
    "a UUID": (
        lambda c: c.validate_session("t", uuid4()),
        TypeError,
        "device_id: a str .*, not UUID",
    ),
    "a number for a user": (lambda c: c.revoke_all(7), TypeError, "user_id: a str, not int"),
    "a user in bytes": (
        lambda c: c.revoke_device(b"ada", "d"),
        TypeError,
        "user_id: a str, not bytes",
    ),
    "a dict for a client": (
        lambda c: c.issue_device("ada", client={}),
        TypeError,
        "client: a ClientInfo, not dict",
    ),
    "a number for a claim": (
        lambda c: c.issue_device("ada", claims={"n": 1}),
        TypeError,
        r"claims\[n\]: a str, not int",
    ),
    "a list of claims": (
        lambda c: c.issue_device("ada", claims=["n"]),
        TypeError,
        "claims: a mapping",
    ),
    **{
        f"a text for {flag} of {method}": (
            partial(_call, method, given, flag),
            TypeError,
            f"^{flag}: a bool, not str$",
        )
        for method, given, flags in (
            ("issue_device", ["ada"], ["require_replicated"]),
            ("renew_session", ["t", "d"], ["passive", "require_replicated"]),
            ("update_session", ["ada", {}], ["require_replicated"]),
            ("validate_session", ["t", "d"], ["observe_only", "passive"]),
            ("list_devices", ["ada"], ["include_signed_out"]),
            ("revoke_device", ["ada", "d"], ["forget", "require_replicated"]),
            ("revoke_all", ["ada"], ["forget", "require_replicated"]),
        )
        for flag in flags
    },
    "a text for a flag of a name": (
        lambda c: c.update_device("ada", "d", display_name="x", require_replicated="yes"),
        TypeError,
        "^require_replicated: a bool, not str$",
    ),
    "a text for a number": (
        lambda c: c.list_devices("ada", page_size="2"),
        TypeError,
        "^page_size: an int, not str$",
    ),
    "one method": (
        lambda c: c.issue_device("ada", auth_methods="pwd"),
        TypeError,
        "auth_methods: several texts, not str",
    ),
    "a lifetime as text": (
        lambda c: c.issue_device("ada", session_ttl="2h"),
        TypeError,
        "session_ttl: a timedelta, not str",
    ),
    "a timeout in seconds": (
        lambda c: c.get_signing_keys(timeout=2),
        TypeError,
        "timeout: a timedelta, not int",
    ),
    "a negative timeout": (
        lambda c: c.validate_session("t", "d", timeout=timedelta(seconds=-1)),
        ValueError,
        "timeout: more than nothing",
    ),
    "no time": (
        lambda c: c.get_signing_keys(timeout=timedelta(0)),
        ValueError,
        "timeout: more than nothing",
    ),
    "tokens without devices": (
        lambda c: c.validate_sessions(["ab"]),
        TypeError,
        "presented: pairs of access token",
    ),
    "a naive time": (
        lambda c: first(c.watch_events(since=NAIVE)),
        ValueError,
        "since: must be aware",
    ),
    "a day": (
        lambda c: first(c.watch_events(since=date(2026, 1, 2))),
        TypeError,
        "since: a datetime, not date",
    ),
    "one user": (
        lambda c: first(c.watch_events(user_ids="ada")),
        TypeError,
        "user_ids: several texts, not str",
    ),
    "one type": (
        lambda c: first(c.watch_events(types=sa.EventType.ALL_REVOKED)),
        TypeError,
        "types: several of EventType",
    ),
    "a type's name": (
        lambda c: first(c.watch_events(types=["ALL_REVOKED"])),
        TypeError,
        "types: each of EventType, not str",
    ),
}


async def first(watch: Any) -> Any:
    return await anext(aiter(watch))


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_raises_an_error_that_names_the_argument(
    connect: Connect, fake: Fake, mistake: str
):
    call, error, text = MISTAKES[mistake]
    async with connect(fake.address, timeout=PATIENCE) as client:
        with pytest.raises(error, match=text):
            await call(client)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"timeout": 2}, TypeError, "timeout: a timedelta, not int"),
        ({"timeout": timedelta(seconds=-1)}, ValueError, "timeout: more than nothing"),
        ({"token": b"secret"}, TypeError, "token: a str or a function that returns one, not bytes"),
        ({"tls": True}, TypeError, "tls: a Tls, not bool"),
        ({"target": "https://sessions.internal:50051"}, ValueError, "target: host:port"),
        ({"target": ""}, ValueError, "target: host:port"),
        ({"target": None}, TypeError, "target: a str, not NoneType"),
    ],
)
async def test_a_client_with_bad_settings_is_not_made(
    connect: Connect, given: dict[str, Any], error: type[Exception], text: str
):
    with pytest.raises(error, match=text):
        connect(**{"target": "127.0.0.1:1", **given})


def test_certificates_are_bytes_and_not_paths():
    with pytest.raises(TypeError, match="root_certificates: PEM in bytes, not str"):
        sa.Tls("ca.pem")  # type: ignore[arg-type]


async def test_a_token_function_that_returns_no_text_fails_without_showing_the_value(
    connect: Connect, fake: Fake
):
    async with connect(fake.address, timeout=PATIENCE, token=lambda: b"hunter2") as client:
        with pytest.raises(
            sa.Unavailable, match="token: what the function returns is no str but bytes"
        ) as caught:
            await client.get_signing_keys()
    assert "hunter2" not in str(caught.value)
    assert fake.calls == []


async def test_malformed_text_of_an_end_user_is_sent_to_the_service(connect: Connect, fake: Fake):
    mobile = sa.ClientInfo(user_agent=f"Mozilla{HALF} \u00fc")
    async with connect(fake.address, timeout=PATIENCE) as client:
        await client.validate_session(f"t{HALF}", f"d{HALF}", client=mobile)
        await client.validate_sessions([(f"t{HALF}", "\u00fc")])
    one, [two] = fake.calls[0].request, fake.calls[1].request.requests
    assert (one.access_token, one.device_id, one.client.user_agent) == (
        "t?",
        "d?",
        "Mozilla? \u00fc",
    )
    assert (two.access_token, two.device_id) == ("t?", "\u00fc")


async def test_a_display_name_that_is_not_valid_text_is_an_invalid_request(
    connect: Connect, fake: Fake
):
    async with connect(fake.address, timeout=PATIENCE) as client:
        with pytest.raises(sa.InvalidRequest) as caught:
            await client.update_device("ada", "d", display_name=f"phone{HALF}")
    assert [violation.field for violation in caught.value.violations] == ["display_name"]
    assert fake.calls == []


async def test_an_aware_start_time_is_sent_as_that_moment(connect: Connect, fake: Fake):
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    async with connect(fake.address, timeout=PATIENCE) as client:
        assert [batch async for batch in client.watch_events(since=moment)] == []
    assert fake.calls[0].request.start_time.ToDatetime(UTC) == moment


@pytest.mark.parametrize("device_id", [5, 0, b"d", uuid4(), ["d"]])
def test_sign_out_refuses_a_device_id_that_is_not_a_str(fake: Fake, device_id: Any):
    visits = Visits(lambda: sa.SessionAuthority(fake.address, timeout=PATIENCE), Flow())
    kind = type(device_id).__name__
    with pytest.raises(TypeError, match=f"^device_id: a str, not {kind}$"):
        visits.open("POST", {}, "127.0.0.1").sign_out(device_id)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("flag", "call"),
    [
        ("remember", lambda visit: visit.sign_in("ada", remember="no")),
        ("except_current", lambda visit: visit.sign_out_everywhere(except_current="no")),
        ("batching", lambda _: sa.SessionAuthority("localhost:1", batching="no")),  # type: ignore[arg-type]
    ],
)
def test_a_flag_refuses_a_text(fake: Fake, flag: str, call: Callable[[Any], object]):
    visits = Visits(lambda: sa.SessionAuthority(fake.address, timeout=PATIENCE), Flow())
    with pytest.raises(TypeError, match=f"^{flag}: a bool, not str$"):
        call(visits.open("POST", {}, "127.0.0.1"))
    assert fake.calls == []


@pytest.mark.parametrize("device_id", ["", "nonsense", f"d{HALF}", str(UUID(int=0))])
def test_sign_out_refuses_a_text_that_is_not_a_device_id(fake: Fake, device_id: str):
    """Otherwise an app would report the sign-out of a device that it has not even named."""
    visits = Visits(lambda: sa.SessionAuthority(fake.address, timeout=PATIENCE), Flow())
    with pytest.raises(sa.InvalidRequest, match=r"^device_id: must be a UUID, ") as caught:
        visits.open("POST", {}, "127.0.0.1").sign_out(device_id)
    assert [violation.field for violation in caught.value.violations] == ["device_id"]
    assert fake.calls == []

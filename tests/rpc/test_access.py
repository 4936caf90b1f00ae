"""Who is let in over the wire: every caller at every RPC, and everybody who is not who they should
be.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import structlog

from session_authority.access import everybody, new_token
from session_authority.domain.errors import CallerNotAllowed
from session_authority.processes.options import Ports
from session_authority.rpc import Authorizer
from session_authority.rpc.authorization import _is_loopback_peer
from session_authority.runtime import logs
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access_harness import (
    ANSWERED,
    METHODS,
    POLICY,
    SPIFFE,
    UNKNOWN,
    House,
    Visitor,
    body_of,
    ended,
    not_allowed,
    path_of,
    visiting,
)
from tests.rpc.frames import line_to, status_of
from tests.rpc.harness import ANYWHERE, PATIENCE, Refusal, Stage, StageWith, refusal_of
from tests.support.ca import CA, Pair

PUBLIC = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
# What each caller of the policy may call beside that.
MAY_CALL = {
    "login": {"IssueDevice", "RenewSession", "GetSigningKeys"},
    "gateway": {"ValidateSession", "BatchValidateSessions", "GetSigningKeys"},
    "account": {"ListDevices", "UpdateDevice", "RevokeDevice", "RevokeAll"},
    "notifier": {"WatchEvents"},
    "ops": {
        "IssueDevice",
        "RenewSession",
        "ValidateSession",
        "BatchValidateSessions",
        "GetSigningKeys",
        "ListDevices",
        "UpdateDevice",
        "RevokeDevice",
        "RevokeAll",
        "WatchEvents",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    },
    "auditor": {"ListDevices"},
}
ALL_PORTS = Ports(ANYWHERE, bearer=ANYWHERE, health=ANYWHERE)

Enter = Callable[..., Any]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


@pytest.fixture
async def stage(stage_with: StageWith, house: House) -> Stage:
    """A server that wants certificates on one port, tokens on another, and answers for its health
    on a third.
    """
    running: Stage = await stage_with(doors=house.doors(), ports=ALL_PORTS, reflection=True)
    return running


@pytest.fixture
async def enter(stage: Stage, house: House) -> AsyncIterator[Enter]:
    """A visitor at the door that is for them: the callers of the policy by name, or whoever shows
    what is given.
    """
    async with AsyncExitStack() as stack:

        async def go(name: str = "", **shows: Any) -> Visitor:
            shows.setdefault("pair", house.pairs.get(name))
            shows.setdefault("token", house.tokens.get(name))
            door = stage.ports.main if shows["pair"] else stage.ports.bearer
            shows.setdefault("trust", house.ca.pem)
            visitor = visiting(shows.pop("address", door), **shows)
            return await stack.enter_async_context(visitor)

        yield go


async def outcomes(visitor: Visitor) -> dict[str, Refusal]:
    return {path: await visitor.outcome(path) for path in METHODS}


# --- every caller, every RPC ----------------------------------------------------------------------


def test_every_kind_of_caller_is_tried():
    callers = {
        line.removeprefix("[callers.").rstrip("]")
        for line in POLICY.splitlines()
        if line.startswith("[")
    }
    assert set(MAY_CALL) == callers
    assert PUBLIC | {path_of(name) for name in MAY_CALL["ops"]} == set(METHODS)


@pytest.mark.parametrize("name", sorted(MAY_CALL))
async def test_a_caller_may_call_what_is_written_and_nothing_else(
    stage: Stage, enter: Enter, name: str
):
    allowed = PUBLIC | {path_of(method) for method in MAY_CALL[name]}
    wanted = {path: ANSWERED if path in allowed else not_allowed(path) for path in METHODS}
    found = await outcomes(await enter(name))
    update = path_of("UpdateDevice")
    if update in allowed:
        assert (found[update].code, found[update].reason) == (
            grpc.StatusCode.NOT_FOUND,
            "DEVICE_NOT_FOUND",
        )
        wanted[update] = found[update]
    assert found == wanted


async def test_who_is_unknown_may_ask_after_its_health_and_nothing_else(enter: Enter):
    wanted = {path: ANSWERED if path in PUBLIC else UNKNOWN for path in METHODS}
    assert await outcomes(await enter()) == wanted
    assert await outcomes(await enter(token=new_token())) == wanted


def test_an_rpc_that_no_row_names_is_nobodys():
    context: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:5")
    for path in ("/session_authority.v1.SessionAuthorityService/New", "", "/"):
        with pytest.raises(CallerNotAllowed):
            Authorizer(everybody).admit(path, context)


async def test_who_is_denied_leaves_nothing_done(stage: Stage, enter: Enter):
    login, ops = await enter("login"), await enter("ops")
    signed_in = await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    before = await stage.dump()
    for name in ("gateway", "notifier", "auditor"):
        visitor = await enter(name)
        for method in ("IssueDevice", "RevokeAll", "RevokeDevice", "UpdateDevice"):
            assert (await visitor.outcome(method)).code is grpc.StatusCode.PERMISSION_DENIED
    nobody = await enter()
    for method in ("IssueDevice", "RevokeAll"):
        assert await nobody.outcome(method) == UNKNOWN
    assert await stage.dump() == before
    ask = pb.ValidateSessionRequest(
        access_token=signed_in.access_token, device_id=signed_in.device.device_id
    )
    assert (await ops.call("ValidateSession", ask)).active


@pytest.mark.parametrize("body", [b"\xff\xff", b"x" * 70_000], ids=["nonsense", "too large"])
async def test_nothing_of_a_request_is_looked_at_before_who_sends_it(enter: Enter, body: bytes):
    for visitor, wanted in (
        (await enter("gateway"), not_allowed("IssueDevice")),
        (await enter(), UNKNOWN),
    ):
        call = visitor.channel.unary_unary(path_of("IssueDevice"))(
            body, timeout=PATIENCE, metadata=visitor._metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert refusal_of(caught.value) == wanted


# --- looking without a trace ----------------------------------------------------------------------


async def test_only_an_operator_may_ask_without_a_trace(enter: Enter):
    ask = pb.ValidateSessionRequest(observe_only=True)
    assert (
        await (await enter("ops")).call("ValidateSession", ask)
    ).status == pb.SESSION_STATUS_TOKEN_MISSING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (await enter("gateway")).call("ValidateSession", ask)
    assert refusal_of(caught.value) == Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        "the caller may not ask with observe_only",
        "CALLER_NOT_ALLOWED",
        "session-authority",
    )


async def test_in_a_batch_it_fails_alone(enter: Enter):
    asks = [pb.ValidateSessionRequest(observe_only=number == 1) for number in range(3)]
    batch = pb.BatchValidateSessionsRequest(requests=asks)
    results = (await (await enter("gateway")).call("BatchValidateSessions", batch)).results
    assert [result.WhichOneof("outcome") for result in results] == ["response", "error", "response"]
    error = results[1].error
    assert (error.code, error.reason) == (7, errors_pb2.ERROR_REASON_CALLER_NOT_ALLOWED)
    assert error.message == "the caller may not ask with observe_only"
    results = (await (await enter("ops")).call("BatchValidateSessions", batch)).results
    assert [result.WhichOneof("outcome") for result in results] == ["response"] * 3


# --- tokens ---------------------------------------------------------------------------------------


def bearing(value: str) -> list[tuple[str, str]]:
    return [("authorization", value)]


async def test_the_scheme_is_read_in_any_case(house: House, enter: Enter):
    visitor = await enter()
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (
            await visitor.outcome("ListDevices", bearing(f"{scheme} {house.tokens['account']}"))
            == ANSWERED
        )


WRONG = {
    "nothing": lambda _: [],
    "empty": lambda _: bearing(""),
    "no scheme": lambda token: bearing(token),
    "no token": lambda _: bearing("Bearer"),
    "no token but a space": lambda _: bearing("Bearer "),
    "Basic": lambda token: bearing(f"Basic {token}"),
    "another scheme": lambda token: bearing(f"BearerX {token}"),
    "no space": lambda token: bearing(f"Bearer{token}"),
    "two spaces": lambda token: bearing(f"Bearer  {token}"),
    "a space before": lambda token: bearing(f" Bearer {token}"),
    "a word after": lambda token: bearing(f"Bearer {token} x"),
    "a comma": lambda token: bearing(f"Bearer {token},Bearer {token}"),
    "twice": lambda token: bearing(f"Bearer {token}") * 2,
    "twice, the second wrong": lambda token: [*bearing(f"Bearer {token}"), *bearing("Bearer x")],
    "twice, the first wrong": lambda token: [*bearing("Bearer x"), *bearing(f"Bearer {token}")],
    "other metadata": lambda token: [("x-authorization", f"Bearer {token}")],
    "binary metadata": lambda token: [("authorization-bin", f"Bearer {token}".encode())],
    "other case": lambda token: bearing(f"Bearer {token.swapcase()}"),
    "prefix only": lambda _: bearing("Bearer sacall_"),
    "without its prefix": lambda token: bearing(f"Bearer {token.removeprefix('sacall_')}"),
    "cut": lambda token: bearing(f"Bearer {token[:-1]}"),
    "longer": lambda token: bearing(f"Bearer {token}A"),
    "another": lambda _: bearing(f"Bearer {new_token()}"),
    "8 KiB": lambda token: bearing(f"Bearer {token}{'A' * 8192}"),
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_token_that_is_not_shown_as_it_should_be(house: House, enter: Enter, how: str):
    visitor = await enter()
    assert await visitor.outcome("ListDevices", WRONG[how](house.tokens["account"])) == UNKNOWN
    assert (
        await visitor.outcome("ListDevices", bearing(f"Bearer {house.tokens['account']}"))
        == ANSWERED
    )


BEARER = b"Bearer "


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"", 0),
        (b"\xff", 16),
        (b"\xe4\xf6\xfc", 16),
        ("☃".encode(), 16),
        (b"\0", 16),
        (b"\r\nx: y", 16),
        (b"\t", 16),
        (b" ", 16),
    ],
)
async def test_a_header_that_no_client_of_grpcs_would_send(
    stage_with: StageWith, house: House, value: bytes, status: int
):
    stage = await stage_with(doors=house.doors(tls=False))
    shown = ("authorization", BEARER + house.tokens["account"].encode() + value)
    async with line_to(stage.address) as line, asyncio.timeout(PATIENCE):
        found = await status_of(
            line, path_of("ListDevices"), body_of(path_of("ListDevices")), shown
        )
    assert found == status
    async with visiting(stage.address, token=house.tokens["account"]) as visitor:
        assert await visitor.outcome("ListDevices") == ANSWERED


async def test_a_certificate_counts_whatever_token_comes_with_it(house: House, enter: Enter):
    visitor = await enter("login", token=house.tokens["ops"])
    assert await visitor.outcome("IssueDevice") == ANSWERED
    assert await visitor.outcome("RevokeAll") == not_allowed("RevokeAll")
    visitor = await enter("login", token="nonsense")
    assert await visitor.outcome("IssueDevice") == ANSWERED


async def test_tokens_over_plaintext_from_this_machine(stage_with: StageWith, house: House):
    stage = await stage_with(doors=house.doors(tls=False))
    async with visiting(stage.ports.main, token=house.tokens["account"]) as visitor:
        assert await visitor.outcome("ListDevices") == ANSWERED


IN_PLAINTEXT = Refusal(
    grpc.StatusCode.UNAUTHENTICATED,
    "a bearer token is taken over TLS only; this one can be read on its way: replace it",
    "CALLER_UNKNOWN",
    "session-authority",
)


@pytest.mark.parametrize("allowed", [False, True])
async def test_tokens_over_plaintext_from_elsewhere(
    stage_with: StageWith, house: House, monkeypatch: pytest.MonkeyPatch, allowed: bool
):
    asked: list[str] = []
    monkeypatch.setattr(
        "session_authority.rpc.authorization._is_loopback_peer", asked.append
    )  # whoever it is: from elsewhere
    stage = await stage_with(doors=house.doors(tls=False, plaintext_tokens=allowed))
    async with visiting(stage.ports.main, token=house.tokens["account"]) as visitor:
        assert await visitor.outcome("ListDevices") == (ANSWERED if allowed else IN_PLAINTEXT)
    async with visiting(stage.ports.main, token=new_token()) as visitor:
        assert await visitor.outcome("ListDevices") == (UNKNOWN if allowed else IN_PLAINTEXT), (
            "says nothing of a token"
        )
    assert len(asked) == (0 if allowed else 2)
    assert all(peer.startswith("ipv4:127.0.0.1:") for peer in asked)


async def test_tokens_over_tls_from_elsewhere(enter: Enter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("session_authority.rpc.authorization._is_loopback_peer", lambda _: False)
    assert await (await enter("account")).outcome("ListDevices") == ANSWERED


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("ipv4:127.0.0.1:5", True),
        ("ipv4:127.255.0.9:50000", True),
        ("ipv6:%5B::1%5D:123", True),
        ("ipv6:[::1]:123", True),
        ("ipv6:[::ffff:127.0.0.1]:5", True),
        ("unix:", True),
        ("unix:/run/session-authority.sock", True),
        ("ipv4:128.0.0.1:5", False),
        ("ipv4:203.0.113.5:127", False),
        ("ipv4:0.0.0.0:5", False),
        ("ipv6:%5B2001:db8::1%5D:123", False),
        ("ipv6:[::ffff:203.0.113.5]:5", False),
        ("ipv6:[fe80::1%25eth0]:5", False),
        ("ipv6:[::]:1", False),
        ("dns:localhost:5", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_whether_a_peer_is_on_this_machine(peer: str, here: bool):
    assert _is_loopback_peer(peer) is here


# --- certificates ---------------------------------------------------------------------------------

SECOND = timedelta(seconds=1)
BAD: dict[str, Callable[[House], Pair]] = {
    "expired": lambda house: house.ca.sign(uris=[f"{SPIFFE}ops"], ends=-SECOND),
    "not valid yet": lambda house: house.ca.sign(
        uris=[f"{SPIFFE}login"], starts=timedelta(hours=1)
    ),
    "signed by itself": lambda house: house.ca.sign(uris=[f"{SPIFFE}login"], self_signed=True),
    "no names": lambda house: house.ca.sign(),
    "common name only": lambda house: house.ca.sign(common_name="gateway.internal"),
    "common name beside an unknown one": lambda house: house.ca.sign(
        common_name="gateway.internal", hosts=["a.internal"]
    ),
    "unknown URI": lambda house: house.ca.sign(uris=[f"{SPIFFE}somebody"]),
    "unknown host": lambda house: house.ca.sign(hosts=["somebody.internal"]),
    "an address": lambda house: house.ca.sign(addresses=["127.0.0.1"]),
    "longer URI": lambda house: house.ca.sign(uris=[f"{SPIFFE}login/x"]),
    "shorter URI": lambda house: house.ca.sign(uris=[f"{SPIFFE}logi"]),
    "other trust domain": lambda house: house.ca.sign(uris=["spiffe://example.com/login"]),
    "URI in other case": lambda house: house.ca.sign(uris=[f"{SPIFFE}Login"]),
    "URI cut by a NUL": lambda house: house.ca.sign(uris=[f"{SPIFFE}login\0.evil"]),
    "host cut by a NUL": lambda house: house.ca.sign(hosts=["gateway.internal\0.evil.example"]),
    "subdomain": lambda house: house.ca.sign(hosts=["x.gateway.internal"]),
    "wildcard": lambda house: house.ca.sign(hosts=["*.internal"]),
    "two callers": lambda house: house.ca.sign(uris=[f"{SPIFFE}login", f"{SPIFFE}gateway"]),
    "two callers, of two kinds": lambda house: house.ca.sign(
        uris=[f"{SPIFFE}login"], hosts=["gateway.internal"]
    ),
    "a URI that is a host's name": lambda house: house.ca.sign(uris=["gateway.internal"]),
    "a host that is a URI": lambda house: house.ca.sign(hosts=[f"{SPIFFE}login"]),
    "another authority's": lambda house: CA(house.policy.parent / "other", "other").sign(
        uris=[f"{SPIFFE}login"]
    ),
    "an authority's of the same name": lambda house: CA(house.policy.parent / "other").sign(
        uris=[f"{SPIFFE}login"]
    ),
}
# These don't get as far as a call.
HANGS_UP = {
    "expired",
    "not valid yet",
    "signed by itself",
    "another authority's",
    "an authority's of the same name",
}


@pytest.mark.parametrize("how", BAD)
async def test_a_certificate_that_shows_nothing(stage: Stage, house: House, enter: Enter, how: str):
    visitor = await enter(pair=BAD[how](house))
    for method in ("IssueDevice", "ValidateSession"):
        refusal = await visitor.outcome(method)
        if how in HANGS_UP:
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
        else:
            assert refusal == UNKNOWN
    assert await stage.dump() == {}


async def test_without_a_certificate_the_main_door_is_shut(
    stage: Stage, house: House, enter: Enter
):
    for shows in ({}, {"token": house.tokens["ops"]}):
        visitor = await enter(address=stage.ports.main, **shows)
        for path in METHODS:
            assert (await visitor.outcome(path)).code is grpc.StatusCode.UNAVAILABLE


async def test_the_door_for_tokens_knows_no_certificates(stage: Stage, house: House, enter: Enter):
    visitor = await enter("login", address=stage.ports.bearer)
    assert await visitor.outcome("IssueDevice") == UNKNOWN


async def test_a_hosts_name_is_the_same_in_any_case(house: House, enter: Enter):
    pair = house.ca.sign(hosts=["Gateway.INTERNAL"])
    assert await (await enter(pair=pair)).outcome("ValidateSession") == ANSWERED


async def test_several_names_of_one_caller_stand_for_it(house: House, enter: Enter):
    pair = house.ca.sign(uris=[f"{SPIFFE}gateway"], hosts=["pod-1.internal", "gateway.internal"])
    assert await (await enter(pair=pair)).outcome("ValidateSession") == ANSWERED


async def test_an_authority_in_between_is_trusted_if_it_comes_along(
    house: House, enter: Enter, tmp_path: Path
):
    between = CA(tmp_path / "between", "between", above=house.ca)
    pair = between.sign(uris=[f"{SPIFFE}login"])
    assert (
        await (await enter(pair=pair)).outcome("IssueDevice")
    ).code is grpc.StatusCode.UNAVAILABLE
    pair.certificate.write_bytes(pair.certificate.read_bytes() + between.pem)
    assert await (await enter(pair=pair)).outcome("IssueDevice") == ANSWERED


async def test_plaintext_to_a_door_with_tls_is_no_call(stage: Stage, house: House):
    for door in (stage.ports.main, stage.ports.bearer):
        async with visiting(door, token=house.tokens["ops"]) as visitor:
            assert (await visitor.outcome("ListDevices")).code is grpc.StatusCode.UNAVAILABLE


async def test_the_door_for_health_answers_nothing_else(stage: Stage, house: House):
    async with visiting(
        stage.ports.bearer, trust=house.ca.pem, token=house.tokens["ops"]
    ) as visitor:
        await outcomes(
            visitor
        )  # what another door has answered before must not be known at this one
    async with visiting(stage.ports.health, token=house.tokens["ops"]) as visitor:
        found = await outcomes(visitor)
    assert {path for path, refusal in found.items() if refusal == ANSWERED} == PUBLIC
    assert {refusal.code for path, refusal in found.items() if path not in PUBLIC} == {
        grpc.StatusCode.UNIMPLEMENTED
    }


# --- paths ----------------------------------------------------------------------------------------

ISSUE = path_of("IssueDevice")


@pytest.mark.parametrize(
    "path",
    [
        ISSUE[1:],
        f"/{ISSUE}",
        ISSUE.replace("/IssueDevice", "//IssueDevice"),
        f"{ISSUE}/",
        f"{ISSUE}?x",
        f"{ISSUE}#x",
        f"{ISSUE} ",
        ISSUE.lower(),
        ISSUE.upper(),
        ISSUE.replace("/IssueDevice", "/issueDevice"),
        ISSUE.replace("IssueDevice", "Issue%44evice"),
        ISSUE.replace("/IssueDevice", "%2FIssueDevice"),
        f"{ISSUE}\0",
        ISSUE.replace("IssueDevice", "\0IssueDevice"),
        f"https://127.0.0.1{ISSUE}",
        f"//127.0.0.1{ISSUE}",
        f"/../{ISSUE[1:]}",
        f"/.{ISSUE}",
        f"/grpc.health.v1.Health/Check/..{ISSUE}",
        f"/grpc.health.v1.Health{ISSUE}",
        "/session_authority.v1.SessionAuthorityService/",
        "/session_authority.v1.SessionAuthorityService",
        "/",
        "",
    ],
)
async def test_a_path_that_is_not_exactly_an_rpcs_leads_nowhere(
    stage: Stage, enter: Enter, path: str
):
    seen, sound = [], stage.server._guards[0].intercept_service

    async def intercept(continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await sound(continuation, details)
        seen.append((details.method, handler))
        return handler

    stage.server._guards[0].intercept_service = intercept  # type: ignore[method-assign]
    visitors = [await enter("login"), await enter("ops"), await enter()]
    for visitor in visitors:
        call = visitor.channel.unary_unary(path)(
            body_of(ISSUE), timeout=PATIENCE, metadata=visitor._metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    # gRPC itself turns some away.
    assert seen in ([], [(path, None)] * len(visitors)), (
        "it came as it was sent, and nothing answers to it"
    )
    assert await stage.dump() == {}


# --- who it was -----------------------------------------------------------------------------------


async def test_an_event_names_the_caller_whose_call_it_was(stage: Stage, enter: Enter):
    login, gateway, account = [await enter(name) for name in ("login", "gateway", "account")]
    phone, laptop = [
        await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada")) for _ in range(2)
    ]
    await account.call(
        "RevokeDevice", pb.RevokeDeviceRequest(user_id="ada", device_id=laptop.device.device_id)
    )
    stolen = pb.ValidateSessionRequest(
        access_token=phone.access_token, device_id=laptop.device.device_id
    )
    assert (await gateway.call("ValidateSession", stolen)).status == pb.SESSION_STATUS_REPLAYED
    await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    await account.call("RevokeAll", pb.RevokeAllRequest(user_id="ada"))
    found = [
        (pb.EventType.Name(e.type).removeprefix("EVENT_TYPE_"), e.actor)
        for e in await events(stage, enter)
    ]
    assert found == [
        ("DEVICE_SIGNED_IN", "login"),
        ("DEVICE_SIGNED_IN", "login"),
        ("DEVICE_REVOKED", "account"),
        ("SESSION_REPLAYED", "gateway"),
        ("DEVICE_SIGNED_IN", "login"),
        ("ALL_REVOKED", "account"),
    ]


async def events(stage: Stage, enter: Enter) -> list[pb.Event]:
    """Everything that happened."""
    ops = await enter("ops")
    request = pb.WatchEventsRequest()
    request.start_time.FromDatetime(stage.clock().replace(tzinfo=None))
    call = ops.channel.unary_stream(
        path_of("WatchEvents"), response_deserializer=pb.WatchEventsResponse.FromString
    )
    stream = call(request.SerializeToString(), timeout=PATIENCE, metadata=ops._metadata)
    found: list[pb.Event] = []
    while not found:
        found += (await stream.read()).events
    stream.cancel()
    return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as the service sets logging up."""
    stream = io.StringIO()
    logs.configure("info", stream)
    structlog.configure(
        cache_logger_on_first_use=False
    )  # or the loggers of all modules would keep this stream
    yield stream
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def entries(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [entry for entry in found if entry["event"] == event]


async def test_a_line_of_the_log_names_the_caller_whose_call_it_was(
    log: io.StringIO, stage: Stage, enter: Enter
):
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    stage.authority.issue_device = fail
    stage.authority.list_devices = fail
    calls = [
        ("login", "IssueDevice"),
        ("account", "ListDevices"),
        ("auditor", "ListDevices"),
        ("ops", "IssueDevice"),
    ]
    for name, method in calls:
        assert (await (await enter(name)).outcome(method)).code is grpc.StatusCode.INTERNAL
    assert [(entry["caller"], entry["method"]) for entry in entries(log, "internal_error")] == calls


async def test_what_is_done_for_all_watchers_names_none_of_them(
    log: io.StringIO, stage: Stage, enter: Enter
):
    notifier = await enter("notifier")
    watch = notifier.watch()
    await watch.read()

    async def fail(full: bool) -> None:
        raise RuntimeError

    stage.feed._round = fail  # type: ignore[method-assign]
    assert (await ended(watch)).code is grpc.StatusCode.OUT_OF_RANGE
    assert entries(log, "feed_failed")
    assert not any("caller" in entry for entry in entries(log, "feed_failed"))


async def test_who_is_refused_is_in_the_log_without_what_was_shown(
    log: io.StringIO, stage: Stage, house: House, enter: Enter
):
    token = new_token()
    await (await enter("gateway")).outcome("RevokeAll")
    await (await enter(token=token)).outcome("RevokeAll")
    [denied] = entries(log, "caller_not_allowed")
    assert (denied["caller"], denied["method"], denied["level"]) == (
        "gateway",
        path_of("RevokeAll"),
        "warning",
    )
    [unknown] = entries(log, "caller_unknown")
    assert (unknown["method"], unknown["why"], "caller" in unknown) == (
        path_of("RevokeAll"),
        UNKNOWN.message,
        False,
    )
    assert unknown["peer"].startswith("ipv4:127.0.0.1:")
    assert token not in log.getvalue()
    assert not any(token in log.getvalue() for token in house.tokens.values())


async def test_a_flood_of_refusals_is_no_flood_of_lines(
    log: io.StringIO, enter: Enter, monkeypatch: pytest.MonkeyPatch
):
    moment = 100.0
    monkeypatch.setattr("session_authority.rpc.authorization.monotonic", lambda: moment)
    visitor = await enter("gateway")
    for _ in range(20):
        await visitor.outcome("RevokeAll")
    assert [entry["left_out"] for entry in entries(log, "caller_not_allowed")] == [0]
    moment += 1
    await visitor.outcome("RevokeAll")
    assert [entry["left_out"] for entry in entries(log, "caller_not_allowed")] == [0, 19]

"""The credentials of a caller: good tokens and certificates, and almost good ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from session_authority.access import new_token
from session_authority.rpc.authorization import _is_loopback_peer
from tests.rpc.access.harness import (
    ANSWERED,
    METHODS,
    PUBLIC,
    SPIFFE,
    UNKNOWN,
    Enter,
    House,
    body_of,
    not_allowed,
    outcomes,
    path_of,
    visiting,
)
from tests.rpc.frames import line_to, status_of
from tests.rpc.harness import PATIENCE, Refusal, Stage, StageWith
from tests.support.ca import CA, Pair

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
async def test_a_token_in_a_wrong_form_is_refused(house: House, enter: Enter, how: str):
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
async def test_a_header_that_no_grpc_client_would_send_is_refused(
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


async def test_tokens_over_plaintext_from_this_machine_are_accepted(
    stage_with: StageWith, house: House
):
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
async def test_tokens_over_plaintext_from_elsewhere_need_a_setting(
    stage_with: StageWith, house: House, monkeypatch: pytest.MonkeyPatch, allowed: bool
):
    asked: list[str] = []
    # Every caller counts as being elsewhere.
    monkeypatch.setattr("session_authority.rpc.authorization._is_loopback_peer", asked.append)
    stage = await stage_with(doors=house.doors(tls=False, plaintext_tokens=allowed))
    async with visiting(stage.ports.main, token=house.tokens["account"]) as visitor:
        assert await visitor.outcome("ListDevices") == (ANSWERED if allowed else IN_PLAINTEXT)
    async with visiting(stage.ports.main, token=new_token()) as visitor:
        assert await visitor.outcome("ListDevices") == (UNKNOWN if allowed else IN_PLAINTEXT), (
            "the answer does not show whether the token is good"
        )
    assert len(asked) == (0 if allowed else 2)
    assert all(peer.startswith("ipv4:127.0.0.1:") for peer in asked)


async def test_tokens_over_tls_from_elsewhere_are_accepted(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
):
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
def test_peers_on_this_machine_are_recognised(peer: str, here: bool):
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
# With these certificates, the TLS handshake fails.
HANGS_UP = {
    "expired",
    "not valid yet",
    "signed by itself",
    "another authority's",
    "an authority's of the same name",
}


@pytest.mark.parametrize("how", BAD)
async def test_a_certificate_without_a_usable_name_is_refused(
    stage: Stage, house: House, enter: Enter, how: str
):
    visitor = await enter(pair=BAD[how](house))
    for method in ("IssueDevice", "ValidateSession"):
        refusal = await visitor.outcome(method)
        if how in HANGS_UP:
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
        else:
            assert refusal == UNKNOWN
    assert await stage.dump() == {}


async def test_without_a_certificate_the_main_port_is_closed(
    stage: Stage, house: House, enter: Enter
):
    for shows in ({}, {"token": house.tokens["ops"]}):
        visitor = await enter(address=stage.ports.main, **shows)
        for path in METHODS:
            assert (await visitor.outcome(path)).code is grpc.StatusCode.UNAVAILABLE


async def test_the_port_for_tokens_asks_for_no_certificate(
    stage: Stage, house: House, enter: Enter
):
    visitor = await enter("login", address=stage.ports.bearer)
    assert await visitor.outcome("IssueDevice") == UNKNOWN


async def test_the_name_of_a_host_is_the_same_in_any_case(house: House, enter: Enter):
    pair = house.ca.sign(hosts=["Gateway.INTERNAL"])
    assert await (await enter(pair=pair)).outcome("ValidateSession") == ANSWERED


async def test_a_certificate_with_several_names_of_one_caller_is_that_caller(
    house: House, enter: Enter
):
    pair = house.ca.sign(uris=[f"{SPIFFE}gateway"], hosts=["pod-1.internal", "gateway.internal"])
    assert await (await enter(pair=pair)).outcome("ValidateSession") == ANSWERED


async def test_an_intermediate_authority_is_trusted_if_the_caller_sends_it(
    house: House, enter: Enter, tmp_path: Path
):
    between = CA(tmp_path / "between", "between", above=house.ca)
    pair = between.sign(uris=[f"{SPIFFE}login"])
    assert (
        await (await enter(pair=pair)).outcome("IssueDevice")
    ).code is grpc.StatusCode.UNAVAILABLE
    pair.certificate.write_bytes(pair.certificate.read_bytes() + between.pem)
    assert await (await enter(pair=pair)).outcome("IssueDevice") == ANSWERED


async def test_plaintext_to_a_port_with_tls_is_no_call(stage: Stage, house: House):
    for door in (stage.ports.main, stage.ports.bearer):
        async with visiting(door, token=house.tokens["ops"]) as visitor:
            assert (await visitor.outcome("ListDevices")).code is grpc.StatusCode.UNAVAILABLE


async def test_the_port_for_health_answers_nothing_else(stage: Stage, house: House):
    async with visiting(
        stage.ports.bearer, trust=house.ca.pem, token=house.tokens["ops"]
    ) as visitor:
        # These calls are answered at another port first. The port for health must still refuse
        # them.
        await outcomes(visitor)
    async with visiting(stage.ports.health, token=house.tokens["ops"]) as visitor:
        found = await outcomes(visitor)
    assert {path for path, refusal in found.items() if refusal == ANSWERED} == PUBLIC
    assert {refusal.code for path, refusal in found.items() if path not in PUBLIC} == {
        grpc.StatusCode.UNIMPLEMENTED
    }

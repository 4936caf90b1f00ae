"""How a client reaches the service: TLS and mutual TLS, bearer tokens, several servers, and the
options of its channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, behind
from session_authority.access import add_token, new_token
from session_authority.processes.grpc_server import server_options
from session_authority.rpc import Capacity
from session_authority_client._shared.transport import Transport
from tests.support.ca import CA, Pair
from tests.support.commands import dev_server
from tests.support.proxy import Proxy

TOKEN = "hunter2-hunter2"


@pytest.fixture
def authority(tmp_path: Path) -> CA:
    return CA(tmp_path)


@pytest.fixture
def shown(authority: CA) -> Pair:
    return authority.sign(addresses=["127.0.0.1"])


def credentials(pair: Pair, clients_of: CA | None = None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        clients_of.pem if clients_of else None,
        require_client_auth=clients_of is not None,
    )


@pytest.fixture
def secure(shown: Pair) -> Iterator[Fake]:
    with Fake(credentials(shown)) as server:
        yield server


@pytest.fixture
def mutual(shown: Pair, authority: CA) -> Iterator[Fake]:
    with Fake(credentials(shown, authority)) as server:
        yield server


def shows(authority: CA, pair: Pair) -> sa.Tls:
    return sa.Tls(authority.pem, pair.certificate.read_bytes(), pair.key.read_bytes())


# --- TLS ------------------------------------------------------------------------------------------


async def test_a_service_with_a_certificate_of_the_given_ca_is_called(
    connect: Connect, secure: Fake, authority: CA
):
    async with connect(
        secure.address, tls=sa.Tls(authority.pem), token=TOKEN, timeout=PATIENCE
    ) as client:
        await client.get_signing_keys()
    assert dict(secure.calls[0].metadata)["authorization"] == f"Bearer {TOKEN}"


async def test_a_service_with_a_certificate_of_another_ca_gets_no_call(
    connect: Connect, secure: Fake, tmp_path: Path
):
    other = CA(tmp_path, "other")
    for tls in (sa.Tls(other.pem), sa.Tls()):
        async with connect(secure.address, tls=tls, token=TOKEN, timeout=PATIENCE) as client:
            with pytest.raises(sa.Unavailable):
                await client.validate_session("t", "d")
    assert secure.calls == []


async def test_a_plaintext_client_does_not_reach_a_service_with_tls(connect: Connect, secure: Fake):
    async with connect(secure.address, timeout=PATIENCE) as client:
        with pytest.raises(sa.Unavailable):
            await client.validate_session("t", "d")
    assert secure.calls == []


async def test_client_and_service_authenticate_each_other(
    connect: Connect, mutual: Fake, authority: CA
):
    pair = authority.sign(uris=["spiffe://example.org/gateway"])
    async with connect(mutual.address, tls=shows(authority, pair), timeout=PATIENCE) as client:
        await client.get_signing_keys()
    assert len(mutual.calls) == 1


async def test_a_client_without_a_certificate_of_the_services_ca_is_rejected(
    connect: Connect, mutual: Fake, authority: CA, tmp_path: Path
):
    pair = CA(tmp_path, "other").sign(uris=["spiffe://example.org/gateway"])
    for tls in (sa.Tls(authority.pem), shows(authority, pair)):
        async with connect(mutual.address, tls=tls, timeout=PATIENCE) as client:
            with pytest.raises(sa.Unavailable):
                await client.get_signing_keys()
    assert mutual.calls == []


def test_a_certificate_and_its_key_must_be_given_together():
    for half in ({"certificate_chain": b"c"}, {"private_key": b"k"}):
        with pytest.raises(ValueError, match="give both or neither"):
            sa.Tls(b"r", **half)
    assert "hunter2" not in repr(sa.Tls(b"r", b"c", b"hunter2"))


# --- bearer tokens --------------------------------------------------------------------------------


async def test_a_bearer_token_is_sent_with_each_call(connect: Connect, fake: Fake):
    async with connect(fake.address, token=TOKEN, timeout=PATIENCE) as client:
        await client.get_signing_keys()
        assert [batch async for batch in client.watch_events()] == []
    async with connect(fake.address, timeout=PATIENCE) as client:
        await client.get_signing_keys()
    brought = [dict(call.metadata).get("authorization") for call in fake.calls]
    assert brought == [f"Bearer {TOKEN}", f"Bearer {TOKEN}", None]


async def test_a_token_may_change_between_calls(connect: Connect, fake: Fake, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("first\n")
    async with connect(fake.address, token=file.read_text, timeout=PATIENCE) as client:
        await client.get_signing_keys()
        file.write_text("second\n")
        await client.get_signing_keys()
    assert [dict(call.metadata)["authorization"] for call in fake.calls] == [
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("token", ["hunter2\r\nx-other: 1", "hünter2", "", "hunter2\0"])
async def test_an_invalid_token_is_not_sent_and_not_shown(connect: Connect, fake: Fake, token: str):
    with pytest.raises(ValueError, match="token: is empty, or holds what no header may") as refused:
        connect(fake.address, token=token, timeout=PATIENCE)
    assert "nter2" not in str(refused.value)
    # A file that is being written may be empty for a moment. That must not sign a user out.
    async with connect(fake.address, token=lambda: token, timeout=PATIENCE) as client:
        for call in (client.get_signing_keys, lambda: anext(aiter(client.watch_events()))):
            with pytest.raises(
                sa.Unavailable, match="token: is empty, or holds what no header may"
            ) as caught:
                await call()
            assert "nter2" not in str(caught.value)
    assert fake.calls == []


@pytest.mark.parametrize(
    "target",
    """127.0.0.1:1 127.8.9.10:1 localhost:1 [::1]:1 dns:///localhost:1 dns:localhost:1
    ipv4:127.0.0.1:1 ipv6:[::1]:1 ipv4:127.0.0.1:1,127.0.0.1:2 unix:/run/x.sock unix:///run/x.sock
    unix-abstract:x 127.0.0.1 localhost""".split(),
)
def test_a_token_may_be_sent_to_this_machine_in_plaintext(target: str):
    assert TOKEN not in repr(Transport(target, token=TOKEN))


@pytest.mark.parametrize(
    "target",
    """10.0.0.1:1 authority:1 authority dns:///authority:1 dns://127.0.0.1/authority:1
    [2001:db8::1]:1 ipv4:10.0.0.1:1 ipv4:127.0.0.1:1,10.0.0.1:1 ipv4:10.0.0.1:1,127.0.0.1:1
    localhost.example.org:1 127.0.0.1.example.org:1 0.0.0.0:1
    xds:///localhost:1 localhost@authority:1""".split(),
)
def test_a_token_may_not_be_sent_to_another_machine_in_plaintext(target: str):
    for token in (TOKEN, lambda: TOKEN):
        with pytest.raises(ValueError, match="goes to another machine over TLS only"):
            Transport(target, token=token)
        Transport(target, sa.Tls(), token)
    Transport(target)


# --- a service with an access policy --------------------------------------------------------------

POLICY = """
[callers.login]
roles = ["issuer"]
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A development server with TLS and an access policy, and the token of one caller."""

    address: str
    authority: CA
    token: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = CA(folder)
    pair = authority.sign(addresses=["127.0.0.1"])
    (folder / "access.toml").write_text(POLICY)
    token = new_token()
    add_token(folder / "tokens", "login", token, datetime.now(UTC))
    with dev_server(
        folder / "data",
        TLS_CERTIFICATE=str(pair.certificate),
        TLS_KEY=str(pair.key),
        ACCESS_POLICY=str(folder / "access.toml"),
        CALLER_TOKENS=str(folder / "tokens"),
    ) as server:
        yield Guarded(server.address, authority, token)


async def test_a_caller_is_known_by_its_token(connect: Connect, guarded: Guarded):
    tls = sa.Tls(guarded.authority.pem)
    async with connect(guarded.address, tls=tls, token=guarded.token, timeout=PATIENCE) as client:
        assert (await client.issue_device("ada")).access_token
        with pytest.raises(sa.CallerNotAllowed) as caught:
            await client.list_devices("ada")
    assert (caught.value.code, caught.value.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "CALLER_NOT_ALLOWED",
    )
    for token in (None, "x" * len(guarded.token)):
        async with connect(guarded.address, tls=tls, token=token, timeout=PATIENCE) as client:
            with pytest.raises(sa.CallerUnknown):
                await client.issue_device("ada")


# --- servers --------------------------------------------------------------------------------------


async def test_calls_are_spread_over_all_servers_and_one_server_may_stop(
    connect: Connect, fake: Fake
):
    with Fake() as other:
        async with connect(f"ipv4:{fake.address},{other.address}", timeout=PATIENCE) as client:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while not (fake.calls and other.calls):
                    await client.get_signing_keys()
            before = len(fake.calls), len(other.calls)
            for _ in range(20):
                await client.get_signing_keys()
            assert (len(fake.calls), len(other.calls)) == (before[0] + 10, before[1] + 10)
            other.stop()
            for _ in range(20):
                await client.get_signing_keys()


async def test_a_client_reconnects_to_a_service_that_comes_back(connect: Connect, fake: Fake):
    async with connect(fake.address, timeout=PATIENCE) as client:
        await client.get_signing_keys()
        fake.stop()
        with pytest.raises(sa.Unavailable):
            await client.get_signing_keys()
        fake.start()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                try:
                    await client.get_signing_keys()
                    break
                except sa.Unavailable:
                    await asyncio.sleep(0.02)
    assert len(fake.calls) == 2


async def test_a_client_can_start_before_the_service(connect: Connect, fake: Fake):
    fake.stop()
    async with connect(fake.address, timeout=timedelta(milliseconds=100)) as client:
        with pytest.raises(sa.Unavailable):
            await client.get_signing_keys()
        fake.start()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not fake.calls:
                try:
                    await client.get_signing_keys(timeout=PATIENCE)
                except sa.Unavailable:
                    await asyncio.sleep(0.02)


async def test_each_client_has_its_own_connection(connect: Connect, fake: Fake):
    """The service limits the calls in flight on a connection, and a client limits its own."""
    async with Proxy(f"redis://{fake.address}") as wire:
        async with (
            connect(behind(wire), timeout=PATIENCE) as one,
            connect(behind(wire), timeout=PATIENCE) as other,
        ):
            for _ in range(3):
                await one.get_signing_keys()
                await other.get_signing_keys()
        assert wire.connections == 2


# --- options --------------------------------------------------------------------------------------


PING = b"\x00\x00\x08\x06"  # a ping frame begins like this (RFC 9113, section 6.7)
FASTER = 100


async def test_the_service_accepts_as_many_pings_as_the_client_sends(connect: Connect):
    """The intervals of both sides are a hundred times shorter than in production."""
    ours: dict[str, Any] = dict(Transport("h:1").channel_options())
    theirs: dict[str, Any] = dict(server_options(Capacity(), share_port=False))
    assert ours["grpc.keepalive_time_ms"] >= theirs["grpc.http2.min_ping_interval_without_data_ms"]
    theirs["grpc.http2.min_ping_interval_without_data_ms"] //= FASTER
    pings = 0

    async def count(data: bytes) -> None:
        nonlocal pings
        pings += data.count(PING)

    with Fake(options=list(theirs.items())) as server:
        async with Proxy(f"redis://{server.address}") as wire:
            wire.on_request = count
            often = [("grpc.keepalive_time_ms", ours["grpc.keepalive_time_ms"] // FASTER)]
            async with connect(behind(wire), timeout=PATIENCE, options=often) as client:
                await client.get_signing_keys()
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    while pings < 5:  # noqa: ASYNC110 - a condition has no event
                        await asyncio.sleep(0.02)
                await client.get_signing_keys()
            assert wire.connections == 1, "the service hung up"


def test_every_option_has_a_name_that_grpc_knows():
    (library,) = [
        path.read_bytes() for path in (Path(grpc.__file__).parent / "_cython").glob("cygrpc.*.so")
    ]
    names = [name for name, _ in Transport("h:1").channel_options()]
    assert [name for name in names if name.encode() + b"\0" not in library] == []


def test_a_client_tries_to_reconnect_at_least_every_two_seconds():
    ours: dict[str, Any] = dict(Transport("h:1").channel_options())
    assert ours["grpc.max_reconnect_backoff_ms"] <= 2_000


def test_an_app_can_replace_an_option():
    theirs = [("grpc.keepalive_time_ms", 60_000), ("grpc.primary_user_agent", "gateway/1")]
    options = Transport("h:1", options=theirs).channel_options()
    assert len({name for name, _ in options}) == len(options)
    assert set(theirs) <= set(options)
    assert ("grpc.enable_retries", 1) in options


async def test_the_options_of_an_app_take_effect(connect: Connect, fake: Fake):
    async with connect(
        fake.address, timeout=PATIENCE, options=[("grpc.primary_user_agent", "gateway/1")]
    ) as client:
        await client.get_signing_keys()
    assert str(dict(fake.calls[0].metadata)["user-agent"]).startswith("gateway/1 ")

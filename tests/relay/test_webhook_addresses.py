"""Where an event may be sent: the addresses that are allowed, and how a name is looked up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from session_authority.relay import (
    Delivered,
    Endpoint,
    EndpointsError,
    Refused,
    Sender,
    load_endpoints,
    webhooks,
)
from session_authority.relay.webhooks import Resolver, is_public
from tests.relay.senders import (
    BODY,
    DEADLINE_SECONDS,
    NAME,
    NOT_ALLOWED,
    NOW,
    SHORT,
    TLS,
    Names,
    endpoint_at,
    send_to,
    sender_to,
)
from tests.relay.servers import (
    NO_CONTENT,
    Server,
    says,
    serving,
    status,
)

PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.254 192.0.0.1
    192.0.0.170 192.0.2.1 192.88.99.1 192.0.0.8 192.0.0.9 192.0.0.192 192.168.0.1 192.168.255.254
    198.18.0.1 198.19.255.254 198.51.100.1 203.0.113.1 224.0.0.1 233.252.0.1 239.255.255.250
    240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:10.0.0.1 ::ffff:127.0.0.1
    ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 ::ffff:100.64.0.1 ::ffff:224.0.0.1 64:ff9b::10.0.0.1
    64:ff9b::169.254.169.254 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808::
    fc00::1 3fff::1 fd00:ec2::254 fd12:3456:789a::1 fe80::1 fe80::1%lo fec0::1 2606:4700::1111%lo
    ff02::1 ff05::2 ff0e::1
""".split()


PUBLIC = """
    8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.0.1 223.255.255.254
    ::ffff:8.8.8.8 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1
""".split()


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    async def test_an_address_that_is_not_public_is_not_connected_to(self, address):
        assert not is_public(ip_address(address))
        endpoint = endpoint_at(f"https://{NAME}:1/", SHORT, private=False)
        for known in ([address], [address, "127.0.0.1"]):
            assert await send_to(endpoint, Names(known)) == NOT_ALLOWED

    @pytest.mark.parametrize("address", PUBLIC)
    def test_a_public_address_is_connected_to(self, address):
        assert is_public(ip_address(address))

    @pytest.mark.parametrize(
        "host",
        """
        127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0x7F.0x0.0x0.0x1 017700000001 0 0.0.0.0 10.1
        167772161 0xa000001 169.254.169.254 2852039166 0xa9fea9fe 169.16689662 0xa9.0xfe.0xa9.0xfe
        0251.0376.0251.0376 100.64.0.1 224.0.0.1 0177.0.0.1 %31%32%37.0.0.1 ①②⑦.0.0.1 127。0。0。1
        127.0.0.1%00.example user@127.0.0.1 1.1.1.1@127.0.0.1 [::] [::ffff:127.0.0.1]
        [::ffff:7f00:1] [::127.0.0.1] [0:0:0:0:0:ffff:a9fe:a9fe] [fd00:ec2::254] [fe80::1]
        [fe80::1%251] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [ff02::1] [fec0::1] [v1.127.0.0.1]
        """.split(),
    )
    async def test_no_spelling_of_an_address_passes_the_check(self, tmp_path, host):
        path = tmp_path / "endpoints.toml"
        path.touch(0o600)
        for scheme in ("http", "https"):
            path.write_text(
                f'[[endpoint]]\nname = "a"\nurl = "{scheme}://{host}:1/"\nsecrets ='
                f' ["whsec_{"c" * 32}"]',
                "utf-8",
            )
            try:
                (endpoint,) = load_endpoints(path)
            except EndpointsError:
                continue
            assert scheme == "https"
            assert await send_to(endpoint, Resolver()) == NOT_ALLOWED

    async def test_this_machine_by_its_name_is_reached_without_a_setting(self):
        async with serving(says(NO_CONTENT)) as server:
            for host, known in (
                ("localhost", ["127.0.0.1"]),
                ("localhost.", ["127.0.0.1"]),
                ("127.0.0.1", None),
            ):
                resolve = Resolver() if known is None else Names(known)
                endpoint = endpoint_at(f"http://{host}:{server.port}/", private=False)
                assert await send_to(endpoint, resolve) == Delivered()
            assert server.connections == 3

    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "169.254.169.254", "8.8.8.8", "0.0.0.0", "::ffff:8.8.8.8"]
    )
    @pytest.mark.parametrize("private", [False, True])
    async def test_the_name_of_this_machine_leads_to_no_other_address(self, address, private):
        endpoint = endpoint_at("http://localhost:1/", SHORT, private)
        assert await send_to(endpoint, Names([address])) == NOT_ALLOWED

    async def test_a_name_with_a_private_address_is_refused(self):
        async with serving(says(NO_CONTENT)) as secret:
            url = f"http://{NAME}:{secret.port}/"
            for known in (
                ["127.0.0.1"],
                ["10.0.0.1", "127.0.0.1"],
                ["::ffff:127.0.0.1", "127.0.0.1"],
                [],
            ):
                assert await send_to(endpoint_at(url, private=False), Names(known)) == NOT_ALLOWED
            assert secret.connections == 0
            assert await send_to(endpoint_at(url, private=True)) == Delivered()

    async def test_the_look_up_accepts_addresses(self):
        resolver = Resolver()
        assert await resolver("127.0.0.1", 80) == ["127.0.0.1"]
        assert await resolver("::1", 80) == ["::1"]
        resolver.close()

    async def test_a_name_server_that_hangs_delays_no_other_endpoint(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        known, over = socket.getaddrinfo, threading.Event()

        def hang(host: str, *rest: Any, **more: Any) -> Any:
            if host == NAME:
                over.wait(DEADLINE_SECONDS)
                raise OSError
            return known(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        stuck = Sender(endpoint_at(f"http://{NAME}/", SHORT))
        try:
            # More than any pool of threads has.
            sends = [stuck.send("e1", BODY, NOW) for _ in range(60)]
            assert set(await asyncio.gather(*sends)) == {Refused("timeout")}
            async with serving(says(NO_CONTENT)) as server:
                endpoint = endpoint_at(f"http://127.0.0.1:{server.port}/")
                assert await send_to(endpoint, Resolver()) == Delivered()
        finally:
            over.set()
            await stuck.close()


class TestRebinding:
    """127.0.0.1 stands for a public address, and 127.0.0.2 for an address that must not be
    reached.
    """

    @pytest.fixture(autouse=True)
    def _public(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhooks, "is_public", lambda address: str(address) == "127.0.0.1")

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[tuple[Server, Server, Endpoint]]:
        # The server closes the connection after each request, so each attempt connects again.
        goodbye = says(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", then_hangs_up=True)
        async with (
            serving(goodbye) as public,
            serving(goodbye, None, "127.0.0.2", public.port) as secret,
        ):
            yield public, secret, endpoint_at(f"http://{NAME}:{public.port}/", private=False)

    async def test_first_public_then_private(self):
        async with self._servers() as (public, secret, endpoint):
            names = Names(["127.0.0.1"], ["127.0.0.2"])
            async with sender_to(endpoint, names) as sender:
                assert await sender.send("e1", BODY, NOW) == Delivered()
                # The address that was checked is the address that was called.
                assert len(names.asked) == 1
                assert await sender.send("e2", BODY, NOW) == NOT_ALLOWED
            assert len(names.asked) == 2
            assert (public.connections, secret.connections) == (1, 0)

    async def test_of_mixed_addresses_only_the_public_ones_are_called(self):
        for known in (["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]):
            async with self._servers() as (public, secret, endpoint):
                assert await send_to(endpoint, Names(known)) == Delivered()
                assert (public.connections, secret.connections) == (1, 0)

    async def test_a_public_address_that_is_down_leads_to_no_private_one(self):
        async with serving(says(NO_CONTENT), None, "127.0.0.2") as secret:
            endpoint = endpoint_at(f"http://{NAME}:{secret.port}/", private=False)
            assert await send_to(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Refused(
                "connection failed"
            )
            assert secret.connections == 0


class Gate:
    """A look-up that waits until the gate is opened."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self, *_: object) -> Sequence[str]:
        self.asked += 1
        self.begun.set()
        await self.open.wait()
        return []


class TestLookUps:
    async def test_concurrent_senders_share_one_look_up_and_the_next_makes_another(self):
        gate = Gate()
        async with sender_to(endpoint_at(f"https://{NAME}/"), gate) as sender:
            sending = [asyncio.create_task(sender.send(f"e{n}", BODY, NOW)) for n in range(3)]
            await gate.begun.wait()
            gate.open.set()
            assert await asyncio.gather(*sending) == [NOT_ALLOWED] * 3
            assert gate.asked == 1
            assert await sender.send("e4", BODY, NOW) == NOT_ALLOWED
            assert gate.asked == 2

    async def test_a_sender_that_gives_up_ends_the_look_up_for_no_other(self):
        gate = Gate()
        async with sender_to(endpoint_at(f"https://{NAME}/"), gate) as sender:
            first = asyncio.create_task(sender.send("e1", BODY, NOW))
            await gate.begun.wait()
            second = asyncio.create_task(sender.send("e2", BODY, NOW))
            await asyncio.sleep(0)  # It waits, too.
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            gate.open.set()
            assert await second == NOT_ALLOWED
        assert gate.asked == 1

    async def test_no_look_up_goes_on_after_the_close(self):
        before = asyncio.all_tasks()
        assert await send_to(endpoint_at(f"https://{NAME}/", SHORT), Gate()) == Refused("timeout")
        assert asyncio.all_tasks() == before

    async def test_a_hung_look_up_delays_no_other_sender_and_no_close(self, monkeypatch):
        release, hanging = threading.Event(), threading.Event()
        known = socket.getaddrinfo

        def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
            if host == NAME:
                hanging.set()
                release.wait(DEADLINE_SECONDS)
            return known("127.0.0.1", *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        # These are more senders than the loop's own executor may have threads. With that executor,
        # the look-up of one more sender would have to wait.
        stuck = [Sender(endpoint_at(f"https://{NAME}/", SHORT), tls=TLS) for _ in range(40)]
        try:
            async with serving(says(NO_CONTENT)) as server, asyncio.timeout(DEADLINE_SECONDS / 2):
                outcomes = await asyncio.gather(*(one.send("e1", BODY, NOW) for one in stuck))
                assert outcomes == [Refused("timeout")] * 40
                assert hanging.is_set()
                other = Sender(endpoint_at(f"http://localhost:{server.port}/"))
                assert await other.send("e1", BODY, NOW) == Delivered()
                await asyncio.gather(*(one.close() for one in [*stuck, other]))
        finally:
            release.set()


@contextmanager
def _swallowing() -> Iterator[int]:
    """A port of 127.0.0.1 whose queue is full (listen(2)): connections are neither accepted nor
    refused.
    """
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


class TestSeveralAddresses:
    async def test_the_next_address_is_tried_if_the_first_refuses(self):
        async with serving(says(NO_CONTENT), None, "127.0.0.2") as server:
            endpoint = endpoint_at(f"http://{NAME}:{server.port}/")
            assert await send_to(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Delivered()
            assert server.connections == 1

    async def test_an_address_that_does_not_answer_leaves_time_for_the_next(self):
        with _swallowing() as port:
            async with serving(says(NO_CONTENT), None, "127.0.0.2", port) as server:
                endpoint = endpoint_at(f"http://{NAME}:{port}/", timedelta(seconds=2))
                assert await send_to(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Delivered()
                assert server.connections == 1

    async def test_if_no_address_answers_the_delivery_times_out(self):
        with _swallowing() as port:
            endpoint = endpoint_at(f"http://{NAME}:{port}/", SHORT)
            assert await send_to(endpoint, Names(["127.0.0.1", "127.0.0.1"])) == Refused("timeout")

    @pytest.mark.parametrize("answer", [says(b"", then_hangs_up=True), status("500 Oh")])
    async def test_once_connected_no_other_address_is_tried(self, answer):
        """The event may have arrived. Another part of the relay decides whether it is sent
        again.
        """
        async with (
            serving(answer) as first,
            serving(says(NO_CONTENT), None, "127.0.0.2", first.port) as second,
        ):
            endpoint = endpoint_at(f"http://{NAME}:{first.port}/")
            assert isinstance(await send_to(endpoint, Names(["127.0.0.1", "127.0.0.2"])), Refused)
            assert (first.connections, second.connections) == (1, 0)

"""How one event is sent, and what every answer of an endpoint leads to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from session_authority import __version__
from session_authority.relay import (
    Delivered,
    Refused,
    webhooks,
)
from tests.relay.senders import (
    BODY,
    DEADLINE_SECONDS,
    NAME,
    NOT_ALLOWED,
    NOW,
    SECRET,
    SHORT,
    Names,
    calling,
    endpoint_at,
    outcome_of,
    send_to,
    sender_to,
)
from tests.relay.servers import (
    NO_CONTENT,
    Server,
    drips,
    floods,
    hangs,
    says,
    server_tls,
    serving,
    status,
    trusting,
)
from tests.support.ca import CA

HOUR = timedelta(hours=1)
NOT_HTTP = Refused("no HTTP answer")
OK = b"HTTP/1.1 200 OK\r\n"
# The answer of an endpoint, and the outcome.
ANSWERS = [
    (status("200 OK"), Delivered()),
    (says(NO_CONTENT), Delivered()),
    (status("299 Fine"), Delivered()),
    (says(b"HTTP/1.1 100 Continue\r\n\r\n" + NO_CONTENT), Delivered()),
    (says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", then_hangs_up=True), Delivered()),
    (says(OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"), Delivered()),
    (says(OK + b"content-length: 16384\r\n\r\n" + b"x" * 16384), Delivered()),
    (status("300 Choose"), Refused("redirect 300")),
    (status("304 Not Modified"), Refused("redirect 304")),
    (status("400 Bad Request"), Refused("status 400")),
    (status("401 Unauthorized", "www-authenticate: Basic"), Refused("status 401")),
    (status("404 Not Found", "retry-after: 7"), Refused("status 404")),
    (status("410 Gone"), Refused("status 410")),
    (status("500 Oh"), Refused("status 500")),
    (status("999 What"), Refused("status 999")),
    (
        says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        NOT_HTTP,
    ),
    (says(b"SSH-2.0-OpenSSH_9.2\r\n", then_hangs_up=True), NOT_HTTP),
    (says(bytes(range(256)) * 16, then_hangs_up=True), NOT_HTTP),
    (says(b"", then_hangs_up=True), NOT_HTTP),
    (says(b"HTTP/1.1 2", then_hangs_up=True), NOT_HTTP),
    (says(OK + b"content-le", then_hangs_up=True), NOT_HTTP),
    (says(OK + b"content-length: 10\r\n\r\nhalf", then_hangs_up=True), NOT_HTTP),
    (says(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhe", then_hangs_up=True), NOT_HTTP),
    (says(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n"), NOT_HTTP),
    (says(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx"), NOT_HTTP),
    (says(OK + b"x: \x00\r\n\r\n"), NOT_HTTP),
    (floods(OK, b"x-more: " + b"x" * 8000 + b"\r\n"), NOT_HTTP),
    (floods(OK + b"x-long: ", b"x" * 8000), NOT_HTTP),
    (floods(b"HTTP/1.1 200 ", b"x" * 8000), NOT_HTTP),
]


class TestAnswers:
    @pytest.mark.parametrize(("answer", "outcome"), ANSWERS)
    async def test_every_answer_has_its_outcome(self, answer, outcome):
        assert await outcome_of(answer) == outcome

    @pytest.mark.parametrize(
        ("start", "more"),
        [
            (b"HTTP/1.1 %s\r\n\r\n", b"x" * 5000),
            (b"HTTP/1.1 %s\r\ncontent-length: 99999999999\r\n\r\n", b"x" * 5000),
            (
                b"HTTP/1.1 %s\r\ntransfer-encoding: chunked\r\n\r\n",
                b"400\r\n" + b"x" * 1024 + b"\r\n",
            ),
        ],
    )
    @pytest.mark.parametrize(
        ("line", "outcome"), [(b"200 OK", Delivered()), (b"500 Oh", Refused("status 500"))]
    )
    async def test_a_body_without_end_is_not_read_to_its_end(self, start, more, line, outcome):
        assert await outcome_of(floods(start % line, more)) == outcome

    async def test_at_most_16_kib_are_read(self):
        start = b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"
        assert await outcome_of(says(start + b"x" * 16385)) == Delivered()
        assert await outcome_of(says(start + b"x" * 16384), SHORT) == Refused("timeout")

    @pytest.mark.parametrize(
        "answer",
        [
            hangs,
            drips(b""),
            drips(b"HTTP/1.1 200 OK\r\nx: "),
            drips(b"HTTP/1.1 200 OK\r\n\r\n"),
            drips(b"HTTP/1.1 500 Oh\r\ncontent-length: 99999\r\n\r\n"),
            floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ],
    )
    async def test_the_timeout_is_for_the_whole_exchange(self, answer):
        assert await outcome_of(answer, SHORT) == Refused("timeout")

    async def test_the_timeout_includes_the_look_up_of_the_name(self):
        async def never(*_: object) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

        assert await send_to(endpoint_at(f"https://{NAME}/", SHORT), never) == Refused("timeout")

    async def test_the_timeout_includes_the_tls_handshake(self):
        # The server reads the hello as the start of a request, and waits for more.
        async with serving(hangs) as server:
            assert await send_to(endpoint_at(f"https://{NAME}:{server.port}/", SHORT)) == Refused(
                "timeout"
            )
            async with asyncio.timeout(DEADLINE_SECONDS):
                await server.left()  # No connection stays open either.

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, code):
        async with serving(says(NO_CONTENT)) as secret:
            for url in (f"http://127.0.0.1:{secret.port}/", f"//{NAME}:{secret.port}/"):
                outcome = await outcome_of(status(f"{code} Go", f"location: {url}"))
                assert outcome == Refused(f"redirect {code}")
            assert secret.connections == 0

    @pytest.mark.parametrize("code", [429, 503])
    @pytest.mark.parametrize(
        ("asked", "wait"),
        [
            ("0", timedelta(0)),
            ("7", timedelta(seconds=7)),
            ("00000000000120", timedelta(minutes=2)),
            ("3600", HOUR),
            ("3601", HOUR),
            ("9" * 400, HOUR),
            ("Thu, 01 Jan 2026 00:02:00 GMT", timedelta(minutes=2)),
            ("Thu, 01 Jan 2026 01:02:00 +0100", timedelta(minutes=2)),
            ("Thu, 01 Jan 2026 00:02:00", timedelta(minutes=2)),
            ("Thursday, 01-Jan-26 00:02:00 GMT", timedelta(minutes=2)),
            ("Thu Jan  1 00:02:00 2026", timedelta(minutes=2)),
            ("Wed, 31 Dec 2025 23:59:59 GMT", timedelta(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", HOUR),
            ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
            ("Thu, 01 Jan 2026 00:02:00 +99999999999999", None),
            ("-1", None),
            ("1.5", None),
            ("1e3", None),
            ("inf", None),
            ("soon", None),
            ("²", None),
            ("", None),
            ("32 Foo 2026", None),
        ],
    )
    async def test_the_retry_after_header_is_obeyed(self, code, asked, wait):
        assert await outcome_of(status(f"{code} Wait", f"retry-after: {asked}")) == Refused(
            f"status {code}", wait
        )

    async def test_an_answer_without_retry_after_asks_for_no_pause(self):
        assert await outcome_of(status("503 Wait")) == Refused("status 503")

    async def test_a_fraction_of_a_second_is_rounded_up(self):
        moment = NOW - timedelta(milliseconds=1)
        assert webhooks._retry_after("Thu, 01 Jan 2026 00:00:01 GMT", moment) == timedelta(
            seconds=2
        )

    @given(st.text() | st.builds("Thu, {} Jan {} {}:00:0{} {:+}".format, *[st.integers()] * 5))
    def test_a_malformed_retry_after_does_no_harm(self, value):
        wait = webhooks._retry_after(value, NOW)
        assert wait is None or timedelta(0) <= wait <= HOUR

    async def test_a_port_without_a_listener_is_a_refusal(self):
        async with serving(says(NO_CONTENT)) as server:
            pass
        assert await send_to(endpoint_at(f"http://{NAME}:{server.port}/")) == Refused(
            "connection failed"
        )

    @pytest.mark.parametrize(
        "error", [socket.gaierror(socket.EAI_NONAME, "no"), OSError("no"), UnicodeError("no")]
    )
    async def test_an_unknown_name_is_a_refusal(self, error):
        async def fails(*_: object) -> Sequence[str]:
            raise error

        assert await send_to(endpoint_at(f"https://{NAME}/"), fails) == Refused("connection failed")

    async def test_any_other_error_is_only_a_refusal(self):
        async def fails(*_: object) -> Sequence[str]:
            return ["no address"]

        assert await send_to(endpoint_at(f"https://{NAME}/"), fails) == Refused(
            "failed (ValueError)"
        )

    async def test_a_cancelled_delivery_stops(self):
        async with (
            serving(hangs) as server,
            sender_to(endpoint_at(f"http://{NAME}:{server.port}/")) as sender,
        ):
            sending = asyncio.create_task(sender.send("e1", BODY, NOW))
            await server.asked(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending


class TestRequest:
    async def test_the_request_arrives_as_documented(self, monkeypatch):
        # The proxy of the environment is not used.
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        now = datetime.now(UTC)
        names = Names()
        async with serving(says(NO_CONTENT)) as server:
            url = f"http://Hooks.Example:{server.port}/a%2Fb/?x=1&y=%20"
            async with sender_to(endpoint_at(url), names) as sender:
                assert await sender.send("0-1-2", BODY, now) == Delivered()
        (request,) = server.requests
        assert names.asked == [(NAME, server.port)]
        assert request.line == "POST /a%2Fb/?x=1&y=%20 HTTP/1.1"
        assert request.body == BODY
        assert request.headers["host"] == f"{NAME}:{server.port}"
        assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert request.headers["user-agent"] == f"session-authority/{__version__}"
        assert request.headers["webhook-id"] == "0-1-2"
        assert Webhook(SECRET).verify(request.body, request.headers) == {"id": "e1"}

    @pytest.mark.parametrize(("url", "port"), [(f"https://{NAME}/", 443), (f"http://{NAME}/", 80)])
    async def test_the_default_port_is_left_out_of_the_host_header(self, url, port):
        names = Names([])
        assert await send_to(endpoint_at(url), names) == NOT_ALLOWED
        assert names.asked == [(NAME, port)]

    async def test_no_cookie_is_kept(self):
        async with calling(status("200 OK", "set-cookie: a=b; Path=/")) as (sender, server):
            for _ in range(2):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert ["cookie" in request.headers for request in server.requests] == [False, False]

    @pytest.mark.parametrize(
        "answer", [NO_CONTENT, b"HTTP/1.1 200 OK\r\ncontent-length: 16384\r\n\r\n" + b"x" * 16384]
    )
    async def test_deliveries_one_after_the_other_share_a_connection(self, answer):
        async with calling(says(answer)) as (sender, server):
            for _ in range(3):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert (server.connections, len(server.requests)) == (1, 3)

    async def test_a_connection_with_unread_data_is_not_used_again(self):
        async with calling(floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000)) as (sender, server):
            for _ in range(2):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert server.connections == 2

    async def test_an_endpoint_that_sends_too_much_is_disconnected_at_once(self):
        async with calling(floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000)) as (sender, server):
            assert await sender.send("e1", BODY, NOW) == Delivered()
            await server.left()

    async def test_after_a_refusal_the_next_event_is_sent(self):
        for bad in (says(b"garbage\r\n\r\n"), says(b"", then_hangs_up=True), hangs):
            async with calling(bad, SHORT) as (sender, server):
                assert isinstance(await sender.send("e1", BODY, NOW), Refused)
                server.answer = says(NO_CONTENT)
                assert await sender.send("e1", BODY, NOW) == Delivered()

    async def test_concurrent_deliveries_are_limited_and_their_connections_are_kept(self):
        gate = asyncio.Event()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            writer.write(NO_CONTENT)
            await writer.drain()

        async with calling(answer, in_flight=12) as (sender, server):
            for round_ in (1, 2, 3):
                gate.clear()
                sending = [asyncio.create_task(sender.send(f"e{n}", BODY, NOW)) for n in range(12)]
                await server.asked(12 * round_)
                assert server.connections == 12
                gate.set()
                assert await asyncio.gather(*sending) == [Delivered()] * 12
        ids = [request.headers["webhook-id"] for request in server.requests]
        assert [set(ids[at : at + 12]) for at in (0, 12, 24)] == [{f"e{n}" for n in range(12)}] * 3


@pytest.fixture
def authority(tmp_path):
    return CA(tmp_path)


class TestTls:
    async def _outcome(
        self, authority: CA, tls: ssl.SSLContext, host: str = NAME
    ) -> tuple[object, Server]:
        async with serving(says(NO_CONTENT), tls) as server:
            url = f"https://{host}:{server.port}/hooks"
            return await send_to(endpoint_at(url), tls=trusting(authority)), server

    async def test_the_tls_handshake_has_the_name_of_the_server(self, authority):
        outcome, server = await self._outcome(authority, server_tls(authority, NAME))
        assert outcome == Delivered()
        assert server.names == [NAME]
        (request,) = server.requests
        assert request.headers["host"] == f"{NAME}:{server.port}"
        assert request.line == "POST /hooks HTTP/1.1"

    async def test_a_final_dot_belongs_to_the_name_but_not_to_the_certificate(self, authority):
        outcome, server = await self._outcome(authority, server_tls(authority, NAME), f"{NAME}.")
        assert (outcome, server.names) == (Delivered(), [NAME])

    async def test_a_host_name_with_an_underscore_works(self, authority):
        outcome, server = await self._outcome(
            authority, server_tls(authority, "a_b.example"), "a_b.example"
        )
        assert (outcome, server.names) == (Delivered(), ["a_b.example"])

    async def test_a_certificate_for_an_address_is_accepted(self, authority):
        outcome, server = await self._outcome(
            authority, server_tls(authority, "127.0.0.1"), "127.0.0.1"
        )
        assert (outcome, server.names) == (Delivered(), [None])

    @pytest.mark.parametrize(
        "names", [("other.example",), ("127.0.0.1",), (f"x.{NAME}",), ("*.example.org",), ()]
    )
    async def test_a_certificate_for_another_name_is_refused(self, authority, names):
        outcome, server = await self._outcome(authority, server_tls(authority, *names))
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_an_expired_certificate_is_refused(self, authority):
        outcome, server = await self._outcome(
            authority, server_tls(authority, NAME, lasts=timedelta(days=-1))
        )
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_a_self_signed_certificate_is_refused(self, authority):
        outcome, server = await self._outcome(
            authority, server_tls(authority, NAME, self_signed=True)
        )
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_an_unknown_authority_is_refused(self, authority):
        async with serving(says(NO_CONTENT), server_tls(authority, NAME)) as server:
            assert await send_to(endpoint_at(f"https://{NAME}:{server.port}/")) == Refused(
                "TLS failed"
            )
        assert server.requests == []

    async def test_a_server_without_tls_is_refused(self, authority):
        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Speak plainly\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            outcome = await send_to(endpoint_at(f"https://{NAME}:{port}/"), tls=trusting(authority))
        assert outcome in (Refused("TLS failed"), Refused("connection failed"))

    async def test_a_refused_certificate_is_not_tried_at_another_address(self, authority):
        async with (
            serving(says(NO_CONTENT), server_tls(authority, "other.example")) as impostor,
            serving(
                says(NO_CONTENT), server_tls(authority, NAME), "127.0.0.2", impostor.port
            ) as server,
        ):
            names = Names(["127.0.0.1", "127.0.0.2"])
            outcome = await send_to(
                endpoint_at(f"https://{NAME}:{server.port}/"), names, trusting(authority)
            )
        assert (outcome, server.connections) == (Refused("TLS failed"), 0)

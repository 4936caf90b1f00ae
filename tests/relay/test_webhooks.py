"""How one event is sent: what it looks like, who signed it, where it may go, and whatever an
endpoint answers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from session_authority import __version__
from session_authority.domain.clients import Client
from session_authority.domain.events import NOBODY, Event, EventType, RecordedEvent
from session_authority.domain.session_rules import ReplayAction
from session_authority.domain.verdicts import ReplayCause
from session_authority.relay import webhooks
from session_authority.relay.endpoints import Endpoint, EndpointsError, load_endpoints
from session_authority.relay.webhooks import (
    Delivered,
    Refused,
    Resolve,
    Resolver,
    Sender,
    cloud_event,
    is_public,
    signature_headers,
)
from tests.relay.servers import (
    NO_CONTENT,
    Answer,
    Authority,
    Server,
    drips,
    floods,
    hangs,
    says,
    serving,
    status,
)

PATIENCE = 20.0
NOW = datetime.fromisoformat("2026-01-01T00:00:00Z")
HOUR = timedelta(hours=1)
SECRET = b"s" * 32
BODY = b'{"id":"e1"}'
NAME = "hooks.example"
# Long enough that only what hangs for good reaches it.
LONG, SHORT = timedelta(seconds=10), timedelta(milliseconds=200)
NOT_ALLOWED = Refused("address not allowed")
NOT_HTTP = Refused("no HTTP answer")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


class Names:
    """Knows the addresses of every name; each look-up takes the next of them, the last again and
    again.
    """

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers) or [["127.0.0.1"]]

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _endpoint(
    url: str, timeout: timedelta = LONG, private: bool = True, in_flight: int = 16
) -> Endpoint:
    return Endpoint("a", url, (SECRET,), timeout=timeout, private=private, max_in_flight=in_flight)


@asynccontextmanager
async def _sender(
    endpoint: Endpoint, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Sender]:
    """A sender; whoever waits for it longer than it may take fails."""
    sender = Sender(endpoint, resolve or Names(), tls)
    try:
        async with asyncio.timeout(PATIENCE):
            yield sender
    finally:
        await sender.close()


async def _send(
    endpoint: Endpoint, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
) -> Delivered | Refused:
    async with _sender(endpoint, resolve, tls) as sender:
        return await sender.send("e1", BODY, NOW)


async def _outcome(answer: Answer, within: timedelta = LONG) -> Delivered | Refused:
    """What comes of such an answer."""
    async with serving(answer) as server:
        return await _send(_endpoint(f"http://{NAME}:{server.port}/", within))


@asynccontextmanager
async def _calling(
    answer: Answer, within: timedelta = LONG, in_flight: int = 16
) -> AsyncIterator[tuple[Sender, Server]]:
    """A sender to a server that answers so."""
    async with (
        serving(answer) as server,
        _sender(_endpoint(f"http://{NAME}:{server.port}/", within, in_flight=in_flight)) as sender,
    ):
        yield sender, server


CLIENT = Client(
    "203.0.113.7", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "Zoë's phone", "4.12.0"
)
TOLD_OF_CLIENT = {
    "info": {
        "ip_address": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
        "display_name": "Zoë's phone",
        "app_version": "4.12.0",
    },
    "operating_system": "iOS 17",
    "browser": "Mobile Safari UI/WKWebView",
    "form_factor": "FORM_FACTOR_PHONE",
}
FULL = Event(
    type=EventType.UNKNOWN,
    happened_at=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
    user_id="user-ü",
    actor="billing",
    device_id=UUID(int=7),
    device_display_name="Zoë's phone",
    device_client=CLIENT,
    client=CLIENT,
    session_id=b"\x01\xab",
    reason="she said 'no'",
    new_device=True,
    first_device=True,
    replay_cause=ReplayCause.SECOND_COPY,
    replay_action=ReplayAction.REVOKE_ALL,
    except_device_id=UUID(int=8),
    key_id="k1",
)


class TestCloudEvent:
    @pytest.mark.parametrize("kind", EventType)
    def test_every_field_of_each_type(self, kind):
        name = "UNSPECIFIED" if kind is EventType.UNKNOWN else kind.name
        body = cloud_event(RecordedEvent("e1", replace(FULL, type=kind)), "https://auth.example/")
        data = {
            "event_id": "e1",
            "type": f"EVENT_TYPE_{name}",
            "create_time": "2026-01-02T03:04:05.678Z",
            "user_id": "user-ü",
            "device": {
                "device_id": "00000000-0000-0000-0000-000000000007",
                "display_name": "Zoë's phone",
                "last_client": TOLD_OF_CLIENT,
            },
            "client": TOLD_OF_CLIENT,
            "session_id": "01ab",
            "actor": "billing",
            "reason": "she said 'no'",
            "new_device": True,
            "first_device": True,
            "replay_cause": "REPLAY_CAUSE_SECOND_COPY",
            "replay_action": "REPLAY_ACTION_REVOKE_ALL",
            "except_device_id": "00000000-0000-0000-0000-000000000008",
            "key_id": "k1",
        }
        if kind is EventType.UNKNOWN:  # protobuf leaves out what has no value
            del data["type"]
        assert json.loads(body) == {
            "specversion": "1.0",
            "id": "e1",
            "source": "https://auth.example/",
            "type": f"session_authority.v1.{name}",
            "subject": "user-ü",
            "time": "2026-01-02T03:04:05.678Z",
            "datacontenttype": "application/json",
            "data": data,
        }

    @pytest.mark.parametrize("kind", [kind for kind in EventType if kind is not EventType.UNKNOWN])
    def test_what_does_not_apply_is_absent(self, kind):
        event = Event(type=kind, happened_at=NOW, user_id=NOBODY, actor="")
        assert json.loads(cloud_event(RecordedEvent("e1", event), "urn:x")) == {
            "specversion": "1.0",
            "id": "e1",
            "source": "urn:x",
            "type": f"session_authority.v1.{kind.name}",
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": {
                "event_id": "e1",
                "type": f"EVENT_TYPE_{kind.name}",
                "create_time": "2026-01-01T00:00:00Z",
            },
        }

    def test_text_of_any_script_is_utf_8(self):
        event = replace(FULL, reason='«ü» 😀 "\\\n\u2028')
        body = cloud_event(RecordedEvent("e1", event), "urn:x")
        assert json.loads(body.decode("utf-8"))["data"]["reason"] == event.reason
        assert "😀".encode() in body

    def test_no_byte_is_wasted(self):
        body = cloud_event(
            RecordedEvent("e1", Event(EventType.ALL_REVOKED, NOW, NOBODY, "")), "urn:x"
        )
        assert b" " not in body


class TestSignature:
    SECRETS = (b"new" * 10, b"old" * 8, bytes(range(64)))

    def _headers(self) -> dict[str, str]:
        return signature_headers(self.SECRETS, "0-1-2", BODY, datetime.now(UTC))

    @pytest.mark.parametrize("secret", SECRETS)
    def test_each_secret_verifies(self, secret):
        assert Webhook(secret).verify(BODY, self._headers()) == {"id": "e1"}

    def test_the_newest_signs_first(self):
        headers = self._headers()
        first, *others = headers["webhook-signature"].split(" ")
        assert len(others) == 2
        Webhook(self.SECRETS[0]).verify(BODY, headers | {"webhook-signature": first})

    def test_a_secret_of_somebody_else_does_not_verify(self):
        with pytest.raises(WebhookVerificationError):
            Webhook(b"x" * 32).verify(BODY, self._headers())

    def test_the_very_bytes(self):
        """Written out, so that no library need be believed."""
        headers = signature_headers(
            (b"s" * 24,), "e1", b"{}", datetime.fromisoformat("2026-01-01T00:00:00.999Z")
        )
        assert headers == {
            "webhook-id": "e1",
            "webhook-timestamp": "1767225600",
            "webhook-signature": "v1,0npjPaaEXFuPpV1+lXgBF5uH+CYzaiDoQQ5p3/NoU2k=",
        }

    def test_one_flipped_byte_anywhere_does_not_verify(self):
        headers = self._headers()
        headers["webhook-signature"] = headers["webhook-signature"].split(" ")[0]
        webhook = Webhook(self.SECRETS[0])
        webhook.verify(BODY, headers)
        signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1,"))
        forged = [(flipped, headers) for flipped in _flipped(BODY)]
        for name in ("webhook-id", "webhook-timestamp"):
            forged += [
                (BODY, headers | {name: flipped.decode()})
                for flipped in _flipped(headers[name].encode())
            ]
        for flipped in _flipped(signature):
            forged.append(
                (BODY, headers | {"webhook-signature": "v1," + base64.b64encode(flipped).decode()})
            )
        assert len(forged) == len(BODY) + 5 + 10 + 32
        for body, said in forged:
            with pytest.raises(WebhookVerificationError):
                webhook.verify(body, said)


def _flipped(text: bytes) -> list[bytes]:
    return [text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :] for at in range(len(text))]


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (status("200 OK"), Delivered()),
            (says(NO_CONTENT), Delivered()),
            (status("299 Fine"), Delivered()),
            (says(b"HTTP/1.1 100 Continue\r\n\r\n" + NO_CONTENT), Delivered()),
            (says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", then_hangs_up=True), Delivered()),
            (says(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"), Delivered()),
            (says(b"HTTP/1.1 200 OK\r\ncontent-length: 16384\r\n\r\n" + b"x" * 16384), Delivered()),
            (status("300 Choose"), Refused("redirect 300")),
            (status("304 Not Modified"), Refused("redirect 304")),
            (status("400 Bad Request"), Refused("status 400")),
            (status("401 Unauthorized", "www-authenticate: Basic"), Refused("status 401")),
            (status("404 Not Found", "retry-after: 7"), Refused("status 404")),
            (status("410 Gone"), Refused("status 410")),
            (status("500 Oh"), Refused("status 500")),
            (status("999 What"), Refused("status 999")),
            (says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), NOT_HTTP),
            (says(b"SSH-2.0-OpenSSH_9.2\r\n", then_hangs_up=True), NOT_HTTP),
            (says(bytes(range(256)) * 16, then_hangs_up=True), NOT_HTTP),
            (says(b"", then_hangs_up=True), NOT_HTTP),
            (says(b"HTTP/1.1 2", then_hangs_up=True), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\ncontent-le", then_hangs_up=True), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", then_hangs_up=True), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe", then_hangs_up=True), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"), NOT_HTTP),
            (says(b"HTTP/1.1 200 OK\r\nx: \x00\r\n\r\n"), NOT_HTTP),
            (floods(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"x" * 8000 + b"\r\n"), NOT_HTTP),
            (floods(b"HTTP/1.1 200 OK\r\nx-long: ", b"x" * 8000), NOT_HTTP),
            (floods(b"HTTP/1.1 200 ", b"x" * 8000), NOT_HTTP),
        ],
    )  # fmt: skip
    async def test_whatever_it_says(self, answer, outcome):
        assert await _outcome(answer) == outcome

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
    async def test_a_body_without_end_is_not_read_on(self, start, more, line, outcome):
        assert await _outcome(floods(start % line, more)) == outcome

    async def test_no_more_than_16_kib_are_waited_for(self):
        start = b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"
        assert await _outcome(says(start + b"x" * 16385), SHORT) == Delivered()
        assert await _outcome(says(start + b"x" * 16384), SHORT) == Refused("timeout")

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
        assert await _outcome(answer, SHORT) == Refused("timeout")

    async def test_the_timeout_is_also_for_the_name(self):
        async def never(*_: object) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

        assert await _send(_endpoint(f"https://{NAME}/", SHORT), never) == Refused("timeout")

    async def test_the_timeout_is_also_for_tls(self):
        async with serving(
            hangs
        ) as server:  # it takes the hello for the start of a request, and waits for more
            assert await _send(_endpoint(f"https://{NAME}:{server.port}/", SHORT)) == Refused(
                "timeout"
            )
            async with asyncio.timeout(PATIENCE):
                await server.left()  # nor does a connection stay open

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, code):
        async with serving(says(NO_CONTENT)) as secret:
            places = [f"http://127.0.0.1:{secret.port}/", f"//{NAME}:{secret.port}/"]
            for place in places:
                assert await _outcome(status(f"{code} Go", f"location: {place}")) == Refused(
                    f"redirect {code}"
                )
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
    async def test_retry_after(self, code, asked, wait):
        assert await _outcome(status(f"{code} Wait", f"retry-after: {asked}")) == Refused(
            f"status {code}", wait
        )

    async def test_nothing_asked(self):
        assert await _outcome(status("503 Wait")) == Refused("status 503")

    async def test_part_of_a_second_is_waited_for_in_full(self):
        moment = NOW - timedelta(milliseconds=1)
        assert webhooks._retry_after("Thu, 01 Jan 2026 00:00:01 GMT", moment) == timedelta(
            seconds=2
        )

    @given(st.text() | st.builds("Thu, {} Jan {} {}:00:0{} {:+}".format, *[st.integers()] * 5))
    def test_no_retry_after_harms(self, value):
        wait = webhooks._retry_after(value, NOW)
        assert wait is None or timedelta(0) <= wait <= HOUR

    async def test_nobody_listens(self):
        async with serving(says(NO_CONTENT)) as server:
            pass
        assert await _send(_endpoint(f"http://{NAME}:{server.port}/")) == Refused(
            "connection failed"
        )

    @pytest.mark.parametrize(
        "error", [socket.gaierror(socket.EAI_NONAME, "no"), OSError("no"), UnicodeError("no")]
    )
    async def test_a_name_that_is_not_known(self, error):
        async def fails(*_: object) -> Sequence[str]:
            raise error

        assert await _send(_endpoint(f"https://{NAME}/"), fails) == Refused("connection failed")

    async def test_whatever_else_goes_wrong_is_only_refused(self):
        async def fails(*_: object) -> Sequence[str]:
            return ["no address"]

        assert await _send(_endpoint(f"https://{NAME}/"), fails) == Refused("failed (ValueError)")

    async def test_cancelled_it_stops(self):
        async with (
            serving(hangs) as server,
            _sender(_endpoint(f"http://{NAME}:{server.port}/")) as sender,
        ):
            sending = asyncio.create_task(sender.send("e1", BODY, NOW))
            await server.asked(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending


class TestRequest:
    async def test_what_arrives(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # the web's proxy is not asked
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        now = datetime.now(UTC)
        names = Names()
        async with serving(says(NO_CONTENT)) as server:
            url = f"http://Hooks.Example:{server.port}/a%2Fb/?x=1&y=%20"
            async with _sender(_endpoint(url), names) as sender:
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
    async def test_the_port_that_goes_without_saying(self, url, port):
        names = Names([])
        assert await _send(_endpoint(url), names) == NOT_ALLOWED
        assert names.asked == [(NAME, port)]

    async def test_no_cookie_is_kept(self):
        async with _calling(status("200 OK", "set-cookie: a=b; Path=/")) as (sender, server):
            for _ in range(2):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert ["cookie" in request.headers for request in server.requests] == [False, False]

    @pytest.mark.parametrize(
        "answer", [NO_CONTENT, b"HTTP/1.1 200 OK\r\ncontent-length: 16384\r\n\r\n" + b"x" * 16384]
    )
    async def test_one_after_the_other_share_a_connection(self, answer):
        async with _calling(says(answer)) as (sender, server):
            for _ in range(3):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert (server.connections, len(server.requests)) == (1, 3)

    async def test_a_connection_with_more_to_say_is_not_used_again(self):
        async with _calling(floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000)) as (sender, server):
            for _ in range(2):
                assert await sender.send("e1", BODY, NOW) == Delivered()
        assert server.connections == 2

    async def test_whoever_says_too_much_is_hung_up_on_at_once(self):
        async with _calling(floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000)) as (sender, server):
            assert await sender.send("e1", BODY, NOW) == Delivered()
            await server.left()

    async def test_after_a_refusal_the_next_is_sent_all_the_same(self):
        for bad in (says(b"garbage\r\n\r\n"), says(b"", then_hangs_up=True), hangs):
            async with _calling(bad, SHORT) as (sender, server):
                assert isinstance(await sender.send("e1", BODY, NOW), Refused)
                server.answer = says(NO_CONTENT)
                assert await sender.send("e1", BODY, NOW) == Delivered()

    async def test_as_many_at_once_as_may_be_in_flight_and_their_connections_are_kept(self):
        gate = asyncio.Event()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            writer.write(NO_CONTENT)
            await writer.drain()

        async with _calling(answer, in_flight=12) as (sender, server):
            for round_ in (1, 2, 3):
                gate.clear()
                sending = [asyncio.create_task(sender.send(f"e{n}", BODY, NOW)) for n in range(12)]
                await server.asked(12 * round_)
                assert server.connections == 12
                gate.set()
                assert await asyncio.gather(*sending) == [Delivered()] * 12
        ids = [request.headers["webhook-id"] for request in server.requests]
        assert [set(ids[at : at + 12]) for at in (0, 12, 24)] == [{f"e{n}" for n in range(12)}] * 3


class TestTls:
    async def _outcome(
        self, authority: Authority, tls: ssl.SSLContext, host: str = NAME
    ) -> tuple[object, Server]:
        async with serving(says(NO_CONTENT), tls) as server:
            url = f"https://{host}:{server.port}/hooks"
            return await _send(_endpoint(url), tls=authority.trusting()), server

    async def test_the_name_is_what_the_server_is_asked_for(self, authority):
        outcome, server = await self._outcome(authority, authority.server(NAME))
        assert outcome == Delivered()
        assert server.names == [NAME]
        (request,) = server.requests
        assert request.headers["host"] == f"{NAME}:{server.port}"
        assert request.line == "POST /hooks HTTP/1.1"

    async def test_a_full_stop_at_the_end_is_the_names_but_not_the_certificates(self, authority):
        outcome, server = await self._outcome(authority, authority.server(NAME), f"{NAME}.")
        assert (outcome, server.names) == (Delivered(), [NAME])

    async def test_a_name_that_only_machines_have(self, authority):
        outcome, server = await self._outcome(
            authority, authority.server("a_b.example"), "a_b.example"
        )
        assert (outcome, server.names) == (Delivered(), ["a_b.example"])

    async def test_a_certificate_for_an_address(self, authority):
        outcome, server = await self._outcome(authority, authority.server("127.0.0.1"), "127.0.0.1")
        assert (outcome, server.names) == (Delivered(), [None])

    @pytest.mark.parametrize(
        "names", [("other.example",), ("127.0.0.1",), (f"x.{NAME}",), ("*.example.org",), ()]
    )
    async def test_a_certificate_for_somebody_else(self, authority, names):
        outcome, server = await self._outcome(authority, authority.server(*names))
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_an_expired_certificate(self, authority):
        outcome, server = await self._outcome(
            authority, authority.server(NAME, lasts=timedelta(days=-1))
        )
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_a_certificate_that_it_signed_itself(self, authority):
        outcome, server = await self._outcome(authority, authority.server(NAME, self_signed=True))
        assert (outcome, server.requests) == (Refused("TLS failed"), [])

    async def test_an_authority_that_nobody_knows(self, authority):
        async with serving(says(NO_CONTENT), authority.server(NAME)) as server:
            assert await _send(_endpoint(f"https://{NAME}:{server.port}/")) == Refused("TLS failed")
        assert server.requests == []

    async def test_no_tls_at_all(self, authority):
        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Speak plainly\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            outcome = await _send(_endpoint(f"https://{NAME}:{port}/"), tls=authority.trusting())
        assert outcome in (Refused("TLS failed"), Refused("connection failed"))

    async def test_it_is_not_tried_at_another_address(self, authority):
        async with (
            serving(says(NO_CONTENT), authority.server("other.example")) as impostor,
            serving(says(NO_CONTENT), authority.server(NAME), "127.0.0.2", impostor.port) as server,
        ):
            names = Names(["127.0.0.1", "127.0.0.2"])
            outcome = await _send(
                _endpoint(f"https://{NAME}:{server.port}/"), names, authority.trusting()
            )
        assert (outcome, server.connections) == (Refused("TLS failed"), 0)


PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.254 168.63.129.16
    169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.254 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1
    192.0.0.8 192.0.0.9 192.0.0.192 192.168.0.1 192.168.255.254 198.18.0.1 198.19.255.254 198.51.100.1 203.0.113.1 224.0.0.1 233.252.0.1
    239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 ::ffff:100.64.0.1
    ::ffff:224.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808:: fc00::1
    3fff::1 fd00:ec2::254 fd12:3456:789a::1 fe80::1 fe80::1%lo fec0::1 2606:4700::1111%lo ff02::1 ff05::2 ff0e::1
""".split()
PUBLIC = """
    8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.0.1 223.255.255.254
    ::ffff:8.8.8.8 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1
""".split()


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    async def test_an_address_that_is_not_public_is_not_connected_to(self, address):
        assert not is_public(ip_address(address))
        url = f"https://{NAME}:1/"
        assert await _send(_endpoint(url, SHORT, private=False), Names([address])) == NOT_ALLOWED
        assert (
            await _send(_endpoint(url, SHORT, private=False), Names([address, "127.0.0.1"]))
            == NOT_ALLOWED
        )

    @pytest.mark.parametrize("address", PUBLIC)
    def test_an_address_that_is_public(self, address):
        assert is_public(ip_address(address))

    @pytest.mark.parametrize(
        "host",
        """
        127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0x7F.0x0.0x0.0x1 017700000001 0 0.0.0.0 10.1 167772161 0xa000001
        169.254.169.254 2852039166 0xa9fea9fe 169.16689662 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376 100.64.0.1 224.0.0.1
        0177.0.0.1 %31%32%37.0.0.1 ①②⑦.0.0.1 127。0。0。1 127.0.0.1%00.example user@127.0.0.1 1.1.1.1@127.0.0.1
        [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [0:0:0:0:0:ffff:a9fe:a9fe] [fd00:ec2::254] [fe80::1]
        [fe80::1%251] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [ff02::1] [fec0::1] [v1.127.0.0.1]
        """.split(),
    )
    async def test_no_spelling_leads_to_where_it_must_not(self, tmp_path, host):
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
            assert await _send(endpoint, Resolver()) == NOT_ALLOWED

    async def test_this_machine_by_its_name_is_reached_without_being_allowed(self):
        async with serving(says(NO_CONTENT)) as server:
            for host, known in (
                ("localhost", ["127.0.0.1"]),
                ("localhost.", ["127.0.0.1"]),
                ("127.0.0.1", None),
            ):
                resolve = Resolver() if known is None else Names(known)
                endpoint = _endpoint(f"http://{host}:{server.port}/", private=False)
                assert await _send(endpoint, resolve) == Delivered()
            assert server.connections == 3

    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "169.254.169.254", "8.8.8.8", "0.0.0.0", "::ffff:8.8.8.8"]
    )
    @pytest.mark.parametrize("private", [False, True])
    async def test_the_name_of_this_machine_leads_nowhere_else(self, address, private):
        endpoint = _endpoint("http://localhost:1/", SHORT, private)
        assert await _send(endpoint, Names([address])) == NOT_ALLOWED

    async def test_a_name_that_leads_to_a_private_place(self):
        async with serving(says(NO_CONTENT)) as secret:
            url = f"http://{NAME}:{secret.port}/"
            for known in (
                ["127.0.0.1"],
                ["10.0.0.1", "127.0.0.1"],
                ["::ffff:127.0.0.1", "127.0.0.1"],
                [],
            ):
                assert await _send(_endpoint(url, private=False), Names(known)) == NOT_ALLOWED
            assert secret.connections == 0
            assert await _send(_endpoint(url, private=True)) == Delivered()

    async def test_look_up_knows_addresses(self):
        resolver = Resolver()
        assert await resolver("127.0.0.1", 80) == ["127.0.0.1"]
        assert await resolver("::1", 80) == ["::1"]
        resolver.close()

    async def test_a_name_server_that_hangs_holds_up_no_other_endpoint(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        known, over = socket.getaddrinfo, threading.Event()

        def hang(host: str, *rest: Any, **more: Any) -> Any:
            if host == NAME:
                over.wait(PATIENCE)
                raise OSError
            return known(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        stuck = Sender(_endpoint(f"http://{NAME}/", SHORT))
        try:
            sends = [
                stuck.send("e1", BODY, NOW) for _ in range(60)
            ]  # more than any pool of threads has
            assert set(await asyncio.gather(*sends)) == {Refused("timeout")}
            async with serving(says(NO_CONTENT)) as server:
                assert (
                    await _send(_endpoint(f"http://127.0.0.1:{server.port}/"), Resolver())
                    == Delivered()
                )
        finally:
            over.set()
            await stuck.close()


class TestRebinding:
    """127.0.0.1 stands for a public address, 127.0.0.2 for one that must not be reached."""

    @pytest.fixture(autouse=True)
    def _public(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhooks, "is_public", lambda address: str(address) == "127.0.0.1")

    @asynccontextmanager
    async def _places(self) -> AsyncIterator[tuple[Server, Server, Endpoint]]:
        # It hangs up after each, so that each attempt connects anew.
        goodbye = says(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", then_hangs_up=True)
        async with (
            serving(goodbye) as public,
            serving(goodbye, None, "127.0.0.2", public.port) as secret,
        ):
            yield public, secret, _endpoint(f"http://{NAME}:{public.port}/", private=False)

    async def test_first_public_then_private(self):
        async with self._places() as (public, secret, endpoint):
            names = Names(["127.0.0.1"], ["127.0.0.2"])
            async with _sender(endpoint, names) as sender:
                assert await sender.send("e1", BODY, NOW) == Delivered()
                assert len(names.asked) == 1  # what was checked is what was called
                assert await sender.send("e2", BODY, NOW) == NOT_ALLOWED
            assert len(names.asked) == 2
            assert (public.connections, secret.connections) == (1, 0)

    async def test_of_mixed_answers_only_the_public_are_called(self):
        for known in (["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]):
            async with self._places() as (public, secret, endpoint):
                assert await _send(endpoint, Names(known)) == Delivered()
                assert (public.connections, secret.connections) == (1, 0)

    async def test_a_public_place_that_is_down_leads_to_no_private_one(self):
        async with serving(says(NO_CONTENT), None, "127.0.0.2") as secret:
            endpoint = _endpoint(f"http://{NAME}:{secret.port}/", private=False)
            assert await _send(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Refused(
                "connection failed"
            )
            assert secret.connections == 0


class Gate:
    """A look-up that takes until the gate is opened."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self, *_: object) -> Sequence[str]:
        self.asked += 1
        self.begun.set()
        await self.open.wait()
        return []


class TestLookUps:
    async def test_those_that_wait_share_one_and_the_next_asks_anew(self):
        gate = Gate()
        async with _sender(_endpoint(f"https://{NAME}/"), gate) as sender:
            sending = [asyncio.create_task(sender.send(f"e{n}", BODY, NOW)) for n in range(3)]
            await gate.begun.wait()
            gate.open.set()
            assert await asyncio.gather(*sending) == [NOT_ALLOWED] * 3
            assert gate.asked == 1
            assert await sender.send("e4", BODY, NOW) == NOT_ALLOWED
            assert gate.asked == 2

    async def test_who_gives_up_takes_it_from_nobody_else(self):
        gate = Gate()
        async with _sender(_endpoint(f"https://{NAME}/"), gate) as sender:
            first = asyncio.create_task(sender.send("e1", BODY, NOW))
            await gate.begun.wait()
            second = asyncio.create_task(sender.send("e2", BODY, NOW))
            await asyncio.sleep(0)  # so that it waits, too
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            gate.open.set()
            assert await second == NOT_ALLOWED
        assert gate.asked == 1

    async def test_none_goes_on_once_it_is_closed(self):
        before = asyncio.all_tasks()
        assert await _send(_endpoint(f"https://{NAME}/", SHORT), Gate()) == Refused("timeout")
        assert asyncio.all_tasks() == before

    async def test_one_that_hangs_holds_up_no_other_sender_and_no_closing(self, monkeypatch):
        release, hanging = threading.Event(), threading.Event()
        known = socket.getaddrinfo

        def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
            if host == NAME:
                hanging.set()
                release.wait(PATIENCE)
            return known("127.0.0.1", *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        # As many as the loop's own threads could be, so that one more would have to wait for them.
        stuck = [Sender(_endpoint(f"https://{NAME}/", SHORT)) for _ in range(40)]
        try:
            async with serving(says(NO_CONTENT)) as server, asyncio.timeout(PATIENCE / 2):
                assert (
                    await asyncio.gather(*(one.send("e1", BODY, NOW) for one in stuck))
                    == [Refused("timeout")] * 40
                )
                assert hanging.is_set()
                other = Sender(_endpoint(f"http://localhost:{server.port}/"))
                assert await other.send("e1", BODY, NOW) == Delivered()
                await asyncio.gather(*(one.close() for one in [*stuck, other]))
        finally:
            release.set()


@contextmanager
def _swallowing() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody is turned away and nobody is let in: its queue is full
    (listen(2)).
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
    async def test_the_next_is_tried_if_nobody_is_at_the_first(self):
        async with serving(says(NO_CONTENT), None, "127.0.0.2") as server:
            endpoint = _endpoint(f"http://{NAME}:{server.port}/")
            assert await _send(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Delivered()
            assert server.connections == 1

    async def test_one_that_swallows_what_it_is_sent_leaves_time_for_the_next(self):
        with _swallowing() as port:
            async with serving(says(NO_CONTENT), None, "127.0.0.2", port) as server:
                endpoint = _endpoint(f"http://{NAME}:{port}/", timedelta(seconds=2))
                assert await _send(endpoint, Names(["127.0.0.1", "127.0.0.2"])) == Delivered()
                assert server.connections == 1

    async def test_if_all_swallow_it_is_a_timeout(self):
        with _swallowing() as port:
            endpoint = _endpoint(f"http://{NAME}:{port}/", SHORT)
            assert await _send(endpoint, Names(["127.0.0.1", "127.0.0.1"])) == Refused("timeout")

    @pytest.mark.parametrize("answer", [says(b"", then_hangs_up=True), status("500 Oh")])
    async def test_once_connected_no_other_is_tried(self, answer):
        """It may have arrived: whether it is sent again is not for this room to say."""
        async with (
            serving(answer) as first,
            serving(says(NO_CONTENT), None, "127.0.0.2", first.port) as second,
        ):
            endpoint = _endpoint(f"http://{NAME}:{first.port}/")
            assert isinstance(await _send(endpoint, Names(["127.0.0.1", "127.0.0.2"])), Refused)
            assert (first.connections, second.connections) == (1, 0)

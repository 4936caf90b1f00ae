"""Sends events to an endpoint as signed CloudEvents, and connects only to allowed addresses.

The URL of an endpoint must not give access to hosts in a private network. So the relay looks up the
host of the URL before each attempt, and checks the addresses. Addresses that are not public are
left out, unless the endpoints file names the host in `private_hosts`. If the host is `localhost` or
a loopback address, only loopback addresses are used. The relay connects to a checked address,
without a second look-up. The relay follows no redirects, and uses only the status and the header
`Retry-After` of a response.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from google.protobuf.json_format import MessageToDict

from session_authority import __version__
from session_authority.domain.events import RecordedEvent
from session_authority.domain.moments import to_seconds
from session_authority.events.messages import event_message, event_type_name
from session_authority.relay.endpoints import Endpoint
from session_authority.runtime.addresses import is_loopback
from session_authority.runtime.tracing import active

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
MAX_RETRY_AFTER = timedelta(hours=1)
_MAX_ANSWER_BYTES = 16 * 1024
_TYPE_PREFIX = "session_authority.v1."
# Python counts most of these ranges as public. But a gateway may forward packets for these
# addresses to an address that is not public. The ranges belong to NAT64 (RFC 6052, RFC 8215), 6to4
# (RFC 3056), the relays of 6to4 (RFC 7526), and Teredo (RFC 4380). The last range is the address at
# which virtual machines on Azure reach services of the Azure platform.
_LEADING_ELSEWHERE = tuple(
    map(
        ip_network,
        (
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2002::/16",
            "192.88.99.0/24",
            "2001::/32",
            "168.63.129.16/32",
        ),
    )
)
# These ranges are not public, but some supported versions of Python count them as public. The first
# range is for protocol assignments (RFC 6890 §2.2.2), and the second range is for documentation
# (RFC 9637). The metadata service of one cloud provider has the address 192.0.0.192.
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "3fff::/20")))

Address = IPv4Address | IPv6Address
# The type of a function that returns the IP addresses of a host name for a port.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Delivered:
    """Says that the endpoint accepted the event with a 2xx status."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Says that an attempt failed: the endpoint refused the event, or the relay can't know whether
    the endpoint accepted the event.

    `reason` describes the failure for operators. `retry_after` is the pause that the endpoint asked
    for with the status 429 or 503, but at most an hour. `retry_after` is None if the endpoint asked
    for no pause.
    """

    reason: str
    retry_after: timedelta | None = None


def cloud_event(recorded: RecordedEvent, source: str) -> bytes:
    """Returns the event in the JSON format of CloudEvents 1.0.

    The attribute `data` is the message `Event` of the public contract, in protobuf's JSON format.
    The fields of `data` have the names that they have in the contract.
    """
    message = event_message(recorded)
    envelope = {
        "specversion": "1.0",
        "id": recorded.event_id,
        "source": source,
        "type": _TYPE_PREFIX + event_type_name(message.type),
        "subject": recorded.event.user_id,
        "time": message.create_time.ToJsonString(),
        "datacontenttype": "application/json",
        "data": MessageToDict(message, preserving_proto_field_name=True),
    }
    if not recorded.event.user_id:  # CloudEvents allows no empty attribute
        del envelope["subject"]
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def signature_headers(
    secrets: Sequence[bytes], event_id: str, body: bytes, now: datetime
) -> dict[str, str]:
    """Returns the headers that the Standard Webhooks specification defines: the ID of the event,
    the time of the attempt, and one signature for each secret.
    """
    timestamp = str(to_seconds(now))
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    signatures = (
        base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets
    )
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def is_public(address: Address) -> bool:
    """Returns True if an address is public. Returns False for public addresses whose packets may be
    forwarded to an address that is not public.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.scope_id is not None or address.is_site_local:
            return False
    if any(address in network for network in _LEADING_ELSEWHERE + _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class Resolver:
    """Looks up host names with the resolver of the operating system.

    A look-up blocks its thread until the name server answers. Each `Resolver` has its own thread,
    and each endpoint has its own `Resolver`. So a slow name server does not delay the look-ups of
    other endpoints.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="look-up")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Returns the IP addresses of a host. Raises OSError if the look-up fails, UnicodeError if
        the host name can't be encoded.
        """
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._thread, look_up)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    def close(self) -> None:
        """Drops pending look-ups, and does not wait for a running look-up."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends events to one endpoint."""

    def __init__(
        self, endpoint: Endpoint, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._endpoint = endpoint
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver
        self._looking: asyncio.Future[Sequence[str]] | None = None
        self._url = httpx.URL(endpoint.url)
        self._host = urlsplit(endpoint.url).hostname or ""
        self._port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._client = httpx.AsyncClient(
            verify=tls or ssl.create_default_context(),
            trust_env=False,  # ignore proxies in environment variables
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # keep no cookies
            timeout=None,  # noqa: S113 - `_attempt` has a time limit
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=endpoint.max_in_flight
            ),
            headers={
                "User-Agent": f"session-authority/{__version__}",
                "Content-Type": CONTENT_TYPE,
            },
        )

    async def send(self, event_id: str, body: bytes, now: datetime) -> Delivered | Refused:
        """Sends one event, and returns the outcome. If the attempt fails, returns `Refused` and
        raises no error.
        """
        tracer = active()
        if tracer is None:
            return await self._attempt(event_id, body, now, {})
        with tracer.delivery(self._endpoint.name, self._host, self._port) as trace:
            outcome = await self._attempt(event_id, body, now, trace.headers())
            if isinstance(outcome, Refused):
                trace.failed(outcome.reason)
            return outcome

    async def _attempt(
        self, event_id: str, body: bytes, now: datetime, more: Mapping[str, str]
    ) -> Delivered | Refused:
        headers = {**signature_headers(self._endpoint.secrets, event_id, body, now), **more}
        try:
            async with asyncio.timeout(self._endpoint.timeout.total_seconds()):
                return await self._send(headers, body, now)
        except TimeoutError:
            return Refused("timeout")
        except httpx.ConnectError as error:
            return Refused("TLS failed" if _is_of_tls(error) else "connection failed")
        except (httpx.ProtocolError, httpx.DecodingError, httpx.InvalidURL):
            return Refused("no HTTP answer")
        except (httpx.HTTPError, OSError) as error:
            return Refused(f"connection lost ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 - a response may cause any error in httpx
            return Refused(f"failed ({type(error).__name__})")

    async def _send(
        self, headers: dict[str, str], body: bytes, now: datetime
    ) -> Delivered | Refused:
        addresses = await self._addresses()
        if not addresses:
            return Refused("address not allowed")
        deadline = monotonic() + self._endpoint.timeout.total_seconds()
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            last = left == 1
            # If an address does not answer, time must be left for the next addresses. So the
            # attempt to connect to an address may take only a share of the remaining time. The last
            # address gets all of the remaining time.
            connect = None if last else (deadline - monotonic()) / left
            request = self._client.build_request(
                "POST",
                self._url.copy_with(host=str(address)),
                content=body,
                headers={**headers, "Host": self._url.netloc.decode()},
                extensions={
                    "sni_hostname": self._host.rstrip("."),  # without a trailing dot: RFC 6066 §3
                    "timeout": {"connect": connect},
                },
            )
            try:
                response = await self._call(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last or _is_of_tls(error):
                    raise
                continue
            return await self._outcome(response, now)
        raise AssertionError("the last address was tried")

    async def _call(self, request: httpx.Request) -> httpx.Response:
        """Sends the request. Returns the response before its body is read.

        If a request is cancelled during the TLS handshake, httpcore leaves the connection open. So
        this method closes the connection after each error.
        """
        connected: list[Any] = []

        async def note(step: str, info: Mapping[str, Any]) -> None:
            if step == "connection.connect_tcp.complete":
                connected.append(info["return_value"])

        request.extensions["trace"] = note
        try:
            return await self._client.send(request, stream=True)
        except BaseException:
            for stream in connected:
                await stream.aclose()
            raise

    async def _addresses(self) -> Sequence[Address]:
        """Looks up the host of the endpoint, and returns the addresses to which the relay may
        connect. Raises httpx.ConnectError if the look-up fails.
        """
        try:
            found = await self._look_up()
        except (OSError, UnicodeError):
            raise httpx.ConnectError("no such host") from None
        return [address for address in map(ip_address, found) if self._may_reach(address)]

    async def _look_up(self) -> Sequence[str]:
        """Looks up the host of the endpoint. If a look-up is already under way, waits for the
        result of that look-up. A second look-up would start only after the first one, because the
        resolver has one thread.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._resolve(self._host, self._port))
            self._looking.add_done_callback(
                lambda looking: looking.cancelled() or looking.exception()
            )
        return await asyncio.shield(self._looking)

    def _may_reach(self, address: Address) -> bool:
        if is_loopback(self._host, mapped=False):
            return address.is_loopback
        return self._endpoint.private or is_public(address)

    async def _outcome(self, response: httpx.Response, now: datetime) -> Delivered | Refused:
        if active() is not None:
            from session_authority.runtime.otel import note_http_status

            note_http_status(response.status_code)
        try:
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > _MAX_ANSWER_BYTES:  # the relay does not use the body
                    break
        finally:
            await response.aclose()
        if response.is_success:
            return Delivered()
        if response.is_redirect:
            return Refused(f"redirect {response.status_code}")
        retry_after = (
            response.headers.get("retry-after") if response.status_code in (429, 503) else None
        )
        return Refused(f"status {response.status_code}", _retry_after(retry_after, now))

    async def close(self) -> None:
        """Closes the connections to the endpoint. Stops waiting for a look-up that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._resolver.close()
        await self._client.aclose()


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Returns the pause that the header `Retry-After` asks for, rounded up to whole seconds, but at
    most an hour. Returns None if the header is missing or invalid.

    `value` is the value of the header: a number of seconds, or a date (RFC 9110 §10.2.3).
    """
    if not value:
        return None
    if value.isascii() and value.isdecimal():
        seconds = float(value)
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return timedelta(seconds=math.ceil(min(max(seconds, 0), MAX_RETRY_AFTER.total_seconds())))

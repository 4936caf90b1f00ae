"""A sender with the settings of a test and with its own host names, and the outcome of one
event.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from session_authority.relay import Delivered, Endpoint, Refused, Sender
from session_authority.relay.webhooks import Resolve
from tests.relay.servers import Answer, Server, serving

DEADLINE_SECONDS = 20.0  # For conditions that a test awaits.
NOW = datetime.fromisoformat("2026-01-01T00:00:00Z")
SECRET = b"s" * 32
BODY = b'{"id":"e1"}'
NAME = "hooks.example"
# `LONG` is so long that only an endpoint that never answers exceeds it.
LONG, SHORT = timedelta(seconds=10), timedelta(milliseconds=200)
NOT_ALLOWED = Refused("address not allowed")
# The TLS context that a sender makes for itself. It is made once, as it reads every certificate
# that the system trusts.
TLS = ssl.create_default_context()


class Names:
    """A look-up that knows every name. Each call returns the next answer, and the last answer
    repeats.
    """

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers) or [["127.0.0.1"]]

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def endpoint_at(
    url: str, timeout: timedelta = LONG, private: bool = True, in_flight: int = 16
) -> Endpoint:
    return Endpoint("a", url, (SECRET,), timeout=timeout, private=private, max_in_flight=in_flight)


@asynccontextmanager
async def sender_to(
    endpoint: Endpoint, resolve: Resolve | None = None, tls: ssl.SSLContext | None = TLS
) -> AsyncIterator[Sender]:
    """A sender. The test fails if the block takes longer than the deadline."""
    sender = Sender(endpoint, resolve or Names(), tls)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield sender
    finally:
        await sender.close()


async def send_to(
    endpoint: Endpoint, resolve: Resolve | None = None, tls: ssl.SSLContext | None = TLS
) -> Delivered | Refused:
    async with sender_to(endpoint, resolve, tls) as sender:
        return await sender.send("e1", BODY, NOW)


async def outcome_of(answer: Answer, within: timedelta = LONG) -> Delivered | Refused:
    """The outcome of an event that is answered this way."""
    async with serving(answer) as server:
        return await send_to(endpoint_at(f"http://{NAME}:{server.port}/", within))


@asynccontextmanager
async def calling(
    answer: Answer, within: timedelta = LONG, in_flight: int = 16
) -> AsyncIterator[tuple[Sender, Server]]:
    """A sender to a server that answers this way."""
    async with (
        serving(answer) as server,
        sender_to(
            endpoint_at(f"http://{NAME}:{server.port}/", within, in_flight=in_flight)
        ) as sender,
    ):
        yield sender, server

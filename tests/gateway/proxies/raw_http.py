"""Requests as exact text, which no well-behaved client would send."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.gateway.proxies.upstream import MARK

PATIENCE = 30.0  # Seconds, on a busy machine.
# This is not the address of the proxies, which the gateway trusts. For a client at 127.0.0.1, Envoy
# would write its own address into X-Forwarded-For.
CLIENT = "127.0.0.2"
_marks = count(1)

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Response:
    """The response that a client got. `mark` finds the app's record of the request."""

    mark: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all lines with this name."""
        return [value for key, value in self.headers if key.lower() == name]

    def value(self, name: str) -> str:
        """The value of a header that comes once. Empty if the header is missing."""
        (value,) = self.values(name) or [""]
        return value

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def send(
    port: int,
    target: str,
    headers: Headers = (),
    *,
    method: str = "GET",
    host: str = "app.test",
    body: bytes = b"",
) -> Response:
    """Sends a request on a connection of its own."""
    mark = f"mark-{next(_marks)}"
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        f"{MARK}: {mark}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if not any(name.lower() == "connection" for name, _ in headers):
        lines.append("Connection: close")
    if body or method not in ("GET", "HEAD", "OPTIONS"):
        lines.append(f"Content-Length: {len(body)}")
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (CLIENT, 0)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        data = b""
        if response.status == 101:
            # What follows is no HTTP: the first frame of a WebSocket.
            data = response.fp.read(7)
        elif response.status != 304:
            data = response.read()
        return Response(mark, response.status, response.getheaders(), data)

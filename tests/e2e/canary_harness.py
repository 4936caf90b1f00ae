"""A running service that canaries are sent through, and every place that they could leak to."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis

from session_authority.console.connection import Target, channel_to
from session_authority.runtime.addresses import Listen
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.e2e.canaries import CARRIED, Canaries, Place
from tests.support.commands import PATIENCE, Command


@dataclass
class Stage:
    """A running service, its Redis, and everything that was seen of them."""

    canaries: Canaries
    server: Command
    address: str
    admin: redis.Redis
    written: Path
    metrics: list[int]
    token: str | None = None
    other_token: str | None = None
    ca: bytes | None = None
    seen: list[tuple[Place, str, bytes]] = field(default_factory=list)

    @contextmanager
    def stub(self, token: str | None) -> Iterator[Any]:
        """A stub that calls with this token, on a connection of its own."""
        listen = Listen.parse(self.address)
        tls = self.ca is not None
        with channel_to(Target(listen, tls=tls, ca=self.ca, token=token)) as channel:
            yield pb_grpc.SessionAuthorityServiceStub(channel)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A channel without a token."""
        tls = self.ca is not None
        with channel_to(Target(Listen.parse(self.address), tls=tls, ca=self.ca)) as channel:
            yield channel

    def printed(self, what: str, text: str) -> None:
        """Records what a command printed."""
        self.seen.append((Place.LOG, what, text.encode()))

    def refuses(
        self, call: Callable[..., Any], request: Any, *codes: grpc.StatusCode, **more: Any
    ) -> None:
        """Makes a call that must fail, and records everything in its error."""
        with pytest.raises(grpc.RpcError) as refused:
            _all(call(request, timeout=PATIENCE, **more))
        error: Any = refused.value
        assert error.code() in codes, error
        trailers = [*(error.trailing_metadata() or ()), *(error.initial_metadata() or ())]
        told = f"{error.code()} {error.details()} {error.debug_error_string()} {trailers}".encode()
        told += b" ".join(v if isinstance(v, bytes) else v.encode() for _, v in trailers)
        self.seen.append((Place.ERROR, f"{error.details()!r}", told))

    def look_around(self) -> None:
        """Reads the logs, the metrics, and everything that Redis holds or ever received as a
        write.
        """
        self.printed("the server's output", self.server.printed + self.server.errors)
        for port in self.metrics:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE
            ) as answer:
                self.seen.append((Place.METRIC, "the metrics", answer.read()))
        keys = sorted(self.admin.scan_iter(count=1000))
        assert keys
        for key in keys:
            self.seen.append(
                (
                    Place.REDIS,
                    f"the key {key!r}",
                    key + b" " + repr(_content(self.admin, key)).encode(),
                )
            )
            self.seen.append(
                (Place.REDIS, f"the key {key!r}", b" ".join(_flat(_content(self.admin, key))))
            )
        appended = b"".join(path.read_bytes() for path in sorted(self.written.rglob("*.aof")))
        assert appended
        self.seen.append((Place.REDIS, "the file that Redis appends to", appended))

    def has_leaked_nothing(self) -> None:
        """Fails for a canary in a place where it must not be. Also fails for a canary that is
        missing where it must be, because the search itself is broken then.
        """
        leaks = {
            f"{what} is in {place.value}: {where:.100}"
            for place, where, data in self.seen
            for what in self.canaries.leaks(place, data)
        }
        assert not leaks, "\n".join(sorted(leaks))
        for place in (Place.EVENT, Place.REDIS):
            found = {
                what
                for where, _, data in self.seen
                if where is place
                for what in self.canaries.found(data)
            }
            assert {what for what, places in CARRIED.items() if place in places} <= found, place


def _all(answer: Any) -> list[Any]:
    """The messages of a stream. A unary answer is its own only message."""
    return list(answer) if hasattr(answer, "__next__") else [answer]


def _content(admin: redis.Redis, key: bytes) -> Any:
    match admin.type(key):
        case b"string":
            return admin.get(key)
        case b"hash":
            return admin.hgetall(key)
        case b"zset":
            return admin.zrange(key, 0, -1)
        case b"stream":
            groups = admin.xinfo_groups(key)
            return (
                admin.xrange(key),
                groups,
                [admin.xinfo_consumers(key, group["name"]) for group in groups],
            )
        case other:
            pytest.fail(f"nobody looks into a {other!r}")


def _flat(value: Any) -> Iterator[bytes]:
    """All the bytes in a value, which a repr would write differently."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _flat(pair)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for part in value:
            yield from _flat(part)
    else:
        yield str(value).encode()

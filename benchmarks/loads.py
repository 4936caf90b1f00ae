"""The kinds of load that a variant can have.

A load is opened once and then runs one turn after the other. The first turn is a warm-up.
"""

from __future__ import annotations

import asyncio
import csv
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from benchmarks.load.answers import Questions, WrongAnswer
from benchmarks.load.loops import Outcome, closed_loop, connected, open_loop
from benchmarks.population import SignedIn
from benchmarks.stage import Running
from session_authority_client import AsyncSessionAuthority

WARM_UP = -1
_WARM_UP_SECONDS = 0.3
_CLIENT_TIMEOUT = timedelta(seconds=30)

# Runs one turn. The argument is the number of the round, or WARM_UP.
TakeTurn = Callable[[int], Outcome]


class Load(Protocol):
    """The load that a variant puts on its server."""

    def opened(self, running: Running) -> AbstractContextManager[TakeTurn]:
        """Connects, and yields the function that runs a turn."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed loop that lasts `seconds` in each turn. The first turn asks every question once.

    With `calls`, each turn has that many calls, and no question is ever asked twice.
    """

    questions: Questions
    seconds: float
    connections: int = 4
    streams: int = 16
    calls: int | None = None

    @contextmanager
    def opened(self, running: Running) -> Iterator[TakeTurn]:
        """Connects, and yields the function that runs a turn."""
        with connected(running.port, self.questions, self.connections, running.tls) as connections:

            def turn(number: int) -> Outcome:
                calls, seconds, first = self.calls, self.seconds, 0
                if calls is not None:
                    seconds, first = 60.0, (number + 1) * calls
                elif number == WARM_UP and len(self.questions.payloads) > 1:
                    seconds, calls = 60.0, len(self.questions.payloads)
                elif number == WARM_UP:
                    seconds = min(seconds, _WARM_UP_SECONDS)
                return closed_loop(
                    connections, self.questions, self.streams, seconds, calls=calls, first=first
                )

            yield turn


@dataclass(frozen=True, slots=True)
class Open:
    """An open loop at a fixed rate."""

    questions: Questions
    seconds: float
    rate: float
    connections: int = 4

    @contextmanager
    def opened(self, running: Running) -> Iterator[TakeTurn]:
        """Connects, and yields the function that runs a turn."""
        with connected(running.port, self.questions, self.connections, running.tls) as connections:
            yield lambda number: open_loop(
                connections,
                self.questions,
                self.rate,
                _WARM_UP_SECONDS if number == WARM_UP else self.seconds,
            )


@dataclass(frozen=True, slots=True)
class RedisBenchmark:
    """`redis-benchmark` reads one field of a hash over and over."""

    key: str
    field: str
    calls: int

    @contextmanager
    def opened(self, running: Running) -> Iterator[TakeTurn]:
        """Yields the function that runs a turn. `redis-benchmark` makes its own connections."""

        def turn(_: int) -> Outcome:
            options = ["-p", str(running.port), "-c", "64", "-n", str(self.calls), "--csv"]
            command = ["redis-benchmark", *options, "HGET", self.key, self.field]
            began = time.perf_counter()
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            row = list(csv.DictReader(run.stdout.splitlines()))[-1]
            if "WARNING" in run.stdout or float(row["rps"]) <= 0:
                raise WrongAnswer("redis-benchmark was not answered")
            latencies = [float(row["p50_latency_ms"]) * 1000] * 98
            latencies += [float(row["p99_latency_ms"]) * 1000] * 2
            return Outcome(self.calls, time.perf_counter() - began, latencies)

        yield turn


@dataclass(frozen=True, slots=True)
class PythonClient:
    """The Python client with its usual batching. `callers` tasks validate without a pause."""

    people: Sequence[SignedIn]
    seconds: float
    callers: int = 64

    @contextmanager
    def opened(self, running: Running) -> Iterator[TakeTurn]:
        """Connects, and yields the function that runs a turn."""
        with asyncio.Runner() as runner:

            async def connect() -> AsyncSessionAuthority:
                address = f"127.0.0.1:{running.port}"
                return AsyncSessionAuthority(address, timeout=_CLIENT_TIMEOUT)

            client = runner.run(connect())
            yield lambda _: runner.run(self._turn(client))
            runner.run(client.__aexit__(None, None, None))

    async def _turn(self, client: AsyncSessionAuthority) -> Outcome:
        began = time.perf_counter()
        end, latencies = began + self.seconds, list[float]()

        async def ask(one: SignedIn) -> None:
            while (asked := time.perf_counter()) < end:
                validation = await client.validate_session(one.access_token, str(one.device_id))
                if not validation:
                    raise WrongAnswer(f"a live session is {validation.status}")
                latencies.append((time.perf_counter() - asked) * 1e6)

        people = self.people
        await asyncio.gather(*(ask(people[n % len(people)]) for n in range(self.callers)))
        return Outcome(len(latencies), time.perf_counter() - began, latencies)


def is_here(program: str) -> bool:
    """True if the program is installed."""
    return subprocess.run(["which", program], capture_output=True, check=False).returncode == 0  # noqa: S607

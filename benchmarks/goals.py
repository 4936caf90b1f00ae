"""The goals: each row of the table with its two limits, and the computation of its figure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Results, ratios

Reckoning = Callable[[Results], list[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with its limits. The median of its rounds' values counts."""

    figure: str
    must: float
    aim: float
    reckon: Reckoning
    at_least: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a goal in a run. `values` is empty if the goal was not measured."""

    goal: Goal
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The median of the values, which is compared with the limits."""
        return statistics.median(self.values)

    def words(self) -> str:
        """Returns the verdict in words."""
        if not self.values:
            return "not measured"
        if self._reaches(self.goal.aim):
            return "aim reached"
        return "reached" if self._reaches(self.goal.must) else "**not reached**"

    def _reaches(self, limit: float) -> bool:
        return self.median >= limit if self.goal.at_least else self.median <= limit


def server(name: str, floor: str) -> Reckoning:
    """Computes the ratio of the server's processor time to that of the floor's server."""
    return lambda results: ratios(results, "server_us", name, floor)


def server_and_store(name: str, floor: str) -> Reckoning:
    """Computes the same ratio for the processor time of server and store together."""

    def reckon(results: Results) -> list[float]:
        def sums(of: str) -> list[float]:
            both = zip(results.series(of, "server_us"), results.series(of, "store_us"), strict=True)
            return [one + other for one, other in both]

        return [value / of for value, of in zip(sums(name), sums(floor), strict=False)]

    return reckon


def rate(name: str, floor: str) -> Reckoning:
    """Computes the ratio of the answers per second of two variants."""
    return lambda results: ratios(results, "rate", name, floor)


def p99(name: str, floor: str) -> Reckoning:
    """Computes the ratio of the p99 waiting times of two variants."""
    return lambda results: ratios(results, "p99_us", name, floor)


def fact(name: str) -> Reckoning:
    """Uses the values of a measured fact, without a ratio."""
    return lambda results: results.series(name, "fact")


def scaling(name: str, single: str) -> Reckoning:
    """Computes how many times the work of one process several processes can do.

    The busiest process reaches its limit first, so only its processor time counts. The store and
    the load are left out.
    """

    def reckon(results: Results) -> list[float]:
        pairs = zip(
            results.series(single, "busiest_us"), results.series(name, "busiest_us"), strict=False
        )
        return [one / busiest for one, busiest in pairs]

    return reckon


GOALS = (
    Goal(
        "server CPU per validation ÷ stock empty RPC",
        *(0.5, 0.3),
        server("validation", "empty RPC"),
    ),
    Goal(
        "server CPU per validation ÷ an empty RPC on the same acceptor",
        *(1.6, 1.25),
        server("validation", "empty RPC, standing tasks"),
    ),
    Goal(
        "server CPU per validation with `ACCEPTOR=stock` ÷ stock empty RPC",
        *(1.3, 1.1),
        server("validation, stock acceptor", "empty RPC"),
    ),
    Goal(
        "validations/s ÷ stock empty RPCs/s, two cores in all",
        *(1.8, 2.5),
        rate("validation, anywhere", "empty RPC, anywhere"),
        at_least=True,
    ),
    Goal(
        "server CPU per validation ÷ do-it-yourself FastAPI check",
        *(0.35, 0.22),
        server("validation", "do-it-yourself"),
    ),
    Goal(
        "one stream: server CPU ÷ stock empty RPC",
        *(1.2, 1.0),
        server("validation, 1 stream", "empty RPC, 1 stream"),
    ),
    Goal(
        "64 callers of the Python client: server CPU ÷ do-it-yourself",
        *(0.1, 0.05),
        server("Python client, 64 callers", "do-it-yourself, beside batches"),
    ),
    Goal(
        "batch of 100 ÷ single, per session",
        *(0.12, 0.06),
        server("batch of 100", "validation, beside batches"),
    ),
    Goal(
        "batch of 100 with `client` ÷ single, per session",
        *(0.25, 0.12),
        server("batch of 100 with client", "validation, beside batches"),
    ),
    Goal(
        "with mutual TLS + policy ÷ plaintext",
        *(1.3, 1.15),
        server("validation, mutual TLS + policy", "validation, plaintext"),
    ),
    Goal(
        "first sight of a token, batched ÷ do-it-yourself check with EdDSA",
        *(0.6, 0.35),
        server("first sight, batched", "do-it-yourself, beside batches"),
    ),
    Goal(
        "sign-in of a user with 100 devices ÷ with 1",
        *(1.2, 1.05),
        server_and_store("sign-in, 100 devices", "sign-in, 1 device"),
    ),
    Goal(
        "sign-in of a user with 1,000 devices ÷ with 1",
        *(2.0, 1.3),
        server_and_store("sign-in, 1,000 devices", "sign-in, 1 device"),
    ),
    Goal(
        "p99 at half of saturation ÷ stock empty RPC's at the same rate",
        *(1.5, 1.1),
        p99("validation, half rate", "empty RPC, half rate"),
    ),
    Goal("Redis bytes per session, 3 devices per user", 140, 125, fact("bytes of a session")),
    Goal(
        "Redis bytes per session with device details and a 120-character agent",
        *(480, 400),
        fact("bytes of a session with its device"),
    ),
    Goal(
        "Redis bytes per session with `hash-max-listpack-value 512`",
        *(300, 250),
        fact("bytes of a session with its device, packed"),
    ),
    Goal(
        "p99 at many ÷ few sessions",
        *(1.2, 1.05),
        p99("validation, many sessions", "validation, few sessions"),
    ),
    Goal(
        "`RevokeAll` of 1,000 devices ÷ of 1",
        *(1.5, 1.1),
        server_and_store("RevokeAll, many devices", "RevokeAll, 1 device"),
    ),
    Goal(
        "`dev`, process start to first answered RPC",
        *(1.2, 0.7),
        fact("start-up seconds"),
        unit=" s",
    ),
    Goal(
        "two workers ÷ one, CPU-bound",
        *(1.7, 1.9),
        scaling("validation, two workers", "validation, one worker"),
        at_least=True,
    ),
)


def verdicts(results: Results) -> list[Verdict]:
    """Returns the result of each goal."""
    return [Verdict(goal, goal.reckon(results)) for goal in GOALS]
